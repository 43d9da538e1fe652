"""Counts and makes missing vectors: after an outage of the embedding service, or after a change of the embedder.

Vectors are written as soon as they are made, each only if its document has not changed since. An interrupted run is
continued by the next one, in any process. Where MongoDB makes the vectors, the texts that it embeds are written in the
place of older ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ExecutionTimeout

from lkmongo.embed.base import TextTooLongError
from lkmongo.model import Fact, Passage, TenantScope
from lkmongo.store.indexes.canary import RESERVED_TENANT
from lkmongo.store.indexes.definitions import EMBEDDING
from lkmongo.store.knowledge.knowledge import runs
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES, SESSIONS
from lkmongo.store.sessions.documents import summary_of

if TYPE_CHECKING:
    from bson import Binary

    from lkmongo.embed.base import Embedder

Document = dict[str, Any]
_Texts = list[tuple[Document, str]]
"""Documents, each with its text to embed."""
Progress = Callable[[str, int, int], None]
"""Called with a collection's name, how many of its documents are done, and how many there are."""

_BATCH = 500
"""Documents per read."""
_READ = (
    *("tenant_id", "user_id", "session_id", "memory_type", "source", "chunk", "title", "content", "updated_at"),
    *("summary.text", "summary.topics", "summary.commitments"),
)
_AS_READ = "as_read"
"""The filter for what a document's vector is made of, beside its fields, which are opened then."""
_EMBEDDED = {MEMORIES: "", KNOWLEDGE: "", SESSIONS: "summary."}
"""The collections with vectors, and within what these are; sessions have no search index."""
_COUNT_MAX_TIME_MS = 20_000
_HEADER = 2
"""Bytes of a stored vector before its numbers."""


@dataclass(slots=True)
class BackfillCounts:
    """Counts of the documents of one collection without a vector of the embedder.

    Attributes:
        missing: at the beginning.
        embedded: by this run.
        changed: meanwhile; they are embedded by the writer or the next run.
        unfit: without a text to embed.
        too_long: their text is too long for the model.
    """

    collection: str
    missing: int = 0
    embedded: int = 0
    changed: int = 0
    unfit: int = 0
    too_long: int = 0


async def backfill(
    db: AsyncDatabase[Document],
    embedder: Embedder,
    *,
    tenant: TenantScope | None = None,
    thorough: bool = False,
    on_progress: Progress = lambda _collection, _done, _total: None,
    on_wait: Callable[[float], None] | None = None,
) -> list[BackfillCounts]:
    """Embed every memory, passage and summary of a call that has no vector of the embedder's model.

    Args:
        db: the database.
        embedder: makes the vectors; those of other models are replaced.
        tenant: only this one; all by default.
        thorough: also replace unusable vectors of the model, such as those of a wrong length. This reads every document
            instead of using an index.
        on_progress: called at the beginning and after each write.
        on_wait: called with the seconds before the embedder waits.

    Raises:
        EmbeddingError, AuthenticationError: embedding failed; what was written before remains.
        DatabaseError: MongoDB cannot be reached, or refuses a write.
    """
    filled = []
    for name in _collections(embedder):
        selector = _selector(name, embedder, tenant, thorough=thorough)
        counts = BackfillCounts(name, missing=await _count(db[name], selector))
        filled.append(counts)
        on_progress(name, 0, counts.missing)
        if counts.missing:
            async for _ in _fill(db[name], selector, embedder, counts, on_wait):
                done = counts.embedded + counts.changed + counts.unfit + counts.too_long
                on_progress(name, done, max(done, counts.missing))  # more, with the other passages of documents
    return filled


async def count_missing(
    db: AsyncDatabase[Document], embedder: Embedder, *, tenant: TenantScope | None = None, thorough: bool = False
) -> list[BackfillCounts]:
    """Count what `backfill` would embed, with the same arguments and errors."""
    selectors = {name: _selector(name, embedder, tenant, thorough=thorough) for name in _collections(embedder)}
    return [BackfillCounts(name, missing=await _count(db[name], each)) for name, each in selectors.items()]


def _collections(embedder: Embedder) -> list[str]:
    """Those that the embedder embeds: MongoDB embeds what its search indexes cover."""
    return [name for name in _EMBEDDED if embedder.dimensions or name != SESSIONS]


def _selector(collection: str, embedder: Embedder, tenant: TenantScope | None, *, thorough: bool) -> Document:
    within = _EMBEDDED[collection]
    scope: Document = dict(tenant.filter) if tenant else {}
    if collection == SESSIONS:
        scope["summary.text"] = {"$nin": ["", None]}
    missing: Document = {f"{within}embedding_model": {"$ne": embedder.model}}
    if not thorough:
        return {**scope, **missing}
    embedding = f"${within}embedding"
    kind, size = {"$type": embedding}, embedder.dimensions
    usable = {
        "$switch": {
            "branches": [
                {
                    "case": {"$eq": [kind, "binData"]},
                    "then": {"$eq": [{"$binarySize": embedding}, _HEADER + 4 * size]},
                },
                {"case": {"$eq": [kind, "array"]}, "then": {"$eq": [{"$size": embedding}, size]}},
                {"case": {"$eq": [kind, "string"]}, "then": size == 0},
            ],
            "default": False,
        }
    }
    return {**scope, "$or": [missing, {"$expr": {"$not": usable}}]}


async def _count(collection: AsyncCollection[Document], selector: Document) -> int:
    return await operations.read(lambda: collection.count_documents(selector))


async def _fill(
    collection: AsyncCollection[Document],
    selector: Document,
    embedder: Embedder,
    counts: BackfillCounts,
    on_wait: Callable[[float], None] | None,
) -> AsyncIterator[None]:
    async for documents in _batches(collection, selector):
        texts = [(document, text) for document in documents if (text := _text(document))]
        counts.unfit += len(documents) - len(texts)
        if not texts:
            yield
        whole = embedder.together and collection.name == KNOWLEDGE
        async for todo in _of_whole_sources(collection, texts) if whole else _once(texts):
            async for pairs in _embedded(embedder, todo, counts, on_wait, whole=whole):
                written = await _write(collection, pairs, embedder.model) if pairs else 0
                counts.embedded += written
                counts.changed += len(pairs) - written
                yield


async def _once(todo: _Texts) -> AsyncIterator[_Texts]:
    yield todo


async def _embedded(
    embedder: Embedder,
    todo: _Texts,
    counts: BackfillCounts,
    on_wait: Callable[[float], None] | None,
    *,
    whole: bool,
) -> AsyncIterator[list[tuple[Document, Binary | str]]]:
    """Documents with what to store, as it is made; those too long for the model are left out and counted."""
    from lkmongo.embed.vectors import stored

    done = 0
    while done < len(todo):
        rest = todo[done:]
        lengths = runs((document["tenant_id"], document.get("source")) for document, _ in rest) if whole else None
        try:
            async for vectors in embedder.embed_many([text for _, text in rest], documents=lengths, on_wait=on_wait):
                batch = todo[done : done + len(vectors)]
                done += len(batch)
                yield [
                    (document, stored(text, vector)) for (document, text), vector in zip(batch, vectors, strict=True)
                ]
        except TextTooLongError:
            if whole:
                raise
            done += 1
            counts.too_long += 1
            yield []


async def _of_whole_sources(collection: AsyncCollection[Document], lacking: _Texts) -> AsyncIterator[_Texts]:
    """All passages of the sources that these are of, in their order."""
    todo: _Texts = []
    for tenant_id, source in dict.fromkeys((document["tenant_id"], document.get("source")) for document, _ in lacking):
        of_source = {"tenant_id": tenant_id, "source": source}

        async def find(of_source: Document = of_source) -> list[Document]:
            return await collection.find(of_source, dict.fromkeys(_READ, 1)).sort("chunk", 1).to_list()

        todo += [(document, text) for document in _noted(await operations.read(find)) if (text := _text(document))]
        if len(todo) >= _BATCH:
            yield todo
            todo = []
    if todo:
        yield todo


async def _batches(collection: AsyncCollection[Document], selector: Document) -> AsyncIterator[list[Document]]:
    async for documents in operations.read_in_batches(collection, selector, dict.fromkeys(_READ, 1), _BATCH):
        yield await Encryption.of(collection.database).open(collection.name, _noted(documents))


def _text(document: Document) -> str | None:
    """The text to embed, or None if the document, written by another program, has none."""
    if summary := summary_of(document.get("summary")):
        return summary.embedded_text
    content = document.get("content")
    if not isinstance(content, str):
        return None
    if isinstance(label := document.get("memory_type"), str):
        return Fact(label, content).embedded_text
    if isinstance(title := document.get("title"), str) and (title + content).strip():
        return Passage("", 0, title, content).embedded_text
    return None


async def _write(
    collection: AsyncCollection[Document], pairs: Sequence[tuple[Document, Binary | str]], model: str
) -> int:
    """Store the embeddings of documents that have not changed; returns their number."""
    within = _EMBEDDED[collection.name]
    requests = [
        UpdateOne(
            # The filter includes the shard key.
            {name: document[name] for name in ("_id", "tenant_id", "user_id") if name in document} | document[_AS_READ],
            {"$set": {f"{within}embedding": embedding, f"{within}embedding_model": model}},
        )
        for document, embedding in pairs
    ]
    result = await operations.write(lambda: collection.bulk_write(requests, ordered=False))
    return result.matched_count


def _noted(documents: list[Document]) -> list[Document]:
    for document in documents:
        document[_AS_READ] = _unchanged(document)
    return documents


def _unchanged(document: Document) -> Document:
    """The filter for what the vector will be made of."""
    if "summary" in document:
        return {"summary.text": document["summary"].get("text")}
    return {"updated_at": document.get("updated_at"), "content": document.get("content")}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many documents of one collection have a vector, of all tenants; None if counting timed out."""

    collection: str
    documents: int | None
    no_vector: int | None
    other_model: int | None


async def coverage(db: AsyncDatabase[Document], model: str) -> list[Coverage]:
    """Count the documents without a vector, and those with a vector of another model than `model`.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    return [await _count_vectors(db, name, model) for name in (KNOWLEDGE, MEMORIES)]


async def _count_vectors(db: AsyncDatabase[Document], name: str, model: str) -> Coverage:
    bare = {"$lte": [f"${EMBEDDING}", None]}  # missing or null
    foreign = {"$and": [{"$not": bare}, {"$ne": ["$embedding_model", model]}]}
    totals = {"_id": None, "documents": {"$sum": 1}} | {
        key: {"$sum": {"$cond": [condition, 1, 0]}} for key, condition in (("bare", bare), ("foreign", foreign))
    }
    pipeline: list[Document] = [{"$match": {"tenant_id": {"$ne": RESERVED_TENANT}}}, {"$group": totals}]

    async def aggregate() -> Coverage:
        try:
            cursor = await db[name].aggregate(pipeline, maxTimeMS=_COUNT_MAX_TIME_MS)
            found = next(iter(await cursor.to_list(1)), {})
        except ExecutionTimeout:
            return Coverage(name, None, None, None)
        return Coverage(name, found.get("documents", 0), found.get("bare", 0), found.get("foreign", 0))

    return await operations.read(aggregate)
