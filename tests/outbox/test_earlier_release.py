"""Workers of this and of an earlier release at the same time: each takes over what the other began or left."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.recovery import recover
from lkmongo.store.mongo.schema import COLLECTIONS, OURS
from tests.earlier import DATABASE, JOURNALS, NAMED, RECOVERED, documents, leave_journals, restore

JUNE = UserScope(tenant_id="default", user_id="june")
OWNER = "worker-2/boot-2/1/0a0a0a0a"
ENTRIES = {
    "turn": {"op", "numbered", "seq", "item_id", "kind", "created_at", "is_error", "interrupted"},
    "remember": {"op", "label", "content", "at"},
    "forget": {"op", "label", "at"},
    "profile": {"op", "field", "value", "at"},
    "told": {"op", "field", "value", "at"},
    "gist": {"op", "gist", "at", "since"},
    "was": {"op", "tenant_id", "user_id"},
    "end": {"op", "reason", "ended_at", "report"},
}
"""The fields of each kind of entry. The release before reads them, so they keep their names."""
OF_TURNS = {"role", "content", "name", "arguments", "output", "metrics"}
"""Fields that a turn may have besides."""
NEW = ("valid_from", "former_until", "no_summary")
"""What this release stores besides: since when a value is true, and that a call in which something was forgotten has no
summary."""
HEADER = {"tenant_id", "user_id", "session_id", "room_name", "started_at", "owner", "database"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return journal.journal_folder(tmp_path)


def by_key(found: list[tuple[str, dict[str, Any]]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Documents by collection and key, without what differs each time: new ids, and the time of the recovery itself."""
    keyed = {}
    for name, document in found:
        ids = [document.get(field) for field in ("tenant_id", "user_id", "session_id", "seq", "memory_type", "source")]
        key = str([*ids, document.get("chunk"), document["_id"] if name not in OURS or name == "visitors" else None])
        left_out = {"_id", "schema_version", "interrupted_at"}
        keyed[name, key] = {field: value for field, value in document.items() if field not in left_out}
        if isinstance(last := document.get("last_session"), dict):
            last.pop("session_id", None)  # which that release did not store
    return keyed


async def stored(store) -> list[tuple[str, dict[str, Any]]]:
    return [(name, document) for name in COLLECTIONS async for document in store.db[name].find()]


async def test_what_an_earlier_release_left_is_stored_as_it_would_have_stored_it(store, folder):
    await restore(store)
    leave_journals(folder)
    found = await recover(store, folder, NAMED)
    outcomes = {(each.scope.user_id, each.outcome, each.turns, each.changes, each.left_out) for each in found}
    assert outcomes == {
        ("finn", "erased", 0, 0, 0),
        ("gwen", "interrupted", 9, 3, 0),
        ("hugo", "complete", 6, 1, 0),
        ("iris", "interrupted", 14, 3, 0),
        ("june", "interrupted", 0, 0, 0),
    }
    assert list(folder.iterdir()) == []
    ours, theirs = by_key(await stored(store)), by_key(list(documents(RECOVERED)))
    added = [ours.pop(key) for key in ours.keys() - theirs.keys()]
    assert [(each["user_id"], each["memory_type"]) for each in added] == [("gwen", "favorite_season")]
    for document in ours.values():
        for name in NEW:
            document.pop(name, None)
    assert {key: ours[key] for key in ours if ours[key] != theirs[key]} == {}
    assert len(theirs) > len(list(documents(DATABASE)))


async def test_a_recovery_that_is_repeated_stores_nothing_twice(store, folder, tmp_path):
    await restore(store)
    leave_journals(folder)
    await recover(store, folder, NAMED)
    once = by_key(await stored(store))
    folder.rmdir()
    leave_journals(folder)
    again = await recover(store, folder, NAMED)
    assert sum(each.turns for each in again) == 0
    twice = by_key(await stored(store))
    assert twice.keys() == once.keys()
    for key, document in twice.items():  # a field may be written once more as it is
        assert {**document, "memory_version": 0} == {**once[key], "memory_version": 0}


async def test_what_was_recovered_is_stamped(store, folder):
    leave_journals(folder)
    await recover(store, folder, NAMED)
    found = await stored(store)
    assert {name for name, _ in found} == {"users", "memories", "sessions", "turns"}
    assert {document.get("schema_version") for _, document in found} == {1}


def test_the_entries_keep_their_fields(folder):
    leave_journals(folder)
    seen = defaultdict(set)
    for path in journal.files(folder):
        contents = journal.read(path)
        assert (contents.damaged, contents.database) == (0, NAMED)
        for entry in contents.entries:
            seen[entry["op"]].add(frozenset(entry))
    assert seen.keys() == ENTRIES.keys()
    for op, fields in seen.items():
        for each in fields:
            assert each - (OF_TURNS if op == "turn" else set()) == ENTRIES[op]


def test_a_journal_is_written_as_it_was(folder, tmp_path):
    """To the byte, but for milliseconds that are zero: the release before has to read it."""
    leave_journals(folder)
    for path in journal.files(folder):
        contents = journal.read(path)
        again = Journal.create(tmp_path / "again", contents.record, owner=contents.owner, database=contents.database)
        again.append(contents.entries)
        again.close(delete=False)
        written = again.path.read_bytes()
        assert written.replace(b',"redacted":true', b"") == (JOURNALS / path.name).read_bytes().replace(b".000Z", b"Z")
        assert set(json.loads(written.splitlines()[0])) == HEADER | {"redacted"}, "which that release passes over"


# -- a session that a worker of the earlier release began, and did not end


async def test_a_session_of_an_earlier_release_is_found_and_continued(store):
    await restore(store)
    (record,) = [each for each in await store.sessions.expired("lkmongo-agent", "shop.livekit.cloud") if
                 each.scope == JUNE]  # fmt: skip
    before = await store.sessions.left_off(JUNE, record.session_id)
    assert [turn.content for turn in before] == ["Hello.", "Hello there.", "All right."]
    assert await store.sessions.claim(record, OWNER, instead_of="")
    assert await store.sessions.open(record, OWNER) is False
    seq = await store.sessions.next_seq(JUNE, record.session_id)
    assert seq == len(before)
    await store.sessions.append(JUNE, record.session_id, [Turn(seq, "new", TurnKind.MESSAGE, now(), "user", "Again.")])
    (stored_record,) = await store.sessions.recent(JUNE)
    assert (stored_record.status, stored_record.started_at) == ("active", record.started_at)
    assert [turn.seq for turn in await store.sessions.turns(JUNE, record.session_id)] == [0, 1, 2, 3]


async def test_a_lease_of_an_earlier_release_is_respected(store):
    """As its worker would have it: the owner is another process, on another host."""
    await restore(store)
    held = {"lease.until": now() + timedelta(minutes=5)}
    await store.db.sessions.update_one(JUNE.filter, {"$set": held})
    (record,) = await store.sessions.recent(JUNE)
    assert "june-1" in await store.sessions.live(JUNE)
    assert not await store.sessions.claim(record, OWNER, instead_of="")
    assert await store.sessions.renew(JUNE, record.session_id, OWNER) == "another's"
    assert (JUNE, record.session_id) not in await store.sessions.interrupt_lost()


async def test_a_session_that_this_release_begins_has_all_that_the_earlier_one_reads(store):
    """Fields and their types are those of its own documents; it ignores further ones."""
    earlier = {(name, document["user_id"]): document for name, document in documents(DATABASE) if name == "sessions"}
    turns = [document for name, document in documents(DATABASE) if name == "turns"]
    theirs = earlier["sessions", "june"]
    began = now()
    record = SessionRecord(
        "s-1", JUNE, "room", SessionStatus.ACTIVE, began, participant_identity="caller-1", agent="lkmongo-agent",
        agent_participant="agent-1", livekit="shop.livekit.cloud",
    )  # fmt: skip
    await store.sessions.open(record, OWNER)
    await store.sessions.append(JUNE, "s-1", [Turn(0, "item", TurnKind.MESSAGE, began, role="user", content="Hello")])
    session = await store.db.sessions.find_one(JUNE.filter)
    assert session.keys() - theirs.keys() == {"schema_version"}
    assert {name: type(value) for name, value in session.items() if name != "schema_version"} == {
        name: type(value) for name, value in theirs.items()
    }
    assert session["lease"].keys() == theirs["lease"].keys()
    said = next(each for each in turns if each.get("role") == "user")
    turn = await store.db.turns.find_one(JUNE.filter)
    assert turn.keys() - said.keys() == {"schema_version"}
    assert {name: type(turn[name]) for name in said} == {name: type(value) for name, value in said.items()}
    await store.sessions.save(SessionRecord("s-1", JUNE, "room", SessionStatus.COMPLETE, began, now(), "hang-up"))
    ended = await store.db.sessions.find_one(JUNE.filter)
    whole = earlier["sessions", "cleo"]
    assert ended.keys() - whole.keys() == {"schema_version"}
    assert "lease" not in ended
