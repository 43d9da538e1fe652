"""Changes to a caller's memory and profile: written in order, awaited briefly, then journaled and retried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from lkmongo import deadlines
from lkmongo.aio import Background, Task, level_of
from lkmongo.backoff import retry_pause
from lkmongo.errors import LkmongoError
from lkmongo.model import LastSession, Memory, Profile, UserScope, now
from lkmongo.outbox.journal import Entry
from lkmongo.outbox.lease import Lease
from lkmongo.outbox.outbox import Outbox, wait_for_disk
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker
from lkmongo.store.open import Store
from lkmongo.store.people.forget import forget

logger = logging.getLogger(__name__)

_UNCONDITIONAL = timedelta(milliseconds=20)
"""A change this recent is written unconditionally; another process may have written after an older one."""

Saved = Literal["stored", "kept", "not saved"]
"""Where a change is: in MongoDB, in the journal on disk, or in this process only."""


@dataclass(frozen=True, slots=True)
class Change:
    """One write to a person's memory; `name` is a slot's label or a profile field."""

    operation: Literal["remember", "forget", "profile", "told", "gist"]
    """"told" is a profile field given by a guest who was identified later: it only fills a missing value."""
    name: str
    at: datetime
    value: str = ""
    since: datetime | None = None
    """For a gist, when the session began: a gist is not stored if something was forgotten since."""

    @property
    def key(self) -> tuple[str, str]:
        """Changes with the same key concern the same slot or field: the latest wins."""
        return ("slot" if self.operation in {"remember", "forget"} else self.operation, self.name)

    @property
    def entry(self) -> Entry:
        """The change as a journal entry."""
        match self.operation:
            case "remember":
                fields: Entry = {"label": self.name, "content": self.value}
            case "forget":
                fields = {"label": self.name}
            case "profile" | "told":
                fields = {"field": self.name, "value": self.value}
            case "gist":
                fields = {"gist": self.value, "since": self.since}
        return {"op": self.operation, "at": self.at, **fields}


class Changes:
    """The pending changes of one session."""

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._pending: dict[tuple[str, str], Change] = {}
        self._journaled: dict[tuple[str, str], Change] = {}
        self._being_journaled: dict[tuple[str, str], Change] = {}
        self._attempted: set[Change] = set()
        self._lock = asyncio.Lock()
        self._journaling = asyncio.Lock()
        self.stored_count = 0
        """Changes stored so far: anything read before it grew may be stale."""

    def __iter__(self) -> Iterator[Change]:
        """Iterate over the pending changes, oldest first."""
        return iter(list(self._pending.values()))

    def __bool__(self) -> bool:
        return bool(self._pending)

    @property
    def saved(self) -> Saved:
        """Where the least durable of the changes is."""
        if not self._pending:
            return "stored"
        is_journaled = all(self._journaled.get(key) is change for key, change in self._pending.items())
        return "kept" if is_journaled else "not saved"

    def add(self, change: Change) -> None:
        """Queue a change, replacing a pending one to the same slot or field."""
        self._pending.pop(change.key, None)
        self._pending[change.key] = change

    def clear(self) -> None:
        """Discard the pending changes, because the person was erased."""
        self._pending.clear()
        self._journaled.clear()

    async def save(self, scope: UserScope, lease: Lease) -> int:
        """Store the pending changes, oldest first.

        Returns:
            By how much that increments `memory_version`.

        Raises:
            DatabaseError: a change could not be stored; it and those after it stay pending.
            ErasedError: the person was erased.
        """
        increments = 0
        async with self._lock:
            for change in self:
                if self._pending.get(change.key) is not change:
                    continue
                # Another process may have written since a change that was attempted before or had to wait.
                only_if_newer = change in self._attempted or now() - change.at > _UNCONDITIONAL
                self._attempted.add(change)
                async with lease.writing():
                    increments += await self._store_one(scope, change, lease, only_if_newer=only_if_newer)
                self._attempted.discard(change)
                self.stored_count += 1
                if self._pending.get(change.key) is change:
                    del self._pending[change.key]
                was_journaled = self._journaled.pop(change.key, None) is not None or change.key in self._being_journaled
                if was_journaled and not self._pending.get(change.key):
                    await wait_for_disk(self._outbox.acknowledge([change.key]))
        return increments

    async def journal(self) -> None:
        """Add the pending changes to the outbox; gives up waiting for a disk that hangs."""
        await wait_for_disk(self._journal())

    async def _journal(self) -> None:
        async with self._journaling:
            new = {key: change for key, change in self._pending.items() if self._journaled.get(key) is not change}
            if not new:
                return
            self._being_journaled = new
            try:
                if await self._outbox.add({key: change.entry for key, change in new.items()}):
                    # `save` acknowledges those that were stored meanwhile.
                    self._journaled |= {key: change for key, change in new.items() if self._pending.get(key) is change}
            finally:
                self._being_journaled = {}

    async def _store_one(self, scope: UserScope, change: Change, lease: Lease, *, only_if_newer: bool) -> int:
        users, memories = self._store.users, self._store.memories
        match change.operation:
            case "remember" if only_if_newer:
                return int(await memories.remember_if_newer(scope, change.name, change.value, change.at))
            case "remember":
                await memories.remember(scope, change.name, change.value, at=change.at)
            case "forget":
                await forget(self._store, scope, [change.name], at=change.at, unless_newer=only_if_newer)
            case "profile" if only_if_newer:
                return int(await users.set_field_if_newer(scope, change.name, change.value, change.at))
            case "profile":
                await users.set_field(scope, change.name, change.value)
            case "told":
                return int(await users.fill_field(scope, change.name, change.value, change.at))
            case "gist":
                last = LastSession(change.at, change.value)
                await users.set_last_session(scope, last, started_at=change.since or lease.session_began)
                return 0
        return 1

    def applied_to(self, slots: dict[str, Memory], profile: Profile) -> tuple[dict[str, Memory], Profile]:
        """Slots and profile as loaded, with the pending changes applied: those are newer."""
        slots = dict(slots)
        for change in self:
            existing = slots.get(change.name)
            if change.operation == "gist" or (change.operation == "told" and change.name in profile.values):
                continue
            if change.operation in {"profile", "told"}:
                profile = profile.with_value(change.name, change.value)
            elif existing and existing.updated_at and existing.updated_at > change.at:
                continue
            elif change.operation == "remember":
                slots.pop(change.name, None)
                slots = {change.name: Memory(change.name, change.value, updated_at=change.at)} | slots
            else:
                slots.pop(change.name, None)
                profile = replace(profile, last_session=None)
        return slots, profile


class ChangeWriter:
    """Stores the changes of one session, with retries, and journals those that take long."""

    def __init__(
        self, changes: Changes, save: Callable[[], Awaitable[None]], breaker: CircuitBreaker, background: Background
    ) -> None:
        """`save` stores the pending `changes`; retries run in `background`."""
        self.retrying: Task | None = None
        self.away = False
        self._last_error = "MongoDB does not answer"
        self._changes = changes
        self._save = save
        self._breaker = breaker
        self._background = background
        self._stopped = False

    async def store(self, change: Change) -> None:
        """Store a change; returns when MongoDB has it or, if MongoDB is slow or unreachable, when it is journaled."""
        self._changes.add(change)
        if self.retrying is None or self.retrying.done():
            self.retrying = self._background.begin(self._save_with_retries())
        # Once MongoDB is known to be unreachable, later turns do not wait for it again.
        if not (self.away or self._breaker.is_open):
            await asyncio.wait({self.retrying}, timeout=deadlines.ACKNOWLEDGED)
        if self._changes:
            await self._changes.journal()
        if self._changes.saved == "not saved":
            logger.warning("a change is in memory only, neither stored nor journaled: %s", self._last_error)

    def stop(self) -> None:
        """Stop retrying; cancellation is not enough, because the driver may report it as a lost connection."""
        self._stopped = True

    async def _save_with_retries(self) -> None:
        attempt = 0
        while self._changes and not self._stopped:
            try:
                async with asyncio.timeout(deadlines.SAVE_ATTEMPT):
                    await self._save()
            except (LkmongoError, TimeoutError) as error:
                if isinstance(error, LkmongoError):
                    self._last_error = f"{error.message} ({error.why})"
                if not attempt:
                    logger.log(level_of(error), "a change is not stored yet; retrying: %s", self._last_error)
                self.away = True
                await self._changes.journal()
                attempt += 1
                await asyncio.sleep(retry_pause(attempt))
            else:
                self.away, attempt = False, 0
