"""Stores facts that were read from a file: each once, however often the file is imported, and nothing older over newer.

A fact without a label gets one made from its text. Where a slot of that source's id is there, its label is used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

from lkmongo.dates import resolve
from lkmongo.errors import InvalidIdError, InvalidTextError
from lkmongo.model import MAX_SLOTS, Fact, FormerFact, UserScope, check_memory, now
from lkmongo.store.people.history import MOMENT
from lkmongo.store.people.import_formats import Entry, Problem, label_of, numbered
from lkmongo.store.people.person import People
from lkmongo.store.people.tombstones import Tombstones

Outcome = Literal["stored", "former", "unchanged", "older"]

_BATCH = 500
"""Facts that are read and stored at a time; those of one person together."""
_SAME = timedelta(seconds=1)
"""Two former values of one content that begin within a second of each other are one."""
MAX_PROBLEMS = 1_000
"""Faults that are kept; `Imported.refused` counts them all."""


@dataclass(slots=True)
class Imported:
    """What an import did, or would do.

    Attributes:
        stored: facts that are true now, stored as new or in place of another value, which became a former one.
        former: values that are no longer true, added to the history.
        unchanged: facts that are stored already.
        older: facts that are not stored because a newer value is, or something of the person was forgotten since.
        refused: facts that cannot be stored: see `problems`.
        problems: their lines and why, the first thousand.
        people: whose facts the file holds.
    """

    stored: int = 0
    former: int = 0
    unchanged: int = 0
    older: int = 0
    refused: int = 0
    problems: list[Problem] = field(default_factory=list)
    people: set[UserScope] = field(default_factory=set)

    @property
    def read(self) -> int:
        return self.stored + self.former + self.unchanged + self.older + self.refused


async def import_facts(
    people: People,
    entries: Iterable[Entry | Problem],
    *,
    tenant_id: str,
    user_id: str | None = None,
    dry_run: bool = False,
    on_progress: Callable[[Imported], None] = lambda _: None,
) -> Imported:
    """Store facts; an error of one does not keep the others from being stored. A dry run changes nothing.

    Args:
        people: the store.
        entries: as `import_formats.read` yields them.
        tenant_id: the tenant of all of them.
        user_id: whose they are; by default whose the file says.
        dry_run: only say what would be done.
        on_progress: called now and then.

    Raises:
        DatabaseError: MongoDB answered with an error; import the file again.
    """
    done = Imported()
    remaining = iter(entries)
    while batch := list(islice(remaining, _BATCH)):
        for scope, facts in _by_person(batch, tenant_id, user_id, done):
            await _Person(people, scope, dry_run=dry_run).store(facts, done)
        on_progress(done)
    return done


def _by_person(
    batch: Sequence[Entry | Problem], tenant_id: str, user_id: str | None, done: Imported
) -> Iterator[tuple[UserScope, list[Entry]]]:
    found: dict[UserScope, list[Entry]] = {}
    for each in batch:
        if isinstance(each, Problem):
            _refuse(done, each.line, each.why)
            continue
        try:
            whose = user_id or each.user_id
            if whose is None:
                raise InvalidIdError("it does not say whose it is: give --user")
            found.setdefault(UserScope(tenant_id=tenant_id, user_id=whose), []).append(each)
        except InvalidIdError as error:
            _refuse(done, each.line, error.message)
    yield from found.items()


def _refuse(done: Imported, line: int, why: str) -> None:
    done.refused += 1
    if len(done.problems) < MAX_PROBLEMS:
        done.problems.append(Problem(line, why))


class _Person:
    """The import of one person's facts."""

    def __init__(self, people: People, scope: UserScope, *, dry_run: bool) -> None:
        self._people = people
        self._scope = scope
        self._dry_run = dry_run
        self._redactor = people.redaction.redactor(scope.tenant_id)
        self._slots: dict[str, Fact] = {}
        self._former: list[FormerFact] = []
        self._erased_at: datetime | None = None
        self._timezone: str | None = None

    async def store(self, entries: Sequence[Entry], done: Imported) -> None:
        """Store facts, each for itself."""
        done.people.add(self._scope)
        slots, self._former, profile, tombstone = await asyncio.gather(
            self._people.memories.slots(self._scope),
            self._people.history.former(self._scope),
            self._people.users.get(self._scope),
            Tombstones(self._people.db).get(self._scope),
        )
        self._slots = {slot.memory_type: slot for slot in slots}
        self._timezone = profile.timezone if profile else None
        self._erased_at = tombstone.erased_at if tombstone else None
        for entry in entries:
            try:
                outcome = await self._store(entry)
            except InvalidTextError as error:
                _refuse(done, entry.line, error.message)
            else:
                setattr(done, outcome, getattr(done, outcome) + 1)

    async def _store(self, entry: Entry) -> Outcome:
        if self._erased_at and (entry.at is None or entry.at <= self._erased_at):
            raise InvalidTextError("the person was erased since")
        name, text = check_memory(entry.label or self._label(entry), entry.content)
        text = self._redactor.fact(name, text)
        if entry.valid_to and entry.valid_to <= now():
            return await self._add_former(name, text, entry, entry.valid_to)
        current = self._slots.get(name)
        if current and current.content == text:
            return "unchanged"
        if self._is_older(name, text, entry, current):
            return "older"
        if current is None and len(self._slots) >= MAX_SLOTS:
            raise InvalidTextError(f"one person can have at most {MAX_SLOTS} memories")
        at = entry.at or now()
        memories, history = self._people.memories, self._people.history
        dates = entry.dates or (resolve(text, at, self._timezone) if entry.at else ())
        if self._dry_run:
            gone = self._people.users.forgot_after(self._scope, at), history.ended_after(self._scope, name, at)
            stored = not any(await asyncio.gather(*gone))
        else:
            stored = await memories.remember_if_newer(
                self._scope, name, text, at, valid_from=entry.valid_from, source=entry.source, dates=dates
            )
        if not stored:
            return "older"
        if current:
            if not self._dry_run:
                await history.settle(self._scope, name)
            former = FormerFact(name, current.content, current.valid_from or at, at, current.source)
            self._former.append(former)
        self._slots[name] = Fact(name, text, None, at, entry.valid_from or at, entry.source)
        return "stored"

    def _is_older(self, name: str, text: str, entry: Entry, current: Fact | None) -> bool:
        """Whether a newer value is stored, or was; without a time, whether there is any other, or this one was."""
        if current:
            return entry.at is None or bool(current.updated_at and current.updated_at >= entry.at)
        return entry.at is None and any((each.memory_type, each.content) == (name, text) for each in self._former)

    async def _add_former(self, name: str, text: str, entry: Entry, until: datetime) -> Outcome:
        current = self._slots.get(name)
        if current and current.valid_from:
            until = min(until, current.valid_from)
        began = entry.valid_from or entry.at or until
        began = min(began, until - MOMENT)
        same = [each for each in self._former if (each.memory_type, each.content) == (name, text)]
        if any(abs(each.valid_from - began) < _SAME for each in same):
            return "unchanged"
        if await self._people.users.forgot_after(self._scope, entry.at or began):
            return "older"
        former = FormerFact(name, text, began, until, entry.source, entry.at or began, entry.dates)
        if not self._dry_run:
            await self._people.history.add(self._scope, former)
        self._former.append(former)
        return "former"

    def _label(self, entry: Entry) -> str:
        """The label that the same text of the same source has got before; else one made of its first words."""
        known: list[Fact | FormerFact] = [*self._slots.values(), *self._former]
        if entry.source.item_id and (found := next((each for each in known if each.source == entry.source), None)):
            return found.memory_type
        label = label_of(entry.content)
        if any(each.memory_type == label and each.content != entry.content.strip() for each in known):
            return numbered(label, entry.source.item_id or entry.content)
        return label
