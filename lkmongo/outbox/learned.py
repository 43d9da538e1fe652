"""Storing what was learned of a session: as its own writes are, under its lease, each as said at its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

from lkmongo.after_end import Proposal
from lkmongo.dates import resolve
from lkmongo.errors import DriftError, InvalidTextError, NotFoundError, NotReadyError
from lkmongo.model import SessionRecord, Source, UserScope
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.operations import EndFact, FillProfile, Operation, Remember
from lkmongo.store.open import Store
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.offers import decide_offer, is_offer
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.documents import lease_owner
from lkmongo.store.sessions.learning import Decision

_PAUSES = (0.5, 1.0, 2.0, 3.0)
"""Seconds between attempts to get the lease: a webhook that is being delivered holds it for five at most."""


@asynccontextmanager
async def hold(store: Store, record: SessionRecord, owner: str) -> AsyncIterator[bool]:
    """Hold the lease of a session that is over, which the block gives up; False if the person was erased.

    As in a live session: an erasure sees the lease and waits, or its tombstone is seen here. One that gave up
    waiting is noticed after the block.

    Raises:
        NotReadyError: another process holds it.
    """
    for pause in (*_PAUSES, None):
        if await store.learning.hold(record, owner):
            break
        if pause is None:
            raise NotReadyError(
                f"something else is storing session {record.session_id} at the moment", hint="try again in some seconds"
            )
        await asyncio.sleep(pause)
    tombstones = Tombstones(store.db)
    if await tombstones.bars_session(record):
        await store.learning.release(record, owner)
        yield False
        return
    yield True
    if await tombstones.bars_session(record):
        await sweep_behind(store.db, record.scope, record.session_id)


async def store_proposals(to: Target, proposals: Iterable[Proposal]) -> dict[str, Decision]:
    """Apply the proposals that are to be stored; doing it again changes nothing.

    Returns:
        What became of each, by id.

    Raises:
        DatabaseError: MongoDB failed; some of it may be stored.
    """
    wanted = [each for each in proposals if each.state == "proposed"]
    profile = await to.store.users.get(to.record.scope) if wanted else None
    timezone = profile.timezone if profile else None
    return {each.id: await _store(to, each, timezone) for each in wanted}


async def _store(to: Target, proposal: Proposal, timezone: str | None) -> Decision:
    operation = _operation(to.record.session_id, proposal, timezone)
    try:
        if await apply([operation], to) or await _is_stored(to, proposal):
            return "stored", None
    except InvalidTextError:  # of a release with other limits
        return "dropped", "refused"
    return "dropped", "changed or forgotten since"


def _operation(session_id: str, proposal: Proposal, timezone: str | None) -> Operation:
    at, label = proposal.said_at, proposal.label
    match proposal.kind:
        case "profile":
            return FillProfile(at, label, proposal.content)
        case "ended":
            return EndFact(at, label, proposal.since or at)
        case _:
            source, dates = Source("learned", session_id, proposal.item_id), resolve(proposal.content, at, timezone)
            return Remember(at, label, proposal.content, proposal.since, source, dates)


async def _is_stored(to: Target, proposal: Proposal) -> bool:
    """Whether somebody who died before noting it has stored this."""
    if proposal.kind == "profile":
        profile = await to.store.users.get(to.record.scope)
        return profile is not None and profile.values.get(proposal.label) == proposal.content
    return proposal.kind == "ended" and await to.store.memories.recall(to.record.scope, proposal.label) is None


async def decide(store: Store, scope: UserScope, proposal_id: str, decision: Literal["accepted", "declined"]) -> str:
    """Accept or decline a suggestion, or an offer of what a guest had (see `offers`); returns its label.

    Raises:
        NotFoundError: the person has none of that id.
        DriftError: what it is about was changed or forgotten since; nothing was stored, and it no longer waits.
        NotReadyError: the session is being stored at the moment.
    """
    if is_offer(proposal_id):
        return (await decide_offer(store, scope, proposal_id, accept=decision == "accepted")).label
    found = [pair for pair in await store.learning.suggestions(scope) if pair[1].id == proposal_id]
    if not found:
        raise _no_suggestion(scope, proposal_id)
    ((record, proposal),) = found
    owner = lease_owner()
    async with hold(store, record, owner) as is_ours:
        if not is_ours:
            raise _no_suggestion(scope, proposal_id)
        became: Decision = (decision, None)
        if decision == "accepted":
            to = Target(store, record, owner)
            state, reason = (await store_proposals(to, [replace(proposal, state="proposed")]))[proposal.id]
            became = became if state == "stored" else (state, reason)
        await store.learning.decide(record, owner, proposal_id, became)
    if became[0] == "dropped":
        raise DriftError(
            f"{proposal.label} was not stored", why=f"it was {became[1]}", hint="the suggestion no longer waits"
        )
    return proposal.label


def _no_suggestion(scope: UserScope, proposal_id: str) -> NotFoundError:
    return NotFoundError(f"no suggestion {proposal_id} waits", hint=f"lkmongo memory suggestions {scope.user_id}")
