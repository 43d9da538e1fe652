"""What the caller has said so far in this turn, and whether it is worth a search before the turn is over."""

from __future__ import annotations

import re

from lkmongo.agent.phrases import polite_stems, telling
from lkmongo.search.words import content_words, fold, words

_SENTENCE = re.compile("(?<=[.?!\u3002\uff1f\uff01\u061f])\\s*")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_MAX_HEARD = 600
"""Characters of a turn that are looked at: its end, where the question is."""


class Turn:
    """The words of one turn as the recogniser gives them: final pieces, and one that may still change."""

    def __init__(self) -> None:
        """Nothing is said yet."""
        self._final = ""
        self._interim = ""

    def add(self, transcript: str, *, final: bool) -> bool:
        """Take what was recognised; returns whether words were added, dropped or changed."""
        before = words(self.text)
        if final:
            self._final = f"{self._final} {transcript}".strip()[-_MAX_HEARD:]
            self._interim = ""
        else:
            self._interim = transcript
        return words(self.text) != before

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self._final} {self._interim}".strip()


def question_in(text: str) -> str | None:
    """The sentence to search for: the last that asks something, else the last worth a search, else None."""
    worthy = [sentence.strip() for sentence in _SENTENCE.split(text[-_MAX_HEARD:]) if is_worth_a_search(sentence)]
    asking = [sentence for sentence in worthy if sentence.endswith(_QUESTION_MARKS)]
    return next(reversed(asking or worthy), None)


def is_worth_a_search(sentence: str) -> bool:
    """Whether a sentence may be a question of substance; decided by its words alone, in microseconds.

    It is not when it only tells something ("remember that ..."), has nothing but courtesies and numbers ("yes,
    thank you", an order number), or is a single word that is no question.
    """
    if telling().match(fold(sentence.strip())):
        return False
    stems = [each for each in content_words(sentence)[0] if each not in polite_stems() and not each.isdigit()]
    return len(stems) > 1 or (
        len(stems) == 1 and (len(words(sentence)) > 2 or sentence.strip().endswith(_QUESTION_MARKS))
    )


def overlap(searched: frozenset[str], asked: frozenset[str]) -> float:
    """How much of what is asked was searched for already: the share of its words that are among those, 0 to 1.

    It is 0 when they are less than a third of the words that were searched for: the result is then about other things,
    too. A model's query is shorter than what was said, as a rule; a measure that counts both alike would hold that
    against it.
    """
    shared = len(searched & asked)
    return shared / len(asked) if asked and 3 * shared >= len(searched) else 0.0


def stems_of(text: str) -> frozenset[str]:
    """The stems of the words that say what a text is about."""
    return frozenset(content_words(text)[0])
