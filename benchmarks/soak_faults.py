"""The faults of `benchmarks.soak`: what they do to MongoDB, LiveKit, the network and the workers, each for a while."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pymongo.errors import PyMongoError

from benchmarks.measure import tell
from lkmongo.model import SessionStatus
from lkmongo.store.open import Store
from lkmongo.store.sessions.documents import host_name
from tests.fault_proxy import FaultProxy
from tests.faults.rig import Mongod
from tests.livekit_server import LiveKitProcess
from tests.worker_process import Worker, worker

_REGISTERED = 180.0
"""Seconds within which a worker that was started takes calls."""
_AGAIN = 1.0
"""Seconds after which a supervisor starts a worker again."""


@dataclass
class Fault:
    """One fault that was: from when to when, by the clock on the wall, and whom it concerned, where that is known."""

    kind: str
    began: float
    ended: float = 0.0
    detail: str = ""
    session_ids: list[str] = field(default_factory=list)


class Supervised:
    """A worker that is started again whenever it has ended, as a supervisor does."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str], options: tuple[str, ...]) -> None:
        """Start nothing yet; `keep` does."""
        self.name = name
        self.worker: Worker | None = None
        self.ready = asyncio.Event()
        self.starts = 0
        self.unexpected: list[tuple[float, int]] = []
        """When it ended by itself, and with which exit code."""
        self._folder = folder / name
        self._folder.mkdir()
        self._environment = environment
        self._options = options
        self._is_to_end = False
        self._stack = AsyncExitStack()
        self._keeping: asyncio.Task[None] | None = None

    def keep(self) -> None:
        """Start it, and again when it ends."""
        self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            self._is_to_end = False
            # What is left of one that was killed is not touched: it is to end by itself.
            self.worker = await self._stack.enter_async_context(
                worker(self._folder, self._environment, *self._options, program="lkmongo")
            )
            self.starts += 1
            registering = asyncio.create_task(self._registered(self.worker))
            code = await self.worker.process.wait()
            registering.cancel()
            self.ready.clear()
            if not self._is_to_end:
                self.unexpected.append((time.time(), code))
                tell(f"the {self.name} worker has ended by itself with {code}")
            await asyncio.sleep(_AGAIN)

    async def _registered(self, running: Worker) -> None:
        await running.logs("registered worker")
        self.ready.set()

    @property
    def pid(self) -> int:
        """Of the main process; 0 while there is none."""
        return self.worker.process.pid if self.worker and self.worker.process.returncode is None else 0

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal that ends it."""
        self._is_to_end = True
        if self.worker and self.worker.process.returncode is None:
            self.worker.signal(number, group=group)

    async def stop(self) -> int:
        """End it for good, as a supervisor does; returns the exit code."""
        if self._keeping:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self.send(signal.SIGTERM)
        return await self.worker.process.wait() if self.worker else 0

    async def close(self) -> None:
        """Kill whatever is left of all of its processes."""
        await self._stack.aclose()


@dataclass
class World:
    """What has faults.

    Attributes:
        to_mongod: through which the workers reach MongoDB.
        to_livekit: through which the callers reach LiveKit.
        other: the worker that has faults of its own; the steady one has none.
        store: what the workers write to, without a proxy.
    """

    mongod: Mongod
    livekit: LiveKitProcess
    to_mongod: FaultProxy
    to_livekit: FaultProxy
    other: Supervised
    store: Store

    async def jobs(self) -> dict[int, list[str]]:
        """The processes that hold calls now, each with its sessions; asked once more where MongoDB was just away."""
        with suppress(PyMongoError):
            return await self._jobs()
        await asyncio.sleep(1)
        return await self._jobs()

    async def _jobs(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        async for each in self.store.db.sessions.find({"status": SessionStatus.ACTIVE.value}):
            pid = str((each.get("lease") or {}).get("owner", "")).removeprefix(f"{host_name()}/").partition("/")[0]
            if pid.isdecimal():
                found.setdefault(int(pid), []).append(str(each["session_id"]))
        return found


async def _stopped(process: Mongod | LiveKitProcess, seconds: float) -> None:
    process.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        process.send(signal.SIGCONT)


async def _mongod_stops(world: World, dice: random.Random, _: Fault) -> None:
    await _stopped(world.mongod, dice.uniform(5, 20))


async def _mongod_restarts(world: World, dice: random.Random, fault: Fault) -> None:
    number = dice.choice((signal.SIGTERM, signal.SIGKILL))
    fault.detail = number.name
    await asyncio.to_thread(world.mongod.stop, number)
    await asyncio.sleep(dice.uniform(0, 5))
    world.mongod.start()
    await world.mongod.ready()


async def _mongod_is_cut_off(world: World, dice: random.Random, fault: Fault) -> None:
    fault.detail = dice.choice(("refuse", "stall"))
    world.to_mongod.begin("refuse" if fault.detail == "refuse" else "stall")
    try:
        await asyncio.sleep(dice.uniform(5, 20))
    finally:
        await world.to_mongod.end()


async def _mongod_is_far(world: World, dice: random.Random, fault: Fault) -> None:
    world.to_mongod.slow_delay = dice.uniform(0.05, 0.3)
    fault.detail = f"{2000 * world.to_mongod.slow_delay:.0f} ms round trip"
    world.to_mongod.begin("slow")
    try:
        await asyncio.sleep(dice.uniform(10, 30))
    finally:
        await world.to_mongod.end()


async def _livekit_restarts(world: World, dice: random.Random, _: Fault) -> None:
    await asyncio.to_thread(world.livekit.stop)
    await asyncio.sleep(dice.uniform(0, 3))
    await asyncio.to_thread(world.livekit.start)


async def _livekit_is_silent(world: World, dice: random.Random, _: Fault) -> None:
    await _stopped(world.livekit, dice.uniform(2, 6))


async def _callers_are_cut_off(world: World, dice: random.Random, _: Fault) -> None:
    world.to_livekit.begin("refuse")
    try:
        await asyncio.sleep(dice.uniform(1, 5))
    finally:
        await world.to_livekit.end()


async def _worker_is_killed(world: World, dice: random.Random, fault: Fault) -> None:
    group = dice.random() < 0.5
    fault.detail = "with its jobs" if group else "alone"
    world.other.send(signal.SIGKILL, group=group)
    await _ready_again(world.other)


async def _worker_drains(world: World, dice: random.Random, _: Fault) -> None:
    world.other.send(signal.SIGTERM, group=dice.random() < 0.5)
    await _ready_again(world.other)


async def _ready_again(other: Supervised) -> None:
    other.ready.clear()
    async with asyncio.timeout(_REGISTERED):
        await other.ready.wait()


async def _job_is_killed(world: World, dice: random.Random, fault: Fault) -> None:
    jobs = await world.jobs()
    if not jobs:
        fault.detail = "no call at the time"
        return
    pid = dice.choice(sorted(jobs))
    fault.session_ids, fault.detail = jobs[pid], f"{len(jobs[pid])} calls"
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


KINDS: dict[str, Callable[[World, random.Random, Fault], Awaitable[None]]] = {
    "MongoDB stands still": _mongod_stops,
    "MongoDB restarts": _mongod_restarts,
    "MongoDB is cut off": _mongod_is_cut_off,
    "MongoDB is far away": _mongod_is_far,
    "LiveKit restarts": _livekit_restarts,
    "LiveKit stands still": _livekit_is_silent,
    "callers are cut off": _callers_are_cut_off,
    "a worker is killed": _worker_is_killed,
    "a worker ends": _worker_drains,
    "a job is killed": _job_is_killed,
}


async def have_faults(
    world: World,
    dice: random.Random,
    every: float,
    faults: list[Fault],
    over: asyncio.Event,
    *,
    kinds: tuple[str, ...] = tuple(KINDS),
) -> None:
    """Have one fault about every so many seconds, each kind once before any comes twice, until it is over."""
    while True:
        for kind in dice.sample(kinds, len(kinds)):
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), dice.uniform(0.6, 1.4) * every)
                return
            fault = Fault(kind, time.time())
            faults.append(fault)
            try:
                await KINDS[kind](world, dice, fault)
            finally:
                fault.ended = time.time()
                took = f"{fault.ended - fault.began:.1f} s"
                tell(f"{time.strftime('%H:%M:%S', time.gmtime(fault.began))}  {kind} {fault.detail} ({took})")


def of_run(marker: str) -> list[psutil.Process]:
    """The processes with a variable of this value in their environment: all that a run has started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARKER) == marker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


MARKER = "SOAK_RUN"
"""The variable that names the run to every process that a worker starts."""
