"""Forgetting somebody of whom nothing is here: nobody becomes known by it, and nothing that waits comes back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from lkmongo import backoff
from lkmongo.agent.ending import end_session
from lkmongo.embed.local import LocalEmbedder
from lkmongo.errors import DeclinedError, InvalidTextError, NotFoundError
from lkmongo.model import LastSession, Profile, SessionRecord, SessionStatus, now
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.recovery import recover
from lkmongo.store.people.erase import erase, receipts
from lkmongo.store.people.forget import forget, forget_known, forget_line
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.merge import merge
from lkmongo.store.people.person import LAST_SESSION, count, is_known
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import Users
from lkmongo.store.seed.seeding import seed
from lkmongo.store.seed.seeds import SeedData
from tests.overlaps import DATABASE, GUEST, ROBIN, ROOM, SID, a_call, away, say
from tests.waiting import until

LONG_AGO = now() - timedelta(minutes=5)
MONGODB = [(Memories, name) for name in ("remember", "remember_if_newer", "delete", "contents")]
MONGODB += [(Users, name) for name in ("get", "seen", "set_field", "set_field_if_newer", "set_last_session", "forget")]


def leave(folder, began, *, who=ROBIN):
    """What a worker that never reached MongoDB has left of a call."""
    left = Journal.create(
        folder, SessionRecord(SID, who, ROOM, SessionStatus.ACTIVE, began), owner="elsewhere/boot/1", database=DATABASE
    )
    at = began + timedelta(seconds=1)
    left.append(
        [
            {"op": "remember", "label": "pet", "content": "a heron", "at": at},
            {"op": "profile", "field": "name", "value": "Robin", "at": at},
            {"op": "told", "field": "email", "value": "robin@example.org", "at": at},
            {"op": "gist", "gist": "about the heron", "at": at, "since": began},
        ]
    )
    left.close(delete=False)


async def known_of(store, who=ROBIN):
    """What the next call would know of a person."""
    profile = await store.users.get(who) or Profile(who)
    gist = profile.last_session and profile.last_session.gist
    return {slot.memory_type for slot in await store.memories.slots(who)}, profile.name, profile.email, gist


NOTHING = (set(), None, None, None)
ALL = ({"pet"}, "Robin", "robin@example.org", "about the heron")


async def a_guest_became_them(store):
    await store.users.seen(GUEST)
    await merge(store.db, GUEST, ROBIN)


MEANWHILE = {
    "nothing happens": lambda _store: asyncio.sleep(0),
    "they are in a call": lambda store: store.users.seen(ROBIN),
    "their name is set": lambda store: store.users.set_field(ROBIN, "timezone", "Europe/Berlin"),
    "something new is remembered": lambda store: store.memories.remember(ROBIN, "colour", "teal"),
    "sample people are loaded": lambda store: seed(store.db, SeedData(users=(Profile(ROBIN),)), LocalEmbedder()),
    "a guest turns out to be them": a_guest_became_them,
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
async def test_what_waited_does_not_come_back_and_what_is_said_later_stays(store, tmp_path, meanwhile):
    leave(tmp_path, LONG_AGO)
    await forget(store, ROBIN)
    assert not any((await count(store.db, ROBIN)).values())
    assert not await is_known(store.db, ROBIN)
    assert await store.users.page() == []
    await MEANWHILE[meanwhile](store)
    await recover(store, tmp_path, DATABASE)
    slots, *others = await known_of(store)
    assert (slots - {"colour"}, *others) == NOTHING
    leave(tmp_path, now() + timedelta(seconds=1))
    await recover(store, tmp_path, DATABASE)
    slots, *others = await known_of(store)
    assert (slots - {"colour"}, *others) == ALL


async def test_nor_as_another_persons_whom_they_turned_out_to_be(store, tmp_path):
    await forget(store, GUEST)
    await store.memories.remember(GUEST, "colour", "teal")
    await merge(store.db, GUEST, ROBIN)
    leave(tmp_path, LONG_AGO)
    await recover(store, tmp_path, DATABASE)
    assert await known_of(store) == ({"colour"}, None, None, None)


async def test_nor_by_a_call_that_reaches_mongodb_later(store, tmp_path, monkeypatch):
    monkeypatch.setattr(backoff, "RETRY_SCHEDULE", (0.05,))
    note, delete = Users.forget, Memories.delete
    async with a_call(store, ROBIN, tmp_path) as call:
        with away(*MONGODB):
            call.recorder.start()
            say(call.recorder, "my pet is a heron", now().timestamp())
            await call.caller.remember("pet", "a heron")
            await call.caller.set_profile("name", "Robin")
            await asyncio.sleep(0.02)  # times are kept in whole milliseconds
            await note(store.users, ROBIN, at=now())
            await delete(store.memories, ROBIN)
            assert await store.db.users.find_one() is None
        await until(lambda: call.caller.saved == "stored")
        await store.users.seen(ROBIN)
        await end_session(call, "hang-up", dict, ended_at=now())
    assert await known_of(store) == NOTHING


async def test_what_a_call_asked_to_be_forgotten_that_never_reached_mongodb_makes_no_profile(store, tmp_path):
    record = SessionRecord(SID, ROBIN, ROOM, SessionStatus.ACTIVE, LONG_AGO)
    left = Journal.create(tmp_path, record, owner="elsewhere/boot/1", database=DATABASE)
    left.append([{"op": "forget", "label": "pet", "at": now()}])
    left.close(delete=False)
    await recover(store, tmp_path, DATABASE)
    assert await store.users.get(ROBIN) is None
    leave(tmp_path, LONG_AGO)
    await recover(store, tmp_path, DATABASE)
    assert await known_of(store) == NOTHING


async def test_it_erases_nobody_and_of_two_times_the_later_counts(store):
    tombstones = Tombstones(store.db)
    assert await tombstones.forgotten_at(ROBIN) is None
    await tombstones.note_forgotten(ROBIN, LONG_AGO)
    await tombstones.note_forgotten(ROBIN, LONG_AGO - timedelta(minutes=1))
    at = await Tombstones(store.db).forgotten_at(ROBIN)
    assert at == LONG_AGO
    assert await tombstones.forgotten_at(GUEST) is None
    assert await tombstones.get(ROBIN) is None
    assert not await tombstones.bars(ROBIN, timedelta(days=300))
    await erase(store.db, GUEST, by="Sam")
    assert await tombstones.among([ROBIN, GUEST]) == ({GUEST}, {ROBIN: at})


async def test_what_the_profile_says_of_the_last_call_is_gone_also_when_it_is_made_meanwhile(store, monkeypatch):
    note = Tombstones.note_forgotten

    async def made_meanwhile(*arguments):
        await store.users.set_last_session(ROBIN, LastSession(now(), "about the heron"), started_at=LONG_AGO)
        await note(*arguments)

    monkeypatch.setattr(Tombstones, "note_forgotten", made_meanwhile)
    await forget(store, ROBIN)
    assert await known_of(store) == NOTHING


async def test_what_is_forgotten_just_before_the_profile_is_made_stays_forgotten(store, monkeypatch):
    look, looks = Tombstones.forgotten_at, []

    async def look_and_then_forget(*arguments):
        found = await look(*arguments)
        if not looks:
            looks.append(found)
            await forget(store, ROBIN)
        return found

    monkeypatch.setattr(Tombstones, "forgotten_at", look_and_then_forget)
    await store.users.set_last_session(ROBIN, LastSession(LONG_AGO, "about the heron"), started_at=LONG_AGO)
    assert looks == [None]
    assert await known_of(store) == NOTHING
    assert await store.users.forgot_after(ROBIN, LONG_AGO)


async def test_somebody_unknown_who_is_to_be_erased_is_barred_and_can_be_erased_once_they_are_known(store, tmp_path):
    tombstones = Tombstones(store.db)
    await tombstones.bar(ROBIN)
    assert await receipts(store.db, ROBIN.tenant, scope=ROBIN) == []
    leave(tmp_path, LONG_AGO)
    (found,) = await recover(store, tmp_path, DATABASE)
    assert found.outcome == "erased"
    assert not await is_known(store.db, ROBIN)
    await store.memories.remember(ROBIN, "colour", "teal")
    receipt = await erase(store.db, ROBIN, by="Sam")
    assert (receipt.counts["memories"], receipt.counts["users"]) == (1, 1)
    await tombstones.bar(ROBIN)
    there = await tombstones.get(ROBIN)
    assert (there.erase_id, there.done, there.erased_at > receipt.erased_at) == (receipt.erase_id, True, True)


async def about_a_heron(store):
    await store.memories.remember(ROBIN, "pet", "a heron")
    await store.users.set_field(ROBIN, "name", "Robin")
    await store.users.set_last_session(ROBIN, LastSession(now(), "about the heron"), started_at=LONG_AGO)


async def test_one_label_that_cannot_be_one_and_nothing_is_forgotten(store):
    await about_a_heron(store)
    with pytest.raises(InvalidTextError):
        await forget(store, ROBIN, ["pet", "!!"])
    assert await known_of(store) == ({"pet"}, "Robin", None, "about the heron")


async def test_nothing_is_forgotten_before_the_answer_and_nothing_is_asked_for_nothing(store):
    await about_a_heron(store)
    before = await known_of(store)

    def decline(found):
        assert (found.memory_types, found.profile_fields, found.last_session) == (["pet"], ["name"], True)
        raise DeclinedError

    with pytest.raises(DeclinedError):
        await forget_known(store, ROBIN, profile=True, confirm=decline)
    assert (await forget_known(store, ROBIN, profile=True, dry_run=True, confirm=decline)).deleted == 0
    assert await known_of(store) == before
    asked = []
    assert (await forget_known(store, ROBIN, profile=True, confirm=asked.append)).deleted == 1
    assert await known_of(store) == NOTHING
    assert not await forget_known(store, ROBIN, profile=True, confirm=asked.append)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("kind", "name", "left"),
    [
        ("memory", "pet", (set(), "Robin", None, None)),
        ("profile", "name", ({"pet"}, None, None, None)),
        ("profile", LAST_SESSION, ({"pet"}, "Robin", None, None)),
    ],
)
async def test_a_line_is_forgotten_once_and_the_last_sessions_gist_with_it(store, kind, name, left):
    await about_a_heron(store)
    await forget_line(store, ROBIN, kind, name)
    assert await known_of(store) == left
    for missing in ((kind, name), ("profile", "user_id")):
        with pytest.raises(NotFoundError):
            await forget_line(store, ROBIN, *missing)
