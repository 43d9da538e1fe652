"""The grammar, phrase by phrase: what people say and what is to be made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lkmongo.agent.responder.intents import (
    AskProfile,
    Forget,
    Intent,
    Knowledge,
    ListAll,
    LookUpOrder,
    Recall,
    Remember,
    Search,
    SetProfile,
    Talk,
)
from lkmongo.agent.responder.understand import MAX_INTENTS, Before, understand


def short(intent: Intent) -> str:
    match intent:
        case SetProfile(field=field, value=value):
            return f"set {field}={value}"
        case AskProfile(field=field):
            return f"ask {field}"
        case Remember(label=label, content=content, reminder=reminder):
            return f"remember {label}={content}" + (" !" if reminder else "")
        case Recall(label=label):
            return f"recall {label}"
        case Search(general=general):
            return "search" + ("+" if general else "")
        case ListAll():
            return "list"
        case Forget(label=label, every=every):
            return f"forget {label}" + ("*" if every else "")
        case LookUpOrder(order_id=order_id):
            return f"order {order_id}" if order_id else "order?"
        case Knowledge(topic=topic):
            return "knowledge" + ("~" if topic else "")
        case Talk(kind=kind, about=about):
            return f"talk {kind}" + (f" {about}" if kind in {"tell_field", "forget_field"} else "")


def understood(text: str, before: Before | None = None) -> str:
    return "; ".join(map(short, understand(text, before)))


def phrasings() -> list[tuple[str, str]]:
    path = Path(__file__).with_name("test_responder_phrasings.txt")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [(said, wanted) for said, _, wanted in (line.rpartition(" => ") for line in lines)]


@pytest.mark.parametrize(("said", "wanted"), phrasings())
def test_a_phrase_is_understood(said: str, wanted: str) -> None:
    assert understood(said) == wanted


@pytest.mark.parametrize("said", [said for said, _ in phrasings()][::5])
def test_politeness_around_a_phrase_changes_nothing(said: str) -> None:
    bare = said.rstrip(" .!?")
    assert understood(f"um, {bare}, please") == understood(bare) or "foreign" in understood(bare)


@pytest.mark.parametrize(
    "said",
    [
        "I'm tired", "i'm knackered", "im hungry", "I'm looking for my order", "I am vegan", "i'm here", "I'm not sure",
        "this is great", "this is urgent", "it's raining", "it is true", "i'm unsure", "im calling about a refund",
        "call me back later", "call me a taxi", "if i go by bus how long does it take", "I'm a bit lost", "i am german",
        "my name is not important", "what is your name", "i'm allergic to nuts", "i am on the train", "this is my order",
    ],
)  # fmt: skip
def test_what_is_no_name_is_not_taken_for_one(said: str) -> None:
    assert "set name" not in understood(said)


@pytest.mark.parametrize(
    "said",
    [
        "my package is late", "my card was declined", "I have a question", "my internet is down", "I think so", "I see",
        "i need help", "my phone is broken", "i have no idea", "i forgot my password", "my luggage was stolen",
        "what's my favorite color", "do you remember my birthday", "I want a refund", "i am waiting for my order",
        "i would prefer your voice to be lower", "the sky is blue", "tell me how many points i have on my card",
        "add this song to my playlist", "set my oven to 350", "i can't hear you", "what things are there to do",
    ],
)  # fmt: skip
def test_what_is_no_fact_is_not_remembered(said: str) -> None:
    assert "remember" not in understood(said)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I like tea", "I like hiking"),
        ("I'm allergic to nuts", "I'm allergic to cats"),
        ("my dog is called Rex", "my dog is five years old"),
        ("my dog is a beagle", "my dog is afraid of thunder"),
        ("my wife is a doctor", "my wife is called Eva"),
        ("I have two kids", "I have a boat"),
        ("my brother lives in Rome", "my brother likes chess"),
        ("I don't eat meat", "I don't eat fish"),
        ("I live in Rome", "I live with my parents"),
        ("I suffer from migraines", "I suffer from asthma"),
        ("my flight is on Friday", "my flight is with KLM"),
        ("I am vegan", "I am left-handed"),
        ("remember to buy milk", "remember to buy eggs"),
        ("remember that I parked on level 4", "remember that I parked my bike outside"),
    ],
)
def test_two_facts_do_not_share_a_label(one: str, other: str) -> None:
    first, second = understand(one)[0], understand(other)[0]
    assert isinstance(first, Remember)
    assert isinstance(second, Remember)
    assert first.label != second.label


@pytest.mark.parametrize(
    "phrases",
    [
        ("my dog is called Rex", "my dog's name is Rex", "the name of my dog is Rex", "I have a dog named Rex", "my dogs name is rex"),
        ("my favorite color is teal", "teal is my favorite color", "remember my favorite color is teal", "change my favorite color to teal"),
        ("I live in Lisbon", "I moved to Lisbon", "we live in Lisbon", "I'm based in Lisbon", "remember that i live in lisbon"),
        ("I'm allergic to nuts", "please note i am allergic to nuts", "i have a nuts allergy"),
        ("I work as a nurse", "I'm a nurse by profession", "my job is nurse"),
        ("my birthday is May 3rd", "I was born on May 3rd", "my birthday's on May 3rd"),
    ],
)  # fmt: skip
def test_a_fact_in_other_words_has_the_same_label(phrases: tuple[str, ...]) -> None:
    labels = {intent.label for said in phrases for intent in understand(said) if isinstance(intent, Remember)}
    assert len(labels) == 1


@pytest.mark.parametrize(
    ("before", "said", "wanted"),
    [
        (Before(asked_for="order"), "1001", "order 1001"),
        (Before(asked_for="order"), "it's one zero zero two", "order 1002"),
        (Before(asked_for="order"), "oh it should be 42", "order 42"),
        (Before(asked_for="order"), "ABX-77 i think", "order ABX-77"),
        (Before(asked_for="order"), "i don't have it", "talk no_order_number"),
        (Before(asked_for="order"), "no idea what the number is", "talk no_order_number"),
        (Before(asked_for="order"), "what is your return policy", "knowledge"),
        (Before(asked_for="order"), "forget my locker code", "forget locker_code"),
        (Before(order=True), "and 1005?", "order 1005"),
        (Before(order=True), "sorry, i meant 7", "order 7"),
        (Before(order=True), "what about another one", "order?"),
        (Before(asked_for="name"), "Robin", "set name=Robin"),
        (Before(asked_for="name"), "it's wilhelmina", "set name=Wilhelmina"),
        (Before(asked_for="name"), "what is your return policy", "knowledge"),
        (Before(asked_for="name"), "i like tea", "remember likes_tea=tea"),
        (Before(asked_for="name"), "never mind", "talk never_mind"),
        (Before(asked_for="timezone"), "berlin", "set timezone=Europe/Berlin"),
        (Before(asked_for="preferred_language"), "german", "set preferred_language=German"),
        (Before(asked_for="email"), "robin at example dot com", "set email=robin@example.com"),
        (Before(labels=("dog_name", "dog_age")), "forget that", "forget dog_name; forget dog_age"),
        (Before(), "forget that", "talk never_mind"),
    ],
)
def test_the_turn_before_says_what_a_short_answer_means(before: Before, said: str, wanted: str) -> None:
    assert understood(said, before) == wanted


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("remember that my card number is 4111 1111 1111 1111", "talk secret"),
        ("please remember my pin is 1234", "talk secret"),
        ("note that my credit card is 4111-1111-1111-1111", "talk secret"),
        ("my locker code is 4471", "remember locker_code=4471"),
    ],
)
def test_passwords_and_card_numbers_are_not_stored(said: str, wanted: str) -> None:
    assert understood(said) == wanted


def test_the_callers_own_words_are_kept() -> None:
    assert understood("remember that my motto is don't panic") == "remember motto=don't panic"


def test_of_two_values_for_one_thing_the_last_counts() -> None:
    assert understood("my name is Ana. no wait, my name is Anna") == "set name=Anna"


def test_more_requests_than_are_served_are_said_to_be_left() -> None:
    many = ". ".join(f"where is order {number}" for number in range(1000, 1020))
    assert understand(many)[MAX_INTENTS:] == [Talk("too_much")]


def test_a_long_text_can_be_remembered_but_is_not_taken_apart() -> None:
    story = "the boat left the harbour and " * 40
    remembered = understand(f"remember that {story}")[0]
    assert isinstance(remembered, Remember)
    assert len(remembered.content) > 400
    assert understood("x " * 1500) == "talk too_long"


@pytest.mark.parametrize("said", ["", " ", "...", "?!", "\u200b", "\ud800", "\x00\x01"])
def test_nothing_said_is_nothing_understood(said: str) -> None:
    assert understood(said) == "talk nothing"
