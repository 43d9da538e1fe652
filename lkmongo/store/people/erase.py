"""Erase a person: everything that is kept of them, also what a call that goes on would still write.

A tombstone comes first, which calls and replays obey. Then the collections are swept until nothing is counted in any
of them. The document of a call that goes on stays until the call has stopped writing: it deletes that document
itself when it sees the tombstone, within two seconds, and a call that died loses its lease within six. Last comes the
receipt. An erasure that was killed is resumed by the next, and has one receipt.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import InvalidTextError, NotReadyError
from lkmongo.model import TenantScope, UserScope, clean_text
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import ORDERS, PERSONAL, RECEIPTS, SESSIONS
from lkmongo.store.people.person import count
from lkmongo.store.people.tombstones import Tombstone, Tombstones
from lkmongo.store.sessions.sessions import LIVE, Sessions

Document = dict[str, Any]

PATIENCE = 10.0
"""Seconds to wait for calls that go on: a lease of six, and some more for a slow database."""
_POLL = 0.25
_MAX_NOTE = 200


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a person was erased, with nothing by which they could be known again but a keyed hash.

    Attributes:
        erase_id: which erasure it was.
        hash: the keyed hash of the person's id.
        tenant_id: the tenant whose customer they were.
        began_at: when it was first asked for.
        erased_at: calls that began before are barred for good.
        by: who did it.
        reason: why, in their words.
        counts: documents that were deleted, by collection; each that was looked at is here.
        orders_kept: orders that stay, as records of the business.
    """

    erase_id: ObjectId
    hash: str
    tenant_id: str
    began_at: datetime
    erased_at: datetime
    by: str
    reason: str | None
    counts: Mapping[str, int]
    orders_kept: int


def check_note(what: str, text: str, scope: UserScope) -> str:
    """Return what a receipt is to say as it may say it; `what` names it, such as "reason".

    Raises:
        InvalidTextError: it is empty or too long, or holds the person's id, which a receipt must not.
    """
    text = " ".join(clean_text(text).split())
    if not text:
        raise InvalidTextError(f"the {what} is empty", hint="say something, or leave the option out")
    if len(text) > _MAX_NOTE:
        raise InvalidTextError(f"the {what} has {len(text)} characters; {_MAX_NOTE} are allowed", hint="name a ticket")
    if re.search(rf"(?<!\w){re.escape(scope.user_id)}(?!\w)", text, re.IGNORECASE):
        raise InvalidTextError(
            f"the {what} holds the id of the person, which the receipt must not", hint="say it in another way"
        )
    return text


async def erase(
    db: AsyncDatabase[Document],
    scope: UserScope,
    *,
    by: str,
    reason: str | None = None,
    orders: bool = False,
    on_wait: Callable[[list[str]], None] = lambda _calls: None,
    patience: float = PATIENCE,
) -> Receipt:
    """Delete everything that is kept of the person; run it again when it was interrupted.

    Args:
        db: the database.
        scope: who is erased.
        by: who does it, for the receipt; see `check_note`.
        reason: why, for the receipt, likewise.
        orders: delete their orders, too.
        on_wait: told once the ids of the calls that are waited for.
        patience: seconds to wait for them.

    Raises:
        NotReadyError: a call still goes on, or something else still writes; run it again.
        InvalidTextError: `by` or `reason` cannot be on a receipt.
        DatabaseError: MongoDB answered with an error; run it again.
    """
    by = check_note("name of who does it", by, scope)
    reason = None if reason is None else check_note("reason", reason, scope)
    names = PERSONAL if orders else tuple(name for name in PERSONAL if name != ORDERS)
    tombstones = Tombstones(db)
    found = await count(db, scope, names)
    tombstone = await tombstones.begin(scope, found)
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
        # A call that has begun meanwhile is barred, too: what it wrote by now would be found at every count.
        tombstone = await tombstones.extend(tombstone)
    kept = 0 if orders else (await count(db, scope, [ORDERS]))[ORDERS]
    # What an interrupted run deleted was noted by it; this run may have found more than at its own beginning.
    counts = {name: tombstone.found.get(name, 0) + max(0, deleted[name] - found[name]) for name in names}
    receipt = await _write_receipt(db, scope, tombstone, by, reason, counts, kept)
    await tombstones.finish(tombstone)
    return receipt


async def sweep_behind(db: AsyncDatabase[Document], scope: UserScope, session_id: str) -> None:
    """Delete what an erased call has left; the call itself does this when it hears of the erasure.

    Its process may have stood still, longer than its lease, between looking for the tombstone and writing: then the
    erasure was over before the write came. Where the person has come back since, their other data are new.

    Args:
        db: the database.
        scope: who was erased.
        session_id: the call.

    Raises:
        DatabaseError: MongoDB answered with an error.
    """
    tombstone = await Tombstones(db).get(scope)
    others = scope.filter | {"session_id": {"$ne": session_id}}
    other = await operations.read(lambda: db[SESSIONS].find_one(others, {"_id": 1}))
    if tombstone and tombstone.done and other is None:  # else the erasure does it, and counts
        for name in PERSONAL:
            if name not in {ORDERS, SESSIONS}:
                await _sweep(db, scope, name)
    await Sessions(db).discard(scope, session_id)


async def _sweep(db: AsyncDatabase[Document], scope: UserScope, name: str) -> int:
    selector = scope.filter | ({"$nor": [LIVE]} if name == SESSIONS else {})
    return (await operations.write(lambda: db[name].delete_many(selector))).deleted_count


def _still_written(scope: UserScope, live: list[str], left: Mapping[str, int]) -> NotReadyError:
    found = ", ".join(f"{name}: {number}" for name, number in left.items() if number)
    if live:
        what = f"{scope.user_id} is still in a call: {', '.join(live)}"
    else:
        what = f"something still writes about {scope.user_id}"
    return NotReadyError(what, why=f"left so far: {found}", hint="run it again; it goes on where it stopped")


async def _write_receipt(
    db: AsyncDatabase[Document],
    scope: UserScope,
    tombstone: Tombstone,
    by: str,
    reason: str | None,
    counts: Mapping[str, int],
    orders_kept: int,
) -> Receipt:
    fields = {
        "hash": tombstone.hash,
        "tenant_id": scope.tenant_id,
        "began_at": tombstone.begun_at,
        "erased_at": tombstone.erased_at,
        "by": by,
        "reason": reason,
        "counts": dict(counts),
        "orders_kept": orders_kept,
    }
    await operations.write(lambda: db[RECEIPTS].update_one({"_id": tombstone.erase_id}, {"$set": fields}, upsert=True))
    return _receipt(fields | {"_id": tombstone.erase_id})


async def receipts(
    db: AsyncDatabase[Document], tenant: TenantScope, *, scope: UserScope | None = None, limit: int = 50
) -> list[Receipt]:
    """The receipts of a tenant, newest first; of one person, where `scope` says whose."""
    selector: Document = dict(tenant.filter)
    if scope is not None:
        selector["hash"] = await Tombstones(db).hash_of(scope)

    async def find() -> list[Receipt]:
        return [_receipt(document) async for document in db[RECEIPTS].find(selector).sort("erased_at", -1).limit(limit)]

    return await operations.read(find)


def _receipt(document: Mapping[str, Any]) -> Receipt:
    return Receipt(
        document["_id"],
        document["hash"],
        document["tenant_id"],
        document["began_at"],
        document["erased_at"],
        document["by"],
        document.get("reason"),
        document.get("counts") or {},
        document.get("orders_kept", 0),
    )
