"""What staff see and change of a person's facts: their history, a new value, and the way back to the last one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from lkmongo import dates
from lkmongo.aio import answered
from lkmongo.errors import InvalidTextError, NotFoundError
from lkmongo.model import MAX_SLOTS, Fact, FormerFact, Source, UserScope, check_memory, now, slot_name
from lkmongo.store.people.history import Undone
from lkmongo.store.people.person import People, no_memory, require_known

STAFF = Source("staff")
_STILL = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Version:
    """A value of a fact: it is true since `valid_from`; until `valid_to`, or still."""

    memory_type: str
    content: str
    valid_from: datetime | None
    valid_to: datetime | None
    source: Source | None

    @classmethod
    def of(cls, value: Fact | FormerFact) -> Version:
        until = value.valid_to if isinstance(value, FormerFact) else None
        told = value.told
        since = told.valid_from or told.updated_at
        return cls(told.memory_type, told.content, since, until, told.source)


@dataclass(frozen=True, slots=True)
class Correction:
    """A fact as it is now, or would be, and what was there instead; `changed` unless that is the same."""

    fact: Fact
    instead_of: Fact | None
    changed: bool = True


async def history_known(people: People, scope: UserScope, label: str | None = None) -> list[Version]:
    """Every value of the facts, or of one, that was ever true; by label, the newest first.

    Raises:
        NotFoundError: the person is unknown, or never had such a fact.
        InvalidTextError: not a valid label.
    """
    name = slot_name(label) if label is not None else None
    found: list[Fact | FormerFact] = [*await people.memories.slots(scope), *await people.history.former(scope, name)]
    versions = [Version.of(each) for each in found if name in (None, each.memory_type)]
    if not versions:
        await require_known(people.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
        if name is not None:
            raise no_memory(scope, name)
    newest_first = sorted(versions, key=lambda each: each.valid_to or _STILL, reverse=True)
    return sorted(newest_first, key=lambda each: each.memory_type)


async def set_known(
    people: People,
    scope: UserScope,
    label: str,
    content: str,
    *,
    valid_from: datetime | None = None,
    dry_run: bool = False,
    confirm: Callable[[Correction], Awaitable[None] | None] = lambda _: None,
) -> Correction:
    """Set a fact of a known person by hand; another value becomes a former one. A dry run changes nothing.

    Args:
        people: the store.
        scope: the person.
        label: of the fact.
        content: its value; relative dates are resolved in the person's time zone.
        valid_from: since when it is true; by default since now, or since when the text says.
        dry_run: change nothing.
        confirm: called with the correction before it is made; raises to prevent it.

    Raises:
        NotFoundError: nothing is stored about the person.
        InvalidTextError: the label or the content is invalid, or there are too many facts.
        SecretError: it is a secret, which must not be remembered.
    """
    name, text = check_memory(label, content)
    text = people.redaction.redactor(scope.tenant_id).fact(name, text)
    await require_known(people.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
    old = await people.memories.recall(scope, name)
    if old is None and await people.memories.count(scope) >= MAX_SLOTS:
        raise InvalidTextError(f"one person can have at most {MAX_SLOTS} memories")
    profile = await people.users.get(scope)
    zone, at = profile.timezone if profile else None, now()
    since = valid_from or dates.start_in(text, at, zone)
    fact = Fact(name, text, None, at, min(since or at, at), STAFF, dates.resolve(text, at, zone))
    correction = Correction(fact, old, changed=old is None or old.content != text or valid_from is not None)
    if dry_run or not correction.changed:
        return correction
    await answered(confirm(correction))
    await people.memories.remember(scope, name, text, at=at, valid_from=since, source=STAFF, dates=fact.dates)
    await people.history.settle(scope, name)
    return correction


async def undo_known(
    people: People,
    scope: UserScope,
    label: str,
    *,
    dry_run: bool = False,
    confirm: Callable[[Undone], Awaitable[None] | None] = lambda _: None,
) -> Undone:
    """Give a fact its last former value back, also one that has ended. What is forgotten cannot come back.

    `confirm` is called before, and raises to prevent it. A dry run changes nothing.

    Raises:
        NotFoundError: the person is unknown, or the fact has no former value.
        InvalidTextError: not a valid label.
    """
    name = slot_name(label)
    current = await people.memories.recall(scope, name)
    former = [each for each in await people.history.former(scope, name) if not _is_current(each, current)]
    if not former:
        await require_known(people.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
        if current is None:
            raise no_memory(scope, name)
        raise NotFoundError(f"{name} of {scope.user_id} has no former value", hint="set it: lkmongo memory set")
    last = former[0].told
    fact = Fact(name, last.content, None, last.updated_at, last.valid_from, last.source, last.dates)
    planned = Undone(fact, current)
    if dry_run:
        return planned
    await answered(confirm(planned))
    undone = await people.history.undo(scope, name)
    if undone is None:
        raise NotFoundError(f"{name} of {scope.user_id} has no former value any more")
    instead_of = undone.instead_of.told if undone.instead_of else None
    return Undone(undone.fact.told, instead_of)


def _is_current(former: FormerFact, current: Fact | None) -> bool:
    """Left over from an undo that was interrupted."""
    return bool(current and current.valid_from and former.valid_from >= current.valid_from)
