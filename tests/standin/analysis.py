"""Text to terms, close to Lucene's analyzers.

`lucene.standard` splits at Unicode word boundaries and lowercases. What matters here: letters, digits and underscores
hold together (`favorite_color` is ONE term), so do an apostrophe or a dot between two letters (`can't`, `example.com`)
and a dot or a comma between two digits (`3.14`); a hyphen, a slash and an at sign separate; ideographs stand alone.
There is no stemming and there are no stop words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_IDEOGRAPH = "\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_STANDARD = re.compile(
    rf"[{_IDEOGRAPH}]"
    rf"|(?:[^\W{_IDEOGRAPH}]|[\u0300-\u036f]"
    rf"|(?<=[^\W\d_])['’.·:](?=[^\W\d_])"  # noqa: RUF001  the typographic apostrophe is meant
    r"|(?<=\d)[.,;'](?=\d))+"
)
_LETTERS = re.compile(r"[^\W\d_]+")
MAX_TERM = 255


def _standard(text: str) -> list[str]:
    found = [match.group().lower() for match in _STANDARD.finditer(text)]
    words = [word for word in found if word.strip("_")]
    return [word[at : at + MAX_TERM] for word in words for at in range(0, len(word), MAX_TERM)]


ANALYZERS: dict[str, Callable[[str], list[str]]] = {
    "lucene.standard": _standard,
    "lucene.simple": lambda text: [match.group().lower() for match in _LETTERS.finditer(text)],
    "lucene.whitespace": str.split,
    "lucene.keyword": lambda text: [text],
}


def analyze(text: str, analyzer: str = "lucene.standard") -> list[str]:
    """The terms of a text, in order."""
    return ANALYZERS[analyzer](text)
