"""What the text branch takes for a word: the same cut for what is stored and for what is asked.

Case, accents and compatibility forms are folded, parts of a label or a hyphenated word stand apart, and the forms of
an English word meet in its stem. Scripts that put no spaces between words are cut into pairs of characters,
as Lucene's CJK analyzer does. Stop words are taken from the query only: what is stored keeps every word.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SPOKEN = frozenset(
    {"could", "hello", "hey", "might", "ok", "okay", "please", "tell", "uh", "um", "would", "yeah", "yes"}
)
"""What people say around a question and no list of written English holds."""
_LIGHT = frozenset(
    [
        "able",
        "anything",
        "come",
        "comes",
        "everything",
        "find",
        "get",
        "gets",
        "getting",
        "give",
        "gives",
        "go",
        "goes",
        "going",
        "got",
        "happen",
        "happens",
        "keep",
        "keeps",
        "kind",
        "know",
        "knows",
        "let",
        "like",
        "likes",
        "lot",
        "lots",
        "make",
        "makes",
        "making",
        "many",
        "mean",
        "means",
        "much",
        "need",
        "needs",
        "one",
        "ones",
        "put",
        "puts",
        "really",
        "say",
        "says",
        "see",
        "sees",
        "something",
        "sort",
        "still",
        "take",
        "takes",
        "taking",
        "thing",
        "things",
        "use",
        "uses",
        "using",
        "want",
        "wants",
    ]
)
"""Words that seldom say what a question is about; they count only in one that has no others."""
_LANGUAGES = ("DUTCH", "FRENCH", "GERMAN", "ITALIAN", "PORTUGUESE", "RUSSIAN", "SPANISH")
_ACCENTS = re.compile("[\u0300-\u036f]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_GAPS = {ord(char): " " for char in map(chr, range(128)) if not (char.isalnum() or char in "'-")}
"""For `str.translate`: what parts words where all is ASCII. Ten times as fast as the pattern."""


def words(text: str) -> list[str]:
    """Cut text into folded words, in order: "Mother's Wi-Fi" is mother, wi, fi, wifi."""
    folded = fold(text)
    if not folded.isascii():
        return _cut(folded)
    found: list[str] = []
    for piece in folded.translate(_GAPS).split():
        if piece.isalnum():
            found.append(piece)
        else:
            found += _cut(piece)
    return found


def _cut(folded: str) -> list[str]:
    found: list[str] = []
    for word in _pattern().findall(folded.replace("_", " ")):
        if word.isascii() and word.isalnum():
            found.append(word)
        else:
            found += _parts(word)
    return found


def fold(text: str) -> str:
    """Take case, accents and compatibility forms away: "Crème BRÛLÉE" is "creme brulee"."""
    if text.isascii():
        return text.lower()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFC", bare)


def stem(word: str) -> str:
    """Take the endings off an English word, by Snowball's algorithm: "returns", "returned" and "returning" are "return".

    Words of other scripts and words with digits are left alone.
    """
    return _snowball.stem(word) if word.isascii() and word.isalpha() else word


class _Snowball(threading.local):
    """A stemmer of each thread's own: it keeps words that it knows, without a lock."""

    @cached_property
    def stem(self) -> Callable[[str], str]:
        from Stemmer import Stemmer

        english: Callable[[str], str] = Stemmer("english").stemWord
        return english


_snowball = _Snowball()


def content_words(query: str) -> tuple[list[str], frozenset[str]]:
    """The stems of a query that may cause a match, each once, and the stems that never may.

    The language of the stop words is the one that has most of them in the query, English when in doubt.
    """
    spoken = words(query)
    stop = _stop_words(spoken)
    wanted = [word for word in spoken if word not in stop]
    weighty = [word for word in wanted if word not in _LIGHT]
    return list(dict.fromkeys(stem(word) for word in weighty or wanted)), _stems(stop)


def _parts(word: str) -> list[str]:
    if word.endswith(("'s", "\u2019s")):
        word = word[:-2]
    word = word.replace("'", "").replace("\u2019", "")
    parts: list[str] = []
    for part in word.split("-"):
        parts += _pairs(part)
    if "-" in word and word.isascii():  # "e-mail" is written "email" by others
        parts.append(word.replace("-", ""))
    return parts


def _pairs(word: str) -> list[str]:
    """Cut runs of a script without spaces into pairs of characters, and leave the rest whole."""
    found: list[str] = []
    end = 0
    for run in _UNSPACED.finditer(word):
        found += [word[end : run.start()]] if run.start() > end else []
        found += [run[0][i : i + 2] for i in range(len(run[0]) - 1)] or [run[0]]
        end = run.end()
    return [*found, word[end:]] if end < len(word) else found


def _stop_words(spoken: Sequence[str]) -> frozenset[str]:
    """English unless another language has more of its stop words in the query, two at least, and a word is left.

    "dog", "hat" and "door" are stop words too, in Danish, German and Dutch: one or two of them prove nothing.
    """
    best = _listed("EN_PLUS") | _SPOKEN
    most = max(1, sum(word in best for word in spoken))
    for language in _LANGUAGES:
        listed = _listed(language)
        if most < sum(word in listed for word in spoken) < len(spoken):
            best, most = listed, sum(word in listed for word in spoken)
    return best


@cache
def _listed(language: str) -> frozenset[str]:
    from bm25s import stopwords

    return frozenset(word for entry in getattr(stopwords, f"STOPWORDS_{language}") for word in words(entry))


@cache
def _stems(stop: frozenset[str]) -> frozenset[str]:
    return frozenset(stem(word) for word in stop)


@cache
def _pattern() -> re.Pattern[str]:
    # `\w` leaves out the vowel signs of Devanagari, Tamil and others, and would cut their words apart.
    marks = "".join(re.escape(chr(c)) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in {"Mn", "Mc"})
    letters = f"[\\w{marks}]+"  # one set: an alternative for each letter would take five times as long
    return re.compile(f"{letters}(?:['\u2019-]{letters})*")
