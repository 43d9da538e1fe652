"""Calls aloud, through a real LiveKit server, from a token to the record in MongoDB."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import pytest

from lkmongo.dispatch import plain_metadata
from lkmongo.livekit_api import send_agent
from lkmongo.model import UserScope
from lkmongo.tokens import new_participant, new_room
from tests.e2e.conftest import VOICE
from tests.e2e.looking import WISH, look_into_a_call
from tests.e2e.records import completed
from tests.speech_gateway import calls

pytestmark = pytest.mark.asyncio(loop_scope="session")
logger = logging.getLogger("e2e")

PROMISE = "I will remember your favorite color: teal."
REMEMBER = ("remember_detail", {"memory_type": "favorite_color", "content": "teal"})


@pytest.fixture(autouse=True)
def script(gateway):
    """The recogniser understands one wish, and the model does it."""
    gateway.script = calls(REMEMBER, greeting="Hello, what can I do for you?")
    gateway.texts[:] = [WISH]
    gateway.heard.clear()
    gateway.spoken.clear()


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
async def test_a_call_is_heard_understood_answered_aloud_and_recorded(voice_worker, gateway, records, call, sealed):
    who = UserScope(tenant_id="sealed" if sealed else "plain", user_id="u-100")
    async with call(who=who, sealed=sealed, agent_name=VOICE, microphone=True) as caller:
        session_id = await caller.room.sid
        assert await caller.reads("Hello") == gateway.spoken[0] == "Hello, what can I do for you?"
        assert caller.loud, "the greeting was not heard"
        logger.info("from join to the first sound of the greeting: %.2f s", caller.loud[0] - caller.joined)

        # What the caller says is transcribed as theirs; the tool does it; the answer is heard.
        caller.say(WISH)
        assert await caller.reads("remember your") == PROMISE
        assert caller.said(caller.identity) == [WISH] == gateway.heard
        answer = [when for when in caller.loud if when > caller.spoken]
        assert len(answer) > 50, "seven words of 0.3 s are more than that, in frames of 10 or 20 ms"
        logger.info("from the end of speech to the first sound of the answer: %.2f s", answer[0] - caller.spoken)
        slots = await records.memories.slots(who)
        assert [(slot.memory_type, slot.content) for slot in slots] == [("favorite_color", "teal")]

        agent = caller.agent
        assert not agent.metadata
        assert {name: value for name, value in agent.attributes.items() if not name.startswith("lk.")} == {}
        await caller.hang_up()

    record, turns = await completed(records, who, session_id)
    assert (record.close_reason, record.scope, record.room_name) == ("hang-up", who, caller.room.name)
    assert [(turn.role or turn.name, turn.content or turn.output) for turn in turns] == [
        ("assistant", "Hello, what can I do for you?"),
        ("user", WISH),
        ("remember_detail", PROMISE),
        ("assistant", PROMISE),
    ]
    assert [turn.seq for turn in turns] == [0, 1, 2, 3]
    waited = turns[3].metrics["e2e_latency"]
    logger.info("from the end of speech to the first sound, as it is recorded: %.2f s", waited)
    assert waited > 0
    assert not any("typed_latency" in turn.metrics for turn in turns)
    logger.info("record: %s, %s, %d turns", record.status, record.close_reason, len(turns))


async def test_the_agent_serves_whom_it_was_sent_for_although_another_came_first(
    voice_worker, gateway, records, call, livekit_server
):
    who, room, identity = UserScope(tenant_id="first", user_id="u-100"), new_room(), new_participant()
    async with call(room=room, participant_identity="passer-by", microphone=True) as other:
        await send_agent(
            livekit_server.credentials,
            room=room,
            agent_name=VOICE,
            metadata=plain_metadata(who, identity),
            wait=timedelta(seconds=60),
        )
        other.say(WISH)
        await other.type("What is my favorite color?")
        async with call(who=who, room=room, participant_identity=identity, microphone=True) as caller:
            await caller.reads("Hello")
            other.say(WISH)
            await other.type("What is my favorite color?")
            caller.say(WISH)
            assert await caller.reads("remember your") == PROMISE
            await caller.until(lambda: time.monotonic() > other.spoken + 1)
            assert caller.said(caller.identity) == gateway.heard == [WISH]
            await other.hang_up()  # which ends nothing
            await caller.type("And again, please.")
            await caller.until(lambda: caller.said().count(PROMISE) == 2)
            session_id = await caller.room.sid
            await caller.hang_up()
    _, turns = await completed(records, who, session_id)
    assert [turn.content for turn in turns if turn.role == "user"] == [WISH, "And again, please."]


async def test_in_production_nobody_looks_into_a_call(voice_worker, records, call):
    who = UserScope(tenant_id="private", user_id="u-100")
    assert await look_into_a_call(call, VOICE, who) == []
    (record,) = await records.sessions.recent(who)
    _, turns = await completed(records, who, record.session_id)
    assert [turn.content for turn in turns if turn.role == "user"] == [WISH, WISH]
