"""The interface of search backends, what they share (query embedding, errors), and the exact strategy."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from pymongo.errors import ExecutionTimeout, OperationFailure, PyMongoError

from lkmongo import deadlines
from lkmongo.embed.vectors import from_bson
from lkmongo.errors import (
    DatabaseError,
    DatabaseOverloadedError,
    DatabaseUnavailableError,
    DriftError,
    LkmongoError,
    NotReadyError,
    NotSupportedError,
)
from lkmongo.model import Fact, Passage, TenantScope, UserScope, slot_words
from lkmongo.search.exact import ExactIndex
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.capabilities import lacks_search
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase

    from lkmongo.embed.base import Embedder
    from lkmongo.search.exact import Tokenizer

logger = logging.getLogger(__name__)

_PROVISION = "lkmongo db indexes"
_UNREACHABLE = {6, 7, 89, 91, 9001}
_TIMED_OUT = {50, 262}
ENDED = frozenset({43, 175, 237, 11601})
"""Error codes of a search that was cut off: CursorNotFound, QueryPlanKilled, CursorKilled, Interrupted. A search takes
milliseconds, so that a server under pressure did it."""


class SearchTimeoutError(DatabaseError):
    """The search took too long."""

    code = "search_timeout"


class NotForAtlasError(LkmongoError):
    """This search is one for the exact strategy."""

    code = "not_for_atlas"


def explain(error: PyMongoError | TimeoutError) -> LkmongoError:  # noqa: PLR0911 - one answer for each kind of error
    """Translate the driver's error for a failed search; equal causes have equal messages, to be logged once."""
    if isinstance(error, TimeoutError):
        return SearchTimeoutError(why="no answer within the deadline")
    why = operations.explain(error).why
    code = error.code if isinstance(error, OperationFailure) else None
    if lacks_search(error):
        return NotSupportedError("this MongoDB has no search", why=why, hint="unset LKMONGO_SEARCH")
    if isinstance(error, ExecutionTimeout) or code in _TIMED_OUT:
        return SearchTimeoutError(why=why)
    if code in ENDED:
        return DatabaseOverloadedError(why=why)
    if code in _UNREACHABLE:
        return DatabaseUnavailableError("the search process of MongoDB cannot be reached", why=why)
    if code == 8:  # UnknownError: whatever the search process itself says
        if "while in state" in str(error) or "not initialized" in str(error):
            return NotReadyError("a search index is not ready yet", why=why, hint=_PROVISION)
        return DriftError("a search index does not match the search", why=why, hint=_PROVISION)
    return operations.explain(error)


def empty_index_error(index: str) -> LkmongoError:
    """The error for an index that finds no existing document, for which the server reports none."""
    return DriftError(
        f"{index} finds no existing documents",
        why="it is missing, has another name, is not built yet, or is for other fields or vectors",
        hint=_PROVISION,
    )


def one_line(error: LkmongoError) -> str:
    """An error on one line, for the `degraded` of a result."""
    command = f"; run {error.hint}" if error.hint and error.hint.startswith("lkmongo ") else ""
    return error.message + (f" ({error.why})" if error.why else "") + command


class DegradationLog:
    """Logs why the results of a strategy are degraded; each cause once while it lasts."""

    def __init__(self) -> None:
        self._last: dict[str, str | None] = {}

    def note(self, collection: str, degraded: str | None) -> None:
        if degraded and degraded != self._last.get(collection):
            logger.warning("searches of %s are degraded: %s", collection, degraded)
        self._last[collection] = degraded


class QueryEmbedding:
    """The embedding of a query, computed in the background; an async context manager that cancels it at the end."""

    def __init__(self, text: str, embedder: Embedder, deadline: float = deadlines.QUERY_EMBEDDING) -> None:
        """Start embedding `text`, for at most `deadline` seconds. Needs a running event loop."""
        self.text = text
        self._embedder = embedder
        self._deadline = deadline
        self._task = asyncio.create_task(self._embed())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._task.cancel() and not self._task.cancelled():
            self._task.exception()  # retrieved, else asyncio would warn

    async def vector(self) -> tuple[NDArray[np.float32] | None, str | None]:
        """The vector, of unit length and shape (d,), or None and the reason. May be awaited repeatedly."""
        return await asyncio.shield(self._task)

    async def _embed(self) -> tuple[NDArray[np.float32] | None, str | None]:
        try:
            async with asyncio.timeout(self._deadline):
                vectors = await self._embedder.embed([self.text], kind="query", deadline=self._deadline)
        except TimeoutError:
            return None, f"searched by words alone: no vector within {self._deadline:g} s"
        except LkmongoError as error:
            return None, f"searched by words alone: {error.message}"
        return vectors[0], None


T = TypeVar("T", Fact, Passage)
Document = dict[str, Any]

MAX_TIME_MS = 2_000
"""The limit of one read on the server, so that it does not outlive its caller for long."""
_BATCH = 2_000  # documents per reply: decoding so many blocks the event loop for about 10 ms
_CACHED_TENANTS = 16


@dataclass(frozen=True, slots=True)
class SearchHit(Generic[T]):
    """One result; a rank is None if its branch did not return it."""

    item: T
    score: float
    vector_rank: int | None
    text_rank: int | None


@dataclass(frozen=True, slots=True)
class SearchResult(Generic[T]):
    """Results, best first; `degraded` says what the search had to do without, or is None."""

    strategy: str
    hits: list[SearchHit[T]]
    degraded: str | None = None


class SearchStrategy(Protocol):
    """Searches memories and knowledge. Nothing outside the given scope is ever read."""

    async def memories(self, scope: UserScope, query: str, limit: int = 5) -> SearchResult[Fact]:
        """Search one person's slots. Raises DatabaseError."""

    async def knowledge(self, tenant: TenantScope, query: str, limit: int = 3) -> SearchResult[Passage]:
        """Search one tenant's passages. Raises as `memories` does."""

    async def warm(self) -> None:
        """Find out now what the first search would otherwise have to find out."""

    async def close(self) -> None:
        """Let go of connections that are not the database's."""


def memory_index(
    memories: Sequence[Fact],
    vectors: Sequence[NDArray[np.float32] | None],
    tokenizer: Tokenizer | None = None,
    language: str | None = None,
) -> ExactIndex[str]:
    """Index loaded slots, with their labels as keys. `tokenizer`, `language`: see `ExactIndex`."""
    texts = [memory_text(memory) for memory in memories]
    return ExactIndex([memory.memory_type for memory in memories], texts, vectors, tokenizer, language)


def passage_index(
    passages: Sequence[Passage], vectors: Sequence[NDArray[np.float32] | None]
) -> ExactIndex[tuple[str, int]]:
    """Index passages, with (source, chunk) as keys."""
    keys = [(passage.source, passage.chunk) for passage in passages]
    return ExactIndex(keys, [passage_text(passage) for passage in passages], vectors)


def memory_text(memory: Fact) -> str:
    """The text of a slot for the text branch, with the words of its label separated."""
    return f"{slot_words(memory.memory_type)} {memory.content}"


def passage_text(passage: Passage) -> str:
    return f"{passage.title}\n{passage.content}"


def memory_of(document: Document) -> Fact:
    return Fact(document["memory_type"], document["content"], document.get("created_at"), document.get("updated_at"))


def passage_of(document: Document) -> Passage:
    return Passage(document["source"], document["chunk"], document["title"], document["content"])


@dataclass(frozen=True, slots=True)
class _Loaded(Generic[T]):
    items: dict[Any, T]
    index: ExactIndex[Any]
    foreign: int
    """How many have a vector of another model."""

    def search(
        self, query: str, vector: NDArray[np.float32] | None, limit: int, embedder: Embedder
    ) -> list[SearchHit[T]]:
        hits = self.index.search(query, vector, limit, embedder.weights, embedder.floor)
        return [SearchHit(self.items[hit.key], hit.score, hit.vector_rank, hit.text_rank) for hit in hits]


class ExactStrategy:
    """Reads all documents of the scope and compares them; needs no search index.

    Slots are read for each search. Passages are cached, for up to 16 tenants, until their number, the newest change or
    the number of vectors of the embedder's model has changed.
    """

    def __init__(
        self, db: AsyncDatabase[Document], embedder: Embedder, *, embed_deadline: float = deadlines.QUERY_EMBEDDING
    ) -> None:
        """Search the collections `memories` and `knowledge` of `db`.

        Args:
            db: belongs to the event loop the searches run on.
            embedder: only vectors of its model are compared; other documents are found by words.
            embed_deadline: seconds to wait for the query's vector.
        """
        self._encryption = Encryption.of(db)
        self._memories = db[MEMORIES]
        self._knowledge = db[KNOWLEDGE]
        self._embedder = embedder
        self._embed_deadline = embed_deadline
        self._passages: OrderedDict[str, tuple[Document, _Loaded[Passage]]] = OrderedDict()
        self._loading: dict[str, asyncio.Task[_Loaded[Passage]]] = {}
        self._degradation_log = DegradationLog()

    async def warm(self) -> None:
        """Nothing: every search reads what it needs."""

    async def close(self) -> None:
        """Nothing."""

    async def memories(
        self, scope: UserScope, query: str, limit: int = 5, *, query_embedding: QueryEmbedding | None = None
    ) -> SearchResult[Fact]:
        """Search one person's slots; `query_embedding` is that of `query` if it is under way."""
        return await self._search(MEMORIES, self._load_memories, scope, query, limit, query_embedding)

    async def knowledge(
        self, tenant: TenantScope, query: str, limit: int = 3, *, query_embedding: QueryEmbedding | None = None
    ) -> SearchResult[Passage]:
        """Search one tenant's passages. See `memories`."""
        return await self._search(KNOWLEDGE, self._load_knowledge, tenant, query, limit, query_embedding)

    async def _search(
        self,
        collection: str,
        load: Callable[[Any], Any],
        scope: Any,
        query: str,
        limit: int,
        query_embedding: QueryEmbedding | None,
    ) -> SearchResult[Any]:
        if not query.strip():
            return SearchResult("exact", [])
        async with nullcontext(query_embedding) if query_embedding else self._ask(query) as embedding:
            loaded: _Loaded[Any] = await load(scope)
            vector, missing = await embedding.vector()
        if missing is None and not self._embedder.dimensions:
            missing = "searched by words alone: MongoDB makes the vectors, and only its search indexes can compare them"
        hits = await asyncio.to_thread(loaded.search, query, vector, limit, self._embedder)
        if missing is None and loaded.foreign:
            missing = foreign_note(f"{loaded.foreign} of {len(loaded.items)} have", self._embedder)
        self._degradation_log.note(collection, missing)
        return SearchResult("exact", hits, missing)

    def _ask(self, query: str) -> QueryEmbedding:
        return QueryEmbedding(query, self._embedder, self._embed_deadline)

    async def _load_memories(self, scope: UserScope) -> _Loaded[Fact]:
        shown = ("memory_type", "content", "created_at", "updated_at")
        documents = await self._encryption.read(
            MEMORIES, lambda: self._find(self._memories, scope.filter, shown), scope
        )
        return await asyncio.to_thread(_memories_of, documents, self._embedder)

    async def _load_knowledge(self, tenant: TenantScope) -> _Loaded[Passage]:
        # One load per tenant at a time, so that concurrent searches do not read the passages twice. It continues after
        # its search has timed out: with very many passages, the next search finds them cached.
        name = tenant.tenant_id
        while name in self._loading:
            await asyncio.wait({self._loading[name]})
        task = self._loading[name] = asyncio.create_task(self._load_passages(tenant))
        task.add_done_callback(lambda task: self._loaded(name, task))
        return await asyncio.shield(task)

    def _loaded(self, name: str, task: asyncio.Task[_Loaded[Passage]]) -> None:
        del self._loading[name]
        if not task.cancelled():
            task.exception()  # retrieved, else asyncio would warn if nobody waits any more

    async def _load_passages(self, tenant: TenantScope) -> _Loaded[Passage]:
        stamp = await self._stamp(tenant)  # before the passages: a change in between is noticed by the next search
        known = self._passages.get(tenant.tenant_id)
        if known is not None and known[0] == stamp:
            self._passages.move_to_end(tenant.tenant_id)
            return known[1]
        shown = ("source", "chunk", "title", "content")
        documents = await operations.read(lambda: self._find(self._knowledge, tenant.filter, shown))
        loaded = await asyncio.to_thread(_passages_of, documents, self._embedder)
        self._passages[tenant.tenant_id] = (stamp, loaded)
        if len(self._passages) > _CACHED_TENANTS:
            self._passages.popitem(last=False)
        return loaded

    async def _stamp(self, tenant: TenantScope) -> Document:
        """The newest change and the numbers of passages and of vectors, all from ordinary indexes."""

        def counted(name: str, selector: Document) -> Document:
            return {"$unionWith": {"coll": KNOWLEDGE, "pipeline": [{"$match": selector}, {"$count": name}]}}

        newest: list[Document] = [
            {"$sort": {"updated_at": -1}},
            {"$limit": 1},
            {"$project": {"_id": 0, "updated_at": 1}},
        ]
        counts = [
            counted("count", tenant.filter),
            counted("ours", tenant.filter | {"embedding_model": self._embedder.model}),
        ]

        async def aggregate() -> Document:
            pipeline = [{"$match": tenant.filter}, *newest, *counts]
            cursor = await self._knowledge.aggregate(pipeline, maxTimeMS=MAX_TIME_MS)
            return {name: value for part in await cursor.to_list() for name, value in part.items()}

        return await operations.read(aggregate)

    async def _find(
        self, collection: AsyncCollection[Document], scope: dict[str, str], shown: Sequence[str]
    ) -> list[Document]:
        projection = {"_id": 0, "embedding": 1, "embedding_model": 1} | dict.fromkeys(shown, 1)
        return await collection.find(scope, projection, batch_size=_BATCH, max_time_ms=MAX_TIME_MS).to_list()


def foreign_note(how_many: str, embedder: Embedder) -> str:
    """The note on documents with a vector of another model; `how_many` ends in "has" or "have"."""
    return (
        f"{how_many} a vector of another model than {embedder.model} "
        "and were searched by words alone; run lkmongo db embed"
    )


def _memories_of(documents: Sequence[Document], embedder: Embedder) -> _Loaded[Fact]:
    memories = [memory_of(document) for document in documents]
    vectors, foreign = _vectors(documents, embedder)
    return _Loaded({m.memory_type: m for m in memories}, memory_index(memories, vectors), foreign)


def _passages_of(documents: Sequence[Document], embedder: Embedder) -> _Loaded[Passage]:
    passages = [passage_of(document) for document in documents]
    vectors, foreign = _vectors(documents, embedder)
    return _Loaded({(p.source, p.chunk): p for p in passages}, passage_index(passages, vectors), foreign)


def _vectors(documents: Sequence[Document], embedder: Embedder) -> tuple[list[NDArray[np.float32] | None], int]:
    vectors: list[NDArray[np.float32] | None] = []
    foreign = 0
    for document in documents:
        ours = document.get("embedding_model") == embedder.model
        vector = from_bson(document.get("embedding"), embedder.dimensions) if ours else None
        foreign += vector is None and document.get("embedding") is not None
        vectors.append(vector)
    return vectors, foreign
