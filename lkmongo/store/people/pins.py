"""PINs by which callers prove who they are: set, verified, and counted, so that none can be found by trying.

A PIN is the person's, whichever number they call from. What is stored is scrypt over an HMAC of it under the erasure
key: four digits are tried in no time, but not without the key, which neither the database nor a dump holds.

Each attempt is stored before anything is compared, and then counted: by the person, whoever calls, and by the number,
whomever it calls for. The sixth within an hour is not compared, so attempts at the same time gain nothing: of those
that are compared each has seen all that were compared before it. Times are by the server's clock, and an attempt is
gone after an hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import InvalidTextError
from lkmongo.model import UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.mongo.schema import PHONE_ATTEMPTS, PINS, STAMP
from lkmongo.store.people.person_hash import WrongKeyError
from lkmongo.store.people.phones import By, PhoneLink, phone_hash, phone_key

logger = logging.getLogger(__name__)

Document = dict[str, Any]
PinResult = Literal["right", "wrong", "locked", "none"]
"""What came of an attempt: `locked` is not compared, for there were too many; `none` means that no PIN is set."""

ATTEMPTS = 5
"""How many within `LOCKED_FOR` are compared, of a person and from a number."""
LOCKED_FOR = timedelta(hours=1)
_PIN = re.compile(r"[0-9]{4,8}")
_COST = {"n": 2**14, "r": 8, "p": 1}
"""Of scrypt: 16 MiB and some 50 ms, in a thread."""
_SALT, _DERIVED = 16, 32
_IS_RECENT: Document = {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}
"""MongoDB deletes what has expired only once a minute."""


class PinError(InvalidTextError):
    """That cannot be a PIN."""

    code = "invalid_pin"


@dataclass(frozen=True, slots=True)
class PinInfo:
    """What staff may know of a PIN.

    Attributes:
        set_at: since when it is set.
        by: who set it: the caller in a verified call, staff, or a program.
        last_used_at: when it was last entered, and right; at first when it was set.
    """

    set_at: datetime
    by: By
    last_used_at: datetime


def check_pin(pin: str) -> str:
    """The PIN, if it may be one.

    Raises:
        PinError: it does not have 4 to 8 digits, or is what is tried first; the message does not repeat it.
    """
    if not _PIN.fullmatch(pin):
        raise PinError("a PIN has 4 to 8 digits, and nothing else")
    steps = {(int(after) - int(digit)) % 10 for digit, after in itertools.pairwise(pin)}
    if (len(steps) == 1 and steps <= {0, 1, 9}) or pin[2:] == pin[:-2]:
        raise PinError(
            "that PIN is too easy to guess",
            hint="take one that neither repeats a digit or a pair nor counts up or down",
        )
    return pin


class Pins:
    """The PINs of people, in the collection `pins`, and the attempts at them, in `phone_attempts`.

    Methods that take a PIN raise NoPhoneKeyError without an erasure key, and all of them DatabaseError. In a call, set
    one within the session's lease, as all that is the person's.
    """

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        """Use the erasure key that the database's client has by the time it is needed."""
        self._db = db
        self._pins = db[PINS]
        self._attempts = db[PHONE_ATTEMPTS]

    async def set(self, scope: UserScope, pin: str, *, by: By) -> None:
        """Set the person's PIN, in place of one they have, and end their lock-out.

        Raises:
            PinError: see `check_pin`.
        """
        key, salt, moment = phone_key(self._db), secrets.token_bytes(_SALT), now()
        derived = await asyncio.to_thread(_derive, key, check_pin(pin), salt, _COST)
        fields: Document = {"key": key.id, "salt": salt, "cost": _COST, "derived": derived}
        fields |= {"set_at": moment, "by": by, "last_used_at": moment}

        async def replace() -> bool:
            await self._pins.update_one(scope.filter, {"$set": fields, "$setOnInsert": STAMP}, upsert=True)
            return True

        await operations.upsert(replace)
        await self._forget_attempts(scope)

    async def clear(self, scope: UserScope) -> bool:
        """Delete the person's PIN, and their attempts at it; returns whether they had one."""
        deleted = await operations.write(lambda: self._pins.delete_one(scope.filter))
        await self._forget_attempts(scope)
        return deleted.deleted_count == 1

    async def has(self, scope: UserScope) -> bool:
        """Whether the person has a PIN."""
        return await self.info(scope) is not None

    async def info(self, scope: UserScope) -> PinInfo | None:
        """Since when the person has a PIN, and by whom; None if they have none."""
        shown = {"_id": 0, "set_at": 1, "by": 1, "last_used_at": 1}
        document = await operations.read(lambda: self._pins.find_one(scope.filter, shown))
        return PinInfo(**document) if document else None

    async def verify(self, scope: UserScope, number: PhoneNumber | None, pin: str) -> PinResult:
        """Compare what a caller has entered with the person's PIN, unless there were too many attempts.

        A right one takes back the person's attempts, from any number; what the number tried of others still counts.

        Args:
            scope: whose PIN it would be.
            number: what they call from; None if that is not known.
            pin: what was entered.

        Raises:
            WrongKeyError: the PIN was set with another erasure key than this process has.
        """
        key = phone_key(self._db)
        document = await operations.read(lambda: self._pins.find_one(scope.filter))
        if document is None:
            return "none"
        if document["key"] != key.id:
            raise WrongKeyError(
                "LKMONGO_ERASURE_KEY is not that with which the PIN was set",
                hint="set it to the same key on every machine, or set the PIN again",
            )
        attempt, counted = await self._attempt(key, scope, number)
        if counted > ATTEMPTS:
            await operations.write(lambda: self._attempts.delete_one({"_id": attempt} | scope.filter))
            _warn()
            return "locked"
        derived = await asyncio.to_thread(_derive, key, pin, document["salt"], document["cost"])
        if not hmac.compare_digest(derived, document["derived"]):
            if counted == ATTEMPTS:
                _warn()
            return "wrong"
        used = {"$max": {"last_used_at": now()}}
        await operations.write(lambda: self._pins.update_one(scope.filter | {"_id": document["_id"]}, used))
        await self._forget_attempts(scope)
        return "right"

    async def lock(self, scope: UserScope, number: PhoneNumber | None = None) -> datetime | None:
        """Until when no PIN of the person is compared, or none from the number if one is given; None if it is."""
        of = [scope.filter]
        if number is not None:
            of.append(scope.tenant.filter | {"phone_hash": phone_hash(phone_key(self._db), scope.tenant, number)})
        until = [await self._locked_until(selector) for selector in of]
        return max((each for each in until if each), default=None)

    async def of_links(self, links: Sequence[PhoneLink]) -> list[tuple[bool, datetime | None]]:
        """Of each link of a tenant: whether the person has a PIN, and until when none is compared in a call from it."""
        if not links:
            return []
        tenant, users = links[0].scope.tenant.filter, sorted({each.user_id for each in links})
        hashes = [each.phone_hash for each in links]
        either = {"$or": [{"user_id": {"$in": users}}, {"phone_hash": {"$in": hashes}}]}
        shown = {"_id": 0, "user_id": 1, "phone_hash": 1, "expires_at": 1}

        async def find_people() -> list[Document]:
            return await self._pins.find(tenant | {"user_id": {"$in": users}}, {"_id": 0, "user_id": 1}).to_list()

        async def find_attempts() -> list[Document]:
            return await self._attempts.find(tenant | either | _IS_RECENT, shown).sort("expires_at", -1).to_list()

        people, attempts = await asyncio.gather(operations.read(find_people), operations.read(find_attempts))
        have = {each["user_id"] for each in people}
        return [(link.user_id in have, _locked_until(attempts, link)) for link in links]

    async def unlock(self, scope: UserScope, links: Sequence[PhoneLink] = ()) -> bool:
        """Take back the person's attempts, and from their numbers what counts against these; returns whether any did.

        What was tried of others from these numbers still counts against the others' PINs.
        """
        hashes = [each.phone_hash for each in links]
        deleted = await self._forget_attempts(scope)
        selector = scope.tenant.filter | {"phone_hash": {"$in": hashes}}
        freed = await operations.write(lambda: self._attempts.update_many(selector, {"$unset": {"phone_hash": ""}}))
        return bool(deleted or freed.modified_count)

    async def _locked_until(self, selector: Mapping[str, Any]) -> datetime | None:
        """When the fifth last attempt expires, and the next may follow."""

        async def find() -> list[Document]:
            cursor = self._attempts.find({**selector, **_IS_RECENT}, {"expires_at": 1}).sort("expires_at", -1)
            return await cursor.limit(ATTEMPTS).to_list()

        found = await operations.read(find)
        return found[-1]["expires_at"] if len(found) == ATTEMPTS else None

    async def _attempt(self, key: ErasureKey, scope: UserScope, number: PhoneNumber | None) -> tuple[ObjectId, int]:
        """Store an attempt; returns its id, and how many there are of the person or from the number, if those are more.

        Stored first: of several at once, whichever counts last has seen all others.
        """
        attempt = ObjectId()
        hashed = phone_hash(key, scope.tenant, number) if number else None
        fields: Document = {"at": "$$NOW", "expires_at": {"$add": ["$$NOW", int(LOCKED_FOR.total_seconds() * 1000)]}}
        fields |= {name: {"$literal": value} for name, value in scope.filter.items()}
        if hashed:
            fields["phone_hash"] = {"$literal": hashed}
        await operations.write(lambda: self._attempts.update_one({"_id": attempt}, [{"$set": fields}], upsert=True))
        subjects: list[Document] = [{"user_id": scope.user_id}, *([{"phone_hash": hashed}] if hashed else [])]
        selector = scope.tenant.filter | {"$or": subjects} | _IS_RECENT

        async def find() -> list[Document]:
            return await self._attempts.find(selector, {"_id": 0, "user_id": 1, "phone_hash": 1}).to_list()

        found = await operations.read(find)
        return attempt, max(sum(subject.items() <= each.items() for each in found) for subject in subjects)

    async def _forget_attempts(self, scope: UserScope) -> int:
        return (await operations.write(lambda: self._attempts.delete_many(scope.filter))).deleted_count


def _locked_until(attempts: Sequence[Document], link: PhoneLink) -> datetime | None:
    """When the fifth last of the attempts, of the person or from the number, expires; `attempts` are latest first."""
    until: list[datetime] = []
    for field, value in (("user_id", link.user_id), ("phone_hash", link.phone_hash)):
        counted = [each["expires_at"] for each in attempts if each.get(field) == value]
        until += counted[ATTEMPTS - 1 : ATTEMPTS]
    return max(until, default=None)


def _derive(key: ErasureKey, pin: str, salt: bytes, cost: Mapping[str, int]) -> bytes:
    """What is stored of a PIN. Not made with the person's id, which a merge changes."""
    secret = key.sign("pin", pin.encode()).encode()
    return hashlib.scrypt(secret, salt=bytes(salt), dklen=_DERIVED, maxmem=2**28, **cost)


def _warn() -> None:
    logger.warning(
        "no PIN is taken from a caller for up to an hour, after %d attempts; lkmongo phone list says from whom, and "
        "phone pin --unlock lets them try again",
        ATTEMPTS,
    )
