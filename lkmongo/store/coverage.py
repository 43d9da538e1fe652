"""How many documents a search by vectors can find: those with a vector of the embedder in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ExecutionTimeout

from lkmongo.store import operations
from lkmongo.store.canary import RESERVED_TENANT
from lkmongo.store.schema import KNOWLEDGE, MEMORIES
from lkmongo.store.search_schema import EMBEDDING

Document = dict[str, Any]

_MAX_TIME_MS = 20_000


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
            cursor = await db[name].aggregate(pipeline, maxTimeMS=_MAX_TIME_MS)
            found = next(iter(await cursor.to_list(1)), {})
        except ExecutionTimeout:
            return Coverage(name, None, None, None)
        return Coverage(name, found.get("documents", 0), found.get("bare", 0), found.get("foreign", 0))

    return await operations.read(aggregate)
