"""Merge two people into one: a guest who turned out to be somebody with a login.

Everything of the guest becomes the login's: in one transaction if the server supports them and the guest's documents
fit; otherwise in steps that can each be repeated, so that an interrupted merge is completed by the next one without
duplicates. Where both have a value, the login's stays: see `merge_values`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError

from lkmongo.declarations import Declarations
from lkmongo.errors import NotReadyError, UsageError
from lkmongo.model import UserScope
from lkmongo.store.mongo import declared, operations
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import MEMORIES, SESSIONS, TURNS, VISITORS
from lkmongo.store.people.merge_steps import Steps
from lkmongo.store.people.merge_values import Offered, Values
from lkmongo.store.people.person import count, is_known, unknown_person
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.sessions import Sessions

Document = dict[str, Any]

_ATOMIC = 2_000
"""The most documents for which a transaction is tried: it must fit a small server's cache, and take under a minute."""
_TRIES = 5
_STEP_TRIES = 25
"""Repeating the steps is cheap: what was moved stays moved. A session may write a slot every few milliseconds."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did, or would do.

    Attributes:
        moved: the guest's documents that became the login's, by collection; the profile is merged into theirs.
        offered: what the guest had and the login is asked about: other values than the login's, and what reads as an
            instruction to the assistant.
        dropped: slots of the guest that did not move: they are offered, or the login's say the same.
        filled: profile fields that only the guest had.
        renamed: ids of sessions that both had, and the new id of the guest's.
        doubles: documents that were dropped because both had one with the same key, by declared collection. The one
            with the later `updated_at` is kept, without that the login's. So with telephone numbers, which are joined,
            and with PINs, of which the login's is kept.
        in_transaction: whether it was atomic.
    """

    moved: dict[str, int]
    offered: list[Offered] = field(default_factory=list)
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
    encryption = Encryption.of(db)
    if not dry_run:
        await encryption.cipher(login)  # before the transaction, which writes what is sealed anew by it
    known = await declared.read(db)
    documents = sum((await count(db, guest, declared.personal_of(known))).values())
    if atomic and not dry_run and documents <= _ATOMIC and await _has_transactions(db):
        try:
            merged = await operations.transact(
                lambda: _in_transaction(db, lambda session: _run(db, known, guest, login, session))
            )
        except _GiveUpError:
            pass  # too many concurrent writes, or the server's cache is too small
        else:
            await encryption.destroy(guest)
            return merged
    merged = await operations.transact(lambda: _in_steps(lambda: _run(db, known, guest, login, None, dry_run=dry_run)))
    if not dry_run:
        await encryption.destroy(guest)  # nothing is sealed by it any more, and it must not outlive the login's
    return merged


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
        steps = Steps(db, guest, login, None, dry_run=False)
        for each in known.personal:
            await steps.move_own(each)

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
    steps = Steps(db, guest, login, session, dry_run=dry_run)
    values = Values(steps)
    moved = await count(db, guest, declared.personal_of(known), session=session)
    dropped = await values.settle_slots()
    while not await values.move_slots():  # ends, since each time the login's stays
        dropped += await values.settle_slots()
    moved[MEMORIES] -= dropped
    if not dry_run:
        await values.former.move()
    doubles = {}
    for each in known.personal:
        if dropped_ones := await steps.move_own(each):
            doubles[each.name] = sum(dropped_ones)
            moved[each.name] -= dropped_ones[0]
    await steps.move(VISITORS)
    for name, number in (await steps.join_phones()).items():
        doubles[name] = number
        moved[name] -= number
    renamed = await steps.free_session_ids()
    # Turns first, so that whoever has a session document has the whole session.
    await steps.move(TURNS)
    await steps.move(SESSIONS)
    filled = await values.merge_profiles() if any(moved.values()) or dropped or doubles else []
    return Merged(moved, list(values.offered.values()), dropped, filled, renamed, doubles, session is not None)
