"""Orders: looked up by number, and only by the person they belong to.

Other programs may have written them in a different shape: what can be read of such an order is used, and the log names
the fields that cannot, without their contents.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from bson.decimal128 import Decimal128
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.declarations import declared
from lkmongo.model import Order, OrderItem, UserScope, check_id
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import ORDERS

logger = logging.getLogger(__name__)

UNNAMED = "an item without a name"
_NAME = ("name", "title", "product", "description", "sku", "item", "id")
_QUANTITY = ("quantity", "qty", "count")
_STATUS = ("name", "status", "state", "code", "label", "value")
_AMOUNT = ("amount", "value", "total")
# With a currency before or after it. A comma may separate thousands or cents, so such numbers are not accepted.
_NUMBER = re.compile(r"([^\s\d.,-]*)\s*(-?\d+(?:\.\d+)?)\s*([^\s\d.,-]*)", re.ASCII)
_KNOWN = {"order_id", "items", "total", "status", "currency"}
_NAMED = 8
"""Fields that a log line names at most."""


class Orders:
    """The collection `orders`."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        self._orders = db[ORDERS]

    async def get(self, scope: UserScope, order_id: str) -> Order | None:
        """The person's order with this number; None also if it is somebody else's.

        Raises:
            InvalidIdError: not a valid order number.
        """
        number = check_id("order", order_id)
        selector = scope.filter | {"order_id": {"$in": [number, int(number)]} if _is_whole(number) else number}
        document = await operations.read(lambda: self._orders.find_one(selector))
        return read_order(document) if document else None

    async def all(self, scope: UserScope) -> list[Order]:
        """The person's orders, sorted by number."""

        async def find() -> list[Order]:
            return [read_order(document) async for document in self._orders.find(scope.filter).sort("order_id")]

        return await operations.read(find)

    async def latest(self, scope: UserScope, limit: int) -> list[Order]:
        """The person's most recently stored orders, newest first."""

        async def find() -> list[Order]:
            cursor = self._orders.find(scope.filter).sort("_id", -1).limit(limit)
            return [read_order(document) async for document in cursor]

        return await operations.read(find)


def _is_whole(number: str) -> bool:
    """Whether other programs may have stored the order number as an integer: 1001, but not 0042."""
    return re.fullmatch(r"[1-9][0-9]{0,17}", number) is not None


def read_order(document: Mapping[str, Any]) -> Order:
    """Read what can be read of an order; the rest is omitted, and logged."""
    unread: list[str] = []
    items = _items(document.get("items"), unread)
    total, currency = _amount(document.get("total"))
    if total is None:
        unread.append(f"total is {_kind(document.get('total'))}")
    status = _text(document.get("status"), _STATUS)
    if status is None:
        unread.append(f"status is {_kind(document.get('status'))}")
    own = declared().own.get(ORDERS)
    if own and own.document:  # which need not have what ours have
        unread = [each for each in unread if each.partition(" ")[0].partition("[")[0] in own.fields]
    if unread:
        logger.warning("an order has an unexpected shape and was read in part: %s", "; ".join(unread))
    currency = currency or _text(document.get("currency")) or "USD"
    more = (
        {name: text for name in own.fields if name not in _KNOWN and (text := _words(document.get(name)))}
        if own
        else {}
    )
    return Order(str(document.get("order_id")), items, total, status, currency, more)


def _words(value: Any) -> str | None:
    """A further field as it is read out; None for what cannot be."""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")[:16]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_words, value))) or None
    return _text(value, _NAME)


def _items(value: Any, unread: list[str]) -> tuple[OrderItem, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence):
        unread.append(f"items is {_kind(value)}")
        return ()
    return tuple(_item(item, f"items[{index}]", unread) for index, item in enumerate(value))


def _item(value: Any, path: str, unread: list[str]) -> OrderItem:
    name = _text(value, _NAME)
    if name is None:
        names = [str(field)[:40] for field in list(value)[:_NAMED]] if isinstance(value, Mapping) else []
        fields = f" with the fields {', '.join(names)}" if names else ""
        unread.append(f"{path} has no name: it is {_kind(value)}{fields}")
        return OrderItem(UNNAMED)
    if not isinstance(value, Mapping) or (key := next((key for key in _QUANTITY if key in value), None)) is None:
        return OrderItem(name)
    quantity, _ = _amount(value[key])
    if quantity is None or quantity != int(quantity):
        unread.append(f"{path}.{key} is {_kind(value[key])}")
        return OrderItem(name)
    return OrderItem(name, int(quantity))


def _text(value: Any, keys: Sequence[str] = ()) -> str | None:
    """One line of text; of a mapping, the value of the first of `keys` that has any."""
    if isinstance(value, Mapping):
        return next((text for key in keys if (text := _text(value.get(key), keys))), None)
    if isinstance(value, str):
        return " ".join(value.split()) or None
    return str(value) if isinstance(value, int | float | Decimal128) and not isinstance(value, bool) else None


def _amount(value: Any) -> tuple[float | None, str | None]:
    """A number, and its currency if stated."""
    if isinstance(value, Mapping):
        number = next((number for key in _AMOUNT if (number := _amount(value.get(key))[0]) is not None), None)
        return number, _text(value.get("currency"))
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip())
        return (float(match[2]), _text(match[1] or match[3])) if match else (None, None)
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value)
    return (float(value) if is_number else None), None


def _kind(value: Any) -> str:
    """What a value is, without its contents."""
    if value is None:
        return "missing"
    if isinstance(value, str):
        return "text in an unexpected form"
    if isinstance(value, int | float | Decimal128) and not isinstance(value, bool):
        return "not a usable number"
    return {dict: "a mapping", list: "a list", bool: "a boolean"}.get(type(value), f"of type {type(value).__name__}")
