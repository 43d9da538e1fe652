"""What the caller asked to have remembered or forgotten, in order: waited for briefly, then journalled and retried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from lkmongo import deadlines
from lkmongo.aio import Background, Task, level_of
from lkmongo.backoff import retry_pause
from lkmongo.errors import LkmongoError
from lkmongo.model import LastSession, Memory, Profile, UserScope, now
from lkmongo.outbox.backlog import Backlog, unless_it_hangs
from lkmongo.outbox.journal import Entry
from lkmongo.outbox.lease import Lease
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker
from lkmongo.store.open import Store
from lkmongo.store.people.forget import forget

_AT_ONCE = timedelta(milliseconds=20)
"""How old a change may be that is written without a look at what there is: another process may write meanwhile."""

Saved = Literal["stored", "kept", "not saved"]
"""Where a change is: in MongoDB, on this machine's disk, or in this process alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to be written of what is remembered; `name` is a slot's label or a field of the profile."""

    operation: Literal["remember", "forget", "profile", "told", "gist"]
    """"told" is what a guest said of themselves, of whom it turned out who they are: it fills a gap of the profile."""
    name: str
    at: datetime
    value: str = ""
    since: datetime | None = None
    """Of a gist, when the call began: it holds nothing that was forgotten since."""

    @property
    def key(self) -> tuple[str, str]:
        """Two changes of one key concern the same slot or field: the later counts."""
        return ("slot" if self.operation in {"remember", "forget"} else self.operation, self.name)

    @property
    def entry(self) -> Entry:
        """The change as it is kept on disk."""
        match self.operation:
            case "remember":
                return {"op": "remember", "label": self.name, "content": self.value, "at": self.at}
            case "forget":
                return {"op": "forget", "label": self.name, "at": self.at}
            case "profile":
                return {"op": "profile", "field": self.name, "value": self.value, "at": self.at}
            case "told":
                return {"op": "told", "field": self.name, "value": self.value, "at": self.at}
            case "gist":
                return {"op": "gist", "gist": self.value, "at": self.at, "since": self.since}


class Changes:
    """The changes of one call that are not stored yet."""

    def __init__(self, store: Store, backlog: Backlog) -> None:
        """Nothing waits."""
        self._store = store
        self._backlog = backlog
        self._waiting: dict[tuple[str, str], Change] = {}
        self._kept: dict[tuple[str, str], Change] = {}
        self._being_kept: dict[tuple[str, str], Change] = {}
        self._tried: set[Change] = set()
        self._lock = asyncio.Lock()
        self._keeping = asyncio.Lock()
        self.times_saved = 0
        """How often a change was stored: what was read before that may be out of date."""

    def __iter__(self) -> Iterator[Change]:
        """What waits, oldest first."""
        return iter(list(self._waiting.values()))

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    @property
    def saved(self) -> Saved:
        """Where the change is that is worst off."""
        if not self._waiting:
            return "stored"
        return "kept" if all(self._kept.get(key) is change for key, change in self._waiting.items()) else "not saved"

    def add(self, change: Change) -> None:
        """Have a change stored; one of the same slot or field that waits is not needed any more."""
        self._waiting.pop(change.key, None)
        self._waiting[change.key] = change

    def drop(self) -> None:
        """Forget what waits: the person was erased."""
        self._waiting.clear()
        self._kept.clear()

    async def save(self, scope: UserScope, lease: Lease) -> int:
        """Store what waits, oldest first.

        Returns:
            How often a reader of `memory_version` sees it grow.

        Raises:
            DatabaseError: MongoDB did not take one; it and what comes after it still wait.
            ErasedError: the person was erased.
        """
        grown = 0
        async with self._lock:
            for change in self:
                if self._waiting.get(change.key) is not change:
                    continue
                # Of what was tried before, or had to wait, another process may have written since.
                again = change in self._tried or now() - change.at > _AT_ONCE
                self._tried.add(change)
                async with lease.writing():
                    grown += await self._store_one(scope, change, lease, again=again)
                self._tried.discard(change)
                self.times_saved += 1
                if self._waiting.get(change.key) is change:
                    del self._waiting[change.key]
                is_kept = self._kept.pop(change.key, None) is not None or change.key in self._being_kept
                if is_kept and not self._waiting.get(change.key):
                    await unless_it_hangs(self._backlog.stored([change.key]))
        return grown

    async def keep(self) -> None:
        """Put what waits on the disk, where it is not there yet; a disk that hangs is not waited for long."""
        await unless_it_hangs(self._keep())

    async def _keep(self) -> None:
        async with self._keeping:
            new = {key: change for key, change in self._waiting.items() if self._kept.get(key) is not change}
            if not new:
                return
            self._being_kept = new
            try:
                if await self._backlog.keep({key: change.entry for key, change in new.items()}):
                    # What was stored while it was written is struck out after it.
                    self._kept |= {key: change for key, change in new.items() if self._waiting.get(key) is change}
            finally:
                self._being_kept = {}

    async def _store_one(self, scope: UserScope, change: Change, lease: Lease, *, again: bool) -> int:
        users, memories = self._store.users, self._store.memories
        match change.operation:
            case "remember" if again:
                return int(await memories.remember_if_newer(scope, change.name, change.value, change.at))
            case "remember":
                await memories.remember(scope, change.name, change.value, at=change.at)
            case "forget":
                await forget(self._store, scope, [change.name], at=change.at, unless_newer=again)
            case "profile" if again:
                return int(await users.set_field_if_newer(scope, change.name, change.value, change.at))
            case "profile":
                await users.set_field(scope, change.name, change.value)
            case "told":
                return int(await users.fill_field(scope, change.name, change.value, change.at))
            case "gist":
                last = LastSession(change.at, change.value)
                await users.set_last_session(scope, last, started_at=change.since or lease.call_began)
                return 0
        return 1

    def over(self, slots: dict[str, Memory], profile: Profile) -> tuple[dict[str, Memory], Profile]:
        """What is known of the person when what waits is taken for done: it is newer than what was loaded."""
        slots = dict(slots)
        for change in self:
            there = slots.get(change.name)
            if change.operation == "gist" or (change.operation == "told" and getattr(profile, change.name)):
                continue
            if change.operation in {"profile", "told"}:
                profile = replace(profile, **cast("dict[str, Any]", {change.name: change.value}))
            elif there and there.updated_at and there.updated_at > change.at:
                continue
            elif change.operation == "remember":
                slots.pop(change.name, None)
                slots = {change.name: Memory(change.name, change.value, updated_at=change.at)} | slots
            else:
                slots.pop(change.name, None)
                profile = replace(profile, last_session=None)
        return slots, profile


logger = logging.getLogger(__name__)


class Saving:
    """Sees to it that the changes of one call are stored, or on disk."""

    def __init__(
        self, changes: Changes, save: Callable[[], Awaitable[None]], breaker: CircuitBreaker, background: Background
    ) -> None:
        """Nothing is stored before `store`.

        Args:
            changes: what waits.
            save: stores what waits.
            breaker: knows whether MongoDB is away.
            background: where it goes on.
        """
        self.retrying: Task | None = None
        self.away = False
        self._trouble = "MongoDB does not answer"
        self._changes = changes
        self._save = save
        self._breaker = breaker
        self._background = background
        self._over = False

    async def store(self, change: Change) -> None:
        """Have a change stored, and wait until it is, or until it is on disk because MongoDB is slow or away."""
        self._changes.add(change)
        if self.retrying is None or self.retrying.done():
            self.retrying = self._background.begin(self._keep_saving())
        # A later turn does not pay again for what an earlier one has found out.
        if not (self.away or self._breaker.is_open):
            await asyncio.wait({self.retrying}, timeout=deadlines.ACKNOWLEDGED)
        if self._changes:
            await self._changes.keep()
        if self._changes.saved == "not saved":
            logger.warning("what the caller said is in memory alone, and the disk did not take it: %s", self._trouble)

    def stop(self) -> None:
        """Try no longer: the driver may report a cancellation as a lost connection, which is no end to retries."""
        self._over = True

    async def _keep_saving(self) -> None:
        """Store what waits, and try again until MongoDB takes it."""
        attempt = 0
        while self._changes and not self._over:
            try:
                async with asyncio.timeout(deadlines.SAVE_ATTEMPT):
                    await self._save()
            except (LkmongoError, TimeoutError) as error:
                if isinstance(error, LkmongoError):
                    self._trouble = f"{error.message} ({error.why})"
                if not attempt:
                    logger.log(level_of(error), "what the caller said is not stored yet: %s", self._trouble)
                self.away = True
                await self._changes.keep()
                attempt += 1
                await asyncio.sleep(retry_pause(attempt))
            else:
                self.away, attempt = False, 0
