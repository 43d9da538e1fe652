"""The webhook of a session's end, in the session's document: when it is due, and what became of it.

So it is stored with what it tells of and goes when that is erased. It is due until it is delivered or given up, and any
process may deliver it: whoever does holds the session's lease meanwhile, which an erasure waits for.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo import backoff
from lkmongo.model import SessionRecord, SessionStatus, UserScope, clean
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import SESSIONS
from lkmongo.store.sessions.documents import HAS_RUN_OUT, lease, record_of
from lkmongo.store.sessions.due import ENDED, due_sessions, next_attempt

Document = dict[str, Any]

_MAX_ANSWER = 200


def new_event_id() -> str:
    return f"msg_{uuid4().hex}"


def due(event_id: str, status: SessionStatus, *, at: Any = "$$NOW") -> Document:
    """The expression for the webhook of a session that has ended with this status, due `at` a time.

    One that tells of the same status stays as it is once it was sent: an end is told once, and anew if an interrupted
    session is complete after all.
    """
    new = {"id": {"$literal": event_id}, "about": status.value, "attempts": 0, "due_at": at}
    is_sent = {"$and": [{"$eq": ["$webhook.about", status.value]}, {"$gt": ["$webhook.attempts", 0]}]}
    return {"$cond": [is_sent, "$webhook", new]}


class Webhooks:
    """The field `webhook` of the collection `sessions`."""

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        self._sessions = db[SESSIONS]

    async def announce(self, scope: UserScope, session_id: str, event_id: str) -> bool:
        """Let the webhook of a complete session be due; returns False if it is, or was sent before."""
        selector = scope.filter | {"session_id": session_id, "status": SessionStatus.COMPLETE.value}
        update = [{"$set": {"webhook": due(event_id, SessionStatus.COMPLETE)}}]
        return (await operations.write(lambda: self._sessions.update_one(selector, update))).modified_count == 1

    async def due(self, limit: int) -> list[tuple[UserScope, str]]:
        """Scope and id of the sessions, of all users, whose webhook is due, the longest due first."""
        return await due_sessions(self._sessions, "webhook", limit)

    async def claim(self, scope: UserScope, session_id: str, owner: str) -> SessionRecord | None:
        """Take the lease of a session to make one attempt, which counts from now on, and postpone the next one.

        Returns:
            The session; None if its webhook is not due, or another process is at it.
        """
        is_free = {"$or": [{"$eq": ["$lease.owner", {"$literal": owner}]}, HAS_RUN_OUT]}
        is_due = {"$lte": ["$webhook.due_at", "$$NOW"]}
        selector = scope.filter | {
            "session_id": session_id,
            "status": ENDED,
            "webhook.due_at": {"$type": "date"},
            "$expr": {"$and": [is_free, is_due]},
        }
        update = {"lease": lease(owner)} | next_attempt("webhook", backoff.WEBHOOK_SCHEDULE)
        document = await operations.write(
            lambda: self._sessions.find_one_and_update(
                selector, [{"$set": update}], return_document=ReturnDocument.AFTER
            )
        )
        return record_of(document) if document else None

    async def settle(
        self, record: SessionRecord, owner: str, answer: str | None, *, delivered: bool = False, given_up: bool = False
    ) -> None:
        """Note the answer to a claimed attempt, and give up the lease.

        Args:
            record: the session as it was claimed.
            owner: who claimed it.
            answer: the receiver's, or why there was none; None if no request was sent.
            delivered: the receiver has accepted it.
            given_up: there will be no other attempt.
        """
        event_id = record.webhook.event_id if record.webhook else ""
        selector = record.scope.filter | {"session_id": record.session_id, "webhook.id": event_id, "lease.owner": owner}
        update: Document = {} if answer is None else {"webhook.answer": {"$literal": clean(answer[:_MAX_ANSWER])}}
        if delivered or given_up:
            update |= {"webhook.due_at": "$$REMOVE"}
            update |= {f"webhook.{'delivered' if delivered else 'gave_up'}_at": "$$NOW"}
        pipeline = [{"$set": update | {"lease": "$$REMOVE"}}]
        await operations.write(lambda: self._sessions.update_one(selector, pipeline))
