"""What staff and programs see and change of the numbers that people call from, and of their PINs.

A number is given, never shown: of what is stored, only the last two digits can be read.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from lkmongo.aio import answered
from lkmongo.errors import NotFoundError, UsageError
from lkmongo.model import DEFAULT_TENANT, TenantScope, UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.people.person import People, require_known
from lkmongo.store.people.phones import By, PhoneLink, Phones
from lkmongo.store.people.pins import PinError, Pins, check_pin
from lkmongo.trust import Level


class Callers(People, Protocol):
    """The parts of a `Store` that know of callers by telephone."""

    @property
    def phones(self) -> Phones: ...
    @property
    def pins(self) -> Pins: ...


@dataclass(frozen=True, slots=True)
class KnownNumber:
    """A number that is linked to a person.

    Attributes:
        link: whose it is, its last digits, since when, by whom, and when it was last used.
        lapsed: whether it was not used for so long that whoever calls from it counts as new.
        has_pin: whether the person has a PIN.
        locked_until: until when no PIN is taken in a call from it, after too many wrong ones.
    """

    link: PhoneLink
    lapsed: bool
    has_pin: bool
    locked_until: datetime | None

    @property
    def level(self) -> Level | None:
        """What the number alone makes of a caller; None if it has lapsed."""
        return None if self.lapsed else Level.RECOGNISED

    @property
    def can_reach(self) -> Level | None:
        """What the person can become in a call from it; without a PIN no more than named, unless a hook verifies.

        None if it has lapsed.
        """
        if self.lapsed:
            return None
        return Level.VERIFIED if self.has_pin else Level.NAMED


@dataclass(frozen=True, slots=True)
class KnownNumbers:
    """A page of numbers, and how many there are in all."""

    numbers: Sequence[KnownNumber]
    total: int


@dataclass(frozen=True, slots=True)
class Linked:
    """What linking did, or would do.

    Attributes:
        changed: whether the number was not linked to the person before.
        others: the ids of those who have the same number; a caller from it is asked who is calling.
    """

    changed: bool
    others: Sequence[str]


async def numbers_of(
    callers: Callers, scope: UserScope, *, recycled_after: timedelta, at: datetime | None = None
) -> list[KnownNumber]:
    """The numbers of a known person, the one that was used last first.

    Args:
        callers: the store.
        scope: the person.
        recycled_after: how long a number may be unused before it has lapsed.
        at: the time at which it has; by default now.

    Raises:
        NotFoundError: nothing is stored about the person.
    """
    links = await callers.phones.of_person(scope)
    if not links:
        await require_known(callers.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
    return await _known(callers, links, recycled_after, at)


async def list_links(
    callers: Callers,
    tenant: TenantScope,
    *,
    recycled_after: timedelta,
    after: str | None = None,
    limit: int = 50,
    at: datetime | None = None,
) -> KnownNumbers:
    """A page of the numbers of a tenant's people, ordered by id; the numbers of one person are on one page.

    Args:
        callers: the store.
        tenant: whose people.
        recycled_after: as in `numbers_of`.
        after: start after this id.
        limit: how many at most; more only if one person has more.
        at: as in `numbers_of`.
    """
    links, total = await asyncio.gather(
        callers.phones.page(tenant, after=after, limit=limit), callers.phones.count(tenant)
    )
    return KnownNumbers(await _known(callers, links, recycled_after, at), total)


async def lookup(
    callers: Callers,
    tenant: TenantScope,
    number: PhoneNumber,
    *,
    recycled_after: timedelta,
    at: datetime | None = None,
) -> list[KnownNumber]:
    """Whose number it is in a tenant, the one who used it last first; the rest is as in `numbers_of`.

    Raises:
        NoPhoneKeyError: there is no key by which numbers are found.
    """
    return await _known(callers, await callers.phones.of_number(tenant, number), recycled_after, at)


async def _known(
    callers: Callers, links: Sequence[PhoneLink], recycled_after: timedelta, at: datetime | None
) -> list[KnownNumber]:
    moment, of_links = at or now(), await callers.pins.of_links(links)
    return [
        KnownNumber(link, link.lapsed(recycled_after, moment), has_pin, locked_until)
        for link, (has_pin, locked_until) in zip(links, of_links, strict=True)
    ]


async def link_known(
    callers: Callers, scope: UserScope, number: PhoneNumber, *, by: By, new: bool = False, dry_run: bool = False
) -> Linked:
    """Link a number to a person; one that is linked already counts as used now. A dry run changes nothing.

    Args:
        callers: the store.
        scope: the person.
        number: theirs, and perhaps others'.
        by: who links it.
        new: also to a person of whom nothing is stored yet.
        dry_run: change nothing.

    Raises:
        NotFoundError: nothing is stored about the person, who is not `new`.
        NoPhoneKeyError: there is no key by which numbers are found.
    """
    have = {each.user_id for each in await callers.phones.of_number(scope.tenant, number)}
    if not new:
        await require_known(callers.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
    changed, others = scope.user_id not in have, sorted(have - {scope.user_id})
    if not dry_run:
        changed = await callers.phones.link(scope, number, by=by)
    return Linked(changed, others)


async def unlink_known(
    callers: Callers,
    scope: UserScope,
    number: PhoneNumber | None = None,
    *,
    last_digits: str | None = None,
    dry_run: bool = False,
    confirm: Callable[[Sequence[PhoneLink]], Awaitable[None] | None] = lambda _: None,
) -> list[PhoneLink]:
    """Take a number from a person, or those that end in `last_digits`, or all of theirs; returns which.

    `confirm` is called before, and raises to prevent it. A dry run changes nothing.

    Raises:
        NotFoundError: the person is unknown, or no such number is linked to them.
        NoPhoneKeyError: there is no key by which numbers are found.
        UsageError: `last_digits` are not two digits.
    """
    if last_digits is not None and not re.fullmatch(r"[0-9]{2}", last_digits, re.ASCII):
        raise UsageError("the last digits are two digits", hint="see them: lkmongo phone list USER")
    links = await callers.phones.of_person(scope)
    if number is not None:
        hashes = {each.phone_hash for each in await callers.phones.of_number(scope.tenant, number)}
        links = [each for each in links if each.phone_hash in hashes]
    elif last_digits is not None:
        links = [each for each in links if each.last_digits == last_digits]
    if not links:
        await require_known(callers.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
        raise _no_number(scope, number.last_digits if number else last_digits)
    if dry_run:
        return links
    await answered(confirm(links))
    await callers.phones.unlink(scope, number, last_digits=last_digits)
    return links


async def set_pin(callers: Callers, scope: UserScope, pin: str, *, by: By, dry_run: bool = False) -> bool:
    """Set the PIN of a known person, and let them try it at once; returns whether they had another.

    Raises:
        NotFoundError: nothing is stored about the person.
        PinError: it is no PIN, or one that is guessed first. The message does not have it.
        NoPhoneKeyError: there is no key to store it under.
    """
    check_pin(pin)
    await require_known(callers.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
    had_one = await callers.pins.has(scope)
    if not dry_run:
        await callers.pins.set(scope, pin, by=by)
    return had_one


async def clear_pin(
    callers: Callers,
    scope: UserScope,
    *,
    dry_run: bool = False,
    confirm: Callable[[], Awaitable[None] | None] = lambda: None,
) -> bool:
    """Remove the PIN of a known person; returns whether there was one.

    `confirm` is called before if there is, and raises to prevent it. A dry run changes nothing.

    Raises:
        NotFoundError: nothing is stored about the person.
    """
    await require_known(callers.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
    if not await callers.pins.has(scope):
        return False
    if dry_run:
        return True
    await answered(confirm())
    return await callers.pins.clear(scope)


async def unlock_pin(callers: Callers, scope: UserScope) -> bool:
    """Let a known person try their PIN again now, from any of their numbers; returns whether there were attempts.

    Raises:
        NotFoundError: nothing is stored about the person.
    """
    await require_known(callers.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
    return await callers.pins.unlock(scope, await callers.phones.of_person(scope))


def new_pin() -> str:
    """A PIN of six digits that nobody guesses first."""
    while True:
        with suppress(PinError):
            return check_pin(f"{secrets.randbelow(10**6):06d}")


def _no_number(scope: UserScope, last_digits: str | None) -> NotFoundError:
    """The error for a number that is not linked to a known person."""
    tenant = "" if scope.tenant_id == DEFAULT_TENANT else f" --tenant {shlex.quote(scope.tenant_id)}"
    which = "no number" if last_digits is None else f"no number that ends in {last_digits}"
    return NotFoundError(
        f"{which} is linked to {scope.user_id} in tenant {scope.tenant_id}",
        hint=f"lkmongo phone list {shlex.quote(scope.user_id)}{tenant}",
    )
