"""Calls: a session document for each, and its turns as documents of their own.

A turn never meets the 16 MB limit of a document that grows with the call, and a session is found by who and when
without reading what was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import Identity, SessionRecord, SessionStatus, Turn, TurnKind, clean
from lkmongo.store import operations
from lkmongo.store.schema import SESSIONS, TURNS

LEASE_MS = 6_000
"""How long a call counts as going on after a sign of life, in milliseconds of the server's clock."""
LIVE: dict[str, Any] = {"status": SessionStatus.ACTIVE.value, "$expr": {"$gt": ["$lease.until", "$$NOW"]}}
"""The query for calls that go on: a process holds the lease."""
_BATCH = 500


class Sessions:
    """The collections `sessions` and `turns`."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        self._sessions = db[SESSIONS]
        self._turns = db[TURNS]

    async def open(self, record: SessionRecord, owner: str) -> None:
        """Write that a call has begun, with a lease for `owner`: who it is that records it."""
        selector = record.identity.scope | {"session_id": record.session_id}
        update = {
            "room_name": {"$literal": clean(record.room_name)},
            "status": record.status.value,
            "started_at": record.started_at,
            "lease": _lease(owner),
        }
        await operations.write(lambda: self._sessions.update_one(selector, [{"$set": update}], upsert=True))

    async def renew(self, identity: Identity, session_id: str, owner: str) -> bool:
        """Prolong the call's lease; returns whether the call is there."""
        selector = identity.scope | {"session_id": session_id}
        result = await operations.write(
            lambda: self._sessions.update_one(selector, [{"$set": {"lease": _lease(owner)}}])
        )
        return result.matched_count == 1

    async def discard(self, identity: Identity, session_id: str) -> None:
        """Delete a call and its turns."""
        selector = identity.scope | {"session_id": session_id}
        await operations.write(lambda: self._turns.delete_many(selector))
        await operations.write(lambda: self._sessions.delete_one(selector))

    async def live(self, identity: Identity) -> list[str]:
        """The ids of the person's calls that go on."""

        async def find() -> list[str]:
            cursor = self._sessions.find(identity.scope | LIVE, {"_id": 0, "session_id": 1})
            return [document["session_id"] async for document in cursor]

        return await operations.read(find)

    async def save(self, record: SessionRecord) -> None:
        """Write what is known of the call; one that has ended has no lease."""
        fields = clean(
            {
                "room_name": record.room_name,
                "status": record.status.value,
                "started_at": record.started_at,
                "ended_at": record.ended_at,
                "close_reason": record.close_reason,
                "report": record.report,
            }
        )
        selector = record.identity.scope | {"session_id": record.session_id}
        update = {"$set": fields} | ({} if record.status is SessionStatus.ACTIVE else {"$unset": {"lease": ""}})
        await operations.write(lambda: self._sessions.update_one(selector, update, upsert=True))

    async def append(self, identity: Identity, session_id: str, turns: Sequence[Turn]) -> None:
        """Write turns; one that is there already is left as it is."""
        for start in range(0, len(turns), _BATCH):
            batch = [
                UpdateOne(
                    identity.scope | {"session_id": session_id, "seq": turn.seq},
                    {"$setOnInsert": _turn_fields(turn)},
                    upsert=True,
                )
                for turn in turns[start : start + _BATCH]
            ]
            await operations.write(lambda batch=batch: self._turns.bulk_write(batch, ordered=True))  # type: ignore[misc]

    async def get(self, identity: Identity, session_id: str) -> SessionRecord | None:
        """One call, without its turns."""
        selector = identity.scope | {"session_id": session_id}
        document = await operations.read(lambda: self._sessions.find_one(selector))
        return _record(document) if document else None

    async def recent(self, identity: Identity, *, limit: int = 50) -> list[SessionRecord]:
        """The person's calls, newest first."""

        async def find() -> list[SessionRecord]:
            cursor = self._sessions.find(identity.scope).sort("started_at", -1).limit(limit)
            return [_record(document) async for document in cursor]

        return await operations.read(find)

    async def turns(self, identity: Identity, session_id: str) -> list[Turn]:
        """The turns of a call in their order."""

        async def find() -> list[Turn]:
            cursor = self._turns.find(identity.scope | {"session_id": session_id}).sort("seq")
            return [_turn(document) async for document in cursor]

        return await operations.read(find)


def _lease(owner: str) -> dict[str, Any]:
    """A lease from now on, by the server's clock: those of two hosts need not agree."""
    return {"owner": {"$literal": owner}, "until": {"$add": ["$$NOW", LEASE_MS]}}


def _turn_fields(turn: Turn) -> dict[str, Any]:
    fields: dict[str, Any] = clean({k: v for k, v in asdict(turn).items() if k != "seq" and v not in (None, {})})
    return fields | {"kind": turn.kind.value}


def _turn(document: dict[str, Any]) -> Turn:
    return Turn(
        seq=document["seq"],
        item_id=document["item_id"],
        kind=TurnKind(document["kind"]),
        created_at=document["created_at"],
        role=document.get("role"),
        content=document.get("content"),
        name=document.get("name"),
        arguments=document.get("arguments"),
        output=document.get("output"),
        is_error=document.get("is_error", False),
        interrupted=document.get("interrupted", False),
        metrics=document.get("metrics", {}),
    )


def _record(document: dict[str, Any]) -> SessionRecord:
    return SessionRecord(
        session_id=document["session_id"],
        identity=Identity(document["tenant_id"], document["user_id"]),
        room_name=document["room_name"],
        status=SessionStatus(document["status"]),
        started_at=document["started_at"],
        ended_at=document.get("ended_at"),
        close_reason=document.get("close_reason"),
        report=document.get("report") or {},
    )
