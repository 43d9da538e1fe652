"""What was true stays known: former values, whoever ends, replaces, restores or forgets them, and however often."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import DateMention, FormerFact, SessionRecord, SessionStatus, Source, UserScope, now
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.operations import EndFact, Forget, Operation, Remember
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.schema import MEMORY_HISTORY
from lkmongo.store.people.erase import erase
from lkmongo.store.people.forget import forget
from lkmongo.store.people.history import History
from lkmongo.store.people.merge import merge
from lkmongo.store.people.offers import decide_offer, offers_of
from tests.overlaps import GUEST, ROBIN, away

AT = datetime(2026, 11, 3, 12, 30, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
TOLD = Source("told", "s-1", "item-1")
OTHER = UserScope(tenant_id="other", user_id=ROBIN.user_id)
RECORD = SessionRecord("s-1", ROBIN, "room", SessionStatus.ACTIVE, AT)


def later(minutes: int) -> datetime:
    return AT + timedelta(minutes=minutes)


async def do(store, operation: Operation, *, fresh: bool = False) -> int:
    return await apply([operation], Target(store, RECORD, "me"), fresh=fresh)


def spans(former: list[FormerFact]) -> list[tuple[str, datetime, datetime]]:
    return [(each.content, each.valid_from, each.valid_to) for each in former]


# ---------------------------------------------------------------- a value is replaced


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_value_that_is_replaced_is_kept_with_its_times_and_its_source(store, fresh):
    await do(store, Remember(AT, "city", "Boston", source=TOLD), fresh=fresh)
    await do(store, Remember(later(5), "city", "Lisbon", source=Source("learned", "s-2", "item-9")), fresh=fresh)
    expected = [FormerFact("city", "Boston", AT, later(5), TOLD, AT)]
    assert await store.history.former(ROBIN) == expected  # wherever it is
    await store.history.settle(ROBIN)
    assert await store.history.former(ROBIN, "City") == expected
    slot = await store.memories.recall(ROBIN, "city")
    assert (slot.content, slot.valid_from, slot.source.how) == ("Lisbon", later(5), "learned")
    assert await store.history.former(OTHER) == []


async def test_the_live_way_is_one_write_that_loses_nothing_if_the_process_dies_behind_it(store):
    await store.memories.remember(ROBIN, "city", "Boston", at=AT)
    with away((History, "settle"), (History, "former")):
        await store.memories.remember(ROBIN, "city", "Lisbon", at=later(1))
        await store.memories.remember(ROBIN, "city", "Rome", at=later(2))
    assert await store.db[MEMORY_HISTORY].count_documents({}) == 0
    both = [("Lisbon", later(1), later(2)), ("Boston", AT, later(1))]
    assert spans(await store.history.former(ROBIN)) == both
    assert await store.history.settle(ROBIN) == 2
    assert await store.history.settle(ROBIN) == 0
    assert "former" not in await store.db.memories.find_one(ROBIN.filter)
    assert spans(await store.history.former(ROBIN)) == both


async def test_a_move_that_was_interrupted_is_completed_by_the_next(store, monkeypatch):
    await store.memories.remember(ROBIN, "city", "Boston", at=AT)
    await store.memories.remember(ROBIN, "city", "Lisbon", at=later(1))
    put = History._put

    async def dies_behind_it(history, key, entry):
        await put(history, key, entry)
        raise DatabaseUnavailableError

    monkeypatch.setattr(History, "_put", dies_behind_it)
    with pytest.raises(DatabaseUnavailableError):
        await store.history.settle(ROBIN)
    monkeypatch.undo()
    assert spans(await store.history.former(ROBIN)) == [("Boston", AT, later(1))]
    await asyncio.gather(*(store.history.settle(ROBIN) for _ in range(4)))
    assert spans(await store.history.former(ROBIN)) == [("Boston", AT, later(1))]
    assert await store.db[MEMORY_HISTORY].count_documents({}) == 1


async def test_the_same_content_again_is_no_change(store):
    await store.memories.remember(ROBIN, "city", "Lisbon", at=AT, source=TOLD)
    await store.db.memories.update_one(ROBIN.filter, {"$set": {"embedding": b"x", "embedding_model": "m"}})
    await store.memories.remember(ROBIN, "city", "Lisbon", at=later(9), source=Source("staff"))
    slot = await store.memories.recall(ROBIN, "city")
    assert (slot.valid_from, slot.updated_at, slot.source) == (AT, later(9), TOLD)
    assert await store.memories.vector_model(ROBIN, "city") == "m"
    assert await store.history.former(ROBIN) == []


async def test_a_value_without_times_of_an_earlier_release_becomes_a_former_one(store):
    await store.memories.remember(ROBIN, "city", "Boston", at=AT)
    await store.db.memories.update_one(ROBIN.filter, {"$unset": {"valid_from": ""}})
    await store.memories.remember(ROBIN, "city", "Lisbon", at=later(3))
    assert spans(await store.history.former(ROBIN)) == [("Boston", AT, later(3))]


async def test_content_is_text_and_not_an_expression(store):
    for content in ("$former", "$$ROOT", "{$literal: 1}"):
        await store.memories.remember(ROBIN, "note", content, source=Source("told", "$a", "$b"))
    await store.history.settle(ROBIN)
    assert [each.content for each in await store.history.former(ROBIN)] == ["$$ROOT", "$former"]
    assert (await store.memories.recall(ROBIN, "note")).source == Source("told", "$a", "$b")


async def test_dates_stay_with_the_value(store):
    friday = (DateMention("next Friday", datetime(2026, 12, 4, tzinfo=UTC).date()), DateMention("when I turn six"))
    await do(store, Remember(AT, "party", "next Friday, when I turn six", dates=friday))
    assert (await store.memories.recall(ROBIN, "party")).dates == friday
    await do(store, Remember(later(1), "party", "never"))
    assert (await store.memories.recall(ROBIN, "party")).dates == ()
    assert (await store.history.former(ROBIN))[0].dates == friday


# ---------------------------------------------------------------- since when


async def test_a_move_that_was_made_before_it_was_told_ends_the_former_value_then(store):
    await store.memories.remember(ROBIN, "city", "Boston", at=datetime(2026, 1, 9, tzinfo=UTC))
    await store.memories.remember(ROBIN, "city", "Lisbon", at=AT, valid_from=MAY)
    assert (await store.memories.recall(ROBIN, "city")).valid_from == MAY
    assert spans(await store.history.former(ROBIN)) == [("Boston", datetime(2026, 1, 9, tzinfo=UTC), MAY)]


async def test_a_start_before_the_former_value_was_told_is_believed(store):
    """In June: I live in Boston. In November: I moved to Lisbon in May. So Boston was until May, if not in June."""
    await store.memories.remember(ROBIN, "city", "Boston", at=datetime(2026, 6, 9, tzinfo=UTC))
    await store.memories.remember(ROBIN, "city", "Lisbon", at=AT, valid_from=MAY)
    assert (await store.memories.recall(ROBIN, "city")).valid_from == MAY
    (boston,) = await store.history.former(ROBIN)
    assert (boston.content, boston.valid_to) == ("Boston", MAY)
    assert boston.valid_from < MAY


async def test_nothing_is_true_since_a_time_that_is_still_to_come(store):
    await store.memories.remember(ROBIN, "city", "Rome", at=AT, valid_from=AT + timedelta(days=40))
    assert (await store.memories.recall(ROBIN, "city")).valid_from == AT


# ---------------------------------------------------------------- ended


async def test_a_fact_that_ended_is_no_slot_any_more_and_does_not_come_back(store):
    told = Remember(AT, "dog", "Rex", source=TOLD)
    await do(store, told)
    assert await do(store, EndFact(later(5), "dog", MAY)) == 1
    for _ in range(2):
        assert await do(store, told) == 0
        assert await do(store, EndFact(later(5), "dog", MAY)) == 0
        assert await store.memories.recall(ROBIN, "dog") is None
        (rex,) = await store.history.former(ROBIN)
        assert (rex.content, rex.valid_to, rex.source) == ("Rex", MAY, TOLD)
    assert await do(store, Remember(later(6), "dog", "Bello")) == 1
    assert (await store.memories.recall(ROBIN, "dog")).content == "Bello"


async def test_an_end_does_not_reach_a_value_that_was_told_after_it(store):
    await do(store, Remember(later(9), "dog", "Bello"))
    assert await do(store, EndFact(later(5), "dog")) == 0
    assert (await store.memories.recall(ROBIN, "dog")).content == "Bello"


async def test_an_end_that_was_interrupted_is_completed_by_the_next(store, monkeypatch):
    for number, city in enumerate(["Paris", "Rome"]):
        await store.memories.remember(ROBIN, "city", city, at=later(number))
    put = History._put

    async def dies_behind_it(history, key, entry):
        await put(history, key, entry)
        raise DatabaseUnavailableError

    monkeypatch.setattr(History, "_put", dies_behind_it)
    with pytest.raises(DatabaseUnavailableError):
        await do(store, EndFact(later(5), "city"))
    monkeypatch.undo()
    assert await do(store, EndFact(later(5), "city")) == 1
    assert spans(await store.history.former(ROBIN)) == [("Rome", later(1), later(5)), ("Paris", AT, later(1))]


# ---------------------------------------------------------------- undo


async def test_undo_gives_back_the_last_former_value_and_since_when_it_was_true(store):
    for number, city in enumerate(["Paris", "Rome", "Oslo"]):
        await store.memories.remember(ROBIN, "city", city, at=later(number), source=TOLD)
    undone = await store.history.undo(ROBIN, "City")
    assert (undone.fact.content, undone.instead_of.content) == ("Rome", "Oslo")
    slot = await store.memories.recall(ROBIN, "city")
    assert (slot.content, slot.valid_from, slot.source) == ("Rome", later(1), TOLD)
    assert spans(await store.history.former(ROBIN)) == [("Paris", AT, later(1))]
    assert await do(store, Remember(later(2), "city", "Oslo")) == 0, "what was undone came back from a journal"
    assert (await store.history.undo(ROBIN, "city")).fact.content == "Paris"
    assert await store.history.undo(ROBIN, "city") is None
    assert (await store.memories.recall(ROBIN, "city")).content == "Paris"


async def test_undo_that_was_interrupted_does_not_go_back_twice(store, monkeypatch):
    for number, city in enumerate(["Paris", "Rome", "Oslo"]):
        await store.memories.remember(ROBIN, "city", city, at=later(number))
    with away((History, "_delete_one")), pytest.raises(DatabaseUnavailableError):
        await store.history.undo(ROBIN, "city")
    assert (await store.memories.recall(ROBIN, "city")).content == "Rome"
    assert (await store.history.undo(ROBIN, "city")).fact.content == "Paris"
    assert await store.db[MEMORY_HISTORY].count_documents({}) == 0


async def test_undo_restores_what_ended(store):
    await do(store, Remember(AT, "dog", "Rex"))
    await do(store, EndFact(later(5), "dog"))
    undone = await store.history.undo(ROBIN, "dog")
    assert (undone.fact.content, undone.instead_of) == ("Rex", None)
    assert (await store.memories.recall(ROBIN, "dog")).valid_from == AT
    assert await store.history.former(ROBIN) == []


# ---------------------------------------------------------------- forgotten


async def test_what_is_forgotten_has_no_history_and_cannot_be_undone(store):
    for label in ("city", "food"):
        for number in range(3):
            await store.memories.remember(ROBIN, label, f"{label} {number}", at=later(number))
            await store.history.settle(ROBIN, label)
    await store.memories.remember(ROBIN, "city", "city 3", at=later(4))  # one still waits on the slot
    await forget(store, ROBIN, ["city"])
    assert {each.memory_type for each in await store.history.former(ROBIN)} == {"food"}
    assert await store.history.undo(ROBIN, "city") is None
    await forget(store, ROBIN)
    assert await store.history.former(ROBIN) == []


async def test_a_forgotten_value_does_not_come_back_through_a_later_one(store):
    """The slot was written anew by another session before the forgetting arrived from the journal."""
    await do(store, Remember(AT, "city", "Boston"))
    await store.memories.remember(ROBIN, "city", "Rome", at=later(9))
    await do(store, Forget(later(5), "city"))
    assert (await store.memories.recall(ROBIN, "city")).content == "Rome"
    assert await store.history.former(ROBIN) == []


@pytest.mark.parametrize("dies", ["before it is put", "behind it"])
async def test_a_move_under_way_does_not_bring_back_what_is_forgotten_meanwhile(store, monkeypatch, dies):
    await store.memories.remember(ROBIN, "city", "Boston", at=AT)
    await store.memories.remember(ROBIN, "city", "Lisbon", at=later(1))
    put = History._put

    async def meanwhile(history, key, entry):
        if dies == "behind it":
            result = await put(history, key, entry)
            await forget(store, ROBIN, ["city"])
            return result
        await forget(store, ROBIN, ["city"])
        return await put(history, key, entry)

    monkeypatch.setattr(History, "_put", meanwhile)
    await store.history.settle(ROBIN)
    assert await store.db[MEMORY_HISTORY].count_documents({}) == 0


# ---------------------------------------------------------------- any sequence

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["live", "later"]), st.sampled_from("abc"), st.sampled_from([0, 0, 1, 5, 1_000])),
        st.tuples(st.just("end"), st.sampled_from([0, 0, 3, 1_000])),
        st.tuples(st.sampled_from(["undo", "forget", "settle", "replay", "replay"])),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, data=st.data())
async def test_whatever_happens_no_two_values_were_true_at_once_and_the_newest_is_the_current(store, steps, data):
    for name in ("memories", "memory_history", "users", "tombstones"):
        await store.db[name].delete_many({})
    done: list[Operation] = []
    current: str | None = None
    former: list[str] = []
    for step in steps:
        await asyncio.sleep(0.002)  # times are kept in whole milliseconds
        moment = now()
        match step:
            case ("live" | "later" as how, content, ago):
                since = moment - timedelta(minutes=ago) if ago else None
                done.append(Remember(moment, "x", content, since, TOLD))
                await do(store, done[-1], fresh=how == "live")
                if how == "live":  # as a session does in the background
                    await store.history.settle(ROBIN, "x")
                former += [current] if current not in (None, content) else []
                current = content
            case ("end", ago):
                done.append(EndFact(moment, "x", moment - timedelta(minutes=ago) if ago else None))
                assert await do(store, done[-1]) == (current is not None)
                former += [current] if current is not None else []
                current = None
            case ("undo",):
                undone = await store.history.undo(ROBIN, "x")
                assert bool(undone) == bool(former)
                current = former.pop() if former else current
            case ("forget",):
                done.append(Forget(moment, "x"))
                await forget(store, ROBIN, ["x"])
                current, former = None, []
            case ("settle",):
                await store.history.settle(ROBIN)
            case ("replay",) if done:
                for each in data.draw(st.lists(st.sampled_from(done), max_size=3)):
                    await do(store, each)
        slot = await store.memories.recall(ROBIN, "x")
        assert (slot and slot.content) == current, step
        was = list(reversed(await store.history.former(ROBIN)))
        assert [each.content for each in was] == former, step
        starts = [each.valid_from for each in was] + ([slot.valid_from] if slot else [])
        assert all(each.valid_from < each.valid_to for each in was)
        assert all(each.valid_to <= start for each, start in zip(was, starts[1:], strict=False)), step


# ---------------------------------------------------------------- with the rest of a person's data


async def change(store, person: UserScope, label: str, *values: tuple[str, int]) -> None:
    for content, minute in values:
        await store.memories.remember(person, label, content, at=later(minute))


@pytest.mark.parametrize("atomic", [True, False])
async def test_the_histories_of_two_who_are_merged_are_one(store, atomic):
    await change(store, GUEST, "city", ("Oslo", 0), ("Bergen", 2))
    await change(store, GUEST, "food", ("soup", 0), ("pasta", 2))
    await change(store, ROBIN, "city", ("Boston", 0), ("Lisbon", 9))
    await store.history.settle(GUEST, "city")
    await store.history.settle(ROBIN)
    planned = await merge(store.db, GUEST, ROBIN, dry_run=True)
    assert await store.history.former(GUEST) != []
    merged = await merge(store.db, GUEST, ROBIN, atomic=atomic)
    assert merged.offered == planned.offered
    assert await store.history.former(GUEST) == []
    assert (await store.memories.recall(ROBIN, "city")).content == "Lisbon"
    cities = await store.history.former(ROBIN, "city")
    assert {each.content for each in cities} == {"Boston"}
    (offer,) = await offers_of(store.db, ROBIN)
    await decide_offer(store, ROBIN, offer.id, accept=True)
    assert (await store.memories.recall(ROBIN, "city")).content == "Bergen"
    cities = await store.history.former(ROBIN, "city")
    assert {each.content for each in cities} == {"Lisbon", "Oslo", "Boston"}
    assert all(after.valid_to <= before.valid_from for before, after in pairwise(cities))
    assert [each.content for each in await store.history.former(ROBIN, "food")] == ["soup"]
    assert (await merge(store.db, GUEST, ROBIN)).is_empty
    assert await store.history.former(ROBIN, "city") == cities


async def test_erasing_reaches_the_history_and_the_receipt_counts_it(store):
    await change(store, ROBIN, "city", ("Paris", 0), ("Boston", 2), ("Lisbon", 3))
    await change(store, OTHER, "city", ("Oslo", 0), ("Bergen", 2))
    await store.history.settle(ROBIN)
    receipt = await erase(store.db, ROBIN, by="Sam")
    assert receipt.counts["memory_history"] == 2
    assert await store.history.former(ROBIN) == []
    assert len(await store.history.former(OTHER)) == 1


async def test_retention_of_memories_is_that_of_their_history_also_if_it_was_set_before_there_was_one(store):
    await database_indexes.apply(store.db)
    await database_indexes.set_retention(store.db, "memories", timedelta(days=30))
    await store.db[MEMORY_HISTORY].drop()
    await database_indexes.apply(store.db)
    assert await limits(store) == [([("updated_at", 1)], 30 * 86_400)]
    await change(store, ROBIN, "city", ("Paris", 0), ("Boston", 2))
    await store.history.settle(ROBIN)
    assert await database_indexes.count_older(store.db, "memories", now() - later(1)) == 1
    await database_indexes.set_retention(store.db, "memories", None)
    assert await limits(store) == []


async def limits(store) -> list[tuple[object, int]]:
    found = (await store.db[MEMORY_HISTORY].index_information()).values()
    return [(each["key"], each["expireAfterSeconds"]) for each in found if "expireAfterSeconds" in each]
