"""Storing an operation: the one place that does it, for a live session, its retries and its recovery.

Each operation can be stored again at any time, in part or as a whole: the newer of two values wins, a turn is stored
once, and an end does not replace a later one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lkmongo.consent import Consent
from lkmongo.model import LastSession, SessionRecord, SessionStatus, UserScope
from lkmongo.outbox.lease import Lease
from lkmongo.outbox.operations import (
    AddTurn,
    AmendTurn,
    CountRedacted,
    End,
    EndFact,
    FillProfile,
    Forget,
    ForgetCalls,
    LinkPhone,
    MoveGuest,
    NoteConsent,
    Notify,
    Operation,
    Remember,
    SaveGist,
    SetProfile,
    TakeBack,
    UnlinkPhone,
)
from lkmongo.store.open import Store
from lkmongo.store.people.forget import forget
from lkmongo.store.people.merge import move_own
from lkmongo.store.people.offers import offer_told
from lkmongo.store.people.take_back import take_back, without_data
from lkmongo.store.sessions.documents import in_time_order, summary_of
from lkmongo.store.sessions.sessions import TakenError


@dataclass(slots=True)
class Target:
    """Where the operations of a session go.

    Attributes:
        store: the database.
        record: the session as it began.
        owner: who holds its lease.
        lease: the lease of a live session; None when it is recovered.
        next_seq: the number of the next turn; None if other turns, or these, may be stored already.
    """

    store: Store
    record: SessionRecord
    owner: str
    lease: Lease | None = None
    next_seq: int | None = None


async def apply(  # noqa: C901, PLR0911, PLR0912 - one branch for each operation
    operations: Sequence[Operation], to: Target, *, fresh: bool = False
) -> int:
    """Store an operation, or several turns.

    Args:
        operations: one operation, or turns only.
        to: whose they are.
        fresh: it was made just now and not tried before, so it is newer than what is stored; this saves the round trips
            to find out.

    Returns:
        How many changed what is stored.

    Raises:
        DatabaseError: MongoDB failed; some of it may be stored.
        InvalidTextError: a label or a value is not allowed.
        SupersededError: another agent has taken over the session.
    """
    store, scope = to.store, to.record.scope
    match operations[0]:
        case Remember() as told:
            return await _remember(told, to, fresh=fresh)
        case EndFact(at=at, label=label, valid_to=valid_to):
            return int(await store.history.end(scope, label, at, valid_to))
        case Forget(at=at, label=label, calls=calls):
            return int(await forget(store, scope, [label], at=at, unless_newer=not fresh, calls=calls) > 0)
        case ForgetCalls(at=at, words=words):
            return await store.summaries.forget(scope, words, before=at)
        case FillProfile(at=at, field=field, value=value):
            return int(await store.users.fill_field(scope, field, value, at))
        case SetProfile(field=field, value=value) if fresh:
            await store.users.set_field(scope, field, value)
            return 1
        case SetProfile(at=at, field=field, value=value):
            return int(await store.users.set_field_if_newer(scope, field, value, at))
        case SaveGist(at=at, gist=gist, since=since):
            began, last = since or to.record.started_at or at, LastSession(at, str(gist), to.record.session_id)
            return int(await store.users.set_last_session(scope, last, started_at=began))
        case NoteConsent(consent=consent):
            return await _note(consent, to)
        case LinkPhone(at=at, phone_hash=phone_hash, last_digits=last_digits):
            return int(not scope.is_guest and await store.phones.note(scope, phone_hash, last_digits, by="call", at=at))
        case UnlinkPhone() as unlinked:
            return await store.phones.drop_newcomer(unlinked.scope, unlinked.phone_hash)
        case AddTurn():
            return await _add([each for each in operations if isinstance(each, AddTurn)], to)
        case AmendTurn(item_id=item_id, content=content):
            return await store.sessions.amend(scope, to.record.session_id, {item_id: {"content": content}})
        case CountRedacted(counts=counts):
            return int(await store.sessions.count_redacted(scope, to.record.session_id, counts))
        case MoveGuest() as moved:
            return await _move(moved, to)
        case TakeBack() as taken:
            return await _take_back(taken, to)
        case End() as end:
            return await _end(end, to)
        case Notify(event_id=event_id):
            return int(await store.webhooks.announce(scope, to.record.session_id, event_id))
        case unknown:
            raise TypeError(f"{type(unknown).__name__} cannot be stored")


async def _remember(told: Remember, to: Target, *, fresh: bool) -> int:
    store, scope = to.store, to.record.scope
    if told.of_guest and told.is_offered_to(await store.memories.recall(scope, told.label)):
        await offer_told(store.db, scope, told.entry, origin=to.record.session_id)
        return 0
    more: dict[str, Any] = {"valid_from": told.valid_from, "source": told.source, "dates": told.dates}
    if fresh:
        # The caller waits for this one: the former value is moved afterwards, see `Caller`.
        await store.memories.remember(scope, told.label, told.content, at=told.at, **more)
        return 1
    if not await store.memories.remember_if_newer(scope, told.label, told.content, told.at, **more):
        return 0
    await store.history.settle(scope, told.label)
    return 1


async def _note(consent: Consent, to: Target) -> int:
    if to.record.scope.is_guest:
        return 0  # of whom nothing is kept but the record of this session, which says so itself
    is_latest = await to.store.users.set_consent(to.record.scope, consent)
    if is_latest and not consent.allows:
        await to.store.learning.stop(to.record.scope)
    return int(is_latest)


async def _add(operations: Sequence[AddTurn], to: Target) -> int:
    turns = in_time_order([(each.turn, each.numbered) for each in operations])
    scope, session_id, sessions = to.record.scope, to.record.session_id, to.store.sessions
    if to.next_seq is not None:
        turns = [(replace(turn, seq=seq), True) for seq, (turn, _) in enumerate(turns, to.next_seq)]
        try:
            await sessions.append(scope, session_id, [turn for turn, _ in turns])
        except TakenError:
            # An agent that seemed dead wrote after all, or its journal was recovered later.
            if to.lease:
                await to.lease.check()
        else:
            to.next_seq += len(turns)
            return len(turns)
    missing = await sessions.append_missing(scope, session_id, turns)
    to.next_seq = await sessions.next_seq(scope, session_id) if to.lease else None
    return missing


async def _move(operation: MoveGuest, to: Target) -> int:
    before, after = operation.scope, to.record.scope
    if before == after:
        return 0
    await move_own(to.store.db, before, after)
    missing = await _move_turns(before, to)
    if before.is_guest:
        await to.store.encryption.destroy(before)
    return missing


async def _take_back(operation: TakeBack, to: Target) -> int:
    taken = await take_back(to.store, operation.scope, to.record.session_id, operation.known)
    if operation.scope != to.record.scope:
        await _move_turns(operation.scope, to, with_data=False)
    return int(bool(taken))


async def _move_turns(before: UserScope, to: Target, *, with_data: bool = True) -> int:
    """Move the session's turns from another scope to its own, and delete its record there.

    Without data, which tools gave of somebody who was not the one who spoke.
    """
    after, session_id, sessions = to.record.scope, to.record.session_id, to.store.sessions
    # Turns that an earlier agent recorded, too.
    found = await sessions.turns(before, session_id)
    turns = [(turn if with_data else without_data(turn), True) for turn in found]
    missing = await sessions.append_missing(after, session_id, turns)
    if missing and to.lease:
        to.next_seq = await sessions.next_seq(after, session_id)
    await sessions.discard(before, session_id)
    return missing


async def _end(operation: End, to: Target) -> int:
    summary = summary_of(operation.summary or None, at=operation.ended_at)
    # A live session's own document says so, without a further round trip.
    began = to.record.started_at or operation.ended_at
    if summary and to.lease is None and await to.store.users.forgot_after(to.record.scope, began):
        summary = None
    record = replace(
        to.record,
        status=SessionStatus.COMPLETE,
        ended_at=operation.ended_at,
        close_reason=str(operation.reason),
        report=operation.report,
        summary=summary,
    )
    save = functools.partial(to.store.sessions.save, record, owner=to.owner, learn=operation.learn)
    if to.lease is None:
        return int(await save())
    if not await save(keep_lease=True):
        await to.lease.check()  # it may have expired or been taken over since the last check
        if not await save(keep_lease=True):
            return 0
    to.lease.ended = True
    return 1
