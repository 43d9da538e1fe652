"""What was true of the caller and no longer is: read in the background, then told from memory, found by words alone.

Vectors would find little more: a former value has the label of the one that is true now, which is found by meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from lkmongo import dates
from lkmongo.aio import aside
from lkmongo.confidential import WITHHELD
from lkmongo.embed.base import Embedder
from lkmongo.model import Fact, FormerFact, Source, now, slot_words
from lkmongo.search.exact import ExactIndex
from lkmongo.store.people.history import MOMENT

MOST_TOLD = 3
"""Former values of one label that are told at once: as many as one can follow by ear."""
_AROUND = 100
"""Characters that each former value counts for, however short it is."""
HELD = 200_000
"""Characters of former values that a call holds, the newest first."""


async def readable(stored: Iterable[FormerFact]) -> list[FormerFact]:
    """The newest of these within `HELD`, as they may be told."""
    kept, left = [], HELD
    for each in stored:
        left -= len(each.content)
        if left < 0:
            break
        kept.append(each)
    return await aside(HELD - max(0, left), lambda: [each.told for each in kept])


_BIRTHDAY = frozenset({"birthday", "date_of_birth", "birth_date", "birthdate", "my_birthday"})


class Former:
    """The former values of one person, newest first, as they may be told."""

    def __init__(self, embedder: Embedder) -> None:
        self.all: list[FormerFact] = []
        """Never changed in place, so that the index knows whether it is of these."""
        self.more = False
        """Whether MongoDB has more than these."""
        self._indexed: tuple[list[FormerFact], ExactIndex[int]] | None = None
        self._of_this_call: list[FormerFact] = []
        self._embedder = embedder

    def loaded(self, stored: Iterable[FormerFact]) -> None:
        """Add the `readable` ones that MongoDB has to those of this call, which it may not have yet."""
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
        former = former.told
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
        return [each for each in self.all if each.memory_type == label and each.content != WITHHELD]

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(each.memory_type for each in self.all))

    async def search(self, query: str, limit: int) -> list[FormerFact]:
        """Those that share words with the query, best first."""
        former, embedder = self.all, self._embedder
        if not former or not query:
            return []

        def find() -> list[FormerFact]:
            hits = self._index(former).search(query, None, limit, weights=embedder.weights, floor=embedder.floor)
            return [former[hit.key] for hit in hits]

        # To index five hundred takes fifty milliseconds.
        found = await aside(sum(_AROUND + len(each.content) for each in former), find)
        return [each for each in found if each.content != WITHHELD]

    def _index(self, former: list[FormerFact]) -> ExactIndex[int]:
        """An index of these, made when they are first searched."""
        if self._indexed and self._indexed[0] is former:
            return self._indexed[1]
        texts = [f"{slot_words(each.memory_type)} {each.content}" for each in former]
        index = ExactIndex(range(len(texts)), texts, [None] * len(texts))
        self._indexed = former, index
        return index


def dated(
    label: str,
    text: str,
    since: str | None,
    valid_from: datetime | None,
    source: Source,
    slots: Mapping[str, Fact],
    zone: str | None,
) -> tuple[Fact, datetime | None]:
    """The slot with its source and the days that it speaks of, and since when it is true, if that was said."""
    at, old = now(), slots.get(label)
    said = dates.start_of(since, at, zone) if since else None
    stated = valid_from or said or dates.start_in(text, at, zone)
    began = old.valid_from or old.updated_at if old and old.content == text else at
    birthday = next((slot.content for name, slot in slots.items() if name in _BIRTHDAY), None)
    mentioned = dates.resolve(text, at, zone, birthday)
    return Fact(label, text, None, at, min(stated or began or at, at), source, mentioned), stated


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
