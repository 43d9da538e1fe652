"""The repository of sessions: a document for each session, and one for each of its turns.

So no document grows with the length of a session towards the limit of 16 MB, and sessions are listed without reading
what was said. What operators read across users is in `listing`, `search` and `stats`; the mapping is in `documents`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import InsertOne, ReturnDocument, UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError

from lkmongo import deadlines
from lkmongo.errors import DatabaseError
from lkmongo.model import SessionRecord, SessionStatus, Turn, UserScope, clean
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.cipher import AnyCipher
from lkmongo.store.mongo.encryption import Encryption, resealed, sealed
from lkmongo.store.mongo.schema import SESSIONS, STAMP, TURNS, VERSION
from lkmongo.store.sessions.documents import (
    HAS_RUN_OUT,
    LOOKING,
    RECOVERING,
    VECTOR,
    LeaseState,
    host_name,
    is_gone,
    is_held_by,
    lease,
    placed,
    record_of,
    summary_fields,
    turn_fields,
    turn_of,
    unanswered_fields,
)
from lkmongo.store.sessions.learning import due as learning_due
from lkmongo.store.sessions.webhooks import due, new_event_id

Document = dict[str, Any]

LIVE: Document = {"$expr": {"$gt": ["$lease.until", "$$NOW"]}}
"""The query for sessions whose lease a process holds: they go on, or their last writes are under way."""
_LOST: Document = {"status": SessionStatus.ACTIVE.value, "$expr": HAS_RUN_OUT}
NO_SUMMARY = "no_summary"
"""The field of a session under way in which something was forgotten: it stores no summary, which might tell it."""
LOST = "lost"
"""The close reason of a session whose lease nobody renewed."""
RESUMABLE_MS = 60_000
"""How long after an interruption another agent may continue a session, if its caller is still there."""
CONSOLE = "console"
"""The room of sessions that have none."""
_BATCH = 500
_DUPLICATE_KEY = 11_000


_VERSION = {"$ifNull": [f"${VERSION}", STAMP[VERSION]]}
_NOBODY_CAME: Document = {"$eq": ["$status", SessionStatus.NO_AGENT.value]}


class TakenError(DatabaseError):
    """Another turn has the number of this one."""

    code = "taken"


class Sessions:
    """The collections `sessions` and `turns`."""

    def __init__(self, db: AsyncDatabase[Document], *, announces: bool = False, learns: bool = False) -> None:
        """Use the collections of `db`; see `Store.of`."""
        self.announces = announces
        self._learns = learns
        self._encryption = Encryption.of(db)
        self._sessions = db[SESSIONS]
        self._turns = db[TURNS]

    async def open(self, record: SessionRecord, owner: str) -> bool:
        """Record that a session has started, and give its lease to `owner`.

        Returns:
            Whether it is new, or no agent had come; False when one that was sent into the room again continues it.
        """
        selector = _one(record.scope, record.session_id)
        update = {
            "room_name": {"$literal": clean(record.room_name)},
            "status": {"$literal": clean(record.status)},
            "started_at": _began(record),
            "lease": lease(owner),
            VERSION: _VERSION,
        }
        update |= {name: {"$cond": [_NOBODY_CAME, "$$REMOVE", f"${name}"]} for name in ("ended_at", "close_reason")}
        where = {
            "participant": record.participant_identity,
            "agent": record.agent,
            "agent_participant": record.agent_participant,
            "livekit": record.livekit,
            "trust": record.trust,
        }
        update |= {name: {"$literal": clean(value)} for name, value in where.items() if value is not None}
        if record.ticket and record.ticket.visitor:
            update["ticket"] = {"visitor": record.ticket.visitor, "made_at": record.ticket.made_at}
        before = await operations.write(
            lambda: self._sessions.find_one_and_update(selector, [{"$set": update}], {"status": 1}, upsert=True)
        )
        return before is None or before.get("status") == SessionStatus.NO_AGENT

    async def add_unanswered(self, record: SessionRecord) -> bool:
        """Record that no agent came, unless there is a session of that room; the agent that comes late replaces it.

        Returns:
            Whether it was written; False if any process has recorded this room, in whatever way.
        """
        in_room = record.scope.tenant.filter | {"session_id": record.session_id}
        if await operations.read(lambda: self._sessions.find_one(in_room, {"_id": 1})):
            return False
        _, there = await operations.bulk(self._sessions, [InsertOne(unanswered_fields(record))])
        return not there

    async def next_seq(self, scope: UserScope, session_id: str) -> int:
        """The number of the session's next turn."""
        selector = _one(scope, session_id)
        last = await operations.read(lambda: self._turns.find_one(selector, {"_id": 0, "seq": 1}, sort=[("seq", -1)]))
        return int(last["seq"]) + 1 if last else 0

    async def renew(self, scope: UserScope, session_id: str, owner: str) -> LeaseState:
        """Renew the session's lease, unless another agent has taken it or has completed the session.

        This revives a session that counted as dead because its process could not reach MongoDB. A session that its
        owner has completed stays complete, and the owner keeps the lease until the last write is done.
        """
        whose = {"$ifNull": ["$lease.owner", ""]}
        is_free = {"$or": [{"$regexMatch": {"input": whose, "regex": f"{LOOKING}$"}}, HAS_RUN_OUT]}
        goes_on = {"$ne": ["$status", SessionStatus.COMPLETE.value]}
        may = {"$or": [{"$eq": [whose, {"$literal": owner}]}, {"$and": [is_free, goes_on]}]}
        revives = {"$and": [may, goes_on]}
        update = {
            "lease": {"$cond": [may, lease(owner), "$lease"]},
            "status": {"$cond": [revives, SessionStatus.ACTIVE.value, "$status"]},
        } | {
            name: {"$cond": [revives, "$$REMOVE", f"${name}"]}
            for name in ("ended_at", "close_reason", "interrupted_at")
        }
        document = await operations.write(
            lambda: self._sessions.find_one_and_update(
                _one(scope, session_id),
                [{"$set": update}],
                projection={"lease": 1, "status": 1},
                return_document=ReturnDocument.AFTER,
            )
        )
        if document is None:
            return "missing"
        holder = (document.get("lease") or {}).get("owner", "")
        if holder == owner:
            return "held"
        if document["status"] == SessionStatus.COMPLETE.value:
            return "complete"
        return "recovering" if holder.endswith(RECOVERING) else "another's"

    async def claim(self, record: SessionRecord, owner: str, *, instead_of: str, make: bool = True) -> bool:
        """Take over the lease of a session whose process is gone.

        Args:
            record: the session as it started.
            owner: the new owner.
            instead_of: the process that held the lease and is gone; empty to wait until the lease has run out.
            make: insert the document if it is missing. A document that was seen before and is missing now may be an
                erased user's.

        Returns:
            Whether it was taken; False when another process continues the session.
        """
        # The condition is part of the update: MongoDB allows no $expr in the query of an upsert.
        free = {"$or": [is_held_by(instead_of), HAS_RUN_OUT]} if instead_of else HAS_RUN_OUT
        goes_on = {"$and": [free, {"$ne": ["$status", SessionStatus.COMPLETE.value]}]}
        update = {
            "room_name": {"$ifNull": ["$room_name", {"$literal": clean(record.room_name)}]},
            "status": {"$cond": [goes_on, SessionStatus.ACTIVE.value, "$status"]},
            "started_at": _began(record),
            "lease": {"$cond": [free, lease(owner), "$lease"]},
            VERSION: _VERSION,
        }
        selector = _one(record.scope, record.session_id)
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
        """Mark a session as interrupted at its last turn, and remove its lease.

        Args:
            scope: the user.
            session_id: the session.
            reason: the close reason.
            for_good: whether no agent may continue it.

        Returns:
            Whether it was marked; False when it is complete (its lease is removed all the same) or missing.
        """
        selector = _one(scope, session_id)
        unended = selector | {"status": {"$ne": SessionStatus.COMPLETE.value}}
        if await self._interrupt(unended, scope, session_id, reason, for_good=for_good):
            return True
        await operations.write(lambda: self._sessions.update_one(selector, {"$unset": {"lease": ""}}))
        return False

    async def _interrupt(
        self, selector: Document, scope: UserScope, session_id: str, reason: str, *, for_good: bool = False
    ) -> bool:
        turns = _one(scope, session_id)
        last = await operations.read(
            lambda: self._turns.find_one(turns, {"_id": 0, "created_at": 1}, sort=[("seq", -1)])
        )
        update = {
            "status": SessionStatus.INTERRUPTED.value,
            "ended_at": last["created_at"] if last else "$started_at",
            "close_reason": reason,
            "interrupted_at": None if for_good else "$$NOW",
        }
        # Not while another agent may still be sent to continue it.
        later = {"$add": ["$$NOW", 0 if for_good else {"$cond": ["$agent", RESUMABLE_MS, 0]}]}
        if self.announces:
            update["webhook"] = due(new_event_id(), SessionStatus.INTERRUPTED, at=later)
        if self._learns and last and not scope.is_guest:
            update["learning"] = learning_due(last["created_at"], at=later)
        result = await operations.write(
            lambda: self._sessions.update_one(selector, [{"$set": update}, {"$unset": "lease"}])
        )
        return result.matched_count == 1

    async def lost(self) -> list[tuple[UserScope, str]]:
        """Scope and id of the sessions, of all users, whose lease has run out."""
        fields = {"_id": 0, "tenant_id": 1, "user_id": 1, "session_id": 1}
        documents = await operations.read(lambda: self._sessions.find(_LOST, fields).to_list())
        return [(record.scope, record.session_id) for record in map(record_of, documents)]

    async def expired(self, agent: str, livekit: str) -> list[SessionRecord]:
        """The sessions of an agent, of all users, whose process is gone and that another agent could continue.

        Args:
            agent: the name its workers register with.
            livekit: the host of the LiveKit server, as another server may have agents of the same name. Older versions
                recorded no host; such a session matches any.
        """
        interrupted = {
            "status": SessionStatus.INTERRUPTED.value,
            "$expr": {"$gt": ["$interrupted_at", {"$subtract": ["$$NOW", RESUMABLE_MS]}]},
        }
        selector = {"$or": [_LOST, interrupted], "agent": agent, "livekit": {"$in": [livekit, None]}}
        return [record_of(each) for each in await self._resumable(selector)]

    async def orphaned(self, agent: str, livekit: str) -> list[tuple[SessionRecord, str]]:
        """Active sessions of an agent whose process on this machine is gone, even before the lease runs out.

        Returns:
            Each session with the owner of its lease.
        """
        selector = {
            "status": SessionStatus.ACTIVE.value,
            "agent": agent,
            "livekit": {"$in": [livekit, None]},
            "lease.owner": {"$regex": f"^{re.escape(host_name())}/"},
        }
        found = [(record_of(each), each["lease"]["owner"]) for each in await self._resumable(selector)]
        return [(record, owner) for record, owner in found if is_gone(owner)]

    async def _resumable(self, selector: Document) -> list[Document]:
        # Nobody reads what was said: an agent that continues reads the turns.
        shown = {"report": 0, "summary": 0, "learning": 0}
        return await operations.read(lambda: self._sessions.find(selector, shown).limit(_BATCH).to_list())

    async def left_off(self, scope: UserScope, session_id: str) -> list[Turn]:
        """The turns of an interrupted session; none when there is no such session or it is complete."""
        record = await self.get(scope, session_id)
        if record is None or record.status is SessionStatus.COMPLETE:
            return []
        return await self.turns(scope, session_id)

    async def interrupt_lost(self) -> list[tuple[UserScope, str]]:
        """Mark the sessions, of all users, whose lease has run out as interrupted; returns their scopes and ids."""
        interrupted = []
        for scope, session_id in await self.lost():
            # Unless it was renewed meanwhile, or taken by another process that continues it.
            selector = _LOST | _one(scope, session_id)
            if await self._interrupt(selector, scope, session_id, LOST):
                interrupted.append((scope, session_id))
        return interrupted

    async def discard(self, scope: UserScope, session_id: str) -> None:
        """Delete a session and its turns."""
        selector = _one(scope, session_id)
        await operations.write(lambda: self._turns.delete_many(selector))
        await operations.write(lambda: self._sessions.delete_one(selector))

    async def live(self, scope: UserScope) -> list[str]:
        """The ids of the user's sessions that go on."""
        documents = await operations.read(
            lambda: self._sessions.find(scope.filter | LIVE, {"_id": 0, "session_id": 1}).to_list()
        )
        return [document["session_id"] for document in documents]

    async def calls_before(self, scope: UserScope, session_id: str, began: datetime, *, within: timedelta) -> int:
        """How many calls in rooms, of those that go on, the user had begun before this one.

        Args:
            scope: the user.
            session_id: this session.
            began: when it began; of two that began at once, the one with the smaller id is the earlier.
            within: only those that began so long before at most.
        """
        earlier = {"started_at": began, "session_id": {"$lt": session_id}}
        selector = scope.filter | {
            "started_at": {"$gt": began - within - timedelta(seconds=deadlines.LEASE), "$lte": began},
            "session_id": {"$ne": session_id},
            "$or": [{"started_at": {"$lt": began}}, earlier],
            "livekit": {"$ne": None},
        }
        return await operations.read(lambda: self._sessions.count_documents(selector | LIVE))

    async def save(
        self, record: SessionRecord, *, owner: str | None = None, keep_lease: bool = False, learn: bool = False
    ) -> bool:
        """Write the record; a session that has ended loses its lease.

        Args:
            record: the session.
            owner: write only while this owner holds the lease, and unless a later end is recorded.
            keep_lease: keep the lease until `let_go`, because other writes of the session are under way.
            learn: let it be due to be learned from.

        Returns:
            Whether it was written.
        """
        plain = {
            "room_name": record.room_name,
            "status": record.status,
            "ended_at": record.ended_at,
            "close_reason": record.close_reason,
            "report": record.report,
        }
        fields: Document = {name: {"$literal": value} for name, value in clean(plain).items()}
        if record.summary:
            # What a model has made of this very end stays, and nothing is told where something was forgotten.
            is_better = [{"$eq": ["$summary.by", "model"]}, {"$eq": ["$ended_at", record.ended_at]}]
            stays = {"$or": [{"$and": is_better}, {"$eq": [f"${NO_SUMMARY}", True]}]}
            told = {"session_id": record.session_id, "summary": clean(summary_fields(record.summary))}
            sealed(await self._encryption.cipher(record.scope), SESSIONS, told)
            fields["summary"] = {"$cond": [stays, "$summary", {"$literal": told["summary"]}]}
        if record.started_at:
            fields["started_at"] = {"$min": ["$started_at", record.started_at]}
        if not (keep_lease or record.status is SessionStatus.ACTIVE):
            fields["lease"] = "$$REMOVE"
        if learn:
            fields["learning"] = learning_due(record.ended_at)
        selector = _one(record.scope, record.session_id)
        later = {"status": SessionStatus.COMPLETE.value, "ended_at": {"$gt": record.ended_at}}
        held = {} if owner is None else {"lease.owner": owner, "$nor": [later]}
        update = [{"$set": fields | {VERSION: _VERSION}}]
        result = await operations.write(
            lambda: self._sessions.update_one(selector | held, update, upsert=owner is None)
        )
        return result.matched_count == 1 or result.upserted_id is not None

    async def let_go(self, scope: UserScope, session_id: str, owner: str) -> None:
        """Give up the lease of a session that has ended, after its last write."""
        selector = _one(scope, session_id) | {"lease.owner": owner}
        await operations.write(lambda: self._sessions.update_one(selector, {"$unset": {"lease": ""}}))

    async def append(self, scope: UserScope, session_id: str, turns: Sequence[Turn]) -> None:
        """Write turns; those that are stored already stay unchanged.

        Raises:
            TakenError: another turn has the number of one of them; the turns before that one are written.
        """

        async def write(batch: list[UpdateOne]) -> None:
            try:
                await self._turns.bulk_write(batch, ordered=True)
            except BulkWriteError as error:
                if any(each.get("code") == _DUPLICATE_KEY for each in (error.details or {}).get("writeErrors", [])):
                    raise TakenError from error
                raise

        cipher = await self._encryption.cipher(scope)
        for start in range(0, len(turns), _BATCH):
            batch = [
                UpdateOne(
                    # With the item's id, so that a number that another turn has fails as a duplicate key.
                    _one(scope, session_id) | {"seq": turn.seq, "item_id": clean(turn.item_id)},
                    {"$setOnInsert": _sealed_turn(cipher, session_id, turn)},
                    upsert=True,
                )
                for turn in turns[start : start + _BATCH]
            ]
            await operations.write(functools.partial(write, batch))

    async def append_missing(self, scope: UserScope, session_id: str, turns: Sequence[tuple[Turn, bool]]) -> int:
        """Write the turns whose items are not stored yet, at their numbers.

        Where another process has continued the session and used these numbers, later turns are renumbered to make room:
        only call it while nobody else writes.

        Args:
            scope: the user.
            session_id: the session.
            turns: in order, each with whether its `seq` is the database's number; if not, it counts from the first
                turn that the process recorded.

        Returns:
            How many were written.
        """
        selector = _one(scope, session_id)

        async def find() -> list[tuple[str, int, datetime]]:
            cursor = self._turns.find(selector, {"_id": 0, "item_id": 1, "seq": 1, "created_at": 1}).sort("seq")
            return [(document["item_id"], document["seq"], document["created_at"]) async for document in cursor]

        there = await operations.read(find)
        missing, moved = placed(there, turns)
        for start in range(0, len(moved), _BATCH):  # last one first, so that each new number is free
            batch = [
                UpdateOne(selector | {"seq": before, "item_id": item_id}, {"$set": {"seq": after}})
                for item_id, before, after in moved[start : start + _BATCH]
            ]
            await operations.write(lambda batch=batch: self._turns.bulk_write(batch, ordered=True))  # type: ignore[misc]
        await self.append(scope, session_id, missing)
        return len(missing)

    async def amend(self, scope: UserScope, session_id: str, said: Mapping[str, Mapping[str, str]]) -> int:
        """Replace fields of stored turns, by item id, such as `content`: in one request, as the turns belong together.

        Returns:
            How many of the turns there are.
        """
        cipher = await self._encryption.cipher(scope)
        key = {"session_id": session_id}
        requests = [
            UpdateOne(
                _one(scope, session_id) | {"item_id": clean(item_id)},
                {"$set": resealed(cipher, TURNS, clean(dict(fields)) | key | {"item_id": clean(item_id)})},
            )
            for item_id, fields in said.items()
        ]
        result = await operations.write(lambda: self._turns.bulk_write(requests, ordered=False))
        return result.matched_count

    async def count_redacted(self, scope: UserScope, session_id: str, counts: Mapping[str, int]) -> bool:
        """Note how much of the session was masked or dropped, by kind; returns whether there is such a session."""
        most = {f"redacted.{kind}": count for kind, count in counts.items()}
        selector = _one(scope, session_id)
        result = await operations.write(lambda: self._sessions.update_one(selector, {"$max": most}))
        return result.matched_count == 1

    async def get(self, scope: UserScope, session_id: str) -> SessionRecord | None:
        """One session of the user, with its report."""
        shown = dict.fromkeys(VECTOR, 0)
        selector = _one(scope, session_id)
        document = await self._encryption.read_one(SESSIONS, lambda: self._sessions.find_one(selector, shown), scope)
        return record_of(document) if document else None

    async def recent(self, scope: UserScope, *, limit: int = 50) -> list[SessionRecord]:
        """The user's sessions with their reports, newest first."""
        documents = await self._encryption.read(
            SESSIONS, lambda: self._sessions.find(scope.filter).sort("started_at", -1).limit(limit).to_list(), scope
        )
        return [record_of(document) for document in documents]

    async def turns(self, scope: UserScope, session_id: str) -> list[Turn]:
        """The turns of a session in order."""
        selector = _one(scope, session_id)
        documents = await self._encryption.read(TURNS, lambda: self._turns.find(selector).sort("seq").to_list(), scope)
        return [turn_of(document) for document in documents]


def _sealed_turn(cipher: AnyCipher, session_id: str, turn: Turn) -> Document:
    key = {"session_id": session_id, "item_id": clean(turn.item_id)}
    return {name: value for name, value in sealed(cipher, TURNS, turn_fields(turn) | key).items() if name not in key}


def _one(scope: UserScope, session_id: str) -> Document:
    return scope.filter | {"session_id": session_id}


def _began(record: SessionRecord) -> Document:
    """When a session began; where no agent had come, that was the beginning of a wait."""
    return {"$cond": [_NOBODY_CAME, record.started_at, {"$ifNull": ["$started_at", record.started_at]}]}
