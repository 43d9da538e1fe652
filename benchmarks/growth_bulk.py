"""How bulk work grows: with the number of passages searched, calls exported, and concurrent calls."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pymongo import MongoClient

from benchmarks.call_data import fill
from benchmarks.export import _MEASURED
from benchmarks.growth_bench import Bench, Reading, once, timed, times_for
from benchmarks.growth_data import library, write_passages
from lkmongo.model import TenantScope
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.knowledge.ingest import Library, add_documents
from lkmongo.store.mongo.client import run_on_client_loop

_numbers = itertools.count()
_TURNS = 2
_INGESTED = 10_000
"""Passages that are added as the command does; more are written straight, for that takes minutes."""


async def passages(bench: Bench, n: int) -> list[Reading]:
    """A tenant's knowledge has n passages, and is searched exactly, as where there is no Atlas."""
    tenant, documents = TenantScope(f"passages-{n}"), library(n)
    readings = []
    if n <= _INGESTED:
        readings = await _ingest(bench, tenant, documents)
    else:
        write_passages(bench.database, tenant.tenant_id, documents, bench.embedder.model, bench.embedder.dimensions)
    del documents
    strategies: list[ExactStrategy] = []

    async def first() -> None:
        strategies.append(ExactStrategy(bench.store.db, bench.embedder))
        assert (await strategies[-1].knowledge(tenant, _question())).hits

    async def warm() -> None:
        await strategies[-1].knowledge(tenant, _question())

    before = _memory()
    firsts = await timed(first, 1, warm_up=0)
    held = _memory() - before
    warms = await timed(warm, times_for(n, work=200_000))
    strategies.clear()
    if n <= 10_000:
        firsts += await timed(first, 4, warm_up=0)
    matrix = np.random.default_rng(1).standard_normal((n, bench.embedder.dimensions), dtype=np.float32)
    compared = once(lambda: np.argpartition(matrix @ matrix[0], -30 if n > 30 else -1), 20)
    bench.database.knowledge.delete_many(tenant.filter)
    return [
        *readings,
        Reading("first search of a process", firsts),
        Reading("search", warms),
        Reading("search", compared, way="limit", note="a bare NumPy product and partition"),
        Reading("memory", [max(held, 0.0)], "MB"),
    ]


async def _ingest(bench: Bench, tenant: TenantScope, documents: Library) -> list[Reading]:
    """Add documents as `knowledge add` does."""
    texts = [passage.embedded_text for document in documents.documents for passage in document.passages]

    async def add() -> None:
        await add_documents(
            bench.store.db,
            tenant,
            documents,
            bench.embedder,
            dry_run=False,
            on_progress=lambda *_: None,
            on_wait=lambda _: None,
        )

    async def embed() -> None:
        async for _ in bench.embedder.embed_many(texts):
            pass

    ((added,), (embedded,)) = [await timed(work, 1, warm_up=0) for work in (lambda: run_on_client_loop(add), embed)]
    return [
        Reading("ingest", [1000 * len(texts) / added], "passages per second"),
        Reading(
            "ingest",
            [1000 * len(texts) / embedded],
            "passages per second",
            way="limit",
            note="the embedder alone",
        ),
    ]


async def exported(bench: Bench, n: int) -> list[Reading]:
    """n calls of two turns each are exported by the command, in a process of its own."""
    name = "lkmongo_benchmark_export"
    with MongoClient[dict[str, Any]](bench.uri) as client:
        client.drop_database(name)
        try:
            await asyncio.to_thread(_fill, client[name], n)
            seconds, peak = await asyncio.to_thread(_export, bench, name)
            alone, _ = await asyncio.to_thread(_export, bench, "lkmongo_benchmark_nothing")
        finally:
            client.drop_database(name)
    documents = n * (1 + _TURNS)
    rate = documents / max(0.001, seconds - alone)
    return [
        Reading("the command", [seconds * 1000], note="its start included"),
        Reading("the command", [rate], "documents per second", note="without its start"),
        Reading("peak memory", [peak], "MB"),
    ]


async def at_once(bench: Bench, n: int) -> list[Reading]:
    """One process holds n calls, a turn of each every ten seconds."""
    turns, pause = (2, 1.0) if bench.quick else (3, 10.0)
    target = bench.folder / f"sessions-{n}.json"
    given = {"--sessions": n, "--turns": turns, "--pause": pause, "--json": target}  # on a mongod that nobody else uses
    command = [sys.executable, "-m", "benchmarks.sessions", *(str(each) for pair in given.items() for each in pair)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    lost = await process.wait()
    seen = json.loads(target.read_text(encoding="utf-8"))
    return [
        Reading("a turn", [seen["turn_p50_ms"]], note="from what is said to the whole answer"),
        Reading("a turn, p95", [seen["turn_p95_ms"]]),
        Reading("sockets to MongoDB", [seen["sockets_to_mongodb"]], "sockets"),
        Reading("memory of the process", [seen["memory_mb_after"]], "MB"),
        Reading("what was lost", [float(lost)], "exit code", note="1 when a turn or a memory is missing"),
    ]


def _question() -> str:
    return f"where is the parcel of document {next(_numbers)}"


def _fill(database: Any, n: int) -> None:
    fill(database, n, _TURNS)
    # What the export reads by; as `lkmongo db indexes` makes it.
    database.turns.create_index([("tenant_id", 1), ("user_id", 1), ("session_id", 1), ("seq", 1)], unique=True)


def _export(bench: Bench, database: str) -> tuple[float, float]:
    """Seconds and peak megabytes of the command over everything in the database."""
    env = {
        "PATH": "/usr/bin:/bin",
        "MONGODB_URI": bench.uri,
        "MONGODB_DB": database,
        "LKMONGO_HOME": str(bench.settings.data_home),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    target = bench.folder / "export.jsonl"
    target.unlink(missing_ok=True)
    began = time.perf_counter()
    command = [sys.executable, "-c", _MEASURED, "sessions", "export", "-O", str(target)]
    out = subprocess.DEVNULL
    done = subprocess.run(command, env=env, check=True, stdout=out, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    target.unlink(missing_ok=True)
    found = re.search(r"peak memory (\d+) MB", done.stderr)
    return seconds, float(found[1]) if found else float("nan")


def _memory() -> float:
    """Megabytes that this process has, after what is free was given back."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
