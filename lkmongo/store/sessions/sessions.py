"""Calls: a session document for each, and its turns as documents of their own.

A turn never meets the 16 MB limit of a document that grows with the call, and a session is found by who and when
without reading what was said.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError

from lkmongo import deadlines
from lkmongo.errors import DatabaseError
from lkmongo.model import SessionRecord, SessionStatus, Turn, UserScope, clean
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.documents import LOOKING, host_name, is_gone, placed, record_of, turn_fields, turn_of

LIVE: dict[str, Any] = {"$expr": {"$gt": ["$lease.until", "$$NOW"]}}
"""The query for calls that go on, or of which the last writes may be under way: a process holds the lease."""
_HAS_RUN_OUT: dict[str, Any] = {"$not": {"$gt": ["$lease.until", "$$NOW"]}}
_LOST: dict[str, Any] = {"status": SessionStatus.ACTIVE.value, "$expr": _HAS_RUN_OUT}
LOST = "lost"
"""Why a call ended that nobody has renewed the lease of."""
RESUMABLE_MS = 60_000
"""How long after it was cut off another agent may go on with a call, if its caller is still there."""
CONSOLE = "console"
"""The room of calls that are in none."""
_BATCH = 500


_DUPLICATE_KEY = 11_000


class TakenError(DatabaseError):
    """The number of a turn is another turn's."""

    code = "taken"


class Sessions:
    """The collections `sessions` and `turns`."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        self._sessions = db[SESSIONS]
        self._turns = db[TURNS]

    async def open(self, record: SessionRecord, owner: str) -> bool:
        """Write that a call has begun, with a lease for `owner`: who it is that records it.

        Returns:
            Whether there was nothing of this call before. An agent that is sent into a room once more goes on with it.
        """
        selector = record.scope.filter | {"session_id": record.session_id}
        update = {
            "room_name": {"$literal": clean(record.room_name)},
            "status": record.status.value,
            "started_at": {"$ifNull": ["$started_at", record.started_at]},
            "lease": _lease(owner),
        }
        where = {
            "participant": record.participant_identity,
            "agent": record.agent,
            "agent_participant": record.agent_participant,
            "livekit": record.livekit,
        }
        update |= {name: {"$literal": clean(value)} for name, value in where.items() if value is not None}
        result = await operations.write(lambda: self._sessions.update_one(selector, [{"$set": update}], upsert=True))
        return result.upserted_id is not None

    async def next_seq(self, scope: UserScope, session_id: str) -> int:
        """The number that the call's next turn gets."""
        selector = scope.filter | {"session_id": session_id}
        last = await operations.read(lambda: self._turns.find_one(selector, {"_id": 0, "seq": 1}, sort=[("seq", -1)]))
        return int(last["seq"]) + 1 if last else 0

    async def renew(
        self, scope: UserScope, session_id: str, owner: str
    ) -> Literal["held", "missing", "another's", "complete"]:
        """Prolong the call's lease, unless another agent has taken it, or has completed the call.

        A call that was taken for dead, since its process could not reach MongoDB, is alive again. One that its owner
        has completed stays so, and its lease the owner's, until the last write is done.
        """
        whose = {"$ifNull": ["$lease.owner", ""]}
        is_looked_into = {"$regexMatch": {"input": whose, "regex": f"{LOOKING}$"}}
        is_free = {"$or": [{"$eq": [whose, {"$literal": owner}]}, is_looked_into, _HAS_RUN_OUT]}
        goes_on = {"$ne": ["$status", SessionStatus.COMPLETE.value]}
        may = {"$or": [{"$eq": [whose, {"$literal": owner}]}, {"$and": [is_free, goes_on]}]}
        revives = {"$and": [may, goes_on]}
        update = {
            "lease": {"$cond": [may, _lease(owner), "$lease"]},
            "status": {"$cond": [revives, SessionStatus.ACTIVE.value, "$status"]},
        } | {
            name: {"$cond": [revives, "$$REMOVE", f"${name}"]}
            for name in ("ended_at", "close_reason", "interrupted_at")
        }
        document = await operations.write(
            lambda: self._sessions.find_one_and_update(
                scope.filter | {"session_id": session_id},
                [{"$set": update}],
                projection={"lease": 1, "status": 1},
                return_document=ReturnDocument.AFTER,
            )
        )
        if document is None:
            return "missing"
        if (document.get("lease") or {}).get("owner") == owner:
            return "held"
        return "complete" if document["status"] == SessionStatus.COMPLETE.value else "another's"

    async def claim(self, record: SessionRecord, owner: str, *, instead_of: str, make: bool = True) -> bool:
        """Take the lease of a call whose process is gone.

        Args:
            record: the call as it began.
            owner: who takes it.
            instead_of: the process that held it, and is gone; empty where only time tells.
            make: make its document where there is none; one that was seen and is gone may be an erased person's.

        Returns:
            Whether it was taken: False when another process goes on with the call.
        """
        # The condition is in the update, for a query with one cannot make a document.
        free = {"$or": [_is_held_by(instead_of), _HAS_RUN_OUT]} if instead_of else _HAS_RUN_OUT
        goes_on = {"$and": [free, {"$ne": ["$status", SessionStatus.COMPLETE.value]}]}
        update = {
            "room_name": {"$ifNull": ["$room_name", {"$literal": clean(record.room_name)}]},
            "status": {"$cond": [goes_on, SessionStatus.ACTIVE.value, "$status"]},
            "started_at": {"$ifNull": ["$started_at", record.started_at]},
            "lease": {"$cond": [free, _lease(owner), "$lease"]},
        }
        selector = record.scope.filter | {"session_id": record.session_id}
        document = await operations.write(
            lambda: self._sessions.find_one_and_update(
                selector,
                [{"$set": update}],
                projection={"lease": 1},
                upsert=make,
                return_document=ReturnDocument.AFTER,
            )
        )
        return bool(((document or {}).get("lease") or {}).get("owner") == owner)

    async def interrupt(self, scope: UserScope, session_id: str, reason: str, *, for_good: bool = False) -> bool:
        """Mark a call as cut off: it ended with its last turn. Its lease is taken in any case.

        Args:
            scope: whose call it is.
            session_id: which.
            reason: why, in a word.
            for_good: whether nobody shall go on with it.

        Returns:
            Whether that was done; False of a call that had ended, or is not there.
        """
        unended = scope.filter | {"session_id": session_id, "status": {"$ne": SessionStatus.COMPLETE.value}}
        if await self._interrupt(unended, scope, session_id, reason, for_good=for_good):
            return True
        selector = scope.filter | {"session_id": session_id}
        await operations.write(lambda: self._sessions.update_one(selector, {"$unset": {"lease": ""}}))
        return False

    async def _interrupt(
        self, selector: dict[str, Any], scope: UserScope, session_id: str, reason: str, *, for_good: bool = False
    ) -> bool:
        turns = scope.filter | {"session_id": session_id}
        last = await operations.read(
            lambda: self._turns.find_one(turns, {"_id": 0, "created_at": 1}, sort=[("seq", -1)])
        )
        update = {
            "status": SessionStatus.INTERRUPTED.value,
            "ended_at": last["created_at"] if last else "$started_at",
            "close_reason": reason,
            "interrupted_at": None if for_good else "$$NOW",
        }
        result = await operations.write(
            lambda: self._sessions.update_one(selector, [{"$set": update}, {"$unset": "lease"}])
        )
        return result.matched_count == 1

    async def lost(self) -> list[tuple[UserScope, str]]:
        """The calls, of all people, whose lease has run out."""

        async def find() -> list[tuple[UserScope, str]]:
            cursor = self._sessions.find(_LOST, {"_id": 0, "tenant_id": 1, "user_id": 1, "session_id": 1})
            return [
                (UserScope(tenant_id=doc["tenant_id"], user_id=doc["user_id"]), doc["session_id"])
                async for doc in cursor
            ]

        return await operations.read(find)

    async def expired(self, agent: str, livekit: str) -> list[SessionRecord]:
        """The calls of an agent in rooms whose process is gone, of all people, and that another could go on with.

        Args:
            agent: the name that its workers register with.
            livekit: the host of the LiveKit server: elsewhere others have agents of this name. A call that does not
                tell where it is was begun by an older version, and counts as here.
        """
        interrupted = {
            "status": SessionStatus.INTERRUPTED.value,
            "$expr": {"$gt": ["$interrupted_at", {"$subtract": ["$$NOW", RESUMABLE_MS]}]},
        }
        selector = {"$or": [_LOST, interrupted], "agent": agent, "livekit": {"$in": [livekit, None]}}

        async def find() -> list[SessionRecord]:
            cursor = self._sessions.find(selector, {"report": 0}).limit(_BATCH)
            return [record_of(each) async for each in cursor]

        return await operations.read(find)

    async def orphaned(self, agent: str, livekit: str) -> list[tuple[SessionRecord, str]]:
        """Those of `expired` whose process on this machine is gone, whatever their lease says, each with its owner."""
        ours = {"$regex": f"^{re.escape(host_name())}/"}

        async def find() -> list[tuple[SessionRecord, str]]:
            here = {"agent": agent, "livekit": {"$in": [livekit, None]}, "lease.owner": ours}
            selector = {"status": SessionStatus.ACTIVE.value} | here
            cursor = self._sessions.find(selector, {"report": 0}).limit(_BATCH)
            return [(record_of(each), each["lease"]["owner"]) async for each in cursor]

        return [(record, owner) for record, owner in await operations.read(find) if is_gone(owner)]

    async def left_off(self, scope: UserScope, session_id: str) -> list[Turn]:
        """The turns of a call that was cut off; none when there is no such call, or it had ended."""
        record = await self.get(scope, session_id)
        if record is None or record.status is SessionStatus.COMPLETE:
            return []
        return await self.turns(scope, session_id)

    async def interrupt_lost(self) -> list[tuple[UserScope, str]]:
        """Mark the calls, of all people, whose lease has run out; returns which they are."""
        interrupted = []
        for scope, session_id in await self.lost():
            # Only as it was found: it may have been renewed, or taken by another process that goes on with it.
            selector = _LOST | scope.filter | {"session_id": session_id}
            if await self._interrupt(selector, scope, session_id, LOST):
                interrupted.append((scope, session_id))
        return interrupted

    async def discard(self, scope: UserScope, session_id: str) -> None:
        """Delete a call and its turns."""
        selector = scope.filter | {"session_id": session_id}
        await operations.write(lambda: self._turns.delete_many(selector))
        await operations.write(lambda: self._sessions.delete_one(selector))

    async def live(self, scope: UserScope) -> list[str]:
        """The ids of the person's calls that go on."""

        async def find() -> list[str]:
            cursor = self._sessions.find(scope.filter | LIVE, {"_id": 0, "session_id": 1})
            return [document["session_id"] async for document in cursor]

        return await operations.read(find)

    async def save(self, record: SessionRecord, *, owner: str | None = None, keep_lease: bool = False) -> bool:
        """Write what is known of the call; one that has ended has no lease.

        Args:
            record: the call.
            owner: write only while this one holds the lease.
            keep_lease: leave that to `let_go`, for other writes of the call are under way.

        Returns:
            Whether it was written.
        """
        fields = clean(
            {
                "room_name": record.room_name,
                "status": record.status.value,
                "ended_at": record.ended_at,
                "close_reason": record.close_reason,
                "report": record.report,
            }
        )
        selector = record.scope.filter | {"session_id": record.session_id}
        update = {"$set": fields, "$min": {"started_at": record.started_at}} | (
            {} if keep_lease or record.status is SessionStatus.ACTIVE else {"$unset": {"lease": ""}}
        )
        held = {} if owner is None else {"lease.owner": owner}
        result = await operations.write(
            lambda: self._sessions.update_one(selector | held, update, upsert=owner is None)
        )
        return result.matched_count == 1 or result.upserted_id is not None

    async def let_go(self, scope: UserScope, session_id: str, owner: str) -> None:
        """Give up the lease of a call that has ended, after its last write."""
        selector = scope.filter | {"session_id": session_id, "lease.owner": owner}
        await operations.write(lambda: self._sessions.update_one(selector, {"$unset": {"lease": ""}}))

    async def append(self, scope: UserScope, session_id: str, turns: Sequence[Turn]) -> None:
        """Write turns; one that is there already is left as it is.

        Raises:
            TakenError: another turn has the number of one of them; those before it are written.
        """

        async def write(batch: list[UpdateOne]) -> None:
            try:
                await self._turns.bulk_write(batch, ordered=True)
            except BulkWriteError as error:
                if any(each.get("code") == _DUPLICATE_KEY for each in (error.details or {}).get("writeErrors", [])):
                    raise TakenError from error
                raise

        for start in range(0, len(turns), _BATCH):
            batch = [
                UpdateOne(
                    # With the item's id: a number that another turn has is a duplicate key, and nothing is lost unseen.
                    scope.filter | {"session_id": session_id, "seq": turn.seq, "item_id": clean(turn.item_id)},
                    {"$setOnInsert": turn_fields(turn)},
                    upsert=True,
                )
                for turn in turns[start : start + _BATCH]
            ]
            await operations.write(functools.partial(write, batch))

    async def append_missing(self, scope: UserScope, session_id: str, turns: Sequence[tuple[Turn, bool]]) -> int:
        """Write the turns whose items are not there yet, at their numbers.

        Where another process has gone on with the call and taken these numbers, they come before what was said later,
        whose numbers grow: call it while nobody else writes.

        Args:
            scope: whose call it is.
            session_id: which.
            turns: in their order, each with whether its `seq` is the database's; if not, it counts from the first
                turn that the process recorded.

        Returns:
            How many were written.
        """
        selector = scope.filter | {"session_id": session_id}

        async def find() -> list[tuple[str, int, datetime]]:
            cursor = self._turns.find(selector, {"_id": 0, "item_id": 1, "seq": 1, "created_at": 1}).sort("seq")
            return [(document["item_id"], document["seq"], document["created_at"]) async for document in cursor]

        there = await operations.read(find)
        missing, moved = placed(there, turns)
        for start in range(0, len(moved), _BATCH):  # from the last on, so that each finds its new number free
            batch = [
                UpdateOne(selector | {"seq": before, "item_id": item_id}, {"$set": {"seq": after}})
                for item_id, before, after in moved[start : start + _BATCH]
            ]
            await operations.write(lambda batch=batch: self._turns.bulk_write(batch, ordered=True))  # type: ignore[misc]
        await self.append(scope, session_id, missing)
        return len(missing)

    async def get(self, scope: UserScope, session_id: str) -> SessionRecord | None:
        """One call, without its turns."""
        selector = scope.filter | {"session_id": session_id}
        document = await operations.read(lambda: self._sessions.find_one(selector))
        return record_of(document) if document else None

    async def recent(self, scope: UserScope, *, limit: int = 50) -> list[SessionRecord]:
        """The person's calls, newest first."""

        async def find() -> list[SessionRecord]:
            cursor = self._sessions.find(scope.filter).sort("started_at", -1).limit(limit)
            return [record_of(document) async for document in cursor]

        return await operations.read(find)

    async def turns(self, scope: UserScope, session_id: str) -> list[Turn]:
        """The turns of a call in their order."""

        async def find() -> list[Turn]:
            cursor = self._turns.find(scope.filter | {"session_id": session_id}).sort("seq")
            return [turn_of(document) async for document in cursor]

        return await operations.read(find)


def _lease(owner: str) -> dict[str, Any]:
    """A lease from now on, by the server's clock: those of two hosts need not agree."""
    return {"owner": {"$literal": owner}, "until": {"$add": ["$$NOW", int(1_000 * deadlines.LEASE)]}}


def _is_held_by(process: str) -> dict[str, Any]:
    """Whether a process has the lease, whichever of its calls it was: see `lease_owner`."""
    whose = {"$ifNull": ["$lease.owner", ""]}
    return {
        "$or": [
            {"$eq": [whose, {"$literal": process}]},
            {"$eq": [{"$indexOfBytes": [whose, {"$literal": f"{process}/"}]}, 0]},
        ]
    }
