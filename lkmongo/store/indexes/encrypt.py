"""Encrypts what a database holds in plain, or the reverse, and counts both.

Sessions may go on meanwhile: a document is changed only if what was read of it still holds. What is done is not found
again, so the next run continues an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ExecutionTimeout

from lkmongo.settings import Settings
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.cipher import PLAIN
from lkmongo.store.mongo.encryption import MARK, SEALED, Encryption, owner_of, places, resealed
from lkmongo.store.mongo.master_keys import key_file, make_key_file
from lkmongo.store.mongo.schema import MEMORIES, MEMORY_HISTORY, SESSIONS, TURNS, USERS

Document = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with a collection's name, how many of its documents are done, and how many there are."""

_BATCH = 500
_PASSES = 3
"""How often documents are tried that change meanwhile."""
_COUNT_MAX_TIME_MS = 20_000
_SLOT = ("content", "former.content", "offered.former.content"), ("dates", "former.dates", "offered.former.dates"), ()
_PATHS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    MEMORIES: _SLOT,
    MEMORY_HISTORY: _SLOT,
    TURNS: (("content", "arguments", "output"), (), ()),
    SESSIONS: (
        ("summary.text", "summary.commitments.text", "learning.proposals.content"),
        ("summary.topics",),
        ("learning.answer",),
    ),
    USERS: (("name", "email", "last_session.gist", "commitments.text"), (), ()),
}
"""What `places` finds, as queries need it: texts, lists and documents."""
_LEFT_OUT = {"embedding": 0, "summary.embedding": 0, "report": 0, "metrics": 0}


@dataclass(slots=True)
class Converted:
    """What was done, or would be done, with the documents of one collection.

    Attributes:
        found: documents with something to convert, at the beginning.
        done: how many were converted.
        left: those that changed at each attempt, or were written meanwhile.
    """

    collection: str
    found: int = 0
    done: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How many documents of one collection have something in plain, and something encrypted; None if not counted."""

    collection: str
    plain: int | None
    encrypted: int | None


def plain_query(collection: str) -> Document:
    """The query for documents with something that is not encrypted."""
    texts, lists, documents = _PATHS[collection]
    found: list[Document] = [{path: {"$gt": ""}} for path in texts]
    found += [{f"{path}.0": {"$exists": True}} for path in lists]
    found += [{path: {"$type": "object", "$ne": {}}} for path in documents]
    return {"$or": found + _own_fields(collection, "string")}


def encrypted_query(collection: str) -> Document:
    """The query for documents with something that is encrypted."""
    paths = [path for kind in _PATHS[collection] for path in kind]
    return {"$or": [{path: {"$type": "binData"}} for path in paths] + _own_fields(collection, "binData")}


def _own_fields(collection: str, kind: str) -> list[Document]:
    """The profile fields of a project, whose names are not known here."""
    if collection != USERS:
        return []
    values = {"$objectToArray": {"$cond": [{"$eq": [{"$type": "$fields"}, "object"]}, "$fields", {}]}}
    return [{"$expr": {"$in": [kind, {"$map": {"input": values, "in": {"$type": "$$this.v"}}}]}}]


async def states(db: AsyncDatabase[Document]) -> list[State]:
    """Count what is encrypted and what is not, which reads all documents. Raises DatabaseError."""

    async def count(name: str, query: Document) -> int | None:
        try:
            return await db[name].count_documents(query, maxTimeMS=_COUNT_MAX_TIME_MS)
        except ExecutionTimeout:
            return None

    async def state(name: str) -> State:
        return State(name, await count(name, plain_query(name)), await count(name, encrypted_query(name)))

    return [await operations.read(lambda name=name: state(name)) for name in SEALED]  # type: ignore[misc]


async def convert(
    db: AsyncDatabase[Document],
    *,
    decrypt: bool = False,
    dry_run: bool = False,
    on_progress: Progress = lambda _collection, _done, _total: None,
) -> list[Converted]:
    """Encrypt everything that is there in plain, or decrypt everything that is encrypted.

    Args:
        db: the database, whose encryption is on.
        decrypt: the reverse.
        dry_run: count, and change nothing.
        on_progress: called at the beginning of each collection and after each batch.

    Raises:
        DatabaseError: MongoDB cannot be reached, or refuses a write; what was done before remains so.
        EncryptionError: a key is missing, or a value cannot be opened.
    """
    return [await _convert(db, name, decrypt=decrypt, dry_run=dry_run, on_progress=on_progress) for name in SEALED]


async def _convert(
    db: AsyncDatabase[Document], name: str, *, decrypt: bool, dry_run: bool, on_progress: Progress
) -> Converted:
    collection, query = db[name], encrypted_query(name) if decrypt else plain_query(name)

    async def count() -> int:
        return await operations.read(lambda: collection.count_documents(query))

    found = Converted(name, left=await count())
    found.found = found.left
    on_progress(name, 0, found.found)
    for _ in range(0 if dry_run else _PASSES):
        if not found.left:
            break
        async for documents in operations.read_in_batches(collection, query, _LEFT_OUT, _BATCH):
            found.done += await _write(db, name, documents, decrypt=decrypt)
            on_progress(name, min(found.done, found.found), found.found)
        found.left = await count()
    return found


async def _write(db: AsyncDatabase[Document], name: str, documents: list[Document], *, decrypt: bool) -> int:
    encryption = Encryption.of(db)
    as_read = [{path: deepcopy(holder[key]) for holder, key, _, path in places(name, each)} for each in documents]
    await encryption.open(name, documents)
    requests = []
    for document, unchanged in zip(documents, as_read, strict=True):
        cipher = PLAIN if decrypt else await encryption.cipher(owner_of(document))
        changes = resealed(cipher, name, document)
        update: Document = {"$set": changes}
        if decrypt and name == MEMORIES:
            update["$unset"] = {MARK: ""}
        ids = {key: document[key] for key in ("_id", "tenant_id", "user_id") if key in document}
        requests.append(UpdateOne(ids | unchanged, update))
    result = await operations.write(lambda: db[name].bulk_write(requests, ordered=False))
    return result.matched_count


async def make_master_key(settings: Settings, keeper: AsyncDatabase[Document]) -> Path | None:
    """Make the file with the local master key if there is none, and no keys that another one wraps.

    Args:
        settings: which say where.
        keeper: the database with the key vault.

    Returns:
        The file that was made; None if it was there, or must be copied from where it was made.

    Raises:
        SettingsError: it cannot be written.
        DatabaseError: the key vault cannot be read.
    """
    from lkmongo.store.mongo.key_vault import KEY_VAULT

    if settings.encryption != "local" or key_file(settings).exists():
        return None
    if await operations.read(lambda: keeper[KEY_VAULT].find_one({}, {"_id": 1})):
        return None
    return make_key_file(settings)
