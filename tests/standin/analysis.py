"""Text to terms, close to Lucene's analyzers.

`lucene.standard` splits at Unicode word boundaries (UAX #29, as Lucene reads it) and lowercases. What matters here:
letters, digits and underscores hold together (`favorite_color` is ONE term), so do an apostrophe or a dot between two
letters (`can't`, `example.com`) and a dot or a comma between two digits (`3.14`); a hyphen, a slash and an at sign
separate; accents and vowel signs belong to their letter; ideographs stand alone, scripts that are written without
spaces stay in one piece; an emoji is a term, a fraction or a superscript is none. There is no stemming and there are no
stop words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

MAX_TERM = 255

# Each character has a class, a letter. What joins: U (underscore) anything, L what are letters on both sides of it, M
# what are digits, B either. X extends the character before it and changes nothing, and so does Z, the zero-width
# joiner. I stands alone (ideographs, Hiragana), K is Katakana, S Southeast Asian; P are pictographs, T their tones, R
# the halves of flags.
_SIGNS = (
    dict.fromkeys(".'\u2018\u2019\u2024\ufe52\uff07\uff0e", "B")
    | dict.fromkeys(":\u00b7\u0387\u2027\ufe13\ufe55\uff1a", "L")
    | dict.fromkeys(",;\u037e\u0589\u060c\u060d\u066c\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b", "M")
    | {"\u066b": "N", "\u200b": " ", "\u200d": "Z"}
)
_RANGES = [
    (0xA9, 0xA9, "P"), (0xAE, 0xAE, "P"), (0xE01, 0xECF, "S"), (0xEDA, 0xEFF, "S"), (0x1000, 0x103F, "S"),
    (0x1050, 0x109F, "S"), (0x1780, 0x17DD, "S"), (0x203C, 0x203C, "P"), (0x2049, 0x2049, "P"),
    (0x2122, 0x2122, "P"), (0x2194, 0x2199, "P"), (0x21A9, 0x21AA, "P"), (0x231A, 0x231B, "P"),
    (0x23E9, 0x23F3, "P"), (0x23F8, 0x23FA, "P"), (0x24B6, 0x24E9, "A"), (0x25AA, 0x25AB, "P"),
    (0x25B6, 0x25B6, "P"), (0x25C0, 0x25C0, "P"), (0x25FB, 0x25FE, "P"), (0x2600, 0x2605, "P"),
    (0x2607, 0x2612, "P"), (0x2614, 0x2685, "P"), (0x2690, 0x2705, "P"), (0x2708, 0x2712, "P"),
    (0x2714, 0x2714, "P"), (0x2716, 0x2716, "P"), (0x2728, 0x2728, "P"), (0x2733, 0x2734, "P"),
    (0x274C, 0x274C, "P"), (0x274E, 0x274E, "P"), (0x2753, 0x2755, "P"), (0x2757, 0x2757, "P"),
    (0x2763, 0x2767, "P"), (0x2795, 0x2797, "P"), (0x27A1, 0x27A1, "P"), (0x2B05, 0x2B07, "P"),
    (0x2B1B, 0x2B1C, "P"), (0x2B50, 0x2B50, "P"), (0x2B55, 0x2B55, "P"), (0x3005, 0x3007, "I"),
    (0x3021, 0x3029, "I"), (0x3031, 0x3035, "K"), (0x3038, 0x303B, "I"), (0x3041, 0x3096, "I"),
    (0x309B, 0x309C, "K"), (0x309D, 0x309F, "I"), (0x30A1, 0x30FA, "K"), (0x30FC, 0x30FF, "K"),
    (0x31F0, 0x31FF, "K"), (0x3400, 0x4DBF, "I"), (0x4E00, 0x9FFF, "I"), (0xF900, 0xFAFF, "I"),
    (0xFF66, 0xFF9D, "K"), (0x1F000, 0x1F0FF, "P"), (0x1F1E6, 0x1F1FF, "R"), (0x1F249, 0x1F3FA, "P"),
    (0x1F3FB, 0x1F3FF, "T"), (0x1F400, 0x1F64F, "P"), (0x1F680, 0x1F6FF, "P"), (0x1F90C, 0x1FAFF, "P"),
    (0x20000, 0x323AF, "I"),
]  # fmt: skip
_CATEGORIES = {"Nd": "N", "Nl": "A", "Pc": "U", "Mn": "X", "Mc": "X", "Me": "X", "Cf": "X"}


class _Classes(dict[int, str]):
    """The class of each character, looked up once."""

    def __missing__(self, code: int) -> str:
        found = _SIGNS.get(chr(code)) or self._looked_up(code, unicodedata.category(chr(code)))
        return self.setdefault(code, found)

    def _looked_up(self, code: int, category: str) -> str:
        if category != "Nd":
            for first, last, kind in _RANGES:
                if first <= code <= last:
                    return kind
        return _CATEGORIES.get(category, "A" if category[0] == "L" else " ")


_CLASSES = _Classes()


def _extended(pattern: str) -> str:
    """A pattern of classes in which extenders may follow any character."""
    return re.sub(r"\[[A-Z]+\]|[A-Z]", r"(?:\g<0>[XZ]*)", pattern)


_RUN = r"(?:N(?:(?:U*|[MB])N)*|A(?:(?:U*|[LB])A)*)+"
_PART = rf"(?:K(?:U*K)*|{_RUN})"
_WORD = re.compile(_extended(rf"U*{_PART}(?:U+{_PART})*U*|S+|I|RR") + r"|(?:P[XZ]*T?|T)[XZ]*(?:(?<=Z)P[XZ]*T?[XZ]*)*")
_LETTERS = re.compile(r"[^\W\d_]+")


def _lower(text: str) -> str:
    """Lowercase letter by letter, without regard to what stands around it: one letter stays one."""
    return text.lower() if text.isascii() else "".join(char.lower()[0] for char in text)


def standard_tokens(text: str) -> list[str]:
    """Lucene's StandardTokenizer: the words of a text as they are written."""
    words = [text[match.start() : match.end()] for match in _WORD.finditer(text.translate(_CLASSES))]
    return [word[at : at + MAX_TERM] for word in words for at in range(0, len(word), MAX_TERM)]


def _standard(text: str) -> list[str]:
    return [_lower(word) for word in standard_tokens(text)]


Analyze = Callable[[str], list[str]]
ANALYZERS: dict[str, Analyze] = {
    "lucene.standard": _standard,
    "lucene.simple": lambda text: [match.group().lower() for match in _LETTERS.finditer(text)],
    "lucene.whitespace": str.split,
    "lucene.keyword": lambda text: [text],
}


def analyze(text: str, analyzer: str | Analyze = "lucene.standard") -> list[str]:
    """The terms of a text, in order; a custom analyzer is given as it is, the others by name."""
    return ANALYZERS[analyzer](text) if isinstance(analyzer, str) else analyzer(text)
