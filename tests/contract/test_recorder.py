"""The record of a call: in order, exactly once, whatever is in it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from livekit.agents import ConversationItemAddedEvent, llm

from lkmongo.agent.recorder import Recorder
from lkmongo.model import Identity, SessionStatus, TurnKind, now
from lkmongo.store.client import create_client
from lkmongo.store.opening import Store
from tests.fake_llm import calls
from tests.talk import talk

ROBIN = Identity("default", "u-100")


async def test_a_call_is_stored_with_its_turns(store):
    before = now()
    script = calls(("remember_detail", {"memory_type": "color", "content": "teal"}), greeting="Hello there.")
    async with talk(store, ROBIN, script) as call:
        await call.say("remember that my color is teal")
    record = await store.sessions.get(ROBIN, "console-test")
    assert record.status is SessionStatus.COMPLETE
    assert record.close_reason == "hang-up"
    assert before <= record.started_at <= record.ended_at <= now() + timedelta(seconds=1)
    assert record.report["job_id"] == "console-test"
    assert "chat_history" not in record.report or not record.report["chat_history"].get("items")
    turns = await store.sessions.turns(ROBIN, "console-test")
    assert [turn.seq for turn in turns] == [0, 1, 2, 3]
    assert [(turn.kind, turn.role or turn.name) for turn in turns] == [
        (TurnKind.MESSAGE, "assistant"),
        (TurnKind.MESSAGE, "user"),
        (TurnKind.TOOL, "remember_detail"),
        (TurnKind.MESSAGE, "assistant"),
    ]
    assert turns[2].output == "I will remember your color: teal."
    assert turns[2].arguments == '{"memory_type": "color", "content": "teal"}'
    assert [turn.created_at for turn in turns] == sorted(turn.created_at for turn in turns)


async def test_turns_are_there_while_the_call_goes_on(store):
    async with talk(store, ROBIN, calls()) as call:
        await call.say("is anybody there?")
        for _ in range(100):
            if len(await store.sessions.turns(ROBIN, "console-test")) == 3:
                break
            await asyncio.sleep(0.02)
        record = await store.sessions.get(ROBIN, "console-test")
        assert record.status is SessionStatus.ACTIVE
        assert len(await store.sessions.turns(ROBIN, "console-test")) == 3


async def test_a_room_name_that_was_used_before_loses_no_call(store):
    for session_id in ("RM_1", "RM_2"):
        async with talk(store, ROBIN, calls(), session_id=session_id) as call:
            await call.say("hello")
    assert len(await store.sessions.recent(ROBIN)) == 2


async def test_lone_surrogates_and_a_report_that_cannot_be_made_lose_nothing_else(store):
    recorder = Recorder(store, ROBIN, "s-1", "room \ud800")
    message = llm.ChatMessage(role="user", content=["half a \ud83d face"])
    recorder._on_item(ConversationItemAddedEvent(item=message))

    def broken():
        raise RuntimeError("no report")

    assert await recorder.close("error", broken)
    record = await store.sessions.get(ROBIN, "s-1")
    assert (record.close_reason, record.report, record.room_name) == ("error", {}, "room \ufffd")
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "s-1")] == ["half a \ufffd face"]


async def test_a_value_that_bson_cannot_hold_is_kept_as_text(store):
    recorder = Recorder(store, ROBIN, "s-1", "room")
    assert await recorder.close("hang-up", lambda: {"huge": 2**70, "object": object(), "nested": [{"fine": 1}]})
    report = (await store.sessions.get(ROBIN, "s-1")).report
    assert report["huge"] == str(2**70)
    assert report["object"].startswith("<object object")
    assert report["nested"] == [{"fine": 1}]


async def test_items_that_come_late_are_put_in_their_place_and_only_once(store):
    recorder = Recorder(store, ROBIN, "s-1", "room")
    said = llm.ChatMessage(role="user", content=["first"], created_at=100.0)
    answer = llm.ChatMessage(role="assistant", content=["third"], created_at=102.0)
    late = llm.ChatMessage(role="assistant", content=["second"], created_at=101.0)
    for item in (said, answer, late, said):
        recorder._on_item(ConversationItemAddedEvent(item=item))
    await recorder.close("hang-up", dict)
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "s-1")] == ["first", "second", "third"]


async def test_instructions_are_no_turn(store):
    recorder = Recorder(store, ROBIN, "s-1", "room")
    for role in ("system", "developer"):
        item = llm.ChatMessage(role=role, content=["what the agent was told"])
        recorder._on_item(ConversationItemAddedEvent(item=item))
    await recorder.close("hang-up", dict)
    assert await store.sessions.turns(ROBIN, "s-1") == []


async def test_a_database_that_is_away_does_not_raise(caplog):
    caplog.set_level("INFO")
    async with create_client("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100") as client:
        recorder = Recorder(Store.of(client["x"]), ROBIN, "s-1", "room")
        message = llm.ChatMessage(role="user", content=["hello"])
        recorder._on_item(ConversationItemAddedEvent(item=message))
        assert not await recorder.close("hang-up", dict)
    assert "could not be stored" in caplog.text
