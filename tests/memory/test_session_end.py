"""The end of a session as a program is told of it: by a callback, and by the webhook, from the door of the library."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from livekit.agents import Agent, AgentSession

import lkmongo
from docs.examples import session_end
from lkmongo import backoff, deadlines
from lkmongo.errors import SettingsError
from lkmongo.model import UserScope
from lkmongo.outbox.webhook import deliver_due
from lkmongo.store.people.erase import erase
from lkmongo.store.sessions.sessions import Sessions
from tests.conftest import clean_environment
from tests.fake_llm import ScriptedLLM, calls
from tests.overlaps import away
from tests.waiting import until
from tests.webhook_receiver import SECRET, receiving

ROBIN = UserScope(tenant_id="default", user_id="u-100")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(store, mongodb_uri, database_name, home):
    return {"mongodb_uri": mongodb_uri, "mongodb_db": database_name, "home": home}


@pytest.fixture
async def receiver():
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def memory(settings):
    async with lkmongo.Memory(**settings) as memory:
        yield memory


@pytest.fixture
async def announcing(settings, receiver):
    """A memory whose sessions the receiver is told of."""
    async with lkmongo.Memory(**settings, webhook_url=receiver.url, webhook_secret=SECRET) as memory:
        yield memory


async def talk(caller, *words):
    session = AgentSession(llm=ScriptedLLM(calls()), vad=None, turn_handling={"turn_detection": None})
    caller.attach(session)
    await session.start(agent=Agent(instructions=""), record=False)
    for each in words:
        await session.run(user_input=each)
    return session


# ---------------------------------------------------------------- callbacks


async def test_a_callback_is_told_once_how_the_session_ended_when_the_record_is_complete(memory, store):
    told, found = [], []

    async def look(end):
        found.append(await store.sessions.get(end.scope, end.session_id))

    caller = await memory.session(user_id="u-100", session_id="s-1")
    caller.on_end(told.append)
    caller.on_end(look)
    await caller.remember("favorite color", "teal")
    await caller.remember("favorite color", "blue")
    await caller.update_profile("name", "Robin")
    session = await talk(caller, "hello")
    await session.aclose()
    await caller.end("answered")
    await caller.end("again")
    assert told == [
        lkmongo.SessionEnd(
            "s-1",
            ROBIN,
            guest=False,
            room_name="none",
            started_at=caller.recorder.record.started_at,
            ended_at=found[0].ended_at,
            close_reason=found[0].close_reason,
            turns=await store.db.turns.count_documents({}),
            changes=2,
            saved="stored",
        )
    ]
    assert told[0].turns >= 2
    assert found[0].status == "complete"
    assert len(found) == 1


async def test_the_example_of_the_documents(settings, monkeypatch, capsys):
    for name, value in (("MONGODB_URI", "mongodb_uri"), ("MONGODB_DB", "mongodb_db"), ("LKMONGO_HOME", "home")):
        monkeypatch.setenv(name, str(settings[value]))
    await session_end.main()
    assert capsys.readouterr().out == "u-100: answered, 0 turns, 1 changes, stored\n"


async def test_a_guest_and_a_session_that_has_nothing_to_record_are_told_too(memory):
    told = []
    async with memory.session(guest=True) as caller:
        caller.on_end(told.append)
    assert (told[0].guest, told[0].turns, told[0].changes, told[0].saved) == (True, 0, 0, "stored")


async def test_a_guest_who_is_identified_before_anything_is_stored_has_a_record_that_ends(memory, store):
    async with memory.session(guest=True) as caller:
        await caller.identify(UserScope(tenant_id="default", user_id="u-100"))
        async with caller.recorder.lease.writing():
            pass  # it is acquired
    document = await store.db.sessions.find_one({"user_id": "u-100"})
    assert (document["status"], "lease" in document) == ("complete", False)


async def test_errors_and_slow_callbacks_are_logged_and_disturb_nothing(memory, store, caplog, monkeypatch):
    monkeypatch.setattr(deadlines, "END_CALLBACK", 0.2)
    told, cancelled = [], asyncio.Event()

    def fails(_):
        raise RuntimeError("no pager")

    async def hangs(_):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    caller = await memory.session(user_id="u-100", session_id="s-1")
    for callback in (fails, hangs, told.append):
        caller.on_end(callback)
    await caller.remember("favorite color", "teal")
    assert await caller.end()
    assert cancelled.is_set()
    assert len(told) == 1
    assert "fails, called at the end of the session, failed" in caplog.text
    assert "no pager" in caplog.text
    assert "hangs, called at the end of the session, took longer than 0.2 s" in caplog.text
    assert "lease" not in await store.db.sessions.find_one({})


async def test_it_is_told_that_the_record_is_kept_on_this_machine(memory):
    told = []
    caller = await memory.session(user_id="u-100")
    caller.on_end(told.append)
    await caller.remember("favorite color", "teal")
    with away((Sessions, "save")):
        assert not await caller.end()
    assert told[0].saved == "kept"


async def test_it_is_told_that_the_person_was_erased(memory, store):
    told = []
    caller = await memory.session(user_id="u-100")
    caller.on_end(told.append)
    await caller.remember("favorite color", "teal")
    await erase(store.db, ROBIN, by="test", patience=300)
    await until(lambda: caller.recorder.erased)
    await caller.end()
    assert (told[0].saved, told[0].turns, told[0].changes) == ("erased", 0, 0)
    assert told[0].scope != ROBIN


# ---------------------------------------------------------------- the webhook


async def test_the_webhook_is_told_before_the_end_is_over_and_once(announcing, store, receiver):
    caller = await announcing.session(user_id="u-100", session_id="s-1")
    await caller.remember("favorite color", "teal")
    assert await caller.end("answered")
    (data,) = receiver.data
    assert (data["session_id"], data["close_reason"], data["changes"]) == ("s-1", "answered", 1)
    record = await announcing.sessions.show("s-1")
    assert (record.webhook.state, record.webhook.attempts) == ("delivered", 1)
    assert await deliver_due(store, receiver.endpoint) == []
    assert "lease" not in await store.db.sessions.find_one({})


async def test_a_session_without_a_record_is_not_told(announcing, receiver):
    async with announcing.session(user_id="u-100"):
        pass
    assert receiver.events == []


async def test_a_receiver_that_does_not_answer_delays_the_end_by_its_deadline_and_nothing_else(
    announcing, store, receiver, monkeypatch
):
    monkeypatch.setattr(deadlines, "WEBHOOK", 0.2)
    receiver.goes_on.clear()
    saved = []
    caller = await announcing.session(user_id="u-100", session_id="s-1")
    caller.on_end(lambda end: saved.append(end.saved))
    await caller.remember("favorite color", "teal")
    assert await caller.end()
    assert saved == ["stored"]
    record = await announcing.sessions.show("s-1")
    assert (record.status, record.webhook.state) == ("complete", "pending")
    assert "lease" not in await store.db.sessions.find_one({})
    assert not list((announcing.settings.data_home / "spool").glob("*"))


async def test_another_memory_delivers_what_was_not_accepted(announcing, settings, receiver, monkeypatch):
    monkeypatch.setattr(backoff, "WEBHOOK_SCHEDULE", (0, 0))
    receiver.answers = [503]
    caller = await announcing.session(user_id="u-100", session_id="s-1")
    await caller.remember("favorite color", "teal")
    await caller.end()
    await announcing.close()
    assert len(receiver.events) == 1
    async with lkmongo.Memory(**settings, webhook_url=receiver.url, webhook_secret=SECRET):
        await until(lambda: len(receiver.events) == 2)
    assert len(set(receiver.ids)) == 1


def test_an_address_without_a_secret_is_an_error_at_the_start():
    with pytest.raises(SettingsError, match="LKMONGO_WEBHOOK_SECRET is not set") as caught:
        lkmongo.Memory(webhook_url="https://example.com/hook")
    assert "openssl rand -base64 32" in caught.value.hint


PROGRAM = """
import asyncio, lkmongo

async def main():
    async with lkmongo.Memory() as memory:
        async with memory.session(user_id="u-100", session_id="s-1") as caller:
            await caller.remember("favorite color", "teal")

asyncio.run(main())
"""


async def test_a_process_that_is_killed_while_it_tells_is_followed_by_one_that_tells_it_whole(
    settings, store, receiver, mongodb_uri, database_name, home
):
    """With SIGKILL: the receiver has the request, and the process never learns of it."""
    own = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name, "LKMONGO_HOME": str(home)}
    environment = clean_environment() | own | receiver.environment
    receiver.goes_on.clear()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, env=environment, cwd=ROOT)
    try:
        await until(lambda: receiver.events or process.returncode is not None)
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()
    receiver.goes_on.set()
    record = await store.sessions.get(ROBIN, "s-1")
    assert (record.status, record.webhook.state) == ("complete", "pending")
    async with lkmongo.Memory(**settings, webhook_url=receiver.url, webhook_secret=SECRET):
        await until(lambda: len(receiver.events) == 2)
        await until(lambda: store.db.sessions.find_one({"session_id": "s-1", "webhook.delivered_at": {"$ne": None}}))
    assert receiver.ids[0] == receiver.ids[1]
    assert receiver.bodies[0] == receiver.bodies[1]
