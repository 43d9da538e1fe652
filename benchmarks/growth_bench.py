"""What every growth curve works with: a mongod, a process that is ready for calls, and a way to say what was seen."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo.database import Database

from lkmongo.agent.beginning import begin_session
from lkmongo.agent.caller_session import CallerSession
from lkmongo.embed.base import Embedder
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.worker.prewarm import Prewarm


@dataclass(frozen=True, slots=True)
class Reading:
    """Samples of one figure at one size; `way` is "limit" for what the work cannot do without."""

    work: str
    values: list[float]
    unit: str = "ms"
    way: str = "lkmongo"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """The mongod's database by a client of its own, and lkmongo as a job's process has it ready."""

    folder: Path
    settings: Settings
    uri: str
    database: Database[dict[str, Any]]
    ready: Prewarm
    store: Store
    quick: bool = False

    @property
    def embedder(self) -> Embedder:
        """The process's."""
        return self.ready.embedder

    @asynccontextmanager
    async def call(self, scope: UserScope, name: str) -> AsyncIterator[CallerSession]:
        """Begin a call as a job does."""
        async with begin_session(
            self.settings, self.store, self.embedder, scope, guest=False, session_id=name, room_name="room"
        ) as call:
            yield call


Measure = Callable[[Bench, int], Awaitable[list[Reading]]]
"""What is seen where there is so much."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What grows, how far in each kind of run, and what is measured there."""

    name: str
    measure: Measure
    quick: tuple[int, ...]
    standard: tuple[int, ...]
    full: tuple[int, ...]


def times_for(n: int, *, most: int = 30, least: int = 5, work: int = 20_000) -> int:
    """How many samples to take of work that grows with n."""
    return max(least, min(most, work // n))


async def timed(work: Callable[[], Awaitable[Any]], times: int, *, pause: float = 0.0, warm_up: int = 1) -> list[float]:
    """Milliseconds of each of `times` runs."""
    took = []
    for number in range(-warm_up, times):
        gc.collect()
        began = time.perf_counter()
        await work()
        if number >= 0:
            took.append((time.perf_counter() - began) * 1000)
        if pause:
            await asyncio.sleep(pause)
    return took


def once(work: Callable[[], Any], times: int) -> list[float]:
    """Milliseconds of each of `times` runs of what blocks."""
    took = []
    for _ in range(times):
        gc.collect()
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return took
