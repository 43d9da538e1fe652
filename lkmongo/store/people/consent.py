"""Consent that is given or withdrawn outside a call: on the talk page, or with staff."""

from __future__ import annotations

from typing import Protocol

from lkmongo.consent import By, Consent
from lkmongo.model import UserScope, now
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.learning import Learnings


class Consenting(Protocol):
    """The parts of a `Store` that know of consent."""

    @property
    def users(self) -> Users: ...
    @property
    def learning(self) -> Learnings: ...


async def agree(people: Consenting, scope: UserScope, by: By) -> Consent:
    """Note that a person agrees; a call of theirs that waits for it learns of it within two seconds."""
    consent = Consent("agreed", now(), by)
    await people.users.set_consent(scope, consent)
    return consent


async def refuse(people: Consenting, scope: UserScope, by: By) -> Consent | None:
    """Note that a person declines, or withdraws what they agreed to; None for somebody without a profile.

    Of such a person nothing is kept, not even that they declined. From then on nothing is stored of the others, nor
    learned from calls that are over; what is stored stays until it is erased.
    """
    profile = await people.users.get(scope)
    if profile is None:
        return None
    agreed = profile.consent is not None and profile.consent.state != "declined"
    consent = Consent("withdrawn" if agreed else "declined", now(), by)
    await people.users.set_consent(scope, consent)
    await people.learning.stop(scope)
    return consent
