"""Backoff: how long to wait before the next attempt.

`retry_pause` is for writes that are retried until MongoDB takes them; `Backoff` is for polling until a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

RETRY_SCHEDULE = (0.5, 1, 2, 4, 5)
"""Seconds between attempts on a database that is away; the last one again and again."""
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.5, 5.0, 1.5


def retry_pause(failures: int) -> float:
    """Seconds to wait after that many failed attempts in a row, 1 or more."""
    return RETRY_SCHEDULE[min(failures, len(RETRY_SCHEDULE)) - 1]


class Backoff:
    """The pauses between one look and the next, until the time is over."""

    def __init__(
        self,
        seconds: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to wait for at most `seconds`; `sleep` and `clock` are those of a test, if any."""
        self._sleep = sleep
        self._clock = clock
        self._began = clock()
        self._seconds = seconds
        self._pause = FIRST_PAUSE

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the time is over; never negative."""
        return max(0.0, self._seconds - self.elapsed)

    async def pause(self) -> bool:
        """Wait a little, longer each time; False at once when the time is over."""
        if not self.left:
            return False
        await self._sleep(min(self._pause, self.left))
        self._pause = min(self._pause * GROWTH, LONGEST_PAUSE)
        return True

    def reset(self) -> None:
        """Begin with short pauses again: something else is waited for now."""
        self._pause = FIRST_PAUSE
