"""Partial transcripts: what is worth a search, and how similar two questions are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkmongo.agent.speculation import PartialTranscript, is_worth_a_search, overlap, question_in, stems_of


@pytest.mark.parametrize(
    "said",
    [
        "yes",
        "yes please",
        "thank you",
        "thanks a lot that's great",
        "okay perfect thank you very much",
        "good morning",
        "no that's fine",
        "uh um",
        "1 0 0 1",
        "remember that my favourite colour is green",
        "My name is Robin.",
        "danke schön",
        "vielen Dank, auf Wiederhören",
        "merci beaucoup",
        "muchas gracias",
        "dank je wel",
        "",
        "  ",
        "???",
    ],
)
def test_courtesies_numbers_and_statements_are_worth_no_search(said):
    assert not is_worth_a_search(said)


@pytest.mark.parametrize(
    "said",
    [
        "what are your hours",
        "Shipping?",
        "what is your return policy",
        "tell me about the warranty",
        "my lamp arrived broken",
        "do you ship to Switzerland",
        "Wie lange habe ich Zeit, etwas zurückzugeben?",
        "où est votre magasin",
        "退货政策是什么",
    ],
)
def test_questions_are_worth_a_search(said):
    assert is_worth_a_search(said)


def test_the_question_is_found_among_other_sentences():
    assert question_in("Hi. What is your return policy? I bought a lamp last week. Thanks!") == (
        "What is your return policy?"
    )
    assert question_in("I bought a lamp. It arrived broken yesterday. Thank you.") == "It arrived broken yesterday."
    assert question_in("um what is your return policy") == "um what is your return policy"
    assert question_in("Yes. Thank you!") is None


def test_final_pieces_stay_and_the_interim_one_is_replaced():
    turn = PartialTranscript()
    assert turn.add("what is", final=False)
    assert turn.add("What is your", final=False)
    assert not turn.add("what is your.", final=False)  # the recogniser only thought again about its writing
    assert not turn.add("What is your", final=True)
    assert turn.add("return policy", final=False)
    assert turn.text == "What is your return policy"


def test_a_caller_who_never_pauses_does_not_fill_the_memory():
    turn = PartialTranscript()
    for _ in range(1000):
        turn.add("and another thing about the lamp", final=True)
    assert len(turn.text) <= 600


@pytest.mark.parametrize(
    ("heard", "asked", "alike"),
    [
        ("what is your return policy", "return policy", 1.0),
        ("do you ship to switzerland", "shipping to Switzerland", 1.0),
        ("what is your return policy for lamps", "return policy", 1.0),
        ("what is your return policy", "return policy lamps", 2 / 3),
        ("how long can i send something back", "return policy", 0.0),
        ("what does express delivery cost", "delivery times", 1 / 2),
        ("is paypal ok", "paypal payment refused", 1 / 3),
        # one word in five: what was found is about other things
        ("my brass lamp with the torn shade needs a bulb", "lamp", 0.0),
    ],
)
def test_the_overlap_counts_the_words_that_matter_by_their_stems(heard, asked, alike):
    assert overlap(stems_of(heard), stems_of(asked)) == pytest.approx(alike)


WORDS = st.frozensets(st.sampled_from("lamp return policy ship cost hour store".split()))


@settings(max_examples=50)
@given(WORDS, WORDS)
def test_the_overlap_is_whole_when_all_that_is_asked_was_searched_for_and_never_more(searched, asked):
    share = overlap(searched, asked)
    assert 0 <= share <= 1
    assert overlap(asked, asked) == (1 if asked else 0)
    if share == 1:
        assert asked <= searched
    if asked and asked <= searched and 3 * len(asked) >= len(searched):
        assert share == 1
