"""How calls end, and what their records say then, through a real LiveKit server: the rows of docs/operations.md."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import unquote, urlsplit

import pytest
from livekit import api

from lkmongo.model import SessionRecord, UserScope, now
from lkmongo.store.open import Store
from lkmongo.store.people.users import Visitors
from lkmongo.tokens import TokenRequest, mint
from tests.e2e.caller import PATIENCE, inside
from tests.e2e.conftest import TEXT
from tests.e2e.looking import WISH
from tests.e2e.records import completed, ended_as
from tests.livekit_server import livekit_server_in

logger = logging.getLogger("e2e")

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("how", ["hangs up", "dies", "is removed", "finds the room deleted", "is joined by a copy"])
async def test_the_record_says_how_the_caller_went(text_worker, records, rooms, livekit_server, how):
    who = UserScope(tenant_id="went", user_id=how.replace(" ", "-"))
    wanted = TokenRequest(who=who, agent_name=TEXT, participant_identity="caller-1")
    token = mint(livekit_server.key, wanted)
    began, copy = now(), None
    async with AsyncExitStack() as stack:
        if how == "dies":
            client = await asyncio.create_subprocess_exec(sys.executable, "-c", _CLIENT, livekit_server.url, token.text)
            record = await _begun(records, who)
            went = time.monotonic()
            client.kill()
            await client.wait()
        else:
            caller = await stack.enter_async_context(inside(livekit_server.url, token.text))
            await caller.reads("Hello", "Hi")
            record = await _begun(records, who)
            went = time.monotonic()
            if how == "is joined by a copy":
                # Who is cut off while they enter is told so only seconds later.
                copy = asyncio.create_task(stack.enter_async_context(inside(livekit_server.url, token.text)))
            elif how == "is removed":
                await rooms.remove_participant(api.RoomParticipantIdentity(room=wanted.room, identity="caller-1"))
            elif how == "finds the room deleted":
                await rooms.delete_room(api.DeleteRoomRequest(room=wanted.room))
            else:
                await caller.hang_up()
        record = await ended_as(records, record, how, went)
        if copy:
            await copy
    assert began < record.ended_at <= now()


async def test_the_record_says_that_the_visitor_has_logged_out(text_worker, records, call):
    who, visitors, how = UserScope(tenant_id="went", user_id="visitor"), Visitors(records.db), "logs out"
    await visitors.add("a-browser", who)
    async with call(who=who, sealed=True, visitor="a-browser", agent_name=TEXT) as caller:
        await caller.reads("Hello", "Hi")
        record = await _begun(records, who)
        went = time.monotonic()
        await visitors.end("a-browser", who)
        await ended_as(records, record, how, went)


async def test_the_record_says_that_the_agent_has_ended_the_call(start_worker, records, call):
    """By itself, as the name of the room tells it to, and because it is one of too many calls of this person."""
    limit = {"LKMONGO_AGENT": "tests.worker_process:Actor", "LKMONGO_MAX_CALLS": "1"}
    who = UserScope(tenant_id="went", user_id="many")
    async with start_worker("ends-itself", limit, "--dev", "--demo"):
        async with call(who=who, agent_name="ends-itself", room="stay-1") as caller:
            await caller.reads("Hello", "Hi")
            async with call(who=who, agent_name="ends-itself", room="stay-2") as second:
                went, session_id = time.monotonic(), await second.room.sid
                await ended_as(records, SessionRecord(session_id, who, None, None, None), "is one too many", went)
        who = UserScope(tenant_id="went", user_id="hung-up-on")
        async with call(who=who, agent_name="ends-itself", room="finish-1") as caller:
            begun = SessionRecord(await caller.room.sid, who, None, None, None)
            await ended_as(records, begun, "is hung up on", None)  # before the greeting has arrived, on a busy machine


async def test_the_record_of_a_call_whose_worker_was_killed_and_that_nobody_continues(start_worker, records, call):
    """Another worker of this agent looks whether the caller still waits, and closes the record."""
    who = UserScope(tenant_id="went", user_id="left-alone")
    async with start_worker("killed", {}, "--demo") as one, start_worker("killed", {}, "--demo") as other:
        async with call(who=who, agent_name="killed") as caller:
            await caller.reads("Hello", "Hi")
            record = await _begun(records, who)
            (holder,) = (each for each in (one, other) if caller.room.name in each.log)
            holder.signal(signal.SIGKILL, group=True)
            await caller.hang_up()
            went = time.monotonic()
        await ended_as(records, record, "outlives the worker", went)


async def test_the_record_of_a_call_whose_livekit_server_has_died(start_worker, records, tmp_path):
    who, agent = UserScope(tenant_id="went", user_id="livekit"), "without-livekit"
    with livekit_server_in(tmp_path) as server:
        token = mint(server.key, TokenRequest(who=who, agent_name=agent))
        async with start_worker(agent, server.environment, "--dev", "--demo"), inside(server.url, token.text) as caller:
            await caller.reads("Hello", "Hi")
            record = await _begun(records, who)
            went = time.monotonic()
            os.kill(server.pid, signal.SIGKILL)
            await ended_as(records, record, "loses LiveKit", went)


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
        drained = time.monotonic() + 8
        await worker.logs("draining 2 sessions; they have 8 s to end")
        await first.hang_up()
        record, _ = await completed(records, short, short_id)
        assert record.close_reason == "hang-up"
        assert second.agent, "the other call was to go on"
        async with call(who=late, agent_name="ending-agent"):
            await second.until(lambda: not second.agent)
        assert await worker.ended() == 0
    record = await ended_as(records, SessionRecord(long_id, long, None, None, None), "outlasts the worker", drained)
    turns = await records.sessions.turns(long, long_id)
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


_CLIENT = """
import asyncio, sys
from livekit import rtc
async def stay():
    room = rtc.Room()
    await room.connect(*sys.argv[1:])
    await asyncio.Event().wait()
asyncio.run(stay())
"""


async def _begun(records: Store, who: UserScope) -> SessionRecord:
    """Wait for the call of a person to have a turn, and return its record."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for record in await records.sessions.recent(who):
                if await records.sessions.turns(who, record.session_id):
                    return record
            await asyncio.sleep(0.05)


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
