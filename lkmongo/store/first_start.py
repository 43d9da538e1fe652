"""Make the embedded database usable at once: indexes, and the sample data when it is empty."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.embed.base import Embedder
from lkmongo.store import operations, provision
from lkmongo.store.schema import KNOWLEDGE, MEMORIES, ORDERS, SESSIONS, USERS


async def prepare(db: AsyncDatabase[dict[str, Any]], embedder: Embedder, *, on_status: Callable[[str], None]) -> None:
    """Create missing indexes, and load the sample data into a database that holds nothing at all.

    Raises:
        DatabaseError: MongoDB refuses.
    """
    await provision.apply(db)
    if not await _is_empty(db):
        return
    from lkmongo.store.seeding import seed
    from lkmongo.store.seeds import default_seed_folder, load_seeds

    on_status("This database is empty: loading the sample shop (users, orders and knowledge) ...")
    await seed(db, load_seeds(default_seed_folder()), embedder)


async def _is_empty(db: AsyncDatabase[dict[str, Any]]) -> bool:
    async def one(name: str) -> bool:
        return await db[name].find_one({}, {"_id": 1}) is None

    names = (USERS, MEMORIES, KNOWLEDGE, ORDERS, SESSIONS)
    return all(await asyncio.gather(*(operations.read(lambda name=name: one(name)) for name in names)))  # type: ignore[misc]
