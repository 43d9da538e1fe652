"""The audit trail: which operator read or changed whose data with which command, when and why; no content.

Entries are only ever added. Each is numbered and sealed (HMAC-SHA256, `person_hash`) together with the seal of the one
before, so a changed entry, a gap or a forged one shows. Several writers at once try for the same number, and one gets
it. An entry names the person by the keyed hash of their id, never by the id: erasing them changes no entry, and names
nobody afterwards. Old entries are deleted together with a signed checkpoint, from which the trail goes on.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from lkmongo.errors import DatabaseError, InvalidTextError
from lkmongo.model import UserScope, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import AUDIT, AUDIT_CHECKPOINTS, USERS
from lkmongo.store.people.person_hash import Hashing, PersonHashes, check_note

Document = dict[str, Any]

GENESIS = "0" * 64
"""What the first entry has as the seal of the one before."""
THEMSELVES = "themselves"
"""The operator of an entry about a person whose id is the operator's name: the id must not stand beside its hash."""
_ATTEMPTS = 200
BATCH = 1_000
"""Entries that are read at a time."""
NUMBERED: Document = {"_id": {"$gt": 0}}


@dataclass(frozen=True, slots=True)
class Entry:
    """What one command did.

    Attributes:
        number: counts from 1 without gaps.
        at: when, by the clock of the operator's machine.
        operator: who.
        action: the command, such as "memory list".
        tenant_id: whose tenant; None for all of them.
        subject: the keyed hash of the person's id; None if it was about many.
        reason: why, in the operator's words.
        counts: documents that were read or changed, by kind.
        key: the id of the key that sealed it, or "database".
        previous_hash: the seal of the entry before.
        hash: its own seal.
    """

    number: int
    at: datetime
    operator: str
    action: str
    tenant_id: str | None
    subject: str | None
    reason: str | None
    counts: Mapping[str, int]
    key: str
    previous_hash: str
    hash: str = ""

    def sealed_by(self, hashing: Hashing) -> str:
        """The seal that it should have; empty if the key is not here."""
        content = [getattr(self, each.name) for each in fields(self) if each.name not in {"at", "counts", "hash"}]
        content += [self.at.isoformat(timespec="milliseconds"), sorted(self.counts.items())]
        return hashing.sign(self.key, "audit", json.dumps(content).encode())


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries: of one tenant and those about all tenants, of one person, of one operator, of a time."""

    tenant_id: str | None = None
    scope: UserScope | None = None
    operator: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to which entry the trail was deleted.

    Attributes:
        number: of the last deleted entry.
        hash: its seal, which the next entry continues.
        at: when.
        problems: what verifying found in the deleted entries.
        key: the id of the key that signed it, or "database".
        signature: of all this.
    """

    number: int
    hash: str
    at: datetime
    problems: int
    key: str
    signature: str = ""

    def signed_by(self, hashing: Hashing) -> str:
        """The signature that it should have; empty if the key is not here."""
        content = [self.number, self.hash, self.at.isoformat(timespec="milliseconds"), self.problems, self.key]
        return hashing.sign(self.key, "audit checkpoint", json.dumps(content).encode())


class Audit:
    """The collection `audit`."""

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        self._db = db
        self._entries = db[AUDIT]
        self._checkpoints = db[AUDIT_CHECKPOINTS]
        self._hashes = PersonHashes(db)

    async def write(
        self,
        *,
        operator: str,
        action: str,
        tenant_id: str | None,
        scope: UserScope | None = None,
        reason: str | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> Entry:
        """Add an entry; `scope` is the person it is about, if it is one.

        Raises:
            InvalidTextError: the reason is too long, or names the person.
            DatabaseError, AuthenticationError: it could not be written.
        """
        reason = None if reason is None else check_note("reason", reason, scope)
        try:
            operator = check_note("operator", operator, scope)
        except InvalidTextError:
            operator = THEMSELVES
        hashing = await self._hashes.made()
        subject = hashing.forms(scope)[0] if scope else None
        for attempt in range(_ATTEMPTS):
            number, previous = await self._last()
            entry = Entry(
                number + 1,
                now(),
                operator,
                action,
                tenant_id,
                subject,
                reason,
                dict(counts or {}),
                hashing.key_id,
                previous,
            )
            if await self._insert(stored := replace(entry, hash=entry.sealed_by(hashing))):
                return stored
            await asyncio.sleep(random.uniform(0, 0.002 * min(attempt + 1, 50)))  # noqa: S311
        raise DatabaseError("the audit trail is busy", hint="try again")

    async def _insert(self, entry: Entry) -> bool:
        """Insert it; False if another writer got its number."""
        document = {each.name: getattr(entry, each.name) for each in fields(entry)}
        document["_id"] = document.pop("number")

        async def insert() -> bool:
            try:
                await self._entries.insert_one(document)
            except DuplicateKeyError:
                return False
            return True

        return await operations.write(insert)

    async def _last(self) -> tuple[int, str]:
        """Number and seal of the last entry."""
        last = await operations.read(lambda: self._entries.find_one(NUMBERED, {"hash": 1}, sort=[("_id", -1)]))
        if last:
            return last["_id"], last["hash"]
        checkpoint = await self.checkpoint()
        return (checkpoint.number, checkpoint.hash) if checkpoint else (0, GENESIS)

    async def newest(self, wanted: AuditFilter, *, limit: int = 50) -> list[Entry]:
        """The newest entries first; for one person those that name them, not what was read of many at once."""
        selector = await self._selector(wanted)
        found = await operations.read(lambda: self._entries.find(selector).sort("_id", -1).limit(limit).to_list())
        return [entry_of(each) for each in found]

    async def all(self, wanted: AuditFilter) -> AsyncIterator[Entry]:
        """Every entry, oldest first."""
        async for batch in operations.read_in_batches(self._entries, await self._selector(wanted), None, BATCH):
            for document in batch:
                yield entry_of(document)

    async def _selector(self, wanted: AuditFilter) -> Document:
        selector: Document = dict(NUMBERED)
        if wanted.scope:
            hashing = await self._hashes.known()
            selector["subject"] = {"$in": hashing.forms(wanted.scope) if hashing else ()}
        elif wanted.tenant_id is not None:
            selector["tenant_id"] = {"$in": [wanted.tenant_id, None]}
        if wanted.operator is not None:
            selector["operator"] = wanted.operator
        if wanted.since or wanted.until:
            selector["at"] = {"$gte": wanted.since} if wanted.since else {}
            selector["at"] |= {"$lt": wanted.until} if wanted.until else {}
        return selector

    async def names(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The ids of those persons among the subjects who are still known, by hash."""
        wanted: dict[str, set[str]] = {}
        for each in entries:
            if each.tenant_id is not None and each.subject is not None:
                wanted.setdefault(each.tenant_id, set()).add(each.subject)
        found: dict[str, str] = {}
        if not wanted or (hashing := await self._hashes.known()) is None:
            return found
        for tenant_id, left in wanted.items():

            async def look(tenant_id: str = tenant_id, left: set[str] = left) -> None:
                cursor = self._db[USERS].find({"tenant_id": tenant_id}, {"user_id": 1, "_id": 0})
                async for person in cursor:
                    scope = UserScope(tenant_id=tenant_id, user_id=person["user_id"])
                    for form in left.intersection(hashing.forms(scope)):
                        found[form] = scope.user_id
                    if left <= found.keys():
                        return

            await operations.read(look)
        return found

    async def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        found = await operations.read(lambda: self._checkpoints.find_one(NUMBERED, sort=[("_id", -1)]))
        if found is None:
            return None
        values: Document = {each.name: found.get(each.name) for each in fields(Checkpoint)}
        return Checkpoint(**values | {"number": found["_id"]})


def entry_of(document: Mapping[str, Any]) -> Entry:
    """The entry that a document holds; values of a document that lkmongo did not write may be anything."""
    values: Document = {each.name: document.get(each.name) for each in fields(Entry)}
    return Entry(**values | {"number": document["_id"]})
