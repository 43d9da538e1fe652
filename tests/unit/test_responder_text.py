"""The ground of the grammar: spelling, clauses, labels, spoken numbers, time zones."""

from __future__ import annotations

import pytest

from lkmongo.agent.responder.addresses import find_address
from lkmongo.agent.responder.clauses import clauses
from lkmongo.agent.responder.foreign import is_foreign
from lkmongo.agent.responder.names import take_name
from lkmongo.agent.responder.text import fit_label, label_of, normalise
from lkmongo.agent.responder.wording import as_said
from lkmongo.agent.responder.zones import zone
from lkmongo.model import MAX_CONTENT, MAX_LABEL
from lkmongo.secret_shapes import spoken_to_digits


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("I\u2019m here", "I am here"),
        ("whats my   name", "what is my name"),
        ("dont wanna", "do not want to"),
        ("can u tell me ur name", "can you tell me your name"),
        ("remeber my favrite color", "remember my favorite color"),
        ("wher is my ordr", "where is my order"),
        ("i went shopping on a ship", "i went shopping on a ship"),
        ("my e-mail and time zone", "my email and timezone"),
        ("my cat's called Tom", "my cat is called Tom"),
        ("my uh name is um Bob", "my name is Bob"),
        ("an id like yours", "an I would like yours"),
        ("what is my id", "what is my id"),
    ],
)
def test_spelling_is_made_plain(typed: str, meant: str) -> None:
    assert normalise(typed) == meant


def test_text_beyond_the_bound_is_cut() -> None:
    assert len(normalise("word " * 5_000)) <= 2 * MAX_CONTENT


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        ("my name is robin and where is order 1001", ["my name is robin", "where is order 1001"]),
        ("I like tea and hiking", ["I like tea and hiking"]),
        ("my mother and my father live in Rome", ["my mother and my father live in Rome"]),
        ("I live in Rome and work at the port", ["I live in Rome", "I work at the port"]),
        ("my dog is called Rex and he is five", ["my dog is called Rex", "my dog is five"]),
        ("I met Dr. Smith. He is fine.", ["I met Dr. Smith", "He is fine"]),
        ("where is it; I am waiting", ["where is it", "I am waiting"]),
        ("note my member number, it's 4711", ["note my member number is 4711"]),
        ("if it rains, I stay home", ["if it rains, I stay home"]),
        ("um, hey, could you please maybe tell me where order 7 is, thanks", ["where order 7 is"]),
        ("my name is what", ["what is my name"]),
    ],
)
def test_an_utterance_is_split_where_something_new_begins(said: str, parts: list[str]) -> None:
    assert [clause.text for clause in clauses(normalise(said)) if clause.text] == parts


def test_a_question_is_told_from_a_command() -> None:
    asked = {said: clauses(said)[0].asked for said in ("do you ship to Rome", "can you forget my name", "I like tea")}
    assert asked == {"do you ship to Rome": True, "can you forget my name": False, "I like tea": False}


@pytest.mark.parametrize(
    ("said", "digits"),
    [
        ("one zero zero one", "1001"),
        ("ten oh one", "1001"),
        ("1 0 0 2", "1002"),
        ("double oh seven", "007"),
        ("ten twenty one", "1021"),
        ("one thousand and two", "1002"),
        ("two hundred", "200"),
        ("a dash one zero", "A-10"),
        ("order twenty three please", "order 23 please"),
    ],
)
def test_spoken_numbers_become_digits(said: str, digits: str) -> None:
    assert spoken_to_digits(said) == digits


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("berlin time", "Europe/Berlin"),
        ("new york", "America/New_York"),
        ("CET", "CET"),
        ("pacific standard time", "America/Los_Angeles"),
        ("san francisco", "America/Los_Angeles"),
        ("GMT+2", "Etc/GMT-2"),
        ("utc minus 5", "Etc/GMT+5"),
        ("UTC+0", "UTC"),
        ("GMT+99", None),
        ("nowhere", None),
        ("", None),
    ],
)
def test_time_zones_are_found_by_the_names_people_use(said: str, name: str | None) -> None:
    assert zone(said) == name


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("my email is a.b+c@example.co.uk.", "a.b+c@example.co.uk"),
        ("it is robin dot smith at example dot com", "robin.smith@example.com"),
        ("my email is john smith at gmail dot com", "johnsmith@gmail.com"),
        ("mail j underscore doe at my dash shop dot de", "j_doe@my-shop.de"),
        ("meet me at noon", None),
        ("robin@localhost", None),
    ],
)
def test_addresses_are_found_written_or_spoken(said: str, address: str | None) -> None:
    assert find_address(said) == address


@pytest.mark.parametrize(
    ("rest", "sure", "name"),
    [
        ("robin", True, "Robin"),
        ("ROBIN", True, "Robin"),
        ("mary ann o'neil", True, "Mary Ann O'Neil"),
        ("Anna van der Berg", True, "Anna van der Berg"),
        ("R O B I N", True, "Robin"),
        ("al", True, "Al"),
        ("Robin from the shop", False, "Robin"),
        ("tired", False, ""),
        ("Vegan", False, ""),
        ("zebulon", False, ""),
        ("on the order", True, ""),
    ],
)
def test_a_name_is_taken_off_what_follows(rest: str, sure: bool, name: str) -> None:
    assert take_name(rest, sure=sure)[0] == name


def test_an_unknown_word_is_a_name_only_after_a_greeting() -> None:
    assert take_name("zebulon", sure=False, opening=True)[0] == "Zebulon"


def test_labels_stay_within_the_bound() -> None:
    label = label_of("supercalifragilistic " * 9, 9)
    assert len(label) <= MAX_LABEL
    assert fit_label("a" * 200)
    assert len(fit_label("word_" * 40)) <= MAX_LABEL
    assert fit_label("!!!") == ""


@pytest.mark.parametrize(
    ("content", "raw", "said"),
    [
        ("do not panic", "my motto is don't panic!", "don't panic"),
        ("teal", "my favorite color is teal", "teal"),
        ("five", "my dog is called Rex", "five"),
    ],
)
def test_the_words_as_they_were_said_are_found_again(content: str, raw: str, said: str) -> None:
    assert as_said(content, raw) == said


@pytest.mark.parametrize(
    "text", ["wo ist mein paket", "où est ma commande", "где мой заказ", "こんにちは", "hola como estas mi pedido"]
)
def test_other_languages_are_noticed(text: str) -> None:
    assert is_foreign(text)


@pytest.mark.parametrize(
    "text",
    [
        "where is my order",
        "I love la dolce vita",
        "my name is José",
        "call me Die",
        "no",
        "remember das Boot is my favorite film",
    ],
)
def test_english_with_foreign_words_is_english(text: str) -> None:
    assert not is_foreign(text)
