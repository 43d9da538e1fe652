"""What people change themselves of what is remembered of them, on the talk page, and why it is remembered.

The same rules hold as when they tell it in a call. What they put back is what was there before, with where it was from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lkmongo import dates
from lkmongo.errors import ConsentError, DriftError, InvalidTextError, LimitError, NotFoundError, SecretError
from lkmongo.model import Fact, Profile, Source, UserScope, check_memory, now
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.memories import bytes_of
from lkmongo.store.people.person import LAST_SESSION, NOT_THERE, Line, People, memory_line, profile_line
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.people.users import check_profile_value, kept_profile_value
from lkmongo.store.sessions.own_calls import Exchange, exchange, exchange_at
from lkmongo.summary import stems
from lkmongo.tenants import Limits

By = Literal["call", "learned", "you", "staff", "imported", "unknown"]
"""Told in a call, learned from one after its end, written by the person on the page, entered by staff, imported."""
THEMSELVES = Source("told")
"""Where a fact comes from that its person has written on the page: of what is told in a call it has the session."""
FIELD_TOOL = "update_profile"
"""The tool with which a field of the profile is set in a call."""


@dataclass(frozen=True, slots=True)
class Why:
    """Where a line is from: `by` whom, since when, and what was said and answered, as far as that is kept."""

    by: By
    at: datetime | None
    exchange: Exchange


async def why_line(people: People, scope: UserScope, kind: str, name: str) -> Why:
    """Why one of the `lines` of a person is remembered.

    Raises:
        NotFoundError: there is no such line.
        InvalidTextError: not a valid label.
    """
    if kind == "memory":
        slot = await people.memories.recall(scope, name)
        if slot is None:
            raise NotFoundError(NOT_THERE)
        return await _why_memory(people, scope, slot)
    profile = await people.users.get(scope) or Profile(scope)
    if kind == "commitment":
        made = next((each for each in profile.commitments if each.id == name), None)
        if made is None:
            raise NotFoundError(NOT_THERE)
        found = await _session_of(people, scope, made.session_id)
        return Why("call" if made.session_id else "unknown", made.made_at, found)
    if name == LAST_SESSION and (last := profile.last_session):
        return Why("call", last.at, await _session_of(people, scope, last.session_id))
    if name not in profile.values:
        raise NotFoundError(NOT_THERE)
    at = await people.users.changed_at(scope, name)
    found = await exchange_at(people.db, scope, at, FIELD_TOOL) if at else Exchange()
    return Why("call" if found.session else "unknown", at, found)


async def _why_memory(people: People, scope: UserScope, slot: Fact) -> Why:
    source = slot.source
    if source is None or source.how in {"staff", "imported"}:
        by: By = "unknown" if source is None else "staff" if source.how == "staff" else "imported"
        return Why(by, slot.updated_at, Exchange())
    if source.session_id is None:
        return Why("you", slot.updated_at, Exchange())
    found = await exchange(people.db, scope, source.session_id, source.item_id)
    return Why("call" if source.how == "told" else "learned", found.at or slot.updated_at, found)


async def _session_of(people: People, scope: UserScope, session_id: str | None) -> Exchange:
    return await exchange(people.db, scope, session_id, None) if session_id else Exchange()


async def edit_line(
    people: People, scope: UserScope, kind: str, name: str, content: object, *, limits: Limits, asks: bool = False
) -> Line:
    """Let one of the `lines` of a person say this; repeating it changes nothing. One that they deleted is back then.

    A session in progress knows it from its next turn. What the last one was about is deleted if it tells what the line
    said before.

    Args:
        people: the store.
        scope: the person.
        kind: "memory" or "profile"; nothing else can be edited.
        name: of the line.
        content: what it says from now on.
        limits: how many memories they may have, and how much text in them.
        asks: nothing may be stored of who has not agreed to it.

    Raises:
        ConsentError: they have not.
        InvalidTextError: the name or the content is not valid, or it is more than they may have.
        SecretError: it is a secret, which must not be remembered.
        DriftError: something else has changed the line at the same time.
        NotFoundError: the person is being erased.
    """
    if kind not in {"memory", "profile"} or (kind, name) == ("profile", LAST_SESSION):
        raise InvalidTextError("that can be deleted, but not edited")
    profile = await people.users.get(scope) or Profile(scope)
    if asks and not (profile.consent and profile.consent.allows):
        raise ConsentError(why="nothing more is kept until they agree", hint="agree to it first")
    tombstones = Tombstones(people.db)
    before = await tombstones.get(scope)
    if kind == "memory":
        line = await _edit_memory(people, scope, profile, name, content, limits)
    else:
        line = await _edit_field(people, scope, profile, name, content)
    if await tombstones.get(scope) != before:  # this may have come behind the erasure
        await sweep_behind(people.db, scope, "")
        raise NotFoundError(NOT_THERE)
    return line


async def _edit_memory(
    people: People, scope: UserScope, profile: Profile, label: str, content: object, limits: Limits
) -> Line:
    name, text = check_memory(label, content)
    redactor = people.redaction.redactor(scope.tenant_id)
    text = redactor.fact(name, text)
    if redactor.find(label) != []:
        raise SecretError  # a label is stored as it is
    old = await people.memories.recall(scope, name)
    if old and old.content == text:
        return memory_line(old)
    if old and old.source == THEMSELVES:
        former = await people.history.former(scope, name)
        if former and former[0].content == text:  # they put back what they replaced
            await _drop_gist(people, scope, profile, old.content)
            undone = await people.history.undo(scope, name)
            if undone is None or undone.fact.content != text:
                raise DriftError(f"{name} was not stored", why="it has changed at the same time")
            return memory_line(undone.fact.told)
    at, zone = now(), profile.timezone
    memory = Fact(name, text, None, at, dates.start_in(text, at, zone), THEMSELVES, dates.resolve(text, at, zone))
    await _check_room(people, scope, old, memory, limits)
    if old:  # before, so that another attempt finds what was there if this one fails
        await _drop_gist(people, scope, profile, old.content)
    stored = await people.memories.remember(
        scope, name, text, at=at, valid_from=memory.valid_from, source=THEMSELVES, dates=memory.dates
    )
    await people.history.settle(scope, name)
    return memory_line(stored.told)


async def _check_room(people: People, scope: UserScope, old: Fact | None, memory: Fact, limits: Limits) -> None:
    """Raise LimitError if a memory is one too many of its person, or makes theirs too large."""
    if old is None and (there := await people.memories.count(scope)) >= limits.slots:
        raise LimitError(f"{there:,} things are remembered of you, and no more can be: delete one first")
    more = bytes_of(memory) - (bytes_of(old) if old else 0)
    if more > 0 and sum(map(bytes_of, await people.memories.contents(scope))) + more > limits.bytes:
        raise LimitError("there is no room for that beside what is remembered of you: use fewer words, or delete some")


async def _edit_field(people: People, scope: UserScope, profile: Profile, field: str, content: object) -> Line:
    text = check_profile_value(field, content)
    text = kept_profile_value(field, text, people.redaction.redactor(scope.tenant_id).fact)
    old = profile.values.get(field)
    if old != text:
        if old:
            await _drop_gist(people, scope, profile, old)
        text = await people.users.set_field(scope, field, text)
    return profile_line(field, text)


async def _drop_gist(people: People, scope: UserScope, profile: Profile, old: str) -> None:
    """Delete what the last session was about, and its summary, if they share a word with what is no longer true."""
    last = profile.last_session
    if last is None or not stems([old]) & stems([last.gist]):
        return
    await people.users.drop_gist(scope, last)
    if last.session_id:
        await people.summaries.drop(scope, [last.session_id])
