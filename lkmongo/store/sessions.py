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

_BATCH = 500


class Sessions:
    """The collections `sessions` and `turns`."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        self._sessions = db[SESSIONS]
        self._turns = db[TURNS]

    async def save(self, record: SessionRecord) -> None:
        """Write what is known of the call; called when it opens and when it ends."""
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
        await operations.write(lambda: self._sessions.update_one(selector, {"$set": fields}, upsert=True))

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
