"""What a call leaves behind: its summary, and what was agreed in it and is still to be done."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

MAX_SUMMARY = 600
"""Characters of a summary's text."""
MAX_TOPICS = 8
MAX_COMMITMENT = 300
"""Characters of a commitment's text."""
MAX_OPEN = 20
"""Open commitments of one person that a briefing may hold: the latest. Older ones stay in their calls' summaries."""

_WORD = re.compile(r"\w+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_SHORTEST = 3
_PAIRED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{2,}")
"""Scripts without spaces between words."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """Something that the caller or the assistant said they would do.

    Attributes:
        id: identifies it among those of the person; see `of`.
        text: what is to be done, in a few words.
        by: who is to do it.
        made_at: when it was said.
        due: by when, if that was said.
        session_id: the call in which it was made.
        closed_at: since when it is done, or no longer wanted; None while it is open.
    """

    id: str
    text: str
    by: Literal["caller", "assistant"]
    made_at: datetime
    due: datetime | None = None
    session_id: str | None = None
    closed_at: datetime | None = None

    @classmethod
    def of(
        cls,
        text: str,
        by: Literal["caller", "assistant"],
        made_at: datetime,
        session_id: str,
        *,
        due: datetime | None = None,
    ) -> Commitment:
        """A commitment whose id follows from the call and the text, so that storing it again does not double it."""
        name = hashlib.sha256(f"{session_id}\n{by}\n{text}".encode(errors="replace")).hexdigest()[:12]
        return cls(name, text, by, made_at, due, session_id)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a call was about.

    Attributes:
        text: in a sentence or two; empty if nothing is worth knowing.
        at: when the call took place.
        topics: its subjects in a word or two each, the most telling first.
        commitments: all that were made in it, open or closed.
        by: whether a language model wrote it, or it consists of the caller's own words.
    """

    text: str
    at: datetime
    topics: tuple[str, ...] = ()
    commitments: tuple[Commitment, ...] = ()
    by: Literal["model", "extract"] = "extract"

    @property
    def open(self) -> tuple[Commitment, ...]:
        return tuple(each for each in self.commitments if each.closed_at is None)

    @property
    def embedded_text(self) -> str:
        """What is embedded: the topics and commitments, too."""
        return "\n".join(filter(None, [self.text, ", ".join(self.topics), *(each.text for each in self.commitments)]))


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call of a person and its summary.

    Attributes:
        session_id: its id.
        started_at: when it began.
        summary: what it was about.
        vector: of the summary, as it is stored, if it was read.
        model: the vector's embedding model.
    """

    session_id: str
    started_at: datetime | None
    summary: Summary
    vector: Any = None
    model: str | None = None


def stems(texts: Iterable[str]) -> frozenset[str]:
    """The stems of the words that say something, for comparing texts that may tell the same."""
    stop, stem = _stop_words(), _stem()
    found: set[str] = set()
    for text in texts:
        bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
        for word in _WORD.findall(unicodedata.normalize("NFC", bare).replace("_", " ")):
            if _PAIRED.search(word):
                found.update(word[place : place + 2] for place in range(len(word) - 1))
            elif (len(word) >= _SHORTEST or word.isdigit()) and word not in stop:
                found.add(stem(word) if word.isascii() and word.isalpha() else word)
    return frozenset(found)


@functools.cache
def _stop_words() -> frozenset[str]:
    from bm25s import stopwords

    return frozenset(word.replace("'", "") for word in stopwords.STOPWORDS_EN_PLUS)


def _stem() -> Any:
    from Stemmer import Stemmer

    return Stemmer("english").stemWord
