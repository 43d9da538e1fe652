"""Keeping a session's journal up to date with what is pending, in the background.

A disk failure never ends a session: it is logged once, and what is pending is then in memory only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lkmongo import deadlines
from lkmongo.aio import Task
from lkmongo.outbox.journal import Journal, JournalError
from lkmongo.outbox.operations import Entry, Operation

logger = logging.getLogger(__name__)

Pending = Mapping[Hashable, Operation]

_threads = ThreadPoolExecutor(4, thread_name_prefix="journal")
"""Separate from the event loop's pool, which an unreachable name server can block just when the disk is needed."""


class JournalWriter:
    """Appends new operations to the journal, and clears it when nothing is pending."""

    def __init__(
        self,
        pending: Pending,
        create: Callable[[], Journal] | None,
        entries: Callable[[Pending], list[Entry]],
        seal: Callable[[Path, list[Entry]], Awaitable[list[Entry]]] | None = None,
    ) -> None:
        """Journal what is `pending`.

        Args:
            pending: what MongoDB does not have, by key; it changes all the time.
            create: creates the journal, blocking on the disk; None to journal nothing.
            entries: makes the journal entries of some of the operations.
            seal: makes of them what may be on the disk of a journal; by default they may.
        """
        self._pending = pending
        self._create = create
        self._entries = entries
        self._seal = seal
        self._journal: Journal | None = None
        self._previous: Journal | None = None
        self._journaled: dict[Hashable, Operation] = {}
        self._synced: dict[Hashable, Operation] = {}
        self._must_sync = False
        self._writing: Task | None = None
        self._closed = False
        self._warned = False
        self.is_held = False
        """Whether nothing more may get to the disk."""

    def update(self, *, sync: bool = False) -> None:
        """Begin to bring the journal up to date; `sync` to survive a crash of the machine and not only of the process.

        It is created if there is none, so that the session is found if its process dies.
        """
        self._must_sync = self._must_sync or sync
        if self._create and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._update())

    async def sync(self) -> None:
        """Bring the journal up to date and sync it; gives up waiting for a disk that hangs."""
        if self._create and not self.has_synced(self._pending.values()):
            self.update(sync=True)
            await wait_for_disk(self._writing)

    def has_synced(self, operations: Iterable[Operation]) -> bool:
        return all(self._synced.get(each.key) is each for each in operations)

    def begin_anew(self) -> None:
        """Continue in a new journal, because the session's scope is in its header; `update` creates it."""
        self._previous, self._journal = self._journal, None
        self._journaled, self._synced = {}, {}

    async def close(self, *, keep: bool = False) -> None:
        """Close the journal once it is up to date, and delete it if nothing is pending then.

        Gives up waiting for a disk that hangs; the journal is closed later.

        Args:
            keep: leave it in any case, to show recovery that the session has ended without an end.
        """
        self._closed = True
        await wait_for_disk(self._close(keep=keep))

    async def _close(self, *, keep: bool) -> None:
        if self._writing:
            await asyncio.wait({self._writing})
        journals, self._journal, self._previous = (self._journal, self._previous), None, None
        for journal in journals:
            if journal:
                await _in_thread(journal.close, not (keep or self._pending))

    async def _update(self) -> None:
        try:
            while await self._step():
                pass
        except JournalError as error:
            if not self._warned:
                logger.warning("%s; what MongoDB has not stored is kept in memory only", error.message)
                self._warned = True
        except Exception:
            logger.exception("the journal could not be written")

    async def _step(self) -> bool:
        """Do what is due next; returns False if nothing is."""
        if self.is_held:
            return False
        if self._journal is None:
            if self._closed or self._create is None:
                return False
            self._journal = await _in_thread(self._create)
            return True
        journal, must_sync = self._journal, self._must_sync
        new = {key: each for key, each in self._pending.items() if self._journaled.get(key) is not each}
        if new or must_sync:
            self._must_sync = False
            entries = self._entries(new)
            if self._seal:
                entries = await self._seal(journal.path, entries)
            await _in_thread(journal.append, entries, must_sync)
            if journal is self._journal:
                self._journaled |= new
                if must_sync:
                    self._synced = dict(self._journaled)
        elif self._previous:
            await _in_thread(self._previous.close, True)
            self._previous = None
        elif not self._pending and not journal.is_empty:
            await _in_thread(journal.clear)
            self._journaled, self._synced = {}, {}
        else:
            return False
        return True


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_threads, lambda: function(*arguments))


async def wait_for_disk(work: Awaitable[Any] | None) -> None:
    """Wait for disk `work` for at most `deadlines.DISK`, without cancelling it."""
    if work is not None:
        task = asyncio.ensure_future(work)
        await asyncio.wait({task}, timeout=deadlines.DISK)
