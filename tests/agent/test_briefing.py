"""What the briefing chooses of very much: the slots that the first question is about; and what it never leaves out."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from benchmarks.briefing import SCOPE, caller_with, labels_in, measure
from benchmarks.briefing_data import KINDS, memories, questions
from lkmongo.agent.briefing import BUDGET, attend, brief, expect
from lkmongo.aio import Background
from lkmongo.embed.choose import create_embedder
from lkmongo.errors import EmbeddingError
from lkmongo.model import DateMention, Fact, Profile
from lkmongo.summary import MAX_OPEN, Commitment
from tests.waiting import until

AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
async def embedder():
    made = create_embedder("local")
    yield made
    await made.close()


@pytest.fixture
async def background():
    made = Background()
    yield made
    await made.cancel()


def data_of(text: str) -> dict:
    return json.loads(text.split("<caller_data>\n")[1].split("\n</caller_data>")[0])


def promise(number: int, text: str = "", **more) -> Commitment:
    return Commitment.of(text or f"do thing number {number}", "assistant", AT + timedelta(hours=number), "s", **more)


async def test_the_memory_that_the_first_question_is_about_is_briefed(embedder):
    assert {each.kind for each in questions()} == set(KINDS)
    result = await measure(600, 3, embedder)
    assert result.share >= 0.95
    assert min(result.shares.values()) >= 0.85
    assert result.characters <= BUDGET


async def test_without_the_vector_in_time_words_decide_and_the_next_request_has_it(embedder, background, monkeypatch):
    caller = await caller_with(memories(600), embedder, background)
    (question,) = [each for each in questions() if each.text.startswith("My espresso maker")]
    monkeypatch.setattr("lkmongo.deadlines.BRIEFING_VECTOR", 0.0)
    await attend(caller, question.text)
    assert question.label not in labels_in(brief(caller, question.text))
    await until(lambda: caller.attention._vector is not None)
    await attend(caller, question.text)
    assert question.label in labels_in(brief(caller, question.text))


async def test_an_embedder_that_fails_costs_the_meaning_only(embedder, background, monkeypatch):
    caller = await caller_with(memories(600), embedder, background)

    async def fails(*_, **__):
        raise EmbeddingError("no")

    monkeypatch.setattr(embedder, "embed", fails)
    await attend(caller, "Which coffee machine do I own?")
    assert "coffee_machine" in labels_in(brief(caller, "Which coffee machine do I own?"))


async def test_what_the_turn_before_was_about_stays_for_one_more_turn(embedder, background):
    caller = await caller_with(memories(1000), embedder, background)
    await attend(caller, "Which coffee machine do I own?")
    await attend(caller, "And the violin?")
    assert "coffee_machine" in labels_in(brief(caller, "And the violin?"))


async def test_nothing_is_lost_where_all_fit(embedder, background):
    facts = [*memories(40)[:14], Fact("long_story", "x" * 390), Fact("other_story", "y" * 390)]
    caller = await caller_with(facts, embedder, background)
    await attend(caller, "What hot drink should I have this morning?")
    assert caller.attention.words == "", "nothing is embedded to choose among what fits"
    data = data_of(brief(caller, "What hot drink should I have this morning?"))
    assert data["memories"].keys() == {fact.memory_type for fact in facts}
    assert (data["memories"]["long_story"], "more_memories" in data) == ("x" * 390, False)


async def test_the_newest_are_there_whatever_is_asked(embedder, background):
    facts = memories(1000)
    caller = await caller_with(facts, embedder, background)
    await attend(caller, "What is the color of the warranty of my friend's birthday?")
    labels = labels_in(brief(caller, "What is the color of the warranty of my friend's birthday?"))
    assert {fact.memory_type for fact in facts[:5]} <= labels


def test_open_commitments_come_first_those_that_are_due_next_before_the_others():
    soon = promise(2, "call back", due=AT + timedelta(days=2))
    caller = known(commitments=(promise(1), soon, promise(3, "x" * 300)))
    text = brief(caller)
    data = data_of(text)
    assert list(data)[:2] == ["status", "open_commitments"]
    assert [each["text"] for each in data["open_commitments"]] == ["call back", "x" * 160, "do thing number 1"]
    assert data["open_commitments"][0] == {
        "text": "call back",
        "by": "assistant",
        "made": "2026-11-02",
        "due": "2026-11-04",
    }
    assert "Open commitments are" in text
    assert "Open commitments are" not in brief(known())


def test_very_many_commitments_leave_room_for_what_is_known():
    facts = {f"fact_{n}": Fact(f"fact_{n}", "z" * 100) for n in range(100)}
    many = tuple(promise(n, f"{n} " + "x" * 290) for n in range(MAX_OPEN))
    text = brief(known(facts, commitments=many))
    data = data_of(text)
    assert len(text) <= BUDGET
    assert data["more_commitments"] == MAX_OPEN - len(data["open_commitments"])
    assert len(data["memories"]) > 15


def test_a_memory_has_its_day_and_the_days_that_were_meant():
    told = Fact("trip", "to Porto next Friday", valid_from=AT, dates=(DateMention("next Friday", date(2026, 11, 6)),))
    data = data_of(brief(known({"trip": told, "pet": Fact("pet", "a heron")})))
    assert data["memories"] == {
        "trip": ["to Porto next Friday, that is 6 November 2026", "2026-11-02"],
        "pet": "a heron",
    }


def known(slots: dict[str, Fact] | None = None, **profile) -> SimpleNamespace:
    """A known caller of whom nothing is attended to."""
    return SimpleNamespace(
        status="known",
        profile=Profile(SCOPE, **profile),
        slots=slots or {},
        relevant=lambda _words: [],
        consent=SimpleNamespace(sentence=""),
        trust="",
    )


async def test_the_vector_is_made_while_the_turn_ends(embedder, background, monkeypatch):
    asked = []
    embed = embedder.embed

    async def noted(texts, **options):
        asked.extend(texts)
        return await embed(texts, **options)

    caller = await caller_with(memories(600), embedder, background)
    monkeypatch.setattr(embedder, "embed", noted)
    expect(caller, "Which coffee machine")
    expect(caller, "Which coffee machine do I own?")
    await attend(caller, "Which coffee machine do I own?")
    assert asked == ["Which coffee machine", "Which coffee machine do I own?"]
    few = await caller_with(memories(40)[:5], embedder, background)
    asked.clear()
    expect(few, "Which coffee machine do I own?")
    assert few.attention._embedding is None, "there is nothing to choose"
