"""The steps of a merge that move documents from one person to another, whatever is in them; each is repeatable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.declarations import Collection
from lkmongo.errors import LkmongoError
from lkmongo.model import MAX_ID, UserScope
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import SEALED, Encryption, places, resealed
from lkmongo.store.mongo.schema import MEMORIES, PHONE_ATTEMPTS, PHONES, PINS, SESSIONS, TURNS, VISITORS

Document = dict[str, Any]

BATCH = 1_000
_STEP_SECONDS = 10.0
"""For one step without a transaction; what a killed merge had locked is released after a minute."""
_ORDER = {
    MEMORIES: ("memory_type",),
    TURNS: ("session_id", "seq"),
    SESSIONS: ("session_id",),
    VISITORS: ("_id",),
    PHONES: ("phone_hash",),
    PINS: ("_id",),
    PHONE_ATTEMPTS: ("_id",),
}
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


class Steps:
    """Moving the documents of a guest to a login, in a transaction or one after the other."""

    def __init__(
        self,
        db: AsyncDatabase[Document],
        guest: UserScope,
        login: UserScope,
        session: AsyncClientSession | None,
        *,
        dry_run: bool,
    ) -> None:
        self.db = db
        self.encryption = Encryption.of(db)
        self.guest = guest
        self.login = login
        self.session = session
        self.dry_run = dry_run

    async def move(self, collection: str, order: Sequence[str] = ()) -> None:
        if self.dry_run:
            return
        # Last first: if the login directly precedes the guest in an index, the search for each document would otherwise
        # pass the deleted entries of all that were moved before it.
        found = self.find(collection, self.guest, {"_id": 1}).sort([(key, -1) for key in order or _ORDER[collection]])
        ids = [document["_id"] async for document in found]
        change = {"$set": self.login.filter}  # with the tenant: a guest may be identified in another one
        for batch in operations.batches(ids, BATCH):
            if self.encryption.is_on and collection in SEALED:
                await self.move_sealed(collection, batch)
                continue
            selector = self.guest.filter | {"_id": {"$in": batch}}
            with self.in_time():
                # Otherwise the planner may choose the person's index, and read all their documents for each batch.
                await self.db[collection].update_many(selector, change, session=self.session, hint="_id_")

    async def move_sealed(self, collection: str, ids: Sequence[Any], **changes: str) -> None:
        """Move documents whose contents are encrypted: they are sealed anew by the login's key.

        Raises the driver's errors; a document that changes meanwhile stays the guest's.
        """
        cipher = await self.encryption.cipher(self.login)
        fields = {"embedding": 0, "summary.embedding": 0, "report": 0, "metrics": 0}
        with self.in_time():
            cursor = self.db[collection].find({"_id": {"$in": ids}} | self.guest.filter, fields, session=self.session)
            documents = await cursor.to_list()
        as_read = [{path: deepcopy(h[n]) for h, n, _, path in places(collection, each)} for each in documents]
        await self.encryption.open(collection, documents, self.guest)
        requests = []
        for document, unchanged in zip(documents, as_read, strict=True):
            change = {"user_id": self.login.user_id, **changes}
            change |= resealed(cipher, collection, document | changes)
            requests.append(UpdateOne(self.guest.filter | {"_id": document["_id"]} | unchanged, {"$set": change}))
        if requests:
            with self.in_time():
                await self.db[collection].bulk_write(requests, ordered=False, session=self.session)

    async def move_own(self, collection: Collection) -> tuple[int, int] | None:
        """Move the guest's documents of a declared collection.

        Returns:
            How many of the guest's and the login's were dropped because both had one with that key, if any.
        """
        dropped = None if collection.unique_within == "tenant" else await self._drop_doubles(collection)
        await self.move(collection.name, collection.key or ("_id",))
        return dropped

    async def _drop_doubles(self, collection: Collection) -> tuple[int, int] | None:
        shown = dict.fromkeys([*collection.key, "updated_at"], 1)

        def key(document: Document) -> tuple[Hashable, ...]:
            values = (document.get(name) for name in collection.key)
            return tuple(value if isinstance(value, Hashable) else repr(value) for value in values)

        ours = {key(each): each async for each in self.find(collection.name, self.guest, shown)}
        theirs = {key(each): each async for each in self.find(collection.name, self.login, shown)} if ours else {}
        both = [(ours[each], theirs[each]) for each in ours.keys() & theirs.keys()]
        if not both:
            return None
        ours_stay = [pair for pair in both if time_of(pair[0]) > time_of(pair[1])]
        drop = [pair[1 if pair in ours_stay else 0]["_id"] for pair in both]
        for batch in operations.batches([] if self.dry_run else drop, BATCH):
            with self.in_time():
                await self.db[collection.name].delete_many({"_id": {"$in": list(batch)}}, session=self.session)
        return len(both) - len(ours_stay), len(ours_stay)

    async def join_phones(self) -> dict[str, int]:
        """Move the guest's telephone numbers, and their PIN unless the login has one, with the attempts at it.

        A number that both had is the login's from the earlier of the two times on, and was used at the later one.

        Returns:
            How many of the guest's were dropped because the login had them, if any, by collection.
        """
        shown = {"phone_hash": 1, "linked_at": 1, "last_seen_at": 1}
        ours = {each["phone_hash"]: each async for each in self.find(PHONES, self.guest, shown)}
        theirs = {each["phone_hash"]: each async for each in self.find(PHONES, self.login, shown)} if ours else {}
        both = sorted(ours.keys() & theirs.keys())
        pins = [
            await self.db[PINS].find_one(each.filter, {"_id": 1}, session=self.session)
            for each in (self.guest, self.login)
        ]
        dropped = {name: number for name, number in ((PHONES, len(both)), (PINS, int(all(pins)))) if number}
        if self.dry_run:
            return dropped
        for number in both:
            ours_was, kept = ours[number], {"_id": theirs[number]["_id"]}
            times = {"$min": {"linked_at": ours_was["linked_at"]}, "$max": {"last_seen_at": ours_was["last_seen_at"]}}
            with self.in_time():
                await self.db[PHONES].update_one(kept, times, session=self.session)
                await self.db[PHONES].delete_one({"_id": ours_was["_id"]}, session=self.session)
        if all(pins):
            with self.in_time():
                await self.db[PINS].delete_one(self.guest.filter, session=self.session)
        for collection in (PHONES, PINS, PHONE_ATTEMPTS):
            await self.move(collection)
        return dropped

    async def free_session_ids(self) -> dict[str, str]:
        """Rename sessions of the guest whose id the login has, too: both were in one room."""
        ours = await self._turns_of(self.guest)
        theirs = await self._turns_of(self.login, list(ours))
        with_document = {
            each["session_id"] async for each in self.find(SESSIONS, self.login, {"session_id": 1}, list(ours))
        }
        taken = set(ours)
        renamed = {}
        for name, turns in ours.items():
            # Turns alone, with other numbers, were moved by a merge that was interrupted.
            if name not in with_document and not turns & theirs.get(name, set()):
                continue
            new = await self._free_name(name, turns, taken)
            taken.add(new)
            renamed[name] = new
            if not self.dry_run:
                change = {"$set": {"session_id": new, "user_id": self.login.user_id}}
                for collection in (TURNS, SESSIONS):
                    selector = self.guest.filter | {"session_id": name}
                    if self.encryption.is_on:
                        found = self.db[collection].find(selector, {"_id": 1}, session=self.session)
                        ids = [document["_id"] async for document in found]
                        for batch in operations.batches(ids, BATCH):
                            await self.move_sealed(collection, batch, session_id=new)
                        continue
                    with self.in_time():
                        await self.db[collection].update_many(selector, change, session=self.session)
        return renamed

    async def _free_name(self, name: str, turns: set[int], taken: set[str]) -> str:
        for number in range(1, 1_000):
            suffix = "-merged" if number == 1 else f"-merged-{number}"
            new = name[: MAX_ID - len(suffix)] + suffix
            selector = self.login.filter | {"session_id": new}
            if new in taken or await self.db[SESSIONS].find_one(selector, {"_id": 1}, session=self.session):
                continue
            if not turns & (await self._turns_of(self.login, [new])).get(new, set()):
                return new
        raise LkmongoError(f"there is no free id for the session {name}")

    async def _turns_of(self, person: UserScope, sessions: Sequence[str] | None = None) -> dict[str, set[int]]:
        """The numbers of the turns by session, of these sessions or all."""
        found: dict[str, set[int]] = defaultdict(set)
        async for document in self.find(SESSIONS, person, {"session_id": 1}, sessions):
            found[document["session_id"]]  # a session without turns counts, too
        async for document in self.find(TURNS, person, {"session_id": 1, "seq": 1}, sessions):
            found[document["session_id"]].add(document["seq"])
        return found

    def in_time(self) -> AbstractContextManager[None]:
        """Bound a step; a transaction has its own limit."""
        return nullcontext() if self.session else pymongo.timeout(_STEP_SECONDS)

    def find(
        self, collection: str, person: UserScope, fields: Document, sessions: Sequence[str] | None = None
    ) -> AsyncCursor[Document]:
        selector = person.filter | ({} if sessions is None else {"session_id": {"$in": list(sessions)}})
        return self.db[collection].find(selector, fields, session=self.session)


def time_of(document: Document, field: str = "updated_at") -> datetime:
    """For a comparison: a document without the time is older than any."""
    moment = document.get(field)
    return moment if isinstance(moment, datetime) else _LONG_AGO
