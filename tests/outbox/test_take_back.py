"""A session that turns out to be somebody else's: it goes on as a guest's, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo import backoff, deadlines
from lkmongo.model import Source, Turn, TurnKind, UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.operations import AddTurn, End, EndFact, Forget, ForgetCalls, Operation, Remember, SetProfile
from lkmongo.outbox.outbox import Outbox
from lkmongo.outbox.recovery import recover
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.take_back import known_of
from tests.overlaps import DATABASE, GUEST, ROBIN, SID, away, kinds, outbox_of, said
from tests.waiting import until

OTHERS = "s-2"
JUNE = UserScope(tenant_id="default", user_id="june")
TURNS = [Turn(0, "item-0", TurnKind.MESSAGE, now(), role="user", content="I am not Robin")]


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch):
    monkeypatch.setattr(backoff, "RETRY_SCHEDULE", (0.02,))
    monkeypatch.setattr(deadlines, "TURN_ORDER", 0.02)


def told(label: str, content: str) -> Remember:
    return Remember(now(), label, content, None, Source("told", SID, "item-0"))


async def ended(outbox: Outbox) -> None:
    assert await outbox.close(1.0)
    await outbox.lease.release()


async def test_what_cannot_be_taken_back_is_on_disk_until_it_is_sure_who_speaks(store, tmp_path):
    await store.memories.remember(ROBIN, "city", "Rome")
    outbox = outbox_of(store, ROBIN, folder=tmp_path)
    outbox.start()
    outbox.hold_back()
    await outbox.write(SetProfile(now(), "name", "Robin"))
    await outbox.write(Forget(now(), "city", calls=False))
    await outbox.write(told("pet", "a cat"))
    assert outbox.saved == "kept"
    assert {each.memory_type for each in await store.memories.slots(ROBIN)} == {"city", "pet"}
    assert (await store.users.get(ROBIN)).name is None
    assert set(kinds(tmp_path)) >= {"profile", "forget"}
    outbox.release()
    await outbox.stored("memory")
    assert {each.memory_type for each in await store.memories.slots(ROBIN)} == {"pet"}
    assert (await store.users.get(ROBIN)).name == "Robin"
    assert outbox.saved == "stored"
    await ended(outbox)


async def test_the_end_stores_what_was_held_back(store):
    await store.memories.remember(ROBIN, "city", "Rome")
    outbox = outbox_of(store, ROBIN)
    outbox.start()
    outbox.hold_back()
    await outbox.write(Forget(now(), "city", calls=False))
    await outbox.write(EndFact(now(), "pet"))
    outbox.add(ForgetCalls(now(), ("city",)))
    outbox.add(End("hang-up", now()))
    await ended(outbox)
    assert await store.memories.slots(ROBIN) == []


async def test_a_session_goes_on_as_a_guests_with_all_that_was_said(store, tmp_path):
    await store.memories.remember(ROBIN, "city", "Rome")
    known = await known_of(store, ROBIN)
    outbox = outbox_of(store, ROBIN, folder=tmp_path)
    outbox.start()
    outbox.hold_back()
    outbox.add(AddTurn(TURNS[0]))
    await outbox.write(told("city", "Oslo"))
    await outbox.write(told("pet", "a cat"))
    await outbox.write(SetProfile(now(), "name", "Anna"))
    await outbox.write(Forget(now(), "city", calls=False))
    await outbox.stored("turns")
    assert await said(store, ROBIN) == ["I am not Robin"]
    await outbox.take_back(replace(outbox.record, scope=GUEST), TURNS, known)
    outbox.start()
    await outbox.stored("turns")
    outbox.add(End("hang-up", now(), learn=True))
    await ended(outbox)
    assert [(each.memory_type, each.content) for each in await store.memories.slots(ROBIN)] == [("city", "Rome")]
    assert await store.history.former(ROBIN) == []
    assert (await store.users.get(ROBIN)).values == {}
    assert (await said(store, ROBIN), await said(store, GUEST)) == ([], ["I am not Robin"])
    assert await store.sessions.get(ROBIN, SID) is None
    assert await store.learning.due(9) == [(GUEST, SID)]  # of whom nothing is learned
    assert (await store.sessions.get(GUEST, SID)).close_reason == "hang-up"
    assert kinds(tmp_path) == []


async def test_a_process_that_dies_behind_it_is_followed_by_one_that_takes_back(store, tmp_path):
    known = await known_of(store, ROBIN)
    folder = journal.journal_folder(tmp_path)
    outbox = outbox_of(store, ROBIN, folder=folder)
    outbox.start()
    outbox.hold_back()
    await outbox.write(told("pet", "a cat"))
    await outbox.write(SetProfile(now(), "name", "Anna"))
    with away((Memories, "delete"), (type(store.history), "settle")):
        await outbox.take_back(replace(outbox.record, scope=GUEST), TURNS, known)
        outbox.start()
        await until(lambda: outbox.error and outbox.is_kept)
        await outbox.abandon()
    await outbox.lease.release()
    assert [each.memory_type for each in await store.memories.slots(ROBIN)] == ["pet"]
    await recover(store, folder, DATABASE)
    assert await store.memories.slots(ROBIN) == []
    assert (await store.users.get(ROBIN)).values == {}
    assert (await said(store, ROBIN), await said(store, GUEST)) == ([], ["I am not Robin"])


async def test_what_is_just_being_stored_is_taken_back_as_well(store, monkeypatch):
    outbox, known = outbox_of(store, ROBIN), await known_of(store, ROBIN)
    outbox.start()

    def taken_back_behind_it(write):
        async def is_slow(*args, **more):
            await outbox.take_back(replace(outbox.record, scope=GUEST), TURNS, known)
            return await write(*args, **more)

        return is_slow

    for name in ("remember", "remember_if_newer"):
        monkeypatch.setattr(Memories, name, taken_back_behind_it(getattr(Memories, name)))
    await outbox.write(told("pet", "a cat"))
    await ended(outbox)
    assert await store.memories.slots(ROBIN) == []
    assert await said(store, GUEST) == ["I am not Robin"]


label, values = st.sampled_from(["city", "pet"]), st.sampled_from(["x", "y", "z"])
kind = st.sampled_from(["remember", "remember", "forget", "end", "set"])
steps = st.lists(st.tuples(st.sampled_from([SID, OTHERS]), kind, label, values), max_size=10)


def operation(session: str, kind: str, label: str, value: str, minutes: int) -> Operation:
    at = now() - timedelta(hours=1) + timedelta(minutes=minutes)
    if kind == "remember":
        return Remember(at, label, value, None, Source("told", session, f"item-{minutes}"))
    if kind == "set":
        return SetProfile(at, "name" if label == "city" else "preferred_language", value)
    return Forget(at, label, calls=False) if kind == "forget" else EndFact(at, label)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(st.tuples(st.just("s-0"), kind, label, values), max_size=4), script=steps)
async def test_whatever_two_sessions_do_only_the_others_is_left(store, before, script):
    for name in ("memories", "memory_history", "users", "sessions", "turns", "tombstones"):
        await store.db[name].delete_many({})
    alone = [step for step in script if step[0] != SID]
    for scope, steps in ((ROBIN, script), (JUNE, alone)):
        outbox, others = outbox_of(store, scope), outbox_of(store, scope, OTHERS)
        outbox.start()
        for minutes, step in enumerate(before):
            await others.write(operation(*step, minutes))
        known = await known_of(store, scope)
        outbox.hold_back()
        for step in steps:
            one = outbox if step[0] == SID else others
            await one.write(operation(*step, 10 + script.index(step)))
        await outbox.take_back(replace(outbox.record, scope=GUEST), TURNS, known)
        await ended(outbox)
        await ended(others)
    found = []
    for scope in (ROBIN, JUNE):
        slots = {each.memory_type: each.content for each in await store.memories.slots(scope)}
        former = [(each.memory_type, each.content) for each in await store.history.former(scope)]
        profile = await store.users.get(scope)
        found.append((slots, sorted(former), profile.values if profile else {}))
    assert found[0] == found[1]
