"""A mongod that can be restarted, and calls on it, many at once; afterwards nothing may be left of them."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from lkmongo.embed.choose import create_embedder
from lkmongo.local import find_server
from lkmongo.store import provision
from lkmongo.store.client import create_client
from lkmongo.store.opening import Store
from tests.faults.held import KINDS, PHASES, Case, Held, Rig, hold, judge, prepare
from tests.waiting import until

HANGS = 180.0
"""Seconds after which a call is taken to hang: none that does not has been seen to take a third of it."""


class Mongod:
    """A mongod on a Unix socket, of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self.restarts = 0
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
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    async def ready(self) -> None:
        """Wait until it takes writes."""
        async with create_client(f"{self.uri}&serverSelectionTimeoutMS=60000") as client:
            config = {"_id": "lk", "members": [{"_id": 0, "host": self.socket_path}]}
            try:
                await client.admin.command("replSetInitiate", config)
            except Exception as error:
                if "already initialized" not in str(error):
                    raise

            async def is_primary() -> bool:
                return bool((await client.admin.command("hello")).get("isWritablePrimary"))

            await until(is_primary)

    def restart(self) -> None:
        """Kill it with SIGKILL or SIGTERM, by turns, and start it again, unless that is under way."""
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        self.restarts += 1
        await asyncio.to_thread(self.stop, signal.SIGKILL if self.restarts % 2 else signal.SIGTERM)
        self.start()
        await self.ready()

    async def restarted(self) -> None:
        """Wait until a restart that is under way is done."""
        if self._restarting:
            await self._restarting

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


def cases(count: int) -> list[Case]:
    """So many calls, of each fault at each phase equally many, half of the faults over while the call goes on."""
    every = [(kind, phase, is_brief) for is_brief in (False, True) for kind in KINDS for phase in PHASES]
    return [Case(number, *every[number % len(every)]) for number in range(count)]


@asynccontextmanager
async def rig(folder: Path, mongod: Mongod) -> AsyncIterator[Rig]:
    """What calls share."""
    mongod.start()
    try:
        await mongod.ready()
        async with create_client(f"{mongod.uri}&serverSelectionTimeoutMS=20000") as client:
            store = Store.of(client["faults"])
            await provision.apply(store.db)
            embedder = create_embedder("local")
            await embedder.warm()
            yield Rig(store, mongod.socket_path, embedder, folder / "homes", mongod.restart)
            await embedder.close()
    finally:
        mongod.stop()


async def hold_all(rig: Rig, mongod: Mongod | None, batch: Iterable[Case], seed: int, *, at_once: int) -> list[Held]:
    """Hold calls, at most so many at the same time; those whose mongod is restarted apart from the others."""
    batch = list(batch)
    apart = [case for case in batch if case.kind == "restart"]
    others = [case for case in batch if case.kind != "restart"]
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
    held = list(await asyncio.gather(*map(one, others)))
    for phase in PHASES:
        held += await asyncio.gather(*(one(case) for case in apart if case.phase == phase))
        if mongod:
            await mongod.restarted()
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
    for _ in range(100):
        if not left:
            break
        await asyncio.sleep(0.1)
        left = open_now() - before
    return left


def table(held: Sequence[Held]) -> str:
    """Fault x phase x outcome, with the longest waits."""
    rows = [
        ("fault", "phase", "lasts", "calls", "stored by the call", "recovered", "wrong", "greeting", "turn", "hang-up")
    ]
    groups: dict[tuple[str, str, bool], list[Held]] = {}
    for each in held:
        groups.setdefault(
            (each.case.kind, each.case.phase, each.case.is_brief or each.case.kind == "restart"), []
        ).append(each)
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
                *(f"{seconds:.2f} s" for seconds in longest),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
