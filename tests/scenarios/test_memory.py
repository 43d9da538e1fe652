"""What is remembered over five calls: learned, changed, dated, asked about the past, forgotten, erased."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from docs import generate
from lkmongo.model import DateMention, UserScope
from lkmongo.scenarios.days import let_pass
from lkmongo.scenarios.reading import load_scenarios

FAILING = """\
calls:
  - caller: robin
    says: [{ say: "Boston.", model: [{ tool: remember_detail, arguments: { memory_type: city, content: Boston } }] }]
  - caller: robin
    later: 10
    briefed: [Boston, Lisbon]
    says: [{ say: "Oslo.", model: [{ tool: remember_detail, arguments: { memory_type: city, content: Oslo } }] }]
    learned:
      summary: The caller has moved.
      commitments: [{ text: send the map, by: assistant, quote: 1 }]
      facts: [{ kind: new, label: pet, content: a beagle, quote: 1, confidence: 0.9 }]
    after:
      remembered: { pet: cat }
      formerly: { city: Rome, pet: parrot }
      not_remembered: [Boston, the map]
      summary: stayed
      commitments: [call back]
      nothing: true
  - { staff: undo, caller: robin, label: pet }
  - { staff: forget, caller: robin, label: shoe size }
after:
  - caller: robin
    commitments: []
"""


async def test_each_kind_of_expectation_can_fail(run):
    outcome = await run(FAILING)
    found = [(failure.line, failure.where, failure.expected, failure.came) for failure in outcome.failures]
    briefing = found.pop(0)
    assert briefing[:3] == (4, "call 2 (robin)", 'the model is told "Lisbon"')
    assert briefing[3].startswith("<caller_data>")
    assert "Boston" in briefing[3]
    (counts,) = [each[3] for each in found if each[2] == "nothing is stored"]
    assert "2 in memories" in counts
    found = [each for each in found if each[2] != "nothing is stored"]
    assert found == [
        (13, "call 2 (robin)", 'pet is remembered and holds "cat"', '"a beagle"'),
        (13, "call 2 (robin)", 'city was something before that holds "Rome"', "Boston"),
        (13, "call 2 (robin)", 'pet was something before that holds "parrot"', "it was nothing before"),
        (13, "call 2 (robin)", '"Boston" is not remembered', 'in what city was before: "Boston"'),
        (13, "call 2 (robin)", '"Boston" is not remembered', 'in the summary of a call: "Boston. boston"'),
        (13, "call 2 (robin)", '"the map" is not remembered', 'in an open commitment: "send the map"'),
        (13, "call 2 (robin)", 'a summary of the last call that holds "stayed"', '"The caller has moved."'),
        (13, "call 2 (robin)", '"call back" is still to be done', "send the map"),
        (13, "call 2 (robin)", "nothing else is still to be done", '"send the map"'),
        (19, "between calls (robin)", "staff can undo that", "pet has no former value"),
        (20, "between calls (robin)", "staff can forget that", "robin has no memory called shoe_size"),
        (22, "after all calls (robin)", "nothing else is still to be done", '"send the map"'),
    ]


async def test_days_that_pass_make_everything_older_but_nothing_else(store):
    """Of what is stored of people, each time and each day; the words in which they were said stay."""
    scope = UserScope(tenant_id="default", user_id="robin")
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    dates = (DateMention("in two weeks", date(2026, 5, 15)),)
    await store.memories.remember(scope, "test", "in two weeks", at=at, dates=dates)
    await store.memories.remember(scope, "test", "tomorrow", at=at + timedelta(days=1))
    await let_pass(store.db, 10)
    (fact,), (former,) = await store.memories.contents(scope), await store.history.former(scope)
    assert (fact.content, fact.updated_at) == ("tomorrow", at - timedelta(days=9))
    assert (former.valid_from, former.valid_to) == (at - timedelta(days=10), at - timedelta(days=9))
    assert former.dates == (DateMention("in two weeks", date(2026, 5, 5)),)


CONVERSATIONS = sorted(generate.ROOT.glob("tests/scenarios/memory/*.yaml"))


def test_there_are_twelve_conversations_of_five_calls_each():
    assert len(CONVERSATIONS) == 12
    assert [each.path.stem for each in load_scenarios(CONVERSATIONS) if len(each.calls) < 5] == []


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
async def test_a_conversation_goes_as_it_should(run, path):
    assert (await run(path)).failures == ()
