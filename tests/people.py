"""People with data in every collection, and what of it is there: for tests of merging, erasing and exporting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from bson import encode
from pymongo import AsyncMongoClient, monitoring

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.store.mongo.schema import AUDIT, COLLECTIONS, KEYS, PERSONAL, RECEIPTS, TOMBSTONES
from lkmongo.store.open import Store

VECTOR = b"\x27\x00" + bytes(16)


async def furnish(
    store: Store,
    scope: UserScope,
    *,
    slots: Sequence[str] = ("city", "color"),
    calls: Sequence[str] = ("s-1", "s-2"),
    orders: Sequence[str] = (),
    content: str = "something",
) -> None:
    """Give somebody a profile, slots with vectors, orders, and calls of three turns."""
    moment = now() - timedelta(hours=1)
    await store.users.seen(scope)
    await store.users.set_field(scope, "name", f"Name of {scope.user_id}"[:100])
    for name in slots:
        await store.memories.remember(scope, name, f"{content} of {scope.user_id}")
    await store.db.memories.update_many(scope.filter, {"$set": {"embedding": VECTOR, "embedding_model": "m@2"}})
    for number in orders:
        await store.db.orders.insert_one(
            scope.filter | {"order_id": number, "items": [{"name": "Lamp"}], "total": 4.5, "status": "shipped"}
        )
    for name in calls:
        await store.sessions.save(SessionRecord(name, scope, "room", SessionStatus.COMPLETE, moment, moment, "hang-up"))
        turns = [
            Turn(seq, f"{name}-{seq}", TurnKind.MESSAGE, moment, role="user", content=f"{content} {seq}")
            for seq in range(3)
        ]
        await store.sessions.append(scope, name, turns)


async def documents(store: Store, *without: UserScope) -> dict[str, list[bytes]]:
    """Every document of every collection, to the byte, but those of `without`."""
    scopes = [scope.filter for scope in without]
    found: dict[str, list[bytes]] = {}
    for name in COLLECTIONS:
        if name not in {AUDIT, KEYS, RECEIPTS, TOMBSTONES}:
            raw = [each async for each in store.db[name].find({"$nor": scopes} if scopes else {})]
            found[name] = sorted(encode(each) for each in raw)
    return found


async def of(store: Store, scope: UserScope) -> dict[str, list[dict[str, Any]]]:
    """The documents of one person, by collection."""
    return {name: [each async for each in store.db[name].find(scope.filter).sort("_id")] for name in PERSONAL}


async def anywhere(store: Store, *texts: str) -> list[str]:
    """The collections, of all that the database has, in which one of the texts stands in a field or a name."""
    found = []
    for name in await store.db.list_collection_names():
        async for document in store.db[name].find():
            if any(text.encode() in encode(document) for text in texts):
                found.append(name)
                break
    return found


async def until(condition: Any) -> None:
    """Wait until `condition`, a coroutine function, is true; the test's timeout ends it."""
    while not await condition():  # noqa: ASYNC110 - another process or the database brings it about
        await asyncio.sleep(0.02)


async def killed_at(number: int, uri: str, work: Callable[[AsyncMongoClient[Any]], Coroutine[Any, Any, Any]]) -> bool:
    """Begin `work` with a client of its own, and end it when it sends its command of this number.

    Returns:
        Whether it sent so many.
    """
    listener = _KillAt(number)
    async with AsyncMongoClient(uri, tz_aware=True, event_listeners=[listener]) as client:
        listener.task = asyncio.create_task(work(client))
        await asyncio.gather(listener.task, return_exceptions=True)
    return listener.left <= 0


class _KillAt(monitoring.CommandListener):
    """Ends a task when the command of this number is sent: the server does it, and nobody hears of it."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.task: asyncio.Task | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.task and event.command_name not in {"hello", "ping", "endSessions"}:
            self.left -= 1
            if self.left == 0:
                self.task.get_loop().call_soon(self.task.cancel)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass
