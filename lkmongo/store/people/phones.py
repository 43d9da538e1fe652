"""Telephone numbers of people: who has which number, by a keyed hash of it.

There are few enough numbers to try them all, so the hash is made with the erasure key, which the database does not
hold: whoever has the database or a dump can neither read a number nor look one up. It is made with the tenant as well,
so that a number is another one in another tenant. Staff tell the numbers of a person apart by their last two digits.

A number may be several people's, and a person may have several.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import SettingsError
from lkmongo.model import TenantScope, UserScope, now
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.client import Client
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.mongo.schema import PHONES, STAMP
from lkmongo.store.people.users import COUNTED

Document = dict[str, Any]
By = Literal["call", "staff", "program"]
"""Who linked a number to a person: a call from it, somebody at the command line, or a program."""

_USE = "phone"


class NoPhoneKeyError(SettingsError):
    """Telephone numbers and PINs need LKMONGO_ERASURE_KEY, which is not set."""

    code = "no_phone_key"

    def __init__(self) -> None:
        super().__init__(
            why="they are stored as hashes under a key that the database does not hold",
            hint="set it to one secret of at least 32 characters on every machine: openssl rand -hex 32",
        )


def phone_key(db: AsyncDatabase[Document]) -> ErasureKey:
    """The key for numbers and PINs of this database.

    Raises:
        NoPhoneKeyError: this process has none, or only the file of an embedded mongod, which other machines lack.
    """
    key = db.client.erasure_key if isinstance(db.client, Client) else None
    if key is None or not key.is_set:
        raise NoPhoneKeyError
    return key


def phone_hash(key: ErasureKey, tenant: TenantScope, number: PhoneNumber) -> str:
    """What is stored in place of a number: the id of the key, and 64 hexadecimal digits."""
    return f"{key.id}.{key.sign(_USE, json.dumps([tenant.tenant_id, number.text]).encode())}"


@dataclass(frozen=True, slots=True)
class PhoneLink:
    """That a number is a person's.

    Attributes:
        tenant_id, user_id: whose number it is.
        phone_hash: the keyed hash of the number.
        last_digits: the last two, for staff.
        linked_at: since when.
        last_seen_at: when it was last used: called from, or linked again.
        by: who linked it.
    """

    tenant_id: str
    user_id: str
    phone_hash: str
    last_digits: str
    linked_at: datetime
    last_seen_at: datetime
    by: By

    @property
    def scope(self) -> UserScope:
        return UserScope(tenant_id=self.tenant_id, user_id=self.user_id)

    def lapsed(self, recycled_after: timedelta, at: datetime) -> bool:
        """Whether it was not used for so long that the number may be somebody else's by now."""
        return at - self.last_seen_at > recycled_after


class Phones:
    """The collection `phones`.

    Methods that take a number raise NoPhoneKeyError without a key, and all of them DatabaseError. In a call, write
    within the session's lease, as for all that is the person's: an erasure then sees it.
    """

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        """Use the erasure key that the database's client has by the time it is needed."""
        self._db = db
        self._phones = db[PHONES]

    async def of_number(self, tenant: TenantScope | str, number: PhoneNumber) -> list[PhoneLink]:
        """Whose number it is in the tenant, the one that used it last first; also links that have lapsed."""
        tenant = TenantScope(tenant) if isinstance(tenant, str) else tenant
        return await self._find(tenant.filter | self._hash(tenant, number))

    async def of_person(self, scope: UserScope) -> list[PhoneLink]:
        """The person's numbers, the one that was used last first."""
        return await self._find(scope.filter)

    async def page(self, tenant: TenantScope, *, after: str | None = None, limit: int = 50) -> list[PhoneLink]:
        """Links of a tenant ordered by the person's id, and those of one person by when they were linked.

        Args:
            tenant: whose people.
            after: start after this id.
            limit: how many at most, without those of a person who does not fit in; all of theirs if they are the first.
        """
        selector: Document = dict(tenant.filter) | ({} if after is None else {"user_id": {"$gt": after}})

        async def find() -> list[PhoneLink]:
            cursor = self._phones.find(selector).sort([("user_id", 1), ("linked_at", 1), ("_id", 1)]).limit(limit + 1)
            return [_link(document) async for document in cursor]

        found = await operations.read(find)
        if len(found) <= limit:
            return found
        whole = [each for each in found if each.user_id != found[-1].user_id]
        return whole or await self.of_person(found[0].scope)

    async def count(self, tenant: TenantScope) -> int:
        """How many links the tenant's people have; at most `COUNTED` + 1."""
        return await operations.read(lambda: self._phones.count_documents(tenant.filter, limit=COUNTED + 1))

    async def link(self, scope: UserScope, number: PhoneNumber, *, by: By, at: datetime | None = None) -> bool:
        """Note that the number is the person's, at a time that is by default now.

        Returns:
            False if it was theirs already, which renews when it was last used.
        """
        hashed = self._hash(scope.tenant, number)["phone_hash"]
        return await self.note(scope, hashed, number.last_digits, by=by, at=at or now())

    async def note(self, scope: UserScope, hashed: str, last_digits: str, *, by: By, at: datetime) -> bool:
        """As `link`, for a number of which only the hash is known."""
        selector = scope.filter | {"phone_hash": hashed}
        update = {
            "$setOnInsert": {"last_digits": last_digits, "linked_at": at, "by": by} | STAMP,
            "$max": {"last_seen_at": at},
        }

        async def upsert() -> bool:
            return (await self._phones.update_one(selector, update, upsert=True)).upserted_id is not None

        return await operations.upsert(upsert)

    async def drop(self, scope: UserScope, hashed: str) -> int:
        """Take a number from the person of which only the hash is known; returns whether it was theirs."""
        selector = scope.filter | {"phone_hash": hashed}
        return (await operations.write(lambda: self._phones.delete_one(selector))).deleted_count

    async def unlink(
        self, scope: UserScope, number: PhoneNumber | None = None, *, last_digits: str | None = None
    ) -> int:
        """Take a number from the person, or those that end in `last_digits`, or all of theirs; returns how many."""
        selector: Document = dict(scope.filter)
        if number is not None:
            selector |= self._hash(scope.tenant, number)
        if last_digits is not None:
            selector["last_digits"] = last_digits
        return (await operations.write(lambda: self._phones.delete_many(selector))).deleted_count

    async def seen(self, scope: UserScope, number: PhoneNumber, at: datetime | None = None) -> None:
        """Note that the person used the number, if it is theirs; by default now."""
        selector = scope.filter | self._hash(scope.tenant, number)
        change = {"$max": {"last_seen_at": at or now()}}
        await operations.write(lambda: self._phones.update_one(selector, change))

    async def under_another_key(self) -> int:
        """How many links were made with another key than this process has: no number leads to them any more."""
        ours = {"$regex": rf"^{phone_key(self._db).id}\."}
        return await operations.read(lambda: self._phones.count_documents({"phone_hash": {"$not": ours}}))

    def _hash(self, tenant: TenantScope, number: PhoneNumber) -> Document:
        return {"phone_hash": phone_hash(phone_key(self._db), tenant, number)}

    async def _find(self, selector: Document) -> list[PhoneLink]:
        async def find() -> list[PhoneLink]:
            cursor = self._phones.find(selector).sort([("last_seen_at", -1), ("_id", -1)])
            return [_link(document) async for document in cursor]

        return await operations.read(find)


def _link(document: Document) -> PhoneLink:
    return PhoneLink(**{name: document[name] for name in PhoneLink.__slots__})
