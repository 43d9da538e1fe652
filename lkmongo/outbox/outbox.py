"""The outbox of a session: entries that MongoDB has not acknowledged, journaled on disk so that they can be recovered.

A disk failure never ends a session: it is logged once, and pending entries are then in memory only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lkmongo import deadlines
from lkmongo.outbox.journal import Entry, Journal, JournalError, read
from lkmongo.outbox.recovery import previous_scope_entry

logger = logging.getLogger(__name__)

PREVIOUS_SCOPE = "was"
"""Key of the entry that holds the guest scope a session began under; pending until nothing is stored under it."""
_threads = ThreadPoolExecutor(4, thread_name_prefix="journal")
"""Separate from the event loop's pool, which an unreachable name server can block just when the disk is needed."""


@dataclass(slots=True)
class Outbox:
    """The unacknowledged entries of one session by key; a later entry replaces a pending one with the same key.

    Attributes:
        create_journal: creates the session's journal, blocking on the disk; None to journal nothing.
    """

    create_journal: Callable[[], Journal] | None = None
    _pending: set[Hashable] = field(default_factory=set)
    _journal: Journal | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _warned: bool = False
    _closed: bool = False

    async def open(self) -> None:
        """Create the journal, so that the session is found if its process dies."""
        async with self._lock:
            await self._open()

    async def add(self, entries: Mapping[Hashable, Entry], *, sync: bool = True) -> bool:
        """Append entries to the journal.

        Args:
            entries: new or changed entries.
            sync: fsync everything appended so far, to survive a crash of the machine and not only of this process.

        Returns:
            False when the disk failed, which is logged the first time.
        """
        async with self._lock:
            self._pending |= entries.keys()
            journal = await self._open()
            if journal is None:
                return False
            return await self._try(lambda: journal.append(list(entries.values()), sync=sync))

    async def acknowledge(self, keys: Iterable[Hashable]) -> None:
        """Mark entries as stored in MongoDB; the journal is cleared when none is pending."""
        async with self._lock:
            self._pending.difference_update(keys)
            if not self._pending and self._journal and not self._journal.is_empty:
                await self._try(self._journal.clear)

    async def reopen(self) -> None:
        """Start a new journal for a session whose scope has changed.

        It holds the entries of the previous journal and the previous scope until their owners have added them again.
        """
        async with self._lock:
            before, self._journal = self._journal, None
            self._pending.add(PREVIOUS_SCOPE)
            await self._open()
            if before:
                await self._try(lambda: self._take_over(before))

    def _take_over(self, before: Journal) -> None:
        contents = read(before.path)
        if self._journal:
            self._journal.append([previous_scope_entry(contents.record.scope), *contents.entries])
        before.close(delete=self._journal is not None)

    @property
    def is_empty(self) -> bool:
        """Whether MongoDB has acknowledged everything."""
        return not self._pending

    async def close(self, *, delete: bool, when_empty: bool = False) -> None:
        """Close the journal at the end of the session.

        Args:
            delete: delete the file even if entries are pending.
            when_empty: delete it if nothing is pending once the writes before this one are done.
        """
        async with self._lock:
            self._closed = True
            if self._journal:
                journal, self._journal = self._journal, None
                is_deleted = delete or (when_empty and self.is_empty)
                await self._try(lambda: journal.close(delete=is_deleted))

    async def _open(self) -> Journal | None:
        if self._journal is None and self.create_journal and not self._closed:
            await self._try(self._create)
        return self._journal

    def _create(self) -> None:
        if self.create_journal:
            self._journal = self.create_journal()

    async def _try(self, work: Callable[[], None]) -> bool:
        task = asyncio.get_running_loop().run_in_executor(_threads, work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})  # a half-written entry is finished before anything else is written
            raise
        except JournalError as error:
            if not self._warned:
                logger.warning("%s; what MongoDB has not stored is kept in memory only", error.message)
                self._warned = True
            return False
        return True


async def wait_for_disk(work: Awaitable[Any]) -> bool:
    """Wait for disk `work` for at most `deadlines.DISK`, without cancelling it; returns whether it is done."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=deadlines.DISK)
    if task.done():
        task.result()
    return task.done()
