"""A worker that is told to end in the middle of calls, and one whose MongoDB is away, through a real LiveKit server."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import unquote, urlsplit

import pytest
from livekit import api

from lkmongo.model import SessionRecord, UserScope, now
from lkmongo.store.open import Store
from lkmongo.tokens import TokenRequest, mint
from tests.e2e.caller import PATIENCE, inside
from tests.e2e.conftest import TEXT
from tests.e2e.looking import WISH
from tests.e2e.records import completed

logger = logging.getLogger("e2e")

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("leaves", "hang-up"),
        ("dies", "connection lost"),
        ("is removed", "removed"),
        ("finds the room deleted", "room deleted"),
        ("is joined by a copy of their token", "token used twice"),
    ],
)
async def test_the_record_says_how_the_caller_went(text_worker, records, call, rooms, livekit_server, how, reason):
    who = UserScope(tenant_id="went", user_id=how.replace(" ", "-"))
    wanted = TokenRequest(who=who, agent_name=TEXT, participant_identity="caller-1")
    token = mint(livekit_server.key, wanted)
    began = now()
    async with AsyncExitStack() as stack:
        if how == "dies":
            client = await asyncio.create_subprocess_exec(sys.executable, "-c", _CLIENT, livekit_server.url, token.text)
            record = await _begun(records, who)
            went = now()
            client.kill()
            await client.wait()
        else:
            caller = await stack.enter_async_context(inside(livekit_server.url, token.text))
            await caller.reads("Hello", "Hi")
            record = await _begun(records, who)
            went = now()
            if how == "is joined by a copy of their token":
                await stack.enter_async_context(inside(livekit_server.url, token.text))
            elif how == "is removed":
                await rooms.remove_participant(api.RoomParticipantIdentity(room=wanted.room, identity="caller-1"))
            elif how == "finds the room deleted":
                await rooms.delete_room(api.DeleteRoomRequest(room=wanted.room))
            else:
                await caller.hang_up()
        record, _ = await completed(records, who, record.session_id)
    assert record.close_reason == reason
    logger.info("%s: %s after %.1f s", how, reason, (now() - went).total_seconds())
    assert began < record.ended_at <= now()


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
