"""What is stored takes so many bytes, and its indexes so many: measured, and counted up to a hundred million people.

    python -m benchmarks.scale [--people 10000] [--json FILE]

docs/scale.md shows the tables as `make bench` has made them. What is beyond the people that were written is that size
times a factor, and the tables say so. A person here has ten slots with vectors of 512 numbers, and one call of twenty
turns.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from benchmarks.growth_data import library, write_passages, write_people
from benchmarks.measure import Result, machine, result, tell, write_json
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client

DATABASE = "lkmongo_benchmark_scale"
DIMENSIONS, MODEL = 512, "voyage-4-lite@512"
SLOTS, TURNS, PASSAGES = 10, 20, 1_000
COLLECTIONS = {"users": "profile", "memories": "slot", "sessions": "call", "turns": "turn", "knowledge": "passage"}
SIZES = (1_000, 1_000_000, 100_000_000)
QUANTISED = {"as they are": 1.0, "scalar": 3.75, "binary": 24.0}
"""How many times less memory the vectors of an index take. (Atlas documentation, vector quantization.)"""
NODE = 64
"""GiB of memory of a search node, and of a shard."""
DISK = 2_000
"""GB of a shard's disk that are filled."""


KINDS = {"size": "bytes of BSON", "storageSize": "bytes on disk", "totalIndexSize": "bytes of its indexes"}
"""What `collStats` tells, a document."""


def measure(people: int) -> list[Result]:
    """Write so many people and some knowledge, and look what they take."""
    results = []
    with _filled(people) as database:
        for name, what in COLLECTIONS.items():
            stats = database.command("collStats", name)
            for key, unit in KINDS.items():
                results.append(result("scale", what, "lkmongo", [stats[key] / stats["count"]], unit=unit, n=people))
    return results


def tables(results: Iterable[Result]) -> str:
    """What a document takes, what so many people take, and how many nodes that is, as Markdown."""
    results = list(results)
    return "\n".join(_tables({(each.work, each.unit): each.median for each in results}, results[0].n or 0))


def _tables(seen: Mapping[tuple[str, str], float], people: int) -> Iterator[str]:
    yield f"Measured with {people:,} people and {PASSAGES:,} passages, vectors of {DIMENSIONS} numbers"
    yield f"(`python -m benchmarks.scale --people {people}`):\n"
    yield f"| a document | {' | '.join(KINDS.values())} |"
    yield "|---|---|---|---|"
    for what in COLLECTIONS.values():
        yield f"| {what} | {' | '.join(f'{seen[what, unit]:,.0f}' for unit in KINDS.values())} |"
    bson, _, indexes = (
        sum(_of_a_person(name) * seen[what, unit] for name, what in COLLECTIONS.items()) for unit in KINDS.values()
    )
    yield "\nWhat the benchmark says is drawn from a few words, and is packed better on disk than speech would be:"
    yield "below, documents count as their BSON."
    yield f"A person with {SLOTS} slots and a call of {TURNS} turns has {bson / 1000:,.1f} KB of documents and"
    yield f"{indexes / 1000:,.1f} KB of indexes. More people than {people:,} are counted up from that, not measured:\n"
    yield "| people | documents | indexes | vectors of slots | as they are | scalar | binary |"
    yield "|---|---|---|---|---|---|---|"
    for n in SIZES:
        vectors = " | ".join(_human(_memory_of(n, how)) for how in QUANTISED)
        yield f"| {n:,} | {_human(n * bson)} | {_human(n * indexes)} | {n * SLOTS:,} | {vectors} |"
    yield f"\nIn nodes, where a search node has {NODE} GiB and a shard {NODE} GiB and {DISK:,} GB of disk in use:\n"
    yield "| people | shards for documents and indexes | search nodes, vectors as they are | scalar | binary |"
    yield "|---|---|---|---|---|"
    for n in SIZES:
        shards = max(1, -(-n * (bson + indexes) // (DISK * 1e9)))
        nodes = " | ".join(f"{_nodes(n, how, int(shards)):,}" for how in QUANTISED)
        yield f"| {n:,} | {shards:,.0f} | {nodes} |"


def _of_a_person(name: str) -> int:
    return {"memories": SLOTS, "turns": TURNS, "knowledge": 0}.get(name, 1)


def _memory_of(people: int, how: str) -> float:
    return people * SLOTS * DIMENSIONS * 4 / QUANTISED[how]


def _nodes(people: int, how: str, shards: int) -> int:
    """Two a shard at least, as Atlas has them; each holds the whole index of its shard, in 90 % of its memory."""
    fit = NODE * 2**30 * 0.9
    parts = max(shards, -(-int(_memory_of(people, how)) // int(fit)))
    return 2 * parts


@contextmanager
def _filled(people: int) -> Iterator[Database[Any]]:
    """A database with so many people and some knowledge, and the indexes of a real one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        uri = stack.enter_context(EmbeddedMongod(folder / "home")).uri
        client = stack.enter_context(MongoClient[dict[str, Any]](uri))
        asyncio.run(_provision(uri))
        tell(f"Writing {people:,} people")
        database = client[DATABASE]
        write_people(database, range(people), MODEL, DIMENSIONS, slots=SLOTS, turns=TURNS)
        write_passages(database, "default", library(PASSAGES), MODEL, DIMENSIONS)
        client.admin.command("fsync")  # sizes on disk are those of the last checkpoint
        yield database


async def _provision(uri: str) -> None:
    async with create_client(uri) as client:
        await database_indexes.apply(client[DATABASE])


def _human(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def main() -> None:
    """Measure, print the tables, and write the figures where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10_000, help="how many are written and measured")
    parser.add_argument("--quick", action="store_true", help="a thousand people")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    results = measure(1_000 if options.quick else options.people)
    print(tables(results))
    if options.json:
        write_json(options.json, results, machine())


if __name__ == "__main__":
    main()
