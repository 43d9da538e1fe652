"""A very long session: thousands of turns with large tool outputs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial

import pytest
from livekit.agents import FunctionToolsExecutedEvent, llm

from lkmongo import backoff, deadlines
from lkmongo.agent.recorder import Recorder
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.outbox import Outbox
from lkmongo.outbox.recovery import recover
from lkmongo.settings import Settings
from lkmongo.store.export.export import Export, Sink
from lkmongo.store.export.writers import JsonlWriter
from lkmongo.store.mongo.extended_json import loads
from lkmongo.store.open import open_store
from lkmongo.store.sessions.listing import SessionFilter
from tests.overlaps import recorder_of
from tests.waiting import PATIENCE, until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
TURNS = 3_000
OUTPUT = 10_000
BEGAN = 1_700_000_000.0


def use_tools(recorder, numbers):
    """Let the tools be called and give ten kilobytes each."""
    used = [llm.FunctionCall(id=f"i-{n}", call_id=f"c-{n}", name="look", arguments="{}") for n in numbers]
    gave = [llm.FunctionCallOutput(call_id=each.call_id, name="look", output="", is_error=False) for each in used]
    for n, call, output in zip(numbers, used, gave, strict=True):
        call.created_at = output.created_at = BEGAN + n
        output.output = f"{n} ".ljust(OUTPUT, "x")
    recorder._on_tools(FunctionToolsExecutedEvent(function_calls=used, function_call_outputs=gave))


async def exported(store):
    parts = []

    async def write(data):
        parts.append(data)

    sink = Sink(write)
    await Export(store.db, SessionFilter()).run(JsonlWriter(sink), sink)
    (line,) = b"".join(parts).splitlines()
    return loads(line)


def is_whole(call):
    turns = call["turns"]
    assert [turn["seq"] for turn in turns] == list(range(TURNS))
    assert [turn["item_id"] for turn in turns] == [f"i-{n}" for n in range(TURNS)]
    assert all(turn["output"] == f"{n} ".ljust(OUTPUT, "x") for n, turn in enumerate(turns))
    assert turns[-1]["created_at"] == datetime.fromtimestamp(BEGAN + TURNS - 1, UTC)
    assert call["status"] == "complete"


async def test_a_session_of_three_thousand_large_turns_is_stored_and_exported(store, monkeypatch):
    monkeypatch.setattr(deadlines, "TURN_ORDER", 0.01)
    monkeypatch.setattr(deadlines, "AWAY", PATIENCE)  # thirty megabytes may keep MongoDB from answering in time
    recorder = recorder_of(store, ROBIN, "long", "room")
    recorder.start()
    for start in range(0, TURNS, 150):
        use_tools(recorder, range(start, start + 150))
        await asyncio.sleep(0.02)
    assert await recorder.close("hang-up", lambda: {"turns": TURNS}, deadline=PATIENCE)
    is_whole(await exported(store))


@pytest.mark.usefixtures("impatient")
async def test_a_long_session_is_recovered_that_mongodb_never_saw(store, home, database_name, monkeypatch):
    monkeypatch.setattr(deadlines, "DISK", PATIENCE)  # thirty megabytes at once: in a call they come turn by turn
    away = Settings.load(
        {"MONGODB_URI": "mongodb://127.0.0.1:1", "MONGODB_DB": database_name, "LKMONGO_HOME": str(home)}
    )
    async with open_store(away) as nothing:
        record = SessionRecord("long", ROBIN, "room", SessionStatus.ACTIVE, now())
        recorder = Recorder(Outbox(nothing, record, partial(journal.create_journal, away)))
        use_tools(recorder, range(TURNS))
        assert not await recorder.close("hang-up", dict, deadline=0.1)
        assert recorder.is_journaled
    (recovered,) = await recover(store, journal.journal_folder(home), journal.database_id(away))
    assert (recovered.turns, recovered.outcome) == (TURNS, "complete")
    is_whole(await exported(store))
    assert journal.files(journal.journal_folder(home)) == []


async def test_each_attempt_on_a_slow_line_stores_some_turns(store, monkeypatch):
    monkeypatch.setattr(deadlines, "WRITE_ATTEMPT", 1.0)
    monkeypatch.setattr(deadlines, "TURN_ORDER", 0.01)
    monkeypatch.setattr(backoff, "RETRY_SCHEDULE", (0.01,))
    recorder = recorder_of(store, ROBIN, "long", "room")
    append, asked, stored = store.sessions.append, [], []

    async def breaks_down(scope, session_id, turns):
        asked.append(turns[0].seq)
        if len(asked) in {2, 4}:
            stored.append(await store.db.turns.count_documents({}))
            await asyncio.Event().wait()
        await append(scope, session_id, turns)

    monkeypatch.setattr(store.sessions, "append", breaks_down)
    use_tools(recorder, range(250))
    await until(lambda: store.db.turns.count_documents({"seq": 249}))
    assert stored == [100, 200]
    assert asked == [0, 100, 100, 200, 200]
    assert [turn.seq for turn in await store.sessions.turns(ROBIN, "long")] == list(range(250))
    await recorder.close("hang-up", dict)
    await recorder.lease.release()
