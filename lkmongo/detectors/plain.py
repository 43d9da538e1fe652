"""A text in the form that the detectors read: on one line, spoken digits as digits, without invisible characters.

Each of its characters remembers where it stood in the original, so that what is found can be replaced there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_I = re.IGNORECASE

MASKS = {
    "card": "[card]",
    "national_id": "[national id]",
    "bank_account": "[bank account]",
    "secret": "[secret]",
    "phone": "[phone number]",
    "email": "[e-mail address]",
}
"""What replaces each kind; a whole card number shows its last four digits, unless they may be another number's."""
KINDS = tuple(MASKS)
MASK = re.compile(r"\[card ending \d{4}\]|" + "|".join(re.escape(each) for each in MASKS.values()))
HIDDEN = "\ue000"
"""Stands for a mask, so that nothing is found inside of one."""

Piece = tuple[str, int, int]
"""Some text, and what it replaces: from where to where."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that was found, from `start` to `end`; `value` has numbers as their digits."""

    kind: str
    start: int
    end: int
    value: str


def mask(kind: str, value: str) -> str:
    """What replaces a value of this kind, which may be one of a detector of your own."""
    if (
        kind == "card"
        and value.isdigit()
        and (len(value) == _SIXTEEN or (len(value) >= _LEAST_OF_CARD and luhn(value)))
    ):
        return f"[card ending {value[-4:]}]"
    return MASKS.get(kind) or f"[{kind.replace('_', ' ')}]"


def kind_of_mask(text: str) -> str:
    """The kind of what such a mask replaces."""
    return next((kind for kind, each in MASKS.items() if each == text), "card")


def luhn(number: str) -> bool:
    """Whether the last digit of a number is its check digit by Luhn's formula."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


_LEAST_OF_CARD, _SIXTEEN = 12, 16
_ODD = re.compile(r"[^\x20-\x7e]")
_ODD_CHAR = re.compile(r"\w[\u0300-\u036f]+|[^\x20-\x7e]")
_SPACES = re.compile(r"^ +| +$|  +")
_FOREIGN = [
    "null eins zwei drei vier fünf sechs sieben acht neun".split(),
    "zéro un deux trois quatre cinq six sept huit neuf".split(),
    "cero uno dos tres cuatro cinco seis siete ocho nueve".split(),
    "zero uno due tre quattro cinque sei sette otto nove".split(),
    "zero um dois três quatro cinco seis sete oito nove".split(),
    "nul een twee drie vier vijf zes zeven acht negen".split(),
]
_FOREIGN_DIGITS = {word: str(value) for language in _FOREIGN for value, word in enumerate(language)}
# One language at a time: "um, six zero" is not a Portuguese one, a French six and an Italian zero.
_FOREIGN_RUN = re.compile(
    "|".join(
        rf"(?<!\w)(?:{words})(?:,? (?:{words})){{2,}}(?!\w)" for words in ("|".join(language) for language in _FOREIGN)
    ),
    _I,
)
_ENGLISH_TOO = frozenset(("zero", "six", "um"))
"""Of these words alone nobody can tell the language: "zero, um, zero zero" may be English."""
_UNIT_WORDS = (
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
UNITS = {"oh": "0", "o": "0", "nought": "0"} | {word: str(value) for value, word in enumerate(_UNIT_WORDS.split())}
TENS = {word: 10 * value for value, word in enumerate(_TEN_WORDS.split(), start=2)}
TIMES = {"double": 2, "triple": 3}
_SPOKEN = rf"(?:{'|'.join([*UNITS, *TENS, *TIMES, 'hundred', 'thousand'])})"
_SPOKEN_RUN = re.compile(rf"\b{_SPOKEN}(?:[ -](?:and )?{_SPOKEN})*\b", _I)
_WORD = re.compile(r"[a-z]+", _I)
_DIGIT_WORDS = frozenset([*UNITS, *TENS, *_FOREIGN_DIGITS])
_LETTER_DASH = re.compile(r"\b([a-z]) (?:dash|hyphen|minus) ", _I)
_WORD_DASH = re.compile(r"(?<=\w) (?:dash|hyphen) (?=\w)", _I)
_PAUSE = re.compile(
    r"(?<=\d)(?:[ ,.;:\u2013\u2014-]{0,6}\b(?:u+m+|u+h+|er+m*|a+h+|ä+h+m?|eh+|hm+|euh+|este|then|and then|wait|hold on|"
    r"(?:one|just a|a) (?:moment|second)|let me see|okay|ok|yes|yeah|next|followed by|moment|und dann|dann|et puis|"
    r"puis|y luego|luego|e poi|poi)\b)+[ ,.;:\u2013\u2014-]{0,6}(?=\d)|(?<=\d)[ ,.;\u2013\u2014-]{4,12}(?=\d)",
    _I,
)
"""What people say while they look for the next digits."""


class Plain:
    """A text, and where each of its characters comes from."""

    __slots__ = ("_ends", "_starts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts: Sequence[int] = range(len(text))
        self._ends: Sequence[int] = range(1, len(text) + 1)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """From where to where the characters from `start` to `end` stood in the original."""
        return self._starts[start], self._ends[end - 1]

    def sub(self, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], Iterable[Piece]]) -> None:
        """As `re.sub`: the replacement comes in pieces, each with what it stands for."""
        found = list(pattern.finditer(self.text))
        if not found:
            return
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = 0
        for match in found:
            pieces = [(self.text[at : match.start()], at, match.start()), *replace(match)]
            for number, (piece, start, end) in enumerate(pieces):
                parts.append(piece)
                if number == 0:
                    starts += self._starts[start:end]
                    ends += self._ends[start:end]
                else:
                    starts += [self._starts[start]] * len(piece)
                    ends += [self._ends[end - 1]] * len(piece)
            at = match.end()
        parts.append(self.text[at:])
        starts += self._starts[at:]
        ends += self._ends[at:]
        self.text, self._starts, self._ends = "".join(parts), starts, ends


def read(text: str) -> Plain:
    """The text in plain form."""
    plain = Plain(text)
    if _ODD.search(text):
        plain.sub(_ODD_CHAR, _simple)
    plain.sub(
        _SPACES, lambda match: [(" ", *match.span())] if match.start() > 0 and match.end() < len(plain.text) else []
    )
    if "[" in plain.text:
        plain.sub(MASK, lambda match: [(HIDDEN, *match.span())])
    if has_number_words(plain.text):
        plain.sub(_FOREIGN_RUN, _foreign)
        _speak(plain)
    if any(map(str.isdigit, plain.text)):
        plain.sub(_PAUSE, lambda match: [(" ", *match.span())])
    return plain


def words_to_digits(text: str) -> str:
    """Write words for numbers and dashes as digits and dashes; separate numbers stay separate."""
    plain = Plain(text)
    _speak(plain)
    return plain.text


def has_number_words(text: str) -> bool:
    """Whether a text has two words or more for numbers, or one and digits."""
    words = sum(word.strip(".,") in _DIGIT_WORDS for word in text.casefold().replace("-", " ").split())
    return words + any(map(str.isdigit, text)) > 1 if words else False


def _simple(match: re.Match[str]) -> Iterable[Piece]:
    """A character that is not ASCII in its compatible form, an ASCII digit, a space, or nothing if it is invisible."""
    text = unicodedata.normalize("NFKC", match[0]).replace("\u2019", "'")
    seen = (char for char in text if unicodedata.category(char) != "Cf")
    simple = "".join(
        str(unicodedata.digit(char)) if char.isdigit() else " " if char.isspace() else char for char in seen
    )
    return [(simple, *match.span())] if simple else []


def _foreign(match: re.Match[str]) -> Iterable[Piece]:
    at = match.start()
    words = [(word[0].casefold(), at + word.start(), at + word.end()) for word in re.finditer(r"\w+", match[0])]
    if _ENGLISH_TOO.issuperset(name for name, _, _ in words):
        return _unchanged(match)
    return [(_FOREIGN_DIGITS[name], start, end) for name, start, end in words]


def _unchanged(match: re.Match[str]) -> Iterable[Piece]:
    return [(char, place, place + 1) for place, char in enumerate(match[0], match.start())]


def _speak(plain: Plain) -> None:
    plain.sub(_LETTER_DASH, lambda match: [(f"{match[1].upper()}-", *match.span())])
    plain.sub(_WORD_DASH, lambda match: [("-", *match.span())])
    plain.sub(_SPOKEN_RUN, _spoken)


def _spoken(match: re.Match[str]) -> Iterable[Piece]:
    """The digits of a number that is spoken, each with its words."""
    at = match.start()
    words = [(word[0].casefold(), at + word.start(), at + word.end()) for word in _WORD.finditer(match[0])]
    names = [name for name, _, _ in words]
    if "thousand" in names or "hundred" in names:
        return [(cardinal(names), *match.span())]
    pieces: list[Piece] = []
    repeated: tuple[int, int] | None = None  # how often the next digit comes, and where that is said
    index = 0
    while index < len(words):
        name, start, end = words[index]
        if name in TIMES:
            repeated = TIMES[name], start
        elif name in TENS:
            value = TENS[name]
            following = UNITS.get(names[index + 1], "") if index + 1 < len(words) else ""
            if len(following) == 1 and following != "0":
                value += int(following)
                index += 1
                end = words[index][2]
            pieces.append((str(value), start, end))
        elif name in UNITS:
            times, start = repeated or (1, start)
            pieces.append((UNITS[name] * times, start, end))
            repeated = None
        index += 1
    return pieces or _unchanged(match)


def cardinal(words: Sequence[str]) -> str:
    """The digits of a number whose words, in small letters, are like "four", "thousand", "seven", "hundred"."""
    total, part = 0, 0
    for word in words:
        if word == "thousand":
            total, part = total + (part or 1) * 1000, 0
        elif word == "hundred":
            part = (part or 1) * 100
        elif word in TENS:
            part += TENS[word]
        elif word in UNITS:
            part += int(UNITS[word])
    return str(total + part)
