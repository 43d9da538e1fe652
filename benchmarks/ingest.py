"""How fast knowledge comes in, beside the embedder alone over the same texts.

    python -m benchmarks.ingest [--passages 10000] [--json FILE]

Once with the local model and once with one that takes 90 ms for each request of up to 128 texts, as a service does.
`db seed` and `knowledge add` are measured by what the commands call; the guide's way, one passage after the other, on a
part of them, and its rate is told.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.call_data import WORDS
from benchmarks.guide import Guide
from benchmarks.measure import Result, machine, result, table, take_turns, tell, write_json
from benchmarks.stage import EMBEDDING, FarEmbedder, staged, vectors_of
from lkmongo.embed.base import check_texts
from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import Passage, TenantScope
from lkmongo.store.indexes import database_indexes
from lkmongo.store.knowledge.ingest import Library, add_documents
from lkmongo.store.knowledge.knowledge import Document
from lkmongo.store.mongo.client import create_client
from lkmongo.store.seed.seeding import seed
from lkmongo.store.seed.seeds import SeedData

TENANT = TenantScope("default")
_A_DOCUMENT = 50
"""Passages."""
_A_REQUEST = 128
_GUIDES = {"local": 500, "far": 50}
"""Passages that the guide's way is measured on."""


class FarInBulk(FarEmbedder):
    """A service 90 ms away that takes 128 texts per request; its vectors are free and meaningless."""

    async def embed_many(
        self,
        texts: Sequence[str],
        *,
        documents: Sequence[int] | None = None,  # noqa: ARG002
        on_wait: Callable[[float], None] | None = None,  # noqa: ARG002
    ) -> AsyncIterator[Any]:
        texts = check_texts(texts)
        for start in range(0, len(texts), _A_REQUEST):
            await asyncio.sleep(self.seconds)
            yield np.full((len(texts[start : start + _A_REQUEST]), self.dimensions), self.dimensions**-0.5, np.float32)


def passages(count: int, *, seed: int = 1) -> list[Passage]:
    """As many passages of some 80 words, in documents of 50."""
    rng = random.Random(seed)
    return [
        Passage(
            f"document-{number // _A_DOCUMENT:04d}.md",
            number % _A_DOCUMENT,
            " ".join(rng.choices(WORDS, k=5)),
            " ".join(rng.choices(WORDS, k=80)),
        )
        for number in range(count)
    ]


async def run(count: int, rounds: int) -> list[Result]:
    """Measure both embedders."""
    results: list[Result] = []
    texts = passages(count)
    with staged() as stage:
        for name, embedder in (("local", LocalEmbedder()), ("far", FarInBulk(EMBEDDING))):
            await embedder.warm()
            tell(f"ingest, {name}")
            results += await _measure(stage.mongod.uri, name, embedder, texts, rounds)
    return results


async def _measure(uri: str, name: str, embedder: LocalEmbedder, texts: list[Passage], rounds: int) -> list[Result]:
    data = SeedData(passages=tuple((TENANT, each) for each in texts))
    sources = sorted({each.source for each in texts})
    library = Library([Document(source, tuple(p for p in texts if p.source == source)) for source in sources])
    guide = Guide(uri, vectors_of(FarEmbedder(EMBEDDING) if name == "far" else LocalEmbedder()))
    part = texts[: _GUIDES[name]]

    async with create_client(uri) as client:
        db = client["lkmongo_ingest"]

        async def empty() -> None:
            await client.drop_database(db.name)
            await database_indexes.apply(db)

        async def seeding() -> float:
            await empty()
            began = time.perf_counter()
            counts = await seed(db, data, embedder)
            took = time.perf_counter() - began
            assert counts.knowledge.inserted == len(texts)
            return took * 1000

        async def adding() -> float:
            await empty()
            began = time.perf_counter()
            added = await add_documents(
                db, TENANT, library, embedder, dry_run=False, on_progress=_quiet, on_wait=_quiet
            )
            took = time.perf_counter() - began
            assert not added.failure
            assert sum(row.added for row in added.rows) == len(texts)
            return took * 1000

        async def alone() -> None:
            async for _ in embedder.embed_many([each.embedded_text for each in texts]):
                pass

        async def one_at_a_time() -> float:
            began = time.perf_counter()
            await guide.seed((each.title, each.content) for each in part)
            return (time.perf_counter() - began) * 1000

        times = await take_turns(
            {"db seed": seeding, "knowledge add": adding, "limit": alone, "guide": one_at_a_time}, rounds, warm_up=0
        )
        await client.drop_database(db.name)
    await guide.db.client.drop_database(guide.db.name)
    await guide.close()
    where = "the local model" if name == "local" else "90 ms for each request of 128 texts"
    rows = (
        ("seed", "lkmongo", times["db seed"], len(texts)),
        ("knowledge add", "lkmongo", times["knowledge add"], len(texts)),
        ("seed", "limit", times["limit"], len(texts)),
        ("seed", "guide", times["guide"], len(part)),
    )
    note = {"limit": "the embedder alone", "guide": f"measured on {len(part)}"}
    return [
        result(
            "side by side",
            f"{work}, {where}",
            way,
            [took / number * len(texts) for took in values],
            n=len(texts),
            note=note.get(way, ""),
        )
        for work, way, values, number in rows
    ]


def _quiet(*_: object) -> None:
    """Tell nobody."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    results = asyncio.run(run(options.passages, options.rounds))
    print(table(results))
    if options.json:
        write_json(options.json, results, machine())


if __name__ == "__main__":
    main()
