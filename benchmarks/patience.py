"""Time that passes, and a network that answers, only when the process that is measured has nothing else to do.

How fast a machine is then decides nothing: no deadline passes while something is still being worked at, requests that
are sent side by side are under way at the same time, and what goes on in the background is answered only after whoever
waits in the foreground has gone on. The driver has its own loop, as in a job's process (`lkmongo.store.mongo.client`).

    patience = Patience()
    monitoring.register(patience)               # before a client is made
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(...)                         # inside: async with patience.of(network): ...
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from pymongo import monitoring

from benchmarks.network import Network
from lkmongo.store.mongo import client

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_CROSSINGS, _TURNS = 3, 50
"""So often each of the two loops gets the word, for so many turns, until nothing is left to do: several times what lies
between an answer and the next request."""
_STEP = 1.0
"""Seconds by which the clock goes on at most when nothing is under way."""
_PATIENCE = 60.0
"""Seconds after which an answer that was sent and not taken is a fault of this."""


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock can stand still, and that knows what it has threads do.

    Attributes:
        in_threads: what threads are working at.
        begun: how much was given to threads so far.
    """

    def __init__(self) -> None:
        """A loop whose clock goes."""
        self.in_threads: set[asyncio.Future[Any]] = set()
        self.begun = 0
        self._stands_at: float | None = None
        self._behind = 0.0
        self._timers: list[float] = []
        super().__init__()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Take note of what a thread works at."""
        future = super().run_in_executor(executor, func, *args)
        self.begun += 1
        self.in_threads.add(future)
        future.add_done_callback(self.in_threads.discard)
        return future

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Take note of when something is to happen."""
        heapq.heappush(self._timers, when)
        return super().call_at(when, callback, *args, context=context)

    def time(self) -> float:
        """The time, as timers and deadlines go by it."""
        return super().time() - self._behind if self._stands_at is None else self._stands_at

    def stand_still(self) -> None:
        """Stop the clock."""
        self._stands_at = self.time()

    def move(self, seconds: float) -> None:
        """Let a clock that stands still have gone on by so much."""
        assert self._stands_at is not None
        self._stands_at += seconds

    def move_to_next(self) -> None:
        """Let a clock that stands still have gone on until something is to happen, or by a step if that is less."""
        while self._timers and self._timers[0] <= self.time():
            heapq.heappop(self._timers)
        self.move(min([_STEP, *(when - self.time() for when in self._timers[:1])]))

    def go_on(self) -> None:
        """Let time pass again, from where the clock stood."""
        self._behind = super().time() - self.time()
        self._stands_at = None


class Patience(monitoring.CommandListener):
    """Knows what MongoDB was asked, and lets it answer when there is nothing else to do."""

    def __init__(self) -> None:
        """Nothing was asked."""
        self._asked = self._answered = 0
        self._changed = threading.Condition()

    def started(self, event: monitoring.CommandStartedEvent) -> None:  # noqa: ARG002
        """Take note of a request."""
        self._asked += 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:  # noqa: ARG002
        """Take note of an answer."""
        self._take_answer()

    def failed(self, event: monitoring.CommandFailedEvent) -> None:  # noqa: ARG002
        """Take note of an answer that is an error, or that will not come."""
        self._take_answer()

    def _take_answer(self) -> None:
        with self._changed:
            self._answered += 1
            self._changed.notify_all()

    @asynccontextmanager
    async def of(self, network: Network) -> AsyncIterator[None]:
        """Inside the block, let time pass and answers come in turns with the work of this process."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        network.hold(True)
        loop.stand_still()
        try:
            async with asyncio.TaskGroup() as group:
                turns = group.create_task(self._take_turns(loop, network))
                yield
                turns.cancel()
        finally:
            loop.go_on()
            network.hold(False)

    async def _take_turns(self, loop: Loop, network: Network) -> None:
        while True:
            await _nothing_to_do(loop)
            asked = self._asked
            if under_way := asked - self._answered:
                network.release(under_way)
                self._await_answers(asked)  # this loop has nothing to do meanwhile; the driver is on another one
                loop.move(network.rtt_ms / 1000)
            else:
                loop.move_to_next()

    def _await_answers(self, count: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._answered >= count, _PATIENCE):
                raise RuntimeError("the driver has not taken an answer that was sent")


async def _nothing_to_do(loop: Loop) -> None:
    """Let both loops turn, and threads work, until nothing of it can lead to anything more."""
    driver, begun = client.start_client_loop(), -1
    while begun != loop.begun:
        if loop.in_threads:
            await asyncio.wait(set(loop.in_threads))
        begun = loop.begun
        for _ in range(_CROSSINGS):
            await _turn()
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_turn(), driver))


async def _turn() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
