"""What is learned of a session after its end, in the session's document: when it is due, and what was proposed.

So it is stored with what it rests on and goes when that is erased, merged or exported. It is due until it is learned or
given up. Any process with a language model may ask it, one at a time; what was proposed is stored here before it is
applied, under the session's lease, which an erasure waits for: a process that dies in between is followed by one that
applies the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo import backoff
from lkmongo.after_end import Proposal, State
from lkmongo.model import SessionRecord, UserScope, clean
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption, sealed
from lkmongo.store.mongo.schema import SESSIONS
from lkmongo.store.sessions.documents import HAS_RUN_OUT, lease, proposal_fields, record_of
from lkmongo.store.sessions.due import ENDED, due_sessions, next_attempt

Document = dict[str, Any]
Decision = tuple[State, str | None]
"""What became of a proposal, and why it was dropped."""

_PROPOSALS = {"$ifNull": ["$learning.proposals", []]}
_MAX_FAILURE = 200
NOT_AGREED = "the caller withdrew their consent"
"""Why nothing more is learned."""


def due(ended_at: Any, *, at: Any = "$$NOW") -> Document:
    """The expression for what is to be learned of a session that ended at `ended_at`, due `at` a time.

    It stays as it is if that end has been stored before. A session that seemed over and went on is learned again.
    """
    new = {"of": ended_at, "attempts": 0, "due_at": at, "proposals": _PROPOSALS}
    return {"$cond": [{"$eq": ["$learning.of", ended_at]}, "$learning", new]}


class Learnings:
    """The field `learning` of the collection `sessions`."""

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        self._encryption = Encryption.of(db)
        self._sessions = db[SESSIONS]

    async def due(self, limit: int) -> list[tuple[UserScope, str]]:
        """Scope and id of the sessions, of all users, of which something is to be learned, the longest due first."""
        return await due_sessions(self._sessions, "learning", limit)

    async def claim(self, scope: UserScope, session_id: str) -> SessionRecord | None:
        """Make one attempt, which counts from now on, and postpone the next one until nobody can be at this one.

        Returns:
            The session; None if nothing is due.
        """
        selector = _one(scope, session_id) | {
            "status": ENDED,
            "learning.due_at": {"$type": "date"},
            "$expr": {"$lte": ["$learning.due_at", "$$NOW"]},
        }
        return await self._update(scope, selector, next_attempt("learning", backoff.LEARN_SCHEDULE))

    async def propose(
        self, record: SessionRecord, proposals: Sequence[Proposal], summary: Mapping[str, Any]
    ) -> SessionRecord | None:
        """Store the answer to a claimed attempt, before any of it is applied.

        Args:
            record: the session as it was claimed.
            proposals: those that are stored already are left out.
            summary: what `answer` gives back until it is settled.

        Returns:
            The session; None if it is gone, or another process was faster.
        """
        selector = _one(record.scope, record.session_id) | {
            "learning.attempts": record.learning.attempts if record.learning else 0,
            "learning.asked_at": {"$exists": False},
        }
        known = {each.id for each in (record.learning.proposals if record.learning else ())}
        new = [proposal_fields(each) for each in proposals if each.id not in known]
        told: Document = {"answer": clean(dict(summary)), "proposals": new}
        document = {"session_id": record.session_id, "learning": told}
        sealed(await self._encryption.cipher(record.scope), SESSIONS, document)
        update = {
            "learning.asked_at": "$$NOW",
            "learning.answer": {"$literal": told["answer"]},
            "learning.proposals": {"$concatArrays": [_PROPOSALS, {"$literal": new}]},
            "learning.failure": "$$REMOVE",
        }
        return await self._update(record.scope, selector, update)

    async def answer(self, record: SessionRecord) -> Document:
        """The `summary` of an answer that is not settled."""
        fields = {"_id": 0, "session_id": 1, "learning.answer": 1}
        selector = _one(record.scope, record.session_id)
        document = await self._encryption.read_one(
            SESSIONS, lambda: self._sessions.find_one(selector, fields), record.scope
        )
        found = ((document or {}).get("learning") or {}).get("answer")
        return dict(found) if isinstance(found, Mapping) else {}

    async def hold(self, record: SessionRecord, owner: str) -> bool:
        """Take the lease of the session to change something; returns False while another process has it."""
        is_free = {"$or": [{"$eq": ["$lease.owner", {"$literal": owner}]}, HAS_RUN_OUT]}
        selector = _one(record.scope, record.session_id) | {"status": ENDED, "$expr": is_free}
        return await self._update(record.scope, selector, {"lease": lease(owner)}) is not None

    async def settle(
        self, record: SessionRecord, owner: str, decisions: Mapping[str, Decision]
    ) -> SessionRecord | None:
        """Note what became of the proposals, by id, that all of it is stored, and give up the lease.

        Returns:
            The session; None if it is gone, or another process has its lease.
        """
        update = {
            "learning.proposals": _decided(decisions),
            "learning.learned_at": "$$NOW",
            "learning.due_at": "$$REMOVE",
            "learning.answer": "$$REMOVE",
            "lease": "$$REMOVE",
        }
        selector = _one(record.scope, record.session_id) | {"lease.owner": owner}
        return await self._update(record.scope, selector, update)

    async def decide(self, record: SessionRecord, owner: str, proposal_id: str, decision: Decision) -> None:
        """Note what somebody decided about a suggestion, and give up the lease."""
        selector = _one(record.scope, record.session_id) | {"lease.owner": owner}
        update = {"learning.proposals": _decided({proposal_id: decision}, at="$$NOW"), "lease": "$$REMOVE"}
        await self._update(record.scope, selector, update)

    async def release(self, record: SessionRecord, owner: str) -> None:
        """Give up the lease without having changed anything."""
        selector = _one(record.scope, record.session_id) | {"lease.owner": owner}
        await self._update(record.scope, selector, {"lease": "$$REMOVE"})

    async def fail(self, record: SessionRecord, why: str, *, given_up: bool) -> None:
        """Note why a claimed attempt failed, and whether there is no other."""
        attempts = record.learning.attempts if record.learning else 0
        selector = _one(record.scope, record.session_id) | {"learning.attempts": attempts}
        update: Document = {"learning.failure": {"$literal": clean(why[:_MAX_FAILURE])}}
        if given_up:
            update |= {"learning.gave_up_at": "$$NOW", "learning.due_at": "$$REMOVE"}
        await self._update(record.scope, selector, update)

    async def suggestions(self, scope: UserScope, *, sessions: int = 0) -> list[tuple[SessionRecord, Proposal]]:
        """What waits for somebody to accept or decline it, newest first, each with its session.

        Args:
            scope: the person.
            sessions: of so many sessions at most; 0 for all.
        """
        selector = scope.filter | {"learning.proposals.state": "suggested"}
        documents = await self._encryption.read(
            SESSIONS, lambda: self._sessions.find(selector, {"report": 0}).limit(sessions).to_list(), scope
        )
        found = [
            (record, proposal)
            for record in map(record_of, documents)
            for proposal in (record.learning.proposals if record.learning else ())
            if proposal.state == "suggested"
        ]
        return sorted(found, key=lambda each: each[1].said_at, reverse=True)

    async def forget(self, scope: UserScope, labels: Sequence[str] | None, at: datetime) -> None:
        """Delete proposals of these labels, all for None, and whatever waits: nothing said before `at` is stored."""
        gone: list[Document] = [{"$in": ["$$each.state", ["proposed", "suggested"]]}]
        if labels is not None:
            gone.append({"$in": ["$$each.label", {"$literal": list(labels)}]})
        kept = {"$filter": {"input": _PROPOSALS, "as": "each", "cond": {"$not": {"$or": gone}}}}
        update = {"learning.proposals": [] if labels is None else kept, "learning.answer": "$$REMOVE"}
        selector = scope.filter | {"learning.proposals.0": {"$exists": True}, "started_at": {"$lte": at}}
        await operations.write(lambda: self._sessions.update_many(selector, [{"$set": update}]))

    async def stop(self, scope: UserScope) -> None:
        """Learn nothing more from the person's sessions, as they withdrew their consent."""
        given_up = {
            "learning.gave_up_at": "$$NOW",
            "learning.due_at": "$$REMOVE",
            "learning.answer": "$$REMOVE",
            "learning.failure": NOT_AGREED,
        }
        selector = scope.filter | {"learning.due_at": {"$exists": True}}
        await operations.write(lambda: self._sessions.update_many(selector, [{"$set": given_up}]))

    async def _update(self, scope: UserScope, selector: Document, update: Document) -> SessionRecord | None:
        document = await operations.write(
            lambda: self._sessions.find_one_and_update(
                selector, [{"$set": update}], projection={"report": 0}, return_document=ReturnDocument.AFTER
            )
        )
        if document is None:
            return None
        await self._encryption.open(SESSIONS, [document], scope)
        return record_of(document)


def dropped(proposal: Proposal, reason: str) -> Proposal:
    """The proposal without what must not be kept."""
    return replace(proposal, label="", content="", state="dropped", reason=reason)


def _decided(decisions: Mapping[str, Decision], at: Any = "$$REMOVE") -> Document:
    """The expression for the proposals with these decisions: what is decided has no content here any more."""
    branches = []
    for name, (state, reason) in decisions.items():
        then: Document = {"state": state, "decided_at": at, "content": ""}
        if state == "dropped":
            then |= {"label": "", "reason": {"$literal": reason}}
        branches.append({"case": {"$eq": ["$$each.id", {"$literal": name}]}, "then": then})
    if not branches:
        return _PROPOSALS
    changed = {"$mergeObjects": ["$$each", {"$switch": {"branches": branches, "default": {}}}]}
    return {"$map": {"input": _PROPOSALS, "as": "each", "in": changed}}


def _one(scope: UserScope, session_id: str) -> Document:
    return scope.filter | {"session_id": session_id}
