"""The record of a session: in order, exactly once, whatever it contains."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from livekit.agents import ConversationItemAddedEvent, llm

from lkmongo import deadlines
from lkmongo.errors import DatabaseError, DatabaseUnavailableError
from lkmongo.model import SessionStatus, TurnKind, UserScope, now
from lkmongo.outbox import journal, outbox
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.recovery import recover
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from tests.fake_llm import calls
from tests.overlaps import die, recorder_of
from tests.talk import talk
from tests.waiting import PATIENCE, until

ROBIN = UserScope(tenant_id="default", user_id="u-100")


async def test_a_session_is_stored_with_its_turns(store):
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


async def test_turns_are_stored_during_the_session(store):
    async with talk(store, ROBIN, calls()) as call:
        await call.say("is anybody there?")

        async def are_there():
            return len(await store.sessions.turns(ROBIN, "console-test")) == 3

        await until(are_there)
        record = await store.sessions.get(ROBIN, "console-test")
        assert record.status is SessionStatus.ACTIVE
        assert len(await store.sessions.turns(ROBIN, "console-test")) == 3


async def test_a_reused_room_name_loses_no_session(store):
    for session_id in ("RM_1", "RM_2"):
        async with talk(store, ROBIN, calls(), session_id=session_id) as call:
            await call.say("hello")
    assert len(await store.sessions.recent(ROBIN)) == 2


async def test_lone_surrogates_and_a_failing_report_lose_nothing_else(store):
    recorder = recorder_of(store, ROBIN, "s-1", "room \ud800")
    message = llm.ChatMessage(role="user", content=["half a \ud83d face"])
    recorder._on_item(ConversationItemAddedEvent(item=message))

    def broken():
        raise RuntimeError("no report")

    assert await recorder.close("error", broken)
    record = await store.sessions.get(ROBIN, "s-1")
    assert (record.close_reason, record.report, record.room_name) == ("error", {}, "room \ufffd")
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "s-1")] == ["half a \ufffd face"]


async def test_a_value_that_bson_cannot_encode_is_stored_as_text(store):
    recorder = recorder_of(store, ROBIN, "s-1", "room")
    assert await recorder.close("hang-up", lambda: {"huge": 2**70, "object": object(), "nested": [{"fine": 1}]})
    report = (await store.sessions.get(ROBIN, "s-1")).report
    assert report["huge"] == str(2**70)
    assert report["object"].startswith("<object object")
    assert report["nested"] == [{"fine": 1}]


async def test_late_items_are_ordered_and_deduplicated(store):
    recorder = recorder_of(store, ROBIN, "s-1", "room")
    said = llm.ChatMessage(role="user", content=["first"], created_at=100.0)
    answer = llm.ChatMessage(role="assistant", content=["third"], created_at=102.0)
    late = llm.ChatMessage(role="assistant", content=["second"], created_at=101.0)
    for item in (said, answer, late, said):
        recorder._on_item(ConversationItemAddedEvent(item=item))
    await recorder.close("hang-up", dict)
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "s-1")] == ["first", "second", "third"]


@pytest.fixture
def kept(tmp_path):
    """Have what a recorder notes in a folder; returns the recorder and what is in its file."""

    def begin(store):
        return recorder_of(store, ROBIN, "s-1", "room", tmp_path), lambda: [
            entry["content"] for path in journal.files(tmp_path) for entry in journal.read(path).entries
        ]

    return begin


def say(recorder, *words):
    """Have things said, each with the time at which it was made."""
    for content, moment in words:
        message = llm.ChatMessage(role="user", content=[content], created_at=moment)
        recorder._on_item(ConversationItemAddedEvent(item=message))


async def test_turns_are_journaled_at_once_and_survive_a_kill(store, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "TURN_ORDER", 3_600)
    recorder, noted = kept(store)
    recorder.start()
    say(recorder, ("first", 100.0))
    await until(lambda: noted() == ["first"])
    say(recorder, ("third", 102.0), ("second", 101.0))
    await until(lambda: sorted(noted()) == ["first", "second", "third"])
    assert await store.sessions.turns(ROBIN, "s-1") == []
    await die(recorder)
    await recover(store, tmp_path, "db")
    turns = await store.sessions.turns(ROBIN, "s-1")
    assert [(turn.seq, turn.content) for turn in turns] == [(0, "first"), (1, "second"), (2, "third")]


async def test_acknowledged_turns_leave_the_journal(store, kept):
    recorder, noted = kept(store)
    recorder.start()
    for number in range(3):
        say(recorder, (f"turn {number}", 100.0 + number))
        await until(lambda: store.db.turns.count_documents({"content": f"turn {number}"}))  # noqa: B023
        await until(lambda: noted() == [])
    assert await recorder.close("hang-up", dict)
    assert len(await store.sessions.turns(ROBIN, "s-1")) == 3


async def test_turns_stored_by_an_attempt_that_failed_later_leave_the_journal(store, kept, monkeypatch):
    append = store.sessions.append

    async def too_late(*arguments):
        monkeypatch.setattr(store.sessions, "append", append)
        await append(*arguments)
        raise DatabaseUnavailableError

    monkeypatch.setattr(store.sessions, "append", too_late, raising=False)
    recorder, noted = kept(store)
    recorder.start()
    say(recorder, ("first", 100.0))
    await until(lambda: store.db.turns.count_documents({}))
    await until(lambda: noted() == [])
    assert await recorder.close("hang-up", dict)
    assert len(await store.sessions.turns(ROBIN, "s-1")) == 1


async def test_a_hanging_disk_delays_neither_turns_nor_the_end(store, kept, monkeypatch):
    monkeypatch.setattr(deadlines, "DISK", 0.1)
    it_works, append = threading.Event(), Journal.append

    def hang(*arguments, **named):
        it_works.wait()
        append(*arguments, **named)

    monkeypatch.setattr(Journal, "append", hang)
    recorder, _ = kept(store)
    recorder.start()
    for number in range(2):
        say(recorder, (f"turn {number}", 100.0 + number))
        await until(lambda: store.db.turns.count_documents({"content": f"turn {number}"}))  # noqa: B023
    assert await recorder.close("hang-up", dict)
    assert (await store.sessions.get(ROBIN, "s-1")).status is SessionStatus.COMPLETE
    it_works.set()
    await until(lambda: recorder._outbox._journal._journal is None)


async def test_a_turn_journaled_before_another_is_stored_follows_it(store, kept, tmp_path, monkeypatch):
    recorder, noted = kept(store)
    recorder.start()
    say(recorder, ("first", 100.0))
    await until(lambda: store.db.turns.count_documents({}))
    await until(lambda: noted() == [])
    monkeypatch.setattr(deadlines, "TURN_ORDER", 3_600)
    say(recorder, ("third", 102.0), ("second", 101.0))
    await until(lambda: sorted(noted()) == ["second", "third"])
    await die(recorder)
    await recover(store, tmp_path, "db")
    turns = await store.sessions.turns(ROBIN, "s-1")
    assert [(turn.seq, turn.content) for turn in turns] == [(0, "first"), (1, "second"), (2, "third")]


async def test_instructions_are_not_recorded(store):
    recorder = recorder_of(store, ROBIN, "s-1", "room")
    for role in ("system", "developer"):
        item = llm.ChatMessage(role=role, content=["what the agent was told"])
        recorder._on_item(ConversationItemAddedEvent(item=item))
    await recorder.close("hang-up", dict)
    assert await store.sessions.turns(ROBIN, "s-1") == []


async def test_an_unreachable_database_does_not_raise(caplog):
    caplog.set_level("INFO")
    async with create_client("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100") as client:
        recorder = recorder_of(Store.of(client["x"]), ROBIN, "s-1", "room")
        message = llm.ChatMessage(role="user", content=["hello"])
        recorder._on_item(ConversationItemAddedEvent(item=message))
        assert not await recorder.close("hang-up", dict)
    assert "could not be stored" in caplog.text


async def test_a_database_error_is_a_warning(store, monkeypatch, caplog):
    async def refuse(*_, **__):
        raise DatabaseError(why="quota")

    monkeypatch.setattr(type(store.sessions), "save", refuse)
    monkeypatch.setattr(type(store.sessions), "append", refuse)
    recorder = recorder_of(store, ROBIN, "s-1", "room")
    say(recorder, ("hello", 100.0))
    assert not await recorder.close("hang-up", dict)
    assert [(line.levelname, line.message) for line in caplog.records if line.name == outbox.__name__] == [
        ("WARNING", "the session could not be stored: MongoDB answered with an error (quota)")
    ]


# ---------------------------------------------------------------- the end


async def test_the_end_is_written_alongside_the_last_turns_within_the_lease(store, monkeypatch):
    monkeypatch.setattr(deadlines, "TURN_ORDER", 3_600)
    append, save, saved = store.sessions.append, store.sessions.save, asyncio.Event()

    async def appends_late(*arguments):
        await asyncio.wait_for(saved.wait(), PATIENCE)  # sent one after the other, the end would never be
        assert await store.sessions.live(ROBIN) == ["s-1"]  # what an erasure waits for
        await append(*arguments)

    async def saves(*arguments, **named):
        done = await save(*arguments, **named)
        saved.set()
        return done

    monkeypatch.setattr(store.sessions, "append", appends_late, raising=False)
    monkeypatch.setattr(store.sessions, "save", saves, raising=False)
    recorder = recorder_of(store, ROBIN, "s-1", "room")
    recorder.start()
    await until(lambda: store.db.sessions.count_documents({}))
    say(recorder, ("first", 100.0), ("second", 101.0))
    assert await recorder.close("hang-up", dict)
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "s-1")] == ["first", "second"]
    await recorder.lease.release()
    assert await store.sessions.live(ROBIN) == []


async def test_a_turn_not_stored_with_the_end_is_journaled_and_stored_later(store, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "TURN_ORDER", 3_600)

    async def refused(*_):
        raise DatabaseUnavailableError

    recorder, _ = kept(store)
    recorder.start()
    await until(lambda: store.db.sessions.count_documents({}))
    say(recorder, ("first", 100.0))
    with monkeypatch.context() as patch:
        patch.setattr(store.sessions, "append", refused, raising=False)
        assert not await recorder.close("hang-up", dict)
    assert recorder.is_journaled
    await recorder.lease.release()
    await recover(store, tmp_path, "db")
    assert [turn.content for turn in await store.sessions.turns(ROBIN, "s-1")] == ["first"]
    record = await store.sessions.get(ROBIN, "s-1")
    assert (record.status, record.close_reason) == (SessionStatus.COMPLETE, "hang-up")


async def test_other_work_runs_alongside_the_end_and_is_awaited(store):
    steps = []

    async def settle():
        steps.append("begun")
        await until(lambda: store.db.sessions.count_documents({"status": "complete"}))
        steps.append("done")

    recorder = recorder_of(store, ROBIN, "s-1", "room")
    recorder.start()
    await until(lambda: store.db.sessions.count_documents({}))
    assert await recorder.close("hang-up", dict, alongside=settle())
    assert steps == ["begun", "done"]
    await recorder.lease.release()
