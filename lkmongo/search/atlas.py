"""The Atlas strategy: `$vectorSearch`, `$search` and `$rankFusion`, within a scope, a deadline and one attempt.

`$rankFusion` is used where it tells the ranks and scores it was made from (`scoreDetails`, server 8.1 and later), for
the embedder's floor is one on cosines, which a fused score no longer holds. Elsewhere both branches are sent at the same
time and fused here. A branch that fails is missing from the result, which says so; no query is ever repeated without its
scope.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from lkmongo import deadlines
from lkmongo.aio import running
from lkmongo.embed.vectors import from_bson
from lkmongo.errors import LkmongoError
from lkmongo.model import Memory, Passage, TenantScope, UserScope, now
from lkmongo.search import atlas_queries
from lkmongo.search.atlas_queries import (
    MEMORY,
    PASSAGE,
    Answer,
    Branches,
    Candidate,
    RecentDocuments,
    SearchTarget,
    answer_from_score_details,
    merge,
    text_index_missed,
)
from lkmongo.search.strategy import (
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
from lkmongo.store.mongo.client import run_on_client_loop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pymongo.asynchronous.database import AsyncDatabase

    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T", Memory, Passage)
Document = dict[str, Any]

SERVER_SHARE = 0.8
"""The part of the deadline that one operation may take on the server, so that it is done there when we give up."""
INDEX_LAG = timedelta(seconds=30)
"""How far an index may trail: what was written since is read from the collection itself.

The service promises no figure; it is a few seconds as a rule. The clocks of two writers may differ by the rest."""
MAX_RECENT = 200
"""Documents that a search reads itself, at most."""
_FUSION_RETRY_AFTER = 30.0
_REPLY = 1_000
_NO_RETRY_APART = {6, 7, 13, 18, 50, 89, 91, 189, 262, 8000, 9001, 10107, 11600, 11602, 13435, 13436}
"""Codes of a fusion that failed after which asking the branches apart would only lose time."""


class AtlasStrategy:
    """Searches by the indexes of `lkmongo.store.indexes.definitions`; belongs to one event loop, as its database does.

    The text branch of knowledge is made here, over the passages that the vector branch returned: small clusters allow
    three search indexes, and knowledge has one of them.
    """

    def __init__(
        self,
        db: AsyncDatabase[Document],
        embedder: Embedder,
        *,
        fuses: bool = True,
        needs_vectors: bool = False,
        deadline: float = deadlines.SEARCH,
    ) -> None:
        """Search the collections `memories` and `knowledge` of `db`.

        Args:
            db: of a client with `retryReads=False`, or a search that failed is sent twice.
            embedder: only vectors of its model are compared.
            fuses: whether the server has `$rankFusion` with `scoreDetails`.
            needs_vectors: raise when the vector branch fails, because somebody has a better answer than one by words
                alone, instead of giving that one.
            deadline: seconds for everything but the question's embedding.
        """
        self._db = db
        self._embedder = embedder
        self._needs_vectors = needs_vectors
        self._deadline = deadline
        self._max_time_ms = max(1, int(deadline * SERVER_SHARE * 1_000))
        self._fuse_from = 0.0 if fuses else float("inf")
        self._degradation_log = DegradationLog()

    async def memories(
        self, scope: UserScope, query: str, limit: int = 5, *, query_embedding: QueryEmbedding | None = None
    ) -> SearchResult[Memory]:
        """Search one person's slots; `question` is `query` when it is asked already.

        Raises:
            DatabaseError, DriftError, NotReadyError, NotSupportedError: no branch answered.
        """
        if not query.strip():
            return SearchResult("atlas", [])
        since, depth = now() - INDEX_LAG, atlas_queries.depth_for(limit)
        words = atlas_queries.question_words(query)
        recent = [scope.filter | {"updated_at": {"$gte": since}}]
        async with self._embedding_of(query, query_embedding) as asked, running(self._read(MEMORY, recent)) as reading:
            vector, missing = await asked.vector()
            until = time.monotonic() + self._deadline
            answer = await self._ask_memories(scope, vector, words, depth, until)
            await self._check_empty_result(MEMORY, answer, scope.filter, since)
            read = await reading
        if vector is not None and answer.near is None and self._needs_vectors:
            raise answer.problems["vector"]
        if text_index_missed(answer, words, since, MEMORY):
            answer.worded = None
            answer.problems["text"] = empty_index_error(MEMORIES_TEXT)
        return await self._result(MEMORY, answer, read, query, vector, missing, limit)

    async def knowledge(
        self, tenant: TenantScope, query: str, limit: int = 3, *, query_embedding: QueryEmbedding | None = None
    ) -> SearchResult[Passage]:
        """Search one tenant's passages; `question` is `query` when it is asked already.

        Raises:
            NotForAtlasError: the question has no vector, or too many passages have none.
            DatabaseError, DriftError, NotReadyError, NotSupportedError: the search failed.
        """
        if not query.strip():
            return SearchResult("atlas", [])
        since, depth = now() - INDEX_LAG, atlas_queries.depth_for(limit)
        model = self._embedder.model
        # There is no text index by which those without a vector could be found.
        unknown: list[Document] = [
            tenant.filter | {"updated_at": {"$gte": since}},
            tenant.filter | {"embedding_model": {"$ne": model}},
        ]
        async with (
            self._embedding_of(query, query_embedding) as asked,
            running(self._read(PASSAGE, unknown)) as reading,
        ):
            vector, missing = await asked.vector()
            if vector is None:
                raise NotForAtlasError(why=missing)
            until = time.monotonic() + self._deadline
            stages = atlas_queries.knowledge_by_vector(tenant.filter, vector, model, depth)
            answer = await self._apart(PASSAGE, {"vector": stages}, until)
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
        self, scope: UserScope, vector: NDArray[np.float32] | None, words: Sequence[str], depth: int, until: float
    ) -> Answer:
        model, weights = self._embedder.model, self._embedder.weights
        if vector is not None and words and time.monotonic() >= self._fuse_from:
            stages = atlas_queries.memories_by_both(scope.filter, vector, words, model, weights, depth)
            answer = await self._fused(stages, until)
            if answer is not None:
                return answer
        branches: dict[str, list[Document]] = {}
        if vector is not None:
            branches["vector"] = atlas_queries.memories_by_vector(scope.filter, vector, model, depth)
        if words:
            branches["text"] = atlas_queries.memories_by_text(scope.filter, words, depth)
        return await self._apart(MEMORY, branches, until)

    async def _fused(self, stages: list[Document], until: float) -> Answer | None:
        """Both branches in one round trip, or None when they have to be asked apart."""
        try:
            return answer_from_score_details(await self._aggregate(MEMORY, stages, until), MEMORY)
        except OperationFailure as error:
            if error.code in _NO_RETRY_APART:
                raise explain(error) from error
            # One index that is not ready fails both branches (8); anything else is a server that cannot do this.
            self._fuse_from = time.monotonic() + _FUSION_RETRY_AFTER if error.code == 8 else float("inf")
            logger.debug("$rankFusion failed (code %s): the branches are asked apart", error.code)
        except KeyError:
            self._fuse_from = float("inf")
            logger.debug("$rankFusion does not tell its scores: the branches are asked apart")
        except (PyMongoError, TimeoutError) as error:
            raise explain(error) from error
        return None

    async def _apart(self, target: SearchTarget[Any], branches: Mapping[str, list[Document]], until: float) -> Answer:
        """The branches at the same time: one that fails or is late is a problem, all of them an error."""

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
        # Search refuses every read concern but local, and the address of the database may ask for another.
        collection = self._db.get_collection(target.collection, read_concern=ReadConcern("local"))

        async def ask() -> list[Document]:
            cursor = await collection.aggregate(stages, maxTimeMS=self._max_time_ms, batchSize=_REPLY)
            return await cursor.to_list()

        async with asyncio.timeout(until - time.monotonic()):
            return await run_on_client_loop(ask)

    # ------------------------------------------------------------------ the collection

    async def _read(self, target: SearchTarget[Any], selectors: list[Document]) -> list[Document]:
        """What the index may not know: the newest documents that one of the selectors, each with the scope, names."""
        ours = {"$eq": ["$embedding_model", self._embedder.model]}
        shown: Document = {"_id": 0} | dict.fromkeys(target.fields, 1)
        shown["embedding"] = {"$cond": [ours, "$embedding", "$$REMOVE"]}  # another model's is of no use here
        selector = selectors[0] if len(selectors) == 1 else {"$or": selectors}
        collection = self._db[target.collection]

        async def find() -> list[Document]:
            cursor = collection.find(selector, shown, max_time_ms=self._max_time_ms, batch_size=_REPLY)
            return await cursor.sort("updated_at", -1).limit(MAX_RECENT + 1).to_list()

        try:
            async with asyncio.timeout(self._deadline):
                return await run_on_client_loop(find)
        except (PyMongoError, TimeoutError) as error:
            raise explain(error) from error

    async def _check_empty_result(
        self, target: SearchTarget[Any], answer: Answer, scope: Mapping[str, str], since: datetime
    ) -> None:
        """A vector branch returns the nearest there are. When it returns none, see whether that can be."""
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
    ) -> SearchResult[T]:
        known = {target.key(document): document for document in read}
        documents = answer.documents | known

        def work() -> list[SearchHit[T]]:
            vectors = {
                key: unit
                for key, document in known.items()
                if (unit := from_bson(document.get("embedding"), self._embedder.dimensions)) is not None
            }
            candidates = {
                key: Candidate(
                    target.text(target.item(document)),
                    key in vectors or (key not in known and document.get("embedding_model") == self._embedder.model),
                )
                for key, document in documents.items()
            }
            hits = merge(
                Branches(answer.near or [], answer.worded, {key: candidates[key] for key in answer.documents}),
                RecentDocuments({key: candidates[key] for key in known}, vectors),
                query,
                None if answer.near is None else vector,
                self._embedder.weights,
                self._embedder.floor,
                atlas_queries.depth_for(limit),
            )
            return [
                SearchHit(target.item(documents[hit.key]), hit.score, hit.vector_rank, hit.text_rank)
                for hit in hits[:limit]
            ]

        said = [missing] if missing else []
        said += [one_line(problem) for problem in answer.problems.values()]
        foreign = sum(
            document.get("embedding_model") not in {None, self._embedder.model} for document in documents.values()
        )
        if foreign:
            said.append(foreign_note(f"{foreign} {'has' if foreign == 1 else 'have'}", self._embedder))
        degraded = "; ".join(said) or None
        self._degradation_log.note(target.collection, degraded)
        return SearchResult("atlas", await asyncio.to_thread(work), degraded)
