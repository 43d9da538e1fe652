"""The benchmark of memories: its judge tells right from wrong, its cases are the same for a seed, and it runs."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict

import pytest

import lkmongo
from benchmarks import memory_report
from benchmarks.memory_cases import DATA, Cases, Question, Told, make
from benchmarks.memory_judge import Answer, Hit, leaks, shares, verdicts
from benchmarks.memory_ours import Ours
from docs import generate

JANUARY, MARCH = "2024-01-08T09:30:00+00:00", "2024-03-10T09:30:00+00:00"
GRAZ = Hit("I have moved to Graz.", since=MARCH)
LISBON = Hit("I live in Lisbon.", since=JANUARY)
FORMER = Hit("I live in Lisbon.", former=True, since=JANUARY, until=MARCH)
SISTER = Hit("My sister lives in Turin.", since=JANUARY)


def question(kind, **more):
    return Question("p", kind, "Where?", "home_city", **{"right": "Graz", "outdated": ("Lisbon",), **more})


FIRST, FIVE = "fact: first", "fact: among 5"
NEW, OLD = "changed: the new value before the old", "changed: the old value told as true"
FOUND, AS_FORMER = "before: found", "before: told as former"
THEN, SINCE = "then: what was true in a month", "since: with its date"
DATED = "dated: with the day that was meant"
FEBRUARY = {"right": "Lisbon", "outdated": ("Graz",), "month": "2024-02-01T00:00:00+00:00"}
SINCE_MARCH = {"since": MARCH}


@pytest.mark.parametrize(
    ("asked", "hits", "expected"),
    [
        (question("fact"), [GRAZ, SISTER], {FIRST: True, FIVE: True}),
        (question("fact"), [SISTER, FORMER, GRAZ], {FIRST: False, FIVE: True}),
        (question("fact"), [FORMER, GRAZ], {FIRST: True, FIVE: True}),
        (question("fact"), [SISTER] * 5 + [GRAZ], {FIRST: False, FIVE: False}),
        (question("fact"), [Hit("I live in Grazville.")], {FIRST: False, FIVE: False}),
        (question("fact"), [], {FIRST: False, FIVE: False}),
        (question("changed"), [GRAZ, FORMER], {NEW: True, OLD: False}),
        (question("changed"), [GRAZ, LISBON], {NEW: True, OLD: True}),
        (question("changed"), [LISBON, GRAZ], {NEW: False, OLD: True}),
        (question("changed"), [SISTER], {NEW: False, OLD: False}),
        (question("before", right="Lisbon"), [GRAZ, FORMER], {FOUND: True, AS_FORMER: True}),
        (question("before", right="Lisbon"), [GRAZ, LISBON], {FOUND: True, AS_FORMER: False}),
        (question("before", right="Lisbon"), [GRAZ], {FOUND: False, AS_FORMER: False}),
        (question("then", **FEBRUARY), [GRAZ, FORMER], {THEN: True}),
        (question("then", **FEBRUARY), [GRAZ, LISBON], {THEN: True}),
        (question("then", **FEBRUARY), [GRAZ], {THEN: False}),
        (question("then", **FEBRUARY), [Hit("I live in Lisbon.")], {THEN: False}),
        (question("then", **FEBRUARY), [FORMER, Hit(GRAZ.text, since=JANUARY)], {THEN: False}),
        (question("then", **FEBRUARY | {"month": "2024-04-01T00:00:00+00:00"}), [GRAZ, FORMER], {THEN: False}),
        (question("since", **SINCE_MARCH), [GRAZ], {SINCE: True}),
        (question("since", **SINCE_MARCH), [Hit(GRAZ.text, since=JANUARY)], {SINCE: False}),
        (question("since", **SINCE_MARCH), [Hit(GRAZ.text)], {SINCE: False}),
        (question("since", **SINCE_MARCH), [Hit(LISBON.text, since=MARCH)], {SINCE: False}),
        (question("dated", day="2024-03-24"), [Hit(GRAZ.text, days=("2024-03-24",))], {DATED: True}),
        (question("dated", day="2024-03-24"), [Hit(GRAZ.text, days=("2024-03-25",))], {DATED: False}),
        (question("dated", day="2024-03-24"), [GRAZ, Hit(SISTER.text, days=("2024-03-24",))], {DATED: False}),
        (question("unknown"), [], {"unknown: nothing is told": True}),
        (question("off topic"), [SISTER], {"off topic: nothing is told": False}),
    ],
)
def test_the_judge_tells_right_from_wrong(asked, hits, expected):
    assert dict(verdicts(asked, hits)) == expected


def test_what_others_said_is_counted_as_a_leak():
    told = {"p": {"I live in Lisbon."}, "q": {"I live in Turin.", "I live in Lisbon."}}
    asked = [question("fact")]
    found = [LISBON, Hit("home city: I live in Turin."), Hit("Your home city: Lisbon.")]
    assert leaks(told, asked, [Answer(tuple(found), 1.0, "", "")]) == 1


def test_a_seed_makes_the_same_cases_and_another_one_others():
    cases = make(3, people=2, crowd=0)
    assert cases == make(3, people=2, crowd=0)
    assert cases.sha256 != make(4, people=2, crowd=0).sha256
    # In another process strings hash otherwise.
    script = "from benchmarks.memory_cases import make; print(make(3, people=2, crowd=0).sha256)"
    other = subprocess.run(
        [sys.executable, "-c", script], cwd=generate.ROOT, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == cases.sha256
    assert {each.kind for each in cases.questions} == {
        *("fact", "changed", "corrected", "before", "then", "since", "dated", "unknown", "off topic")
    }


def test_each_value_stands_in_one_sentence_of_a_person():
    """Else a result could be taken for evidence that it is not."""
    cases = make(people=3, crowd=0)
    for asked in cases.questions:
        if asked.right:
            holding = [each for each in cases.told if each.person == asked.person and Hit(each.text).holds(asked.right)]
            assert [each.closed for each in holding] == [asked.label], asked
        assert asked.kind == "dated" or not asked.right or not Hit(asked.text).holds(asked.right)
    assert len({each.text for each in cases.told if each.multi}) > 20
    assert {path.name for path in DATA.iterdir()} == {"topics.yaml", "asides.yaml", "dated.yaml"}


async def test_it_runs_with_lkmongo_alone(store, mongodb_uri, database_name, home):
    told = [
        Told("p", 0, JANUARY, "home_city", "home_city", False, "I live in Lisbon."),
        Told("p", 0, JANUARY, "pet", "pet", False, "I have a beagle at home."),
        Told("p", 2, MARCH, "home_city", "home_city", False, "I have moved to Graz."),
        Told("p", 2, MARCH, "driving_test", "driving_test", False, "I take my driving test in two weeks."),
        Told("q", 0, JANUARY, "pet", "pet", False, "I have a parrot at home."),
    ]
    asked = [
        Question("p", "fact", "What is my pet?", "pet", "beagle"),
        Question("p", "changed", "Which home city do I have?", "home_city", "Graz", ("Lisbon",)),
        Question("q", "fact", "What is my pet?", "pet", "beagle"),
        Question("p", "before", "What was my home city before?", "home_city", "Lisbon", ("Graz",)),
        Question("p", "dated", "When is my driving test?", "driving_test", "driving test", day="2024-03-24"),
    ]
    cases = Cases(0, tuple(told), tuple(asked))
    where = {"mongodb_uri": mongodb_uri, "mongodb_db": database_name, "home": home, "embeddings": "local"}
    async with lkmongo.Memory(**where) as memory, AsyncExitStack() as stack:
        ours = Ours(memory, stack)
        assert await ours.write([asdict(each) for each in told]) == 5
        answers = [Answer.of(await ours.ask(asdict(each))) for each in asked]
    assert shares(asked, answers) == {
        FIRST: (1, 2),
        FIVE: (1, 2),
        NEW: (1, 1),
        OLD: (0, 1),
        FOUND: (1, 1),
        AS_FORMER: (1, 1),
        DATED: (1, 1),
    }
    # What is judged is what the tool tells, and all of it.
    for answer in answers:
        assert [hit.text for hit in answer.hits if hit.text.rstrip(".") not in answer.told] == []
        assert sum(answer.told.count(each.text.rstrip(".")) for each in told) == len(answer.hits)
    assert "beagle" in answers[0].told
    assert "beagle" in answers[0].briefed
    found = memory_report.results(cases, {"lkmongo": answers}, {"lkmongo": 1.0})
    assert found["systems"]["lkmongo"]["leaks"] == 0
    assert found["systems"]["lkmongo"]["briefed"]["fact"]["holds"] == [1, 2]
    table = memory_report.table(found)
    assert "| a fact that stayed as it was: first result | 2 | **50%** |" in table


def test_the_best_of_a_row_is_bold_and_what_was_lost_is_told():
    def system(first, old):
        measures = dict.fromkeys(memory_report.MEASURES, (1, 2)) | {FIRST: (first, 4), OLD: (old, 4)}
        return {"measures": measures, "leaks": 0}

    found = {"systems": {"lkmongo": system(1, 1), "mem0": system(3, 2)}, "questions": 4}
    table = memory_report.table(found)
    assert "first result | 4 | 25% | **75%** |" in table
    assert "the old value told as though it were true | 4 | **25%** | 50% |" in table
    assert "| **50%** | needs a model |" in table
    lost, _, won = memory_report.lost_and_won(found).partition("**Won")
    assert "first result: lkmongo 25%, mem0 75%" in lost
    assert "told as though it were true: lkmongo 25%, mem0 50%" in won
