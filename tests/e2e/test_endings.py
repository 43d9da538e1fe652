"""A worker that is told to end in the middle of calls, and one whose MongoDB is away, through a real LiveKit server."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import pytest

from lkmongo.model import UserScope
from tests.e2e.looking import WISH
from tests.e2e.records import completed

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_calls_may_end_by_themselves_after_a_signal_and_those_that_do_not_are_recorded(
    start_worker, records, call
):
    short, long, late = (UserScope(tenant_id="ending", user_id=user) for user in ("u-100", "u-200", "u-300"))
    async with (
        start_worker("ending-agent", {}, "--demo", "--drain-timeout", "8s") as worker,
        call(who=short, agent_name="ending-agent") as first,
        call(who=long, agent_name="ending-agent") as second,
    ):
        for caller in (first, second):
            await caller.reads("Hello", "Hi")
            await caller.type(WISH)
            await caller.reads("favorite color: teal")
        short_id, long_id = await first.room.sid, await second.room.sid
        worker.signal(signal.SIGTERM, group=True)
        await worker.logs("draining 2 sessions; they have 8 s to end")
        await first.hang_up()
        record, _ = await completed(records, short, short_id)
        assert record.close_reason == "hang-up"
        assert second.agent, "the other call was to go on"
        async with call(who=late, agent_name="ending-agent"):
            await second.until(lambda: not second.agent)
        assert await worker.ended() == 0
    record, turns = await completed(records, long, long_id)
    assert record.close_reason == "shutdown"
    assert [turn.role or turn.name for turn in turns] == ["assistant", "user", "remember_detail", "assistant"]
    assert await records.sessions.recent(late) == [], "a worker that ends took a new call"


async def test_who_calls_while_mongodb_is_away_is_greeted_and_what_they_say_is_stored_when_it_is_back(
    start_worker, records, call, mongodb_uri
):
    who = UserScope(tenant_id="away", user_id="u-100")
    path = unquote(urlsplit(mongodb_uri).netloc)
    async with _closed_port(path) as (port, open_it):
        uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        async with (
            start_worker("away-agent", {"MONGODB_URI": uri}, "--dev", "--demo") as worker,
            call(who=who, agent_name="away-agent") as caller,
        ):
            await caller.reads("Hello", "Hi")
            assert "MongoDB" in worker.log, "the worker says nothing of it"
            await caller.type(WISH)
            await caller.until(lambda: len(caller.said()) == 2)
            assert await records.sessions.recent(who) == []
            await open_it()
            session_id = await caller.room.sid
            await caller.hang_up()
            record, turns = await completed(records, who, session_id)
    assert record.close_reason == "hang-up"
    assert [turn.role or turn.name for turn in turns] == ["assistant", "user", "remember_detail", "assistant"]
    assert [slot.content for slot in await records.memories.slots(who)] == ["teal"]


@asynccontextmanager
async def _closed_port(path: str) -> AsyncIterator[tuple[int, Callable[[], object]]]:
    """A port that refuses connections until it is opened, and then leads to the socket at `path`."""
    serving: set[asyncio.Task[None]] = set()
    servers: list[asyncio.Server] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        serving.add(task)
        near, far = await asyncio.open_unix_connection(path)
        try:
            await asyncio.gather(pump(reader, far), pump(near, writer))
        except (OSError, asyncio.CancelledError):
            return
        finally:
            far.close()
            writer.close()

    async def open_it() -> None:
        servers.append(await asyncio.start_server(serve, sock=bound))

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        try:
            yield bound.getsockname()[1], open_it
        finally:
            for server in servers:
                server.close()
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
