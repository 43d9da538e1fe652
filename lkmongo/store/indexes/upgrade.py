"""Brings documents of earlier versions to the shape that this one writes, and stamps them with its version.

Whatever is changed here can also be read as it was, so an upgrade can wait. Workers may run meanwhile: a document is
changed only if what was read of it still holds. What is stamped is done, so the next run completes an interrupted one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from pymongo import UpdateMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ExecutionTimeout

from lkmongo.confidential import WITHHELD, holds_secret, is_secret, without_secrets
from lkmongo.model import slot_words
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import (
    KNOWLEDGE,
    MEMORIES,
    OLDER,
    OURS,
    READABLE_VERSION,
    SCHEMA_VERSION,
    SESSIONS,
    STAMP,
    USERS,
    VERSION,
)
from lkmongo.store.people.users import PROFILE_PATHS

Document = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with a collection's name, how many of its documents are done, and how many there are."""

_BATCH = 1_000
_PASSES = 3
"""How often documents are tried that change while they are upgraded."""
_KEYS = ("tenant_id", "user_id")
"""With them in a filter, a sharded cluster asks one shard."""
_COUNT_MAX_TIME_MS = 20_000


@dataclass(frozen=True, slots=True)
class Change:
    """What one document needs: values to set and fields to remove by path, as long as `only_if` matches it."""

    only_if: Document
    values: Document = field(default_factory=dict)
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Migration:
    """One difference between the documents of two versions.

    Attributes:
        version: documents of an earlier one may differ.
        collection: where.
        what: the change, in a few words.
        reads: the fields that `change` looks at, as a projection.
        change: what a document needs; None if nothing.
    """

    version: int
    collection: str
    what: str
    reads: Document
    change: Callable[[Mapping[str, Any]], Change | None]


def _secret_slot(slot: Mapping[str, Any]) -> Change | None:
    label, content = slot.get("memory_type"), slot.get("content")
    if not (isinstance(label, str) and isinstance(content, str)) or content == WITHHELD:
        return None
    if not is_secret(label, content):
        return None
    # The vector was made of the secret.
    return Change({"content": content}, {"content": WITHHELD}, ("embedding", "embedding_model"))


def _secret_profile(profile: Mapping[str, Any]) -> Change | None:
    only_if: Document = {}
    values: Document = {}
    removed: list[str] = []
    for path in PROFILE_PATHS.values():
        if isinstance(value := _at(profile, path), str) and holds_secret(value):
            only_if[path] = value
            removed.append(path)
    gist = _at(profile, "last_session.gist")
    if isinstance(gist, str) and (told := without_secrets(gist)) != gist:
        only_if["last_session.gist"] = gist
        if told:
            values["last_session.gist"] = told
        else:
            removed.append("last_session")
    return Change(only_if, values, tuple(removed)) if only_if else None


def _label_words(slot: Mapping[str, Any]) -> Change | None:
    label = slot.get("memory_type")
    if slot.get("label_words") or not isinstance(label, str):
        return None
    return Change({}, {"label_words": slot_words(label)})


def _packed_vector(document: Mapping[str, Any]) -> Change | None:
    from lkmongo.embed.vectors import from_bson, to_bson

    numbers = document.get("embedding")
    if numbers is None:
        return None
    # As it was read, as long as no other vector has taken its place.
    only_if = {"embedding": {"$type": "array"}} | {
        name: document.get(name) for name in ("embedding_model", "updated_at", "content")
    }
    vector = from_bson(numbers, len(numbers))
    if vector is None:
        return Change(only_if, removed=("embedding", "embedding_model"))
    return Change(only_if, {"embedding": to_bson(vector)})


def _start(session: Mapping[str, Any]) -> Change | None:
    if session.get("started_at") is not None or not isinstance(made := session["_id"], ObjectId):
        return None
    return Change({"started_at": None}, {"started_at": made.generation_time})


_ARRAY: Document = {"embedding": {"$cond": [{"$isArray": "$embedding"}, "$embedding", "$$REMOVE"]}}
_VECTOR = _ARRAY | {"embedding_model": 1, "updated_at": 1, "content": 1}

MIGRATIONS = (
    Migration(1, MEMORIES, "add the words of the label", {"memory_type": 1, "label_words": 1}, _label_words),
    Migration(1, MEMORIES, "pack the vector", _VECTOR, _packed_vector),
    Migration(1, KNOWLEDGE, "pack the vector", _VECTOR, _packed_vector),
    Migration(1, MEMORIES, "delete a secret", {"memory_type": 1, "content": 1}, _secret_slot),
    Migration(
        1,
        USERS,
        "delete a secret",
        {path.partition(".")[0]: 1 for path in (*PROFILE_PATHS.values(), "last_session")},
        _secret_profile,
    ),
    # The host of its LiveKit server, which an older session lacks as well, is not known, and matters only for a minute.
    Migration(1, SESSIONS, "add the start", {"started_at": 1}, _start),
)
"""The order matters: what a later one sets or removes of a document wins."""


@dataclass(slots=True)
class Upgraded:
    """What was done, or would be done, with the documents of one collection.

    Attributes:
        older: documents of earlier versions, at the beginning.
        done: how many of them are upgraded, or would be.
        left: documents of earlier versions at the end: written meanwhile, or changed at each attempt.
        changes: how many documents each migration changed; all were stamped besides.
    """

    collection: str
    older: int = 0
    done: int = 0
    left: int = 0
    changes: dict[str, int] = field(default_factory=dict)


async def upgrade(
    db: AsyncDatabase[Document],
    *,
    dry_run: bool = False,
    on_progress: Progress = lambda _collection, _done, _total: None,
) -> AsyncIterator[Upgraded]:
    """Upgrade one collection after the other, and yield what was done with each.

    Args:
        db: the database.
        dry_run: change nothing, and count.
        on_progress: called at the beginning of each collection and after each batch.

    Raises:
        DatabaseError: MongoDB cannot be reached, or refuses a write; what was upgraded before remains so.
    """
    for name in OURS:
        yield await _Upgrade(db[name], dry_run=dry_run, on_progress=on_progress).run()


class _Upgrade:
    """The upgrade of one collection."""

    def __init__(self, collection: AsyncCollection[Document], *, dry_run: bool, on_progress: Progress) -> None:
        self._collection = collection
        self._migrations = [each for each in MIGRATIONS if each.collection == collection.name]
        self._older = OURS[collection.name] | OLDER
        self._dry_run = dry_run
        self._on_progress = on_progress
        self._found = Upgraded(collection.name)
        self._is_first_pass = True

    async def run(self) -> Upgraded:
        found = self._found
        found.older = left = await self._count()
        self._on_progress(found.collection, 0, found.older)
        for _ in range(_PASSES):
            if not left:
                break
            async for documents in self._batches():
                found.done += await self._upgrade(documents)
                self._on_progress(found.collection, min(found.done, found.older), found.older)
            if self._dry_run:
                return found
            self._is_first_pass = False
            left = await self._count()
        found.left = left
        return found

    async def _count(self) -> int:
        return await operations.read(lambda: self._collection.count_documents(self._older))

    async def _batches(self) -> AsyncIterator[list[Document]]:
        """The documents by `_id`, without a cursor that an error or a pause would end."""
        shown: Document = dict.fromkeys((*_KEYS, VERSION), 1)
        for each in self._migrations:
            shown |= each.reads
        last: Any = None

        async def find() -> list[Document]:
            selector = self._older if last is None else self._older | {"_id": {"$ne": last}}
            cursor = self._collection.find(selector, shown, batch_size=_BATCH).sort("_id", 1).limit(_BATCH)
            # Not by $gt, which would end at an `_id` of another type.
            return await (cursor if last is None else cursor.min([("_id", last)]).hint([("_id", 1)])).to_list()

        while documents := await operations.read(find):
            yield documents
            if len(documents) < _BATCH:
                return  # without waiting for the end of what is written meanwhile
            last = documents[-1]["_id"]

    async def _upgrade(self, documents: Sequence[Document]) -> int:
        """Upgrade the documents; returns how many."""
        stamped: list[Any] = []
        requests: list[UpdateOne | UpdateMany] = []
        whats: list[str] = []
        for document in documents:
            changes = [(each.what, change) for each in self._due(document) if (change := each.change(document))]
            whats += [what for what, _ in changes]
            if changes:
                requests.append(self._request(document, [change for _, change in changes]))
            else:
                stamped.append(document["_id"])
        done = len(documents)
        if not self._dry_run:
            if stamped:
                requests.append(UpdateMany(self._older | {"_id": {"$in": stamped}}, {"$set": STAMP}))
            result = await operations.write(lambda: self._collection.bulk_write(requests, ordered=False))
            done = result.matched_count
        for what in whats if self._is_first_pass else ():
            self._found.changes[what] = self._found.changes.get(what, 0) + 1
        return done

    def _due(self, document: Document) -> list[Migration]:
        version = document.get(VERSION)
        return [each for each in self._migrations if each.version > (version if isinstance(version, int) else 0)]

    def _request(self, document: Document, changes: Sequence[Change]) -> UpdateOne:
        selector = self._older | {name: document[name] for name in ("_id", *_KEYS) if name in document}
        values: Document = {}
        removed: set[str] = set()
        for change in changes:
            values = {path: value for path, value in values.items() if path not in change.removed} | change.values
            removed = removed - change.values.keys() | set(change.removed)
        conditions = [change.only_if for change in changes if change.only_if]
        update: Document = {"$set": values | STAMP}
        if removed:
            update["$unset"] = dict.fromkeys(sorted(removed), "")
        return UpdateOne(selector | ({"$and": conditions} if conditions else {}), update)


@dataclass(frozen=True, slots=True)
class Versions:
    """How many documents of one collection earlier and later releases wrote; None if counting timed out."""

    collection: str
    older: int | None
    newer: int | None


async def versions(db: AsyncDatabase[Document]) -> list[Versions]:
    """Count the documents that are not of this version, which reads all of them.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    return list(await asyncio.gather(*(_versions(db, name) for name in OURS)))


async def _versions(db: AsyncDatabase[Document], name: str) -> Versions:
    version = {"$ifNull": [f"${VERSION}", 0]}
    group = {
        "_id": None,
        "older": {"$sum": {"$cond": [{"$lt": [version, SCHEMA_VERSION]}, 1, 0]}},
        "newer": {"$sum": {"$cond": [{"$gt": [version, READABLE_VERSION]}, 1, 0]}},
    }
    pipeline: list[Document] = [{"$match": OURS[name]}, {"$group": group}]

    async def count() -> Versions:
        try:
            cursor = await db[name].aggregate(pipeline, maxTimeMS=_COUNT_MAX_TIME_MS)
            found = next(iter(await cursor.to_list(1)), {})
        except ExecutionTimeout:
            return Versions(name, None, None)
        return Versions(name, found.get("older", 0), found.get("newer", 0))

    return await operations.read(count)


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
