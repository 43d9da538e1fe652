"""Who says that they are somebody else leaves nothing behind, and takes nothing that others have stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import DateMention, LastSession, SessionRecord, SessionStatus, Source, UserScope
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.operations import EndFact, Forget, Operation, Remember, SaveGist, SetProfile
from lkmongo.store.mongo import operations
from lkmongo.store.people.history import History
from lkmongo.store.people.offers import offer_told, offers_of
from lkmongo.store.people.take_back import Taken, known_of, take_back
from lkmongo.summary import Commitment, Summary
from tests.overlaps import ROBIN

AT = datetime(2026, 11, 3, 12, 30, tzinfo=UTC)
OURS, OTHERS, BEFORE = "s-1", "s-2", "s-0"
JUNE = UserScope(tenant_id="default", user_id="june")


def later(minutes: int) -> datetime:
    return AT + timedelta(minutes=minutes)


def told(label: str, content: str, minutes: int, session: str = OURS, since: datetime | None = None) -> Remember:
    return Remember(later(minutes), label, content, since, Source("told", session, f"item-{minutes}"))


async def do(store, operation: Operation, session: str = OURS, scope: UserScope = ROBIN) -> None:
    record = SessionRecord(session, scope, "room", SessionStatus.ACTIVE, AT)
    await apply([operation], Target(store, record, "me"))


async def facts(store, scope: UserScope = ROBIN) -> dict[str, Any]:
    """All that is and was true, with its times and sources, and the profile."""
    slots = {
        each.memory_type: (each.content, each.valid_from, each.source.session_id if each.source else None)
        for each in await store.memories.slots(scope)
    }
    former = [
        (each.memory_type, each.content, each.valid_from, each.valid_to, each.source and each.source.session_id)
        for each in await store.history.former(scope)
    ]
    profile = await store.users.get(scope)
    return {"slots": slots, "former": former, "profile": profile.values if profile else {}}


async def test_a_value_that_was_replaced_is_true_again_and_what_replaced_it_was_never(store):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    before, known = await facts(store), await known_of(store, ROBIN)
    await do(store, told("city", "Oslo", 5))
    await do(store, told("city", "Bergen", 6))
    await do(store, told("pet", "a cat", 7))
    version = await store.users.memory_version(ROBIN)
    taken = await take_back(store, ROBIN, OURS, known)
    assert taken == Taken(gone=("pet",), back=("city",), former=2)
    assert await facts(store) == before
    assert await store.users.memory_version(ROBIN) > version
    slot = await store.db.memories.find_one(ROBIN.filter)
    assert slot.keys() & {"again", "former", "former_until", "embedding"} == set()
    assert not await take_back(store, ROBIN, OURS, known)


async def test_what_others_stored_meanwhile_follows_what_was_before(store):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    await do(store, told("city", "Oslo", 5))
    await do(store, told("city", "Lima", 6, OTHERS), OTHERS)
    await take_back(store, ROBIN, OURS)
    found = await facts(store)
    assert found["slots"] == {"city": ("Lima", later(6), OTHERS)}
    assert found["former"] == [("city", "Rome", AT, later(6), BEFORE)]


async def test_what_somebody_else_has_said_as_well_stays_as_theirs(store):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    await do(store, told("city", "Oslo", 5))
    await do(store, told("city", "Oslo", 6, OTHERS), OTHERS)
    await take_back(store, ROBIN, OURS)
    found = await facts(store)
    assert found["slots"] == {"city": ("Oslo", later(6), OTHERS)}
    assert found["former"] == [("city", "Rome", AT, later(6), BEFORE)]
    await take_back(store, ROBIN, OTHERS)
    assert (await facts(store))["slots"] == {"city": ("Rome", AT, BEFORE)}


@pytest.mark.parametrize("source", [Source("told", BEFORE, "i"), None])
@pytest.mark.parametrize("since", [None, later(-60)])
async def test_what_was_only_said_again_is_as_it_was(store, source, since):
    await store.memories.remember(ROBIN, "city", "Rome", at=AT, source=source)
    before, known = await facts(store), await known_of(store, ROBIN)
    await do(store, told("city", "Rome", 5, since=since))
    await take_back(store, ROBIN, OURS, known)
    assert await facts(store) == before
    slot = await store.db.memories.find_one(ROBIN.filter)
    assert slot["content"] == "Rome"
    assert "again" not in slot


async def test_a_value_that_lost_its_beginning_gets_it_back(store):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    before, known = await facts(store), await known_of(store, ROBIN)
    await do(store, told("city", "Oslo", 5, since=later(-60)))
    await take_back(store, ROBIN, OURS, known)
    assert await facts(store) == before


async def test_what_others_ended_ends_when_they_said(store):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    await do(store, told("city", "Oslo", 5))
    await do(store, EndFact(later(6), "city"), OTHERS)
    await take_back(store, ROBIN, OURS)
    found = await facts(store)
    assert (found["slots"], found["former"]) == ({}, [("city", "Rome", AT, later(6), BEFORE)])


async def test_what_others_forgot_does_not_come_back(store):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    known = await known_of(store, ROBIN)
    await do(store, told("city", "Oslo", 5))
    await do(store, Forget(later(6), "city"), OTHERS)
    await do(store, told("city", "Bergen", 7))
    await take_back(store, ROBIN, OURS, known)
    found = await facts(store)
    assert (found["slots"], found["former"]) == ({}, [])


async def test_the_gist_and_what_was_agreed_go_and_the_ones_before_come_back(store):
    await store.sessions.open(SessionRecord(OURS, ROBIN, "room", SessionStatus.ACTIVE, AT), "me")
    await store.users.set_last_session(ROBIN, LastSession(later(-90), "about a lamp", BEFORE), started_at=later(-99))
    known = await known_of(store, ROBIN)
    await do(store, SaveGist(later(5), "about somebody else"))
    promise = Commitment.of("call back", "assistant", later(5), OURS)
    assert await store.summaries.save(ROBIN, OURS, Summary("somebody else", at=later(5), commitments=(promise,)))
    taken = await take_back(store, ROBIN, OURS, known)
    assert (taken.gist, taken.commitments) == (True, 1)
    profile = await store.users.get(ROBIN)
    assert profile.last_session == LastSession(later(-90), "about a lamp")
    assert profile.last_session.session_id == BEFORE
    assert profile.commitments == ()
    assert await store.summaries.of_person(ROBIN) == []


async def test_what_a_guest_told_is_offered_no_longer(store):
    for session in (OURS, OTHERS):
        await offer_told(store.db, ROBIN, {"label": "city", "content": "Oslo", "at": later(1)}, origin=session)
    assert (await take_back(store, ROBIN, OURS)).offers == 1
    assert len(await offers_of(store.db, ROBIN)) == 1


async def test_what_is_encrypted_stays_so(store, vault):
    dates = (DateMention("next friday", AT.date()),)
    tomorrow = Remember(AT, "city", "in Rome next friday", None, Source("told", BEFORE, "item-0"), dates)
    await do(store, tomorrow, BEFORE)
    await store.users.set_last_session(ROBIN, LastSession(AT, "about a quokka", BEFORE), started_at=AT)
    known = await known_of(store, ROBIN)
    await do(store, told("city", "Oslo", 5))
    await do(store, told("city", "in Rome next friday", 6, OTHERS), OTHERS)
    await do(store, told("city", "Lima", 7))
    await do(store, SaveGist(later(8), "about a heron"))
    await take_back(store, ROBIN, OURS, known)
    assert (await store.memories.recall(ROBIN, "city")).content == "in Rome next friday"
    assert (await store.users.get(ROBIN)).last_session.gist == "about a quokka"
    await store.memories.remember(ROBIN, "city", "Rome next friday", at=later(9))
    assert len(await store.history.former(ROBIN)) == 1
    raw = str([await store.db[name].find().to_list() for name in ("memories", "memory_history", "users")])
    assert [word for word in ("friday", "Rome", "quokka") if word in raw] == []


async def test_nobody_else_is_touched(store):
    for scope in (ROBIN, JUNE):
        await do(store, told("city", "Oslo", 5), scope=scope)
    await take_back(store, ROBIN, OURS)
    assert (await facts(store, JUNE))["slots"] == {"city": ("Oslo", later(5), OURS)}
    assert await take_back(store, UserScope(tenant_id="default", user_id="nobody"), OURS) == Taken()
    assert await store.users.get(UserScope(tenant_id="default", user_id="nobody")) is None


@pytest.mark.parametrize("written", range(7))
async def test_it_is_completed_by_the_next_run_wherever_it_was_interrupted(store, monkeypatch, written):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    known = await known_of(store, ROBIN)
    await do(store, told("city", "Oslo", 1, since=later(-60)))
    await do(store, told("city", "Lima", 2, OTHERS), OTHERS)
    await do(store, told("city", "Bergen", 3))
    write, done = operations.write, 0

    async def dies(work):
        nonlocal done
        done += 1
        if done > written:
            raise DatabaseUnavailableError
        return await write(work)

    await store.history.settle(ROBIN)
    with monkeypatch.context() as patch:
        patch.setattr(operations, "write", dies)
        with pytest.raises(DatabaseUnavailableError):
            await take_back(store, ROBIN, OURS, known)
    await take_back(store, ROBIN, OURS, known)
    found = await facts(store)
    assert found["slots"] == {"city": ("Lima", later(2), OTHERS)}
    assert found["former"] == [("city", "Rome", AT, later(2), BEFORE)]


async def test_a_slot_that_is_written_meanwhile_is_looked_at_again(store, monkeypatch):
    await do(store, told("city", "Rome", 0, BEFORE), BEFORE)
    await do(store, told("city", "Oslo", 1))
    settle, calls = History.settle, 0

    async def written_behind_it(history, scope, label=None):
        nonlocal calls
        calls += 1
        moved = await settle(history, scope, label)
        if calls == 1:
            await store.memories.remember(ROBIN, "city", "Lima", at=later(2), source=Source("told", OTHERS, "i"))
        return moved

    monkeypatch.setattr(History, "settle", written_behind_it)
    await take_back(store, ROBIN, OURS)
    found = await facts(store)
    assert found["slots"] == {"city": ("Lima", later(2), OTHERS)}
    assert found["former"] == [("city", "Rome", AT, later(2), BEFORE)]


# ---------------------------------------------------------------- whatever two sessions do

label = st.sampled_from(["city", "pet"])
remembers = st.tuples(st.just("remember"), label, st.sampled_from(["x", "y", "z"]))
ends = st.tuples(st.just("end"), label, st.just(""))
forgets = st.tuples(st.just("forget"), label, st.just(""))
sets = st.tuples(st.just("set"), st.sampled_from(["name", "email"]), st.sampled_from(["a@b.example", "c@d.example"]))
ours = st.tuples(st.just(OURS), remembers)
"""An outbox holds the others back: see tests/outbox/test_take_back.py."""
others = st.tuples(st.just(OTHERS), remembers | ends | forgets | sets)
first = st.lists(st.tuples(st.just(BEFORE), remembers | sets), max_size=4)


def operation(step: tuple[str, str, str], minutes: int, session: str) -> Operation:
    kind, label, content = step
    if kind == "remember":
        return told(label, content, minutes, session)
    if kind == "set":
        return SetProfile(later(minutes), label, content)
    return EndFact(later(minutes), label) if kind == "end" else Forget(later(minutes), label, calls=False)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=first, script=st.lists(ours | others, max_size=10))
async def test_everything_is_as_the_others_alone_have_left_it(store, before, script):
    steps = [*before, *script]
    for name in ("memories", "memory_history", "users", "tombstones"):
        await store.db[name].delete_many({})
    known = None
    for minutes, (session, step) in enumerate(steps):
        if minutes == len(before):
            known = await known_of(store, ROBIN)
        await do(store, operation(step, minutes, session), session)
        if session != OURS:
            await do(store, operation(step, minutes, session), session, JUNE)
    await take_back(store, ROBIN, OURS, known)
    await store.history.settle(JUNE)
    assert await facts(store, ROBIN) == await facts(store, JUNE)
    ids = {"_id", "user_id", "schema_version", "created_at"}
    for name in ("memories", "memory_history"):
        kept = [
            [
                {key: value for key, value in each.items() if key not in ids}
                async for each in store.db[name].find(scope.filter).sort([("memory_type", 1), ("valid_from", 1)])
            ]
            for scope in (ROBIN, JUNE)
        ]
        for robin, june in zip(*kept, strict=True):
            assert robin.get("former_until") == june.get("former_until") or "former_until" not in june
            assert robin["content"] == june["content"]
    assert await take_back(store, ROBIN, OURS, known) == Taken()
