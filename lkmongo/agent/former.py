"""What was true of the caller and no longer is: read in the background, then told from memory, found by words alone.

Vectors would find little more: a former value has the label of the one that is true now, which is found by meaning.
"""

from __future__ import annotations

from collections.abc import Iterable

from lkmongo import dates
from lkmongo.confidential import WITHHELD
from lkmongo.embed.base import Embedder
from lkmongo.model import Fact, FormerFact, now, slot_words
from lkmongo.search.exact import ExactIndex
from lkmongo.store.people.history import MOMENT

MOST_TOLD = 3
"""Former values of one label that are told at once: as many as one can follow by ear."""


class Former:
    """The former values of one person, newest first."""

    def __init__(self, embedder: Embedder) -> None:
        self.all: list[FormerFact] = []
        """Never changed in place, so that the index knows whether it is of these."""
        self._indexed: tuple[list[FormerFact], ExactIndex[int]] | None = None
        self._of_this_call: list[FormerFact] = []
        self._embedder = embedder

    def loaded(self, stored: Iterable[FormerFact]) -> None:
        """Add those that MongoDB has to those of this call, which it may not have yet."""
        stored = list(stored)
        known = {(each.memory_type, each.content, each.valid_to) for each in stored}
        ours = [each for each in self._of_this_call if (each.memory_type, each.content, each.valid_to) not in known]
        self.all = sorted([*ours, *stored], key=lambda each: each.valid_to, reverse=True)

    def replaced(self, old: Fact, new: Fact) -> None:
        """A slot has got another value."""
        if old.content == new.content:
            return
        until = new.valid_from or new.updated_at or now()
        began = min(old.valid_from or old.updated_at or until, until - MOMENT)
        former = FormerFact(old.memory_type, old.content, began, until, old.source, old.updated_at, old.dates)
        self._of_this_call.append(former)
        self.all = [former, *self.all]

    def forget(self, label: str) -> bool:
        """Drop the former values of a label; returns whether there were any."""
        before = len(self.all)
        self.all = [each for each in self.all if each.memory_type != label]
        self._of_this_call = [each for each in self._of_this_call if each.memory_type != label]
        return len(self.all) < before

    def of(self, label: str) -> list[FormerFact]:
        """The former values of a label that may be told, newest first."""
        told = (each.told for each in self.all if each.memory_type == label)
        return [each for each in told if each.content != WITHHELD]

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(each.memory_type for each in self.all))

    def search(self, query: str, limit: int) -> list[FormerFact]:
        """Those that share words with the query, best first."""
        if not self.all or not query:
            return []
        index = self._index()
        hits = index.search(query, None, limit, weights=self._embedder.weights, floor=self._embedder.floor)
        found = [self.all[hit.key].told for hit in hits]
        return [each for each in found if each.content != WITHHELD]

    def _index(self) -> ExactIndex[int]:
        """An index of all, made when it is first searched: of five hundred that takes fifty milliseconds."""
        if self._indexed and self._indexed[0] is self.all:
            return self._indexed[1]
        texts = [f"{slot_words(each.memory_type)} {each.told.content}" for each in self.all]
        index = ExactIndex(range(len(texts)), texts, [None] * len(texts))
        self._indexed = self.all, index
        return index


def in_words(fact: Fact | None, former: list[FormerFact], timezone: str | None) -> str:
    """What is remembered under one label, with since when and what was before if that is known.

    "Your city: Lisbon, since May 2026; before, Boston until May 2026."
    """
    before = ", and ".join(
        f"{dates.with_days(each.content, each.dates)} until {dates.show_since(each.valid_to, timezone)}"
        for each in former[:MOST_TOLD]
    )
    if fact is None:
        return f"Your {slot_words(former[0].memory_type)}: none any more; before, {before}."
    text = f"Your {slot_words(fact.memory_type)}: {dates.with_days(fact.content, fact.dates)}"
    if fact.valid_from and (former or dates.is_stated(fact.valid_from)):
        text += f", since {dates.show_since(fact.valid_from, timezone)}"
    return f"{text}{f'; before, {before}' if before else ''}."


def by_label(former: Iterable[FormerFact]) -> dict[str, list[FormerFact]]:
    """Former values by label, in the order in which the labels appear."""
    found: dict[str, list[FormerFact]] = {}
    for each in former:
        found.setdefault(each.memory_type, []).append(each)
    return found
