"""What an index knows of its collection: copies of the documents as they were, stale by the replication lag.

A copy is taken when a query or the list asks, just before time moves, and (with a running clock and a lag) at short
intervals. Nothing is copied again while the oplog names no change of the collection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bson import Binary
from pymongo.errors import OperationFailure

from tests.standin.wire import CODEC

if TYPE_CHECKING:
    from bson import Timestamp
    from pymongo import AsyncMongoClient

    from tests.standin.clock import Clock


@dataclass(eq=False)
class Snapshot:
    """Documents of a collection at one moment, in storage order, and what was computed from them."""

    documents: list[dict[str, Any]]
    cache: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """A collection that exists."""

    database: str
    name: str
    uuid: str
    collation: bool = False
    plain: bool = True


@dataclass
class _History:
    collection: Collection
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    copies: list[tuple[float, Snapshot]] = field(default_factory=list)
    seen: Timestamp | None = None


class Snapshots:
    """The copies of every collection that has an index."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._histories: dict[str, _History] = {}
        self._has_oplog = True
        self.scans = 0

    async def collection(self, database: str, name: str) -> Collection | None:
        """Look a collection up, or None if there is none."""
        reply = await self._client[database].command({"listCollections": 1, "filter": {"name": name}})
        for found in reply["cursor"]["firstBatch"]:
            options = found.get("options", {})
            uuid = bytes(found.get("info", {}).get("uuid", b"")).hex()
            return Collection(database, name, uuid, "collation" in options, found["type"] == "collection")
        return None

    async def living(self, uuids: set[str]) -> set[str]:
        """Those of the collections that still exist, wherever they were renamed to."""
        alive = set()
        for database in await self._client.list_database_names():
            reply = await self._client[database].command({"listCollections": 1, "cursor": {"batchSize": 10_000}})
            found = (item.get("info", {}).get("uuid") for item in reply["cursor"]["firstBatch"])
            alive |= {bytes(uuid).hex() for uuid in found if uuid is not None}
        return uuids & alive

    async def refresh(self, collection: Collection) -> None:
        """Copy a collection as it is now, unless nothing changed."""
        history = self._histories.setdefault(collection.uuid, _History(collection))
        history.collection = collection
        async with history.lock:
            latest = await self._latest()
            if await self._unchanged(history, latest):
                history.seen = latest
                return
            now = self._clock.now()
            coll = self._client[collection.database].get_collection(collection.name, codec_options=CODEC)
            documents = await coll.find({}).to_list()
            self.scans += 1
            if history.copies and history.copies[-1][0] == now:
                history.copies.pop()
            history.copies.append((now, Snapshot(documents)))
            history.seen = latest

    async def refresh_all(self) -> None:
        """Copy every collection that is followed."""
        for history in list(self._histories.values()):
            found = await self.collection(history.collection.database, history.collection.name)
            if found and found.uuid == history.collection.uuid:
                await self.refresh(found)

    def at(self, uuid: str, moment: float) -> Snapshot:
        """The documents as they were at `moment`; before the first copy, the first copy, which a build starts from."""
        copies = self._histories[uuid].copies
        return next((copy for taken, copy in reversed(copies) if taken <= moment), copies[0][1])

    def forget_before(self, moment: float) -> None:
        """Drop the copies that no query at or after `moment` can see."""
        for history in self._histories.values():
            old = [number for number, (taken, _) in enumerate(history.copies) if taken <= moment]
            del history.copies[: max(0, len(old) - 1)]

    async def _unchanged(self, history: _History, latest: Timestamp | None) -> bool:
        """Whether the last copy is still good. Once this returns, every write up to `latest` can be read."""
        if latest is None:
            return False
        if latest == history.seen:
            return True
        since = {"ts": {"$gte": latest} if history.seen is None else {"$gt": history.seen}}
        uuid = Binary(bytes.fromhex(history.collection.uuid), 4)
        touched = {"$or": [{"ui": uuid}, {"o.applyOps.ui": uuid}]}
        # A forward scan of the oplog waits for writes that are still under way; the backward one of `_latest` does not.
        found = await self._client["local"]["oplog.rs"].find_one(since | touched, {"_id": 1})
        return found is None and history.seen is not None

    async def _latest(self) -> Timestamp | None:
        if not self._has_oplog:
            return None
        try:
            entry = await self._client["local"]["oplog.rs"].find_one({}, {"ts": 1}, sort=[("$natural", -1)])
        except OperationFailure:
            entry = None
        self._has_oplog = entry is not None
        return entry["ts"] if entry else None
