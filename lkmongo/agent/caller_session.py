"""The session of a caller: who they are, the store, the search and the record. It outlives a handoff between agents."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines, telemetry
from lkmongo.agent.caller import Caller
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.speculation import LIMIT, Speculation
from lkmongo.agent.status_line import StatusLines
from lkmongo.agent.turns import redact_secrets
from lkmongo.aio import running
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import LkmongoError
from lkmongo.model import Memory, Order, Passage, SessionRecord, SessionStatus, Turn, UserScope, now
from lkmongo.outbox.journal import create_journal
from lkmongo.outbox.outbox import Outbox
from lkmongo.outbox.recovery import recover_and_log
from lkmongo.search.choose import strategy_for
from lkmongo.search.strategy import SearchResult, SearchStrategy
from lkmongo.settings import Settings
from lkmongo.store.open import Store, open_store
from lkmongo.store.seed.seeding import prepare

if TYPE_CHECKING:
    from livekit.agents import AgentSession

    from lkmongo.embed.base import Embedder


logger = logging.getLogger(__name__)

FORGET_TOOL = "forget_detail"
"""The tool that forgets: a session in which it was called leaves no gist for the next one."""


@dataclass(slots=True)
class CallerSession:
    """The `userdata` of an AgentSession; tools reach it as `context.userdata`."""

    session_id: str
    room_name: str
    caller: Caller
    store: Store
    search: SearchStrategy
    recorder: Recorder
    speculation: Speculation | None = None
    status_lines: StatusLines = field(default_factory=StatusLines)
    before: tuple[Turn, ...] = ()
    """The turns with an earlier agent, whose worker died."""
    resumed: bool = False
    ended_by_agent: bool = False
    ending: bool = False
    _identifying: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self.caller.spoken_secrets = lambda: redact_secrets(self.said).secrets

    @property
    def said(self) -> list[Turn]:
        """The conversation so far, including that with an earlier agent."""
        return [*self.before, *self.recorder.turns]

    @property
    def scope(self) -> UserScope:
        """Whose data this session may read and write."""
        return self.caller.scope

    def attach(self, session: AgentSession[Any]) -> None:
        """Listen to an AgentSession: record it, and search while the caller speaks."""
        telemetry.share_with_livekit()
        self.recorder.attach(session)
        if self.speculation:
            self.speculation.attach(session)
            self.recorder.facts["speculation"] = self.speculation.report

    def resume_after(self, turns: Sequence[Turn]) -> None:
        """Resume a session that was interrupted after these turns."""
        self.resumed = True
        self.before = tuple(turns)
        self.recorder.lease.backdate(min((turn.created_at for turn in turns), default=None))
        if any(turn.name == FORGET_TOOL and not turn.is_error for turn in turns):
            self.caller.forgot_something = True

    async def order(self, order_id: str) -> Order | None:
        """One of the caller's own orders, or None.

        Raises:
            DatabaseError: it could not be read.
            InvalidIdError: that is not a valid order number.
        """
        return await self.store.breaker.read(lambda: self.store.orders.get(self.scope, order_id))

    async def latest_orders(self, limit: int) -> list[Order]:
        """The caller's own latest orders.

        Raises:
            DatabaseError: they could not be read.
        """
        return await self.store.breaker.read(lambda: self.store.orders.latest(self.scope, limit))

    async def search_knowledge(self, query: str) -> SearchResult[Passage]:
        """Search the tenant's knowledge, reusing a search that was started while the caller spoke.

        Raises:
            DatabaseError: it could not be searched.
        """

        async def search() -> SearchResult[Passage]:
            if self.speculation and (early := await self.speculation.knowledge(query)):
                return early
            return await self.search.knowledge(self.scope.tenant, query, limit=LIMIT)

        return await self.store.breaker.watch(search, self.store.ping)

    async def search_memories(self, query: str) -> list[Memory]:
        """Search the caller's memories, reusing a vector that was made while they spoke."""
        return await self.caller.search(
            query, vector_of=self.speculation.similar_query(query) if self.speculation else None
        )

    async def identify(self, scope: UserScope) -> bool:
        """Turn a guest into the person they turned out to be, who gets the conversation so far as well.

        Returns:
            False if the caller is no guest, was erased, or the session is ending and its record is being completed.
        """
        async with self._identifying:  # two requests may arrive at once
            if self.ending or not self.caller.guest or self.recorder.erased:
                return False
            await self.recorder.change_scope(scope)
            self.caller.identify(scope)
            self.recorder.start()
            return True


@asynccontextmanager
async def open_session(
    settings: Settings,
    scope: UserScope,
    *,
    guest: bool,
    session_id: str,
    room_name: str,
    on_status: Callable[[str], None],
) -> AsyncIterator[CallerSession]:
    """Open the store and begin a session, with the caller loaded if possible; close everything afterwards.

    An unreachable MongoDB does not prevent the session: `caller.load_error` then says why.

    Raises:
        SettingsError: a setting is wrong.
        EmbeddedError: the embedded mongod cannot run here.
    """
    async with AsyncExitStack() as stack:
        embedder = embedder_for(settings)
        stack.push_async_callback(embedder.close)
        store = await stack.enter_async_context(open_store(settings, on_status=on_status))
        if store.embedded:
            await prepare(store.db, embedder, on_status=on_status, customer=None if guest else scope)
        session = await stack.enter_async_context(
            begin_session(settings, store, embedder, scope, guest=guest, session_id=session_id, room_name=room_name)
        )
        await session.caller.preload()
        async with running(recover_and_log(settings, store)):
            yield session


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
    """
    record = SessionRecord(
        session_id,
        scope,
        room_name,
        SessionStatus.ACTIVE,
        now(),
        participant_identity=participant_identity,
        agent=agent,
        agent_participant=agent_participant,
        livekit=livekit,
    )
    outbox = Outbox(store, record, functools.partial(create_journal, settings))
    recorder = Recorder(outbox)
    caller = Caller(store, embedder, outbox, guest=guest)
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
            yield CallerSession(session_id, room_name, caller, store, search, recorder, speculation)
        finally:
            await recorder.lease.release()
            await outbox.abandon()
