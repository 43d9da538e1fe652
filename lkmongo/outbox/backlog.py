"""What of a call is not stored yet: kept on disk until MongoDB has taken it, or for whoever recovers it.

The call goes on whatever the disk does: when it takes nothing, that is told once, and what waits is in memory alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lkmongo import deadlines
from lkmongo.outbox.journal import Entry, Journal, SpoolError, read
from lkmongo.outbox.recovery import was_entry

logger = logging.getLogger(__name__)

WAS = "was"
"""The key of the entry that says whose the call was at first; it waits until nothing is left of it under that id."""
_threads = ThreadPoolExecutor(4, thread_name_prefix="spool")
"""Of its own: a name server that is away keeps those of the event loop busy, and then the disk is needed."""


@dataclass(slots=True)
class Backlog:
    """The entries of one call that MongoDB has not acknowledged, by key; an entry under a key that waits replaces it.

    Attributes:
        begin: makes the call's file; waits for the disk. None where nothing is kept.
    """

    begin: Callable[[], Journal] | None = None
    _waiting: set[Hashable] = field(default_factory=set)
    _spool: Journal | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _told: bool = False
    _ended: bool = False

    async def open(self) -> None:
        """Make the file, so that the call is found should its process die."""
        async with self._lock:
            await self._open()

    async def keep(self, entries: Mapping[Hashable, Entry], *, safe: bool = True) -> bool:
        """Put on the disk what could not be stored, or not yet.

        Args:
            entries: what there is by now, beside what was kept before.
            safe: have it outlive the machine's end, all of it. What was only noted outlives this process.

        Returns:
            Whether it is there: False when the disk takes nothing, which is logged the first time.
        """
        async with self._lock:
            self._waiting |= entries.keys()
            spool = await self._open()
            if spool is None:
                return False
            return await self._try(lambda: spool.append(list(entries.values()), safe=safe))

    async def stored(self, keys: Iterable[Hashable]) -> None:
        """Note that MongoDB has taken these; with the last of them the file is emptied."""
        async with self._lock:
            self._waiting.difference_update(keys)
            if not self._waiting and self._spool and not self._spool.is_empty:
                await self._try(self._spool.clear)

    async def begin_again(self) -> None:
        """Make the file anew, for the call is another person's from now on; what waited is kept again by its owners.

        Until they have done so, the new file holds what the one before held, and whose call it was.
        """
        async with self._lock:
            before, self._spool = self._spool, None
            self._waiting.add(WAS)
            await self._open()
            if before:
                await self._try(lambda: self._succeed(before))

    def _succeed(self, before: Journal) -> None:
        left = read(before.path)
        if self._spool:
            self._spool.append([was_entry(left.record.scope), *left.entries])
        before.end(delete=self._spool is not None)

    @property
    def is_clear(self) -> bool:
        """Whether MongoDB has taken everything that was kept."""
        return not self._waiting

    async def end(self, *, delete: bool, when_clear: bool = False) -> None:
        """The call is over, and so is the use of its file.

        Args:
            delete: whether the file goes, whatever waits in it.
            when_clear: whether it goes if nothing waits in it, by when all is written that was to be kept before.
        """
        async with self._lock:
            self._ended = True
            if self._spool:
                spool, self._spool = self._spool, None
                goes = delete or (when_clear and self.is_clear)
                await self._try(lambda: spool.end(delete=goes))

    async def _open(self) -> Journal | None:
        if self._spool is None and self.begin and not self._ended:
            await self._try(self._begin)
        return self._spool

    def _begin(self) -> None:
        if self.begin:
            self._spool = self.begin()

    async def _try(self, work: Callable[[], None]) -> bool:
        task = asyncio.get_running_loop().run_in_executor(_threads, work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})  # what is half written is finished before anything else is
            raise
        except SpoolError as error:
            if not self._told:
                logger.warning("%s; what MongoDB does not take is kept in memory alone", error.message)
                self._told = True
            return False
        return True


async def unless_it_hangs(work: Awaitable[Any]) -> bool:
    """Wait for what the disk does, and let it be where that takes too long; returns whether it is done."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=deadlines.DISK)
    if task.done():
        task.result()
    return task.done()
