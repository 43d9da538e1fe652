"""What is heard as words becomes data, where it surely is data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.conversation import Conversation
from lkmongo.detectors.numbers import digits
from lkmongo.detectors.plain import read
from lkmongo.model import Turn, TurnKind, now
from lkmongo.redaction import POLICY, Redactor
from lkmongo.speech.heard import as_data, ways_to_write
from lkmongo.speech.spoken import speakable
from tests import test_redaction
from tests.spoken_numbers import CARRIERS, WORDS, cards, doubled, ibans, said, ssns, words

DATA = [
    # orders and other numbers
    ("order number four seven one one", "order number 4711"),
    ("Where is order four thousand seven hundred eleven?", "Where is order 4711?"),
    ("where's order number four thousand seven hundred and eleven", "where's order number 4711"),
    ("my order forty seven eleven is late", "my order 4711 is late"),
    ("order one oh one, please", "order 101, please"),
    ("order number seven.", "order number 7."),
    ("order number is twelve", "order number is 12"),
    ("order numbers four seven one one and four seven one two", "order numbers 4711 and 4712"),
    ("four seven one one", "4711"),
    ("it's four thousand seven hundred eleven", "it's 4711"),
    ("double oh seven", "007"),
    ("triple five one two", "55512"),
    ("zero zero four two", "0042"),
    ("customer number one two three four five six", "customer number 123456"),
    ("invoice number twenty twenty six", "invoice number 2026"),
    ("tracking number is nine nine one two oh oh four", "tracking number is 9912004"),
    ("zip code nine four one oh seven", "zip code 94107"),
    ("extension four two", "extension 42"),
    ("flight number four oh two", "flight number 402"),
    ("room one oh one", "room 101"),
    ("case number one hundred twenty three thousand four hundred fifty six", "case number 123456"),
    ("ticket number is: eight, please", "ticket number is: 8, please"),
    # letters in them
    ("a dash one thousand one", "A-1001"),
    ("order A dash one zero zero one please", "order A-1001 please"),
    ("Where is order number A hyphen one oh oh one?", "Where is order number A-1001?"),
    ("order A one zero zero one", "order A1001"),
    ("order b one zero zero one", "order B1001"),
    ("Where is order number a 1001?", "Where is order number A1001?"),
    ("Where is order number R, 5566.", "Where is order number R5566."),
    ("order number C for 007", "order number C4007"),
    ("my booking reference is x y z dash one two three", "my booking reference is XYZ-123"),
    ("A as in alpha dash one thousand one", "A-1001"),
    ("B for Bravo, one zero zero one, is my order", "B, 1001, is my order"),
    ("order number one two dash three four", "order number 12-34"),
    ("flight b a two four nine zero", "flight BA2490"),
    # telephones
    ("call me at four one five five five five zero one three two", "call me at 4155550132"),
    ("four one five, five five five, zero one three two", "4155550132"),
    ("my phone number is four one five, triple five, zero one three two", "my phone number is 4155550132"),
    ("plus one four one five five five five oh one three two", "+14155550132"),
    # mail and web
    ("robin dot fletcher at example dot com", "robin.fletcher@example.com"),
    ("It's Robin dot Fletcher at Example dot com.", "It's robin.fletcher@example.com."),
    ("my email address is robin at example dot com", "my email address is robin@example.com"),
    ("my email is r o b i n at example dot com", "my email is robin@example.com"),
    ("robin underscore four two at gmail dot com", "robin_42@gmail.com"),
    ("write to robin dash fletcher at myshop dot co dot uk", "write to robin-fletcher@myshop.co.uk"),
    ("robin at gmail dot com", "robin@gmail.com"),
    ("her mail is anna at example dot com", "her mail is anna@example.com"),
    ("it's robin fletcher at gmail dot com", "it's robin fletcher at gmail.com"),
    ("it's r smith forty two at yahoo dot com", "it's r smith forty two at yahoo.com"),
    ("sign in at gmail dot com", "sign in at gmail.com"),
    ("I got my phone at apple dot com", "I got my phone at apple.com"),
    ("my account is at gmail dot com", "my account is at gmail.com"),
    ("invoice number i n v dash two zero two four", "invoice number INV-2024"),
    ("Write to robin.fletcher at example.com today.", "Write to robin.fletcher@example.com today."),
    ("go to example dot com", "go to example.com"),
    ("it's on www dot example dot org", "it's on www.example.org"),
    # times and dates
    ("at five thirty pm", "at 5:30 pm"),
    ("at five p.m.", "at 5 p.m."),
    ("tomorrow at ten oh five am", "tomorrow at 10:05 am"),
    ("at eleven forty-five am", "at 11:45 am"),
    ("in twenty twenty six", "in 2026"),
    ("I was born in nineteen eighty four", "I was born in 1984"),
    ("since two thousand and nineteen", "since 2019"),
    ("in nineteen oh five", "in 1905"),
    ("on the third of march", "on March 3"),
    ("the third of March, twenty twenty six", "March 3, 2026"),
    ("on March twenty first", "on March 21"),
    ("on March the thirty-first", "on March 31"),
    ("on December twenty fifth nineteen ninety nine", "on December 25, 1999"),
    # amounts
    ("fifty percent", "50%"),
    ("three point five per cent", "3.5%"),
    ("twelve dollars and ninety five cents", "$12.95"),
    ("twelve dollars", "$12"),
    ("one thousand two hundred dollars", "$1200"),
    ("twelve euros fifty cents", "\u20ac12.50"),
    ("nine pounds and five pence", "\u00a39.05"),
    ("version one point eight point nine", "version 1.8.9"),
    # letters
    ("my name is r o b i n", "my name is Robin"),
    ("my last name is spelled F. L. E. T. C. H. E. R.", "my last name is spelled Fletcher."),
    ("R as in Robert, O as in Oscar, B as in Bravo", "ROB"),
    ("the code is s-a-v-e-2-0", "the code is SAVE20"),
]  # fmt: skip

STAYS = """
one of my two daughters
I have three cats and twenty one lamps
one on one, twenty four seven
it costs nineteen ninety nine dollars
in nineteen ninety nine dollars were worth more
I for one am happy
may the first one win
my name is j r r tolkien
twenty one pilots
I'd like to order seven shirts
I want to order two hundred shirts
can I order one hundred and twenty of them
order two of those, please
order number one more time
the number one reason
a thousand thanks
plan b for 12 people
order a 12 inch pizza
a thousand and one reasons
one thousand and one nights
one hundred times
two or three days
between ten and twenty dollars
a hundred and fifty dollars
a hundred and fifty percent
double five percent
double five am
my two cents
fifty cents
I lost five pounds
one, two, three
one two three four five
sizes eight, ten, twelve, fourteen
nine one one
I am nine
one am I
call me at five
ring me at five thirty
half past five
at five o'clock
wait a second
the first of all
you may first want to look
first things first
the second one
in twenty minutes
in twenty twenty minute sessions
I live at forty two Oak Street
oh, four of them
oh no
oh one more thing
O'Brien and I
a b or c
U S A
I O U
as in the first one
look at example dot com, no, wait
the dot com bubble
meet me at noon dot
I bought shoes at the shop
plus two more
add a dash of salt
a dash of five spices
the hundred yard dash
Robin, R-O-B-I-N
order 4711, A-1001, and 1,234
call +1-415-555-0132
it costs $12.95, 50%, at 5:30 pm
someone, anyone, often, weighty
for once and for all
my email is robin fletcher at example.com
zero
six
""".strip().splitlines()
STAYS.remove("look at example dot com, no, wait")


@pytest.mark.parametrize(("heard", "data"), DATA)
def test_it_becomes_data(heard, data):
    assert as_data(heard) == data


@pytest.mark.parametrize("text", [*STAYS, *dict.fromkeys(data for _, data in DATA)])
def test_it_stays(text):
    assert as_data(text) == text


def test_what_was_said_before_tells_what_a_number_is_of():
    assert as_data("seven four", before="so my order number is.") == "74"
    assert as_data("seven four", before="so my two cats") == "seven four"


# ------------------------------------------------------------------ numbers, however they are said

UNITS = [*WORDS, *"ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()]
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def cardinal(number, *, joined=" ", and_=""):
    if number < 20:
        return UNITS[number]
    if number < 100:
        return TENS[number // 10 - 2] + (joined + UNITS[number % 10] if number % 10 else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = cardinal(number % size, joined=joined, and_=and_) if number % size else ""
    link = and_ if rest and number % size < 100 else ""
    return f"{cardinal(number // size, joined=joined, and_=and_)} {name} {link}{rest}".strip()


def pairs(number):
    """ "forty seven eleven", "twelve oh five"."""
    text = str(number)
    groups = [text[max(end - 2, 0) : end] for end in range(len(text), 0, -2)][::-1]
    return " ".join(
        group
        if len(group) == 3
        else f"oh {UNITS[int(group[1])]}"
        if group[0] == "0" and len(group) == 2 and number > 9
        else cardinal(int(group))
        for group in groups
    )


FORMS = [
    cardinal,
    lambda number: cardinal(number, joined="-"),
    lambda number: cardinal(number, and_="and "),
    lambda number: words(str(number)),
    lambda number: words(str(number)).replace("zero", "oh") if number > 9 else words(str(number)),
    lambda number: doubled(str(number)),
]


@given(
    st.integers(0, 999_999),
    st.sampled_from(FORMS),
    st.sampled_from(["order number {}", "My order number is {}.", "is invoice number {}, paid?"]),
)
def test_a_number_survives_however_it_is_said(number, form, carrier):
    assert as_data(carrier.format(form(number))) == carrier.format(number)


@given(st.integers(10, 99), st.integers(10, 99), st.booleans())
def test_a_number_survives_in_pairs(first, second, dashed):
    joined = "-" if dashed else " "
    spoken = f"{cardinal(first, joined=joined)} {cardinal(second, joined=joined)}"
    if first % 10 == 0 and second < 10:
        return
    assert as_data(f"order {spoken}") == f"order {first}{second}"


@given(st.text("0123456789", min_size=4, max_size=12).filter(lambda digits: digits not in "0123456789"))
def test_digits_need_no_word_before_them(digits):
    assert as_data(f"it is {words(digits)}, thanks") in {f"it is {digits}, thanks", f"it is {words(digits)}, thanks"}
    if len(digits) < 9:
        assert as_data(f"so {words(digits)}, thanks") == f"so {digits}, thanks"


@given(st.sampled_from("ABCXJ"), st.integers(100, 99_999))
def test_what_is_spelled_for_a_voice_is_understood(letter, number):
    assert ways_to_write(as_data(speakable(f"order number {letter}-{number}")).removeprefix("order number "))[
        -2:
    ].count(f"{letter}-{number}")


@pytest.mark.parametrize(
    ("said", "first", "others"),
    [
        ("#4711", "4711", []),
        ("four thousand seven hundred eleven", "4711", []),
        ("a dash one thousand one", "A-1001", ["A1001"]),
        ("A1001", "A1001", ["A-1001"]),
        ("a-1001", "a-1001", ["A-1001", "A1001"]),
        ("A 1001", "A1001", ["A-1001"]),
        ("A. one zero zero one", "A1001", ["A-1001"]),
        ("seven", "7", []),
        ("my lamp", "my lamp", []),
        ("", "", []),
    ],
)
def test_an_order_number_is_looked_for_as_it_may_be_written(said, first, others):
    ways = ways_to_write(said)
    assert ways == [first, *others]


# ------------------------------------------------------------------ it stays as it is, and as secret

WORD = st.sampled_from(
    """one two seven oh zero ten twenty hundred thousand dot at com dash a b r and order number is the percent dollars
    pm may first of in double as , um ...""".split()
)


@given(st.lists(WORD, max_size=14).map(" ".join))
def test_twice_is_once(text):
    once = as_data(text)
    assert as_data(once) == once


# Of a number as people tell one: the detector reads no addresses or dates, and sums malformed runs of hundreds.
TOLD = st.sampled_from("one two seven oh zero ten twenty dash a b r and order number is the in um".split())


@given(st.lists(TOLD, max_size=14).map(" ".join))
def test_redaction_reads_the_same_digits(text):
    left = iter(digits(read(as_data(text)).text))
    assert all(digit in left for digit in digits(read(text).text))


@given(st.text(max_size=100))
def test_any_text_can_be_heard(text):
    as_data(text)


def test_what_is_too_long_to_be_said_is_left_alone():
    text = "order number four seven one one " * 200
    assert as_data(text) == text


STRICT = dict.fromkeys(POLICY, "mask")


@pytest.mark.parametrize(
    ("text", "kept"), test_redaction.test_each_kind_is_masked_where_it_stands.pytestmark[0].args[1]
)
def test_what_is_masked_as_words_is_masked_as_data(text, kept):
    assert Redactor(STRICT).text(as_data(text)) == kept


@given(cards(), st.sampled_from(CARRIERS), said())
def test_no_card_number_survives(number, carrier, how):
    kept = Redactor().text(as_data(carrier.format(how(number))))
    assert f"[card ending {number[-4:]}]" in kept
    assert sum(map(str.isdigit, read(kept.replace("A-1001", "")).text)) <= 4


@given(ibans(), st.sampled_from(CARRIERS), said(letters=True))
def test_no_iban_survives(number, carrier, how):
    assert "[bank account]" in Redactor().text(as_data(carrier.format(how(number))))


@given(ssns())
def test_no_social_security_number_survives(groups):
    text = as_data(f"it is {', '.join(map(words, groups))}, yes")
    assert Redactor().text(text) == "it is [national id], yes"


@given(cards(), st.integers(3, 12), said())
def test_no_card_number_survives_in_two_turns(number, cut, how):
    def kept(*texts):
        said = [
            Turn(seq, f"i{seq}", TurnKind.MESSAGE, now(), role=role, content=text)
            for seq, (role, text) in enumerate(zip(("user", "assistant", "user"), texts, strict=True))
        ]
        return [turn.content.count("[card") for turn in Conversation(Redactor()).turns(said)]

    told = how(number[:cut]), "Go on.", how(number[cut:])
    assert kept(*map(as_data, told)) == kept(*told)


@pytest.mark.parametrize(
    "answer", ["one two three four", "four seven one one", "it's double oh seven two", "forty seven eleven"]
)
def test_a_pin_that_is_awaited_is_masked_for_the_model(answer):
    conversation = Conversation(Redactor())
    conversation.await_pin(True)
    assert conversation.for_model(as_data(answer)).replace("it's ", "") == "[secret]"
