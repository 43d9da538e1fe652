"""What is remembered over five calls: learned, changed, dated, asked about the past, forgotten, erased."""

from __future__ import annotations

import pytest

from docs import generate
from lkmongo.scenarios.reading import load_scenarios

CONVERSATIONS = sorted(generate.ROOT.glob("tests/scenarios/memory/*.yaml"))


def test_there_are_twelve_conversations_of_five_calls_each():
    assert len(CONVERSATIONS) == 12
    assert [each.path.stem for each in load_scenarios(CONVERSATIONS) if len(each.calls) < 5] == []


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
async def test_a_conversation_goes_as_it_should(run, path):
    assert (await run(path)).failures == ()
