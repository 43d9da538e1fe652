"""Seals the hashes of people of a database that had no erasure key: afterwards it cannot confirm whom they are about.

Run once every process has the key: all of them look for both forms of a hash, so calls may go on meanwhile. It can be
interrupted: the next run continues. Entries of the audit trail stay as they were written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.store.mongo import operations
from lkmongo.store.mongo.client import Client
from lkmongo.store.mongo.erasure_key import ErasureKey
from lkmongo.store.mongo.schema import KEYS, RECEIPTS, TOMBSTONES
from lkmongo.store.people.person_hash import KEY_ID, SECRET, PersonHashes, seal

Document = dict[str, Any]

_BATCH = 1_000
_OPEN: Mapping[str, Document] = {
    TOMBSTONES: {"_id": {"$regex": r"^(forgotten/)?[0-9a-f]{64}$"}},
    RECEIPTS: {"hash": {"$regex": r"^[0-9a-f]{64}$"}},
}
"""Documents whose hash is not sealed, by collection."""


async def unsealed(db: AsyncDatabase[Document]) -> dict[str, int] | None:
    """How many hashes are not sealed, by collection; None if there are none, or hashes are sealed from now on."""
    hashing = await PersonHashes(db).known()
    if hashing is None:
        return None
    counts = {name: await _count(db, name) for name in _OPEN}
    return None if hashing.is_sealed and not any(counts.values()) else counts


async def _count(db: AsyncDatabase[Document], name: str) -> int:
    return await operations.read(lambda: db[name].count_documents(_OPEN[name]))


async def seal_hashes(
    db: AsyncDatabase[Document], *, on_progress: Callable[[str, int], None] = lambda _collection, _done: None
) -> dict[str, int] | None:
    """Seal every hash with the erasure key of this process.

    Returns:
        How many, by collection; None if this process has no key for it, or nothing is to be sealed.

    Raises:
        WrongKeyError: hashes are sealed under another key.
        DatabaseError: MongoDB failed; what was sealed before remains so.
    """
    key = db.client.erasure_key if isinstance(db.client, Client) else None
    if key is None or not key.is_set or await unsealed(db) is None:
        return None
    first: Document = {"_id": SECRET, KEY_ID: {"$exists": False}}
    await operations.write(lambda: db[KEYS].update_one(first, {"$set": {KEY_ID: key.id}}))
    await PersonHashes(db).known()  # another process may have been first, with another key
    done = dict.fromkeys(_OPEN, 0)
    for name, selector in _OPEN.items():

        async def find(name: str = name, selector: Document = selector) -> list[Document]:
            return await db[name].find(selector).limit(_BATCH).to_list()

        while documents := await operations.read(find):
            for document in documents:
                move = _move_tombstone if name == TOMBSTONES else _move_receipt
                done[name] += await operations.write(functools.partial(move, db, key, document))
            on_progress(name, done[name])
    return done


async def _move_tombstone(db: AsyncDatabase[Document], key: ErasureKey, document: Document) -> bool:
    """Store it under the sealed hash, then delete it as it was read; one that has changed since is left for later."""
    prefix, slash, person = document["_id"].rpartition("/")
    sealed = f"{prefix}{slash}{seal(key, person)}"
    times = {name: document[name] for name in ("erased_at", "at") if name in document}
    others = {name: value for name, value in document.items() if name not in {"_id", *times}}
    await db[TOMBSTONES].update_one({"_id": sealed}, {"$max": times, "$setOnInsert": others}, upsert=True)
    unchanged = {"_id": document["_id"]} | times | ({"done": document["done"]} if "done" in document else {})
    return (await db[TOMBSTONES].delete_one(unchanged)).deleted_count == 1


async def _move_receipt(db: AsyncDatabase[Document], key: ErasureKey, document: Document) -> bool:
    update = {"$set": {"hash": seal(key, document["hash"])}}
    return (
        await db[RECEIPTS].update_one({"_id": document["_id"], "hash": document["hash"]}, update)
    ).modified_count == 1
