"""What is due after the end of a session, in a field of its document: of which sessions, and when again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from lkmongo.model import SessionStatus, UserScope, now
from lkmongo.store.mongo import operations
from lkmongo.store.sessions.documents import record_of

Document = dict[str, Any]

ENDED: Document = {"$in": [SessionStatus.COMPLETE.value, SessionStatus.INTERRUPTED.value]}
"""The condition for the status of a session that is over."""


async def due_sessions(sessions: AsyncCollection[Document], field: str, limit: int) -> list[tuple[UserScope, str]]:
    """Scope and id of the sessions, of all users, whose `field` is due, the longest due first."""
    selector = {f"{field}.due_at": {"$lte": now()}, "status": ENDED}
    shown = {"_id": 0, "tenant_id": 1, "user_id": 1, "session_id": 1}
    order = [(f"{field}.due_at", 1)]
    documents = await operations.read(lambda: sessions.find(selector, shown, sort=order, limit=limit).to_list())
    return [(record.scope, record.session_id) for record in map(record_of, documents)]


def next_attempt(field: str, schedule: Sequence[float]) -> Document:
    """The update that counts an attempt and postpones the next one by the schedule, in seconds."""
    attempts = {"$ifNull": [f"${field}.attempts", 0]}
    pauses = [1_000 * pause for pause in schedule]
    pause = {"$arrayElemAt": [pauses, {"$min": [attempts, len(pauses) - 1]}]}
    return {f"{field}.attempts": {"$add": [attempts, 1]}, f"{field}.due_at": {"$add": ["$$NOW", pause]}}
