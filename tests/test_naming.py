"""What callers say about who they are; who is mistaken for somebody hears what is somebody else's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.naming import claimed, denies, name_said
from tests.spoken_names import CLAIMS, DENIALS, GUARDS, NAMES, NO_CLAIMS, NO_DENIALS, lines


@pytest.mark.parametrize("line", lines(CLAIMS))
def test_who_says_who_they_are_claims_that_name(line):
    index, words = line.split(" ", 1)
    assert claimed(words, NAMES) == int(index)
    assert not denies(words, NAMES)


@pytest.mark.parametrize("words", lines(NO_CLAIMS))
def test_whoever_speaks_of_somebody_claims_nothing(words):
    assert claimed(words, NAMES) is None


@pytest.mark.parametrize("words", lines(DENIALS))
def test_who_is_somebody_else_denies(words):
    assert denies(words, ["Robin Fletcher"])
    assert claimed(words, ["Robin Fletcher"]) is None


@pytest.mark.parametrize("words", lines(NO_DENIALS))
def test_what_is_denied_of_something_else_is_no_denial(words):
    assert not denies(words, ["Robin Fletcher"])


def test_a_name_that_two_have_is_claimed_by_the_last_name_alone():
    names = ["Robin Fletcher", "Robin Smith", "Anna Smith"]
    assert claimed("This is Robin.", names) is None
    assert claimed("Smith speaking", names) is None
    assert claimed("This is Robin Smith.", names) == 1
    assert claimed("Smith, Anna Smith", names) == 2
    assert claimed("This is Robin.", ["Robin Fletcher", "robin fletcher"]) is None


@pytest.mark.parametrize(
    ("words", "name", "index"),
    [
        ("This is Robin Fletcher.", "Robin", 0),
        ("This is Robin", "Robin", 0),
        ("This is Robin Frau.", "Robin", None),
        ("hier ist Mueller", "Jörg Müller", 0),
        ("Hier ist Jorg", "Jörg Müller", 0),
        ("ich bin Michal", "Michael Braun", None),
        ("this is Sean O'Brien", "Sean O'Brien", 0),
        ("this is O\u2019Brien", "Sean O'Brien", 0),
        ("Hier ist Frau von Berg.", "Anna von Berg", 0),
        ("Berg am Apparat", "Anna von Berg", 0),
        ("Hier ist die Mutter von Berg", "Anna von Berg", None),
        ("my name is José García", "José Luis Núñez García", 0),
        ("I'm Luis", "José Luis Núñez García", None),
        ("this is Hans", "Hans Weiss", 0),
        ("Hier ist Hans' Frau", "Hans Weiss", None),
        ("Hier ist Hans Frau", "Hans Weiss", None),
        ("Frau Müller am Apparat", "Eva Müller-Schmidt", None),
        ("Müller-Schmidt am Apparat", "Eva Müller-Schmidt", 0),
        ("This is Robin", "Fletcher, Robin", 0),
        ("This is Robin Fletcher", "Robin Fletcher Jr.", 0),
        ("This is Robin Fletcher Junior", "Robin Fletcher", None),
        ("Will you call me back?", "Will Smith", None),
        ("It will be in May.", "May Brown", None),
        ("I'm frank with you", "Frank Moore", None),
        ("soy José Núñez", "Jose Nunez", 0),
        ("", "Robin", None),
        ("This is", "", None),
        ("This is Robin.", "...", None),
    ],
)
def test_names_are_compared_as_they_are_written_and_said(words, name, index):
    assert claimed(words, [name]) == index


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("This is Robin.", "Robin"),
        ("This is Robin Fletcher.", "Robin Fletcher"),
        ("I'm Robin Smith", "Robin"),
        ("Tu mówi Robin.", "Robin"),
        ("You can put it under Robin Fletcher.", "robin fletcher"),
        ("robin fletcher, born in May", "Robin Fletcher"),
        ("Ich bin die Anna", "Anna"),
        ("Nunez, José Nunez", "José Núñez"),
    ],
)
def test_a_name_that_was_said_was_said(words, name):
    assert name_said(words, name)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Hello, where is my order?", "Robin"),
        ("This is Robin.", "Robin Fletcher"),
        ("This is Robinson.", "Robin"),
        ("I'm not Robin.", "Robin"),
        ("This is Robin's wife.", "Robin"),
        ("I'm calling for Robin.", "Robin"),
        ("My son Robin ordered it", "Robin"),
        ("Is Robin there?", "Robin"),
        ("Can I speak to Robin?", "Robin"),
        ("Could Robin call me back?", "Robin"),
        ("He said he is Robin.", "Robin"),
        ("Robin told me to call.", "Robin"),
        ("Ich bin die Frau von Robin", "Robin"),
        ("Hier ist Robins Frau", "Robin"),
        ("Kennen Sie Robin?", "Robin"),
        ("soy la mujer de José", "José"),
        ("This is Robin.", ""),
    ],
)
def test_a_name_that_a_model_makes_up_was_not_said(words, name):
    assert not name_said(words, name)


BEFORE = ["", "Hi, ", "Yes. ", "Hallo, ", "well ", "Good morning. ", "Hola, ", "uh "]
BEHIND = ["", ".", ", I have a question.", " please", ", danke", ". Thanks!", " okay", "!"]
first = st.sampled_from("Robin José Anna Ümit Zoë Jean-Luc Li Şule Mark Will".split())
last = st.sampled_from(["Fletcher", "Núñez", "O'Brien", "von Berg", "Meyer-Lang", "Li", "Śmigły"])
spoken = st.sampled_from(
    "this is my name hier ist ich bin soy je suis not wife for the speaking , . ? ! von and".split()
)
other = st.text(st.characters(categories=["L"]), min_size=1, max_size=8)


@given(st.sampled_from(lines(GUARDS)), first, last, st.booleans(), st.sampled_from(BEFORE), st.sampled_from(BEHIND))
def test_a_guard_word_blocks_whatever_is_around_it(guard, first, last, is_whole, before, behind):
    name = f"{first} {last}"
    said = name if is_whole else first
    for words in (before + guard.format(said) + behind, (before + guard.format(said)).lower()):
        assert claimed(words, [name]) is None, words
        assert not name_said(words, said), words


@given(st.lists(spoken | other, max_size=14), first, last)
def test_words_without_the_name_claim_nothing(words, first, last):
    text = " ".join(words)
    parts = re.findall(r"\w+", f"{first} {last}".casefold())
    if any(word.casefold() in parts for word in words):
        return
    assert claimed(text, [f"{first} {last}"]) is None
    assert not name_said(text, f"{first} {last}")


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_text_can_be_read(words, name):
    assert claimed(words, [name]) in {0, None}
    assert denies(words, [name]) in {True, False}
    assert name_said(words, name) in {True, False}


@given(first, last, st.sampled_from(BEFORE))
def test_whoever_has_a_name_can_claim_it(first, last, before):
    for form in ("this is {}.", "my name is {}", "{} speaking.", "ich bin {}"):
        assert claimed(before + form.format(f"{first} {last}"), [f"{first} {last}", "Somebody Else"]) == 0


def test_long_speeches_and_many_fillers_are_read_at_once():
    assert claimed("yes " * 400 + "this is not", NAMES) is None
    assert claimed("this is " * 240 + "Robin", NAMES) is None
    assert not denies("I think it is not " * 110, NAMES)
    assert claimed("This is Robin. " * 1_000, NAMES) is None
