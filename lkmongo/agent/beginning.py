"""The beginning of a caller's session on an open store: what belongs to it is opened, and closed after it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from lkmongo import deadlines
from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.limits import Allowance
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.speculation import Speculation
from lkmongo.aio import running
from lkmongo.errors import LkmongoError
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.journal import create_journal
from lkmongo.outbox.outbox import Outbox
from lkmongo.outbox.webhook import Endpoint
from lkmongo.phone_numbers import masked
from lkmongo.search.choose import strategy_for
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.ticket import Ticket

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder


@asynccontextmanager
async def begin_session(
    settings: Settings,
    store: Store,
    embedder: Embedder,
    scope: UserScope,
    *,
    guest: bool,
    session_id: str,
    room_name: str,
    participant_identity: str | None = None,
    agent: str | None = None,
    agent_participant: str | None = None,
    livekit: str | None = None,
    ticket: Ticket | None = None,
    trust: str | None = None,
) -> AsyncIterator[CallerSession]:
    """Begin a session on an open store, loading the caller in the background; close what it opened afterwards.

    Args:
        settings: choose the search strategy, and the folder of the journal.
        store: the database.
        embedder: makes vectors.
        scope: the caller.
        guest: remember the caller for this session only.
        session_id: the session's id in the database.
        room_name: the LiveKit room.
        participant_identity: the identity of the participant who is served.
        agent: the agent name to dispatch another worker by, if this one dies.
        agent_participant: the agent's own identity in the room.
        livekit: the host of the LiveKit server or project.
        ticket: of the seal that says who the caller is.
        trust: of a call by telephone that is resumed, see `SessionRecord`.
    """
    record = SessionRecord(
        session_id,
        scope,
        masked(room_name),  # livekit-sip names rooms and participants by the caller's number
        SessionStatus.ACTIVE,
        now(),
        participant_identity=participant_identity and masked(participant_identity),
        agent=agent,
        agent_participant=agent_participant,
        livekit=livekit,
        ticket=ticket,
        trust=trust,
    )
    store.encryption.forget(scope)  # fetched with their slots: somebody erased elsewhere has another key now
    outbox = Outbox(store, record, functools.partial(create_journal, settings))
    recorder = Recorder(outbox)
    allowance = Allowance(settings.limits_of(scope.tenant_id))
    caller = Caller(store, embedder, outbox, guest=guest, tenants=settings.tenant_policies(), allowance=allowance)
    search = strategy_for(settings, store.db, embedder)

    async def warm_search() -> None:
        await caller.preload()  # first: the caller's own data, on the few connections
        await search.warm()

    async def warm_up() -> None:
        async with running(warm_search()) as warming:
            # Loading an embedding model blocks the interpreter for half a second: not while MongoDB's first answer is
            # awaited, and not in a later turn either.
            await asyncio.wait({warming}, timeout=deadlines.USUAL_PRELOAD)
            with suppress(LkmongoError):  # it is reported when a search needs the embedder
                await embedder.warm()
            await warming

    async with running(warm_up()):
        await asyncio.sleep(0)  # sends its first read before the block runs
        try:
            speculation = Speculation(search, lambda: caller.scope.tenant) if settings.speculation else None
            session = CallerSession(session_id, room_name, caller, store, search, recorder, speculation)
            session.webhook = Endpoint.of(settings)
            yield session
        finally:
            await recorder.lease.release()
            await outbox.abandon()
            await search.close()
