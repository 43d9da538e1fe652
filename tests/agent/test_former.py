"""What was true is told: by the tools, from memory, with its dates, and never after it was forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from lkmongo.agent import former
from lkmongo.agent.former import in_words
from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import Fact, FormerFact, SessionRecord, SessionStatus, Source, now
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.operations import EndFact
from lkmongo.search.exact import ExactIndex
from lkmongo.store.people.memories import Memories
from lkmongo.store.sessions.summaries import Summaries
from lkmongo.summary import Summary
from tests.fake_llm import calls
from tests.overlaps import ROBIN, a_call, away
from tests.talk import Talk, talk
from tests.waiting import until

JANUARY, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 5))
LATE_MAY = datetime(2026, 5, 20, 16, 30, tzinfo=UTC)
BOSTON = FormerFact("city", "Boston", JANUARY, MAY)


async def told_by(call: Talk, tool: str, **arguments: str) -> str:
    return (await call.tool(tool, **arguments))[0]


@pytest.mark.parametrize(
    ("fact", "former", "sentence"),
    [
        (Fact("city", "Lisbon", valid_from=LATE_MAY), [], "Your city: Lisbon."),
        (Fact("city", "Lisbon", valid_from=MAY), [], "Your city: Lisbon, since May 2026."),
        (Fact("city", "Lisbon", valid_from=MAY), [BOSTON],
         "Your city: Lisbon, since May 2026; before, Boston until May 2026."),
        (Fact("city", "Lisbon", valid_from=LATE_MAY),
         [BOSTON._replace(valid_to=LATE_MAY), FormerFact("city", "Paris", MAY, JANUARY)],
         "Your city: Lisbon, since 20 May 2026; before, Boston until 20 May 2026, and Paris until 2026."),
        (None, [BOSTON], "Your city: none any more; before, Boston until May 2026."),
    ],
)  # fmt: skip
def test_a_fact_in_words(fact, former, sentence):
    assert in_words(fact, former, "Europe/Lisbon") == sentence


async def test_a_move_is_told_with_what_was_before(store):
    await store.memories.remember(ROBIN, "city", "Boston", at=datetime(2026, 1, 9, tzinfo=UTC))
    async with talk(store, ROBIN, calls()) as call:
        said = await told_by(call, "remember_detail", memory_type="city", content="Lisbon", since="2026-05")
        assert "Lisbon, since May 2026" in said
        told = await told_by(call, "recall_detail", memory_type="city")
        assert "Your city: Lisbon, since May 2026; before, Boston until May 2026." in told
        assert "before, Boston until May 2026" in await told_by(call, "search_memories", query="Boston")
        await until(lambda: call.call.caller.saved == "stored")
    assert (await store.memories.recall(ROBIN, "city")).valid_from == MAY
    (former,) = await store.history.former(ROBIN)
    assert (former.content, former.valid_to) == ("Boston", MAY)
    async with talk(store, ROBIN, calls()) as call:  # another call, another process
        assert "before, Boston until May 2026" in await told_by(call, "recall_detail", memory_type="City")
        assert "Boston" not in await told_by(call, "list_user_memories")


async def test_since_when_is_read_from_the_words_too(store):
    async with talk(store, ROBIN, calls()) as call:
        await told_by(call, "remember_detail", memory_type="city", content="moved to Lisbon in May 2026")
    slot = await store.memories.recall(ROBIN, "city")
    assert slot.valid_from == MAY
    assert slot.source.how == "told"
    assert slot.source.session_id == "console-test"


async def test_a_turn_is_the_source_of_what_was_told(store):
    async with talk(store, ROBIN, calls()) as call:
        await call.say("I live in Lisbon.")
        await told_by(call, "remember_detail", memory_type="city", content="Lisbon")
        turns = {turn.item_id: turn.content for turn in call.call.recorder.turns}
    slot = await store.memories.recall(ROBIN, "city")
    assert slot.source == Source("told", "console-test", slot.source.item_id)
    assert turns[slot.source.item_id]


async def test_what_ended_is_found_and_what_is_forgotten_is_not(store):
    await store.memories.remember(ROBIN, "dog", "Rex, a poodle", at=JANUARY)
    await store.history.end(ROBIN, "dog", now(), MAY)
    async with talk(store, ROBIN, calls()) as call:
        assert "Your dog: none any more; before, Rex, a poodle until May 2026." in await told_by(
            call, "search_memories", query="what was my dog called"
        )
        assert "Rex" in await told_by(call, "recall_detail", memory_type="dog")
        assert "I have forgotten your dog" in await told_by(call, "forget_detail", memory_type="dog")
        assert "nothing" in await told_by(call, "search_memories", query="dog")
    assert await store.history.former(ROBIN) == []


async def test_relative_dates_are_told_with_the_day_that_was_meant(store):
    await store.users.set_field(ROBIN, "timezone", "Pacific/Auckland")
    async with talk(store, ROBIN, calls()) as call:
        await call.call.caller.preload()
        told = await told_by(call, "remember_detail", memory_type="party", content="tomorrow, when I turn six")
    slot = await store.memories.recall(ROBIN, "party")
    tomorrow, six = slot.dates
    assert slot.content == "tomorrow, when I turn six"
    assert (tomorrow.words, six.words, six.day) == ("tomorrow", "when I turn six", None)
    assert abs(tomorrow.day - now().date()) <= timedelta(days=2)
    assert f"tomorrow, that is {tomorrow.day.day} {tomorrow.day:%B %Y}, when I turn six" in told.replace(",,", ",")


async def test_a_guests_former_values_are_known_for_the_call_alone(store):
    async with a_call(store, ROBIN, guest=True) as call:
        caller = call.caller
        await caller.remember("city", "Boston")
        await caller.remember("city", "Lisbon")
        assert [each.content for each in caller.former("city")] == ["Boston"]
    assert await store.history.former(ROBIN) == []


async def test_what_mongodb_does_not_have_yet_is_told_all_the_same(store):
    async with a_call(store, ROBIN) as call:
        caller = call.caller
        await caller.preload()
        await caller.remember("city", "Boston")
        await until(lambda: caller.saved == "stored")
        with away((Memories, "remember"), (Memories, "remember_if_newer")):
            await caller.remember("city", "Lisbon")
            assert [each.content for each in caller.former("city")] == ["Boston"]


async def test_a_former_value_left_on_its_slot_is_moved_by_the_next_session(store):
    await store.memories.remember(ROBIN, "city", "Boston", at=JANUARY)
    await store.memories.remember(ROBIN, "city", "Lisbon", at=MAY)
    async with a_call(store, ROBIN) as call:
        await call.caller.preload()
        async with call.recorder.lease.writing():
            pass
        await call.caller.flush(5.0)
    assert await store.db.memory_history.count_documents({}) == 1
    assert await store.history.former(ROBIN) == [FormerFact("city", "Boston", JANUARY, MAY, None, JANUARY)]


async def test_an_end_that_learning_stores_is_seen_by_the_next_call(store):
    async with a_call(store, ROBIN) as call:
        await call.caller.remember("dog", "Rex")
        await until(lambda: call.caller.saved == "stored")
        await apply([EndFact(now(), "dog")], Target(store, call.recorder.record, "me"))
    async with a_call(store, ROBIN) as call:
        await call.caller.preload()
        await until(lambda: call.caller.former("dog"))
        assert call.caller.recall("dog") is None


async def test_the_index_is_made_once_for_what_there_is(monkeypatch):
    made = []
    monkeypatch.setattr(former, "ExactIndex", lambda *given: made.append(1) or ExactIndex(*given))
    moved = now()
    known = former.Former(LocalEmbedder())
    known.loaded([FormerFact("city", "Boston", moved - timedelta(days=9), moved)])
    for _ in range(2):
        assert [each.content for each in await known.search("Boston", 5)] == ["Boston"]
    assert len(made) == 1
    known.replaced(Fact("pet", "a beagle", updated_at=moved), Fact("pet", "a cat", updated_at=now()))
    assert [each.content for each in await known.search("beagle", 5)] == ["a beagle"]
    assert known.forget("city")
    assert await known.search("Boston", 5) == []
    assert len(made) == 3


async def test_of_very_many_former_values_the_newest_are_held_and_all_can_be_forgotten(store, monkeypatch):
    monkeypatch.setattr(former, "HELD", 100)
    for number in range(20):
        await store.history.add(ROBIN, BOSTON._replace(memory_type=f"city_{number:02d}", content=f"Boston {number:02d}",
                                                       valid_to=MAY + timedelta(days=number)))  # fmt: skip
    async with a_call(store, ROBIN) as call:
        await call.caller.preload()
        await until(lambda: call.caller._former.all)
        held = [f"Boston {number:02d}" for number in range(19, 8, -1)]
        assert [each.content for each in call.caller._former.all] == held
        assert await call.caller.forget("city_03") == "city_03"
        await until(lambda: call.caller.saved == "stored")
    assert await store.history.former(ROBIN, "city_03") == []


async def test_forgetting_waits_for_the_fact_alone_and_reaches_the_summaries_of_earlier_calls_all_the_same(
    store, monkeypatch
):
    forget, answer = Summaries.forget, asyncio.Event()

    async def slow(*arguments, **named):
        await answer.wait()
        return await forget(*arguments, **named)

    monkeypatch.setattr(Summaries, "forget", slow)
    summary = Summary("They moved to Boston.", JANUARY)
    earlier = SessionRecord("s-0", ROBIN, "room", SessionStatus.COMPLETE, JANUARY, JANUARY, "hang-up", summary=summary)
    await store.users.seen(ROBIN)
    await store.sessions.save(earlier)
    assert len(await store.summaries.of_person(ROBIN)) == 1
    await store.memories.remember(ROBIN, "city", "Boston", at=JANUARY)
    async with a_call(store, ROBIN) as call:
        await call.caller.preload()
        await call.caller.forget("city")
        await until(lambda: call.caller.saved == "stored")
        assert await store.summaries.of_person(ROBIN) != []
        answer.set()
        await until(lambda: call.recorder._outbox.is_empty)
    assert await store.summaries.of_person(ROBIN) == []
