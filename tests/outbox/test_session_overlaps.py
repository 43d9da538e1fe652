"""Concurrent events in a session: no turn is lost, duplicated or restored after erasure."""

from __future__ import annotations

import asyncio
import functools
import shutil
import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

from livekit import rtc
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.testing import fake_job_context

from lkmongo import deadlines
from lkmongo.agent.ending import end_session
from lkmongo.declarations import Collection, declare
from lkmongo.dispatch import CALLER_ATTRIBUTE, seal
from lkmongo.memory.lifetime import Lifetime
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.outbox import apply as outbox_apply
from lkmongo.outbox import journal, outbox
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.operations import AddTurn, Remember
from lkmongo.outbox.recovery import recover
from lkmongo.store.people.erase import erase
from lkmongo.store.people.forget import forget
from lkmongo.store.people.own import OwnDocuments
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.sessions import Sessions
from lkmongo.worker import resume
from tests.fake_llm import calls
from tests.overlaps import DATABASE, GUEST, ROBIN, ROOM, SID, a_call, away, die, kinds, recorder_of, said, say
from tests.talk import talk
from tests.waiting import until

KIM = UserScope(tenant_id="default", user_id="u-200")
SECRET = "a-secret-that-is-long-enough-for-hmac-256"
BEGAN = SessionRecord(SID, ROBIN, ROOM, SessionStatus.ACTIVE, now() - timedelta(minutes=5))


# ---------------------------------------------------------------- a guest becomes a person


async def test_a_guest_identified_twice_keeps_their_turns(store):
    async with talk(store, GUEST, calls(), guest=True, session_id=SID) as call:
        await call.say("I said this as a guest")
        await asyncio.gather(call.call.identify(ROBIN), call.call.identify(ROBIN))
        await call.say("and this as a person")
    turns = await store.sessions.turns(ROBIN, SID)
    assert [turn.content for turn in turns if turn.role == "user"] == ["I said this as a guest", "and this as a person"]
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.COMPLETE


async def test_of_two_identities_for_one_guest_the_first_wins(store):
    async with talk(store, GUEST, calls(), guest=True, session_id=SID) as call:
        await call.tool("remember_detail", memory_type="favorite_color", content="teal")
        assert await asyncio.gather(call.call.identify(ROBIN), call.call.identify(KIM)) == [True, False]
        assert call.call.scope == ROBIN
    assert [slot.content for slot in await store.memories.slots(ROBIN)] == ["teal"]
    assert await store.memories.slots(KIM) == []


async def test_an_attribute_seen_twice_while_the_session_starts_loses_nothing(store):
    sealed = seal(ROBIN, room=ROOM, participant_identity="web-1", secret=SECRET)
    participant = SimpleNamespace(identity="web-1", attributes={CALLER_ATTRIBUTE: sealed})
    async with a_call(store, GUEST, guest=True) as call:
        room = create_mock_room.__wrapped__()
        room.name, room.remote_participants = ROOM, {"web-1": participant}
        with fake_job_context(room=room) as job:
            lifetime = Lifetime(call, AsyncExitStack(), job=job, participant_identity="web-1", secret=SECRET)
        call.recorder.start()
        say(call.recorder, "as a guest", 100.0)
        await until(lambda: said(store, GUEST))
        lifetime._on_attributes(participant.attributes, participant)  # the event, before the session has begun
        lifetime._on_started()  # whoever is there when it has
        await asyncio.gather(*lifetime._identifying)
        await call.recorder.close("hang-up", dict)
    assert await said(store, ROBIN) == ["as a guest"]


async def test_an_agent_that_thinks_of_its_first_words_while_it_joins_looks_around_when_it_is_there(store):
    looked = []
    async with a_call(store, ROBIN) as call:
        room = rtc.Room()  # to which nobody has connected: it raises if it is asked for its participant
        job = SimpleNamespace(room=room, is_fake_job=lambda: False, add_shutdown_callback=lambda _: None)
        lifetime = Lifetime(call, AsyncExitStack(), job=job, participant_identity="web-1")
        lifetime._presence.ask = lambda *arguments: looked.append(arguments)
        lifetime._join = lambda job: SimpleNamespace(begin=lambda: looked.append(job))
        lifetime._on_started()
        assert looked == []
        room.isconnected = lambda: True
        lifetime._on_started()
        assert len(looked) == 2


async def test_a_guest_identified_while_the_session_ends_leaves_no_second_session(store, tmp_path, monkeypatch):
    recognised, save = [], Sessions.save

    async def then_recognised(*arguments, **named):
        done = await save(*arguments, **named)
        recognised.append(asyncio.create_task(call.identify(ROBIN)))
        await asyncio.wait(recognised, timeout=0.1)
        return done

    async with a_call(store, GUEST, tmp_path, guest=True) as call:
        call.recorder.start()
        say(call.recorder, "as a guest", 100.0)
        await until(lambda: said(store, GUEST))
        monkeypatch.setattr(Sessions, "save", then_recognised)
        await end_session(call, "hang-up", dict, ended_at=now())
        await asyncio.gather(*recognised)
        await until(lambda: store.sessions.recent(call.scope))
        records = [record for who in (GUEST, ROBIN) for record in await store.sessions.recent(who)]
        assert [(record.status, record.close_reason) for record in records] == [(SessionStatus.COMPLETE, "hang-up")]
        assert await said(store, records[0].scope) == ["as a guest"]


async def test_turns_with_an_earlier_agent_are_kept_when_the_guest_is_identified(store):
    first, second = (recorder_of(store, GUEST, SID, ROOM) for _ in range(2))
    first.start()
    say(first, "said to the first agent", 100.0)
    await until(lambda: said(store, GUEST))
    await die(first)
    second.start()
    say(second, "said to the second agent", 101.0)
    await until(lambda: second._outbox.is_empty)
    await second.change_scope(ROBIN)
    second.start()
    assert await second.close("hang-up", dict)
    await second.lease.release()
    assert await said(store, ROBIN) == ["said to the first agent", "said to the second agent"]
    assert await said(store, GUEST) == []


async def test_a_guests_copy_that_could_not_be_deleted_is_deleted_later(store, tmp_path):
    recorder = recorder_of(store, GUEST, folder=tmp_path)
    recorder.start()
    say(recorder, "as a guest", 100.0)
    await until(lambda: said(store, GUEST))
    with away((Sessions, "discard")):
        await recorder.change_scope(ROBIN)
        recorder.start()
        await until(lambda: said(store, ROBIN))
        await until(lambda: recorder._outbox.error)
        await recorder.close("hang-up", dict)
        await recorder.lease.release()
    await recover(store, tmp_path, DATABASE)
    assert journal.files(tmp_path) == []
    assert await said(store, ROBIN) == ["as a guest"]
    assert await said(store, GUEST) == []
    assert await store.sessions.recent(GUEST) == []


async def test_a_turn_journaled_while_a_guest_is_identified_stays_journaled(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "TURN_ORDER", 3_600)
    recorder = recorder_of(store, GUEST, folder=tmp_path)
    recorder.start()
    await until(lambda: journal.files(tmp_path))
    release = recorder.lease.release

    async def releases_late():
        say(recorder, "meanwhile", 100.0)
        await recorder._outbox._journal.sync()
        await release()

    monkeypatch.setattr(recorder.lease, "release", releases_late)
    await recorder.change_scope(ROBIN)
    recorder.start()
    await until(lambda: "turn" in kinds(tmp_path))
    await recorder._outbox.write(Remember(now(), "city", "Rome"))  # with the last that is pending the file is emptied
    assert recorder._outbox.pending("memory") == []
    await die(recorder)
    await recover(store, tmp_path, DATABASE)
    assert await said(store, ROBIN) == ["meanwhile"]


NOTES = Collection("notes", owner="person", key=("nr",))


def notes(store, scope):
    return store.db.notes.count_documents(scope.filter)


async def test_what_a_guest_stored_in_a_declared_collection_moves_even_if_the_process_is_killed(store, tmp_path):
    declare(NOTES)
    recorder = recorder_of(store, GUEST, folder=tmp_path)
    recorder.start()
    say(recorder, "as a guest", 100.0)
    await until(lambda: said(store, GUEST))
    await OwnDocuments(store.db, "notes", lambda: GUEST).insert({"nr": 1})
    with away((Sessions, "append_missing"), (outbox_apply, "move_own")):
        await recorder.change_scope(ROBIN)
        recorder.start()
        await until(lambda: recorder._outbox.error)
        await until(lambda: "was" in kinds(tmp_path))
        await die(recorder)
    assert (await notes(store, GUEST), await notes(store, ROBIN)) == (1, 0)
    await recover(store, tmp_path, DATABASE)
    assert (await notes(store, GUEST), await notes(store, ROBIN)) == (0, 1)


async def test_what_a_guest_stored_goes_when_the_person_they_are_is_erased(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "LEASE_RENEWAL_EVERY", 0.05)
    declare(NOTES)
    recorder = recorder_of(store, GUEST, folder=tmp_path)
    recorder.start()
    say(recorder, "as a guest", 100.0)
    await until(lambda: said(store, GUEST))
    await OwnDocuments(store.db, "notes", lambda: GUEST).insert({"nr": 1})
    with away((outbox_apply, "move_own")):
        await recorder.change_scope(ROBIN)
        recorder.start()
        await until(lambda: recorder._outbox.error)
        await until(lambda: store.sessions.recent(ROBIN))
        await erase(store.db, ROBIN, by="tests")
        await until(lambda: recorder.erased)
        await recorder.close("hang-up", dict)
        await recorder.lease.release()
    assert await store.db.notes.count_documents({}) == 0


# ---------------------------------------------------------------- a person is erased


async def test_erasing_a_person_just_identified_leaves_no_guest_data(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "LEASE_RENEWAL_EVERY", 0.05)
    recorder = recorder_of(store, GUEST, folder=tmp_path)
    recorder.start()
    say(recorder, "as a guest", 100.0)
    await until(lambda: said(store, GUEST))
    monkeypatch.setattr(deadlines, "TURN_ORDER", 1.0)  # nothing is written for the person before they are erased
    await recorder.change_scope(ROBIN)
    recorder.start()
    await until(lambda: store.sessions.recent(ROBIN))
    await erase(store.db, ROBIN, by="tests")
    await until(lambda: recorder.erased)
    await recorder.close("hang-up", dict)
    await recorder.lease.release()
    await recover(store, tmp_path, DATABASE)
    assert recorder.erased
    for name in ("turns", "sessions"):
        assert await store.db[name].count_documents({}) == 0


async def test_an_erasure_leaves_nothing_of_a_session_with_slow_last_turns(store, monkeypatch):
    for owner, name, value in [
        (deadlines, "TURN_ORDER", 3_600),
        (outbox, "_BATCH", 1),
        (deadlines, "LEASE", 1.5),
        (deadlines, "LEASE_TRUSTED", 0.2),
    ]:
        monkeypatch.setattr(owner, name, value)
    erasing, append = [], Sessions.append

    async def appends_late(*arguments):
        if not erasing:
            erasing.append(asyncio.create_task(erase(store.db, ROBIN, by="tests")))
            await until(lambda: store.db.tombstones.count_documents({}))
            await asyncio.sleep(deadlines.LEASE_TRUSTED)
        else:  # on so slow a line that the lease has run out meanwhile
            await asyncio.wait(erasing)
        await append(*arguments)

    recorder = recorder_of(store, ROBIN, SID, ROOM)
    recorder.start()
    await until(lambda: store.sessions.recent(ROBIN))
    for number in range(3):
        say(recorder, f"turn {number}", 100.0 + number)
    monkeypatch.setattr(Sessions, "append", appends_late)
    await recorder.close("hang-up", dict)
    await asyncio.gather(*erasing)
    await recorder.lease.release()
    assert await said(store, ROBIN) == []
    assert await store.sessions.recent(ROBIN) == []


async def test_polling_for_lost_sessions_restores_no_erased_person(store, monkeypatch):
    async def nobody(*_, **__):
        return "nobody"

    monkeypatch.setattr(resume, "_inspect_room", nobody)
    await store.sessions.open(replace(BEGAN, agent="front-desk"), "host/boot/1/abc")
    an_hour_ago = [{"$set": {"lease.until": {"$add": ["$$NOW", -3_600_000]}}}]
    await store.db.sessions.update_many({}, an_hour_ago)
    (found,) = await store.sessions.expired("front-desk", "livekit.example.org")
    await erase(store.db, ROBIN, by="tests")  # while others that were found are looked into
    assert not await resume.resume(store, None, "front-desk", found)
    assert await store.db.sessions.count_documents({}) == 0


# ---------------------------------------------------------------- a process dies


async def test_the_gist_survives_a_kill_while_the_end_is_written(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "TURN_ORDER", 3_600)
    folder, as_killed = tmp_path / "spool", tmp_path / "as killed"

    async def hang(*_):
        await asyncio.sleep(3_600)

    async with a_call(store, ROBIN, folder) as call:
        await call.caller.preload()
        call.recorder.start()
        say(call.recorder, "my kettle is broken", 100.0)
        await until(lambda: "turn" in kinds(folder))
        with away((Users, "set_last_session")), monkeypatch.context() as patch:
            patch.setattr(Sessions, "append", hang)
            ending = asyncio.create_task(end_session(call, "hang-up", dict, ended_at=now()))
            await until(lambda: "end" in kinds(folder))
            shutil.copytree(folder, as_killed)
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
            await die(call.recorder, call.caller)
    await recover(store, as_killed, DATABASE)
    assert await said(store, ROBIN) == ["my kettle is broken"]
    assert (await store.users.get(ROBIN)).last_session.gist == "my kettle is broken"
    record = await store.sessions.get(ROBIN, SID)
    assert (record.status, record.close_reason) == (SessionStatus.COMPLETE, "hang-up"), "the end was on disk, too"


async def test_entries_written_late_by_a_slow_disk_are_recovered(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "DISK", 0.1)
    it_works, is_making, begin = threading.Event(), threading.Event(), Journal.create

    def takes_its_time(*arguments, **named):
        is_making.set()
        it_works.wait()
        return begin(*arguments, **named)

    monkeypatch.setattr(Journal, "create", takes_its_time)
    with away((Sessions, "open"), (Sessions, "append"), (Sessions, "save")):
        recorder = recorder_of(store, ROBIN, folder=tmp_path)
        recorder.start()
        try:
            await until(is_making.is_set)  # the file is being made, and all else waits for that
            say(recorder, "my kettle is broken", 100.0)
            assert not await recorder.close("hang-up", dict, 0.1)
        finally:
            it_works.set()
    await until(lambda: "end" in kinds(tmp_path) and recorder._outbox._journal._journal is None)
    assert set(kinds(tmp_path)) == {"turn", "end"}
    await recover(store, tmp_path, DATABASE)
    assert await said(store, ROBIN) == ["my kettle is broken"]
    assert (await store.sessions.get(ROBIN, SID)).close_reason == "hang-up"


async def test_an_agent_goes_on_after_an_earlier_ones_journal_is_recovered_because_its_own_lease_had_run_out(
    store, tmp_path, monkeypatch
):
    left = Journal.create(tmp_path, BEGAN, owner="elsewhere/boot/1", database=DATABASE)
    left.append([AddTurn(Turn(0, "a", TurnKind.MESSAGE, BEGAN.started_at, role="user", content="said before")).entry])
    left.close(delete=False)
    states, checks = [], []
    interrupt, renew = Sessions.interrupt, Sessions.renew

    async def renews(*arguments):
        states.append(await renew(*arguments))
        return states[-1]

    async def meanwhile(*arguments):
        monkeypatch.setattr(Sessions, "renew", renews)
        checks.append(asyncio.create_task(recorder.lease.check()))
        await until(lambda: states)
        return await interrupt(*arguments)

    recorder = recorder_of(store, ROBIN)
    recorder.start()
    say(recorder, "said before MongoDB was away", now().timestamp())
    await until(lambda: said(store, ROBIN))
    await store.db.sessions.update_many({}, [{"$set": {"lease.until": {"$add": ["$$NOW", -3_600_000]}}}])
    monkeypatch.setattr(Sessions, "interrupt", meanwhile)
    await recover(store, tmp_path, DATABASE)
    await asyncio.gather(*checks)
    assert (states[0], states[-1]) == ("recovering", "held")
    say(recorder, "said after", now().timestamp())
    assert await recorder.close("hang-up", dict)
    assert await said(store, ROBIN) == ["said before", "said before MongoDB was away", "said after"]
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.COMPLETE


async def test_what_an_agent_left_on_disk_takes_the_lease_from_no_other_one_of_its_process(store, tmp_path):
    async def is_stored(text):
        return text in await said(store, ROBIN)

    first, second = recorder_of(store, ROBIN, folder=tmp_path), recorder_of(store, ROBIN)
    for recorder, text in ((first, "said to both"), (second, "said to the second")):
        recorder.start()
        say(recorder, text, now().timestamp())
        await until(functools.partial(is_stored, text))
    assert not await first.close("taken over", dict)
    await die(first)
    assert "end" in kinds(tmp_path)
    await recover(store, tmp_path, DATABASE)
    await second.lease.check()
    say(second, "and again", now().timestamp())
    assert await second.close("hang-up", dict)
    assert await said(store, ROBIN) == ["said to both", "said to the second", "and again"]
    assert (await store.sessions.get(ROBIN, SID)).close_reason == "hang-up"


async def test_a_dead_agents_journal_does_not_replace_a_later_end(store, tmp_path):
    began = BEGAN.started_at
    left = Journal.create(tmp_path, BEGAN, owner="elsewhere/boot/1", database=DATABASE)
    left.append([{"op": "end", "reason": "shutdown", "ended_at": began + timedelta(seconds=10), "report": {"of": 1}}])
    left.close(delete=False)
    await store.sessions.open(BEGAN, "here/boot/2")
    ended_at = (began + timedelta(seconds=99)).replace(microsecond=0)
    ended = replace(BEGAN, status=SessionStatus.COMPLETE, ended_at=ended_at, close_reason="hang-up", report={"of": 2})
    await store.sessions.save(ended)
    await recover(store, tmp_path, DATABASE)
    record = await store.sessions.get(ROBIN, SID)
    assert (record.close_reason, record.ended_at, record.report) == ("hang-up", ended_at, {"of": 2})
    assert journal.files(tmp_path) == []


async def test_something_forgotten_elsewhere_is_not_in_the_gist_of_a_resumed_session(store):
    await store.users.seen(ROBIN)
    first = recorder_of(store, ROBIN, SID, ROOM)
    first.start()
    say(first, "my pet is a heron", now().timestamp())
    await until(lambda: said(store, ROBIN))
    await die(first)
    await asyncio.sleep(0.02)  # times are kept in whole milliseconds
    await forget(store, ROBIN, ["pet"])
    await asyncio.sleep(0.02)
    async with a_call(store, ROBIN) as call:
        await call.caller.preload()
        call.resume_after(await store.sessions.left_off(ROBIN, SID))
        call.recorder.start()
        await end_session(call, "hang-up", dict, ended_at=now())
    assert (await store.users.get(ROBIN)).last_session is None
