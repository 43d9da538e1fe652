"""asyncio helpers: tasks that run beside a block or a session, polling, and temporary signal handlers."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, TypeVar

from lkmongo.errors import DatabaseUnavailableError, LkmongoError

R = TypeVar("R")

logger = logging.getLogger(__name__)

Task = asyncio.Task[None]


def level_of(error: Exception) -> int:
    """The log level of a failure: an unreachable MongoDB is expected and reported elsewhere."""
    return logging.INFO if isinstance(error, DatabaseUnavailableError | TimeoutError) else logging.WARNING


async def few_at_once(work: Iterable[Callable[[], Awaitable[R]]], limit: int) -> list[R]:
    """Run functions side by side, at most `limit` at once, all to their end; then raise the first one's failure."""
    few = asyncio.Semaphore(limit)

    async def run(each: Callable[[], Awaitable[R]]) -> R:
        async with few:
            return await each()

    results = await asyncio.gather(*map(run, work), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


_AT_ONCE = 10_000
"""Characters that are looked through in some milliseconds."""


async def aside(characters: int, work: Callable[[], R]) -> R:
    """Run work that takes a microsecond or two for each character of a text: in a thread if there is much of it.

    The event loop, on which everybody is answered, is then held for milliseconds only.
    """
    return work() if characters <= _AT_ONCE else await asyncio.to_thread(work)


async def answered(question: Awaitable[None] | None) -> None:
    """Await what a callback returned, if it is a coroutine function's."""
    if question is not None:
        await question


class Background:
    def __init__(self) -> None:
        self._tasks: set[Task] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> Task:
        """Run `work` in the background; its failure is logged."""

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
        task.add_done_callback(lambda _: work.close())  # else one cancelled before it began would warn
        return task

    async def finish(self, deadline: float, *, without: Iterable[Task | None]) -> None:
        """Wait up to `deadline` seconds for all tasks except `without`, which do not end by themselves."""
        if tasks := self._tasks - set(without):
            await asyncio.wait(tasks, timeout=deadline)

    async def cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Repeat:
    """Work that runs once more if it is asked for while it runs, for it may have looked too early."""

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, None]], start: Callable[[Coroutine[Any, Any, None]], Task]
    ) -> None:
        """`start` makes the task that `work` runs in, as `Background.begin` and `asyncio.create_task` do."""
        self._work = work
        self._start = start
        self._running: Task | None = None
        self._due = False

    def begin(self) -> None:
        self._due = True
        if self._running is None or self._running.done():
            self._running = self._start(self._run())

    async def _run(self) -> None:
        while self._due:
            self._due = False
            await self._work()


@contextmanager
def handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Install signal handlers for the block, and restore the previous ones after."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, R]) -> AsyncIterator[asyncio.Task[R]]:
    """Run `work` concurrently with the block; cancel it at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def poll(work: Callable[[], Awaitable[object]], every: float, failing: str) -> NoReturn:
    """Run `work` again and again; its failure is logged, an error of ours once while it lasts.

    Args:
        work: one pass.
        every: seconds between two passes.
        failing: what the log says, such as "webhooks could not be looked up".
    """
    logged = False
    while True:
        try:
            await work()
            logged = False
        except LkmongoError as error:
            if not logged:
                logger.info("%s; retrying: %s (%s)", failing, error.message, error.why)
            logged = True
        except Exception:
            logger.exception(failing)
        await asyncio.sleep(every)
