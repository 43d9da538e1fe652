"""How long a caller waits inside `search_knowledge`, with and without the searches that begin while they speak.

    python -m benchmarks.speculation [--questions N] [--json FILE]

One call by voice, in real time, once with speculation and once without: MongoDB is 20 ms away and a vector takes
120 ms. Each question comes at three words a second; the turn ends, and its final transcript comes, half a second after
the last word; the model calls the tool 0.35 s after that. A third of its queries paraphrase what was said. It takes
some seven minutes, and exits with 1 when the median wait is 10 ms or more, or a question costs more than 1.3 vectors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.speculation import Speculation
from lkmongo.embed.choose import CachedEmbedder
from lkmongo.embed.local import LocalEmbedder
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import Passage, SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.outbox import Outbox
from lkmongo.search.strategy import ExactStrategy, SearchResult
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from lkmongo.store.seed.seeding import seed
from lkmongo.store.seed.seeds import default_seed_folder, load_seeds
from tests.fake_llm import ScriptedLLM, calls
from tests.fault_proxy import delayed
from tests.voice import voice_call

ROUND_TRIP = 0.020
EMBEDDING = 0.120
A_WORD = 1 / 3
TURN_END = 0.5
FIRST_TOKEN = 0.35
MAX_MEDIAN_MS = 10.0
MAX_VECTORS = 1.3
CALLER = UserScope(tenant_id="default", user_id="u-100")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A question, and what the model makes of it; `kind` is same, shortened or paraphrased."""

    said: str
    query: str
    kind: str


@dataclass(frozen=True, slots=True)
class Waited:
    """How one question went."""

    kind: str
    milliseconds: float
    vectors: int
    hit: bool


def questions() -> list[Spoken]:
    """All of them, the kinds mixed evenly."""
    data = yaml.safe_load((Path(__file__).parent / "retrieval_data" / "spoken.yaml").read_text(encoding="utf-8"))
    kinds = [[Spoken(said, said, "same") for said in data["same"]]]
    kinds += [
        [Spoken(said, query, kind) for said, query in data[kind].items()] for kind in ("shortened", "paraphrased")
    ]
    return [kind[place] for place in range(max(map(len, kinds))) for kind in kinds if place < len(kind)]


class FarEmbedder(LocalEmbedder):
    """The local model, as far away as a service; counts the questions that reach it."""

    far = False
    asked = 0

    async def embed(self, texts: Sequence[str], *, kind: Any, deadline: float | None = None) -> Any:
        if self.far and kind == "query":
            self.asked += 1
            await asyncio.sleep(EMBEDDING)
        return await super().embed(texts, kind=kind, deadline=deadline)


class TimedCall(CallerSession):
    """A call that keeps how long each search of its knowledge took."""

    waits: list[float]

    async def search_knowledge(self, query: str) -> SearchResult[Passage]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            return await super().search_knowledge(query)
        finally:
            self.waits.append(loop.time() - begun)


async def hold(uri: str, spoken: Sequence[Spoken], *, speculation: bool) -> list[Waited]:
    """Hold one call in which everything is asked."""
    inner = FarEmbedder()
    embedder = CachedEmbedder(inner)
    await embedder.warm()
    results: list[Waited] = []
    async with create_client(uri) as client:
        store = Store.of(client["benchmark"])
        search = ExactStrategy(store.db, embedder)
        await search.knowledge(CALLER.tenant, "warm up")  # the first search of a process loads the passages
        record = SessionRecord(f"benchmark-{speculation}", CALLER, "benchmark", SessionStatus.ACTIVE, now())
        outbox = Outbox(store, record)
        recorder, caller = Recorder(outbox), Caller(store, embedder, outbox)
        early = Speculation(search, lambda: CALLER.tenant) if speculation else None
        call = TimedCall("benchmark", "benchmark", caller, store, search, recorder, early)
        call.waits = []
        await caller.preload()
        model = ScriptedLLM(calls())
        async with voice_call(call, model, endpointing={"min_delay": 0.0, "max_delay": 0.5}) as voice:
            await voice.answered(1)
            inner.far, model.delay = True, FIRST_TOKEN
            for number, each in enumerate(spoken, 2):
                asked, hits = inner.asked, early.counts.hits if early else 0
                model.script = calls(("search_knowledge", {"query": each.query}))
                await voice.hear(each.said, a_word=A_WORD, end=TURN_END)
                await voice.answered(number)
                hit = bool(early and early.counts.hits > hits)
                results.append(Waited(each.kind, call.waits[-1] * 1000, inner.asked - asked, hit))
                print(f"\r{number - 1} of {len(spoken)}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        await caller.flush(2)
        await recorder.close("hang-up", dict)
        await embedder.close()
    return results


def summary(results: Sequence[Waited]) -> dict[str, float]:
    """Median, 90th percentile and worst wait in milliseconds, share of hits, and vectors a question."""
    waits = sorted(each.milliseconds for each in results)
    return {
        "questions": len(results),
        "median_ms": round(statistics.median(waits), 1),
        "p90_ms": round(waits[int(0.9 * (len(waits) - 1))], 1),
        "worst_ms": round(waits[-1], 1),
        "hit_rate": round(sum(each.hit for each in results) / len(results), 3),
        "vectors_a_question": round(sum(each.vectors for each in results) / len(results), 3),
    }


async def measure(count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Both calls, summed up over all questions and by kind."""
    spoken = questions()[:count]
    with tempfile.TemporaryDirectory() as folder, EmbeddedMongod(Path(folder)) as mongod:
        async with create_client(mongod.uri) as client:
            store = Store.of(client["benchmark"])
            await database_indexes.apply(store.db)
            await seed(store.db, load_seeds(default_seed_folder()), CachedEmbedder(LocalEmbedder()))
        path = unquote(mongod.uri.removeprefix("mongodb://").partition("/")[0])
        figures: dict[str, dict[str, dict[str, float]]] = {}
        async with delayed(path, ROUND_TRIP) as port:
            for name, on in (("on", True), ("off", False)):
                uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
                results = await hold(uri, spoken, speculation=on)
                kinds = {
                    kind: [each for each in results if each.kind == kind]
                    for kind in ("same", "shortened", "paraphrased")
                }
                figures[name] = {"all": summary(results)} | {k: summary(each) for k, each in kinds.items() if each}
                figures[name]["all"]["raw"] = [asdict(each) for each in results]  # type: ignore[assignment]
    return figures


def main() -> int:
    """Measure, print a table, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write the figures to this file, each question with them")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.questions))
    print("| speculation | queries | questions | median ms | p90 ms | worst ms | hits | vectors a question |")
    print("|---|---|---|---|---|---|---|---|")
    for name, kinds in figures.items():
        for kind, row in kinds.items():
            cells = [
                row[key] for key in ("questions", "median_ms", "p90_ms", "worst_ms", "hit_rate", "vectors_a_question")
            ]
            print(f"| {name} | {kind} | " + " | ".join(str(cell) for cell in cells) + " |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    on = figures["on"]["all"]
    return int(on["median_ms"] >= MAX_MEDIAN_MS or on["vectors_a_question"] > MAX_VECTORS)


if __name__ == "__main__":
    sys.exit(main())
