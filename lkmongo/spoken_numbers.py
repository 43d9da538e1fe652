"""Numbers as people say them, digit by digit or not, as digits."""

from __future__ import annotations

import re

_UNIT_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {"oh": "0", "o": "0", "nought": "0"} | {word: str(value) for value, word in enumerate(_UNIT_WORDS.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TEN_WORDS.split(), start=2)}
NUMBER_WORDS = frozenset([*_UNITS, *_TENS])
"""The words of which numbers are made, but for the large ones."""
_SPOKEN = rf"(?:{'|'.join([*_UNITS, *_TENS, 'hundred', 'thousand', 'double', 'triple'])})"
_SPOKEN_RUN = re.compile(rf"\b{_SPOKEN}(?:[ -](?:and )?{_SPOKEN})*\b", re.IGNORECASE)
_DIGIT_RUN = re.compile(r"\b\d(?:[ -]\d+)+\b")


def spoken_to_digits(text: str) -> str:
    """Write spoken numbers as digits: "one zero zero one" and "ten oh one" are 1001, "1 0 0 2" is 1002."""
    text = words_to_digits(text)
    text = re.sub(r"\b([A-Z]-)(\d) (?=\d)", r"\1\2", text)
    return _DIGIT_RUN.sub(lambda match: re.sub(r"[ -]", "", match[0]) if " " in match[0] else match[0], text)


def words_to_digits(text: str) -> str:
    """Write words for numbers and dashes as digits and dashes; what stands apart stays apart."""
    text = re.sub(r"\b([a-z]) (?:dash|hyphen|minus) ", lambda match: f"{match[1].upper()}-", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\w) (?:dash|hyphen) (?=\w)", "-", text, flags=re.IGNORECASE)
    return _SPOKEN_RUN.sub(lambda match: _digits(match[0].casefold().replace("-", " ").split()), text)


def _digits(said: list[str]) -> str:
    if "thousand" in said or "hundred" in said:
        return _cardinal(said)
    out, times, index = "", 1, 0
    while index < len(said):
        word = said[index]
        if word in {"double", "triple"}:
            times = 2 if word == "double" else 3
        elif word in _TENS:
            value = _TENS[word]
            following = _UNITS.get(said[index + 1], "") if index + 1 < len(said) else ""
            if len(following) == 1 and following != "0":
                value += int(following)
                index += 1
            out += str(value)
        elif word in _UNITS:
            out += _UNITS[word] * times
            times = 1
        index += 1
    return out or " ".join(said)


def _cardinal(said: list[str]) -> str:
    total, part = 0, 0
    for word in said:
        if word == "thousand":
            total, part = total + (part or 1) * 1000, 0
        elif word == "hundred":
            part = (part or 1) * 100
        elif word in _TENS:
            part += _TENS[word]
        elif word in _UNITS:
            part += int(_UNITS[word])
    return str(total + part)
