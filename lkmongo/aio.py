"""asyncio helpers: work beside a block, work beside a whole session, and temporary signal handlers."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from lkmongo.errors import DatabaseUnavailableError, LkmongoError

R = TypeVar("R")

logger = logging.getLogger(__name__)

Task = asyncio.Task[None]


def level_of(error: Exception) -> int:
    """How a failure is logged: that MongoDB is away passes, and is told where it matters; all else needs somebody."""
    return logging.INFO if isinstance(error, DatabaseUnavailableError | TimeoutError) else logging.WARNING


class Background:
    """What goes on beside one call."""

    def __init__(self) -> None:
        """Nothing does."""
        self._tasks: set[Task] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> Task:
        """Do `work` in the background."""

        async def guarded() -> None:
            try:
                await work
            except LkmongoError as error:
                template = "background work on the caller's memory failed: %s (%s)"
                logger.log(level_of(error), template, error.message, error.why)
            except Exception:
                logger.exception("background work on the caller's memory failed")

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # cancelled before it began, it would complain
        return task

    async def finish(self, deadline: float, *, without: Iterable[Task | None]) -> None:
        """Give what goes on `deadline` seconds, except `without`, which has no end of its own."""
        if tasks := self._tasks - set(without):
            await asyncio.wait(tasks, timeout=deadline)

    async def cancel(self) -> None:
        """End what goes on still."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextmanager
def handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Set these handlers, as `signal.signal` takes them, and those that were there before again at the end."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, R]) -> AsyncIterator[asyncio.Task[R]]:
    """Let `work` run beside the block, and no longer than it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
