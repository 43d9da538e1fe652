"""Rows of the side-by-side table that need a process for each sample: the first call of one, and commands."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Result, Way, result, take_turns
from benchmarks.stage import Stage

GROUP = "side by side"
_WARMING = 1.0
"""Seconds that a process has before its job comes, at least."""
_EMPTY = """
import typer
app = typer.Typer()
@app.callback()
def main() -> None: "Nothing."
@app.command()
def nothing() -> None: "Nothing."
app()
"""


async def first_call(
    stage: Stage, rtt_ms: float, rounds: int, *, ways: Sequence[str] = ("lkmongo", "guide")
) -> list[Result]:
    """The first call of a process: until everything is known of a caller with 10 slots."""
    trips: dict[str, int] = {}

    async def run(way: str) -> float:
        program = [sys.executable, "-m", "benchmarks.first_call", way, stage.network.uri]
        process = await asyncio.create_subprocess_exec(
            *program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        )
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readline()
        await asyncio.sleep(_WARMING + 10 * rtt_ms / 1000)
        stage.network.reset()
        process.stdin.write(b"go\n")
        took = float(await process.stdout.readline())
        trips[way] = stage.network.counts().round_trips
        process.stdin.write(b"end\n")
        process.stdin.close()
        if await process.wait():
            raise RuntimeError(f"the process of {way} ended with {process.returncode}")
        return took

    work = "session start, first call of a process"
    times = await take_turns({way: functools.partial(run, way) for way in ways}, rounds, warm_up=0)
    results = [result(GROUP, work, way, values, rtt_ms=rtt_ms) for way, values in times.items()]
    if rtt_ms:
        for way, count in trips.items():
            results.append(result(GROUP, work, way, [count], unit="round trips", rtt_ms=rtt_ms))
    return results


async def commands(_: Stage, *, quick: bool) -> list[Result]:
    """How long commands take, as processes, beside programs that import what they need and do nothing.

    Those on data use an embedded mongod that an earlier command has left, as at a terminal.
    """
    results: list[Result] = []
    lkmongo = str(Path(sys.executable).with_name("lkmongo"))
    key = {"LIVEKIT_URL": "wss://example.livekit.cloud", "LIVEKIT_API_KEY": "APIkey", "LIVEKIT_API_SECRET": "s" * 40}
    token = [lkmongo, "token", "--user", "u-100", "--room", "benchmark"]
    with tempfile.TemporaryDirectory(prefix="lkmongo-bench-") as home:
        left = {"LKMONGO_HOME": home, "LKMONGO_LINGER": "1h"}
        for work, ours, limit, note, variables in (
            ("lkmongo --help", [lkmongo, "--help"], [_EMPTY, "--help"], "an empty Typer app", key),
            ("lkmongo token", token, ["import livekit.api"], "import livekit.api", key),
            ("lkmongo memory list", [lkmongo, "memory", "list", "u-100"], ["import pymongo"], "import pymongo", left),
            ("lkmongo doctor", [lkmongo, "doctor"], ["import livekit.agents"], "import livekit.agents", left),
        ):
            ways = {
                "lkmongo": _process(ours, variables),
                "limit": _process([sys.executable, "-c", *limit], variables),
            }
            if variables is left:
                await _process([lkmongo, "db", "seed", "--yes"], left)()
                await ways["lkmongo"]()
            times = await take_turns(ways, 4 if quick else 12)
            results += [
                result(GROUP, work, way, values, note=note if way == "limit" else "") for way, values in times.items()
            ]
        await _process([lkmongo, "local", "stop"], left)()
    return results


def _process(command: list[str], variables: dict[str, str]) -> Way:
    async def run() -> None:
        # Without asyncio's own watching of processes, which takes some of the time.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | variables
        done = subprocess.run(command, env=env, capture_output=True, check=False)  # noqa: ASYNC221
        if done.returncode:
            raise RuntimeError(done.stderr.decode())

    return run
