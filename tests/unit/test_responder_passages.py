"""Choosing what to say out of what the knowledge base found."""

from __future__ import annotations

import json

import pytest

from lkmongo.agent.responder.intents import Knowledge
from lkmongo.agent.responder.outcome import Output, spoken
from lkmongo.agent.responder.passages import best_answer, stem
from lkmongo.agent.responder.plain_text import plain

RETURNS = {
    "title": "Returns: how long do I have?",
    "content": "## Deadline\n\nItems may come back within **30 days** of delivery. They must be unused.\n\n- Refunds take *5 days*\n- [Labels](https://example.com/l) are free of charge",
    "source": "returns.md",
}
SHIPPING = {
    "title": "Shipping",
    "content": "We deliver to the US and Canada. Standard shipping takes 3 to 5 business days.\n\nSpeed: Standard; Price: 5.95 dollars.\nSpeed: Express; Price: 14.95 dollars.",
    "source": "shipping.md",
}
WARRANTY = {
    "title": "Warranty",
    "content": "Every product has a two-year guarantee. It covers defects.",
    "source": "w.md",
}


def answer(question: str, *results: dict[str, str]) -> str:
    found = best_answer(json.dumps({"results": results or (RETURNS, SHIPPING, WARRANTY)}), question)
    assert found is not None
    return found.text


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("how long do I have to return something", "Items may come back within 30 days of delivery."),
        ("do you ship to canada", "We deliver to the US and Canada."),
        ("how long does shipping take", "Standard shipping takes 3 to 5 business days."),
        ("how much is express", "Speed: Express, Price: 14.95 dollars."),
        ("when do I get my refund", "Refunds take 5 days."),
        ("is there a warranty", "Every product has a two-year guarantee. It covers defects."),
    ],
)
def test_the_sentence_that_answers_is_said_first(question: str, wanted: str) -> None:
    assert answer(question).startswith(wanted)


def test_no_more_than_three_whole_sentences_are_said() -> None:
    long = {
        "title": "Tea",
        "content": " ".join(f"Tea number {n} is a fine green tea from a garden." for n in range(40)),
        "source": "t",
    }
    said = answer("what tea do you have", long)
    assert 1 <= said.count("Tea number") <= 3
    assert said.endswith("garden.")


def test_a_sentence_that_leans_on_the_one_before_brings_it_along() -> None:
    told = {"title": "Hub", "content": "The hub has a red button. It resets the network when held.", "source": "h"}
    assert answer("what resets the network", told) == "The hub has a red button. It resets the network when held."


@pytest.mark.parametrize(
    ("markdown", "spoken_text"),
    [
        ("# Title\n\nText.", "Text."),
        ("**bold** and *thin* and `code`", "bold and thin and code"),
        ("see [the site](https://x.org) ![logo](l.png)", "see the site"),
        ("- one\n- two", "one.\ntwo"),
        ("> quoted", "quoted"),
        ("| a | b |\n|---|---|\n| c | d |", "a, b.\nc, d."),
        ("snake_case stays", "snake_case stays"),
        ("```\ncode\n```\nafter", "after"),
        ("a<br>b \\*star\\*", "ab *star*"),
    ],
)
def test_marks_of_markdown_are_not_spoken(markdown: str, spoken_text: str) -> None:
    assert plain(markdown) == spoken_text


@pytest.mark.parametrize(
    ("one", "other"),
    [("returned", "returns"), ("ship", "shipping"), ("takes", "take"), ("policies", "policy"), ("glasses", "glass")],
)
def test_forms_of_a_word_have_one_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    "output", ["", "{}", '{"results": []}', '{"results": [1, {"title": null}]}', '{"results": 3}', "[]", "3"]
)
def test_output_without_passages_holds_no_answer(output: str) -> None:
    found = best_answer(output, "anything")
    assert found is None or not found.of_passages


def test_a_sentence_of_the_tool_is_spoken_as_it_is() -> None:
    output = Output("search_knowledge", "Nothing about that was found in the knowledge base.")
    assert spoken(Knowledge("moon rocks"), {0: [output]}) == output.text
    assert spoken(Knowledge("moon rocks", topic=True), {0: [output]}) == output.text


def test_a_poor_fit_is_said_to_be_one() -> None:
    output = Output("search_knowledge", json.dumps({"results": [WARRANTY]}))
    assert spoken(Knowledge("how many moons has saturn"), {0: [output]}).startswith("I found nothing")
    assert spoken(Knowledge("what defects did the moon of saturn have"), {0: [output]}).startswith("I'm not sure")
    assert spoken(Knowledge("moons saturn", topic=True), {0: [output]}).startswith("I did not understand that")
    assert spoken(Knowledge("is there a warranty"), {0: [output]}).startswith("Every product")
