"""Text made for a voice: what is spelled, and what stays as it is."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.speech.spoken import speakable, speakable_stream

SPELLED = [
    # numbers of orders and the like
    ("Your order A-1001 has shipped.", "Your order A., one zero zero one has shipped."),
    ("A-1001", "A., one zero zero one"),
    ("B-1001 is late", "B, one zero zero one is late"),
    ("Order a-1001 is here.", "Order A., one zero zero one is here."),
    ("order A 1001 is here", "order A. one zero zero one is here"),
    ("Order 4711 is packed.", "Order four seven one one is packed."),
    ("Order #4711 is ready.", "Order number four seven one one is ready."),
    ("Order number #4711", "Order number four seven one one"),
    ("#12 is next", "number 12 is next"),
    ("No. 5 lives", "number 5 lives"),
    ("orders 4711 and 4712, and 4713", "orders four seven one one and four seven one two, and four seven one three"),
    ("The part is XJ-2290-B.", "The part is X J, two two nine zero, B."),
    ("INV-2026-0042 is paid", "I N V, two zero two six, zero zero four two is paid"),
    ("Your ticket is ABC123.", "Your ticket is A B C one two three."),
    ("Use code SAVE20.", "Use code S A V E two zero."),
    ("Use code SUMMER20", "Use code SUMMER two zero"),
    ("Your reference is R7-K9.", "Your reference is R seven, K nine."),
    ("flight BA2490", "flight B A two four nine zero"),
    ("customer number 123456", "customer number one two three, four five six"),
    ("the card ending in 1111", "the card ending in one one one one"),
    ("[card ending 1111]", "[card ending one one one one]"),
    ("extension 4021", "extension four zero two one"),
    ("ZIP code 94107", "ZIP code nine four one zero seven"),
    ("tracking 12345678901", "tracking one, two three four, five six seven, eight nine zero one"),
    # leading zeros, long numbers
    ("The code is 0042.", "The code is zero zero four two."),
    ("agent 007", "agent zero zero seven"),
    ("it ends in 05", "it ends in zero five"),
    ("id 4111222233334444", "id four one one one, two two two two, three three three three, four four four four"),
    # telephones
    ("Call +1 415 555 0132.", "Call plus one, four one five, five five five, zero one three two."),
    ("+14155550132", "plus one, four one five, five five five, zero one three two"),
    ("+49 151 23456789", "plus four nine, one five one, two three four five, six seven eight nine"),
    ("Call (415) 555-0132.", "Call four one five, five five five, zero one three two."),
    ("Call 1-800-555-0199.", "Call one, eight zero zero, five five five, zero one nine nine."),
    ("Call 415.555.0132.", "Call four one five, five five five, zero one three two."),
    ("Call 555-0132", "Call five five five, zero one three two"),
    ("Call 0151 2345 6789", "Call zero one five one, two three four five, six seven eight nine"),
    # addresses
    ("Write to robin.fletcher@example.com.", "Write to robin dot fletcher at example dot com."),
    ("robin_42@my-shop.co.uk", "robin underscore four two at my dash shop dot co dot uk"),
    ("robin+news@example.com", "robin plus news at example dot com"),
    ("See https://example.com/orders for more.", "See example dot com slash orders for more."),
    ("See https://www.example.com.", "See example dot com."),
    ("See www.example.com/how-to, or ask.", "See example dot com slash how dash to, or ask."),
    ("https://example.com/a/b?utm_source=mail&x=1", "example dot com"),
    ("See example.com.", "See example dot com."),
    # money
    ("It costs -$12.95.", "It costs minus $12.95."),
    ("12.95 USD", "12.95 US dollars"),
    ("1 EUR", "1 euro"),
    ("EUR 1,234.50", "1,234.50 euros"),
    ("$5M or $1.5bn", "$5 million or $1.5 billion"),
    # units and sizes
    ("It weighs 5 kg.", "It weighs 5 kilograms."),
    ("1 kg or 11 kg", "1 kilogram or 11 kilograms"),
    ("30cm x 20cm", "30 centimetres x 20 centimetres"),
    ("It is -5 \u00b0C.", "It is minus 5 degrees Celsius."),
    ("12.5 MB", "12.5 megabytes"),
    ("100GB", "100 gigabytes"),
    ("80 km/h", "80 kilometres an hour"),
    # versions, ranges, days
    ("Version 1.8.9 is out.", "Version 1 point 8 point 9 is out."),
    ("v1.8.9", "version 1 point 8 point 9"),
    ("at 192.168.0.1", "at 192 dot 168 dot 0 dot 1"),
    ("Open 9-5.", "Open 9 to 5."),
    ("pages 10-12", "pages 10 to 12"),
    ("2019\u20132021", "2019 to 2021"),
    ("2019-2021", "2019 to 2021"),
    ("5-10%", "5 to 10%"),
    ("$5-$10", "$5 to $10"),
    ("10am-5pm", "10am to 5pm"),
    ("9:00\u201317:00", "9:00 to 17:00"),
    ("Mon-Fri", "Monday to Friday"),
    ("Sat \u2013 Sun", "Saturday to Sunday"),
    ("~5 days", "about 5 days"),
    # short for something
    ("e.g. today", "for example today"),
    ("Coffee & cake", "Coffee and cake"),
    ("w/o sugar", "without sugar"),
    # Markdown and emoji
    ("This is **very** important.", "This is very important."),
    ("***A-1001***", "A., one zero zero one"),
    ("_so_ it is", "so it is"),
    ("## Your orders", "Your orders"),
    ("- one\n- two\n* three", "one\ntwo\nthree"),
    ("> quoted", "quoted"),
    ("[our page](https://example.com/a?b=c), or [1]", "our page, or [1]"),
    ("![a lamp](lamp.png)", "a lamp"),
    ("run `make` now", "run make now"),
    ("```python\nprint\n```", "\nprint\n"),
    ("before\n---\nafter", "before\n\nafter"),
    ("| a | b |\n|---|:-:|\n| c | d |", "a, b\n\nc, d"),
    ("Nice! \U0001f600 Great.", "Nice! Great."),
    ("Done \u2705", "Done"),
]  # fmt: skip

AS_IT_IS = """
Hello Robin, how can I help you today?
One of my two daughters is 12.
I have 3 cats and 12 lamps.
It costs $12.95, or \u20ac1,234.50.
It is 45% off.
In 2026 it was new.
We sold 1500 lamps to 1,000,000 people.
At 6:30 pm, or at 18:05.
On 2026-03-04, and on 3/4/2026.
On 12.03.2026 at 10:00.
Add 1/2 cup; we are open 24/7.
AT&T and R&D, Dr. Smith and Mr. Jones.
COVID-19, MP3, GPT-4, 4K, A4, H2O and B2B.
The 1st, 2nd and 21st, in the 1990s.
I want to order 1500 shirts.
A 2019 car, and room 12.
It's a well-known state-of-the-art lamp.
snake_case and 5 * 3
Ist das Ihre Bestellung?
1.234.567 people, or 10 000 000
<break time="1s"/> <emotion value="happy"/> and [laughs] stay
I said: "no", didn't I?
3.14 is not 3
We \u2013 the two of us \u2013 agreed.
Wait... what?
""".strip().splitlines()


@pytest.mark.parametrize(("text", "spoken"), SPELLED)
def test_it_is_spelled(text, spoken):
    assert speakable(text) == spoken


@pytest.mark.parametrize(("text", "spoken"), SPELLED)
def test_what_is_spelled_stays(text, spoken):
    assert speakable(spoken) == spoken


@pytest.mark.parametrize("text", AS_IT_IS)
def test_it_stays(text):
    assert speakable(text) == text


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Ihre Bestellung A-1001 ist da.", "Ihre Bestellung A, 1 0 0 1 ist da."),
        ("Bestellung 4711", "Bestellung 4 7 1 1"),
        ("Der Code ist 0042.", "Der Code ist 0 0 4 2."),
        ("Tel. +49 151 23456789", "Tel. +4 9, 1 5 1, 2 3 4 5, 6 7 8 9"),
        ("**Wichtig:** 12,95 EUR, 5 kg \U0001f600", "Wichtig: 12,95 EUR, 5 kg"),
        ("robin@example.com kostet 9-5 & 1.8.9", "robin@example.com kostet 9-5 & 1.8.9"),
    ],
)
def test_another_language_gets_no_english_words(text, spoken):
    assert speakable(text, english=False) == spoken
    assert speakable(spoken, english=False) == spoken


# ------------------------------------------------------------------ properties

PLAIN = (
    "hello robin your orders are here and we will send two of them on a day that you like, please. I've gone?".split()
)
PIECES = st.sampled_from(
    [
        *PLAIN,
        *(part for text, _ in SPELLED for part in text.split(" ")),
        *(part for text in AS_IT_IS for part in text.split(" ")),
        *"order orders number code # A B [see this](https://example.com) [ ] < <b > ** * _ ~~".split(),
        *"` | - 415 555 0132 00 000".split(),
    ]
)
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from([" ", " ", " ", " ", "\n", "  ", ". "])), max_size=14).map(
    lambda pairs: "".join(piece + space for piece, space in pairs)
)


def streamed(pieces, *, english=True):
    async def chunks():
        for piece in pieces:
            yield piece

    async def whole():
        return [piece async for piece in speakable_stream(chunks(), english=english)]

    return asyncio.run(whole())


@given(TEXTS, st.lists(st.integers(0, 200), max_size=12), st.booleans())
def test_however_it_is_cut_it_is_the_same(text, cuts, english):
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert "".join(streamed(pieces, english=english)) == speakable(text, english=english)


@given(TEXTS)
def test_letter_by_letter_it_is_the_same(text):
    assert "".join(streamed(list(text))) == speakable(text)


@given(st.lists(st.sampled_from(PLAIN), max_size=30).map(" ".join), st.booleans())
def test_plain_words_are_unchanged(text, english):
    assert speakable(text, english=english) == text


@given(st.lists(st.sampled_from([*SPELLED, *((text, text) for text in AS_IT_IS)]), max_size=5))
def test_twice_is_once(rows):
    spoken = speakable(" So: ".join(text for text, _ in rows))
    assert speakable(spoken) == spoken


@given(st.text(max_size=120), st.booleans())
def test_any_text_can_be_spoken(text, english):
    assert "".join(streamed([text[:40], text[40:]], english=english)) == speakable(text, english=english)


def test_a_word_is_passed_on_when_the_next_one_begins():
    said = streamed(["Your", " or", "der ", "A-1", "0", "01", " has", " shipped.", " Ok?"])
    assert said == ["Your", " order", " A., one zero zero one has", " shipped.", " Ok?"]
    assert streamed(["See [our ", "page](https", "://example.com/a) now", " please"]) == [
        "See",
        " our page now",
        " please",
    ]
    assert streamed(["\u3053\u3093\u306b\u3061\u306f\u3002\u5143", "\u6c17"], english=False) == [
        "\u3053\u3093\u306b\u3061\u306f\u3002",
        "\u5143\u6c17",
    ]
