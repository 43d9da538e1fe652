"""A secret is found across turns: asked for, announced, read out in pieces, or told again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lkmongo.confidential import REFUSAL
from lkmongo.conversation import Conversation
from lkmongo.model import Turn, TurnKind
from lkmongo.redaction import POLICY, Redactor
from tests.spoken_numbers import cards, words

AT = datetime(2026, 11, 3, 12, 30, tzinfo=UTC)


def turn(number: int, said: str) -> Turn:
    """A turn of the caller, or with "> " before it of the agent."""
    role, content = ("assistant", said[2:]) if said.startswith("> ") else ("user", said)
    return Turn(number, str(number), TurnKind.MESSAGE, AT + timedelta(seconds=number), role=role, content=content)


def tool(arguments: dict[str, object], output: str) -> Turn:
    return Turn(0, "t", TurnKind.TOOL, AT, name="remember_detail", arguments=json.dumps(arguments), output=output)


def kept(*said: str, policy=POLICY) -> list[str | None]:
    turns = [turn(number, each) for number, each in enumerate(said)]
    return [each.content for each in Conversation(Redactor(policy)).turns(turns)]


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        (["my card number is", "4111 1111 1111 1111"], ["my card number is", "[card ending 1111]"]),
        (["4111", "1111", "1111", "1111"], ["[card]", "[card]", "[card]", "[card ending 1111]"]),
        (["four one one one one one one one", "> mhm", "one one one one one one one one and a kettle"],
         ["[card]", "mhm", "[card ending 1111] and a kettle"]),
        (["4111 1111", "> 4111 1111, go on", "1111 1111"], ["[card]", "[card], go on", "[card ending 1111]"]),
        (["> What is the card number?", "it's 4929", "> go on", "0000", "0000 0001, thanks"],
         ["What is the card number?", "it's [card]", "go on", "[card]", "[card], thanks"]),
        (["> And the card?", "4929", "> 4929, and then?", "0000"],
         ["And the card?", "[card]", "[card], and then?", "[card]"]),
        (["> What is your PIN?", "1234", "> Which order is it?", "4711"],
         ["What is your PIN?", "[secret]", "Which order is it?", "4711"]),
        (["my pin is 1234", "> 1234, I see", "as I said, one two three four!"],
         ["my pin is [secret]", "[secret], I see", "as I said, [secret]!"]),
        (["my pin is", "> 4111?", "1234"], ["my pin is", "4111?", "[secret]"]),
        (["my password is", "swordfish"], ["my password is", "[secret]"]),
        (["> Please type the verification code.", "pressed 1 2 3 4 5 6"],
         ["Please type the verification code.", "pressed [secret]"]),
        (["> Please type the verification code, or press 2.", "pressed 2"],
         ["Please type the verification code, or press 2.", "pressed 2"]),
        (["> What is your password?", "no"], ["What is your password?", "no"]),
        (["my IBAN is DE89 3704 0044", "0532 0130 00"], ["my IBAN is [bank account]", "[bank account]"]),
        (["my social security number is", "078", "05", "1120"],
         ["my social security number is", "[national id]", "[national id]", "[national id]"]),
        (["I forgot my PIN", "I want to return order 1001"], ["I forgot my PIN", "I want to return order 1001"]),
        (["> Please tell me its number.", "1001"], ["Please tell me its number.", "1001"]),
        (["I have 2 dogs", "3 cats", "and 4711 fish"], ["I have 2 dogs", "3 cats", "and 4711 fish"]),
        (["my pin is 1234", "order 1234 is mine"], ["my pin is [secret]", "order 1234 is mine"]),
    ],
)  # fmt: skip
def test_what_only_several_turns_tell_is_redacted(said, stored):
    assert kept(*said) == stored


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("it must be 4711 I think", "it must be [secret] I think"),
        ("four seven double one, or 0815", "[secret], or [secret]"),
        ("it ends in 71", "it ends in 71"),
        ("and where is order 48213?", "and where is order 48213?"),
        ("call me at 030 901 82 000", "call me at 030 901 82 000"),
    ],
)
def test_while_a_pin_is_waited_for_a_number_that_can_be_one_is_masked_wherever_it_is_said(said, stored):
    conversation = Conversation(Redactor())
    conversation.await_pin(True)
    assert conversation.turn(turn(0, "one moment"))[0].content == "one moment"
    assert conversation.turn(turn(1, said))[0].content == stored
    conversation.await_pin(False)
    assert conversation.turn(turn(2, "9034"))[0].content == "[secret]"
    conversation.await_pin(True)
    conversation.await_pin(False, settled=True)
    assert conversation.turn(turn(3, "5678"))[0].content == "5678"


def test_a_policy_that_keeps_secrets_keeps_them_while_a_pin_is_waited_for_as_well():
    conversation = Conversation(Redactor(dict.fromkeys(POLICY, "keep")))
    conversation.await_pin(True)
    assert conversation.turn(turn(0, "it must be 4711"))[0].content == "it must be 4711"


def test_a_policy_that_keeps_them_keeps_them_across_turns_as_well():
    said = ["my pin is", "1234", "> What is your card number?", "4111 1111", "1111 1111"]
    assert kept(*said, policy=dict.fromkeys(POLICY, "keep")) == [each.removeprefix("> ") for each in said]


def test_what_is_not_covered_a_number_one_digit_at_a_time_among_other_words():
    """The documents say so; who mends it changes them."""
    said = ["first a 4", "next to it a 1", "two more like that", "I think a 1 again"]
    assert kept(*said) == said


@given(cards(), st.lists(st.integers(4, 12), min_size=1, max_size=3, unique=True), st.booleans())
def test_no_card_number_survives_in_pieces_of_four_digits_or_more(number, cuts, is_spoken):
    cuts = [each for each in sorted(cuts) if each % 4 == 0]
    parts = [number[a:b] for a, b in zip([0, *cuts], [*cuts, 16], strict=True)]
    stored = kept(*(words(part) if is_spoken else part for part in parts))
    told = " ".join(each or "" for each in stored)
    # Twelve of its digits may be a valid Aadhaar: then the last four stand by themselves.
    assert "".join(char for char in told if char.isdigit()) == number[-4:]
    assert told.count("[") >= len(parts) - 1


def test_what_a_tool_was_refused_to_remember_is_masked_wherever_it_stands():
    conversation = Conversation(Redactor())
    first, _ = conversation.turn(turn(0, "swordfish opens everything, keep that"))
    kept_tool, amended = conversation.turn(tool({"memory_type": "wifi_password", "content": "swordfish"}, REFUSAL))
    assert first.content == "swordfish opens everything, keep that"
    assert [each.content for each in amended] == ["[secret] opens everything, keep that"]
    assert json.loads(kept_tool.arguments) == {"memory_type": "wifi_password", "content": "[secret]"}


def test_arguments_and_outputs_of_tools_are_redacted_with_what_was_told_before():
    conversation = Conversation(Redactor())
    conversation.turn(turn(0, "my pin is 9034"))
    kept_tool, _ = conversation.turn(tool({"code": "9034", "card": 4111111111111111}, '["ok", "for 9034"]'))
    assert json.loads(kept_tool.arguments) == {"code": "[secret]", "card": "[card ending 1111]"}
    assert json.loads(kept_tool.output) == ["ok", "for [secret]"]


def test_a_turn_in_which_nothing_is_found_is_the_same_object():
    said = turn(0, "where is order A-1001")
    assert Conversation(Redactor()).turn(said) == (said, [])
    assert Conversation(Redactor()).turn(said)[0] is said


@given(st.lists(st.sampled_from(["my pin is", "1234", "4111", "1111 1111", "> What is your PIN?", "hello", "> 4111?"])))
@example(["my pin is", "> 4111?", "1234", "my pin is", "1234", "4111", "4111", "4111"])
def test_redacting_a_stored_conversation_again_changes_nothing(said):
    once = Conversation(Redactor()).turns(turn(number, each) for number, each in enumerate(said))
    assert Conversation(Redactor()).turns(once) == once
