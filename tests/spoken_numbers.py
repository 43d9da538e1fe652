"""Numbers that must not be stored, and the ways in which people say them: for property tests."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

WORDS = "zero one two three four five six seven eight nine".split()
CARRIERS = [
    "it is {} okay",
    "you can charge it to {}, and where is order A-1001",
    "so {}. That is all.",
    "{}",
    "please write down {} thanks",
]


def words(text: str) -> str:
    return " ".join(WORDS[int(char)] if char.isdigit() else char.lower() for char in text)


def _groups(number: str) -> list[str]:
    return [number[at : at + 4] for at in range(0, len(number), 4)]


def doubled(number: str) -> str:
    """ "double five" for two of one digit."""
    said, at = [], 0
    while at < len(number):
        twice = number[at : at + 2] == number[at] * 2
        said.append(f"double {WORDS[int(number[at])]}" if twice else WORDS[int(number[at])])
        at += 1 + twice
    return " ".join(said)


def said(*, letters: bool = False) -> st.SearchStrategy[Callable[[str], str]]:
    """A way to say a number."""
    ways: list[Callable[[str], str]] = [
        lambda number: number,
        lambda number: " ".join(_groups(number)),
        words,
    ]
    if not letters:
        ways += [
            lambda number: "-".join(_groups(number)),
            lambda number: ", um, ".join(map(words, _groups(number))),
            lambda number: " ... ".join(map(words, _groups(number))),
            doubled,
        ]
    return st.sampled_from(ways)


def _with_check_digit(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 - place % 2)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def cards() -> st.SearchStrategy[str]:
    """Card numbers of sixteen digits with a right check digit."""
    bodies = st.tuples(
        st.sampled_from(["4", "51", "55", "6011", "2221"]), st.text("0123456789", min_size=14, max_size=14)
    )
    return bodies.map(lambda each: _with_check_digit((each[0] + each[1])[:15]))


def ibans() -> st.SearchStrategy[str]:
    """German IBANs."""

    def whole(account: str) -> str:
        rest = int(account + "131400") % 97
        return f"DE{98 - rest:02d}{account}"

    return st.text("0123456789", min_size=18, max_size=18).map(whole)


def ssns() -> st.SearchStrategy[tuple[str, str, str]]:
    """The three groups of a US social security number."""
    area = st.integers(1, 899).filter(lambda value: value != 666)
    return st.tuples(
        area.map("{:03d}".format), st.integers(1, 99).map("{:02d}".format), st.integers(1, 9999).map("{:04d}".format)
    )
