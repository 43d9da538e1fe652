"""Tombstones: who was erased and when, under a keyed hash of their id.

A tombstone bars the sessions that began before the erasure: neither the session itself nor a replay of its journal may
write anything more. A later session is a new customer's. Ages are compared, each measured by its own clock, so the
clocks of two hosts need not agree.

When somebody without a profile is forgotten, that time is a document beside the tombstones, which makes nobody known;
a profile created later takes it over. What they said may still wait on the disk of a worker that cannot reach MongoDB.

Tombstones are kept for good and contain no id: `_id` is a keyed hash (`person_hash`), the same on every host.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import DatabaseError, LkmongoError
from lkmongo.model import SessionRecord, UserScope, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import TOMBSTONES
from lkmongo.store.people.person_hash import PersonHashes

_FORGOTTEN = "forgotten/"
"""Prefix of the `_id` of a document that only says when something was forgotten."""
_BATCH = 1_000
_ROUNDING = timedelta(milliseconds=5)
"""BSON truncates times to milliseconds; in doubt a session is barred."""


class ErasedError(LkmongoError):
    """This person was erased during the session; nothing more of it is stored."""

    code = "erased"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A finished or unfinished erasure; times are by the server's clock.

    Attributes:
        hash: the keyed hash of the person's id.
        erase_id: of the erasure; a resumed one keeps it.
        begun_at: when it was first requested.
        erased_at: sessions that began before are barred.
        done: whether nothing was left and the receipt is written.
        found: documents at the beginning, by collection; until it is done.
    """

    hash: str
    erase_id: ObjectId
    begun_at: datetime
    erased_at: datetime
    done: bool
    found: Mapping[str, int] = field(default_factory=dict)


class Tombstones:
    """The collection `tombstones`."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        self._tombstones = db[TOMBSTONES]
        self._hashes = PersonHashes(db)

    async def hashes_of(self, scope: UserScope) -> tuple[str, ...]:
        """The keyed hashes of the person's id, the current form first; none while there is no secret to hash with."""
        hashing = await self._hashes.known()
        return hashing.forms(scope) if hashing else ()

    async def bars(self, scope: UserScope, age: timedelta) -> bool:
        """Whether the person was erased after a session began, `age` ago by the session's own clock."""
        if not (forms := await self.hashes_of(scope)):
            return False
        fields = {"_id": 0, "erased_at": 1, "now": "$$NOW"}
        found = await operations.read(lambda: self._tombstones.find({"_id": {"$in": forms}}, fields).to_list())
        return any(age + _ROUNDING >= each["now"] - each["erased_at"] for each in found)

    async def bars_session(self, record: SessionRecord) -> bool:
        """Whether the person was erased after a session began that another process held."""
        age = now() - record.started_at if record.started_at else timedelta()
        return await self.bars(record.scope, max(age, timedelta()))

    async def get(self, scope: UserScope) -> Tombstone | None:
        if not (forms := await self.hashes_of(scope)):
            return None
        found = await operations.read(lambda: self._tombstones.find({"_id": {"$in": forms}}).to_list())
        return _tombstone(min(found, key=lambda each: forms.index(each["_id"]))) if found else None

    async def among(self, people: Iterable[UserScope]) -> tuple[frozenset[UserScope], dict[UserScope, datetime]]:
        """Those of `people` with a tombstone, including any who have come back since; and `forgotten_at` by person."""
        everybody = list(people)
        erased: set[UserScope] = set()
        forgotten: dict[UserScope, datetime] = {}
        if not everybody or (hashing := await self._hashes.known()) is None:
            return frozenset(), forgotten
        for start in range(0, len(everybody), _BATCH):
            hashes = {form: scope for scope in everybody[start : start + _BATCH] for form in hashing.forms(scope)}

            async def find(ids: Sequence[str]) -> list[dict[str, Any]]:
                return [each async for each in self._tombstones.find({"_id": {"$in": ids}}, {"at": 1})]

            ids = [prefix + person for person in hashes for prefix in ("", _FORGOTTEN)]
            for document in await operations.read(functools.partial(find, ids)):
                if "at" in document:
                    person = hashes[document["_id"].removeprefix(_FORGOTTEN)]
                    forgotten[person] = max(document["at"], forgotten.get(person, document["at"]))
                else:
                    erased.add(hashes[document["_id"]])
        return frozenset(erased), forgotten

    async def forgotten_at(self, scope: UserScope) -> datetime | None:
        """When something was last forgotten of the person while they had no profile."""
        if not (ids := [_FORGOTTEN + form for form in await self.hashes_of(scope)]):
            return None
        found = await operations.read(lambda: self._tombstones.find({"_id": {"$in": ids}}).to_list())
        return max((each["at"] for each in found), default=None)

    async def note_forgotten(self, scope: UserScope, at: datetime) -> None:
        """Keep what a person without a profile said before `at` from being stored later."""
        person = (await self._hashes.made()).forms(scope)[0]
        await operations.write(
            lambda: self._tombstones.update_one({"_id": f"{_FORGOTTEN}{person}"}, {"$max": {"at": at}}, upsert=True)
        )

    async def begin(self, scope: UserScope, found: Mapping[str, int]) -> Tombstone:
        """Bar the person's sessions that have begun by now, and begin an erasure or resume an unfinished one.

        Args:
            scope: who is erased.
            found: number of their documents by collection; a resumed erasure keeps the larger numbers.
        """
        person = (await self._hashes.made()).forms(scope)[0]
        resumed = {"$eq": ["$done", False]}
        before = {name: {"$cond": [resumed, f"$found.{name}", 0]} for name in found}
        update = [
            {
                "$set": {
                    "erase_id": {"$cond": [resumed, "$erase_id", ObjectId()]},
                    "begun_at": {"$cond": [resumed, "$begun_at", "$$NOW"]},
                    "found": {name: {"$max": [before[name], number]} for name, number in found.items()},
                    "erased_at": "$$NOW",
                    "done": False,
                }
            }
        ]
        document = await operations.write(
            lambda: self._tombstones.find_one_and_update(
                {"_id": person}, update, upsert=True, return_document=ReturnDocument.AFTER
            )
        )
        return _tombstone(document)

    async def bar(self, scope: UserScope) -> None:
        """Bar the sessions that have begun by now of somebody who has no data here.

        What they said may wait on the disk of a worker that cannot reach MongoDB.
        """
        person = (await self._hashes.made()).forms(scope)[0]
        unless_erased = {"erase_id": ObjectId(), "begun_at": "$$NOW", "done": True}
        update = {name: {"$ifNull": [f"${name}", value]} for name, value in unless_erased.items()}
        await operations.write(
            lambda: self._tombstones.update_one(
                {"_id": person}, [{"$set": update | {"erased_at": "$$NOW"}}], upsert=True
            )
        )

    async def extend(self, tombstone: Tombstone) -> Tombstone:
        """Bar the sessions that have begun since, too."""
        document = await operations.write(
            lambda: self._tombstones.find_one_and_update(
                {"_id": tombstone.hash},
                [{"$set": {"erased_at": "$$NOW"}}],
                return_document=ReturnDocument.AFTER,
            )
        )
        return _tombstone(document)

    async def finish(self, tombstone: Tombstone) -> None:
        await operations.write(
            lambda: self._tombstones.update_one(
                {"_id": tombstone.hash, "erase_id": tombstone.erase_id},
                {"$set": {"done": True}, "$unset": {"found": ""}},
            )
        )


def _tombstone(document: Mapping[str, Any] | None) -> Tombstone:
    if document is None:
        raise DatabaseError("the tombstone of an erasure is gone", hint="run the erasure again")
    return Tombstone(
        document["_id"],
        document["erase_id"],
        document["begun_at"],
        document["erased_at"],
        document["done"],
        document.get("found") or {},
    )
