"""Recovery: journals are stored exactly once and in order, whenever it is stopped and whoever runs it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import LastSession, SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.journal import Journal, journal_folder
from lkmongo.outbox.operations import AddTurn, Entry, MoveGuest
from lkmongo.outbox.recovery import Recovered, recover
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from lkmongo.store.people.erase import erase
from lkmongo.store.people.forget import forget
from lkmongo.store.sessions.documents import summary_fields
from lkmongo.store.sessions.sessions import Sessions
from lkmongo.summary import Summary
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
GUEST = UserScope(tenant_id="default", user_id="guest-7")
OWNER = "host/boot/1"
BEGAN = now() - timedelta(minutes=5)
CALL = SessionRecord("call-1", ROBIN, "room", SessionStatus.ACTIVE, BEGAN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return journal_folder(tmp_path / "home")


def later(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def turn(number: int, text: str | None = None, at: float | None = None) -> Turn:
    said = text or f"turn {number}"
    when = later(number if at is None else at)
    return Turn(number, f"item-{said}", TurnKind.MESSAGE, when, role="user", content=said)


def kept(*turns: Turn, is_numbered: bool = True) -> list[Entry]:
    return [AddTurn(each, numbered=is_numbered).entry for each in turns]


def leave(folder: Path, entries: list[Entry], record: SessionRecord = CALL, *, database: str = "db") -> Path:
    call = Journal.create(folder, record, owner=OWNER, database=database)
    if entries:
        call.append(entries)
    call.close(delete=False)
    return call.path


async def stored(store: Store, scope: UserScope = ROBIN, session_id: str = "call-1") -> list[str | None]:
    turns = await store.sessions.turns(scope, session_id)
    assert [each.seq for each in turns] == sorted({each.seq for each in turns})
    return [each.content for each in turns]


async def one(store: Store, folder: Path) -> Recovered:
    (found,) = await recover(store, folder, "db")
    assert journal.files(folder) == []
    return found


END: Entry = {"op": "end", "reason": "hang-up", "ended_at": later(60), "report": {"job_id": "j"}}


async def test_a_session_that_mongodb_never_saw_is_stored_completely(store, folder):
    leave(
        folder,
        [
            *kept(turn(0), turn(1), is_numbered=False),
            {"op": "remember", "label": "colour", "content": "teal", "at": later(1)},
            {"op": "profile", "field": "name", "value": "Robin", "at": later(2)},
            *kept(turn(2), is_numbered=False),
            {"op": "gist", "gist": "a lamp", "at": later(3)},
            END,
        ],
    )
    found = await one(store, folder)
    assert found == Recovered(ROBIN, "call-1", "complete", turns=3, changes=2)
    assert await stored(store) == ["turn 0", "turn 1", "turn 2"]
    call = await store.sessions.get(ROBIN, "call-1")
    assert call == replace(
        CALL, status=SessionStatus.COMPLETE, ended_at=later(60), close_reason="hang-up", report={"job_id": "j"}
    )
    assert (await store.memories.recall(ROBIN, "colour")).updated_at == later(1)
    profile = await store.users.get(ROBIN)
    assert (profile.name, profile.last_session) == ("Robin", LastSession(later(3), "a lamp"))
    assert await recover(store, folder, "db") == []


async def test_a_killed_session_ends_with_its_last_turn(store, folder):
    await store.sessions.open(CALL, OWNER)
    await store.sessions.append(ROBIN, "call-1", [turn(0), turn(1)])
    leave(folder, kept(turn(1), turn(2)))
    found = await one(store, folder)
    assert (found.outcome, found.turns) == ("interrupted", 1)
    assert await stored(store) == ["turn 0", "turn 1", "turn 2"]
    call = await store.sessions.get(ROBIN, "call-1")
    assert (call.status, call.ended_at, call.close_reason) == (SessionStatus.INTERRUPTED, later(2), "killed")
    assert await store.sessions.live(ROBIN) == []


async def test_a_killed_session_is_found_even_with_an_empty_journal(store, folder):
    await store.sessions.open(CALL, OWNER)
    leave(folder, [])
    assert (await one(store, folder)).outcome == "interrupted"
    assert (await store.sessions.get(ROBIN, "call-1")).ended_at == BEGAN


async def test_a_completed_session_is_not_changed(store, folder):
    ended = replace(CALL, status=SessionStatus.COMPLETE, ended_at=later(9), close_reason="hang-up")
    await store.sessions.open(CALL, OWNER)
    await store.sessions.append(ROBIN, "call-1", [turn(0)])
    await store.sessions.save(ended)
    leave(folder, kept(turn(0)))
    found = await one(store, folder)
    assert (found.outcome, found.turns) == ("complete", 0)
    assert await store.sessions.get(ROBIN, "call-1") == ended
    assert "lease" not in await store.db.sessions.find_one({})


async def test_a_session_continued_by_another_process_keeps_its_lease_and_is_completed_at_its_end(store, folder):
    await store.sessions.append(ROBIN, "call-1", [turn(0)])
    path = leave(
        folder,
        [
            *kept(turn(1, "of the first", 1), turn(2, "also of the first", 2)),
            {"op": "remember", "label": "colour", "content": "teal", "at": later(2)},
        ],
    )
    await store.sessions.open(CALL, "elsewhere/boot/2")
    await store.sessions.append(ROBIN, "call-1", [turn(1, "of the second", 10)])
    (found,) = await recover(store, folder, "db")
    assert (found.outcome, found.turns, found.changes) == ("continued", 0, 1)
    assert (await store.memories.recall(ROBIN, "colour")).content == "teal"
    assert (await store.db.sessions.find_one({}))["lease"]["owner"] == "elsewhere/boot/2"
    assert path.exists()
    await store.sessions.append(ROBIN, "call-1", [turn(2, "of the second again", 11)])
    await store.sessions.save(replace(CALL, status=SessionStatus.COMPLETE, ended_at=later(20)))
    found = await one(store, folder)
    assert (found.outcome, found.turns) == ("complete", 2)
    assert await stored(store) == [
        "turn 0",
        "of the first",
        "also of the first",
        "of the second",
        "of the second again",
    ]


async def test_a_session_resumed_after_one_without_sequence_numbers(store, folder):
    await store.sessions.append(ROBIN, "call-1", [turn(0, "second", 10), turn(1, "third", 11)])
    leave(folder, kept(turn(0, "first", 1), is_numbered=False))
    await one(store, folder)
    assert await stored(store) == ["first", "second", "third"]


async def test_turns_follow_those_of_the_previous_process(store, folder):
    await store.sessions.append(ROBIN, "call-1", [turn(0, "first", 1), turn(1, "second", 2)])
    leave(folder, kept(turn(0, "third", 3), turn(1, "fourth", 4), is_numbered=False))
    await one(store, folder)
    assert await stored(store) == ["first", "second", "third", "fourth"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_every_turn_is_stored_once_and_in_order(store, folder, data):
    """Any part of a call is stored, any part on disk, some in both, and another process follows, or none."""
    count = data.draw(st.integers(1, 12))
    said = [turn(number) for number in range(count)]
    first = data.draw(st.integers(0, count))  # turns of the process that died; another one has the rest
    own = said[:first]
    there = [each for each in own if data.draw(st.booleans())]
    on_disk = [each for each in own if each not in there or data.draw(st.booleans())]
    base = max((each.seq for each in there), default=-1) + 1
    others = [replace(each, seq=base + number) for number, each in enumerate(said[first:])]
    session_id = f"call-{uuid4()}"
    await store.sessions.append(ROBIN, session_id, [*there, *others])
    leave(folder, kept(*on_disk), replace(CALL, session_id=session_id))
    found = await one(store, folder)
    assert found.turns == len(own) - len(there)
    assert await stored(store, session_id=session_id) == [each.content for each in said]


class Killed(BaseException):
    """The process is no more."""


@pytest.mark.parametrize("after", range(14))
async def test_recovery_can_be_killed_after_any_write_and_repeated(store, folder, monkeypatch, after):
    await store.sessions.append(ROBIN, "call-1", [turn(0), turn(1, "of another process", 50)])
    await store.sessions.append(GUEST, "call-1", [turn(1), turn(3)])
    await store.memories.remember(ROBIN, "size", "M")
    leave(
        folder,
        [
            MoveGuest(GUEST.tenant_id, GUEST.user_id).entry,
            *kept(turn(0), turn(1), turn(2)),
            {"op": "remember", "label": "colour", "content": "teal", "at": now()},
            {"op": "forget", "label": "size", "at": now()},
            {"op": "profile", "field": "name", "value": "Robin", "at": now()},
            END,
        ],
    )
    real, left = operations.write, [after]

    async def write(operation):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return await real(operation)

    monkeypatch.setattr(operations, "write", write)
    try:
        await recover(store, folder, "db")
    except Killed:
        assert len(journal.files(folder)) == 1
    monkeypatch.undo()
    await recover(store, folder, "db")
    assert journal.files(folder) == []
    assert await stored(store) == ["turn 0", "turn 1", "turn 2", "turn 3", "of another process"]
    assert await stored(store, GUEST) == []
    assert await store.sessions.get(GUEST, "call-1") is None
    assert (await store.sessions.get(ROBIN, "call-1")).status is SessionStatus.COMPLETE
    assert [slot.memory_type for slot in await store.memories.slots(ROBIN)] == ["colour"]
    assert (await store.users.get(ROBIN)).name == "Robin"


async def test_concurrent_recoveries_store_everything_once(store, folder):
    for number in range(20):
        leave(folder, [*kept(turn(0), turn(1)), END], replace(CALL, session_id=f"call-{number}"))
    found = await asyncio.gather(*(recover(store, folder, "db") for _ in range(4)))
    assert sorted(each.session_id for some in found for each in some) == sorted(f"call-{n}" for n in range(20))
    assert sum(each.turns for some in found for each in some) == 40
    assert journal.files(folder) == []
    assert await store.db.turns.count_documents({}) == 40


async def test_a_live_session_is_left_alone(store, folder):
    call = Journal.create(folder, CALL, owner=OWNER, database="db")
    call.append(kept(turn(0)))
    await store.sessions.open(CALL, OWNER)
    assert await recover(store, folder, "db") == []
    assert await stored(store) == []
    call.close(delete=True)


async def test_a_journal_for_another_database_is_left_alone(store, folder):
    path = leave(folder, kept(turn(0)), database="another")
    before = path.read_bytes()
    assert await recover(store, folder, "db") == []
    assert path.read_bytes() == before
    assert await store.db.turns.count_documents({}) == 0


async def test_nothing_of_an_erased_person_is_replayed(store, folder):
    entries = [
        MoveGuest(GUEST.tenant_id, GUEST.user_id).entry,
        *kept(turn(0)),
        {"op": "remember", "label": "colour", "content": "teal", "at": later(1)},
        {"op": "profile", "field": "name", "value": "Robin", "at": later(2)},
        END,
    ]
    leave(folder, entries)
    await store.memories.remember(ROBIN, "size", "M")
    await erase(store.db, ROBIN, by="Sam")
    after = replace(CALL, session_id="call-2", started_at=now() + timedelta(seconds=1))
    leave(folder, kept(turn(0)), after)
    found = {each.session_id: each.outcome for each in await recover(store, folder, "db")}
    assert found == {"call-1": "erased", "call-2": "interrupted"}
    assert journal.files(folder) == []
    assert [each.session_id for each in await store.sessions.recent(ROBIN)] == ["call-2"]
    assert await store.memories.slots(ROBIN) == []


async def test_a_person_erased_during_recovery_leaves_nothing(store, folder, monkeypatch):
    leave(folder, [*kept(turn(0)), {"op": "remember", "label": "colour", "content": "teal", "at": later(1)}])
    append = Sessions.append_missing

    async def erased_meanwhile(self, *arguments):
        erasing.append(asyncio.create_task(erase(store.db, ROBIN, by="Sam")))
        await until(lambda: store.db.tombstones.count_documents({}))
        return await append(self, *arguments)

    erasing: list[asyncio.Task] = []
    monkeypatch.setattr(Sessions, "append_missing", erased_meanwhile)
    assert (await one(store, folder)).outcome == "erased"
    await erasing[0]
    for name in ("sessions", "turns", "memories", "users"):
        assert await store.db[name].count_documents({}) == 0, name


async def test_the_newer_of_two_values_wins(store, folder):
    await store.users.set_field(ROBIN, "name", "Robin the Second")
    await store.memories.remember(ROBIN, "colour", "green")
    leave(
        folder,
        [
            {"op": "remember", "label": "colour", "content": "teal", "at": later(1)},
            {"op": "remember", "label": "size", "content": "M", "at": later(1)},
            {"op": "forget", "label": "colour", "at": later(2)},
            {"op": "profile", "field": "name", "value": "Robin", "at": later(2)},
            {"op": "profile", "field": "email", "value": "robin@example.org", "at": later(2)},
        ],
    )
    found = await one(store, folder)
    assert (found.changes, found.left_out) == (2, 3)
    assert {slot.memory_type: slot.content for slot in await store.memories.slots(ROBIN)} == {
        "colour": "green",
        "size": "M",
    }
    profile = await store.users.get(ROBIN)
    assert (profile.name, profile.email) == ("Robin the Second", "robin@example.org")


async def test_a_slot_forgotten_since_is_not_replayed(store, folder):
    leave(
        folder,
        [
            {"op": "remember", "label": "colour", "content": "teal", "at": later(1)},
            {"op": "gist", "gist": "teal, please", "at": later(2)},
        ],
    )
    await store.memories.remember(ROBIN, "colour", "green")
    await forget(store, ROBIN, ["colour"])
    found = await one(store, folder)
    assert (found.changes, found.left_out) == (0, 1)
    assert await store.memories.slots(ROBIN) == []
    profile = await store.users.get(ROBIN)
    assert profile is None or profile.last_session is None


async def test_the_gist_of_a_first_session_that_mongodb_never_saw_is_stored(store, folder):
    leave(folder, [{"op": "gist", "gist": "teal, please", "at": later(2)}])
    await one(store, folder)
    assert (await store.users.get(ROBIN)).last_session == LastSession(later(2), "teal, please")


async def test_the_gist_of_a_later_session_is_not_overwritten(store, folder):
    await store.users.seen(ROBIN)
    await store.users.set_last_session(ROBIN, LastSession(now(), "the later one"), started_at=BEGAN)
    leave(folder, [{"op": "gist", "gist": "the earlier one", "at": later(2)}])
    await one(store, folder)
    assert (await store.users.get(ROBIN)).last_session.gist == "the later one"


async def test_an_identified_guest_leaves_no_second_session(store, folder):
    await store.sessions.open(replace(CALL, scope=GUEST), OWNER)
    await store.sessions.append(GUEST, "call-1", [turn(0), turn(1)])
    leave(folder, [MoveGuest(GUEST.tenant_id, GUEST.user_id).entry, *kept(turn(2))])
    found = await one(store, folder)
    assert (found.scope, found.turns) == (ROBIN, 3)
    assert await stored(store) == ["turn 0", "turn 1", "turn 2"]
    assert await store.sessions.recent(GUEST) == []
    assert await stored(store, GUEST) == []


async def test_sessions_of_other_hosts_end_when_their_lease_expires(store, folder):
    for name in ("lost", "alive", "over"):
        await store.sessions.open(replace(CALL, session_id=name), "elsewhere/boot/2")
    await store.sessions.append(ROBIN, "lost", [turn(0), turn(1)])
    await store.sessions.save(replace(CALL, session_id="over", status=SessionStatus.COMPLETE))
    await store.db.sessions.update_one({"session_id": "lost"}, {"$set": {"lease.until": later(0)}})
    found = await recover(store, folder, "db")
    assert [(each.session_id, each.outcome) for each in found] == [("lost", "interrupted")]
    lost = await store.sessions.get(ROBIN, "lost")
    assert (lost.status, lost.ended_at, lost.close_reason) == (SessionStatus.INTERRUPTED, later(1), "lost")
    assert (await store.sessions.get(ROBIN, "alive")).status is SessionStatus.ACTIVE
    assert (await store.sessions.get(ROBIN, "over")).status is SessionStatus.COMPLETE


HOSTILE: list[Entry] = [
    {"op": "turn"},
    {"op": "turn", "numbered": True, "kind": "message", "seq": "1", "item_id": "i", "created_at": BEGAN},
    {"op": "turn", "numbered": True, "kind": "message", "seq": 10**18, "item_id": "i", "created_at": BEGAN},
    {"op": "turn", "numbered": True, "kind": "message", "seq": -1, "item_id": "i", "created_at": BEGAN},
    {"op": "turn", "numbered": True, "kind": "message", "seq": 1, "item_id": {"$gt": ""}, "created_at": BEGAN},
    {"op": "turn", "numbered": True, "kind": "message", "seq": 1, "item_id": "i", "created_at": "today"},
    {"op": "turn", "numbered": True, "kind": "nonsense", "seq": 1, "item_id": "i", "created_at": BEGAN},
    {"op": "remember", "label": "colour", "content": "teal"},
    {"op": "remember", "label": "colour", "content": "teal", "at": "today"},
    {"op": "forget", "at": BEGAN},
    {"op": "profile", "field": "name", "at": BEGAN},
    {"op": "was", "tenant_id": "default", "user_id": {"$gt": ""}},
    {"op": "was"},
    {"op": "end"},
    {"op": "of a later version"},
]


@pytest.mark.parametrize("entry", HOSTILE, ids=range(len(HOSTILE)))
async def test_an_invalid_entry_affects_no_other_and_the_journal_is_quarantined(store, folder, entry):
    path = leave(folder, [*kept(turn(0)), entry, *kept(turn(1))])
    told = []
    (found,) = await recover(store, folder, "db", on_error=told.append)
    assert (found.turns, found.damaged) == (2, 1)
    assert await stored(store) == ["turn 0", "turn 1"]
    (error,) = told
    assert "1 of its lines cannot be" in error.message
    assert [each.name for each in folder.iterdir()] == [f"{path.stem}.damaged"]
    assert await recover(store, folder, "db", on_error=told.append) == []
    assert len(told) == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"op": "remember", "label": "!", "content": "teal", "at": BEGAN},
        {"op": "remember", "label": "colour", "content": {"$gt": ""}, "at": BEGAN},
        {"op": "remember", "label": "colour", "content": "x" * 5_000, "at": BEGAN},
        {"op": "profile", "field": "_id", "value": "x", "at": BEGAN},
        {"op": "profile", "field": "email", "value": "nonsense", "at": BEGAN},
    ],
    ids=range(5),
)
async def test_an_invalid_value_is_left_out(store, folder, entry):
    leave(folder, [entry, *kept(turn(0))])
    found = await one(store, folder)
    assert (found.left_out, found.changes, found.damaged, found.turns) == (1, 0, 0, 1)


async def test_a_journal_that_cannot_be_stored_does_not_block_others(store, folder):
    poison = leave(folder, [{"op": "end", "reason": "r", "ended_at": later(1), "report": {"nul\0": 1}}])
    broken = leave(folder, [])
    broken.write_bytes(b"nonsense\n")
    leave(folder, kept(turn(0)), replace(CALL, session_id="call-2", started_at=later(100)))
    told = []
    found = await recover(store, folder, "db", on_error=told.append)
    assert [each.session_id for each in found] == ["call-2"]
    assert sorted(path for path in journal.files(folder)) == sorted([poison, broken])
    assert len(told) == 2


async def test_without_mongodb_everything_stays_on_disk(folder):
    paths = [leave(folder, kept(turn(0))), leave(folder, kept(turn(1)))]
    before = [path.read_bytes() for path in paths]
    async with create_client("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100") as client:
        with pytest.raises(DatabaseUnavailableError):
            await recover(Store.of(client["x"]), folder, "db")
    assert [path.read_bytes() for path in paths] == before


async def test_a_long_turn_with_unusual_characters_is_stored_unchanged(store, folder):
    strange = replace(
        turn(0), content="\u2028\x00\x1b[2J 名前 " + "x" * 10_000, metrics={"a": float("inf"), "b": 1}, interrupted=True
    )
    tool = Turn(1, "tool", TurnKind.TOOL, later(1), name="n", arguments="{}", output="", is_error=True)
    leave(folder, kept(strange, tool))
    await one(store, folder)
    assert await store.sessions.turns(ROBIN, "call-1") == [strange, tool]


SUMMARY = Summary("They ordered a lamp.", BEGAN, ("lamp",))
ENDED: Entry = END | {"summary": summary_fields(SUMMARY)}


async def test_the_summary_of_a_session_whose_process_died_is_stored_once(store, folder):
    await store.users.seen(ROBIN)
    for _ in range(2):  # as if the process had died before it could delete the journal
        leave(folder, [*kept(turn(0)), ENDED])
        assert (await recover(store, folder, "db"))[0].outcome == "complete"
    assert [call.summary for call in await store.summaries.of_person(ROBIN)] == [SUMMARY]
    assert await store.summaries.save(ROBIN, "call-1", replace(SUMMARY, text="A lamp.", by="model"))
    leave(folder, [*kept(turn(0)), ENDED])
    await recover(store, folder, "db")
    assert [call.summary.text for call in await store.summaries.of_person(ROBIN)] == ["A lamp."]


async def test_no_summary_is_stored_that_may_tell_what_was_forgotten_since(store, folder):
    await store.users.seen(ROBIN)
    leave(folder, [*kept(turn(0)), ENDED])
    await forget(store, ROBIN, [])
    assert (await one(store, folder)).outcome == "complete"
    assert (await store.sessions.get(ROBIN, "call-1")).summary is None


async def test_of_a_session_that_another_agent_completes_there_is_one_summary(store, folder):
    """The first was killed at its very end: its journal is recovered after the other has told more."""
    await store.users.seen(ROBIN)
    more = Summary("They ordered a lamp and a chair.", BEGAN)
    complete = replace(CALL, status=SessionStatus.COMPLETE, ended_at=later(120), close_reason="hang-up", summary=more)
    await store.sessions.save(complete)
    leave(folder, [*kept(turn(0)), ENDED])
    await recover(store, folder, "db")
    assert [call.summary.text for call in await store.summaries.of_person(ROBIN)] == [more.text]
