"""Creates the collections and their ordinary indexes; and sets the retention of data, with TTL indexes.

Those that are declared are included, and `apply` stores the declarations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, OperationFailure

from lkmongo.declarations import Declarations
from lkmongo.errors import UsageError
from lkmongo.model import now
from lkmongo.store.mongo import declared, operations
from lkmongo.store.mongo.schema import (
    COLLECTIONS,
    MEMORIES,
    MEMORY_HISTORY,
    PHONES,
    PINS,
    SESSIONS,
    TURNS,
    USERS,
    VISITORS,
    Index,
    all_indexes,
)

T = TypeVar("T")


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    UNCHANGED = "unchanged"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One index and the action planned or taken; `hint` is set if `db indexes` alone does not suffice."""

    index: T
    action: Action
    detail: str = ""
    hint: str = ""


async def plan(db: AsyncDatabase[dict[str, Any]]) -> list[Change[Index]]:
    """Compare the existing indexes with the needed ones, without writing."""
    return await _plan(db, all_indexes(await declared.read(db)))


async def _plan(db: AsyncDatabase[dict[str, Any]], wanted: Sequence[Index]) -> list[Change[Index]]:
    there = {name: await _existing(db, name) for name in dict.fromkeys(index.collection for index in wanted)}
    return [_compare(index, there[index.collection]) for index in wanted]


async def _existing(db: AsyncDatabase[dict[str, Any]], collection: str) -> Mapping[str, Any]:

    async def information() -> Mapping[str, Any]:
        try:
            return await db[collection].index_information()
        except OperationFailure as error:
            if error.code == 26:  # NamespaceNotFound
                return {}
            raise

    return await operations.read(information)


def _compare(index: Index, there: Mapping[str, Any]) -> Change[Index]:
    for name, found in there.items():
        same_keys = [tuple(key) for key in found["key"]] == list(index.keys)
        if same_keys and bool(found.get("unique")) == index.unique:
            return Change(index, Action.UNCHANGED, "" if name == index.name else f"exists as {name}")
        if same_keys or name == index.name:
            what = "is not unique" if same_keys and index.unique else "has other keys or options"
            return Change(
                index, Action.BLOCKED, f"the index {name} exists and {what}", "drop it first, then lkmongo db indexes"
            )
    return Change(index, Action.CREATE)


async def apply(db: AsyncDatabase[dict[str, Any]]) -> list[Change[Index]]:
    """Store what is declared, and create missing collections and indexes; idempotent.

    The declared retention is set where none is set yet.

    Raises:
        DatabaseError: MongoDB refuses, for instance because of duplicates in a unique index.
        DeclarationError: a declaration contradicts the database.
    """
    known = await declared.keep(db)
    changes = await _plan(db, all_indexes(known))
    names = set(await operations.read(db.list_collection_names))
    for collection in dict.fromkeys([*COLLECTIONS, *known.own]):
        if collection not in names:
            await operations.write(lambda name=collection: create_collection(db, name))  # type: ignore[misc]
    for change in changes:
        if change.action is Action.CREATE:
            index = change.index
            options: dict[str, Any] = {"expireAfterSeconds": 0} if index.expires else {}
            await operations.write(
                lambda index=index, options=options: db[index.collection].create_index(  # type: ignore[misc]
                    list(index.keys), name=index.name, unique=index.unique, **options
                )
            )
    await _apply_declared_retention(db, known)
    await _complete_retention(db)
    return changes


async def _complete_retention(db: AsyncDatabase[dict[str, Any]]) -> None:
    """Set a retention that was set before there was one of its collections."""
    for parts in SUBJECTS.values():
        there = [await _ttl_index(db, collection, path) for collection, path in parts]
        keep = next((timedelta(seconds=index[1]) for index in there if index), None)
        for (collection, path), index in zip(parts, there, strict=True):
            if keep and index is None:
                await operations.write(lambda c=collection, p=path, k=keep: _set(db, c, p, k))  # type: ignore[misc]


async def _apply_declared_retention(db: AsyncDatabase[dict[str, Any]], known: Declarations) -> None:
    limited = {name: each.retention for name, each in known.own.items() if each.retention and each.retention[1]}
    set_by_hand = await declared.set_limits(db) if limited else {}
    for name, (path, keep) in limited.items():
        if name not in set_by_hand and await _ttl_index(db, name, path) is None:
            await operations.write(lambda n=name, p=path, k=keep: _set(db, n, p, k))  # type: ignore[misc]


async def create_collection(db: AsyncDatabase[dict[str, Any]], name: str) -> None:
    """Create a collection unless it exists; raises the driver's errors."""
    try:
        await db.create_collection(name)
    except CollectionInvalid:
        return  # another process created it
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists
            raise


INDEX_NAME = "retention"
_NOT_ALLOWED = frozenset({13, 8000})  # the role readWrite can create and drop indexes, but lacks collMod

SUBJECTS: dict[str, tuple[tuple[str, str], ...]] = {
    # A running call has no end yet and is not deleted; turns expire individually.
    "calls": ((SESSIONS, "ended_at"), (TURNS, "created_at")),
    # A former value, too, counts from when it was last said.
    "memories": ((MEMORIES, "updated_at"), (MEMORY_HISTORY, "updated_at")),
    # What somebody comes in by goes when it is not used for as long, at the latest with the person.
    "profiles": (
        (USERS, "last_seen_at"),
        (VISITORS, "last_seen_at"),
        (PHONES, "last_seen_at"),
        (PINS, "last_used_at"),
    ),
}
"""What of lkmongo's can have a retention: its collections, and the date that counts."""


def _subjects(known: Declarations) -> dict[str, tuple[tuple[str, str], ...]]:
    return SUBJECTS | {name: ((name, each.retention[0]),) for name, each in known.own.items() if each.retention}


@dataclass(frozen=True, slots=True)
class Retention:
    """How long one subject is kept; None means forever."""

    subject: str
    keep: timedelta | None


async def retention_of(db: AsyncDatabase[dict[str, Any]], subject: str) -> Retention:
    """How long `subject` is kept. Raises UsageError if that has no retention."""
    found = {each.subject: each for each in await current_retention(db)}
    if subject not in found:
        raise UsageError(f"{subject!r} has no retention", hint=f"one of {', '.join(found)}")
    return found[subject]


async def current_retention(db: AsyncDatabase[dict[str, Any]]) -> list[Retention]:
    """How long each subject is kept: lkmongo's, and collections that are declared with a retention."""
    found = []
    for subject, parts in _subjects(await declared.read(db)).items():
        indexes = [await _ttl_index(db, collection, path) for collection, path in parts]
        known = [index[1] for index in indexes if index]
        found.append(Retention(subject, timedelta(seconds=max(known)) if known else None))
    return found


async def count_older(db: AsyncDatabase[dict[str, Any]], subject: str, keep: timedelta) -> int:
    before = now() - keep
    counts = [
        await operations.read(
            lambda collection=collection, path=path: db[collection].count_documents({path: {"$lt": before}})  # type: ignore[misc]
        )
        for collection, path in _subjects(await declared.read(db))[subject]
    ]
    return sum(counts)


async def set_retention(db: AsyncDatabase[dict[str, Any]], subject: str, keep: timedelta | None) -> None:
    """Set how long the subject is kept; None keeps it forever. Raises DatabaseError."""
    for collection, path in _subjects(await declared.read(db))[subject]:
        await operations.write(lambda c=collection, p=path: _set(db, c, p, keep))  # type: ignore[misc]
    if subject not in SUBJECTS:
        await declared.note_limit(db, subject, keep)


async def _ttl_index(db: AsyncDatabase[dict[str, Any]], collection: str, path: str) -> tuple[str, int] | None:
    """Name and seconds of the TTL index on `path`."""
    for name, index in (await _existing(db, collection)).items():
        if [key for key, _ in index["key"]] == [path] and "expireAfterSeconds" in index:
            return name, int(index["expireAfterSeconds"])
    return None


async def _set(db: AsyncDatabase[dict[str, Any]], collection: str, path: str, keep: timedelta | None) -> None:
    there = await _ttl_index(db, collection, path)
    if keep is None:
        if there:
            await db[collection].drop_index(there[0])
        return
    seconds = int(keep.total_seconds())
    if there is None:
        await db[collection].create_index([(path, 1)], name=INDEX_NAME, expireAfterSeconds=seconds)
    elif there[1] != seconds:
        try:
            await db.command("collMod", collection, index={"keyPattern": {path: 1}, "expireAfterSeconds": seconds})
        except OperationFailure as error:
            if error.code not in _NOT_ALLOWED:
                raise
            await db[collection].drop_index(there[0])
            await db[collection].create_index([(path, 1)], name=INDEX_NAME, expireAfterSeconds=seconds)
