"""How fast `lkmongo sessions export` is, beside a bare cursor that decodes and dumps each document with json_util.

    python -m benchmarks.export --sessions 100000 --turns 20 [--uri mongodb://...] [--json FILE]

Both go over the same calls in turns of a slice each, so that whatever else the machine does meets both; beside them a
cursor that only fetches the documents' bytes, which is the limit. Then the command itself exports everything in a
process of its own, whose peak memory is told, and a tenth as many calls for comparison.
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
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database

from benchmarks.call_data import fill
from benchmarks.measure import Result, machine, result, write_json
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.store.export.export import Export, Exported, Sink
from lkmongo.store.export.writers import JsonlWriter
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.sessions.listing import SessionFilter

DATABASE = "lkmongo_benchmark_export"
SMALL = f"{DATABASE}_small"


class _EnoughError(Exception):
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=20, help="turns of each session")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--uri", help="a MongoDB; by default an embedded one in a temporary folder")
    parser.add_argument("--reuse", action="store_true", help=f"take the database {DATABASE} as it is, and leave it")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        uri = options.uri or stack.enter_context(EmbeddedMongod(folder / "home")).uri
        client: MongoClient[dict[str, Any]] = stack.enter_context(MongoClient(uri))
        for name, sessions in ((DATABASE, options.sessions), (SMALL, options.sessions // 10)):
            if not options.reuse:
                client.drop_database(name)
                stack.callback(client.drop_database, name)
                asyncio.run(_provision(uri, name))
                began = time.monotonic()
                fill(client[name], sessions, options.turns)
                print(f"wrote the data in {time.monotonic() - began:.0f} s", flush=True)
        sessions = client[DATABASE].sessions.estimated_document_count()
        turns = client[DATABASE].turns.estimated_document_count()
        print(f"{sessions:,} sessions, {turns:,} turns; {options.slices} slices\n", flush=True)
        rates = asyncio.run(_side_by_side(uri, client, folder, sessions, turns, options.slices))
        results = [
            result("side by side", "export", way, values, n=sessions, unit="documents per second")
            for way, values in rates.items()
        ]
        for name in (SMALL, DATABASE):
            count = client[name].sessions.estimated_document_count()
            results.append(_whole(uri, folder, name, count, count + client[name].turns.estimated_document_count()))
        if options.json:
            write_json(options.json, results, machine(client.server_info()["version"]))


async def _provision(uri: str, name: str) -> None:
    async with create_client(uri) as client:
        await database_indexes.apply(client[name])


async def _side_by_side(
    uri: str, client: MongoClient[dict[str, Any]], folder: Path, sessions: int, turns: int, slices: int
) -> dict[str, list[float]]:
    calls = sessions // slices
    bare = _bare(client, calls, calls * turns // sessions)
    fetch = _fetch(client, calls, calls * turns // sessions)
    after, ratios, cpu_ratios = None, [], []
    all_rates: dict[str, list[float]] = {"lkmongo": [], "guide": [], "limit": []}
    print(f"{'slice':>5} {'export /s':>10} {'bare /s':>10} {'ratio':>6} {'CPU us':>7} {'CPU us':>7} {'limit /s':>10}")
    async with create_client(uri) as own:
        for number in range(slices):
            with (folder / "export.jsonl").open("wb", buffering=0) as file:
                done, *exported = await _export(own[DATABASE], after, calls, file)
            if not exported[0]:
                break  # each slice is some calls more than it was to be, so that the last may find none
            after = done.last_id
            with (folder / "bare.jsonl").open("wb") as file:
                dumped = bare(file)
            rates = [documents / seconds for documents, seconds, _ in (exported, dumped, fetch())]
            for name, rate in zip(all_rates, rates, strict=True):
                all_rates[name].append(rate)
            cpu = [used / documents * 1e6 for documents, _, used in (exported, dumped)]
            ratios.append(rates[0] / rates[1])
            cpu_ratios.append(cpu[1] / cpu[0])
            print(
                f"{number:>5} {rates[0]:>10,.0f} {rates[1]:>10,.0f} {ratios[-1]:>6.2f} {cpu[0]:>7.1f} {cpu[1]:>7.1f} "
                f"{rates[2]:>10,.0f}",
                flush=True,
            )
    print(f"\nratio of the rates: median {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}")
    print(f"ratio of the processor time a document: median {statistics.median(cpu_ratios):.2f}\n", flush=True)
    return all_rates


async def _export(db: Any, after: Any, calls: int, file: BinaryIO) -> tuple[Exported, int, float, float]:
    """Export at least `calls` calls; (how far it came, documents, seconds, processor seconds)."""

    def enough(done: Exported) -> None:
        if done.sessions >= calls:
            raise _EnoughError

    async def write(data: bytes) -> None:
        file.write(data)

    sink = Sink(write)
    work = Export(db, SessionFilter(), after=after)
    began, used = time.monotonic(), time.process_time()
    with suppress(_EnoughError):
        await work.run(JsonlWriter(sink), sink, enough)
    return work.done, work.done.documents, time.monotonic() - began, time.process_time() - used


def _bare(client: MongoClient[dict[str, Any]], sessions: int, turns: int) -> Any:
    """A function that dumps the next `sessions` sessions and `turns` turns of two cursors that stay open."""
    cursors = _cursors(client[DATABASE], sessions, turns)

    def dump(file: BinaryIO) -> tuple[int, float, float]:
        began, used = time.monotonic(), time.process_time()
        for cursor, count in cursors:
            file.writelines(json_util.dumps(document).encode() + b"\n" for document in itertools.islice(cursor, count))
        return sessions + turns, time.monotonic() - began, time.process_time() - used

    return dump


def _fetch(client: MongoClient[dict[str, Any]], sessions: int, turns: int) -> Any:
    """A function that fetches the next documents as bytes, and does nothing with them."""
    raw: Database[Any] = client.get_database(DATABASE, CodecOptions(document_class=RawBSONDocument))
    cursors = _cursors(raw, sessions, turns)

    def fetch() -> tuple[int, float, float]:
        began, used = time.monotonic(), time.process_time()
        for cursor, count in cursors:
            for _ in itertools.islice(cursor, count):
                pass
        return sessions + turns, time.monotonic() - began, time.process_time() - used

    return fetch


def _cursors(db: Database[Any], sessions: int, turns: int) -> tuple[tuple[Iterator[Any], int], ...]:
    def endless(name: str) -> Iterator[Any]:
        while True:
            # The driver's own batches are 16 MB: a slice would have one or none of them.
            yield from db[name].find().batch_size(2_000)

    return ((endless("sessions"), sessions), (endless("turns"), turns))


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


def _whole(uri: str, folder: Path, name: str, sessions: int, documents: int) -> Result:
    """Run the command over everything; its peak memory."""
    env = os.environ | {"MONGODB_URI": uri, "MONGODB_DB": name}
    target = folder / f"{name}.jsonl"
    began = time.monotonic()
    command = [sys.executable, "-c", _MEASURED, "sessions", "export", "-O", str(target)]
    done = subprocess.run(command, env=env, check=True, stderr=subprocess.PIPE, text=True)
    seconds = time.monotonic() - began
    size = target.stat().st_size / 2**20
    print(f"the command: exit code {done.returncode}, {seconds:.1f} s with its start and end, {done.stderr.strip()};")
    print(f"{documents / seconds:,.0f} documents a second, {size:,.0f} MB written", flush=True)
    peak = float(done.stderr.rpartition("peak memory ")[2].split()[0])
    return result("side by side", "export, memory of the command", "lkmongo", [peak], n=sessions, unit="MB")


if __name__ == "__main__":
    main()
