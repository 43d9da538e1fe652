"""Merge two people into one: a guest who turned out to be somebody with a login.

Everything of the guest becomes the login's: in one transaction if the server supports them and the guest's documents
fit; otherwise in steps that can each be repeated, so that an interrupted merge is completed by the next one without
duplicates.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from lkmongo.declarations import Collection, Declarations
from lkmongo.errors import LkmongoError, NotReadyError, UsageError
from lkmongo.model import MAX_ID, MAX_SLOTS, Fact, UserScope, now
from lkmongo.store.mongo import declared, operations
from lkmongo.store.mongo.schema import (
    MEMORIES,
    SCHEMA_VERSION,
    SESSIONS,
    TURNS,
    USERS,
    VERSION,
    VISITORS,
)
from lkmongo.store.people.joined_history import FormerValues
from lkmongo.store.people.person import count, is_known, unknown_person
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.sessions import Sessions
from lkmongo.summary import MAX_OPEN

Document = dict[str, Any]

_ATOMIC = 2_000
"""The most documents for which a transaction is tried: it must fit a small server's cache, and take under a minute."""
_TRIES = 5
_STEP_TRIES = 25
"""Repeating the steps is cheap: what was moved stays moved. A session may write a slot every few milliseconds."""
_BATCH = 1_000
_DUPLICATE = 11000
_STEP_SECONDS = 10.0
"""For one step without a transaction; what a killed merge had locked is released after a minute."""
_ORDER = {
    MEMORIES: ("memory_type",),
    TURNS: ("session_id", "seq"),
    SESSIONS: ("session_id",),
    VISITORS: ("_id",),
}
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A slot that both had with different contents; the newer is kept."""

    memory_type: str
    kept: str
    dropped: str
    kept_of: str


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did, or would do.

    Attributes:
        moved: the guest's documents that became the login's, by collection; the profile is merged into theirs.
        conflicts: slots that both had with different contents.
        dropped: slots of the guest that were not newer than the login's of the same label.
        filled: profile fields that only the guest had.
        renamed: ids of sessions that both had, and the new id of the guest's.
        doubles: documents that were dropped because both had one with the same key, by declared collection. The one
            with the later `updated_at` is kept, without that the login's.
        in_transaction: whether it was atomic.
    """

    moved: dict[str, int]
    conflicts: list[Conflict] = field(default_factory=list)
    dropped: int = 0
    filled: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    doubles: dict[str, int] = field(default_factory=dict)
    in_transaction: bool = False

    @property
    def is_empty(self) -> bool:
        return not any(self.moved.values()) and not self.dropped and not self.doubles


async def merge_known(
    db: AsyncDatabase[Document],
    guest: UserScope,
    login: UserScope,
    *,
    dry_run: bool = False,
    confirm: Callable[[Mapping[str, int], bool], None] = lambda _counts, _is_known: None,
) -> Merged:
    """As `merge`, after `confirm` was called with the guest's documents by collection and whether the login is known.

    It raises to prevent the merge, and is not called if there is nothing to merge: that may have been done before.

    Raises:
        NotFoundError: both are unknown.
        LkmongoError: see `merge`.
    """
    planned = await merge(db, guest, login, dry_run=True)
    is_login_known = await is_known(db, login)
    if planned.is_empty and not is_login_known:
        raise await unknown_person(db, guest)
    if dry_run or planned.is_empty:
        return planned
    confirm(await count(db, guest), is_login_known)
    return await merge(db, guest, login)


async def merge(
    db: AsyncDatabase[Document], guest: UserScope, login: UserScope, *, dry_run: bool = False, atomic: bool = True
) -> Merged:
    """Move everything of `guest` to `login` and remove the guest, if there is anything of them.

    Args:
        db: the database.
        guest: who disappears.
        login: who stays; created if unknown.
        dry_run: change nothing.
        atomic: use a transaction if possible.

    Raises:
        UsageError: both are the same person, or belong to two tenants.
        NotReadyError: the guest is in a session, or one of them is being erased.
        LkmongoError: together they would have more than 10,000 slots.
        DatabaseError: MongoDB answered with an error; without a transaction some steps may be done: run it again.
    """
    if guest == login:
        raise UsageError("guest and login are the same person", hint="name the guest first, then the login")
    if guest.tenant_id != login.tenant_id:
        raise UsageError("people of two tenants cannot be merged", hint="name two ids of one tenant")
    await _refuse_while_erased(db, guest, login)
    if live := await Sessions(db).live(guest):
        raise NotReadyError(
            f"{guest.user_id} is still in a session: {', '.join(live)}", hint="run it again when that has ended"
        )
    known = await declared.read(db)
    documents = sum((await count(db, guest, declared.personal_of(known))).values())
    if atomic and not dry_run and documents <= _ATOMIC and await _has_transactions(db):
        try:
            return await operations.transact(
                lambda: _in_transaction(db, lambda session: _run(db, known, guest, login, session))
            )
        except _GiveUpError:
            pass  # too many concurrent writes, or the server's cache is too small
    return await operations.transact(lambda: _in_steps(lambda: _run(db, known, guest, login, None, dry_run=dry_run)))


async def _refuse_while_erased(db: AsyncDatabase[Document], *people: UserScope) -> None:
    for person in people:
        tombstone = await Tombstones(db).get(person)
        if tombstone and not tombstone.done:
            raise NotReadyError(
                f"{person.user_id} is being erased", hint=f"complete it first: lkmongo users erase {person.user_id}"
            )


async def _has_transactions(db: AsyncDatabase[Document]) -> bool:
    hello = await operations.read(lambda: db.command("hello"))
    return "setName" in hello or hello.get("msg") == "isdbgrid"


class _GiveUpError(Exception):
    """The transaction failed too often."""


async def _in_transaction(
    db: AsyncDatabase[Document], work: Callable[[AsyncClientSession], Awaitable[Merged]]
) -> Merged:
    # The driver's `with_transaction` repeats for two minutes even what can never fit into the server's cache.
    async with db.client.start_session() as session:
        for attempt in range(_TRIES):
            try:
                async with await session.start_transaction():
                    return await work(session)
            except PyMongoError as error:
                if not error.has_error_label("TransientTransactionError"):
                    raise
                await asyncio.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311
    raise _GiveUpError


async def _in_steps(work: Callable[[], Awaitable[Merged]]) -> Merged:
    try:
        for _ in range(_STEP_TRIES - 1):
            # A session of the login has just begun in a room of the guest's, or changed the login's profile.
            with suppress(DuplicateKeyError):
                return await work()
        return await work()
    except PyMongoError as error:
        if not error.timeout:
            raise
        raise NotReadyError(
            "their data could not be moved in time",
            why="MongoDB is slow, or an interrupted merge still locks them",
            hint="run it again in a minute",
        ) from error


async def move_own(db: AsyncDatabase[Document], guest: UserScope, login: UserScope) -> None:
    """Move the guest's documents of declared collections alone: a guest was identified in a session.

    Raises:
        DatabaseError: some may be moved; another call moves the others.
    """
    known = await declared.read(db)
    if not known.own:
        return

    async def run() -> None:
        mover = _Mover(db, guest, login, None, dry_run=False)
        for each in known.personal:
            await mover.move_own(each)

    await operations.transact(run)


async def _run(
    db: AsyncDatabase[Document],
    known: Declarations,
    guest: UserScope,
    login: UserScope,
    session: AsyncClientSession | None,
    *,
    dry_run: bool = False,
) -> Merged:
    mover = _Mover(db, guest, login, session, dry_run=dry_run)
    moved = await count(db, guest, declared.personal_of(known), session=session)
    conflicts: dict[str, Conflict] = {}
    dropped = await mover.settle_slots(conflicts)
    while not await mover.move_slots():  # ends, since each time the newer of two slots stays
        dropped += await mover.settle_slots(conflicts)
    moved[MEMORIES] -= dropped
    if not dry_run:
        await mover.former.move()
    doubles = {}
    for each in known.personal:
        if dropped_ones := await mover.move_own(each):
            doubles[each.name] = sum(dropped_ones)
            moved[each.name] -= dropped_ones[0]
    await mover.move(VISITORS)
    renamed = await mover.free_session_ids()
    # Turns first, so that whoever has a session document has the whole session.
    await mover.move(TURNS)
    await mover.move(SESSIONS)
    filled = await mover.merge_profiles() if any(moved.values()) or dropped or doubles else []
    return Merged(moved, list(conflicts.values()), dropped, filled, renamed, doubles, session is not None)


class _Mover:
    """The steps of a merge; each is repeatable."""

    def __init__(
        self,
        db: AsyncDatabase[Document],
        guest: UserScope,
        login: UserScope,
        session: AsyncClientSession | None,
        *,
        dry_run: bool,
    ) -> None:
        self._db = db
        self._guest = guest
        self._login = login
        self._session = session
        self._dry_run = dry_run
        self.former = FormerValues(db, guest, login, session, self._in_time)

    async def settle_slots(self, conflicts: dict[str, Conflict]) -> int:
        """Delete the older of two slots of one label; returns how many of them were the guest's.

        Those whose contents differed are added to `conflicts`, by label.
        """
        shown = {"embedding": 0}
        ours = {slot["memory_type"]: slot async for slot in self._find(MEMORIES, self._guest, shown)}
        theirs = {slot["memory_type"]: slot async for slot in self._find(MEMORIES, self._login, shown)}
        if len(ours.keys() | theirs.keys()) > MAX_SLOTS:
            raise LkmongoError(
                f"together they have {len(ours.keys() | theirs.keys())} memories; {MAX_SLOTS} are allowed",
                hint=f"forget some first: lkmongo memory forget {self._guest.user_id} --type LABEL",
            )
        older_ours: list[Document] = []
        older_theirs: list[Document] = []
        for name in sorted(ours.keys() & theirs.keys()):
            newest, other = theirs[name], ours[name]
            if (other.get("updated_at") or _LONG_AGO) > (newest.get("updated_at") or _LONG_AGO):
                newest, other = other, newest
            (older_ours if other is ours[name] else older_theirs).append(other)
            if newest["content"] != other["content"]:
                kept_of = (self._login if newest is theirs[name] else self._guest).user_id
                kept, dropped = (Fact(name, each["content"]).told.content for each in (newest, other))
                conflicts[name] = Conflict(name, kept, dropped, kept_of)
            if not self._dry_run:
                await self.former.keep(other, newest)
        if self._dry_run:
            return len(older_ours)
        await self._delete_slots(older_theirs)
        return await self._delete_slots(older_ours)

    async def _delete_slots(self, slots: Sequence[Document]) -> int:
        """Delete slots unless they changed since they were read: what a session writes meanwhile is newer."""
        deleted = 0
        for batch in _batches(slots):
            as_read = [{"_id": slot["_id"], "updated_at": slot.get("updated_at")} for slot in batch]
            with self._in_time():
                result = await self._db[MEMORIES].delete_many({"$or": as_read}, session=self._session)
            deleted += result.deleted_count
        return deleted

    async def move_slots(self) -> bool:
        """Move the guest's slots; False if the login has one of the same label by now."""
        if self._session or self._dry_run:
            await self.move(MEMORIES)
            return True
        ids = [slot["_id"] async for slot in self._find(MEMORIES, self._guest, {"_id": 1})]
        change = {"$set": {"user_id": self._login.user_id}}
        for batch in _batches(ids):
            one_by_one = [UpdateOne(self._guest.filter | {"_id": each}, change) for each in batch]
            try:
                with self._in_time():
                    await self._db[MEMORIES].bulk_write(one_by_one, ordered=False)
            except BulkWriteError as error:
                if any(each["code"] != _DUPLICATE for each in error.details["writeErrors"]):
                    raise
                return False
        return True

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

        ours = {key(each): each async for each in self._find(collection.name, self._guest, shown)}
        theirs = {key(each): each async for each in self._find(collection.name, self._login, shown)} if ours else {}
        both = [(ours[each], theirs[each]) for each in ours.keys() & theirs.keys()]
        if not both:
            return None
        ours_stay = [pair for pair in both if _time(pair[0]) > _time(pair[1])]
        drop = [pair[1 if pair in ours_stay else 0]["_id"] for pair in both]
        for batch in _batches([] if self._dry_run else drop):
            with self._in_time():
                await self._db[collection.name].delete_many({"_id": {"$in": list(batch)}}, session=self._session)
        return len(both) - len(ours_stay), len(ours_stay)

    async def free_session_ids(self) -> dict[str, str]:
        """Rename sessions of the guest whose id the login has, too: both were in one room."""
        ours = await self._turns_of(self._guest)
        theirs = await self._turns_of(self._login, list(ours))
        with_document = {
            each["session_id"] async for each in self._find(SESSIONS, self._login, {"session_id": 1}, list(ours))
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
            if not self._dry_run:
                change = {"$set": {"session_id": new, "user_id": self._login.user_id}}
                for collection in (TURNS, SESSIONS):
                    selector = self._guest.filter | {"session_id": name}
                    with self._in_time():
                        await self._db[collection].update_many(selector, change, session=self._session)
        return renamed

    async def _free_name(self, name: str, turns: set[int], taken: set[str]) -> str:
        for number in range(1, 1_000):
            suffix = "-merged" if number == 1 else f"-merged-{number}"
            new = name[: MAX_ID - len(suffix)] + suffix
            selector = self._login.filter | {"session_id": new}
            if new in taken or await self._db[SESSIONS].find_one(selector, {"_id": 1}, session=self._session):
                continue
            if not turns & (await self._turns_of(self._login, [new])).get(new, set()):
                return new
        raise LkmongoError(f"there is no free id for the session {name}")

    async def _turns_of(self, person: UserScope, sessions: Sequence[str] | None = None) -> dict[str, set[int]]:
        """The numbers of the turns by session, of these sessions or all."""
        found: dict[str, set[int]] = defaultdict(set)
        async for document in self._find(SESSIONS, person, {"session_id": 1}, sessions):
            found[document["session_id"]]  # a session without turns counts, too
        async for document in self._find(TURNS, person, {"session_id": 1, "seq": 1}, sessions):
            found[document["session_id"]].add(document["seq"])
        return found

    async def move(self, collection: str, order: Sequence[str] = ()) -> None:
        if self._dry_run:
            return
        # Last first: if the login directly precedes the guest in an index, the search for each document would otherwise
        # pass the deleted entries of all that were moved before it.
        found = self._find(collection, self._guest, {"_id": 1}).sort([(key, -1) for key in order or _ORDER[collection]])
        ids = [document["_id"] async for document in found]
        change = {"$set": {"user_id": self._login.user_id}}
        for batch in _batches(ids):
            selector = self._guest.filter | {"_id": {"$in": batch}}
            with self._in_time():
                # Otherwise the planner may choose the person's index, and read all their documents for each batch.
                await self._db[collection].update_many(selector, change, session=self._session, hint="_id_")

    async def merge_profiles(self) -> list[str]:
        """Fill gaps in the login's profile and delete the guest's; returns the fields that were filled."""
        users, tombstones = self._db[USERS], Tombstones(self._db)
        # Before the profiles, which must not change between being read and written.
        noted = [await tombstones.forgotten_at(person) for person in (self._guest, self._login)]
        guest = await users.find_one(self._guest.filter, session=self._session) or {}
        login = await users.find_one(self._login.filter, session=self._session) or {}
        known = {"_id", "tenant_id", "user_id", "created_at", "last_seen_at", "last_session", "forgotten_at"}
        known |= {"memory_version", VERSION, "commitments"}
        ours, theirs = _flat(guest), _flat(login)
        filled = sorted(
            path for path in ours if path.partition(".")[0] not in known and ours[path] and not theirs.get(path)
        )
        change: Document = {path: ours[path] for path in filled}
        # As old as the older of the two, so that an upgrade looks at what was filled.
        change[VERSION] = min((each.get(VERSION, 0) for each in (guest, login) if each), default=SCHEMA_VERSION)
        if both := [promise for each in (login, guest) for promise in each.get("commitments") or []]:
            change["commitments"] = sorted(both, key=lambda each: _time(each, "made_at"))[-MAX_OPEN:]
        last = [session for each in (guest, login) if (session := each.get("last_session")) and session.get("at")]
        if last:
            change["last_session"] = max(last, key=lambda session: session["at"])
        forgotten = [moment for moment in (guest.get("forgotten_at"), *noted) if moment]
        latest = {"last_seen_at": guest.get("last_seen_at"), "forgotten_at": max(forgotten, default=None)}
        update = {
            "$set": change,
            "$min": {"created_at": guest.get("created_at") or login.get("created_at") or now()},
            "$max": {name: moment for name, moment in latest.items() if moment},
            "$inc": {"memory_version": int(guest.get("memory_version", 0)) + 1},
        }
        if not self._dry_run:
            used = {operator: fields for operator, fields in update.items() if fields}
            with self._in_time():
                # Unless it changed since it was read: a session may have forgotten something; then it is all redone.
                read = ("memory_version", "last_session", "forgotten_at")
                as_read = self._login.filter | {path: login.get(path, {"$exists": False}) for path in read}
                await users.update_one(as_read, used, upsert=True, session=self._session)
                await users.delete_one(self._guest.filter, session=self._session)
        return [path for path in filled if not path.startswith("changed_at")]

    def _in_time(self) -> AbstractContextManager[None]:
        """Bound a step; a transaction has its own limit."""
        return nullcontext() if self._session else pymongo.timeout(_STEP_SECONDS)

    def _find(
        self, collection: str, person: UserScope, fields: Document, sessions: Sequence[str] | None = None
    ) -> AsyncCursor[Document]:
        selector = person.filter | ({} if sessions is None else {"session_id": {"$in": list(sessions)}})
        return self._db[collection].find(selector, fields, session=self._session)


def _time(document: Document, field: str = "updated_at") -> datetime:
    """For a comparison: a document without the time is older than any."""
    moment = document.get(field)
    return moment if isinstance(moment, datetime) else _LONG_AGO


def _flat(document: Document) -> Document:
    """A profile's fields by path; `preferences` and `fields` are nested."""
    nested = ("preferences", "fields")
    rest = {name: value for name, value in document.items() if name not in nested}
    for outer in nested:
        rest |= {f"{outer}.{name}": value for name, value in (document.get(outer) or {}).items()}
    return rest


def _batches(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _BATCH] for start in range(0, len(values), _BATCH)]
