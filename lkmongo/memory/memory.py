"""`Memory`: the store, the embedder and the search of one process, opened once, and the sessions that use them."""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from lkmongo import telemetry
from lkmongo.agent.beginning import begin_session
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.learning import learn_periodically, learner_of
from lkmongo.aio import level_of, running
from lkmongo.declarations import Collection, ProfileField, declare
from lkmongo.dispatch import Dispatched, Room, read_dispatch
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import LkmongoError, UsageError
from lkmongo.memory.lifetime import Lifetime
from lkmongo.memory.phone_line import PhoneLine
from lkmongo.memory.phones import Phones
from lkmongo.memory.records import Knowledge, People, Sessions
from lkmongo.model import DEFAULT_TENANT, UserScope, check_id
from lkmongo.outbox.recovery import recover_periodically
from lkmongo.search.choose import strategy_for
from lkmongo.search.rerank import check_reranker
from lkmongo.search.strategy import SearchStrategy
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo import client
from lkmongo.store.mongo.declared import keep_once
from lkmongo.store.open import Store, open_store
from lkmongo.ticket import Ticket

if TYPE_CHECKING:
    import concurrent.futures

    from livekit.agents import JobContext, JobProcess

    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

MODULES = (
    "lkmongo.agent.speculation",
    "livekit.agents.llm.async_toolset",
    "rapidfuzz.process",
    "bm25s",
)
"""What a session would import on demand, which takes a second and a half."""
NO_ROOM = "none"
"""The room of sessions that have none."""
_RECOVER_AFTER = 1.0
"""Seconds for the first caller's own data, before sessions whose process died are looked for."""
_USERDATA = "lkmongo.memory"


class Memory:
    """What is remembered of people: one for each process, opened once.

    In a LiveKit worker `Memory.prewarm` is the `setup_fnc`, and `Memory.of(ctx)` gives it to the job. Elsewhere:

        async with lkmongo.Memory() as memory:
            async with memory.session(user_id="u-100") as caller:
                await caller.remember("favorite color", "teal")

    Attributes:
        settings: what it was made with.
        people: what is remembered of whom: list, show, search, export, forget, merge, erase.
        sessions: the records of sessions: list, show, search.
        knowledge: what an agent may quote: add, list, search, remove.
        phones: which telephone numbers are whose, and PINs: list, lookup, link, unlink, set_pin, clear_pin, unlock_pin.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        collections: Sequence[Collection] = (),
        profile_fields: Sequence[ProfileField] = (),
        on_status: Callable[[str], None] = logger.info,
        **overrides: Any,
    ) -> None:
        """Connect to nothing yet.

        Args:
            settings: by default those of the environment (docs/settings.md); dotenv files are not read.
            collections: of your own, which are exported, merged and erased with the rest (docs/own-collections.md).
            profile_fields: of your own, beside name, e-mail address, language and time zone.
            on_status: called with a sentence about what takes a while, such as starting the embedded MongoDB.
            **overrides: single settings by the name of their field, such as `mongodb_uri="mongodb://..."`.

        Raises:
            SettingsError: a setting is wrong, or there is none of that name.
            DeclarationError: what is declared cannot be, or contradicts something declared before.
        """
        declare(*collections, *profile_fields)
        self.settings = (settings or Settings.load()).override(**overrides)
        self.embedder: Embedder = embedder_for(self.settings)
        _ = self.settings.webhook  # a missing secret is an error now, not at the end of the first session
        self.settings.tenant_policies()
        check_reranker(self.settings)
        self.people = People(self.store, self._search, self.settings)
        self.sessions = Sessions(self.store, self.embedder)
        self.knowledge = Knowledge(self.store, self._search, self.embedder)
        self.phones = Phones(self.store, self.settings)
        self.furnish: Callable[[Store], Awaitable[object]] = lambda store: database_indexes.apply(store.db)
        """Makes an embedded database ready; of another one, `lkmongo db indexes` does that. Internal."""
        self._on_status = on_status
        self._stack = AsyncExitStack()
        self._strategy: SearchStrategy | None = None
        self._opening: asyncio.Future[Store] | concurrent.futures.Future[Store] | None = None
        self._prewarmed = self._closes_with_job = False
        self._preloaded = asyncio.Event()
        self._lifetimes: set[Lifetime] = set()
        self._closed = False

    # ---------------------------------------------------------------- open and close

    async def open(self) -> Self:
        """Open the database; `async with` does the same, and closes it. An unreachable MongoDB is no error yet.

        Sessions of this machine whose process died are stored in the background.

        Raises:
            EmbeddedError: MONGODB_URI is not set, and the embedded mongod cannot run here.
            SettingsError: MONGODB_URI is not an address.
        """
        if self._opening is None and not self._closed:
            self._opening = asyncio.ensure_future(self._open())
        try:
            await self.store()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """End the sessions that are not over, each within ten seconds, and disconnect."""
        if self._closed:
            return
        self._closed = True
        self.knowledge.close()
        await asyncio.gather(*(lifetime.stop() for lifetime in list(self._lifetimes)))
        if self._opening:
            with suppress(Exception):  # that was raised where it was opened
                await self._opened()
        if self._strategy:
            await self._strategy.close()
        await (client.run_on_client_loop(self._stack.aclose) if self._prewarmed else self._stack.aclose())
        await self.embedder.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def store(self) -> Store:
        """The repositories behind this memory; internal, and may change.

        Raises:
            UsageError: it is not open.
            EmbeddedError: the embedded mongod cannot run here.
        """
        if self._closed:
            raise UsageError("this Memory is closed", hint="make another one, one for the life of the process")
        if self._opening is None:
            raise UsageError(
                "this Memory is not open",
                hint="use it in async with, or await memory.open(); a LiveKit worker needs setup_fnc=Memory.prewarm",
            )
        return await self._opened()

    async def _search(self) -> SearchStrategy:
        if self._strategy is None:
            self._strategy = strategy_for(self.settings, (await self.store()).db, self.embedder)
            await self._strategy.warm()
        return self._strategy

    async def _opened(self) -> Store:
        assert self._opening is not None  # noqa: S101 - the callers have looked
        return await asyncio.shield(
            self._opening if isinstance(self._opening, asyncio.Future) else asyncio.wrap_future(self._opening)
        )

    async def _open(self) -> Store:
        store = await self._stack.enter_async_context(open_store(self.settings, on_status=self._on_status))
        if store.embedded:
            await self.furnish(store)
        await self._stack.enter_async_context(running(_keep_declarations(store)))
        await self._stack.enter_async_context(running(self._recover(store)))
        return store

    async def _recover(self, store: Store) -> None:
        """Store the sessions whose process died, after what the first caller waits for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_RECOVER_AFTER):
                await self._preloaded.wait()
        await self._recover_now(store)

    async def _recover_now(self, store: Store) -> None:
        """Store the sessions whose process died, and learn from those that are due, as long as this is open."""
        async with running(learn_periodically(self.settings, store, self.embedder)):
            await recover_periodically(self.settings, store)

    # ---------------------------------------------------------------- in a LiveKit worker

    @classmethod
    def prewarm(cls, process: JobProcess, settings: Settings | None = None, **overrides: Any) -> None:
        """LiveKit's `setup_fnc`: connect before a job arrives, without waiting for it.

        With other settings, as LiveKit has to pickle it: `functools.partial(Memory.prewarm, mongodb_db="calls")`.

        Args:
            process: LiveKit's, which keeps the memory for its job.
            settings: as in `Memory`.
            **overrides: as in `Memory`.

        Raises:
            SettingsError: a setting is wrong, or there is none of that name.
        """
        cls(settings, **overrides).start(process)

    @classmethod
    def of(cls, ctx: JobContext) -> Memory:
        """The memory that `prewarm` opened in this process; it is closed after the job.

        Raises:
            UsageError: `prewarm` was not run.
        """
        memory = ctx.proc.userdata.get(_USERDATA)
        if not isinstance(memory, Memory):
            raise UsageError(
                "there is no Memory in this process",
                why="the server was made without the function that opens it",
                hint="AgentServer(setup_fnc=lkmongo.Memory.prewarm), or call it in a setup function of your own",
            )
        return memory

    def start(self, process: JobProcess | None, *, recover: bool = True) -> None:
        """Open the database from a process without an event loop: it then lives on a loop of the client's own.

        Args:
            process: keeps this memory for its job, so that `of` finds it.
            recover: store sessions of this machine whose process died.
        """
        if process:
            process.userdata[_USERDATA] = self
        telemetry.configure(self.settings)
        for name in MODULES:
            importlib.import_module(name)
        if recover and self.settings.llm_base_url:
            with suppress(ImportError):  # it is reported when it is needed
                importlib.import_module("livekit.plugins.openai")  # not possible in another thread
        if self.settings.embedder_kind == "voyage":
            importlib.import_module("voyageai")  # takes up to two seconds
        self._prewarmed = True
        self._opening = asyncio.run_coroutine_threadsafe(self._open_warm(recover=recover), client.start_client_loop())

    async def _open_warm(self, *, recover: bool) -> Store:
        store = await self._stack.enter_async_context(open_store(self.settings, stays_warm=True))
        await self._stack.enter_async_context(running(self._warm(store, recover=recover)))
        return store

    async def _warm(self, store: Store, *, recover: bool) -> None:
        try:
            await store.warm()
        except LkmongoError as error:
            logger.debug("MongoDB is not connected yet: %s (%s)", error.message, error.why)
        await _keep_declarations(store)
        try:
            # A local model belongs to the process; a Voyage client would be bound to this loop.
            if self.settings.embedder_kind == "local":
                await self.embedder.warm()
        except LkmongoError as error:
            logger.debug("the embedding model is not warm: %s (%s)", error.message, error.why)
        if recover:
            if store.embedded:
                await self.furnish(store)
            await self._recover_now(store)

    # ---------------------------------------------------------------- sessions

    def session(
        self,
        ctx: JobContext | None = None,
        *,
        user_id: str | None = None,
        tenant_id: str | None = None,
        session_id: str | None = None,
        guest: bool = False,
    ) -> SessionOpening:
        """The session of a caller, by `await` or `async with`.

        Of a LiveKit job, before `ctx.connect()`: the dispatch metadata say who is calling (docs/tokens.md), a sealed
        attribute of the participant may say it later, and anybody else is a guest; `user_id` or `guest` overrules them.
        A session that is attached ends when its AgentSession closes, or with the job; another one when its block is
        left, or by `await caller.end()`.

        Args:
            ctx: LiveKit's job.
            user_id: whose session it is.
            tenant_id: their tenant, by default `default`; of a job, that of callers of whom the metadata does not say
                it. Who comes with a seal that does not open gets no tenant's knowledge unless it is named here.
            session_id: of the record; by default the id of the room, or a new one.
            guest: remember an unknown caller for this session only.

        Raises:
            UsageError: nobody is named, or a user and a guest at once; or the memory is not open.
            InvalidIdError: an id is not text of 1 to 128 printable characters.
            EmbeddedError: the embedded mongod cannot run here.
        """
        if user_id is not None and guest:
            raise UsageError(f"{user_id} cannot be a guest", hint="leave out user_id or guest: a guest's id is made up")
        if ctx is None and user_id is None and not guest:
            raise UsageError(
                "it is not said whose session this is",
                hint="name a user_id, guest=True, or the ctx of a LiveKit job",
            )
        tenant = DEFAULT_TENANT if tenant_id is None else tenant_id
        scope = UserScope.guest(tenant) if user_id is None else UserScope(tenant_id=tenant, user_id=user_id)
        if session_id is not None:
            check_id("session", session_id)

        async def begin() -> CallerSession:
            if ctx is None:
                session = session_id or f"session-{uuid4()}"
                return (await self.begin_without_job(scope, guest=guest, session_id=session)).caller
            by_program = scope if guest or user_id is not None else None
            lifetime = await self.begin(ctx, by_program, guest=guest, session_id=session_id, tenant_id=tenant_id)
            await lifetime.resume()
            return lifetime.caller

        return SessionOpening(begin)

    async def begin(
        self,
        job: JobContext,
        scope: UserScope | None = None,
        *,
        guest: bool = False,
        session_id: str | None = None,
        tenant_id: str | None = None,
    ) -> Lifetime:
        """Begin the session of a job; what is behind `session`, for our own worker."""
        livekit, room = self.settings.livekit, job.job.room
        if scope:
            dispatched = Dispatched(scope, guest=guest, participant_identity=None, why=None)
        else:
            dispatched = read_dispatch(
                job.job.metadata,
                room=Room.of(room),
                secret=livekit.secrets if livekit else None,
                tenant_id=tenant_id,
            )
        if dispatched.why:
            logger.warning("the caller is a guest: %s", dispatched.why)
        if self._prewarmed and not self._closes_with_job:
            self._closes_with_job = True
            job.add_shutdown_callback(self._on_job_shutdown)
        return await self._begin(
            dispatched.scope,
            guest=dispatched.guest,
            session_id=session_id or room.sid or job.job.id,
            room_name=room.name,
            participant_identity=dispatched.participant_identity,
            job=job,
            ticket=dispatched.ticket,
            trust=dispatched.trust,
        )

    async def begin_without_job(
        self, scope: UserScope, *, guest: bool, session_id: str, room_name: str = NO_ROOM
    ) -> Lifetime:
        """Begin a session of no job, with the caller loaded if possible; for our own console."""
        lifetime = await self._begin(scope, guest=guest, session_id=session_id, room_name=room_name)
        await lifetime.caller.caller.preload()
        self._preloaded.set()
        return lifetime

    async def _begin(
        self,
        scope: UserScope,
        *,
        guest: bool,
        session_id: str,
        room_name: str,
        participant_identity: str | None = None,
        job: JobContext | None = None,
        ticket: Ticket | None = None,
        trust: str | None = None,
    ) -> Lifetime:
        store, livekit = await self.store(), self.settings.livekit
        async with AsyncExitStack() as stack:
            caller = await stack.enter_async_context(
                begin_session(
                    self.settings,
                    store,
                    self.embedder,
                    scope,
                    guest=guest,
                    session_id=session_id,
                    room_name=room_name,
                    participant_identity=participant_identity,
                    agent=(job.job.agent_name or None) if job else None,
                    agent_participant=_own_identity(job) if job else None,
                    livekit=livekit.host if livekit and job else None,
                    ticket=ticket,
                    trust=trust,
                )
            )
            lifetime = Lifetime(
                caller,
                stack.pop_all(),
                job=job,
                participant_identity=participant_identity,
                secret=livekit.secrets if livekit else None,
                livekit=livekit,
                phone_line=PhoneLine(caller, self.settings.tenant_policies()) if job else None,
                learner_of=functools.partial(learner_of, self.settings, store, self.embedder),
                has_model=self.settings.has_language_model,
                on_ended=self._lifetimes.discard,
            )
        self._lifetimes.add(lifetime)
        return lifetime

    async def _on_job_shutdown(self, _: str) -> None:
        await self.close()


class SessionOpening(Awaitable[CallerSession]):
    """A session that begins when it is awaited, or when its `async with` block does."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, CallerSession]]) -> None:
        self._begin = begin
        self._caller: CallerSession | None = None

    def __await__(self) -> Generator[Any, None, CallerSession]:
        return self._begin().__await__()

    async def __aenter__(self) -> CallerSession:
        self._caller = await self._begin()
        return self._caller

    async def __aexit__(self, *failure: Any) -> None:  # noqa: PYI036 - they are passed on
        if self._caller:
            await self._caller.__aexit__(*failure)


def _own_identity(job: JobContext) -> str | None:
    """The agent's identity in the room, known from its token before it joins."""
    return None if job.is_fake_job() else job.local_participant_identity


async def _keep_declarations(store: Store) -> None:
    try:
        await keep_once(store.db)
    except LkmongoError as error:
        logger.log(level_of(error), "the declarations could not be stored: %s (%s)", error.message, error.why)
