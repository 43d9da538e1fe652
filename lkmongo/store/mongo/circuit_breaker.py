"""A circuit breaker: while MongoDB does not answer, turns fail at once instead of waiting for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lkmongo import deadlines
from lkmongo.errors import DatabaseUnavailableError

T = TypeVar("T")


class CircuitBreaker:
    """Opens when MongoDB does not answer, and closes with its next answer.

    The renewal of the call's lease, every two seconds in the background, usually notices first.
    """

    def __init__(self) -> None:
        self._away_until = 0.0

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._away_until

    def answered(self) -> None:
        """MongoDB has answered, possibly with an error."""
        self._away_until = 0.0

    def failed(self) -> None:
        self._away_until = time.monotonic() + deadlines.CIRCUIT_OPEN

    async def read(self, work: Callable[[], Coroutine[Any, Any, T]], deadline: float = deadlines.MONGODB_READ) -> T:
        """Read within `deadline` seconds; fail at once while the circuit is open.

        Raises:
            DatabaseUnavailableError: the circuit is open, or MongoDB does not answer in time.
        """
        if self.is_open:
            raise DatabaseUnavailableError(why="it did not answer a moment ago")
        try:
            async with asyncio.timeout(deadline):
                result = await work()
        except (TimeoutError, DatabaseUnavailableError) as error:
            self.failed()
            raise DatabaseUnavailableError(why=getattr(error, "why", None) or "it does not answer") from error
        self.answered()
        return result

    async def watch(
        self, work: Callable[[], Coroutine[Any, Any, T]], ping: Callable[[], Coroutine[Any, Any, object]]
    ) -> T:
        """Run slow `work`, such as a search, as long as MongoDB answers pings.

        Raises:
            DatabaseUnavailableError: the circuit is open, or MongoDB does not answer.
        """
        if self.is_open:
            raise DatabaseUnavailableError(why="it did not answer a moment ago")
        task = asyncio.create_task(work())
        try:
            await asyncio.wait({task}, timeout=deadlines.PING_AFTER)
            if not task.done():
                await self._ping_or_done(task, ping)
            result = await task
        except DatabaseUnavailableError:
            self.failed()
            raise
        finally:
            task.cancel()
            await asyncio.wait({task})
        return result

    async def _ping_or_done(self, task: asyncio.Task[T], ping: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Wait for a ping or for `task`, whichever comes first."""
        pinging = asyncio.create_task(self.read(ping))
        try:
            await asyncio.wait({task, pinging}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                pinging.result()
        finally:
            pinging.cancel()
            await asyncio.wait({pinging})
