"""What must not be remembered is told from what may be, however it is said."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkmongo.agent.turns import RedactedTurns, gist, redact_secrets
from lkmongo.confidential import REFUSAL, WITHHELD, holds_secret, is_secret, secrets_in, tells, without_secrets
from lkmongo.demo.replies import CallerData, greeting
from lkmongo.detectors.plain import words_to_digits
from lkmongo.errors import SecretError
from lkmongo.model import Fact, Turn, TurnKind, check_memory, now

SECRETS = """
my card number is 4111 1111 1111 1111 cvv 123
um, six zero one one zero zero zero zero zero zero zero zero zero zero zero four
my card number is 4111 1111 1111 1111
4111-1111-1111-1111
4111.1111.1111.1111
4111, 1111, 1111, 1111
it is 4111111111111111, valid until 12/27
4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
four one one one one one one one one one one one one one one one
four, one, one, one, one, one, one, one, one, one, one, one, one, one, one, one
forty-one eleven eleven eleven eleven eleven eleven eleven
my amex is 3782 822463 10005
note that my credit card is 4111 1111 1111 1112
the number on the card is 4929 0000 0000 0001 by the way
pay with 5555 5555 5555 4444 please
the gift card 6034 9320 1234 5678
cvv 123
the CVC is 4321
c.v.v. 123
security code: 987
remember that my pin is 1234
PIN 1234
my pin's 1234
my p.i.n. is 1 2 3 4
pin: one two three four
my pin is twelve thirty four
the pin for my card is 1234
the PIN I always use on my phone is 998877
pin code 560001
my pin has been changed to 7781
I changed my pin, it's now 4455
1234 is my pin
use 1234 as the new pin
put 4711 for my pin
1234, that's my pin
1234 (my pin)
my unlock code is 1234
the CVV code on the back of my card is 123
ID card number 123456789
my pwd: blue
login is robin, password is blue42
my social security number is 078-05-1120
my social is 078 05 1120
ssn 078051120
123-45-6789
my ssn: zero seven eight zero five one one two zero
national insurance number QQ 12 34 56 C
my password is hunter2
the wifi password is swordfish
password: correct horse battery staple
my password for the shop is swordfish
the password I use for everything is Tr0ub4dor
wifi password hunter2
swordfish is my password
remember that swordfish is my password
use hunter2 as my password
hunter2 is the password
my passphrase is the quick brown fox
the passcode is 8812
my passwords are hunter2 and swordfish
my api key is abcd1234efgh
sk-proj-abcdefghij0123456789
ghp_abcdefghijklmnopqrstuvwxyz0123456789
the token is eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl
connect to mongodb://robin:hunter2@example.org/db
my verification code is 482913
the one-time code is 12 34 56
recovery code ABCD-1234
my IBAN is DE89 3704 0044 0532 0130 00
transfer it to de89370400440532013000
GB82 WEST 1234 5698 7654 32
my bank account number is 12345678
sort code 12-34-56
routing number 021000021
my passport number is C01X00T47
passport number C 0 1 X 0 0 T 4 7
my driver's licence is MORGA753116SM9IJ
mon mot de passe est soleil
meine PIN ist 1234
mein Passwort lautet hunter2
meine Geheimzahl ist eins zwei drei vier
mein Kennwort ist sonne
mi contraseña es gato
la clave es 1234
minha senha é gato
mijn wachtwoord is zon
mijn pincode is 1234
ma carte bancaire est 4929000000000001
le code secret est 1234
密码是1234
パスワードはsakura
暗証番号は1234
мой пароль: солнце
my\u00a0pin\u2009is\u00a0\uff11\uff12\uff13\uff14
my pin is \u0661\u0662\u0663\u0664
my pin is 1\u200b23\u200b4
"""

INNOCENT = """
where is order 1001
my order number is 4111-2222
order 123-45-6789 has not arrived
order number 1234567890123456
my phone number is 555-123-4567
please call me at +1 (415) 555-2671
my mobile number is +49 151 23456789
call me on 0151 2345 6789
my birthday is 04/05/1987
I was born on 12 March 1985
our anniversary is 2014-06-21
it cost 1,234.56 dollars
I paid 12,000 euros in 2023
I live at 1234 Main Street, 94103 San Francisco
the address is 10115 Berlin, room 1204
my customer number is 1234567890
my flight is LH1234 on 5 May 2027
tracking number 1Z9999W99999999999
my locker code is 4471
the gate code is 4471
the alarm code is 4711
my favorite number is 1234
my loyalty card number is 1234567890123
my library card is 21234567890123
the card ending in 1111 was charged twice
my credit card is a Visa
do you have gift cards
I forgot my PIN
I want to change my pin
how do I reset my password
my password is not working
my password is wrong
the password was changed in 2019
the password is too short, it needs 12 characters
the password is 12 characters long
the password page is broken
my password manager is 1Password
did you get the password reset email on 3 May 2027
please keep my password safe
what is my pin
I lost my card
where do I find the security code
the security code is missing
I collect enamel pins
my bowling pin collection has 150 pins
pin the post to the board
my pin board is 120 cm wide
my passport expires in 2031
my passport is in the drawer
I renewed my driver's license in 2019
my bank account is with Chase
my social life is great
I am on social media since 2009
my social worker is Ana
a token of appreciation
the key to success is patience
my API key does not work
my secret is that I love opera
tengo 1234 euros
meine Bestellung ist 1001
my seat is 12A and my gate is 204
the meeting is at 10:30 on 2026-01-12
IMEI 356938035643809
ISBN 978-3-16-148410-0
my ip address is 192.168.100.200
it weighs 3.14159265 kilograms
call me double oh seven
I have 3 cards, 2 cats and a pin cushion of 1,000 pins
my key card opens room 1204
my bank account is at ING since 2019
my passport photo of 2019
the password requirements: 12 characters, one digit
I have one dog, two cats and three birds
remember that my wife is allergic to penicillin
I ordered items 1001, 1002, 1003 and 1004
room 4111, floor 11
"""


def lines(table: str) -> list[str]:
    return table.strip().split("\n")


@pytest.mark.parametrize("text", lines(SECRETS))
def test_a_secret_is_one_however_it_is_told(text: str) -> None:
    assert holds_secret(text)
    assert without_secrets(text) == ""


@pytest.mark.parametrize("text", lines(INNOCENT))
def test_what_is_no_secret_is_kept_whole(text: str) -> None:
    assert secrets_in(text) == frozenset()
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("label", "content"),
    [
        ("pin", "1234"), ("pin_code", "the usual"), ("phone_pin", "1234"), ("wifi_password", "hunter2"),
        ("passwords", "a and b"), ("cvv", "123"), ("social_security_number", "078051120"), ("api_key", "abc"),
        ("passwort", "sonne"), ("contraseña", "gato"), ("note", "4111 1111 1111 1111"), ("card", "4929 0000 0000 0001"),
        ("card_4111_1111_1111_1111", "mine"), ("note", "pin 1234"), ("pin_1234", "yes"),
        ("passport_number", "C01X00T47"), ("bank_account", "12345678"), ("iban", "DE89370400440532013000"),
    ],
)  # fmt: skip
def test_a_slot_is_secret_by_its_name_or_by_what_it_holds(label: str, content: str) -> None:
    assert is_secret(label, content)
    with pytest.raises(SecretError):
        check_memory(label, content)
    told = Fact(label, content).told
    assert told == Fact(label, WITHHELD)
    assert content not in told.embedded_text


@pytest.mark.parametrize(
    ("label", "content"),
    [
        ("favorite_number", "1234"), ("phone_number", "+1 415 555 2671"), ("birthday", "1985-03-12"),
        ("locker_code", "4471"), ("password_manager", "1Password"), ("pin_collection", "150 enamel pins"),
        ("bowling_pin", "red"), ("card_color", "blue"),
        ("credit_card", "a Visa that ends in 1111"), ("passport_expires", "in 2031"), ("loyalty_card", "1234567890123"),
        ("order", "1001"), ("opinion", "tea is fine"), ("spin_class", "on Tuesdays at 18:30"), ("house_number", "1204"),
    ],
)  # fmt: skip
def test_a_slot_of_another_kind_is_kept_as_it_is(label: str, content: str) -> None:
    assert check_memory(label, content) == (label, content)
    assert Fact(label, content).told == Fact(label, content)


def test_the_sentences_beside_a_secret_stay() -> None:
    said = "I would like to return my kettle. My card number is 4111 1111 1111 1111. It is blue; it's 12 years old."
    assert without_secrets(said) == "I would like to return my kettle. It is blue; it's 12 years old."
    assert without_secrets("a kettle; my pin is 1234; 1234, really; a lamp") == "a kettle; a lamp"
    assert without_secrets("The caller has a lamp. The number is 12-34.", {"1234"}) == "The caller has a lamp."


@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(text: str) -> None:
    assert without_secrets(without_secrets(text)) == without_secrets(text)
    assert holds_secret(text) == (secrets_in(text) != frozenset())
    assert tells(text, secrets_in(text)) == holds_secret(text)


# ------------------------------------------------------------------ in a conversation


def conversation(*said: str | tuple[str, str]) -> list[Turn]:
    """Turns of a caller, and of an agent that says nothing to the point unless its answer is given."""
    turns = []
    for words, answer in (each if isinstance(each, tuple) else (each, "I see.") for each in said):
        for role, content in (("user", words), ("assistant", answer)):
            turns.append(Turn(len(turns), str(len(turns)), TurnKind.MESSAGE, now(), role=role, content=content))
    return turns


def refused(words: str, label: str, content: str) -> list[Turn]:
    """Something was said, and a language model tried to store it."""
    user, assistant = conversation((words, "I'd rather not keep that."))
    arguments = json.dumps({"memory_type": label, "content": content})
    tool = replace(
        user, item_id="t", kind=TurnKind.TOOL, role=None, content=None, name="remember_detail", arguments=arguments
    )
    return [user, replace(tool, output=REFUSAL, is_error=True), assistant]


@pytest.mark.parametrize(
    "said",
    [
        ["my card number is", "4111 1111 1111 1111"],
        ["my card number is", "4929 0000 0000 0001"],
        ["my card number", "4111 1111", "1111 1111"],
        ["4111", "1111", "1111", "1111"],
        ["four one one one", "one one one one", "one one one one", "one one one one"],
        ["my pin is", "1234"],
        ["my pin", "it's 1234"],
        ["I want to tell you my pin", "it's 1234, thanks"],
        [("hello there", "What is your PIN?"), "1234"],
        [("hello there", "Please tell me the security code on the back."), "it is one two three"],
        ["my password is", "swordfish"],
        [("remember that my pin is 1234", REFUSAL), "it's 1234", "I said 1 2 3 4!"],
        [("remember that my pin is 1234", REFUSAL), "why not?", "please remember it anyway"],
        [("swordfish opens everything, keep that", REFUSAL)],
        ["my social security number is", "078", "05", "1120"],
        ["my pin is"],
    ],
)
def test_a_secret_that_is_told_in_pieces_or_again_is_no_gist(said: list[str | tuple[str, str]]) -> None:
    told = redact_secrets(conversation(*said))
    assert gist([turn for turn in told.turns if turn.content != "hello there"], 400) == ""
    kettle = redact_secrets(conversation("I want to return my kettle", *said, "where is order 1001"))
    assert gist(kettle.turns, 400).startswith("I want to return my kettle; ")
    assert gist(kettle.turns, 400).endswith("where is order 1001")


@pytest.mark.parametrize(
    "said",
    [
        ["where is my order", ("it was the lamp", "Please tell me its number."), "1001"],
        ["my card was declined", ("I paid with it", "Which order is it?"), "1001"],
        ["I forgot my pin", "I want to return order 1001"],
        ["why not?", "my phone number is", "555 0100"],
        ["call me on", "0151 23456789"],
    ],
)
def test_a_number_that_is_told_alone_is_kept_where_no_secret_was_meant(said: list[str | tuple[str, str]]) -> None:
    turns = conversation(*said)
    assert redact_secrets(turns) == RedactedTurns(turns, frozenset())


def test_what_a_tool_was_refused_is_known_by_what_it_was_to_store() -> None:
    turns = [
        *refused("swordfish opens everything", "wifi_password", "swordfish"),
        *conversation("a swordfish sandwich"),
    ]
    told = redact_secrets(turns)
    assert told.secrets == {"swordfish"}
    assert [turn.content for turn in told.turns] == ["I'd rather not keep that.", "I see."]


# ------------------------------------------------------------------ whatever the digits are

_DIGIT = "zero one two three four five six seven eight nine".split()


def with_check_digit(number: str) -> str:
    for digit in "0123456789":
        doubled = [int(each) * (1 + place % 2) for place, each in enumerate(reversed(number + digit))]
        if sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0:
            return number + digit
    raise AssertionError


def drawn(
    number: st.SearchStrategy[str], groups: dict[int, list[int]], *phrases: str
) -> st.SearchStrategy[tuple[str, str]]:
    """(the digits, what is said): in groups or not, in digits or in words, and with something around."""

    def say(number: str, parts: bool, apart: str, phrase: str, before: str, after: str) -> tuple[str, str]:
        sizes = groups.get(len(number), [len(number)]) if parts else [len(number)]
        cut = [number[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
        written = " ".join(_DIGIT[int(digit)] for digit in number) if apart == "words" else apart.join(cut)
        return number, f"{before}{phrase.format(written)}{after}"

    return st.builds(
        say,
        number,
        st.booleans(),
        st.sampled_from([" ", "-", ".", " - ", "words"]),
        st.sampled_from(phrases),
        st.sampled_from(["", "please ", "um, ", "Hello. ", "remember that "]),
        st.sampled_from(["", ".", " thanks", " and I like tea", ". I want to return my kettle."]),
    )


def numbers(size: int, begins: str = "") -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=size - len(begins), max_size=size - len(begins)).map(
        lambda rest: begins + rest
    )


cards = drawn(
    st.one_of(
        *(numbers(15, begins) for begins in ("4", "51", "55", "2345", "6011", "65", "3530")),
        numbers(14, "37"),
        numbers(13, "36"),
    ).map(with_check_digit),
    {16: [4, 4, 4, 4], 15: [4, 6, 5], 14: [4, 6, 4]},
    "{}", "it's {}", "my card number is {}", "card {}", "{} is my card", "the number of my Visa card: {}",
    "charge {} for it",
)  # fmt: skip
persons = drawn(
    numbers(9),
    {9: [3, 2, 4]},
    "my social security number is {}", "my SSN: {}", "my social is {}", "social security number {}", "{} is my ssn",
)  # fmt: skip
pins = drawn(
    st.integers(4, 8).flatmap(numbers),
    {4: [2, 2], 6: [3, 3], 8: [4, 4]},
    "my pin is {}", "pin {}", "my PIN's {}", "the pin for my card is {}", "{} is my pin", "use {} as my pin",
    "pin code: {}", "I changed my pin to {}", "the pin I use for my phone is {}", "meine Geheimzahl ist {}",
    "the cvv is {}",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(cards | persons | pins, st.sampled_from(["note", "number", "pin", "favorite_color"]))
def test_the_digits_are_in_no_gist_greeting_slot_or_embedding(secret: tuple[str, str], label: str) -> None:
    number, said = secret
    left = gist(redact_secrets(conversation("I want a lamp", said)).turns, 400)
    from_before = without_secrets(f"I want a lamp; {said}")
    greeted = greeting(CallerData("known", gist=from_before), set())
    with pytest.raises(SecretError):
        check_memory(label, said)
    slot = Fact(label, said)
    for text in (left, from_before, greeted, slot.told.content, slot.embedded_text):
        assert number not in re.sub(r"\D", "", words_to_digits(text))
    assert left.startswith("I want a lamp")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        ["order {}", "my order number is {}", "tracking number {}", "my phone number is {}", "call me at {}"]
    ),
    st.integers(3, 12).flatmap(numbers),
)
def test_numbers_of_other_things_are_kept(phrase: str, number: str) -> None:
    said = phrase.format(number)
    assert gist(redact_secrets(conversation(said)).turns, 400) == said
    assert check_memory("note", said) == ("note", said)
