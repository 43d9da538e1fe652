"""A mongod that can be restarted, and calls on it, many at once; afterwards nothing may be left of them."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import product
from pathlib import Path

import psutil
from pymongo.errors import PyMongoError

from lkmongo.embed.choose import create_embedder
from lkmongo.local import find_server
from lkmongo.search.atlas import running
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from tests.faults.held import KINDS, OF_ALL, PHASES, Case, Held, Kind, Rig, hold, judge, prepare
from tests.waiting import until

HANGS = 400.0
"""Seconds after which a call is taken to hang: none that does not has been seen to take a third of it."""


class Mongod:
    """A mongod on a Unix socket, of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._disturbing: asyncio.Task[None] | None = None
        self.restarts = 0
        self.step_downs = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.socket_path = str(folder / "m.sock")

    @property
    def uri(self) -> str:
        """Its address, for a driver."""
        return f"mongodb://{self.socket_path.replace('/', '%2F')}/?directConnection=true"

    def start(self) -> None:
        """Start it; whoever connects waits until it listens."""
        command = [
            str(find_server().path),
            *("--dbpath", str(self._folder), "--nounixsocket", "--bind_ip", self.socket_path),
            *("--replSet", "lk", "--wiredTigerCacheSizeGB", "0.25", "--quiet"),
        ]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        log.close()

    async def ready(self) -> None:
        """Wait until it takes writes."""
        async with create_client(f"{self.uri}&serverSelectionTimeoutMS=60000") as client:
            config = {"_id": "lk", "members": [{"_id": 0, "host": self.socket_path}]}

            async def is_primary() -> bool:
                try:
                    if (await client.admin.command("hello")).get("isWritablePrimary"):
                        return True
                    await client.admin.command("replSetInitiate", config)
                except PyMongoError:  # it has been initiated before, or goes down or comes up
                    return False
                return False

            await until(is_primary)

    def disturb(self, kind: Kind) -> None:
        """Kill it with SIGKILL or SIGTERM in turn and restart it, or make it step down, unless that is under way."""
        if self._disturbing is None or self._disturbing.done():
            self._disturbing = asyncio.create_task(self._step_down() if kind == "step down" else self._restart())

    async def _step_down(self) -> None:
        """Be no primary for two seconds, as each member of a replica set is at times."""
        self.step_downs += 1
        async with create_client(self.uri) as client:
            with suppress(PyMongoError):  # it may close the connection
                await client.admin.command("replSetStepDown", 2, secondaryCatchUpPeriodSecs=0, force=True)
        await self.ready()

    async def _restart(self) -> None:
        self.restarts += 1
        await asyncio.to_thread(self.stop, signal.SIGKILL if self.restarts % 2 else signal.SIGTERM)
        self.start()
        await self.ready()

    async def settled(self) -> None:
        """Wait until what is under way is done."""
        if self._disturbing:
            await self._disturbing

    async def close(self) -> None:
        """End it for good, whatever it is doing."""
        if self._disturbing:
            await asyncio.gather(self._disturbing, return_exceptions=True)
        self.stop()

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self._process:
            self._process.send_signal(number)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it."""
        if self._process:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:  # it waits for something of its own
                self._process.kill()
                self._process.wait()
            self._process = None


def cases(count: int, kinds: Sequence[Kind] = KINDS) -> list[Case]:
    """So many calls, of each fault at each phase equally many, half of the faults over while the call goes on."""
    every = [(kind, phase, is_brief) for is_brief in (False, True) for kind in kinds for phase in PHASES]
    return [Case(number, *every[number % len(every)]) for number in range(count)]


@asynccontextmanager
async def rig(folder: Path, mongod: Mongod) -> AsyncIterator[Rig]:
    """What calls share."""
    mongod.start()
    try:
        await mongod.ready()
        async with create_client(f"{mongod.uri}&serverSelectionTimeoutMS=20000") as client:
            store = Store.of(client["faults"])
            await database_indexes.apply(store.db)
            embedder = create_embedder("local")
            await embedder.warm()
            yield Rig(store, mongod.socket_path, embedder, folder / "homes", mongod.disturb)
            await embedder.close()
    finally:
        await mongod.close()


async def hold_all(rig: Rig, mongod: Mongod | None, batch: Iterable[Case], seed: int, *, at_once: int) -> list[Held]:
    """Hold calls, at most so many at the same time; those in which something happens to mongod itself apart."""
    batch = list(batch)
    others = [case for case in batch if case.kind not in OF_ALL]
    gate = asyncio.Semaphore(at_once)

    async def one(case: Case) -> Held:
        async with gate:
            try:
                async with asyncio.timeout(HANGS):
                    return await hold(rig, case, seed)
            except Exception as error:
                held = Held(case, outcome="error")
                held.wrong.append(f"{type(error).__name__}: {error}")
                return held

    for case in batch:
        await prepare(rig, case)
    async with running(rig.pulse.beat()):
        held = list(await asyncio.gather(*map(one, others)))
        for together in product(OF_ALL, PHASES):
            held += await asyncio.gather(*(one(case) for case in batch if (case.kind, case.phase) == together))
            if mongod:
                await mongod.settled()
    for each in held:
        if each.outcome != "error":
            await judge(rig, each)
    return held


def open_now() -> Counter[str]:
    """What this process has open: sockets, files, threads, tasks, processes."""
    gc.collect()
    me = psutil.Process()
    return Counter(
        sockets=len(me.net_connections()),
        files=len(me.open_files()),
        tasks=len(asyncio.all_tasks()),
        processes=len(me.children(recursive=True)),
    )


async def left_over(before: Counter[str]) -> Counter[str]:
    """What is open that was not; what is being closed has a while for it."""
    left = open_now() - before
    for _ in range(600):
        if not left:
            break
        await asyncio.sleep(0.1)
        left = open_now() - before
    return left


def table(held: Sequence[Held]) -> str:
    """Fault x phase x outcome, with the longest waits, and how long the process stood still in one at most."""
    waits = ("greeting", "turn", "hang-up", "stood still")
    rows = [("fault", "phase", "lasts", "calls", "stored by the call", "recovered", "wrong", *waits)]
    groups: dict[tuple[str, str, bool], list[Held]] = {}
    for each in held:
        groups.setdefault((each.case.kind, each.case.phase, each.case.is_brief or each.case.kind in OF_ALL), []).append(
            each
        )
    order = {name: number for number, name in enumerate((*KINDS, *PHASES))}
    for (kind, phase, is_brief), some in sorted(
        groups.items(), key=lambda pair: (order[pair[0][0]], order[pair[0][1]], pair[0][2])
    ):
        longest = [max(each.waits[what] for each in some) for what in ("greeting", "turn", "hang_up")]
        own = sum(each.outcome == "stored by the call" for each in some)
        rows.append(
            (
                kind,
                phase,
                "a moment" if is_brief else "to the end",
                str(len(some)),
                str(own),
                str(sum(each.outcome.startswith("recovered") for each in some)),
                str(sum(bool(each.wrong) for each in some)),
                *(f"{seconds:.2f} s" for seconds in (*longest, max(each.stood_still for each in some))),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
