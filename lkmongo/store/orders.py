"""Orders: looked up by number, and only by the person whose they are."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import Identity, Order, OrderItem, check_id
from lkmongo.store import operations
from lkmongo.store.schema import ORDERS


def _order(document: dict[str, Any]) -> Order:
    items = tuple(
        OrderItem(item["name"], int(item.get("quantity", 1))) if isinstance(item, dict) else OrderItem(str(item))
        for item in document.get("items", [])
    )
    return Order(
        document["order_id"],
        items,
        float(document.get("total", 0)),
        str(document.get("status", "unknown")),
        str(document.get("currency", "USD")),
    )


class Orders:
    """The collection `orders`, one person at a time."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        self._orders = db[ORDERS]

    async def get(self, identity: Identity, order_id: str) -> Order | None:
        """The person's order of this number; None when there is none, or when it is somebody else's.

        Raises:
            InvalidIdError: the number cannot be one.
        """
        selector = identity.scope | {"order_id": check_id("order", order_id)}
        document = await operations.read(lambda: self._orders.find_one(selector))
        return _order(document) if document else None

    async def all(self, identity: Identity) -> list[Order]:
        """All of the person's orders, by number."""

        async def find() -> list[Order]:
            return [_order(document) async for document in self._orders.find(identity.scope).sort("order_id")]

        return await operations.read(find)
