"""One call: who is on the line, the store in their scope, and the record. It outlives a handoff between agents."""

from __future__ import annotations

import asyncio
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
from lkmongo.agent.turns import discreet
from lkmongo.aio import running
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import LkmongoError
from lkmongo.model import Memory, Order, Passage, Turn, UserScope
from lkmongo.outbox import journal
from lkmongo.outbox.backlog import Backlog
from lkmongo.outbox.recovery import recover_quietly
from lkmongo.search.choose import AtlasWithFallback, strategy_for
from lkmongo.search.strategy import SearchResult, SearchStrategy
from lkmongo.settings import Settings
from lkmongo.store.open import Store, open_store
from lkmongo.store.seed.seeding import prepare

if TYPE_CHECKING:
    from livekit.agents import AgentSession

    from lkmongo.embed.base import Embedder


logger = logging.getLogger(__name__)

FORGET = "forget_detail"
"""The tool by which something is forgotten: no later call is told what a call was about in which that was asked for."""

AT_HAND = 0.2
"""Seconds in which what is known of the caller is there, as a rule."""


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
    """What was said with another agent, whose worker died."""
    resumed: bool = False
    ended_by_agent: bool = False
    ending: bool = False
    _becoming: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        """Let what is not to be remembered be known where something is remembered."""
        self.caller.overheard = lambda: discreet(self.said).secrets

    @property
    def said(self) -> list[Turn]:
        """The conversation so far, with the agent before as well."""
        return [*self.before, *self.recorder.so_far]

    @property
    def scope(self) -> UserScope:
        """Whose data this call may read and write."""
        return self.caller.scope

    def attach(self, session: AgentSession[Any]) -> None:
        """Listen to the session of this call: write its record, and search while the caller speaks."""
        telemetry.share_with_livekit()
        self.recorder.attach(session)
        if self.speculation:
            self.speculation.attach(session)
            self.recorder.facts["speculation"] = self.speculation.report

    def go_on_after(self, turns: Sequence[Turn]) -> None:
        """Take the call for one that was cut off after these turns."""
        self.resumed = True
        self.before = tuple(turns)
        self.recorder.lease.said_since(min((turn.created_at for turn in turns), default=None))
        if any(turn.name == FORGET and not turn.is_error for turn in turns):
            self.caller.forgot_something = True

    async def order(self, order_id: str) -> Order | None:
        """One of the caller's own orders; None when there is none of this number.

        Raises:
            DatabaseError: it could not be read.
            InvalidIdError: that cannot be a number of one.
        """
        return await self.store.breaker.read(lambda: self.store.orders.get(self.scope, order_id))

    async def latest_orders(self, limit: int) -> list[Order]:
        """The caller's own orders that were made last.

        Raises:
            DatabaseError: they could not be read.
        """
        return await self.store.breaker.read(lambda: self.store.orders.latest(self.scope, limit))

    async def search_knowledge(self, query: str) -> SearchResult[Passage]:
        """Search the tenant's knowledge, or take what was found already while the caller spoke.

        Raises:
            DatabaseError: it could not be read.
        """

        async def search() -> SearchResult[Passage]:
            if self.speculation and (early := await self.speculation.knowledge(query)):
                return early
            return await self.search.knowledge(self.scope.tenant, query, limit=LIMIT)

        return await self.store.breaker.watch(search, self.store.ping)

    async def search_memories(self, query: str) -> list[Memory]:
        """Search what is remembered of the caller, with the vector that was made while they spoke where it fits."""
        return await self.caller.search(query, vector_of=self.speculation.nearly(query) if self.speculation else None)

    async def become(self, scope: UserScope) -> bool:
        """Let a guest be the person they have shown to be; what was said so far is theirs, too.

        Returns:
            Whether that was done: a person is never made another one, one who was erased stays a guest, and so does
            one whose call is ending, for its record is being completed.
        """
        async with self._becoming:  # who they are may be told twice at once
            if self.ending or not self.caller.guest or self.recorder.erased:
                return False
            await self.recorder.move_to(scope)
            self.caller.become(scope, self.recorder.lease)
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
    """Open what a call needs, and have its caller looked up; close it all after.

    A MongoDB that is away does not keep the call from beginning: `caller.load_error` says so.

    Raises:
        SettingsError: a setting does not fit.
        EmbeddedError: the embedded mongod cannot run here.
    """
    async with AsyncExitStack() as stack:
        embedder = embedder_for(settings)
        stack.push_async_callback(embedder.close)
        store = await stack.enter_async_context(open_store(settings, on_status=on_status))
        if store.embedded:
            await prepare(store.db, embedder, on_status=on_status, customer=None if guest else scope)
        call = await stack.enter_async_context(
            begin_session(settings, store, embedder, scope, guest=guest, session_id=session_id, room_name=room_name)
        )
        await call.caller.preload()
        async with running(recover_quietly(settings, store)):
            yield call


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
    """Begin a call on a store that is open, and have its caller looked up meanwhile; close what it opened after.

    Args:
        settings: what searches, and where what MongoDB does not take is kept.
        store: the database.
        embedder: makes vectors.
        scope: who calls.
        guest: remember the caller for this call only.
        session_id: the call's name in the database.
        room_name: the room it is in.
        participant_identity: the identity of the one who is served.
        agent: the name that another worker can be sent by, should this one die.
        agent_participant: the agent's own identity in the room.
        livekit: the host of the server, or the project, that the room is on.
    """
    backlog = Backlog(lambda: journal.begin(settings, recorder.record))
    recorder = Recorder(
        store,
        scope,
        session_id,
        room_name,
        backlog,
        participant_identity=participant_identity,
        agent=agent,
        agent_participant=agent_participant,
        livekit=livekit,
    )
    caller = Caller(store, embedder, scope, recorder.lease, backlog, guest=guest)
    search = strategy_for(settings, store.db, embedder)

    async def ready_search() -> None:
        await caller.preload()  # first: the caller's own data, on the few connections
        if isinstance(search, AtlasWithFallback):
            await search.warm()

    async def prepare_to_answer() -> None:
        async with running(ready_search()) as readying:
            # A model that is read keeps all else from running for half a second: not while the first answer of MongoDB
            # is on its way, and not in the turn after one that was waited for in vain.
            await asyncio.wait({readying}, timeout=AT_HAND)
            with suppress(LkmongoError):  # it shows, and is told, when a search needs it
                await embedder.warm()
            await readying

    async with running(prepare_to_answer()):
        await asyncio.sleep(0)  # its first read goes out before whatever the caller of this does next
        try:
            speculation = Speculation(search, lambda: caller.scope.tenant) if settings.speculation else None
            yield CallerSession(session_id, room_name, caller, store, search, recorder, speculation)
        finally:
            await recorder.lease.release()
            with suppress(TimeoutError):  # of a disk that hangs
                async with asyncio.timeout(deadlines.DISK):
                    await backlog.end(delete=False)
