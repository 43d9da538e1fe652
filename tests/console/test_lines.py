"""Input lines: a bad one is refused by its number, and the next ones are read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lkmongo.console.lines import Line, split_lines


def read(*chunks: bytes) -> list[Line]:
    return list(split_lines(iter(chunks)))


def test_lines_are_split_and_numbered():
    assert [line.text for line in read(b"one\ntwo\r\n\nthree")] == ["one", "two", "", "three"]


def test_a_line_that_is_not_utf8_is_refused_and_the_next_is_read():
    first, second, third = read(b"hello\n\xff\xfe bad\nstill here\n")
    assert (first.text, third.text) == ("hello", "still here")
    assert second.refused.message == "line 2 is not UTF-8 text; it was skipped"


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read():
    first, second = read(b"x" * 10_000 + b"\nshort\n")
    assert first.refused.message == "line 1 has 10000 characters; 4000 are allowed. It was skipped"
    assert second.text == "short"


def test_an_endless_line_does_not_exhaust_memory():
    lines = read(*[b"x" * 65_536] * 100, b"\nafter\n")
    assert lines[0].refused is not None
    assert lines[1].text == "after"


def test_four_thousand_characters_are_allowed_in_any_script():
    assert read(("\U0001f600" * 4_000).encode())[0].refused is None
    assert read(("\U0001f600" * 4_001).encode())[0].refused is not None


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_how_the_bytes_arrive_makes_no_difference(data, cuts):
    places = sorted({min(cut, len(data)) for cut in cuts})
    chunks = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    assert [(n.text, str(n.refused)) for n in read(*chunks)] == [(n.text, str(n.refused)) for n in read(data)]
