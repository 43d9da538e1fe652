"""How many calls two cores carry through a real LiveKit server, clients and server included: `make bench-rooms`.

    python -m benchmarks.rooms [--only text|voice] [--way lkmongo|bare] [--calls N ...] [--seconds 60] [--no-write]

lkmongo's worker and one of the SDK alone (`rooms_bare`), one after the other, are called by so many callers
(`rooms_callers`), who each say something about every ten seconds, which the agent remembers. Aloud, a stand-in for
LiveKit Inference hears, thinks and speaks (`rooms_speech`). Each row takes some two minutes; those that are measured
replace the same ones in benchmarks/rooms_results.json, of which docs/scale.md shows the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks import rooms_report
from benchmarks.measure import machine, percentile, tell

ROOT = Path(__file__).resolve().parent.parent
CALLS = {"text": (20, 40, 60), "voice": (2, 4, 6)}
WAYS = ("lkmongo", "bare")
AGENT = "rooms"
ENDPOINTING = "0.5,1.5"
"""Of both workers, in seconds: lkmongo's own where it recognises speech. To a detector of ends, the stand-in for speech
goes on, so that each answer waits for the longer one."""
_SETTLED = 30
"""Seconds within which a worker has started all that it keeps ready."""
_BEFORE_THE_END = 3.0
"""Seconds before the callers leave when processor time is read, as the time of who has left is lost."""
_QUIET, _IDLE = 3, 0.4
"""Seconds for which it starts nothing more then, and the cores that what waits may take meanwhile."""


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that come of it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def used(processes: list[psutil.Process]) -> float:
    """Seconds of processor time that they have taken, and those that ended before them."""
    total = 0.0
    for each in processes:
        with suppress(psutil.Error):
            total += sum(each.cpu_times()[:4])
    return total


def memory(processes: list[psutil.Process]) -> float:
    """Megabytes that they have, shared pages counted once."""
    total = 0.0
    for each in processes:
        with suppress(psutil.Error):
            total += each.memory_full_info().pss / 2**20
    return total


async def settled(pid: int) -> None:
    """Wait until a worker has started all its processes, and does nothing any more."""
    quiet, before = 0, (0, 0.0)
    for _ in range(_SETTLED):
        processes = tree(pid)
        now = (len(processes), used(processes))
        quiet = quiet + 1 if now[0] == before[0] and now[1] - before[1] < _IDLE else 0
        if quiet == _QUIET:
            return
        before = now
        await asyncio.sleep(1)


class Helper:
    """A process of this benchmark that is spoken to line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def read(self) -> dict[str, Any]:
        """The next line that it writes."""
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: a process of the benchmark has ended: {self._process.returncode}")
        return dict(json.loads(line))

    def write(self, line: str) -> None:
        """Tell it something."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    async def end(self) -> None:
        """Let it end, or end it."""
        assert self._process.stdin
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def helper(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Helper]:
    """Run a module of the benchmarks until the end of the block."""
    pipe = asyncio.subprocess.PIPE
    program = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = await asyncio.create_subprocess_exec(
        *program, cwd=ROOT, stdin=pipe, stdout=pipe, limit=2**24, env=os.environ | (environment or {})
    )
    running = Helper(process)
    try:
        yield running
    finally:
        await running.end()


async def measure(kind: str, way: str, calls: int, seconds: float) -> dict[str, Any]:
    """One row: so many calls of one kind with one worker."""
    from lkmongo.local.mongod import EmbeddedMongod
    from tests.livekit_server import livekit_server_in
    from tests.worker_process import worker

    tell(f"{time.strftime('%H:%M:%S')}  {calls} {kind} calls, {way}")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        server = stack.enter_context(livekit_server_in(folder))
        environment = server.environment | {"LKMONGO_AGENT_NAME": AGENT, "LKMONGO_AGENT": ""}
        parts: dict[str, int] = {"server": server.pid}
        options: list[str] = []
        if way == "lkmongo":
            home, here = folder / "mongod", {child.pid for child in psutil.Process().children()}
            environment |= {"MONGODB_URI": stack.enter_context(EmbeddedMongod(home)).uri, "MONGODB_DB": "rooms"}
            started = {child.pid for child in psutil.Process().children()} - here
            parts |= {"MongoDB": started.pop()} if started else {}
            options = ["--host", "127.0.0.1", "--port", "0", "--max-calls", str(calls)]
            options += [] if kind == "voice" else ["--demo"]
        if kind == "voice":
            speech = await stack.enter_async_context(helper("rooms_speech"))
            environment |= await speech.read() | {"LKMONGO_ENDPOINTING": ENDPOINTING}
            parts["speech"] = speech.pid
        program = "lkmongo" if way == "lkmongo" else "benchmarks.rooms_bare"
        process = await stack.enter_async_context(worker(folder, environment, *options, program=program))
        await process.logs("registered worker")
        parts["worker"] = process.process.pid
        await settled(parts["worker"])
        idle, idle_processes = memory(tree(parts["worker"])), len(tree(parts["worker"]))
        before = used(tree(parts["worker"]))
        callers = await stack.enter_async_context(
            helper("rooms_callers", kind, str(calls), environment=server.environment | {"LKMONGO_AGENT_NAME": AGENT})
        )
        parts["clients"] = callers.pid
        await callers.read()
        if kind == "text":  # it starts processes for those it has given away; aloud, sound is never quiet
            await settled(parts["worker"])
        joining = used(tree(parts["worker"])) - before
        callers.write(str(seconds))
        began, at_first = time.monotonic(), {name: used(tree(pid)) for name, pid in parts.items()}
        await asyncio.sleep(seconds - _BEFORE_THE_END)
        took = time.monotonic() - began
        cores = {name: (used(tree(pid)) - at_first[name]) / took for name, pid in parts.items()}
        in_calls, processes = memory(tree(parts["worker"])), len(tree(parts["worker"]))
        found = await callers.read()
    row = {"kind": kind, "way": way, "calls": calls, "seconds": seconds, **summary(found)}
    row |= {"idle_mb": idle, "idle_processes": idle_processes, "mb": in_calls, "processes": processes}
    row |= {"joining_s": joining / calls, "cores": {name: told(value) for name, value in cores.items()}}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def told(cores: float) -> float | None:
    """Cores to three decimals; None if a process has left with what it had taken."""
    return round(cores, 3) if cores >= 0 else None


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of what callers met; a percentile of nothing is None."""
    told = {"unserved": found["unserved"], "turns": len(found["waits"]) + found["missing"], "missing": found["missing"]}
    for name in ("greeting", "wait"):
        values = found[f"{name}s"]
        told |= {f"{name}_p{share}": percentile(values, share) if values else None for share in (50, 95)}
    return told


def merged(told: Mapping[str, Any], rows: list[dict[str, Any]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Results with these rows in the place of the same ones."""
    by = {rooms_report.place(each): each for each in [*told.get("rows", ()), *rows]}
    return {"machine": dict(facts), "rows": [by[place] for place in sorted(by)]}


def facts() -> dict[str, Any]:
    """The machine, and the versions of what is measured."""
    from importlib.metadata import version

    told = subprocess.run(["livekit-server", "--version"], capture_output=True, text=True, check=True).stdout
    return machine() | {"livekit_server": told.split()[-1], "livekit_agents": version("livekit-agents")}


async def run(options: argparse.Namespace) -> None:
    """Measure what is asked for, row by row; each is written when it is there."""
    for kind in [options.only] if options.only else list(CALLS):
        for calls in options.calls or CALLS[kind]:
            for way in [options.way] if options.way else WAYS:
                row = await measure(kind, way, calls, options.seconds)
                print(json.dumps(row))
                if not options.no_write:
                    told = merged(rooms_report.results(), [row], facts())
                    rooms_report.RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, and write the figures and the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(CALLS), help="calls of this kind alone")
    parser.add_argument("--way", choices=WAYS, help="this worker alone")
    parser.add_argument("--calls", type=int, nargs="+", help="how many at once, instead of those of the table")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long they talk")
    parser.add_argument("--no-write", action="store_true", help="print the figures only")
    options = parser.parse_args()
    if not shutil.which("livekit-server"):
        raise SystemExit("error: livekit-server is not on PATH: there is no LiveKit server to measure through")
    asyncio.run(run(options))
    if not options.no_write:
        subprocess.run([sys.executable, "-m", "docs.generate"], cwd=ROOT, check=True)
        tell(f"written: {rooms_report.RESULTS.relative_to(ROOT)}, docs/scale.md")


if __name__ == "__main__":
    main()
