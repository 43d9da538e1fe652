"""What callers say to the demo responder, and what it does: little, and nothing where it is not sure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lkmongo.demo.intents import MAX_LENGTH, american, understand
from lkmongo.demo.replies import NOT_AT_HAND, NOTHING_CERTAIN, CallerData, ToolCall, next_step, quote
from tests.demo.stored import ROBIN, answer

LINES = Path(__file__).with_name("utterances.txt").read_text(encoding="utf-8").splitlines()
ROWS = [line.rpartition(" => ")[::2] for line in LINES if " => " in line and not line.startswith("#")]


def called(step: ToolCall | str) -> str:
    """A call as the table writes it."""
    assert isinstance(step, ToolCall), step
    return " ".join([step.tool, *(f"{name}={value}" for name, value in step.arguments.items())])


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[text for text, _ in ROWS])
def test_what_is_said_leads_to_this_call_or_to_none(text, expected):
    step = answer(text)
    if expected.startswith('"'):
        assert isinstance(step, str), step
        assert expected[1:-1] in step
    else:
        assert called(step) == expected


def test_a_third_of_the_table_at_least_expects_no_call_and_no_line_stands_twice():
    assert len({text for text, _ in ROWS}) == len(ROWS)
    assert sum(expected.startswith('"') for _, expected in ROWS) * 3 >= len(ROWS)


def test_what_is_too_long_is_not_taken():
    assert "too much at once" in answer("remember that my favorite color is " + "teal " * MAX_LENGTH)


@pytest.mark.parametrize("status", ["loading", "absent"])
def test_while_what_is_stored_is_not_at_hand_nothing_of_it_is_replaced_or_deleted(status):
    unknown = CallerData(status)
    for text in ("remember that my shoe size is 43", "forget my pets", "what is my name"):
        assert answer(text, unknown) == NOT_AT_HAND
    # A favorite is one value, so that the newest is right; and what is asked for may have come meanwhile.
    assert (
        called(answer("my favorite color is teal", unknown))
        == "remember_detail memory_type=favorite_color content=teal"
    )
    assert called(answer("what is my shoe size", unknown)) == "recall_detail memory_type=shoe_size"


def test_a_memory_that_the_briefing_has_no_room_for_is_asked_for_all_the_same():
    assert called(answer("what is my shoe size", CallerData("known", has_more=True))) == (
        "recall_detail memory_type=shoe_size"
    )


@pytest.mark.parametrize("content", ["a, b", "a and b", "a; b", "It is a. It was b", "a\nb", "one " * 9])
def test_a_memory_of_more_than_one_fact_is_neither_deleted_nor_replaced_by_its_name_alone(content):
    caller = CallerData("known", memories={"favorite_color": content})
    for text in ("forget my favorite color", "my favorite color is teal", "change my favorite color to teal"):
        step = answer(text, caller)
        assert isinstance(step, str)
        assert content.strip() in step
    whole = answer("forget everything stored as my favorite color", caller)
    assert called(whole) == "forget_detail memory_type=favorite_color"


@pytest.mark.parametrize("asked", ["favorite_color", "favourite_colour", "favorite_flavour"])
def test_british_and_american_spelling_are_one_label(asked):
    assert american(asked) in {"favorite_color", "favorite_flavor"}
    assert not re.search("ou", american(asked))


def test_tools_that_are_not_there_are_not_called():
    for text, says in (
        ("where is order 1001", "I can't look up orders in this conversation."),
        ("forget my favorite color", "I can't forget things in this conversation."),
        ("help", "There is nothing that I could look up or store in this conversation."),
    ):
        assert says in next_step(understand(text), ROBIN, set(), lists_orders=True)


def test_a_tool_that_needs_a_number_is_not_called_without():
    assert "its number" in next_step(understand("my orders"), ROBIN, {"lookup_order"}, lists_orders=False)


COVERED = {
    "title": "Warranty: What does it cover?",
    "content": "The warranty covers faults.\n\nIt lasts long.",
    "source": "w",
}
NOT_COVERED = {"title": "Warranty: What is not covered?", "content": "The warranty leaves out dents.", "source": "w"}

RETURNS = {"title": "Returns", "content": "Send it back within a month.", "source": "r"}
NEXT_DAY = {"title": "Shipping: When does next-day delivery close?", "content": "Order by noon.", "source": "s"}


@pytest.mark.parametrize(
    ("question", "passages", "quoted"),
    [
        ("what does the warranty cover?", [COVERED], COVERED),
        ("what is covered by the warranty", [NOT_COVERED, COVERED], COVERED),
        ("what is not covered by the warranty", [COVERED, NOT_COVERED], NOT_COVERED),
        ("what isn't covered by the warranty", [COVERED], None),
        ("does the warranty cover water damage", [COVERED, NOT_COVERED], None),
        ("how much does the warranty cover", [COVERED], None),
        ("what about faults", [COVERED], None),
        ("what is it", [COVERED], None),
        ("warranty", [COVERED], None),
        ("what is your return policy", [NEXT_DAY, RETURNS], RETURNS),
        ("returns", [RETURNS], RETURNS),
        ("what day is it", [NEXT_DAY], None),
        ("how much is next-day delivery", [NEXT_DAY], None),
        ("how many days does next-day delivery take", [NEXT_DAY], None),
        ("is there next-day delivery", [NEXT_DAY], NEXT_DAY),
        ("what is your policy", [COVERED], None),
        ("what does the warranty cover?", [], None),
    ],
)
def test_a_passage_is_quoted_whole_when_it_is_sure_to_be_about_that(question, passages, quoted):
    said = quote(json.dumps({"results": passages}), question)
    if quoted is None:
        assert said == NOTHING_CERTAIN
    else:
        assert said == f'The knowledge base says under "{quoted["title"]}": {quoted["content"]}'


@pytest.mark.parametrize(
    "output", ["", "[]", "{}", "null", '{"results": [1]}', '{"results": [{"title": "x"}]}', "{" * 99]
)
def test_what_is_no_list_of_passages_is_said_as_it_is(output):
    assert quote(output, "what is it") == (
        f"{output}." if output and not output.endswith((".", ")")) else NOTHING_CERTAIN
    )
