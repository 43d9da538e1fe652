"""Erasing a person: nothing of them is left anywhere, whatever goes on meanwhile, and nobody else is touched."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.declarations import Collection, declare
from lkmongo.errors import InvalidTextError, NotReadyError
from lkmongo.model import SessionRecord, SessionStatus, TenantScope, Turn, TurnKind, UserScope, now
from lkmongo.outbox.lease import Lease
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.mongo.schema import (
    AUDIT,
    AUDIT_CHECKPOINTS,
    COLLECTIONS,
    DECLARATIONS,
    KEYS,
    KNOWLEDGE,
    PERSONAL,
    RECEIPTS,
    TOMBSTONES,
    USED_SEALS,
)
from lkmongo.store.open import Store
from lkmongo.store.people.erase import erase, receipts
from lkmongo.store.people.person import count
from lkmongo.store.people.person_hash import check_note
from lkmongo.store.people.tombstones import ErasedError, Tombstones
from lkmongo.store.sessions.sessions import Sessions
from tests.fake_llm import calls
from tests.overlaps import recorder_of
from tests.people import anywhere, documents, furnish, killed_at, of, until
from tests.talk import talk

ROBIN = UserScope(tenant_id="default", user_id="robin-1764")
SAME_ID_ELSEWHERE = UserScope(tenant_id="other", user_id="robin-1764")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="robin-17640")
OTHERS = (SAME_ID_ELSEWHERE, SOMEBODY_ELSE)


def test_every_collection_is_known_to_hold_people_or_not():
    others = {KNOWLEDGE, RECEIPTS, TOMBSTONES, KEYS, DECLARATIONS, AUDIT, AUDIT_CHECKPOINTS, USED_SEALS}
    assert set(COLLECTIONS) == {*PERSONAL, *others}


async def test_nothing_is_left_but_a_receipt_that_names_nobody(store):
    await furnish(store, ROBIN, slots=["a", "b", "c"], orders=["1"])
    for other in OTHERS:
        await furnish(store, other, orders=[f"of {other.tenant_id} {other.user_id}"])
    others = await documents(store, ROBIN)
    receipt = await erase(store.db, ROBIN, by="Sam", reason="ticket 4711", orders=True)
    assert await of(store, ROBIN) == {name: [] for name in PERSONAL}
    assert await documents(store, ROBIN) == others
    assert receipt.counts == {
        "memories": 3,
        "memory_history": 0,
        "turns": 6,
        "sessions": 2,
        "users": 1,
        "visitors": 0,
        "phones": 0,
        "pins": 0,
        "phone_attempts": 0,
        "orders": 1,
    }
    assert (receipt.by, receipt.reason, receipt.tenant_id) == ("Sam", "ticket 4711", "default")
    assert receipt.began_at <= receipt.erased_at
    for other in OTHERS:
        await erase(store.db, other, by="Sam", orders=True)
    assert await anywhere(store, "robin-1764", "something") == []


async def test_orders_stay_unless_they_are_meant(store):
    await furnish(store, ROBIN, orders=["1", "2"])
    receipt = await erase(store.db, ROBIN, by="Sam")
    assert receipt.orders_kept == 2
    assert "orders" not in receipt.counts
    left = await of(store, ROBIN)
    assert [each["order_id"] for each in left.pop("orders")] == ["1", "2"]
    assert not any(left.values())


async def test_receipts_are_listed_newest_first_and_found_by_the_id(store):
    for person in (ROBIN, SOMEBODY_ELSE, SAME_ID_ELSEWHERE):
        await furnish(store, person)
        await erase(store.db, person, by="Sam")
        await asyncio.sleep(0.003)
    listed = await receipts(store.db, TenantScope("default"))
    assert len(listed) == 2
    assert listed[0].erased_at > listed[1].erased_at
    assert listed[0].hash != listed[1].hash
    assert await receipts(store.db, TenantScope("default"), scope=ROBIN) == [listed[1]]
    assert (
        await receipts(store.db, TenantScope("default"), scope=UserScope(tenant_id="default", user_id="nobody")) == []
    )
    assert len(await receipts(store.db, TenantScope("default"), limit=1)) == 1


@pytest.mark.parametrize("note", ["asked by robin-1764", "(ROBIN-1764)", "", "x" * 201])
def test_a_receipt_takes_no_note_that_names_the_person(note):
    with pytest.raises(InvalidTextError):
        check_note("reason", note, ROBIN)


def test_a_note_may_hold_the_letters_of_a_short_id():
    assert (
        check_note("reason", "  customer\nrequest ", UserScope(tenant_id="default", user_id="u")) == "customer request"
    )


# ---------------------------------------------------------------- while a call goes on


async def test_a_call_that_goes_on_becomes_a_guests_and_stores_nothing_more(store):
    await furnish(store, ROBIN, slots=["secret_plan"], content="zeppelin")
    await furnish(store, SOMEBODY_ELSE)
    others = await documents(store, ROBIN)
    waited_for = []
    async with talk(store, ROBIN, calls()) as call:
        await call.say("hello")
        await call.tool("remember_detail", memory_type="pet", content="a heron called Zephyrine")
        receipt = await erase(store.db, ROBIN, by="Sam", on_wait=waited_for.append)
        assert waited_for == [["console-test"]]
        caller = call.call.caller
        assert (caller.status, caller.slots, caller.profile.name) == ("guest", {}, None)
        assert call.call.scope != ROBIN
        output, is_error = await call.tool("remember_detail", memory_type="boat", content="a blue dinghy")
        assert (output, is_error) == ("For this call I will remember your boat: a blue dinghy.", False)
        assert await call.tool("update_profile", field="name", value="Zoe") == ("Your name is Zoe.", False)
        assert (await call.tool("recall_detail", memory_type="boat"))[0] == "Your boat: a blue dinghy."
        assert (await call.tool("recall_detail", memory_type="pet"))[1]
        await call.tool("forget_detail", memory_type="boat")
        await call.say("good bye")
        assert call.call.recorder.turns == []
    assert receipt.counts["memories"] == 2
    assert await of(store, ROBIN) == {name: [] for name in PERSONAL}
    assert await documents(store) == others
    assert await anywhere(store, "robin-1764\0", "zeppelin", "Zephyrine", "dinghy", "Zoe") == []


async def test_a_call_that_ends_while_the_person_is_erased_leaves_nothing(store):
    await furnish(store, ROBIN)
    async with talk(store, ROBIN, calls()) as call:
        await call.tool("remember_detail", memory_type="pet", content="a heron")
        erasing = asyncio.create_task(erase(store.db, ROBIN, by="Sam"))
        await until(lambda: has_tombstone(store, ROBIN))
    await erasing
    assert not any((await count(store.db, ROBIN)).values())


@pytest.mark.parametrize("tool", ["remember_detail", "update_profile"])
async def test_a_tool_that_is_the_first_to_hear_of_it_answers_as_to_a_guest(store, monkeypatch, tool):
    monkeypatch.setattr("lkmongo.deadlines.LEASE_RENEWAL_EVERY", 3_600)
    monkeypatch.setattr("lkmongo.deadlines.LEASE_TRUSTED", 3_600)
    await furnish(store, ROBIN)
    async with talk(store, ROBIN, calls()) as call:
        await until(lambda: store.sessions.live(ROBIN))
        erasing = asyncio.create_task(erase(store.db, ROBIN, by="Sam"))
        await until(lambda: has_tombstone(store, ROBIN))
        assert call.call.caller.status == "known"
        monkeypatch.setattr("lkmongo.deadlines.LEASE_TRUSTED", 0.0)
        if tool == "remember_detail":
            said = await call.tool(tool, memory_type="boat", content="a dinghy")
            assert said == ("For this call I will remember your boat: a dinghy.", False)
            assert set(call.call.caller.slots) == {"boat"}
        else:
            assert await call.tool(tool, field="name", value="Zoe") == ("Your name is Zoe.", False)
            assert call.call.caller.profile.name == "Zoe"
        await erasing
    assert not any((await count(store.db, ROBIN)).values())


async def test_a_call_that_shows_itself_too_late_to_be_seen_takes_itself_back(store):
    class EraseBefore(Sessions):
        async def open(self, record, owner) -> None:
            await erase(store.db, ROBIN, by="Sam")
            await super().open(record, owner)

    await furnish(store, ROBIN)
    recorder = recorder_of(replace(store, sessions=EraseBefore(store.db)), ROBIN, "s-9", "room")
    with pytest.raises(ErasedError):
        async with recorder.lease.writing():
            pytest.fail("it may not write")
    await recorder.lease.release()
    assert not any((await count(store.db, ROBIN)).values())


@pytest.mark.parametrize("came_back", [False, True])
async def test_a_process_that_stood_still_for_long_sweeps_behind_itself(store, came_back):
    await furnish(store, ROBIN)
    recorder = recorder_of(store, ROBIN, "s-9", "room")
    async with recorder.lease.writing():
        await store.db.sessions.update_one({"session_id": "s-9"}, {"$unset": {"lease": ""}})  # it has run out
        await erase(store.db, ROBIN, by="Sam")
        await asyncio.sleep(0.01)
        if came_back:
            await furnish(store, ROBIN, slots=["new"], calls=["s-10"])
        await store.memories.remember(ROBIN, "late", "x")
        await store.sessions.append(ROBIN, "s-9", [Turn(0, "i", TurnKind.MESSAGE, now(), content="x")])
    recorder.lease.start()
    await until(lambda: is_true(recorder.erased))
    await recorder.lease.release()
    left = await count(store.db, ROBIN)
    if came_back:
        assert left == {
            "memories": 2,
            "memory_history": 0,
            "turns": 3,
            "sessions": 1,
            "users": 1,
            "visitors": 0,
            "phones": 0,
            "pins": 0,
            "phone_attempts": 0,
            "orders": 0,
        }
    else:
        assert not any(left.values())


async def test_a_write_that_is_under_way_is_waited_for(store, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.LEASE_RENEWAL_EVERY", 0.05)
    await furnish(store, ROBIN)
    recorder = recorder_of(store, ROBIN, "s-9", "room")
    recorder.lease.start()
    async with recorder.lease.writing():
        erasing = asyncio.create_task(erase(store.db, ROBIN, by="Sam"))
        await until(lambda: is_true(recorder.erased))
        await asyncio.sleep(0.1)
        assert not erasing.done()
        await store.memories.remember(ROBIN, "late", "it was sent before the tombstone was seen")
    await erasing
    await recorder.lease.release()
    assert not any((await count(store.db, ROBIN)).values())


async def test_a_call_whose_process_died_is_waited_for_no_longer_than_its_lease(store):
    await furnish(store, ROBIN)
    await store.sessions.open(SessionRecord("s-9", ROBIN, "room", SessionStatus.ACTIVE, now()), "somebody who died")
    assert await store.sessions.live(ROBIN) == ["s-9"]
    with pytest.raises(NotReadyError) as caught:
        await erase(store.db, ROBIN, by="Sam", patience=0.3)
    assert "s-9" in caught.value.message
    counts = await count(store.db, ROBIN)
    assert counts == {
        "memories": 0,
        "memory_history": 0,
        "turns": 0,
        "sessions": 1,
        "users": 0,
        "visitors": 0,
        "phones": 0,
        "pins": 0,
        "phone_attempts": 0,
        "orders": 0,
    }
    assert await receipts(store.db, TenantScope("default")) == []
    soon = {"$add": ["$$NOW", 500]}
    await store.db.sessions.update_one({"session_id": "s-9"}, [{"$set": {"lease.until": soon}}])
    receipt = await erase(store.db, ROBIN, by="Sam")  # once more, with patience
    assert receipt.counts["sessions"] == 3
    assert not any((await count(store.db, ROBIN)).values())
    assert len(await receipts(store.db, TenantScope("default"))) == 1


async def test_something_that_never_stops_writing_is_told(store, monkeypatch):
    await furnish(store, ROBIN)

    async def after_it_has_written_again(*arguments: Any) -> dict[str, int]:
        await store.memories.remember(ROBIN, "stubborn", "x")
        return await count(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("lkmongo.store.people.erase.count", after_it_has_written_again)
        with pytest.raises(NotReadyError) as caught:
            await erase(store.db, ROBIN, by="Sam", patience=0.0)
    assert "something is still writing" in caught.value.message
    await erase(store.db, ROBIN, by="Sam")
    assert not any((await count(store.db, ROBIN)).values())


# ---------------------------------------------------------------- what comes later


async def test_who_comes_back_later_is_a_new_customer(store):
    await furnish(store, ROBIN)
    await erase(store.db, ROBIN, by="Sam")
    await asyncio.sleep(0.01)
    async with talk(store, ROBIN, calls()) as call:
        await call.tool("remember_detail", memory_type="pet", content="a heron")
        assert call.call.caller.status == "new"
    assert [slot.content for slot in await store.memories.slots(ROBIN)] == ["a heron"]
    assert (await store.sessions.get(ROBIN, "console-test")).status is SessionStatus.COMPLETE
    first, second = await erase(store.db, ROBIN, by="Sam"), await erase(store.db, ROBIN, by="Sam")
    assert first.counts["memories"] == 1
    assert not any(second.counts.values())


async def test_a_call_that_began_before_writes_nothing_though_it_never_wrote_before(store):
    """As a worker does whose database was away from the beginning of the call until after the erasure."""
    recorder = recorder_of(store, ROBIN, "s-9", "room")
    await furnish(store, ROBIN)
    await erase(store.db, ROBIN, by="Sam")
    with pytest.raises(ErasedError):
        async with recorder.lease.writing():
            pytest.fail("it may not write")
    assert await recorder.close("hang-up", dict)
    assert not any((await count(store.db, ROBIN)).values())


async def test_replays_are_barred_by_the_age_of_their_call(store):
    tombstones = Tombstones(store.db)
    assert not await tombstones.bars(ROBIN, timedelta(days=300))
    await erase(store.db, ROBIN, by="Sam")
    an_hour_ago = [{"$set": {"erased_at": {"$add": ["$$NOW", -3_600_000]}}}]
    await store.db.tombstones.update_one({}, an_hour_ago)
    assert await tombstones.bars(ROBIN, timedelta(minutes=61))
    assert not await tombstones.bars(ROBIN, timedelta(minutes=59))
    for other in OTHERS:
        assert not await tombstones.bars(other, timedelta(days=300))
    assert await Tombstones(store.db).bars(ROBIN, timedelta(minutes=61)), "another host computes the same hash"


async def test_a_lease_is_shown_renewed_and_given_up(store):
    recorder = recorder_of(store, ROBIN, "s-9", "room $name")
    async with recorder.lease.writing():
        assert await store.sessions.live(ROBIN) == ["s-9"]
    document = await store.db.sessions.find_one(ROBIN.filter)
    assert document["room_name"] == "room $name"
    assert document["lease"]["owner"] == recorder.lease.owner
    assert await store.sessions.renew(ROBIN, "s-9", recorder.lease.owner) == "held"
    assert (await store.db.sessions.find_one(ROBIN.filter))["lease"]["until"] > document["lease"]["until"]
    assert await store.sessions.renew(SOMEBODY_ELSE, "s-9", recorder.lease.owner) == "missing"
    await recorder.close("hang-up", dict)
    assert await store.sessions.live(ROBIN) == ["s-9"]  # until the last of its writes has arrived
    await recorder.lease.release()
    assert await store.sessions.live(ROBIN) == []
    assert "lease" not in await store.db.sessions.find_one(ROBIN.filter)
    assert "lease" not in await store.db.sessions.find_one(ROBIN.filter)


async def test_a_call_whose_document_is_deleted_by_others_shows_itself_again(store, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.LEASE_RENEWAL_EVERY", 0.02)
    lease = Lease(store, SessionRecord("s-9", ROBIN, "room", SessionStatus.ACTIVE, now()))
    lease.start()
    await until(lambda: store.sessions.live(ROBIN))
    await store.db.sessions.delete_many({})
    await until(lambda: store.sessions.live(ROBIN))
    await lease.release()


# ---------------------------------------------------------------- killed anywhere, and run again

people = st.builds(
    UserScope, tenant_id=st.sampled_from(["default", "other"]), user_id=st.sampled_from(["u", "u1", "U", "u.1", "$u"])
)
holdings = st.fixed_dictionaries(
    {
        "slots": st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=4),
        "calls": st.lists(st.sampled_from(["s-1", "s-2", "s-3"]), unique=True, max_size=3),
    }
)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    everybody=st.dictionaries(people, holdings, min_size=1, max_size=4),
    kills=st.lists(st.integers(1, 30), max_size=3),
    in_a_call=st.booleans(),
)
def test_killed_anywhere_and_run_again_it_leaves_nothing_and_touches_nobody_else(
    mongodb_uri, database_name, everybody, kills, in_a_call
):
    async def check() -> None:
        async with create_client(mongodb_uri) as client:
            store = Store.of(client[database_name])
            await database_indexes.apply(store.db)
            for name in COLLECTIONS:  # of the example before; to drop and to make them takes longer
                await store.db[name].delete_many({})
            for scope, holding in everybody.items():
                await furnish(store, scope, **holding)
            gone = next(iter(everybody))
            others = await documents(store, gone)
            lease = Lease(store, SessionRecord("live", gone, "room", SessionStatus.ACTIVE, now()))
            writing = asyncio.create_task(keep_writing(store, gone, lease)) if in_a_call else None
            for number in kills:
                await erase_and_be_killed(mongodb_uri, database_name, gone, number)
            receipt = await erase(store.db, gone, by="Sam")
            if writing:
                await writing
                await lease.release()
            assert not any((await count(store.db, gone)).values())
            assert await documents(store, gone) == others
            (listed,) = (each for each in await receipts(store.db, gone.tenant) if each.erase_id == receipt.erase_id)
            assert (await Tombstones(store.db).get(gone)).done
            if not kills and not in_a_call:
                held = everybody[gone]
                assert listed.counts["memories"] == len(held["slots"])
                assert listed.counts["turns"] == 3 * len(held["calls"])

    asyncio.run(check())


async def test_killed_at_any_step_and_run_again_it_leaves_nothing_but_one_receipt(store, mongodb_uri, database_name):
    declare(Collection("notes", owner="person", key=("nr",)))
    await database_indexes.apply(store.db)
    for number in itertools.count(1):
        await furnish(store, ROBIN)
        await store.db.notes.insert_one(ROBIN.filter | {"nr": 1})
        await erase_and_be_killed(mongodb_uri, database_name, ROBIN, number)
        tombstone = await Tombstones(store.db).get(ROBIN)
        if tombstone and tombstone.done:
            break
        receipt = await erase(store.db, ROBIN, by="Sam")
        assert not any((await count(store.db, ROBIN)).values())
        assert receipt.counts == {
            "memories": 2,
            "memory_history": 0,
            "turns": 6,
            "sessions": 2,
            "users": 1,
            "visitors": 0,
            "phones": 0,
            "pins": 0,
            "phone_attempts": 0,
            "notes": 1,
        }
        assert len(await receipts(store.db, ROBIN.tenant)) == 1
        await store.db.receipts.delete_many({})
        await store.db.tombstones.delete_many({})
    assert number > 15


async def erase_and_be_killed(uri: str, database: str, scope: UserScope, number: int) -> bool:
    return await killed_at(number, uri, lambda client: erase(client[database], scope, by="Alex"))


async def keep_writing(store: Store, scope: UserScope, lease: Lease) -> None:
    """As a call writes, until it may not any more."""
    lease.start()
    number = 0
    while True:
        try:
            async with lease.writing():
                await store.memories.remember(scope, f"note {number % 5}", "x")
                turn = Turn(number, f"i-{number}", TurnKind.MESSAGE, now(), role="user", content="x")
                await store.sessions.append(scope, "live", [turn])
                await store.users.seen(scope)
        except ErasedError:
            return
        number += 1


async def has_tombstone(store: Store, scope: UserScope) -> bool:
    return await Tombstones(store.db).get(scope) is not None


async def is_true(value: bool) -> bool:
    return value
