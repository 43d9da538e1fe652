"""Make the embedded database usable at once: indexes, and the sample shop when it is empty."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.embed.base import Embedder
from lkmongo.model import DEFAULT_TENANT, Order, OrderItem, UserScope
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES, ORDERS, SESSIONS, USERS

ORDER = Order("1011", (OrderItem("Wren smart speaker, chalk"),), 89.0, "shipped")
"""What the shop has sold to whoever comes first, so that they have something to ask about."""


async def prepare(
    db: AsyncDatabase[dict[str, Any]],
    embedder: Embedder,
    *,
    on_status: Callable[[str], None],
    customer: UserScope | None = None,
) -> None:
    """Create missing indexes, and load the sample shop into a database that holds nothing at all.

    Args:
        db: the embedded database.
        embedder: makes the vectors of what the shop knows.
        on_status: told in a sentence what takes a while.
        customer: who is to have an order of the shop's, too.

    Raises:
        DatabaseError: MongoDB refuses.
    """
    await database_indexes.apply(db)
    if not await _is_empty(db):
        return
    from lkmongo.store.seed.seeding import seed
    from lkmongo.store.seed.seeds import default_seed_folder, load_seeds

    data = load_seeds(default_seed_folder())
    yours = ""
    if customer and customer.tenant_id == DEFAULT_TENANT and all(owner != customer for owner, _ in data.orders):
        data = replace(data, orders=(*data.orders, (customer, ORDER)))
        yours = f", with an order of yours, {ORDER.order_id}"
    on_status(f"This database is empty: loading the sample shop (users, orders and knowledge){yours} ...")
    await seed(db, data, embedder)


async def _is_empty(db: AsyncDatabase[dict[str, Any]]) -> bool:
    async def one(name: str) -> bool:
        return await db[name].find_one({}, {"_id": 1}) is None

    names = (USERS, MEMORIES, KNOWLEDGE, ORDERS, SESSIONS)
    return all(await asyncio.gather(*(operations.read(lambda name=name: one(name)) for name in names)))  # type: ignore[misc]
