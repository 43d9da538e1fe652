"""Rows of the side-by-side table that are about data: bytes, searching, coming in, going out, and speculation."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Result, result, take_turns, tell
from benchmarks.stage import Stage, Ways
from lkmongo.embed.base import FusionWeights
from lkmongo.model import UserScope, now
from lkmongo.search.exact import ExactIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUP = "side by side"
_SLOTS = 100
_PERSON = UserScope(tenant_id="default", user_id="u-bytes")
_DIMENSIONS = 1_024


async def slot_bytes(ways: Ways) -> list[Result]:
    """The size of a slot of 120 characters with a vector of 1,024 numbers, in the database and on the wire."""
    vectors = _unit_vectors(_SLOTS, _DIMENSIONS)
    network, moment = ways.stage.network, now()
    content = "c" * 120
    figures: dict[str, dict[str, float]] = {"lkmongo": {}, "guide": {}}

    store = ways.store
    network.reset()
    memories = [await store.memories.remember(_PERSON, f"label_{n:04d}", content, at=moment) for n in range(_SLOTS)]
    for memory, vector in zip(memories, vectors, strict=True):
        await store.memories.set_vector(_PERSON, memory, vector, "benchmark")
    figures["lkmongo"]["wire, to store it"] = network.counts().sent / _SLOTS
    network.reset()
    assert len(await store.memories.slots(_PERSON)) == _SLOTS
    assert len(await store.memories.vectors(_PERSON, "benchmark")) == _SLOTS
    figures["lkmongo"]["wire, to read it"] = network.counts().received / _SLOTS

    guide = ways.guide
    numbers = iter([[float(value) for value in vector] for vector in vectors])

    async def embed(_: str) -> list[float]:
        return next(numbers)

    before, guide._embed = guide._embed, embed  # noqa: SLF001 - no text makes these vectors
    network.reset()
    for number in range(_SLOTS):
        await guide.remember(_PERSON.user_id, f"label_{number:04d}", content)
    guide._embed = before  # noqa: SLF001
    figures["guide"]["wire, to store it"] = network.counts().sent / _SLOTS
    network.reset()
    for number in range(_SLOTS):
        await guide.recall(_PERSON.user_id, f"label_{number:04d}")
    figures["guide"]["wire, to read it"] = network.counts().received / _SLOTS

    for way, name in (("lkmongo", ways.settings.mongodb_db), ("guide", guide.db.name)):
        memories_of = guide.db.client[name].memories
        sizes = {"$group": {"_id": None, "size": {"$avg": {"$bsonSize": "$$ROOT"}}}}
        cursor = await memories_of.aggregate([{"$match": {"user_id": _PERSON.user_id}}, sizes])
        figures[way]["in the database"] = (await cursor.to_list())[0]["size"]
        await memories_of.delete_many({"user_id": _PERSON.user_id})
    return [
        result(GROUP, f"a slot with {_DIMENSIONS:,} dimensions: {what}", way, [value], unit="bytes")
        for way, each in figures.items()
        for what, value in each.items()
    ]


async def exact_search(_: Stage, *, quick: bool) -> list[Result]:
    """The exact scan over 10,000 vectors of 512 numbers, beside the product and the partition alone."""
    count, dimensions, depth = 10_000, 512, 30
    matrix = _unit_vectors(count, dimensions)
    queries = iter(_unit_vectors(3_000, dimensions, seed=2))
    rng = np.random.default_rng(3)
    words = np.array("order parcel return blanket lamp opening hours Saturday delivery address gift card".split())
    texts = [" ".join(rng.choice(words, 40)) for _ in range(count)]
    index: ExactIndex[int] = ExactIndex(range(count), texts, matrix)

    async def bare() -> None:
        for _ in range(_AT_ONCE):
            cosines = matrix @ next(queries)
            best = np.argpartition(cosines, -depth)[-depth:]
            best[np.argsort(-cosines[best])]

    async def ours() -> None:
        for _ in range(_AT_ONCE):
            index.nearest(next(queries), depth)

    async def whole() -> None:
        for _ in range(_AT_ONCE):
            index.search("opening hours on Saturday", next(queries), 5, FusionWeights(0.7, 0.3), 0.0)

    ways = {"lkmongo": ours, "limit": bare, "lkmongo, with words and fusion": whole}
    times = await take_turns(ways, 20 if quick else 60, warm_up=3)
    return [
        result(
            GROUP,
            f"exact search, {count:,} x {dimensions}",
            way,
            [took / _AT_ONCE for took in values],
            note="NumPy's product and partition" if way == "limit" else "",
        )
        for way, values in times.items()
    ]


_AT_ONCE = 10


def _unit_vectors(count: int, dimensions: int, *, seed: int = 1) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


async def ingest(_: Stage, *, quick: bool) -> list[Result]:
    """How fast passages come in: see `benchmarks.ingest`."""
    return await _of_program("ingest", "--passages", "1000" if quick else "10000", "--rounds", "1" if quick else "2")


async def export(_: Stage, *, quick: bool) -> list[Result]:
    """How fast calls go out: see `benchmarks.export`."""
    return await _of_program("export", "--sessions", "500" if quick else "5000", "--slices", "5" if quick else "10")


async def speculation(_: Stage, *, quick: bool) -> list[Result]:  # noqa: ARG001
    """What a caller waits for inside a search that began while they spoke: see `benchmarks.speculation`."""
    figures = await _json_of("speculation", "--questions", "50")
    note = "20 ms to MongoDB, 120 ms for a vector; by a voice, three words a second"
    results = []
    for name, way in (("on", "lkmongo"), ("off", "lkmongo, without speculation")):
        asked = figures[name]["all"]["raw"]
        waits = [each["milliseconds"] for each in asked]
        vectors = [each["vectors"] for each in asked]
        results.append(result(GROUP, "search knowledge, by voice", way, waits, rtt_ms=20, note=note))
        shares = (("hits", "%", [100.0 * each["hit"] for each in asked]), ("vectors a question", "vectors", vectors))
        for what, unit, values in shares:
            mean = [sum(values) / len(values)]
            results.append(result(GROUP, f"search knowledge, by voice: {what}", way, mean, unit=unit, rtt_ms=20))
    return results


async def _of_program(name: str, *arguments: str) -> list[Result]:
    return [Result(**each) for each in (await _json_of(name, *arguments))["results"]]


async def _json_of(name: str, *arguments: str) -> dict[str, Any]:
    """Run one of the other benchmarks, whose connections then are its own, and read what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"benchmarks.{name}",
            *arguments,
            "--json",
            str(target),
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        printed, _ = await process.communicate()
        if not target.exists():
            tell(printed.decode())
            raise RuntimeError(f"benchmarks.{name} ended with {process.returncode}")
        return dict(json.loads(target.read_text(encoding="utf-8")))
