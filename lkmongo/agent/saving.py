"""The storing of what a caller asks to be remembered: waited for a moment, then kept on disk, and tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from lkmongo.agent.background import Background, Task, level_of
from lkmongo.agent.changes import Change, Changes
from lkmongo.errors import LkmongoError
from lkmongo.store.breaker import Breaker

logger = logging.getLogger(__name__)

ACKNOWLEDGED = 0.5
"""Seconds that a change waits for MongoDB to take it; after that it is kept on disk, and stored later."""
ATTEMPT = 5.0
"""Seconds after which an attempt is given up, so that the next finds a database that is back."""
RETRY_EVERY = (0.5, 1, 2, 4, 5)
"""Seconds between attempts on a database that is away; the last again and again."""


class Saving:
    """Sees to it that the changes of one call are stored, or on disk."""

    def __init__(
        self, changes: Changes, save: Callable[[], Awaitable[None]], breaker: Breaker, background: Background
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
            await asyncio.wait({self.retrying}, timeout=ACKNOWLEDGED)
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
                async with asyncio.timeout(ATTEMPT):
                    await self._save()
            except (LkmongoError, TimeoutError) as error:
                if isinstance(error, LkmongoError):
                    self._trouble = f"{error.message} ({error.why})"
                if not attempt:
                    logger.log(level_of(error), "what the caller said is not stored yet: %s", self._trouble)
                self.away = True
                await self._changes.keep()
                await asyncio.sleep(RETRY_EVERY[min(attempt, len(RETRY_EVERY) - 1)])
                attempt += 1
            else:
                self.away, attempt = False, 0
