"""Calls in writing, through a real LiveKit server, with a worker that has neither LiveKit Inference nor a model."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import pytest
from livekit import api

from lkmongo.dispatch import CALLER_ATTRIBUTE, seal
from lkmongo.livekit_api import send_agent
from lkmongo.model import UserScope
from lkmongo.store.sessions.transcript import TYPED
from lkmongo.tokens import Permissions, new_participant, new_room
from tests.e2e.caller import PATIENCE
from tests.e2e.conftest import TEXT
from tests.e2e.looking import WISH, look_into_a_call
from tests.e2e.records import completed

pytestmark = pytest.mark.asyncio(loop_scope="session")

logger = logging.getLogger("e2e")

QUESTION = "What is my favorite color?"


async def test_what_is_typed_is_answered_in_writing_and_known_in_the_next_call(text_worker, records, call):
    who = UserScope(tenant_id="text", user_id="u-100")
    assert "the agent joins in text only" in text_worker.log
    assert "answered by the demo responder" in text_worker.log
    async with call(who=who, sealed=True, agent_name=TEXT) as caller:
        await caller.reads("Hello", "Hi")
        await caller.type(WISH)
        await caller.reads("favorite color: teal")
        first = await caller.room.sid
        await caller.hang_up()
    record, turns = await completed(records, who, first)
    assert record.close_reason == "hang-up"
    assert [turn.role or turn.name for turn in turns] == ["assistant", "user", "remember_detail", "assistant"]

    async with call(who=who, agent_name=TEXT) as caller:
        await caller.reads("Hello", "Hi")
        await caller.type(QUESTION)
        assert "teal" in await caller.reads("favorite color")
        assert not caller.agent.track_publications
        second = await caller.room.sid
        await caller.hang_up()
    await completed(records, who, second)
    assert first != second


async def test_what_is_typed_in_bursts_is_answered_in_order_and_what_is_too_long_is_refused(text_worker, records, call):
    who = UserScope(tenant_id="text", user_id="u-hasty")
    typed = ["My name is Robin.", "What is my name?"] * 10
    async with call(who=who, agent_name=TEXT) as caller:
        await caller.until(caller.said)  # the greeting, which may go on
        for number, text in enumerate(typed):
            if number == 8:
                await caller.until(lambda: any("Robin" in text for text in caller.said()))
            await caller.type(text)
            await asyncio.sleep(0.003)  # the caller's clock, which tells their order, counts milliseconds
        await caller.until(lambda: sum("our name is Robin" in text for text in caller.said()) == len(typed))
        await caller.type("a" * 4_001)
        await caller.reads("too long")
        session_id = await caller.room.sid
        await caller.hang_up()
    _, turns = await completed(records, who, session_id)
    messages = [turn for turn in turns if turn.kind == "message"][1:-1]  # without the greeting and the refusal
    assert [turn.content for turn in messages[::2]] == typed
    assert all(turn.role == "assistant" and "our name is Robin" in turn.content for turn in messages[1::2])


async def test_what_is_recorded_of_a_wait_is_what_the_caller_measured(text_worker, records, call):
    """Bounds that a busy machine widens: the agent hears of a message later, and speaks before its words are read."""
    who = UserScope(tenant_id="text", user_id="u-waiting")
    async with call(who=who, agent_name=TEXT) as caller:
        await caller.reads("Hello", "Hi")
        measured = []
        for text in (WISH, QUESTION):
            number, began = len(caller.said()), time.monotonic()
            await caller.type(text)
            await caller.until(lambda number=number: len(caller.said()) > number)
            measured.append(time.monotonic() - began)
            await caller.until(lambda: caller.agent_state == "listening")
        began, number = time.monotonic(), len(caller.said())
        for _ in range(3):
            await caller.type(QUESTION)
            await asyncio.sleep(0.003)
        for each in range(1, 4):
            await caller.until(lambda each=each: len(caller.said()) >= number + each)
            measured.append(time.monotonic() - began)
        session_id = await caller.room.sid
        await caller.hang_up()
    _, turns = await completed(records, who, session_id)
    waits = [turn.metrics[TYPED] for turn in turns if TYPED in turn.metrics]
    logger.info("measured and recorded: %s", [(round(m, 3), w) for m, w in zip(measured, waits, strict=True)])
    assert TYPED not in turns[0].metrics, "nobody had asked for the greeting"
    assert all(0 < recorded <= of_caller for recorded, of_caller in zip(waits, measured, strict=True))
    assert all(turn.metrics["llm_node_ttft"] <= turn.metrics[TYPED] for turn in turns if TYPED in turn.metrics)


async def test_who_calls_without_any_metadata_is_a_guest_of_this_call(text_worker, records, call, livekit_server):
    room = new_room()
    async with call(room=room) as caller:
        await send_agent(
            livekit_server.credentials, room=room, agent_name=TEXT, metadata="", wait=timedelta(seconds=60)
        )
        await caller.reads("Hello", "Hi")
        await caller.type(WISH)
        await caller.reads("For this call")
        session_id = await caller.room.sid
        await caller.hang_up()
    document = await records.db.sessions.find_one({"session_id": session_id})
    assert document["user_id"].startswith("guest-")
    await completed(records, UserScope(tenant_id=document["tenant_id"], user_id=document["user_id"]), session_id)
    assert await records.db.memories.count_documents({"user_id": document["user_id"]}) == 0
    assert await records.db.users.count_documents({"user_id": document["user_id"]}) == 0


async def test_who_comes_after_the_agent_is_greeted(text_worker, rooms, call, livekit_server):
    room = new_room()
    await rooms.create_room(api.CreateRoomRequest(name=room))
    await send_agent(livekit_server.credentials, room=room, agent_name=TEXT, metadata="", wait=timedelta(seconds=60))
    await asyncio.sleep(1.0)  # it would have said its first words by now
    async with call(room=room) as caller:
        await caller.reads("Hello", "Hi")


async def test_a_guest_becomes_a_person_by_what_the_server_says_and_not_by_what_they_say_themselves(
    text_worker, records, call, livekit_server, rooms
):
    who, room, identity = UserScope(tenant_id="late", user_id="u-100"), new_room(), new_participant()
    await records.memories.remember(who, "favorite_color", "teal")
    secret = livekit_server.key.secret
    good = {"room": room, "participant_identity": identity, "secret": secret}
    forged = {
        "no seal": "u-100",
        "another secret": seal(who, **good | {"secret": "another-secret-that-is-long-enough-too"}),
        "another room": seal(who, **good | {"room": "elsewhere"}),
        "another's": seal(who, **good | {"participant_identity": "somebody-else"}),
    }
    permissions = Permissions(update_metadata=True)
    async with call(room=room, participant_identity=identity, permissions=permissions, agent_name=TEXT) as caller:
        await caller.reads("Hello", "Hi")
        for number, value in enumerate(forged.values(), 1):
            await caller.room.local_participant.set_attributes({CALLER_ATTRIBUTE: value})
            await logged(text_worker, room, "the caller stays a guest", number)
        await caller.type(QUESTION)
        assert "teal" not in await caller.reads("favorite color")

        update = api.UpdateParticipantRequest(
            room=room, identity=identity, attributes={CALLER_ATTRIBUTE: seal(who, **good)}
        )
        await rooms.update_participant(update)
        await logged(text_worker, room, "the guest is identified now")
        await caller.type(QUESTION)
        await caller.reads("teal")
        session_id = await caller.room.sid
        await caller.hang_up()
    record, turns = await completed(records, who, session_id)
    assert record.scope == who
    assert [turn.content for turn in turns if turn.role == "user"] == [QUESTION, QUESTION]
    assert await records.db.sessions.count_documents({"session_id": session_id}) == 1
    assert await records.db.turns.distinct("user_id", {"session_id": session_id}) == ["u-100"]


async def test_for_development_anybody_in_the_room_may_look_into_a_call(text_worker, call):
    seen = "\n".join(await look_into_a_call(call, TEXT, UserScope(tenant_id="public", user_id="u-100")))
    for what in ("pong", "remember_detail", "favorite color: teal", "instructions", "I am the operator"):
        assert what in seen


async def logged(worker, room, text, times=1):
    """Wait until the worker has logged `text` that many times for a room."""
    async with asyncio.timeout(PATIENCE):
        while sum(text in line and room in line for line in worker.log.splitlines()) < times:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.02)
