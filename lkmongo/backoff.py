"""Backoff between attempts.

`retry_pause` is for writes that are retried until MongoDB takes them; `WEBHOOK_SCHEDULE` for a receiver that does not
accept; `LEARN_SCHEDULE` for a language model that does not answer; `Backoff` is for polling until a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

RETRY_SCHEDULE = (0.5, 1, 2, 4, 5)
"""Seconds between attempts while the database is away; the last one repeats."""
WEBHOOK_SCHEDULE = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 28_800)
"""Seconds between attempts to deliver a webhook: eleven attempts in a day, then it is given up."""
LEARN_SCHEDULE = (90, 600, 3_600, 14_400, 43_200)
"""Seconds between attempts to learn from a session: six attempts in a day, then it is given up. The first is longer
than `deadlines.LEARN`, so that no two processes ask at the same time."""
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.5, 5.0, 1.5


def retry_pause(failures: int) -> float:
    """Seconds to wait after `failures` (1 or more) failed attempts in a row."""
    return RETRY_SCHEDULE[min(failures, len(RETRY_SCHEDULE)) - 1]


class Backoff:
    """Pauses that grow between polls, until a deadline."""

    def __init__(
        self,
        seconds: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start now, for at most `seconds`; tests pass their own `sleep` and `clock`."""
        self._sleep = sleep
        self._clock = clock
        self._began = clock()
        self._seconds = seconds
        self._pause = FIRST_PAUSE

    @property
    def elapsed(self) -> float:
        return self._clock() - self._began

    @property
    def left(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self._seconds - self.elapsed)

    async def pause(self) -> bool:
        """Sleep, longer each time; returns False at once after the deadline."""
        if not self.left:
            return False
        await self._sleep(min(self._pause, self.left))
        self._pause = min(self._pause * GROWTH, LONGEST_PAUSE)
        return True

    def reset(self) -> None:
        """Start again with short pauses, for another wait within the same deadline."""
        self._pause = FIRST_PAUSE
