"""Forget what is remembered of a person: slots with their history, profile fields, and the last session's gist.

The command line, the web's memory view, a live session and the recovery of its journal all forget through `forget`.
What a person comes in by is not forgotten but erased or unlinked: browsers, telephone numbers, the PIN.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lkmongo.aio import answered
from lkmongo.errors import NotFoundError
from lkmongo.model import PROFILE_FIELDS, Profile, UserScope, now, slot_name, slot_words
from lkmongo.store.people.person import (
    LAST_SESSION,
    NOT_THERE,
    People,
    about_lines,
    is_known,
    no_memory,
    unknown_person,
)
from lkmongo.store.sessions.learning import Learnings

NOT_STORED_LATER = "anything said under that id until now that a worker still holds on its disk will not be stored"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten, or would be.

    Attributes:
        memory_types: labels of the slots, and of facts that are no longer true.
        profile_fields: those that had a value.
        last_session: whether there was a gist of the last session.
        deleted: number of slots that were deleted.
    """

    memory_types: Sequence[str]
    profile_fields: Sequence[str]
    last_session: bool
    deleted: int = 0

    def __bool__(self) -> bool:
        return bool(self.memory_types or self.profile_fields or self.last_session)


async def forget(
    people: People,
    scope: UserScope,
    labels: Sequence[str] | None = None,
    *,
    fields: Sequence[str] = (),
    at: datetime | None = None,
    unless_newer: bool = False,
    calls: bool = True,
) -> int:
    """Forget slots and profile fields, and in any case the last session's gist, which could contain them.

    Args:
        people: the store.
        scope: the person.
        labels: which slots, with their history; None for all.
        fields: all of `PROFILE_FIELDS`, which includes those of one's own, or any.
        at: when the person asked for it; by default now. Nothing said before is stored later.
        unless_newer: keep slots written after `at`.
        calls: also delete the summaries of calls that share a word with them.

    Returns:
        How many slots were deleted.

    Raises:
        InvalidTextError: not a valid label; nothing was forgotten.
    """
    at = at or now()
    names = None if labels is None else [slot_name(label) for label in labels]
    suggestions = Learnings(people.db)
    if names is not None and not names:
        await asyncio.gather(
            people.users.forget(scope, fields, at=at),
            suggestions.forget(scope, names, at),
            people.history.delete_offered_fields(scope, fields, not_after=at),
        )
        return 0
    if not (calls or unless_newer):
        # A caller waits, in a session that tries all of it again if a part fails: two round trips. The history goes
        # behind the slots, from which it may just be moved.
        deleted, _ = await asyncio.gather(
            people.memories.delete(scope, names), people.users.forget(scope, fields, at=at)
        )
        await asyncio.gather(people.history.delete(scope, names), suggestions.forget(scope, names, at))
        return deleted
    limit = at if unless_newer else None
    # The slots last: what they say is needed to find it in summaries, also by the next attempt if this one fails.
    told, *_ = await asyncio.gather(
        _told(people, scope, names if calls else []),
        people.users.forget(scope, fields, at=at),
        people.history.withdraw(scope, names, not_after=limit),
        suggestions.forget(scope, names, at),
    )
    if calls:
        await people.summaries.forget(scope, told, before=limit)
    deleted, _ = await asyncio.gather(
        people.memories.delete(scope, names, not_after=limit), people.history.delete(scope, names, not_after=limit)
    )
    return deleted


async def _told(people: People, scope: UserScope, labels: Sequence[str] | None) -> list[str] | None:
    """The labels in words, and all that these slots say and said; None for everything."""
    if labels is None:
        return None
    slots, former = await asyncio.gather(
        asyncio.gather(*(people.memories.recall(scope, label) for label in labels)),
        asyncio.gather(*(people.history.former(scope, label) for label in labels)),
    )
    contents = [slot.content for slot in slots if slot] + [each.content for found in former for each in found]
    return [*map(slot_words, labels), *contents]


async def forget_known(
    people: People,
    scope: UserScope,
    labels: Sequence[str] | None = None,
    *,
    profile: bool = False,
    dry_run: bool = False,
    confirm: Callable[[Forgotten], Awaitable[None] | None] = lambda _: None,
) -> Forgotten:
    """As `forget`, of a known person, after `confirm` was called with what will be forgotten, unless that is nothing.

    It raises to prevent it. Without labels, the time is noted for an unknown person, too, so that nothing of theirs
    that waits on a worker's disk is stored later. A dry run changes nothing.

    Raises:
        NotFoundError: nobody has that id, or they do not have such a slot.
        InvalidTextError: not a valid label.
    """
    names = None if labels is None else list(dict.fromkeys(map(slot_name, labels)))
    slots, former = await asyncio.gather(people.memories.slots(scope), people.history.former(scope))
    known_labels = dict.fromkeys([slot.memory_type for slot in slots] + [each.memory_type for each in former])
    if not known_labels and not await is_known(people.db, scope):
        if names is not None or dry_run:
            raise await unknown_person(people.db, scope)
        await forget(people, scope)
        raise await unknown_person(people.db, scope, why=NOT_STORED_LATER)
    if missing := [name for name in names or [] if name not in known_labels]:
        raise no_memory(scope, ", ".join(missing))
    known = await people.users.get(scope)
    values = known.values if known and profile else {}
    found = Forgotten(
        list(known_labels) if names is None else names,
        list(values),
        last_session=known is not None and known.last_session is not None,
    )
    if dry_run:
        return found
    if found:
        await answered(confirm(found))
    # Even if nothing was found: a session in progress must not store what was said before.
    return replace(found, deleted=await forget(people, scope, names, fields=PROFILE_FIELDS if profile else ()))


async def forget_line(people: People, scope: UserScope, kind: str, name: str) -> None:
    """Forget one of the `lines` that a person sees of themselves.

    Raises:
        NotFoundError: there is no such line.
        InvalidTextError: not a valid label.
    """
    if kind == "memory":
        was_there: object = await forget(people, scope, [name])
    elif kind == "commitment":
        was_there = await people.summaries.drop_commitment(scope, name)
    else:
        profile = await people.users.get(scope) or Profile(scope)
        was_there = profile.last_session if name == LAST_SESSION else profile.values.get(name)
        if was_there:
            await forget(people, scope, [], fields=[] if name == LAST_SESSION else [name])
        if name == LAST_SESSION and profile.last_session and profile.last_session.session_id:
            await people.summaries.drop(scope, [profile.last_session.session_id])
    if not was_there:
        raise NotFoundError(NOT_THERE)


async def forget_everything(people: People, scope: UserScope) -> int:
    """Forget all `lines` of a person; returns how many there were."""
    about, slots = await asyncio.gather(about_lines(people, scope), people.memories.count(scope))
    await forget(people, scope, fields=PROFILE_FIELDS)
    return len(about) + slots
