"""The way of a write: pending until MongoDB has it, stored once by one `apply`, live, again and in recovery."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo import backoff, deadlines
from lkmongo.consent import Consent
from lkmongo.errors import DatabaseError, DatabaseUnavailableError
from lkmongo.model import DateMention, Fact, LastSession, SessionRecord, SessionStatus, Source, Turn, TurnKind, now
from lkmongo.outbox import journal
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.operations import (
    OPERATIONS,
    AddTurn,
    AmendTurn,
    CountRedacted,
    End,
    EndFact,
    FillProfile,
    Forget,
    ForgetCalls,
    Lane,
    LinkPhone,
    MoveGuest,
    NoteConsent,
    Notify,
    Remember,
    SaveGist,
    SetProfile,
    TakeBack,
    UnlinkPhone,
    operation_of,
)
from lkmongo.outbox.recovery import recover
from lkmongo.store.mongo.extended_json import dumps, loads
from lkmongo.store.people.memories import Memories
from lkmongo.store.sessions.sessions import Sessions
from tests.overlaps import DATABASE, GUEST, ROBIN, SID, away, kinds, outbox_of, said
from tests.waiting import until

AT = datetime(2026, 11, 3, 12, 30, 15, 250_000, UTC)


def turn(number: int, moment: datetime = AT) -> AddTurn:
    at = moment + timedelta(seconds=number)
    return AddTurn(Turn(0, f"item-{number}", TurnKind.MESSAGE, at, role="user", content=f"turn {number}"))


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch):
    monkeypatch.setattr(backoff, "RETRY_SCHEDULE", (0.02,))
    monkeypatch.setattr(deadlines, "TURN_ORDER", 0.02)


SAMPLES = [
    Remember(AT, "colour", "teal"),
    Remember(AT, "city", "moves on Friday", AT, Source("told", "s", "i"), (DateMention("on Friday", AT.date()),)),
    EndFact(AT, "colour", AT),
    Forget(AT, "colour"),
    Forget(AT, "city", calls=False),
    ForgetCalls(AT, ("city", "Lisbon")),
    SetProfile(AT, "name", "Robin"),
    FillProfile(AT, "name", "Robin"),
    SaveGist(AT, "about a kettle", since=AT),
    AddTurn(Turn(3, "i", TurnKind.TOOL, AT, name="n", arguments="{}", output="o", metrics={"a": 1.5}), numbered=True),
    AmendTurn("i", "my card is [card ending 1111]"),
    CountRedacted({"card": 1}),
    MoveGuest("default", "guest-7"),
    End("hang-up", AT, {"job_id": "j"}),
    Notify("msg_1"),
    NoteConsent(Consent("agreed", AT, "voice")),
    LinkPhone(AT, "0123.ab", "56"),
    UnlinkPhone("default", "phone-1", "0123.ab"),
    TakeBack("default", "u-200", (Fact("city", "Rome", None, AT, AT),), LastSession(AT, "about a kettle", "s-0")),
]


def test_every_operation_survives_the_journal():
    assert {type(each) for each in SAMPLES} == set(OPERATIONS.values()), "a new operation needs a sample here"
    for operation in SAMPLES:
        assert operation_of(loads(dumps(operation.entry))) == operation


def test_every_operation_has_a_lane():
    assert {each.lane for each in OPERATIONS.values()} == set(get_args(Lane))


async def test_every_operation_can_be_stored_and_stored_again(store):
    record = SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, AT)
    await store.sessions.open(record, "me")
    for operation in SAMPLES:
        for _ in range(2):
            await apply([operation], Target(store, record, "me"))
    assert await store.db.turns.count_documents({}) == 1
    assert (await store.sessions.get(ROBIN, SID)).close_reason == "hang-up"


# ---------------------------------------------------------------- lanes


async def test_a_turn_that_cannot_be_stored_holds_up_no_change(store):
    outbox = outbox_of(store, ROBIN)
    with away((Sessions, "append")):
        outbox.add(turn(0))
        await until(lambda: outbox.error)
        await outbox.write(Remember(now(), "city", "Rome"))
        assert outbox.saved == "stored"
        assert (await store.memories.recall(ROBIN, "city")).content == "Rome"
    assert await outbox.close(1.0)
    assert await said(store, ROBIN) == ["turn 0"]
    await outbox.lease.release()


async def test_a_change_that_no_longer_may_be_stored_holds_up_no_other(store, caplog):
    outbox = outbox_of(store, ROBIN)
    outbox.add(Remember(now() - timedelta(minutes=1), "!", "not a label"))
    await outbox.write(Remember(now(), "city", "Rome"))
    assert outbox.saved == "stored"
    assert (await store.memories.recall(ROBIN, "city")).content == "Rome"
    assert "a change is left out" in caplog.text
    await outbox.close(1.0)
    await outbox.lease.release()


async def test_who_asks_is_told_of_what_has_changed_what_is_stored_and_of_nothing_else(store):
    told = []
    outbox = outbox_of(store, ROBIN)
    outbox.on_stored(told.append)
    try:
        await store.memories.remember(ROBIN, "colour", "green")
        lisbon, older = Remember(now(), "city", "Lisbon"), Remember(AT, "colour", "teal")
        with away((Memories, "remember"), (Memories, "remember_if_newer")):
            outbox.add(lisbon)
            await outbox.settle("memory", 5)
            assert told == [], "it is not stored yet"
        outbox.add(older)
        await outbox.stored("memory")
        assert told == [lisbon]
        assert (await store.memories.recall(ROBIN, "colour")).content == "green"
    finally:
        await outbox.close(0)


async def test_changes_are_stored_in_order_and_only_the_last_of_a_slot(store, monkeypatch):
    remember, stored = Memories.remember_if_newer, []

    async def notes(memories, scope, label, content, at, **more):
        stored.append((label, content))
        return await remember(memories, scope, label, content, at, **more)

    outbox = outbox_of(store, ROBIN)
    monkeypatch.setattr(Memories, "remember_if_newer", notes)
    with away((Memories, "remember"), (Memories, "delete")):
        await asyncio.gather(
            outbox.write(Forget(now(), "pet")),
            outbox.write(Remember(now(), "city", "Paris")),
            outbox.write(Remember(now(), "city", "Rome")),
            outbox.write(Remember(now(), "food", "pasta")),
        )
        assert [each.key for each in outbox.pending("memory")] == [
            ("forget", "pet"),
            ("slot", "city"),
            ("slot", "food"),
        ]
    await until(lambda: outbox.saved == "stored")
    assert stored == [("city", "Rome"), ("food", "pasta")]
    await outbox.close(1.0)
    await outbox.lease.release()


async def test_turns_are_tried_again_until_they_are_stored_and_each_is_stored_once(store, monkeypatch):
    append, tries = Sessions.append, []

    async def fails_now_and_then(sessions, scope, session_id, turns):
        tries.append(len(turns))
        if len(tries) % 3 == 1:
            raise DatabaseUnavailableError
        await append(sessions, scope, session_id, turns)
        if len(tries) % 3 == 2:
            raise DatabaseUnavailableError  # the acknowledgement is lost

    monkeypatch.setattr(Sessions, "append", fails_now_and_then)
    outbox = outbox_of(store, ROBIN)
    for numbers in ((1, 0), (3, 2)):
        for number in numbers:
            outbox.add(turn(number))
        await until(lambda: outbox.is_empty)
    turns = await store.sessions.turns(ROBIN, SID)
    assert [(each.seq, each.content) for each in turns] == [(number, f"turn {number}") for number in range(4)]
    assert len(tries) > 4
    await outbox.close(1.0)
    await outbox.lease.release()


async def test_the_end_of_a_continued_session_waits_for_its_turns(store, monkeypatch):
    first, second = outbox_of(store, ROBIN), outbox_of(store, ROBIN)
    async with first.lease.writing():
        pass
    await first.lease.release()
    async with second.lease.writing():
        pass
    assert second.lease.continues
    with away((Sessions, "append"), (Sessions, "append_missing")):
        second.add(turn(0))
        second.add(End("hang-up", now()))
        assert not await second.close(0.1)
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.ACTIVE
    await second.lease.release()


# ---------------------------------------------------------------- the disk


async def test_the_end_of_a_continued_session_also_waits_for_a_turn_that_arrives_when_the_others_are_stored(store):
    first = outbox_of(store, ROBIN)
    await first.lease.check()
    await first.abandon()
    outbox = outbox_of(store, ROBIN)
    await outbox.lease.check()
    outbox.add(turn(0))
    outbox._lanes["turns"].add_done_callback(lambda _: outbox.add(turn(1)))
    outbox.add(End("hang-up", AT))
    assert await outbox.close(60)
    assert [each.seq for each in await store.sessions.turns(ROBIN, SID)] == [0, 1]
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.COMPLETE
    await outbox.lease.release()


async def test_what_is_written_is_in_the_journal_before_mongodb_answers(store, tmp_path, monkeypatch):
    asked, answer = asyncio.Event(), asyncio.Event()

    def slow(method):
        async def answers_late(*arguments, **named):
            asked.set()
            await answer.wait()
            return await method(*arguments, **named)

        return answers_late

    for name in ("remember", "remember_if_newer"):  # on a busy machine it is not fresh any more
        monkeypatch.setattr(Memories, name, slow(getattr(Memories, name)))
    outbox = outbox_of(store, ROBIN, folder=tmp_path)
    outbox.start()
    writing = asyncio.create_task(outbox.write(Remember(now(), "city", "Rome")))
    await asked.wait()
    await until(lambda: kinds(tmp_path) == ["remember"])
    answer.set()
    await writing
    await until(lambda: kinds(tmp_path) == [])
    assert await outbox.close(1.0)
    assert journal.files(tmp_path) == []
    await outbox.lease.release()


async def test_a_rejected_end_stays_in_the_journal_with_what_else_is_pending(store, tmp_path, monkeypatch, caplog):
    async def refuse(*_, **__):
        raise DatabaseError(why="quota")

    outbox = outbox_of(store, ROBIN, folder=tmp_path)
    outbox.start()
    monkeypatch.setattr(Sessions, "save", refuse)
    outbox.add(turn(0))
    outbox.add(End("hang-up", now(), {"job_id": "j"}))
    assert not await outbox.close(0.5)
    assert kinds(tmp_path)[-1] == "end"
    assert outbox.is_kept
    assert caplog.text.count("the session could not be stored: MongoDB answered with an error (quota)") == 1
    await outbox.lease.release()
    monkeypatch.undo()
    (found,) = await recover(store, tmp_path, DATABASE)
    assert found.outcome == "complete"
    assert await said(store, ROBIN) == ["turn 0"]


async def test_nothing_is_accepted_after_the_end(store, tmp_path):
    outbox = outbox_of(store, ROBIN, folder=tmp_path)
    outbox.start()
    assert await outbox.close(1.0)
    outbox.add(turn(0))
    await outbox.write(Remember(now(), "city", "Rome"))
    assert outbox.is_empty
    assert journal.files(tmp_path) == []
    await outbox.lease.release()
    assert await store.memories.count(ROBIN) == 0


# ---------------------------------------------------------------- live and recovered


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_a_session_leaves_the_same_whether_it_is_stored_live_or_recovered(store, tmp_path_factory, data):
    """Any operations in any order; MongoDB is away from any one of them on, and the process dies or not."""
    for name in ("sessions", "turns", "memories", "users"):
        await store.db[name].delete_many({})
    folder = tmp_path_factory.mktemp("spool")
    await store.memories.remember(GUEST, "city", "Oslo")
    began = now()
    kind = st.sampled_from(["turn", "remember", "forget", "profile"])
    steps = data.draw(st.lists(st.tuples(kind, st.integers(0, 2)), min_size=1, max_size=8))
    away_from, is_killed = data.draw(st.integers(0, 8)), data.draw(st.booleans())
    outbox = outbox_of(store, ROBIN, folder=folder)
    outbox.start()
    slots, name, turns = {}, None, []
    with pytest.MonkeyPatch.context() as patch:
        for number, (what, which) in enumerate(steps):
            if number == away_from:
                _refuse(patch)
            at = now()
            match what:
                case "turn":
                    turns.append(f"turn {number}")
                    outbox.add(turn(number, began))
                case "remember":
                    slots[f"slot_{which}"] = str(number)
                    await outbox.write(Remember(at, f"slot_{which}", str(number)))
                case "forget":
                    slots.pop(f"slot_{which}", None)
                    await outbox.write(Forget(at, f"slot_{which}"))
                case "profile":
                    name = f"name {number}"
                    await outbox.write(SetProfile(at, "name", name))
            await asyncio.sleep(0.002)  # times are kept in whole milliseconds
        if is_killed:
            await until(outbox._journal._writing.done)
            await outbox.abandon()
        else:
            outbox.add(End("hang-up", now()))
            await outbox.close(0.2)
        await outbox.lease.release()
    await recover(store, folder, DATABASE)
    assert journal.files(folder) == []
    assert {each.memory_type: each.content for each in await store.memories.slots(ROBIN)} == slots
    profile = await store.users.get(ROBIN)
    assert (profile and profile.name) == name
    assert await said(store, ROBIN) == turns
    record = await store.sessions.get(ROBIN, SID)
    assert record.status is (SessionStatus.INTERRUPTED if is_killed else SessionStatus.COMPLETE)
    assert [each.content for each in await store.memories.slots(GUEST)] == ["Oslo"]


def _refuse(patch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_, **__):
        raise DatabaseUnavailableError

    patch.setattr("lkmongo.outbox.outbox.apply", unavailable)


def test_a_damaged_entry_of_each_operation_is_refused():
    for operation in SAMPLES:
        entry = operation.entry
        optional = {"op", "since", "report", "summary", "learn", "metrics", "valid_from", "valid_to", "source", "dates"}
        optional |= {"calls", "wording", "last"}
        for name in set(entry) - optional:
            if isinstance(operation, AddTurn) and name not in {"seq", "item_id", "kind", "created_at", "numbered"}:
                continue
            with pytest.raises(journal.UNREADABLE):
                operation_of({key: value for key, value in entry.items() if key != name})
    with pytest.raises(LookupError):
        operation_of({"op": "of a later version"})


def test_journals_can_be_written_by_one_version_and_read_by_another(tmp_path):
    record = SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, AT)
    written = Journal.create(tmp_path, record, owner="host/boot/1", database=DATABASE)
    written.append([each.entry for each in SAMPLES])
    written.close(delete=False)
    assert [sorted(entry) for entry in journal.read(written.path).entries] == [
        ["at", "content", "label", "op"],
        ["at", "content", "dates", "label", "op", "source", "valid_from"],
        ["at", "label", "op", "valid_to"],
        ["at", "label", "op"],
        ["at", "calls", "label", "op"],
        ["at", "op", "words"],
        ["at", "field", "op", "value"],
        ["at", "field", "op", "value"],
        ["at", "gist", "op", "since"],
        sorted(
            ["op", "numbered", "seq", "item_id", "kind", "created_at", "name", "arguments", "output", "metrics"]
            + [each for each in ("interrupted", "is_error") if each in SAMPLES[9].entry]
        ),
        ["content", "item_id", "op"],
        ["counts", "op"],
        ["op", "tenant_id", "user_id"],
        ["ended_at", "learn", "op", "reason", "report", "summary"],
        ["event_id", "op"],
        ["at", "by", "op", "state", "wording"],
        ["at", "last_digits", "op", "phone_hash"],
        ["op", "phone_hash", "tenant_id", "user_id"],
        ["last", "op", "slots", "tenant_id", "user_id"],
    ]
