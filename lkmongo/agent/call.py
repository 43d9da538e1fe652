"""One call: who is on the line, the store in their scope, and the record. It outlives a handoff between agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lkmongo.agent.caller import Caller
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.speculation import LIMIT, Speculation
from lkmongo.agent.status_line import StatusLines
from lkmongo.embed.choose import embedder_for
from lkmongo.model import Identity, Memory, Passage
from lkmongo.search.atlas import running
from lkmongo.search.choose import AtlasFirst, strategy_for
from lkmongo.search.strategy import SearchResult, SearchStrategy
from lkmongo.settings import Settings
from lkmongo.store.first_start import prepare
from lkmongo.store.opening import Store, open_store


@dataclass(slots=True)
class Call:
    """The `userdata` of an AgentSession; tools reach it as `context.userdata`."""

    session_id: str
    room_name: str
    caller: Caller
    store: Store
    search: SearchStrategy
    recorder: Recorder
    speculation: Speculation | None = None
    status_lines: StatusLines = field(default_factory=StatusLines)

    @property
    def identity(self) -> Identity:
        """Whose data this call may read and write."""
        return self.caller.identity


@asynccontextmanager
async def open_call(
    settings: Settings,
    identity: Identity,
    *,
    guest: bool,
    session_id: str,
    room_name: str,
    on_status: Callable[[str], None],
) -> AsyncIterator[Call]:
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
            await prepare(store.db, embedder, on_status=on_status)
        recorder = Recorder(store, identity, session_id, room_name)
        stack.push_async_callback(recorder.lease.release)
        caller = Caller(store, embedder, identity, recorder.lease, guest=guest)
        await caller.preload()
        search = strategy_for(settings, store.db, embedder)
        if isinstance(search, AtlasFirst):  # not before: the caller's own data comes first on the few connections
            await stack.enter_async_context(running(search.warm()))
        yield Call(
            session_id,
            room_name,
            caller,
            store,
            search,
            recorder,
        )
