"""The Atlas strategy: `$vectorSearch`, `$search` and their fusion, within a scope and a deadline, without retries.

Memories are fused by ranks or by scores (LKMONGO_FUSION). By ranks, with `$rankFusion` (8.0): its `scoreDetails` (8.1)
have the cosines that the embedder's floor applies to; without them, they are computed here from the vectors of what it
returns. By scores, with `$scoreFusion` (8.2): it returns both scores of all slots of a person. What the exact strategy
knows of them beside that, the centre of their vectors, is read with the first search and kept. On a server without the
stage, both branches are sent concurrently. If a branch fails, the result lacks it and says so; no query is ever sent
without its scope.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo.errors import OperationFailure, PyMongoError

from lkmongo import deadlines
from lkmongo.aio import running
from lkmongo.embed.vectors import from_bson
from lkmongo.errors import DatabaseOverloadedError, LkmongoError
from lkmongo.model import Fact, Passage, TenantScope, UserScope, now
from lkmongo.search import atlas_queries
from lkmongo.search.atlas_answers import (
    MEMORY,
    PASSAGE,
    Answer,
    Branches,
    Candidate,
    Centres,
    RecentDocuments,
    ScopeCentre,
    SearchTarget,
    answer_from_ranks,
    answer_from_score_details,
    answer_from_scores,
    merge,
    merge_by_scores,
    text_index_missed,
)
from lkmongo.search.strategy import (
    ENDED,
    DegradationLog,
    NotForAtlasError,
    QueryEmbedding,
    SearchHit,
    SearchResult,
    empty_index_error,
    explain,
    foreign_note,
    one_line,
)
from lkmongo.store.indexes.definitions import MEMORIES_TEXT
from lkmongo.store.mongo.capabilities import lacks_stage, searchable
from lkmongo.store.mongo.client import run_on_client_loop
from lkmongo.store.mongo.operations import is_overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pymongo.asynchronous.database import AsyncDatabase

    from lkmongo.embed.base import Embedder
    from lkmongo.search.atlas_queries import QueryVector, QueryWords
    from lkmongo.search.exact import Hit
    from lkmongo.setting_fields import Fusion

logger = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T", Fact, Passage)
Document = dict[str, Any]

SERVER_SHARE = 0.8
"""The share of the deadline that one operation may take on the server, so that it has ended there when we give up."""
INDEX_LAG = timedelta(seconds=30)
"""How far an index may lag: newer documents are read from the collection.

A few seconds are usual, none are guaranteed; the rest allows for clock differences between writers."""
MAX_RECENT = 200
"""Most documents that a search reads from the collection."""
_FUSION_RETRY_AFTER = 30.0
"""Seconds until the stage is tried again after a failure that may be over by then."""
_UNKNOWN_STAGE_RETRY_AFTER = 3_600.0
"""The same after a server said that it does not have it, which an upgrade of the cluster changes."""
_BATCH = 1_000
_NO_RETRY_APART = {6, 7, 13, 18, 50, 89, 91, 189, 262, 8000, 9001, 10107, 11600, 11602, 13435, 13436}
"""Error codes of a fusion after which separate branches would fail as well."""


class AtlasStrategy:
    """Searches with the indexes of `lkmongo.store.indexes.definitions`; belongs to one event loop, like its database.

    The text branch of knowledge is computed here from the results of the vector branch, because small clusters allow
    only three search indexes.
    """

    def __init__(
        self,
        db: AsyncDatabase[Document],
        embedder: Embedder,
        *,
        fusion: Fusion = "ranks",
        fuses: bool = True,
        details: bool = True,
        needs_vectors: bool = False,
        deadline: float = deadlines.SEARCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Search the collections `memories` and `knowledge` of `db`.

        Args:
            db: of a client with `retryReads=False`, else the driver repeats a failed search.
            embedder: only vectors of its model are compared.
            fusion: of both branches, by ranks or by scores.
            fuses: whether the server has the stage for that, `$rankFusion` or `$scoreFusion`.
            details: whether its `$rankFusion` has `scoreDetails`.
            needs_vectors: raise if the vector branch fails, or any because of overload, because the caller has a better
                fallback than a search by one branch alone.
            deadline: seconds for everything except the query's embedding.
            clock: the seconds by which the stage is tried again; tests pass their own.
        """
        self._db = db
        self._embedder = embedder
        self._needs_vectors = needs_vectors
        self._deadline = deadline
        self._max_time_ms = max(1, int(deadline * SERVER_SHARE * 1_000))
        self.quantization = "none"
        """Of the index of knowledge, which is searched approximately; whoever knows it sets it."""
        self._clock = clock
        self._by_scores = fusion == "scores"
        self._details = details
        self._fuse_from = 0.0 if fuses else float("inf")
        self._centres: Centres[tuple[str, str]] = Centres()
        self._degradation_log = DegradationLog()

    async def memories(
        self, scope: UserScope, query: str, limit: int = 5, *, query_embedding: QueryEmbedding | None = None
    ) -> SearchResult[Fact]:
        """Search one person's slots; `query_embedding` is that of `query` if it is under way.

        Raises:
            DatabaseError, DriftError, NotReadyError, NotSupportedError: all branches failed.
        """
        if not query.strip():
            return SearchResult("atlas", [])
        since, depth = now() - INDEX_LAG, atlas_queries.depth_for(limit)
        words = atlas_queries.query_words(query)
        recent = [scope.filter | {"updated_at": {"$gte": since}}]
        async with (
            self._embedding_of(query, query_embedding) as embedding,
            running(self._read(MEMORY, recent)) as reading,
            running(self._centre_of(scope, since)) as centring,
        ):
            vector, missing = await embedding.vector()
            until = time.monotonic() + self._deadline
            answer = await self._ask_memories(scope, atlas_queries.for_index(vector, query), words, depth, until)
            await self._check_empty_result(MEMORY, answer, scope.filter, since)
            read = await reading
            centre = await centring
        if self._needs_vectors:
            for branch, problem in answer.problems.items():
                if branch == "vector" or isinstance(problem, DatabaseOverloadedError):
                    raise problem
        if text_index_missed(answer, words.words, since, MEMORY):
            answer.worded = None
            answer.problems["text"] = empty_index_error(MEMORIES_TEXT)
        if centre is not None and answer.near is not None:
            beside = {MEMORY.key(document) for document in read}
            compared = {key: answer.documents[key] for key, _ in answer.near if key not in beside}
            fits = centre.fits(compared, beside, atlas_queries.WHOLE_SCOPE)
            self._centres.keep((scope.tenant_id, scope.user_id), centre if fits else None)
        return await self._result(MEMORY, answer, read, query, vector, missing, limit, centre)

    async def knowledge(
        self, tenant: TenantScope, query: str, limit: int = 3, *, query_embedding: QueryEmbedding | None = None
    ) -> SearchResult[Passage]:
        """Search one tenant's passages; `query_embedding` is that of `query` if it is under way.

        Raises:
            NotForAtlasError: the query has no vector, or too many passages have none.
            DatabaseError, DriftError, NotReadyError, NotSupportedError: the search failed.
        """
        if not query.strip():
            return SearchResult("atlas", [])
        since, depth = now() - INDEX_LAG, atlas_queries.depth_for(limit)
        if self._by_scores:
            depth = max(depth, atlas_queries.CANDIDATE_PASSAGES)
        model = self._embedder.model
        # There is no text index to find passages without a vector.
        unknown: list[Document] = [
            tenant.filter | {"updated_at": {"$gte": since}},
            tenant.filter | {"embedding_model": {"$ne": model}},
        ]
        async with (
            self._embedding_of(query, query_embedding) as embedding,
            running(self._read(PASSAGE, unknown)) as reading,
        ):
            vector, missing = await embedding.vector()
            if vector is None:
                raise NotForAtlasError(why=missing)
            until = time.monotonic() + self._deadline
            stages = atlas_queries.knowledge_by_vector(
                tenant.filter, atlas_queries.for_index(vector, query), model, depth
            )
            answer = await self._separately(PASSAGE, {"vector": stages}, until)
            await self._check_empty_result(PASSAGE, answer, tenant.filter, since)
            read = await reading
        if len(read) > MAX_RECENT:
            raise NotForAtlasError(why=f"more than {MAX_RECENT} passages are not in the index yet")
        if answer.near is None:
            raise answer.problems["vector"]
        return await self._result(PASSAGE, answer, read, query, vector, missing, limit)

    def _embedding_of(
        self, query: str, query_embedding: QueryEmbedding | None
    ) -> AbstractAsyncContextManager[QueryEmbedding]:
        return nullcontext(query_embedding) if query_embedding else QueryEmbedding(query, self._embedder)

    # ------------------------------------------------------------------ the indexes

    async def _ask_memories(
        self, scope: UserScope, vector: QueryVector | None, words: QueryWords, depth: int, until: float
    ) -> Answer:
        model, weights = self._embedder.model, self._embedder.weights
        if vector is not None and words and self._clock() >= self._fuse_from:
            given = scope.filter, vector, words, model, weights, depth
            if self._by_scores:
                answer = await self._fused(atlas_queries.memories_by_scores(*given), answer_from_scores, until)
            elif self._details or isinstance(vector, str):  # without a vector of ours, none of theirs can be compared
                stages = atlas_queries.memories_by_ranks(*given, details=True)
                answer = await self._fused(stages, answer_from_score_details, until)
            else:
                told = partial(answer_from_ranks, vector=vector, weights=weights, depth=depth)
                answer = await self._fused(atlas_queries.memories_by_ranks(*given, details=False), told, until)
            if answer is not None:
                return answer
        branches: dict[str, list[Document]] = {}
        if vector is not None:
            near = atlas_queries.WHOLE_SCOPE if self._by_scores else depth
            branches["vector"] = atlas_queries.memories_by_vector(scope.filter, vector, model, near)
        if words:
            branches["text"] = atlas_queries.memories_by_text(scope.filter, words, depth)
        return await self._separately(MEMORY, branches, until)

    async def _fused(
        self, stages: list[Document], read: Callable[[list[Document], SearchTarget[Any]], Answer], until: float
    ) -> Answer | None:
        """Both branches in one round trip, or None if they must be sent separately."""
        stage = next(iter(stages[0]))
        try:
            return read(await self._aggregate(MEMORY, stages, until), MEMORY)
        except OperationFailure as error:
            unknown = lacks_stage(error)
            if not unknown and (error.code in _NO_RETRY_APART | ENDED or is_overload(error)):
                raise explain(error) from error
            # An index that is not ready fails both branches (8), and so it is with whatever else may pass.
            self._fuse_from = self._clock() + (_UNKNOWN_STAGE_RETRY_AFTER if unknown else _FUSION_RETRY_AFTER)
            logger.debug("%s failed (code %s): sending the branches separately", stage, error.code)
        except (AttributeError, KeyError, TypeError):
            self._fuse_from = self._clock() + _UNKNOWN_STAGE_RETRY_AFTER
            logger.debug("%s reports no scores: sending the branches separately", stage)
        except (PyMongoError, TimeoutError) as error:
            raise explain(error) from error
        return None

    async def _separately(
        self, target: SearchTarget[Any], branches: Mapping[str, list[Document]], until: float
    ) -> Answer:
        """Send the branches concurrently; raises only if all of them fail."""

        async def branch(stages: list[Document]) -> list[Document] | LkmongoError:
            try:
                return await self._aggregate(target, stages, until)
            except (PyMongoError, TimeoutError) as error:
                return explain(error)

        outcomes = await asyncio.gather(*(branch(stages) for stages in branches.values()))
        answer = Answer()
        for name, outcome in zip(branches, outcomes, strict=True):
            if isinstance(outcome, LkmongoError):
                answer.problems[name] = outcome
            else:
                answer.take(name, outcome, target)
        if answer.problems and len(answer.problems) == len(branches):
            raise next(iter(answer.problems.values()))
        return answer

    async def _aggregate(self, target: SearchTarget[Any], stages: list[Document], until: float) -> list[Document]:
        collection = searchable(self._db, target.collection)

        async def ask() -> list[Document]:
            cursor = await collection.aggregate(stages, maxTimeMS=self._max_time_ms, batchSize=_BATCH)
            return await cursor.to_list()

        async with asyncio.timeout(until - time.monotonic()):
            return await run_on_client_loop(ask)

    # ------------------------------------------------------------------ the collection

    async def _read(self, target: SearchTarget[Any], selectors: list[Document]) -> list[Document]:
        """The newest documents that match a selector, each of which includes the scope: the index may lack them."""
        ours = {"$eq": ["$embedding_model", self._embedder.model]}
        shown: Document = {"_id": 0} | dict.fromkeys(target.fields, 1)
        shown["embedding"] = {"$cond": [ours, "$embedding", "$$REMOVE"]}  # not those of other models
        selector = selectors[0] if len(selectors) == 1 else {"$or": selectors}
        collection = self._db[target.collection]

        async def find() -> list[Document]:
            cursor = collection.find(selector, shown, max_time_ms=self._max_time_ms, batch_size=_BATCH)
            return await cursor.sort("updated_at", -1).limit(MAX_RECENT + 1).to_list()

        try:
            async with asyncio.timeout(self._deadline):
                return await run_on_client_loop(find)
        except (PyMongoError, TimeoutError) as error:
            raise explain(error) from error

    async def _centre_of(self, scope: UserScope, since: datetime) -> ScopeCentre | None:
        """The centre of a person's vectors, read if it is not known; None if there is none, or it is not needed.

        It is not the search: without it the cosines are compared as they are.
        """
        if not self._by_scores or not self._embedder.dimensions:
            return None
        if known := self._centres.get((scope.tenant_id, scope.user_id)):
            return known
        selector = scope.filter | {"embedding_model": self._embedder.model}
        collection, most = self._db[MEMORY.collection], atlas_queries.WHOLE_SCOPE

        async def find() -> list[Document]:
            shown = {"_id": 0, "memory_type": 1, "embedding": 1}
            cursor = collection.find(selector, shown, max_time_ms=self._max_time_ms, batch_size=_BATCH)
            return await cursor.limit(most + 1).to_list()

        def work(documents: list[Document]) -> ScopeCentre | None:
            vectors = {
                MEMORY.key(document): unit
                for document in documents
                if (unit := from_bson(document.get("embedding"), self._embedder.dimensions)) is not None
            }
            return ScopeCentre.of(vectors, since)

        try:
            async with asyncio.timeout(self._deadline):
                documents = await run_on_client_loop(find)
        except (PyMongoError, TimeoutError) as error:
            logger.debug("the centre of a scope could not be read: %s", explain(error).message)
            return None
        if len(documents) > most:
            return ScopeCentre.of_too_many(self._embedder.dimensions, since)
        return await asyncio.to_thread(work, documents)

    async def _check_empty_result(
        self, target: SearchTarget[Any], answer: Answer, scope: Mapping[str, str], since: datetime
    ) -> None:
        """A vector search always finds something: if it found nothing, check whether there is nothing to find."""
        if answer.near != []:
            return
        known = {**scope, "embedding_model": self._embedder.model, "updated_at": {"$lt": since}}
        try:
            async with asyncio.timeout(self._deadline):
                there = await run_on_client_loop(
                    lambda: self._db[target.collection].find_one(known, {"_id": 1}, max_time_ms=self._max_time_ms)
                )
        except (PyMongoError, TimeoutError) as error:
            raise explain(error) from error
        if there:
            answer.near = None
            answer.problems["vector"] = empty_index_error(target.vector_index)

    # ------------------------------------------------------------------ the result

    async def _result(
        self,
        target: SearchTarget[T],
        answer: Answer,
        read: list[Document],
        query: str,
        vector: NDArray[np.float32] | None,
        missing: str | None,
        limit: int,
        centre: ScopeCentre | None = None,
    ) -> SearchResult[T]:
        known = {target.key(document): document for document in read}
        documents = answer.documents | known
        floor = self._embedder.floor  # memories are searched exactly
        if target.collection == PASSAGE.collection:
            floor = atlas_queries.quantized_floor(self._embedder, self.quantization)

        def work() -> list[SearchHit[T]]:
            vectors = {
                key: unit
                for key, document in known.items()
                if (unit := from_bson(document.get("embedding"), self._embedder.dimensions)) is not None and unit.size
            }
            candidates = {
                key: Candidate(
                    target.text(target.item(document)),
                    key in vectors or (key not in known and document.get("embedding_model") == self._embedder.model),
                )
                for key, document in documents.items()
            }
            recent = RecentDocuments({key: candidates[key] for key in known}, vectors)
            asked = None if answer.near is None else vector
            how = query, asked, self._embedder.weights, floor
            hits: Sequence[Hit[Any]]
            if self._by_scores:
                texts = {key: candidate.text for key, candidate in candidates.items()}
                hits = merge_by_scores(answer, recent, texts, *how, limit, centre)
            else:
                found = {key: candidates[key] for key in answer.documents}
                branches = Branches(answer.near or [], answer.worded, found)
                hits = merge(branches, recent, *how, atlas_queries.depth_for(limit))
            return [
                SearchHit(target.item(documents[hit.key]), hit.score, hit.vector_rank, hit.text_rank)
                for hit in hits[:limit]
            ]

        notes = [missing] if missing else []
        notes += [one_line(problem) for problem in answer.problems.values()]
        foreign = sum(
            document.get("embedding_model") not in {None, self._embedder.model} for document in documents.values()
        )
        if foreign:
            notes.append(foreign_note(f"{foreign} {'has' if foreign == 1 else 'have'}", self._embedder))
        degraded = "; ".join(notes) or None
        self._degradation_log.note(target.collection, degraded)
        return SearchResult("atlas", await asyncio.to_thread(work), degraded)
