"""How fast `lkmongo sessions export` is, beside a bare cursor that decodes and dumps each document with json_util.

    python -m benchmarks.export --sessions 100000 --turns 20 [--uri mongodb://...]

Both go over the same calls in turns of a slice each, so that whatever else the machine does meets both. Then the
command itself exports everything in a process of its own, whose peak memory is told.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

from bson import json_util
from pymongo import MongoClient

from benchmarks.call_data import fill
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.store import provision
from lkmongo.store.calls import CallFilter
from lkmongo.store.client import create_client
from lkmongo.store.export import Export, Exported, Sink
from lkmongo.store.export_jsonl import JsonlWriter

DATABASE = "lkmongo_benchmark_export"


class _EnoughError(Exception):
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=20, help="turns of each session")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--uri", help="a MongoDB; by default an embedded one in a temporary folder")
    parser.add_argument("--reuse", action="store_true", help=f"take the database {DATABASE} as it is, and leave it")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        uri = options.uri or stack.enter_context(EmbeddedMongod(folder / "home")).uri
        client: MongoClient[dict[str, Any]] = stack.enter_context(MongoClient(uri))
        if not options.reuse:
            client.drop_database(DATABASE)
            stack.callback(client.drop_database, DATABASE)
            asyncio.run(_provision(uri))
            began = time.monotonic()
            fill(client[DATABASE], options.sessions, options.turns)
            print(f"wrote the data in {time.monotonic() - began:.0f} s", flush=True)
        sessions = client[DATABASE].sessions.estimated_document_count()
        turns = client[DATABASE].turns.estimated_document_count()
        print(f"{sessions:,} sessions, {turns:,} turns; {options.slices} slices\n", flush=True)
        asyncio.run(_side_by_side(uri, client, folder, sessions, turns, options.slices))
        _whole(uri, folder, sessions + turns)


async def _provision(uri: str) -> None:
    async with create_client(uri) as client:
        await provision.apply(client[DATABASE])


async def _side_by_side(
    uri: str, client: MongoClient[dict[str, Any]], folder: Path, sessions: int, turns: int, slices: int
) -> None:
    calls = sessions // slices
    bare = _bare(client, calls, calls * turns // sessions)
    after, ratios, cpu_ratios = None, [], []
    print(f"{'slice':>5} {'export /s':>10} {'bare /s':>10} {'ratio':>6} {'CPU us':>7} {'CPU us':>7}")
    async with create_client(uri) as own:
        for number in range(slices):
            with (folder / "export.jsonl").open("wb", buffering=0) as file:
                done, *exported = await _export(own[DATABASE], after, calls, file)
            after = done.last_id
            with (folder / "bare.jsonl").open("wb") as file:
                dumped = bare(file)
            rates = [documents / seconds for documents, seconds, _ in (exported, dumped)]
            cpu = [used / documents * 1e6 for documents, _, used in (exported, dumped)]
            ratios.append(rates[0] / rates[1])
            cpu_ratios.append(cpu[1] / cpu[0])
            print(
                f"{number:>5} {rates[0]:>10,.0f} {rates[1]:>10,.0f} {ratios[-1]:>6.2f} {cpu[0]:>7.1f} {cpu[1]:>7.1f}",
                flush=True,
            )
    print(f"\nratio of the rates: median {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}")
    print(f"ratio of the processor time a document: median {statistics.median(cpu_ratios):.2f}\n", flush=True)


async def _export(db: Any, after: Any, calls: int, file: BinaryIO) -> tuple[Exported, int, float, float]:
    """Export at least `calls` calls; (how far it came, documents, seconds, processor seconds)."""

    def enough(done: Exported) -> None:
        if done.calls >= calls:
            raise _EnoughError

    async def write(data: bytes) -> None:
        file.write(data)

    sink = Sink(write)
    work = Export(db, CallFilter(), after=after)
    began, used = time.monotonic(), time.process_time()
    with suppress(_EnoughError):
        await work.run(JsonlWriter(sink), sink, enough)
    return work.done, work.done.documents, time.monotonic() - began, time.process_time() - used


def _bare(client: MongoClient[dict[str, Any]], sessions: int, turns: int) -> Any:
    """A function that dumps the next `sessions` sessions and `turns` turns of two cursors that stay open."""

    def endless(name: str) -> Iterator[dict[str, Any]]:
        while True:
            yield from client[DATABASE][name].find()

    cursors = ((endless("sessions"), sessions), (endless("turns"), turns))

    def dump(file: BinaryIO) -> tuple[int, float, float]:
        began, used = time.monotonic(), time.process_time()
        for cursor, count in cursors:
            file.writelines(json_util.dumps(document).encode() + b"\n" for document in itertools.islice(cursor, count))
        return sessions + turns, time.monotonic() - began, time.process_time() - used

    return dump


_MEASURED = """
import resource, runpy, sys
sys.argv = ["lkmongo", *sys.argv[1:]]
try:
    runpy.run_module("lkmongo", run_name="__main__")
finally:
    try:  # of this program alone; what getrusage says begins with what its parent had
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory {int(peak) / 1024:.0f} MB", file=sys.stderr)
"""


def _whole(uri: str, folder: Path, documents: int) -> None:
    """Run the command over everything."""
    env = os.environ | {"MONGODB_URI": uri, "MONGODB_DB": DATABASE}
    target = folder / "whole.jsonl"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, "sessions", "export", "-O", str(target)], env=env, check=True
    )
    seconds = time.monotonic() - began
    size = target.stat().st_size / 2**20
    print(f"the command: exit code {done.returncode}, {seconds:.1f} s with its start and end,")
    print(f"{documents / seconds:,.0f} documents a second, {size:,.0f} MB written")


if __name__ == "__main__":
    main()
