"""Vectors that are missing are made: after an outage of the embedding service, or for another embedder than before.

Documents are taken as they come and written as soon as their vectors are there, each only if it has not changed since.
What is done is not found again, so that a run that was interrupted is gone on with by the next one, from any process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import Memory, Passage, TenantScope
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder

Document = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Told a collection's name, how many of its documents are done, and how many there were to do."""

_BATCH = 500
"""Documents read at once, and offered to the embedder."""
_READ = ("tenant_id", "user_id", "memory_type", "source", "chunk", "title", "content", "updated_at")
_HEADER = 2
"""Bytes before the numbers of a stored vector."""


@dataclass(slots=True)
class BackfillCounts:
    """What became of the documents of one collection that had no vector of the embedder's.

    Attributes:
        missing: how many there were at the beginning.
        embedded: how many have one now.
        changed: how many were written anew meanwhile; whoever did that embeds them, or the next run.
        unfit: how many have no text to embed.
    """

    collection: str
    missing: int = 0
    embedded: int = 0
    changed: int = 0
    unfit: int = 0


async def backfill(
    db: AsyncDatabase[Document],
    embedder: Embedder,
    *,
    tenant: TenantScope | None = None,
    thorough: bool = False,
    on_progress: Progress = lambda _collection, _done, _total: None,
    on_wait: Callable[[float], None] | None = None,
) -> list[BackfillCounts]:
    """Embed every memory and every passage that has no vector of the embedder's model.

    Args:
        db: the database.
        embedder: makes the vectors; what another model made is replaced.
        tenant: of this tenant only; of all by default.
        thorough: look at each stored vector, and replace those that cannot be used although they bear the name of the
            model. It reads every document, which without it an index saves.
        on_progress: called at the beginning and after each write.
        on_wait: called with the seconds for which the embedder is about to wait.

    Raises:
        EmbeddingError, AuthenticationError: text could not be turned into vectors; what was written before stays.
        DatabaseError: MongoDB cannot be reached, or refuses a write.
    """
    filled = []
    for name in (MEMORIES, KNOWLEDGE):
        selector = _selector(embedder, tenant, thorough=thorough)
        counts = BackfillCounts(name, missing=await _count(db[name], selector))
        filled.append(counts)
        on_progress(name, 0, counts.missing)
        if counts.missing:
            async for _ in _fill(db[name], selector, embedder, counts, on_wait):
                on_progress(name, counts.embedded + counts.changed + counts.unfit, counts.missing)
    return filled


async def count_missing(
    db: AsyncDatabase[Document], embedder: Embedder, *, tenant: TenantScope | None = None, thorough: bool = False
) -> list[BackfillCounts]:
    """Count what `backfill` would embed; nothing is written. Arguments and errors as there."""
    selector = _selector(embedder, tenant, thorough=thorough)
    return [BackfillCounts(name, missing=await _count(db[name], selector)) for name in (MEMORIES, KNOWLEDGE)]


def _selector(embedder: Embedder, tenant: TenantScope | None, *, thorough: bool) -> Document:
    scope = tenant.filter if tenant else {}
    missing: Document = {"embedding_model": {"$ne": embedder.model}}
    if not thorough:
        return {**scope, **missing}
    kind, size = {"$type": "$embedding"}, embedder.dimensions
    usable = {
        "$switch": {
            "branches": [
                {
                    "case": {"$eq": [kind, "binData"]},
                    "then": {"$eq": [{"$binarySize": "$embedding"}, _HEADER + 4 * size]},
                },
                {"case": {"$eq": [kind, "array"]}, "then": {"$eq": [{"$size": "$embedding"}, size]}},
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
    """Embed and write; yields after each write."""
    async for documents in _batches(collection, selector):
        texts = [(document, _text(document)) for document in documents]
        todo = [(document, text) for document, text in texts if text]
        counts.unfit += len(texts) - len(todo)
        waiting = iter(todo)
        async for vectors in embedder.embed_many([text for _, text in todo], on_wait=on_wait):
            # The vectors come first: zip then takes no document from `waiting` for which there is no vector yet.
            pairs = [(document, vector) for vector, (document, _) in zip(vectors, waiting, strict=False)]
            written = await _write(collection, pairs, embedder.model)
            counts.embedded += written
            counts.changed += len(pairs) - written
            yield
        if not todo:
            yield


async def _batches(collection: AsyncCollection[Document], selector: Document) -> AsyncIterator[list[Document]]:
    """The selected documents in the order of their `_id`; no cursor is held open while the embedder waits."""
    beyond: Document = {}
    while True:
        wanted = {**selector, **beyond}

        async def find(wanted: Document = wanted) -> list[Document]:
            cursor = collection.find(wanted, dict.fromkeys(_READ, 1), batch_size=_BATCH)
            return await cursor.sort("_id", 1).limit(_BATCH).to_list()

        documents = await operations.read(find)
        if not documents:
            return
        yield documents
        beyond = {"_id": {"$gt": documents[-1]["_id"]}}


def _text(document: Document) -> str | None:
    """What the embedding covers, or None for a document, made by other hands, that has no such text."""
    content = document.get("content")
    if not isinstance(content, str):
        return None
    if isinstance(label := document.get("memory_type"), str):
        return Memory(label, content).embedded_text
    if isinstance(title := document.get("title"), str) and (title + content).strip():
        return Passage("", 0, title, content).embedded_text
    return None


async def _write(
    collection: AsyncCollection[Document], pairs: Sequence[tuple[Document, NDArray[np.float32]]], model: str
) -> int:
    """Store vectors with the documents that still say what was embedded; returns how many did."""
    from lkmongo.embed.vectors import to_bson

    requests = [
        UpdateOne(
            # The scope is part of the filter because it is the shard key.
            {name: document[name] for name in ("_id", "tenant_id", "user_id") if name in document}
            | {"updated_at": document.get("updated_at"), "content": document["content"]},
            {"$set": {"embedding": to_bson(vector), "embedding_model": model}},
        )
        for document, vector in pairs
    ]
    result = await operations.write(lambda: collection.bulk_write(requests, ordered=False))
    return result.matched_count
