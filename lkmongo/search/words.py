"""Tokenization for the text branch, the same for stored texts and queries.

Case, accents and compatibility forms are folded, labels and hyphenated words are split, and words are stemmed in the
language of the texts. Scripts without spaces between words are split into pairs of characters, like Lucene's CJK
analyzer does. Stop words, those of the query's own language, are removed from the query only.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from lkmongo.store.indexes.definitions import GERMAN_ENDINGS, LANGUAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from collections.abc import Set as AbstractSet

_SPOKEN_FILLERS = frozenset(
    {"could", "hello", "hey", "might", "ok", "okay", "please", "tell", "uh", "um", "would", "yeah", "yes"}
)
"""Spoken filler words that lists of written English lack."""
ENGLISH = "en"
_SAMPLE = 4_000
"""Characters of the texts that decide on their language: under a millisecond."""
_LEAST_OF_QUESTION = 2
"""Stop words that tell the language of a question."""
_ACCENTS = re.compile("[\u0300-\u036f]")
_GERMAN_ENDINGS = re.compile(GERMAN_ENDINGS)
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_SEPARATORS = {ord(char): " " for char in map(chr, range(128)) if not (char.isalnum() or char in "'-")}
"""Separators in ASCII text, for `str.translate`, which is ten times as fast as the pattern."""


def words(text: str) -> list[str]:
    """Split text into folded words, in order: "Mother's Wi-Fi" is mother, wi, fi, wifi."""
    folded = fold(text)
    if not folded.isascii():
        return _split(folded)
    found: list[str] = []
    for piece in folded.translate(_SEPARATORS).split():
        if piece.isalnum():
            found.append(piece)
        else:
            found += _split(piece)
    return found


def _split(folded: str) -> list[str]:
    found: list[str] = []
    for word in _pattern().findall(folded.replace("_", " ")):
        if word.isascii() and word.isalnum():
            found.append(word)
        else:
            found += _parts(word)
    return found


def fold(text: str) -> str:
    """Fold case, accents and compatibility forms: "Crème BRÛLÉE" is "creme brulee"."""
    if text.isascii():
        return text.lower()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFC", bare)


def stem(word: str, language: str = ENGLISH) -> str:
    """Stem a word with Snowball: in English, "returns", "returned" and "returning" become "return".

    Words with digits are left unchanged, and in English those with letters beyond ASCII. In German, endings go that
    Snowball leaves: "kauft" becomes "kauf" as "kaufen" does.
    """
    if not word.isalpha() or not (word.isascii() or language != ENGLISH):
        return word
    base = _snowball.of(language)(word)
    return _GERMAN_ENDINGS.sub("", base) if language == "de" else base


class _Snowball(threading.local):
    """A stemmer for each thread and language: it has a cache without a lock."""

    def __init__(self) -> None:
        self._stemmers: dict[str, Callable[[str], str]] = {}

    def of(self, language: str) -> Callable[[str], str]:
        if language not in self._stemmers:
            from Stemmer import Stemmer

            self._stemmers[language] = Stemmer(LANGUAGES.get(language, "english")).stemWord
        return self._stemmers[language]


_snowball = _Snowball()


def language_of(texts: Sequence[str], otherwise: str | None = None) -> str:
    """The two-letter code of the language whose stop words the texts have most of.

    Args:
        texts: the first 4,000 characters decide.
        otherwise: the code of the language when they say nothing or another has as many; English by default.
    """
    known = otherwise if otherwise in LANGUAGES else ENGLISH
    return _language(set(words(" ".join(texts)[:_SAMPLE])), known, least=4)


def languages_of(query: str) -> tuple[str, ...]:
    """The two-letter codes of the languages that a question may be in: those with most of its stop words.

    All languages, English first, if none has two.
    """
    spoken = set(words(query))
    counts = {language: len(spoken & _listed(language)) for language in LANGUAGES}
    most = max(counts.values())
    return tuple(language for language, count in counts.items() if count == most or most < _LEAST_OF_QUESTION)


def content_words(query: str, language: str = ENGLISH) -> tuple[list[str], frozenset[str]]:
    """The distinct stems of a query that may cause a match, and the stems of stop words.

    Args:
        query: the words.
        language: of the texts, in which they are stemmed. The stop words are those of the language that has most of
            them in the query, of this one when in doubt.
    """
    spoken = words(query)
    stop = _listed(_language(set(spoken), language, least=_LEAST_OF_QUESTION))
    wanted = [word for word in spoken if word not in stop]
    return list(dict.fromkeys(stem(word, language) for word in wanted)), _stems(stop, language)


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
    """Split runs of scripts without spaces into pairs of characters."""
    found: list[str] = []
    end = 0
    for run in _UNSPACED.finditer(word):
        found += [word[end : run.start()]] if run.start() > end else []
        found += [run[0][i : i + 2] for i in range(len(run[0]) - 1)] or [run[0]]
        end = run.end()
    return [*found, word[end:]] if end < len(word) else found


def _language(spoken: AbstractSet[str], otherwise: str, *, least: int) -> str:
    """`otherwise`, unless another language has more stop words among the words, not all, and at least so many.

    "dog", "hat" and "door" are stop words in Danish, German and Dutch: one or two prove nothing.
    """
    best = otherwise
    most = max(least - 1, len(spoken & _listed(otherwise)))
    for language in LANGUAGES:
        count = len(spoken & _listed(language))
        if most < count < len(spoken):
            best, most = language, count
    return best


@cache
def _listed(language: str) -> frozenset[str]:
    from bm25s import stopwords

    name = "EN_PLUS" if language == ENGLISH else LANGUAGES[language].upper()
    listed = frozenset(word for entry in getattr(stopwords, f"STOPWORDS_{name}") for word in words(entry))
    return listed | _SPOKEN_FILLERS if language == ENGLISH else listed


@cache
def _stems(stop: frozenset[str], language: str) -> frozenset[str]:
    return frozenset(stem(word, language) for word in stop)


@cache
def _pattern() -> re.Pattern[str]:
    # `\w` lacks the vowel signs of Devanagari, Tamil and others, and would split their words.
    marks = "".join(re.escape(chr(c)) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in {"Mn", "Mc"})
    letters = f"[\\w{marks}]+"  # one character class: alternatives would take five times as long
    return re.compile(f"{letters}(?:['\u2019-]{letters})*")
