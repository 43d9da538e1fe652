"""Whether the audit trail is whole, and deleting its old entries so that it stays verifiable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from lkmongo.model import now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import AUDIT, AUDIT_CHECKPOINTS
from lkmongo.store.people.audit import BATCH, GENESIS, NUMBERED, Audit, Checkpoint, entry_of
from lkmongo.store.people.person_hash import IN_DATABASE, Hashing, PersonHashes

Document = dict[str, Any]

_SHOWN = 20
"""Problems that are told one by one."""


@dataclass(slots=True)
class Verified:
    """What verifying the trail found.

    Attributes:
        entries: how many there are.
        last: the number and the seal of the last, to be noted elsewhere: nothing else tells that it is missing.
        checkpoint: before which entries were deleted.
        in_database: entries that are sealed with the secret in the database, which whoever may write there could forge.
        count: how many problems there are.
        problems: the first of them, a sentence each.
    """

    entries: int = 0
    last: tuple[int, str] = (0, GENESIS)
    checkpoint: Checkpoint | None = None
    in_database: int = 0
    count: int = 0
    problems: list[str] = field(default_factory=list)

    def found(self, problem: str) -> None:
        self.count += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)


async def verify(
    db: AsyncDatabase[Document],
    *,
    holds: tuple[int, str] | None = None,
    until: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Read the whole trail, and find every entry that was changed, is missing or was not written by lkmongo.

    Args:
        db: the database.
        holds: number and seal of an entry that was there, as `Verified.last` told: the newest entries may be missing.
        until: the number of the last entry to look at, by default of all.
        on_progress: called with the number of entries read so far.

    Raises:
        DatabaseError: MongoDB could not be asked.
        WrongKeyError: this machine does not have the key.
    """
    result = Verified(checkpoint=await Audit(db).checkpoint())
    if (hashing := await PersonHashes(db).known()) is None:
        hashing = Hashing(b"", None, is_sealed=False)
    if begin := result.checkpoint:
        if begin.signature != begin.signed_by(hashing) or (_has_key(hashing) and begin.key == IN_DATABASE):
            result.found(f"the checkpoint at entry {begin.number} is not signed with the key of this machine")
        result.last = (begin.number, begin.hash)
    start = result.last[0]
    bounds: Document = {"$gt": start} | ({"$lte": until} if until is not None else {})
    noted = "" if holds is None else {start: result.last[1]}.get(holds[0], "")
    key = None
    async for batch in operations.read_in_batches(db[AUDIT], {"_id": bounds}, None, BATCH):
        for document in batch:
            key = _check(document, result, hashing, key)
            if holds and document["_id"] == holds[0]:
                noted = document.get("hash", "")
        on_progress(result.entries)
    if holds and holds[0] >= max(start, 1) and noted != holds[1]:
        result.found(f"entry {holds[0]} is not the one that was noted, or is missing with those after it")
    if key == IN_DATABASE and _has_key(hashing) and until is None:
        result.found("the last entry is sealed with the secret in the database, although there is a key")
    others: Document = {"_id": {"$not": {"$gt": 0}}}
    if strange := await operations.read(lambda: db[AUDIT].count_documents(others)):
        result.found(f"{strange} documents are no entries")
    return result


def _has_key(hashing: Hashing) -> bool:
    return hashing.key is not None and hashing.key.is_set


def _check(document: Document, result: Verified, hashing: Hashing, key_before: str | None) -> str:
    """Compare an entry with the one before; returns the id of the key that sealed it."""
    entry = entry_of(document)
    before, previous = result.last
    result.entries += 1
    result.in_database += entry.key == IN_DATABASE
    try:
        seal = entry.sealed_by(hashing)
    except (AttributeError, TypeError, ValueError):
        seal = ""
    if entry.number != before + 1:
        result.found(
            f"entries {before + 1} to {entry.number - 1} are missing"
            if entry.number - 1 > before + 1
            else f"entry {before + 1} is missing"
        )
    elif entry.previous_hash != previous:
        result.found(f"entry {entry.number} does not follow the entry before it")
    if not seal and isinstance(entry.key, str):
        result.found(f"entry {entry.number} is sealed with a key that is not here, with the id {entry.key}")
    elif seal != entry.hash or set(document) != {each.name for each in fields(entry)} - {"number"} | {"_id"}:
        result.found(f"entry {entry.number} was changed")
    elif entry.key == IN_DATABASE and key_before not in {None, IN_DATABASE}:
        result.found(f"entry {entry.number} is sealed with the secret in the database, although there was a key")
    result.last = (entry.number, entry.hash)
    return entry.key


async def count_before(db: AsyncDatabase[Document], keep: timedelta) -> int:
    """How many entries are older than `keep`, up to the first that is not."""
    last = await _last_before(db, keep)
    return await operations.read(lambda: db[AUDIT].count_documents({"_id": {"$gt": 0, "$lte": last}}))


async def _last_before(db: AsyncDatabase[Document], keep: timedelta) -> int:
    kept: Document = NUMBERED | {"at": {"$gte": now() - keep}}
    first = await operations.read(lambda: db[AUDIT].find_one(kept, {"_id": 1}, sort=[("_id", 1)]))
    if first:
        return int(first["_id"]) - 1
    last = await operations.read(lambda: db[AUDIT].find_one(NUMBERED, {"_id": 1}, sort=[("_id", -1)]))
    return int(last["_id"]) if last else 0


async def shorten(db: AsyncDatabase[Document], keep: timedelta | None) -> Checkpoint | None:
    """Delete the entries that are older than `keep`, with a checkpoint; None keeps them for good.

    If it is interrupted, run it again. What is wrong with the deleted entries is counted in the checkpoint.

    Returns:
        The new checkpoint; None if there was nothing to delete or to note.

    Raises:
        DatabaseError, AuthenticationError: MongoDB failed or refused it.
        WrongKeyError: this machine does not have the key.
    """
    audit, hashes = Audit(db), PersonHashes(db)
    before = await audit.checkpoint()
    last = max(await _last_before(db, keep) if keep is not None else 0, before.number if before else 0)
    checkpoint = before
    if last > (before.number if before else 0):
        seen = await verify(db, until=last)
        problems = seen.count + (before.problems if before else 0)
        hashing = await hashes.made()
        checkpoint = Checkpoint(last, seen.last[1], now(), problems, hashing.key_id)
        checkpoint = replace(checkpoint, signature=checkpoint.signed_by(hashing))
        await _insert(db, checkpoint)
    if last:
        await operations.write(lambda: db[AUDIT].delete_many({"_id": {"$gt": 0, "$lte": last}}))
    return checkpoint if checkpoint is not before else None


async def _insert(db: AsyncDatabase[Document], checkpoint: Checkpoint) -> None:
    document: Document = {each.name: getattr(checkpoint, each.name) for each in fields(checkpoint)}
    document["_id"] = document.pop("number")

    async def insert() -> None:
        try:
            await db[AUDIT_CHECKPOINTS].insert_one(document)
        except DuplicateKeyError:
            return  # another process does the same

    await operations.write(insert)
