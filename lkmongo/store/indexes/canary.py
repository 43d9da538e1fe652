"""Canary searches: the only proof that an index has the documents that exist; and how many documents have a vector.

An index that is READY may know nothing of new documents, and a search with a wrong name, path or vector length finds
nothing without an error. So an existing document is searched for by its own vector, or its own words, in its own scope.
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
from pymongo.read_concern import ReadConcern

from lkmongo.backoff import Backoff
from lkmongo.model import now
from lkmongo.store.indexes.definitions import EMBEDDING, LABEL_WORDS, SearchIndex
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

Document = dict[str, Any]

RESERVED_TENANT = " lkmongo canary"
"""The tenant of documents that are made to be searched for. No identity can have it: an id begins with no space."""

_LEFT_BEHIND = timedelta(hours=1)
_READ_ONLY = frozenset({13, 8000})  # Unauthorized, and how Atlas says it on its smallest clusters
_NOT_YET = frozenset({6, 7, 8, 50, 89})  # the search process cannot be reached, does not serve yet, or is slow
_MAX_TIME_MS = 10_000
_CANDIDATES = 20
_LIMIT = 100  # documents with the very same vector, such as the same passage in several files, rank before or after


class Outcome(StrEnum):
    """What came of looking for a document."""

    FOUND = "found"
    MISSED = "missed"
    NO_DOCUMENT = "no document"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class Canary:
    """What came of looking for a document by one index."""

    outcome: Outcome
    detail: str = ""


async def check_canary(db: AsyncDatabase[Document], index: SearchIndex, embedder: Embedder) -> Canary:
    """Look once for a document that is there; writes nothing.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    document = await _existing(db, index, embedder)
    if document is None:
        return Canary(Outcome.NO_DOCUMENT, "there is no document to look for")
    return await _search(db, index, document)


async def wait_for_canary(
    db: AsyncDatabase[Document], index: SearchIndex, embedder: Embedder, backoff: Backoff
) -> Canary:
    """Look for a document until it is found or the time is over; at least once.

    Where none is there, one of a reserved tenant is made, and removed after.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    canary = await check_canary(db, index, embedder)
    while canary.outcome is Outcome.MISSED and await backoff.pause():
        canary = await check_canary(db, index, embedder)  # another one, perhaps: what was there may have been changed
    if canary.outcome is not Outcome.NO_DOCUMENT:
        return canary
    document = _made_up(index, embedder)
    if not await operations.write(lambda: _insert(db, index, document)):
        return Canary(Outcome.READ_ONLY, "there is no document to look for, and this user may not write one")
    try:
        canary = await _search(db, index, document)
        while canary.outcome is Outcome.MISSED and await backoff.pause():
            canary = await _search(db, index, document)
    finally:
        await asyncio.shield(_remove(db, index, document))
    return canary


async def _existing(db: AsyncDatabase[Document], index: SearchIndex, embedder: Embedder) -> Document | None:
    """The newest document that the index must have, with a plain list as its vector."""
    from lkmongo.embed.vectors import from_bson

    scoped = {path: {"$type": "string"} for path in index.scope}
    scoped["tenant_id"] |= {"$ne": RESERVED_TENANT}  # another process's own may be gone in a moment
    indexed = {LABEL_WORDS: {"$type": "string"}} if index.type == "search" else {"embedding_model": embedder.model}
    shown = dict.fromkeys((*index.scope, LABEL_WORDS if index.type == "search" else EMBEDDING), 1)

    async def find() -> list[Document]:
        cursor = db[index.collection].find(scoped | indexed, shown, max_time_ms=_MAX_TIME_MS)
        try:
            return await cursor.sort("_id", -1).limit(_CANDIDATES).to_list()
        except ExecutionTimeout:
            return []  # many documents, and none of them of this model

    for document in await operations.read(find):
        if index.type == "search":
            return document
        vector = from_bson(document.get(EMBEDDING), embedder.dimensions)
        if vector is not None:  # else the index leaves it out, rightly
            return document | {EMBEDDING: vector.tolist()}
    return None


def _made_up(index: SearchIndex, embedder: Embedder) -> Document:
    """A document of the reserved tenant that no other run has made."""
    import numpy as np

    vector = np.random.default_rng().standard_normal(embedder.dimensions)
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
        "content": "made to see whether search finds it; it is removed at once",
        EMBEDDING: (vector / np.linalg.norm(vector)).tolist(),
        "embedding_model": embedder.model,
        "updated_at": now(),
    }


async def _insert(db: AsyncDatabase[Document], index: SearchIndex, document: Document) -> bool:
    import numpy as np

    from lkmongo.embed.vectors import to_bson

    stored = document | {EMBEDDING: to_bson(np.asarray(document[EMBEDDING], dtype=np.float32))}
    try:
        await db[index.collection].insert_one(stored)
    except OperationFailure as error:
        if error.code in _READ_ONLY:
            return False
        raise
    return True


async def _remove(db: AsyncDatabase[Document], index: SearchIndex, document: Document) -> None:
    """Remove it, and what a process that was killed left behind."""
    old = {"updated_at": {"$lt": now() - _LEFT_BEHIND}}
    selector = {"tenant_id": RESERVED_TENANT, "$or": [{"_id": document["_id"]}, old]}
    await operations.write(lambda: db[index.collection].delete_many(selector))


async def _search(db: AsyncDatabase[Document], index: SearchIndex, document: Document) -> Canary:
    # Search refuses every read concern but local, and the address of the database may ask for another.
    collection = db[index.collection].with_options(read_concern=ReadConcern("local"))
    stages = [_stage(index, document), {"$match": {"_id": document["_id"]}}, {"$project": {"_id": 1}}]

    async def ask() -> Canary:
        try:
            cursor = await collection.aggregate(stages, maxTimeMS=_MAX_TIME_MS)
            if await cursor.to_list():
                return Canary(Outcome.FOUND)
        except OperationFailure as error:
            if error.code not in _NOT_YET:
                raise
            return Canary(Outcome.MISSED, f"{(error.details or {}).get('errmsg', error)} (code {error.code})")
        return Canary(Outcome.MISSED, f"it does not find the document {document['_id']}, which is there")

    return await operations.read(ask)


def _stage(index: SearchIndex, document: Document) -> Document:
    if index.type == "search":
        scope = [{"equals": {"path": path, "value": document[path]}} for path in index.scope]
        words = {"text": {"path": LABEL_WORDS, "query": document[LABEL_WORDS]}}
        return {"$search": {"index": index.name, "compound": {"filter": scope, "must": [words]}}}
    # Exact: an approximate search may miss a document that the index has.
    return {
        "$vectorSearch": {
            "index": index.name,
            "path": EMBEDDING,
            "queryVector": document[EMBEDDING],
            "exact": True,
            "limit": _LIMIT,
            "filter": {path: document[path] for path in index.scope},
        }
    }


_COUNT_MAX_TIME_MS = 20_000


@dataclass(frozen=True, slots=True)
class Coverage:
    """The documents of one collection, of every tenant; None for what took too long to count."""

    collection: str
    documents: int | None
    no_vector: int | None
    other_model: int | None


async def coverage(db: AsyncDatabase[Document], model: str) -> list[Coverage]:
    """Count the documents without a vector, and those whose vector another model than `model` made.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    return [await _count(db, name, model) for name in (KNOWLEDGE, MEMORIES)]


async def _count(db: AsyncDatabase[Document], name: str, model: str) -> Coverage:
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
