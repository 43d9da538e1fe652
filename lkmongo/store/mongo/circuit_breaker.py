"""Whether MongoDB answers: found out once and paid for once, not anew in each turn that needs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lkmongo import deadlines
from lkmongo.errors import DatabaseUnavailableError

T = TypeVar("T")


class CircuitBreaker:
    """Opens when MongoDB does not answer, and closes as soon as it answers anything.

    The lease of a call is renewed in the background every two seconds: that is what finds out, so that no turn has to.
    """

    def __init__(self) -> None:
        """Closed: nothing is known against it."""
        self._away_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether MongoDB has not answered lately."""
        return time.monotonic() < self._away_until

    def answered(self) -> None:
        """Note that MongoDB has answered, if only with an error."""
        self._away_until = 0.0

    def failed(self) -> None:
        """Note that it has not."""
        self._away_until = time.monotonic() + deadlines.CIRCUIT_OPEN

    async def read(self, work: Callable[[], Coroutine[Any, Any, T]], deadline: float = deadlines.MONGODB_READ) -> T:
        """Wait `deadline` seconds for a read; not at all while MongoDB is away.

        Raises:
            DatabaseUnavailableError: it is away, or does not answer in time.
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
        """Wait for what may be slow, such as a search, as long as MongoDB is there.

        Raises:
            DatabaseUnavailableError: it is not.
        """
        if self.is_open:
            raise DatabaseUnavailableError(why="it did not answer a moment ago")
        task = asyncio.create_task(work())
        try:
            await asyncio.wait({task}, timeout=deadlines.PING_AFTER)
            if not task.done():
                await self._first(task, ping)
            result = await task
        except DatabaseUnavailableError:
            self.failed()
            raise
        finally:
            task.cancel()
            await asyncio.wait({task})
        return result

    async def _first(self, task: asyncio.Task[T], ping: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Wait for a sign of life, or for `task` where that is done before."""
        sign = asyncio.create_task(self.read(ping))
        try:
            await asyncio.wait({task, sign}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                sign.result()
        finally:
            sign.cancel()
            await asyncio.wait({sign})
