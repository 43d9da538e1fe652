"""What waits in an outbox before it may be stored, and what is dropped.

Nothing is stored of callers who are asked first and have not agreed. Of those who may not be whom they are taken for,
only what could be taken back is.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from lkmongo.aio import Task
from lkmongo.backoff import retry_pause
from lkmongo.errors import ConsentError, LkmongoError
from lkmongo.model import SessionRecord, Turn
from lkmongo.outbox.journal_writer import JournalWriter
from lkmongo.outbox.lease import Lease
from lkmongo.outbox.operations import (
    LASTING,
    AddTurn,
    ForgetCalls,
    Lane,
    Operation,
    TakeBack,
    without_consent,
)
from lkmongo.store.open import Store
from lkmongo.store.people.take_back import Known, take_back

logger = logging.getLogger(__name__)

Gate = Literal["open", "held", "shut"]


class Holding(ABC):
    """The part of an outbox that decides what may be stored."""

    record: SessionRecord
    lease: Lease
    changed: set[Hashable]
    _store: Store
    _pending: dict[Hashable, Operation]
    _closing: asyncio.Event
    _journal: JournalWriter
    _closed: bool

    def __init__(self) -> None:
        self._gate: Gate = "open"
        self._holds_back = False
        self._is_shown = self._shows = False
        self._dropped: set[Hashable] = set()
        self._taking_back: Task | None = None

    @abstractmethod
    def start(self) -> None:
        """Show the session in the database and on disk, so that it is found if its process dies."""

    @abstractmethod
    def add(self, operation: Operation) -> None:
        """Begin to journal and to store an operation; it replaces a pending one with the same key."""

    @abstractmethod
    def pending(self, lane: Lane) -> list[Operation]:
        """What MongoDB does not have yet, oldest first."""

    @abstractmethod
    def _begin(self, lane: Lane) -> Task: ...

    @abstractmethod
    async def _move(self, record: SessionRecord, first: Operation, turns: Sequence[Turn]) -> None: ...

    @abstractmethod
    async def _idle(self, lane: Lane) -> None: ...

    @abstractmethod
    async def _pause(self, seconds: float) -> None: ...

    def _ready(self, lane: Lane) -> list[Operation]:
        """What is pending and may be stored now."""
        if self.is_held:
            return []
        return [each for each in self.pending(lane) if not (self._holds_back and isinstance(each, LASTING))]

    # ---------------------------------------------------------------- whether anything may be kept

    @property
    def is_shown(self) -> bool:
        """Whether the session is shown in the database and on disk, or is about to be."""
        return self._is_shown

    @property
    def is_held(self) -> bool:
        """Whether nothing of the session may be stored, as its caller has not agreed to it."""
        return self._gate != "open" and not self._is_shown

    def has_dropped(self, turn: Turn) -> bool:
        """Whether a turn was said while nothing might be kept, so that it is told nowhere."""
        return AddTurn(turn).key in self._dropped

    def hold(self) -> None:
        """Keep what is added in memory alone, until `open` or `shut`.

        To be called before anything is added, or before `change_scope`: what the guest said is not moved until then.
        """
        self._gate = "held"
        self._is_shown = False
        self._journal.is_held = True

    def open(self, first: Operation | None = None) -> None:
        """Store what was held, `first` before it, and what is added from now on."""
        if self._closed or self._gate == "open":
            return
        self._gate = "open"
        self._journal.is_held = False
        if first:
            waiting = {first.key: first} | self._pending
            self._pending.clear()
            self._pending.update(waiting)
        if self._shows:
            self.start()
        if self._pending:
            self._journal.update()
        for lane in {each.lane for each in self._pending.values()}:
            self._begin(lane)

    def shut(self, last: Operation | None = None) -> None:
        """Drop what is not stored yet, and what is added from now on, of all that the caller said.

        The end of a session that is shown already is stored without a summary.
        """
        if last:
            self.add(last)
        self._gate = "shut"
        for key, operation in list(self._pending.items()):
            if not self._is_shown or without_consent(operation) is None:
                self._dropped.add(key)
                del self._pending[key]
        if self._is_shown:
            self._journal.update()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """As `Lease.writing`, for writes beside the outbox. Raises ConsentError while nothing may be kept, too."""
        if self._gate != "open":
            raise ConsentError("the caller has not agreed that anything is kept of them")
        async with self.lease.writing():
            yield

    # ---------------------------------------------------------------- whether it may have to be taken back

    @property
    def holds_back(self) -> bool:
        """Whether it may turn out that somebody else is speaking."""
        return self._holds_back

    def hold_back(self) -> None:
        """Keep what cannot be taken back (`LASTING`) in the journal until `release`, or the end of the session."""
        self._holds_back = True

    def release(self) -> None:
        """Store what was held back: it is sure enough now who is speaking."""
        if self._holds_back:
            self._holds_back = False
            for lane in {each.lane for each in self._pending.values() if isinstance(each, LASTING)}:
                self._begin(lane)

    async def take_back(self, record: SessionRecord, turns: Sequence[Turn], known: Known) -> None:
        """Go on as a guest with all `turns`, and take back what was stored for who did not speak; then call `start`.

        Args:
            record: the session as a guest's.
            turns: all of the session so far, as they are to be stored.
            known: what was known of the person before the session wrote anything.
        """
        for key, operation in list(self._pending.items()):
            if operation.lane == "memory" or isinstance(operation, ForgetCalls | AddTurn):
                del self._pending[key]
        labels = {str(each[1]) for each in self.changed if isinstance(each, tuple) and each[0] == "slot"}
        slots = tuple(each for label, each in known.slots.items() if label in labels and each.updated_at)
        person, last = self.record.scope, known.profile.last_session
        self._holds_back = False
        self.changed.clear()
        taken = TakeBack(person.tenant_id, person.user_id, slots, last)
        await self._move(record, taken, turns)
        if self.is_held:  # what the person agreed to once is not what the guest has: their turns go as well
            del self._pending[taken.key]
            self._taking_back = asyncio.create_task(self._take_back_at_once(taken))

    async def _take_back_at_once(self, taken: TakeBack) -> None:
        failures = 0
        while True:
            await self._idle("memory")  # something of the person's may just be stored
            try:
                await take_back(self._store, taken.scope, self.record.session_id, taken.known)
                await self._store.sessions.discard(taken.scope, self.record.session_id)
            except LkmongoError as error:
                failures += 1
                if failures == 1 or self._closing.is_set():
                    logger.warning("what was stored for somebody else could not be taken back: %s", error.message)
                if self._closing.is_set():
                    return
                await self._pause(retry_pause(failures))
            else:
                return
