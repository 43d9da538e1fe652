"""Tokens of the web server in a real room: what becomes of them after their call, a logout, and in other hands."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import jwt
import pytest
from livekit import api, rtc

from lkmongo.dispatch import read_dispatch
from lkmongo.memory.presence import EVERY, METHOD
from lkmongo.memory.return_mark import ATTRIBUTE
from tests.e2e.caller import PATIENCE, inside
from tests.e2e.conftest import TEXT
from tests.e2e.looking import WISH
from tests.e2e.records import completed
from tests.e2e.test_endings import _begun as begun
from tests.web_server import call as request
from tests.web_server import token as ask_for_token
from tests.web_server import web_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUESTION = "What is my favorite color?"
CLIENT = f"""
import asyncio, sys
from livekit import rtc
async def stay():
    room = rtc.Room()
    await room.connect(*sys.argv[1:])
    room.local_participant.register_rpc_method({METHOD!r}, lambda _: print("asked", flush=True) or "")
    await asyncio.Event().wait()
asyncio.run(stay())
"""


@asynccontextmanager
async def visit(records, livekit_server):
    """A browser whose visitor has a favorite color; yields it, what it asks for a token, and who the visitor is."""
    key = livekit_server.key
    async with web_server(records, url=livekit_server.url, key=key, agent_name=TEXT) as server:
        browser = server.browser()

        async def get_token():
            return (await ask_for_token(browser, server))["participant_token"]

        async def log_out():
            assert (await request(browser, "POST", f"{server.url}api/logout"))[0] == 204

        said = jwt.decode(await get_token(), key.secret, algorithms=["HS256"])
        sent = said["roomConfig"]["agents"][0]["metadata"]
        who = read_dispatch(sent, room=said["video"]["room"], secret=key.secret).scope
        await records.memories.remember(who, "favorite_color", "teal")
        yield get_token, log_out, who


async def is_known(livekit_server, token) -> bool:
    """Whether the agent knows the color of who joins with a token."""
    async with inside(livekit_server.url, token) as caller:
        await caller.reads("Hello", "Hi")
        greeted = len(caller.said())
        await caller.type(QUESTION)
        await caller.until(lambda: len(caller.said()) > greeted and caller.agent_state == "listening")
        await caller.hang_up()
        return any("teal" in text for text in caller.said())


async def test_a_token_that_livekit_has_refreshed_is_good_in_no_second_room(
    text_worker, records, livekit_server, rooms
):
    async with visit(records, livekit_server) as (get_token, _, who):
        token = await get_token()
        async with inside(livekit_server.url, token) as caller:
            await caller.reads("Hello", "Hi")
            await caller.type(QUESTION)
            await caller.reads("teal")
            async with asyncio.timeout(PATIENCE):
                while (refreshed := caller.room._token) == token:  # noqa: ASYNC110 - the SDK has no event in time
                    await asyncio.sleep(0.05)
            room, session_id = caller.room.name, await caller.room.sid
            await caller.hang_up()
        await completed(records, who, session_id)
        for again in (refreshed, token):
            await rooms.delete_room(api.DeleteRoomRequest(room=room))
            assert not await is_known(livekit_server, again)
        assert [each.session_id for each in await records.sessions.recent(who)] == [session_id]
        assert await is_known(livekit_server, await get_token())


async def test_a_token_from_before_the_logout_knows_nobody(text_worker, records, livekit_server):
    async with visit(records, livekit_server) as (get_token, log_out, who):
        token = await get_token()
        await log_out()
        assert not await is_known(livekit_server, token)
        assert await records.sessions.recent(who) == []


async def test_who_logs_out_during_a_call_is_removed_and_the_record_is_whole(text_worker, records, livekit_server):
    async with visit(records, livekit_server) as (get_token, log_out, who):
        async with inside(livekit_server.url, await get_token()) as caller:
            await caller.reads("Hello", "Hi")
            await caller.type(WISH)
            await caller.reads("favorite color: teal")
            session_id = await caller.room.sid
            await log_out()
            async with asyncio.timeout(PATIENCE):
                await caller.dropped.wait()
        record, turns = await completed(records, who, session_id)
    assert record.close_reason == "logged out"
    assert [turn.role or turn.name for turn in turns] == ["assistant", "user", "remember_detail", "assistant"]


async def test_who_lost_the_connection_comes_back_with_the_same_token(text_worker, records, livekit_server):
    async with visit(records, livekit_server) as (get_token, _, who), AsyncExitStack() as stack:
        token = await get_token()
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT, livekit_server.url, token), stdout=asyncio.subprocess.PIPE
        )
        stack.callback(client.kill)
        record = await begun(records, who)
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):  # it is asked again when it has answered
                assert await client.stdout.readline() == b"asked\n"
        client.send_signal(signal.SIGSTOP)  # it is still in the room, as far as LiveKit knows
        await asyncio.sleep(5 * EVERY)
        caller = await stack.enter_async_context(inside(livekit_server.url, token))
        await caller.until(lambda: caller.agent)
        await caller.type(QUESTION)
        await caller.reads("teal")
        assert await caller.room.sid == record.session_id
        await caller.hang_up()
        record, _ = await completed(records, who, record.session_id)
        assert record.close_reason == "hang-up"


async def test_a_client_that_connects_anew_at_once_is_known_and_goes_on(text_worker, records, livekit_server):
    async with (
        visit(records, livekit_server) as (get_token, _, who),
        inside(livekit_server.url, await get_token()) as caller,
    ):
        await caller.reads("Hello", "Hi")
        await caller.until(lambda: ATTRIBUTE in caller.room.local_participant.attributes)
        # The first participant is still there: LiveKit puts the second in its place.
        await caller.room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
        await caller.type(QUESTION)
        await caller.reads("teal")
        session_id = await caller.room.sid
        await caller.hang_up()
    record, turns = await completed(records, who, session_id)
    assert record.close_reason == "hang-up"
    assert QUESTION in [turn.content for turn in turns]


async def test_a_copy_of_a_token_does_not_take_over_the_call(text_worker, records, livekit_server):
    async with visit(records, livekit_server) as (get_token, _, who), AsyncExitStack() as stack:
        token = await get_token()
        caller = await stack.enter_async_context(inside(livekit_server.url, token))
        await caller.reads("Hello", "Hi")
        await caller.type(QUESTION)
        await caller.reads("teal")
        session_id = await caller.room.sid
        thief = await stack.enter_async_context(inside(livekit_server.url, token))
        with suppress(rtc.participant.PublishDataError, rtc.data_stream.StreamError):  # they may be removed already
            await thief.type(QUESTION)
        record, _ = await completed(records, who, session_id)
        assert record.close_reason == "token used twice"
        await thief.until(lambda: not thief.agent)
        assert thief.said() == []
