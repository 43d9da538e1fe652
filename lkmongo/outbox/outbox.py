"""The outbox of a session: whatever it writes waits here, and on disk, until MongoDB has it.

`add` puts an operation into memory and, at once, into the journal. One writer for each lane stores what is pending in
order, under the session's lease, and tries again with growing pauses. What MongoDB does not acknowledge soon is synced
to disk. What is left when the session ends stays in the journal for `recovery`, which stores it by the same `apply`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

from lkmongo import deadlines
from lkmongo.aio import Task, level_of
from lkmongo.backoff import retry_pause
from lkmongo.conversation import Conversation
from lkmongo.errors import DatabaseUnavailableError, InvalidTextError, LkmongoError
from lkmongo.model import SessionRecord, Turn, UserScope, now
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.holding import Holding
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.journal_writer import JournalWriter, Pending
from lkmongo.outbox.lease import Lease, SupersededError
from lkmongo.outbox.operations import (
    LANES,
    AddTurn,
    Change,
    End,
    Entry,
    Lane,
    LinkPhone,
    MoveGuest,
    Operation,
    TakeBack,
    without_consent,
)
from lkmongo.outbox.sealed_journal import Seal
from lkmongo.store.open import Store
from lkmongo.store.people.erase import discard_own
from lkmongo.store.people.tombstones import ErasedError

logger = logging.getLogger(__name__)

Saved = Literal["stored", "kept", "not saved"]
"""Where a change is: in MongoDB, in the journal on disk, or in this process only."""

_FRESH = timedelta(milliseconds=20)
"""A change this recent is stored unconditionally; another process may have written after an older one."""
_BATCH = 100
"""Turns stored per write, so that on a slow line each attempt makes progress."""


class Outbox(Holding):
    """The pending operations of one session.

    Attributes:
        record: the session as it began.
        lease: lets the session write for its person.
        stored_count: changes of the person's memory stored so far: anything read before it grew may be stale.
        increments: by how much these have incremented the person's `memory_version`.
        changed: the subjects of all changes of the person's memory, stored or not.
        conversation: redacts what is said, before it is added here.
    """

    def __init__(
        self, store: Store, record: SessionRecord, create_journal: Callable[[SessionRecord, str], Journal] | None = None
    ) -> None:
        """Write nothing yet; `create_journal` takes the lease's owner, too; None to journal nothing."""
        super().__init__()
        self.record = record
        self.stored_count = self.increments = 0
        self.changed: set[Hashable] = set()
        self._store = store
        self._pending: dict[Hashable, Operation] = {}
        self._tried: dict[Hashable, Operation] = {}
        self._lanes: dict[Lane, Task] = {}
        self._failing: dict[Lane, Exception] = {}
        self._has_failed = {lane: asyncio.Event() for lane in LANES}
        self._storing_turns = asyncio.Lock()
        self._closing = asyncio.Event()
        self._closed = False
        self._on_acquired: list[Callable[[], None]] = []
        self._on_erased: list[Callable[[], None]] = []
        self._on_logged_out: list[Callable[[], None]] = []
        self._on_stored: list[Callable[[Operation], None]] = []
        self._erasing: Task | None = None
        self.conversation = Conversation(store.redaction.redactor(record.scope.tenant_id))
        create = (lambda: create_journal(self.record, self.lease.owner)) if create_journal else None
        self._journal = JournalWriter(self._pending, create, self._entries, self._sealed)
        self._use(Lease(store, record))

    def _use(self, lease: Lease) -> None:
        self.lease = lease
        self._target = Target(self._store, self.record, lease.owner, lease, next_seq=0)
        lease.on_acquired(self._acquired)
        lease.on_lost(self._erase)
        for callback in self._on_logged_out:
            lease.on_logged_out(callback)

    def _acquired(self) -> None:
        for callback in self._on_acquired:
            callback()

    def on_acquired(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the lease is first acquired, and that of a guest who is identified once more."""
        self._on_acquired.append(callback)

    def on_erased(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the person is erased or refused, before any later write is refused."""
        self._on_erased.append(callback)

    def on_logged_out(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the visitor logs out during the session."""
        self._on_logged_out.append(callback)
        self.lease.on_logged_out(callback)

    def on_stored(self, callback: Callable[[Operation], None]) -> None:
        """Call `callback`, which must not raise, with each operation that has changed what MongoDB has."""
        self._on_stored.append(callback)

    def start(self) -> None:
        """Show the session in the database and on disk, so that it is found if its process dies."""
        self._shows = True
        if self._gate == "open":
            self._is_shown = True
            self.lease.start()
            self._journal.update()

    # ---------------------------------------------------------------- what is pending

    def add(self, operation: Operation) -> None:
        """Begin to journal and to store an operation; it replaces a pending one with the same key."""
        if self.lease.lost or self._closed:
            return
        if self._gate == "shut":
            allowed = without_consent(operation) if self._is_shown else None
            if allowed is None:
                self._dropped.add(operation.key)
                return
            operation = allowed
        if isinstance(operation, End):
            self.release()
        if isinstance(operation, Change):
            self.changed.add(operation.subject)
        self._pending.pop(operation.key, None)
        self._pending[operation.key] = operation
        if not self.is_held:
            self._journal.update(sync=operation.lane in self._failing)
            self._begin(operation.lane)

    async def write(self, operation: Operation) -> None:
        """Add an operation; return when MongoDB has it or, if MongoDB is slow or unreachable, when the disk has it."""
        self.add(operation)
        if self.is_held:
            return
        # Once MongoDB is known to be unreachable, later turns do not wait for it again.
        await self.settle(operation.lane, 0 if self._store.breaker.is_open else deadlines.ACKNOWLEDGED)
        if self.saved == "not saved":
            why = _words(self.error) if self.error else "MongoDB does not answer"
            logger.warning("a change is in memory only, neither stored nor journaled: %s", why)

    async def settle(self, lane: Lane, deadline: float) -> None:
        """Wait up to `deadline` seconds until MongoDB has a lane's operations; sync to disk what it has not.

        Does not wait for another attempt after one has failed.
        """
        if self.is_held:
            return
        if self.pending(lane):
            failed = asyncio.create_task(self._has_failed[lane].wait())
            await asyncio.wait({self._begin(lane), failed}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
            failed.cancel()
        if self.pending(lane):
            await self._journal.sync()

    async def stored(self, lane: Lane) -> None:
        """Wait until MongoDB has a lane's operations, however long it takes; not if they may not be stored."""
        if self.pending(lane) and not self.is_held:
            await asyncio.wait({self._begin(lane)})

    def pending(self, lane: Lane) -> list[Operation]:
        """What MongoDB does not have yet, oldest first."""
        return [operation for operation in self._pending.values() if operation.lane == lane]

    @property
    def is_empty(self) -> bool:
        """Whether MongoDB has everything."""
        return not self._pending

    @property
    def announces(self) -> bool:
        """Whether a webhook is told of the end."""
        return self._store.sessions.announces

    @property
    def is_kept(self) -> bool:
        """Whether all that MongoDB does not have is on disk, even if the machine crashes."""
        return self._journal.has_synced(self._pending.values())

    @property
    def saved(self) -> Saved:
        """Where the least durable of the changes to the person's memory is."""
        changes = [each for each in self.pending("memory") if not isinstance(each, LinkPhone)]
        return ("kept" if self._journal.has_synced(changes) else "not saved") if changes else "stored"

    @property
    def error(self) -> Exception | None:
        """Why something is not stored yet; None if nothing has failed since the last success."""
        return next(iter(self._failing.values()), None)

    # ---------------------------------------------------------------- to MongoDB

    def _begin(self, lane: Lane) -> Task:
        if lane not in self._lanes or self._lanes[lane].done():
            self._lanes[lane] = asyncio.create_task(self._write_lane(lane))
        return self._lanes[lane]

    async def _write_lane(self, lane: Lane) -> None:
        failures = 0
        while self._ready(lane):
            if lane == "turns" and not failures:
                # They arrive out of order: a tool call in an event of its own, after the words that precede it.
                await self._pause(deadlines.TURN_ORDER)
            is_last = self._closing.is_set()
            try:
                await self._attempt(lane)
            except ErasedError:
                return
            except SupersededError:
                await self._journal.sync()  # recovery adds what this agent still had
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, what is pending must not be lost
                failures += 1
                self._note(lane, error, is_first=failures == 1 and not is_last)
                await self._journal.sync()
                if is_last:
                    return
                await self._pause(retry_pause(failures))
            else:
                failures = 0
                self._failing.pop(lane, None)
                self._has_failed[lane].clear()

    def _note(self, lane: Lane, error: Exception, *, is_first: bool) -> None:
        self._failing[lane] = error
        self._has_failed[lane].set()
        if not isinstance(error, LkmongoError):
            logger.error("%s not stored yet; retrying", _WHAT[lane], exc_info=error)
        elif is_first:
            logger.log(level_of(error), "%s not stored yet; retrying: %s", _WHAT[lane], _words(error))

    async def _attempt(self, lane: Lane) -> None:
        """Store what is pending in a lane; what takes long is synced to disk meanwhile.

        Raises:
            DatabaseUnavailableError: it takes longer than `deadlines.WRITE_ATTEMPT`.
        """
        task = asyncio.create_task(self._store_lane(lane))
        until = asyncio.get_running_loop().time() + deadlines.WRITE_ATTEMPT
        try:
            while not task.done() and (left := until - asyncio.get_running_loop().time()) > 0:
                await asyncio.wait({task}, timeout=min(left, deadlines.ACKNOWLEDGED))
                if not task.done():
                    await self._journal.sync()
            if not task.done():
                raise DatabaseUnavailableError(why="it does not answer")
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _store_lane(self, lane: Lane) -> None:
        if lane == "turns":
            async with self._storing_turns:
                await self._store_pending(lane)
        else:
            await self._store_pending(lane)

    async def _store_pending(self, lane: Lane) -> None:
        while operations := self._next(lane):
            first = operations[0]
            # Another process may have written since a change that was tried before or had to wait.
            is_untried = self._tried.get(first.key) is not first
            is_fresh = is_untried and isinstance(first, Change) and now() - first.at <= _FRESH
            self._tried[first.key] = first
            if (
                lane == "end"
                and (self.lease.continues or self._moves or self._takes_back)
                and not await self._turns_are_stored()
            ):
                raise DatabaseUnavailableError(why="its turns are not stored yet")
            if isinstance(first, TakeBack):
                await self._idle("memory")  # something of the person's may just be stored
            async with self.lease.writing():  # for each batch: together they may take longer than a lease
                if self.lease.continues and not self._target.next_seq:
                    self._target.next_seq = None
                try:
                    changed = await apply(operations, self._target, fresh=is_fresh)
                except InvalidTextError as error:  # it would never be stored
                    logger.warning("a change is left out: %s", error.message)
                    changed = 0
            if lane == "memory":
                self.stored_count += 1
                self.increments += changed
            self._acknowledge(operations)
            if changed:
                for callback in self._on_stored:
                    for each in operations:
                        callback(each)

    def _next(self, lane: Lane) -> Sequence[Operation]:
        pending = self._ready(lane)
        turns = sorted((each for each in pending if isinstance(each, AddTurn)), key=lambda each: each.turn.created_at)
        return turns[:_BATCH] or pending[:1]

    def _acknowledge(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            self._tried.pop(operation.key, None)
            if self._pending.get(operation.key) is operation:
                del self._pending[operation.key]
        self._journal.update()

    @property
    def _moves(self) -> list[MoveGuest]:
        return [each for each in self._pending.values() if isinstance(each, MoveGuest)]

    @property
    def _takes_back(self) -> bool:
        return any(isinstance(each, TakeBack) for each in self._pending.values())

    async def _turns_are_stored(self) -> bool:
        await self._idle("turns")
        return not self.pending("turns")

    async def _idle(self, lane: Lane) -> None:
        # One may be added when those before it have just been stored.
        while (storing := self._lanes.get(lane)) and not storing.done():
            await asyncio.wait({storing})

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the session."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _entries(self, operations: Pending) -> list[Entry]:
        """The journal entries of operations; turns get the numbers that they will probably have."""
        first = self._target.next_seq
        turns = [key for key, each in self._pending.items() if isinstance(each, AddTurn)]
        seqs = {key: seq for seq, key in enumerate(turns, first or 0)}
        return [
            AddTurn(replace(each.turn, seq=seqs.get(key, 0)), numbered=bool(first)).entry
            if isinstance(each, AddTurn)
            else each.entry
            for key, each in operations.items()
        ]

    async def _sealed(self, journal: Path, entries: list[Entry]) -> list[Entry]:
        patience = 0 if self._store.breaker.is_open else deadlines.ACKNOWLEDGED
        seal = Seal(self._store.encryption, self.record.scope, self.record.session_id)
        return await seal(journal, entries, patience=patience)

    # ---------------------------------------------------------------- another scope, and the end

    def redacted_for(self, scope: UserScope, turns: Sequence[Turn]) -> list[Turn]:
        """The turns as the policy of another tenant has them, which may keep less."""
        return Conversation(self._store.redaction.redactor(scope.tenant_id)).turns(turns)

    async def change_scope(self, record: SessionRecord, turns: Sequence[Turn]) -> None:
        """Move the session with all its `turns` from a guest to a person, or another guest; call `start` afterwards.

        What is stored of it under the scope before is deleted once it is stored under the new one.
        """
        guest = self.record.scope
        await self._move(record, MoveGuest(guest.tenant_id, guest.user_id), turns)

    async def _move(self, record: SessionRecord, first: Operation, turns: Sequence[Turn]) -> None:
        async with self._storing_turns:
            before = self.lease
            self.record = record
            self.conversation.redactor.policy = self._store.redaction.redactor(record.scope.tenant_id).policy
            self._use(Lease(self._store, self.record))
            self.lease.backdate(before.session_began)
            kept = [AddTurn(turn) for turn in turns if not self.has_dropped(turn)]
            moved: list[Operation] = [first, *kept]
            pending = {each.key: each for each in moved} | self._pending
            self._pending.clear()
            self._pending.update(pending)
            self._journal.begin_anew()
        await before.release()
        if not self.is_held:
            self._journal.update(sync=True)
            self._begin("turns")

    def _erase(self) -> None:
        self.changed.clear()
        self.conversation.clear()
        moved = [move.scope for move in self._moves]
        self._pending.clear()
        self._erasing = asyncio.create_task(self._forget_guests(moved))
        for callback in self._on_erased:
            callback()

    async def _forget_guests(self, guests: Sequence[UserScope]) -> None:
        await self._journal.close()
        for guest in guests:
            try:
                await self._store.sessions.discard(guest, self.record.session_id)
                await discard_own(self._store.db, guest)
            except LkmongoError as error:  # else the guest's copy stays until it is erased or expires
                logger.info("a guest's copy of an erased session could not be deleted: %s", _words(error))

    async def close(self, deadline: float) -> bool:
        """Store what is pending, in at most `deadline` seconds, and close the journal, which keeps what is left.

        Returns:
            Whether everything is in MongoDB, or must not be stored because the person was erased.
        """
        self._closing.set()
        self.release()
        if self.is_held:
            self._pending.clear()
        await asyncio.gather(*(self._finish(lane, deadline) for lane in LANES if self.pending(lane)))
        if self._taking_back:
            await asyncio.wait({self._taking_back}, timeout=max(deadlines.AWAY, deadline))
            self._taking_back.cancel()
        if self._erasing:
            await asyncio.wait({self._erasing}, timeout=deadlines.AWAY)
        if self._pending:
            await self._journal.sync()
            if self.error:
                logger.log(level_of(self.error), "the session could not be stored: %s", _words(self.error))
        self._closed = True
        await self._journal.close()
        return self.is_empty

    async def _finish(self, lane: Lane, deadline: float) -> None:
        task = self._begin(lane)
        patience = deadlines.AWAY if lane in self._failing else max(deadlines.AWAY, deadline)
        await asyncio.wait({task}, timeout=patience)
        if not task.done():
            self._failing.setdefault(lane, DatabaseUnavailableError(why="it does not answer"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def abandon(self) -> None:
        """Stop at once, and leave what is pending in the journal for recovery."""
        self._closed = True
        for task in self._lanes.values():
            task.cancel()
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)
        await self._journal.close(keep=True)


_WHAT: dict[Lane, str] = {"memory": "a change is", "turns": "turns are", "end": "the end of the session is"}


def _words(error: Exception) -> str:
    return f"{error.message} ({error.why})" if isinstance(error, LkmongoError) else repr(error)
