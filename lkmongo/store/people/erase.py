"""Erase a person: everything stored about them, including what a session in progress would still write.

First a tombstone is written, which sessions and replays obey. Then the collections are swept until they hold nothing.
The document of a session in progress stays until the session has stopped writing: it deletes the document itself when
it sees the tombstone, within two seconds; a session that died loses its lease within six. The receipt comes last. An
erasure that was killed is resumed by the next and has one receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.aio import answered
from lkmongo.declarations import Declarations
from lkmongo.errors import NotReadyError
from lkmongo.model import TenantScope, UserScope
from lkmongo.store.mongo import declared, operations
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import ORDERS, RECEIPTS, SESSIONS
from lkmongo.store.people.forget import NOT_STORED_LATER
from lkmongo.store.people.person import count, unknown_person
from lkmongo.store.people.person_hash import check_note
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.sessions import LIVE, Sessions

Document = dict[str, Any]

PATIENCE = 10.0
"""Seconds to wait for sessions in progress: a lease of six, plus some for a slow database."""
_POLL = 0.25


@dataclass(frozen=True, slots=True)
class Remains:
    """What of a person may be left where an erasure does not reach.

    Attributes:
        hosts: other machines with calls, whose disks may hold what MongoDB has not stored.
        oplog_since: since when MongoDB's operation log holds what was written, if that is known.
    """

    hosts: tuple[str, ...] = ()
    oplog_since: datetime | None = None


class Elsewhere(Protocol):
    """What of a person is not in the collections; see `lkmongo.outbox.erasing`."""

    async def count(self) -> int:
        """How many files on this machine hold something of the person."""

    async def sweep(self) -> int:
        """Delete it, and return in how many files."""

    async def remains(self) -> Remains:
        """What is left."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a person was erased, with nothing to identify them by but a keyed hash.

    Attributes:
        erase_id: of the erasure.
        hash: the keyed hash of the person's id.
        tenant_id: their tenant.
        began_at: when it was first requested.
        erased_at: sessions that began before are barred for good.
        by: who did it.
        reason: why, in their words.
        counts: deleted documents by collection, including 0 for those that were searched in vain.
        orders_kept: orders that stay as business records.
        kept: documents that stay because their collection is declared so, by collection.
        key: what became of the key that the person's data were encrypted under, by which backups are unreadable;
            "apart" if it was kept apart from them. None if they had none.
        journals: files on the disk of the machine that erased, from which the person was removed.
        hosts, oplog_since: see `Remains`.
    """

    erase_id: ObjectId
    hash: str
    tenant_id: str
    began_at: datetime
    erased_at: datetime
    by: str
    reason: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    orders_kept: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)
    key: Literal["destroyed", "destroyed apart"] | None = None
    journals: int = 0
    hosts: tuple[str, ...] = ()
    oplog_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """What `erase_known` found and did.

    Attributes:
        found: documents at the beginning, by collection that was looked at.
        orders_kept: orders that stay as business records.
        kept: documents that stay because their collection is declared so, by collection.
        journals: files on this machine's disk that hold something of the person.
        receipt: of this erasure, or of an earlier one that left nothing to erase.
        erased: whether anything was erased now.
        resumed: whether an interrupted erasure was to be completed.
    """

    found: Mapping[str, int]
    orders_kept: int
    kept: Mapping[str, int]
    journals: int = 0
    receipt: Receipt | None = None
    erased: bool = False
    resumed: bool = False

    @property
    def is_needed(self) -> bool:
        return self.resumed or bool(self.journals) or any(self.found.values())


def _checked_notes(by: str, reason: str | None, scope: UserScope) -> tuple[str, str | None]:
    by = check_note("name of who does it", by, scope)
    return by, None if reason is None else check_note("reason", reason, scope)


async def erase_known(
    db: AsyncDatabase[Document],
    scope: UserScope,
    *,
    by: str,
    reason: str | None = None,
    orders: bool = False,
    dry_run: bool = False,
    confirm: Callable[[Erasure], Awaitable[None] | None] = lambda _: None,
    on_wait: Callable[[list[str]], None] = lambda _sessions: None,
    elsewhere: Elsewhere | None = None,
) -> Erasure:
    """As `erase`, after `confirm` was called with what will be erased; it raises to prevent that.

    If there is nothing to erase, sessions that have begun by now are barred all the same, so that nothing that waits on
    a worker's disk is stored later. A dry run changes nothing.

    Raises:
        NotFoundError: nobody has that id, and nobody was erased under it.
        LkmongoError: see `erase`.
    """
    by, reason = _checked_notes(by, reason, scope)
    known = await declared.read(db)
    names, staying = _split(known, orders=orders)
    counts = await count(db, scope, names)
    kept = await count(db, scope, staying)
    orders_kept = kept.pop(ORDERS, 0)
    tombstones = Tombstones(db)
    before = await tombstones.get(scope)
    journals = await elsewhere.count() if elsewhere else 0
    erasure = Erasure(counts, orders_kept, kept, journals, resumed=before is not None and not before.done)
    if not erasure.is_needed:
        if not dry_run:
            await tombstones.bar(scope)
        given = await receipts(db, scope.tenant, scope=scope, limit=1)
        if not (given or orders_kept or any(kept.values())):
            raise await unknown_person(db, scope, why=None if dry_run else NOT_STORED_LATER)
        return replace(erasure, receipt=given[0] if given else None)
    if dry_run:
        return erasure
    await answered(confirm(erasure))
    receipt = await erase(db, scope, by=by, reason=reason, orders=orders, on_wait=on_wait, elsewhere=elsewhere)
    return replace(erasure, receipt=receipt, erased=True)


async def erase(
    db: AsyncDatabase[Document],
    scope: UserScope,
    *,
    by: str,
    reason: str | None = None,
    orders: bool = False,
    on_wait: Callable[[list[str]], None] = lambda _sessions: None,
    patience: float = PATIENCE,
    elsewhere: Elsewhere | None = None,
) -> Receipt:
    """Delete everything that is stored about the person; if interrupted, run it again.

    Args:
        db: the database.
        scope: who is erased.
        by: who does it, for the receipt; see `check_note`.
        reason: why, for the receipt, likewise.
        orders: delete their orders, too.
        on_wait: called once with the ids of the sessions that are waited for.
        patience: seconds to wait for them.
        elsewhere: what of the person is not in the collections, to be swept as well.

    Raises:
        NotReadyError: a session is still in progress, or something else still writes; run it again.
        InvalidTextError: `by` or `reason` cannot be on a receipt.
        DatabaseError: MongoDB answered with an error; run it again.
    """
    by, reason = _checked_notes(by, reason, scope)
    names, staying = _split(await declared.read(db), orders=orders)
    tombstones = Tombstones(db)
    found = await count(db, scope, names)
    tombstone = await tombstones.begin(scope, found)
    remains = await elsewhere.remains() if elsewhere else Remains()
    journals = await elsewhere.sweep() if elsewhere else 0
    deleted = dict.fromkeys(names, 0)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    waiting = False
    while True:
        for name in names:
            deleted[name] += await _sweep(db, scope, name)
        left = await count(db, scope, names)
        if not any(left.values()):
            break
        live = await Sessions(db).live(scope)
        if live and not waiting:
            on_wait(live)
            waiting = True
        if loop.time() > give_up:
            raise _still_written(scope, live, left)
        await asyncio.sleep(_POLL)
        # Bar sessions that have begun meanwhile, too: what they write would be found at every count.
        tombstone = await tombstones.extend(tombstone)
    journals += await elsewhere.sweep() if elsewhere else 0
    kept = await count(db, scope, staying)
    key = await _destroy_key(db, scope)
    # Includes what an interrupted run had found, and what this run found only after its beginning.
    counts = {name: tombstone.found.get(name, 0) + max(0, deleted[name] - found[name]) for name in names}
    receipt = Receipt(
        erase_id=tombstone.erase_id,
        hash=tombstone.hash,
        tenant_id=scope.tenant_id,
        began_at=tombstone.begun_at,
        erased_at=tombstone.erased_at,
        by=by,
        reason=reason,
        counts=counts,
        orders_kept=kept.pop(ORDERS, 0),
        kept=kept,
        key=key,
        journals=journals,
        hosts=remains.hosts,
        oplog_since=remains.oplog_since,
    )
    stored = asdict(receipt)
    selector = {"_id": stored.pop("erase_id")}
    await operations.write(lambda: db[RECEIPTS].update_one(selector, {"$set": stored}, upsert=True))
    await tombstones.finish(tombstone)
    return receipt


async def _destroy_key(db: AsyncDatabase[Document], scope: UserScope) -> Literal["destroyed", "destroyed apart"] | None:
    encryption = Encryption.of(db)
    if not await encryption.destroy(scope):
        return None
    return "destroyed apart" if encryption.vault and encryption.vault.apart else "destroyed"


async def sweep_behind(db: AsyncDatabase[Document], scope: UserScope, session_id: str) -> None:
    """Delete what the session of an erased person has left; called by the session when it learns of the erasure.

    Its process may have been suspended for longer than its lease between looking for the tombstone and writing, so that
    the erasure was over before the write. If the person has come back since, their other data are new and stay.
    """
    tombstone = await Tombstones(db).get(scope)
    others = scope.filter | {"session_id": {"$ne": session_id}}
    other = await operations.read(lambda: db[SESSIONS].find_one(others, {"_id": 1}))
    if tombstone and tombstone.done and other is None:  # otherwise the erasure does it, and counts
        names, _ = _split(await declared.read(db), orders=False)
        for name in names:
            if name != SESSIONS:
                await _sweep(db, scope, name)
    await Sessions(db).discard(scope, session_id)


async def discard_own(db: AsyncDatabase[Document], guest: UserScope) -> None:
    """Delete a guest's documents of declared collections: the guest turned out to be somebody who is erased."""
    known = await declared.read(db)
    for name in known.own.keys() & set(_split(known, orders=False)[0]):
        await _sweep(db, guest, name)


def _split(known: Declarations, *, orders: bool) -> tuple[list[str], list[str]]:
    """The collections that are erased, and those whose documents stay; `orders` are erased if that is asked for."""
    stay = {each.name for each in known.personal if not (each.erased or (orders and each.name == ORDERS))}
    names = declared.personal_of(known)
    return [name for name in names if name not in stay], [name for name in names if name in stay]


async def _sweep(db: AsyncDatabase[Document], scope: UserScope, name: str) -> int:
    selector = scope.filter | ({"$nor": [LIVE]} if name == SESSIONS else {})
    return (await operations.write(lambda: db[name].delete_many(selector))).deleted_count


def _still_written(scope: UserScope, live: list[str], left: Mapping[str, int]) -> NotReadyError:
    found = ", ".join(f"{name}: {number}" for name, number in left.items() if number)
    if live:
        what = f"{scope.user_id} is still in a session: {', '.join(live)}"
    else:
        what = f"something is still writing data of {scope.user_id}"
    return NotReadyError(what, why=f"left so far: {found}", hint="run it again; it continues where it stopped")


async def receipts(
    db: AsyncDatabase[Document], tenant: TenantScope, *, scope: UserScope | None = None, limit: int = 50
) -> list[Receipt]:
    """The receipts of a tenant, or of one person, newest first."""
    selector: Document = dict(tenant.filter)
    if scope is not None:
        selector["hash"] = {"$in": await Tombstones(db).hashes_of(scope)}

    async def find() -> list[Receipt]:
        return [_receipt(document) async for document in db[RECEIPTS].find(selector).sort("erased_at", -1).limit(limit)]

    return await operations.read(find)


def _receipt(document: Document) -> Receipt:
    known = {each.name: document[each.name] for each in fields(Receipt) if each.name in document}
    known["hosts"] = tuple(known.get("hosts", ()))
    return Receipt(erase_id=document["_id"], **known)
