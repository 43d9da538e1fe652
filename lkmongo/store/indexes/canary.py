"""Canary searches: the only proof that a search index finds existing documents.

An index that is READY may lack new documents, and a search with a wrong name, path or vector length finds nothing
without an error. So an existing document is searched for by its own vector or words, in its own scope.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ExecutionTimeout, OperationFailure

from lkmongo.backoff import Backoff
from lkmongo.model import now
from lkmongo.store.indexes.definitions import EMBEDDING, LABEL_WORDS, SearchIndex
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.capabilities import searchable
from lkmongo.store.mongo.schema import KNOWLEDGE

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

Document = dict[str, Any]

RESERVED_TENANT = " lkmongo canary"
"""The tenant of temporary documents. It is not a valid id, as it begins with a space."""

_LEFT_BEHIND = timedelta(hours=1)
_READ_ONLY = frozenset({13, 8000})  # Unauthorized, and its equivalent on the smallest Atlas clusters
_NOT_YET = frozenset({6, 7, 8, 50, 89})  # the search process is unreachable, not ready or slow
_MAX_TIME_MS = 10_000
_CANDIDATES = 20
_LIMIT = 100  # allows for documents with the same vector, such as the same passage in several files


class Outcome(StrEnum):
    FOUND = "found"
    MISSED = "missed"
    NO_DOCUMENT = "no document"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class Canary:
    outcome: Outcome
    detail: str = ""


async def check_canary(db: AsyncDatabase[Document], index: SearchIndex, embedder: Embedder) -> Canary:
    """Search once for an existing document; writes nothing.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    document = await _existing(db, index, embedder)
    if document is None:
        return Canary(Outcome.NO_DOCUMENT, "there is no document to search for")
    return await _search(db, index, document)


async def wait_for_canary(
    db: AsyncDatabase[Document], index: SearchIndex, embedder: Embedder, backoff: Backoff
) -> Canary:
    """Search for an existing document, at least once, until it is found or the backoff's time is over.

    If there is none, a temporary one of a reserved tenant is inserted.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    canary = await check_canary(db, index, embedder)
    while canary.outcome is Outcome.MISSED and await backoff.pause():
        canary = await check_canary(db, index, embedder)  # perhaps another one, as it may have been changed
    if canary.outcome is not Outcome.NO_DOCUMENT:
        return canary
    document = _temporary(index, embedder)
    if not await operations.write(lambda: _insert(db, index, document)):
        return Canary(Outcome.READ_ONLY, "there is no document to search for, and this user may not insert one")
    try:
        canary = await _search(db, index, document)
        while canary.outcome is Outcome.MISSED and await backoff.pause():
            canary = await _search(db, index, document)
    finally:
        await asyncio.shield(_remove(db, index, document))
    return canary


async def _existing(db: AsyncDatabase[Document], index: SearchIndex, embedder: Embedder) -> Document | None:
    """The newest document that the index must contain, with its vector as a list, or the text of it."""
    from lkmongo.embed.vectors import from_bson

    scoped = {path: {"$type": "string"} for path in index.scope}
    scoped["tenant_id"] |= {"$ne": RESERVED_TENANT}  # another process may remove its own at any time
    indexed = {LABEL_WORDS: {"$type": "string"}} if index.type == "search" else {"embedding_model": embedder.model}
    shown = dict.fromkeys((*index.scope, LABEL_WORDS if index.type == "search" else EMBEDDING), 1)

    async def find() -> list[Document]:
        cursor = db[index.collection].find(scoped | indexed, shown, max_time_ms=_MAX_TIME_MS)
        try:
            return await cursor.sort("_id", -1).limit(_CANDIDATES).to_list()
        except ExecutionTimeout:
            return []  # many documents, but none of this model

    for document in await operations.read(find):
        if index.type == "search":
            return document
        embedding = document.get(EMBEDDING)
        vector = from_bson(embedding, embedder.dimensions)
        if vector is not None:  # else the index rightly lacks it
            return document | {EMBEDDING: vector.tolist() if vector.size else embedding}
    return None


def _temporary(index: SearchIndex, embedder: Embedder) -> Document:
    own = f"canary-{uuid4().hex}"
    names = (
        {"source": own, "chunk": 0, "title": "canary"}
        if index.collection == KNOWLEDGE
        else {"user_id": own, "memory_type": "canary", LABEL_WORDS: "canary", "created_at": now()}
    )
    return {
        "_id": ObjectId(),
        "tenant_id": RESERVED_TENANT,
        **names,
        "content": "temporary, to test whether search finds it",
        EMBEDDING: _temporary_embedding(embedder),
        "embedding_model": embedder.model,
        "updated_at": now(),
    }


def _temporary_embedding(embedder: Embedder) -> list[float] | str:
    """A random vector as a list, or a text if MongoDB makes the vector of it."""
    import numpy as np

    if not embedder.dimensions:
        return "canary: temporary"
    vector = np.random.default_rng().standard_normal(embedder.dimensions)
    return [float(number) for number in vector / np.linalg.norm(vector)]


async def _insert(db: AsyncDatabase[Document], index: SearchIndex, document: Document) -> bool:
    import numpy as np

    from lkmongo.embed.vectors import to_bson

    embedding = document[EMBEDDING]
    if not isinstance(embedding, str):
        embedding = to_bson(np.asarray(embedding, dtype=np.float32))
    try:
        await db[index.collection].insert_one(document | {EMBEDDING: embedding})
    except OperationFailure as error:
        if error.code in _READ_ONLY:
            return False
        raise
    return True


async def _remove(db: AsyncDatabase[Document], index: SearchIndex, document: Document) -> None:
    """Remove it, and leftovers of killed processes."""
    old = {"updated_at": {"$lt": now() - _LEFT_BEHIND}}
    selector = {"tenant_id": RESERVED_TENANT, "$or": [{"_id": document["_id"]}, old]}
    await operations.write(lambda: db[index.collection].delete_many(selector))


async def _search(db: AsyncDatabase[Document], index: SearchIndex, document: Document) -> Canary:
    collection = searchable(db, index.collection)
    stages = [_stage(index, document), {"$match": {"_id": document["_id"]}}, {"$project": {"_id": 1}}]

    async def ask() -> Canary:
        try:
            cursor = await collection.aggregate(stages, maxTimeMS=_MAX_TIME_MS)
            if await cursor.to_list():
                return Canary(Outcome.FOUND)
        except OperationFailure as error:
            if error.code not in _NOT_YET and not operations.is_overload(error):
                raise
            return Canary(Outcome.MISSED, operations.server_words(error))
        return Canary(Outcome.MISSED, f"it does not find the existing document {document['_id']}")

    return await operations.read(ask)


def _stage(index: SearchIndex, document: Document) -> Document:
    if index.type == "search":
        scope = [{"equals": {"path": path, "value": document[path]}} for path in index.scope]
        words = {"text": {"path": LABEL_WORDS, "query": document[LABEL_WORDS]}}
        return {"$search": {"index": index.name, "compound": {"filter": scope, "must": [words]}}}
    embedding = document[EMBEDDING]
    # Exact, as an approximate search may miss a document.
    return {
        "$vectorSearch": {
            "index": index.name,
            "path": EMBEDDING,
            **({"query": {"text": embedding}} if isinstance(embedding, str) else {"queryVector": embedding}),
            "exact": True,
            "limit": _LIMIT,
            "filter": {path: document[path] for path in index.scope},
        }
    }
