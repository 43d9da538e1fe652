"""How long data is kept: MongoDB deletes what is older by a TTL index on a date of each document.

MongoDB looks once a minute. An existing TTL index is changed by `collMod`: `createIndexes` refuses other options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from lkmongo.errors import UsageError
from lkmongo.model import now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import MEMORIES, SESSIONS, TURNS, USERS, VISITORS

INDEX_NAME = "retention"
_NOT_ALLOWED = frozenset({13, 8000})  # the role readWrite may make and drop indexes, and has no collMod

SUBJECTS: dict[str, tuple[tuple[str, str], ...]] = {
    # A call that is going on has no end yet and is never deleted; its turns go by their own time.
    "calls": ((SESSIONS, "ended_at"), (TURNS, "created_at")),
    "memories": ((MEMORIES, "updated_at"),),
    "profiles": ((USERS, "last_seen_at"), (VISITORS, "last_seen_at")),
}
"""What can be given a limit: the collections that it covers, and the date that counts."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long one subject is kept; None is for ever. `would_go` counts documents older than a proposed limit."""

    subject: str
    keep: timedelta | None
    would_go: int = 0


def check_subject(subject: str) -> str:
    """Return `subject` if it is one.

    Raises:
        UsageError: it is not.
    """
    if subject not in SUBJECTS:
        raise UsageError(f"{subject!r} has no retention", hint=f"one of {', '.join(SUBJECTS)}")
    return subject


async def current(db: AsyncDatabase[dict[str, Any]]) -> list[Retention]:
    """How long each subject is kept now."""
    found = []
    for subject, parts in SUBJECTS.items():
        indexes = [await _ttl_index(db, collection, path) for collection, path in parts]
        known = [index[1] for index in indexes if index]
        found.append(Retention(subject, timedelta(seconds=max(known)) if known else None))
    return found


async def older(db: AsyncDatabase[dict[str, Any]], subject: str, keep: timedelta) -> int:
    """How many documents of the subject are older than `keep`."""
    before = now() - keep
    counts = [
        await operations.read(
            lambda collection=collection, path=path: db[collection].count_documents({path: {"$lt": before}})  # type: ignore[misc]
        )
        for collection, path in SUBJECTS[subject]
    ]
    return sum(counts)


async def keep_for(db: AsyncDatabase[dict[str, Any]], subject: str, keep: timedelta | None) -> None:
    """Set how long the subject is kept; None keeps it for ever.

    Raises:
        DatabaseError: MongoDB refuses.
    """
    for collection, path in SUBJECTS[subject]:
        await operations.write(lambda c=collection, p=path: _set(db, c, p, keep))  # type: ignore[misc]


async def _ttl_index(db: AsyncDatabase[dict[str, Any]], collection: str, path: str) -> tuple[str, int] | None:
    """Name and seconds of the TTL index on `path`, whatever it is called."""

    async def indexes() -> Sequence[Any]:
        try:
            return [index async for index in await db[collection].list_indexes()]
        except OperationFailure as error:
            if error.code == 26:  # NamespaceNotFound
                return []
            raise

    for index in await operations.read(indexes):
        if list(index["key"]) == [path] and "expireAfterSeconds" in index:
            return str(index["name"]), int(index["expireAfterSeconds"])
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
