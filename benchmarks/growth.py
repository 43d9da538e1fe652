"""What each piece of work costs as there is more: a curve each, and its exponent.

    python -m benchmarks.growth [--only CURVE] [--quick | --full] [--json FILE]

The exponent is the slope of the log of the figure over log n, for the upper half of the sizes: 0 for no growth, 1 for
linear growth. It means nothing if the largest figure is under a millisecond, where everything is noise. The standard
run takes about ten minutes on two cores, `--quick` one; `--full` also exports a million sessions, and takes an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from benchmarks import growth_bulk, growth_caller
from benchmarks.growth_bench import Bench, Curve
from benchmarks.measure import Result, machine, result, tell, write_json
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import run_on_client_loop
from lkmongo.worker.prewarm import Prewarm

DATABASE = "lkmongo_benchmark_growth"
TENS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)

CURVES = (
    Curve("slots", growth_caller.slots, TENS[1:4], TENS[1:5], TENS[1:5]),
    Curve("passages", growth_bulk.passages, TENS[2:4], TENS[2:6], TENS[2:6]),
    Curve("turns", growth_caller.turns, TENS[1:4], TENS[1:5], TENS[1:5]),
    Curve("people", growth_caller.people, TENS[0:4], TENS[0:6], TENS[0:6]),
    Curve("sessions exported", growth_bulk.exported, TENS[3:4], TENS[3:6], TENS[3:7]),
    Curve("calls at once", growth_bulk.at_once, (1, 10), (1, 10, 50, 200, 500), (1, 10, 50, 200, 500)),
)


async def run(*, only: str | None = None, quick: bool = False, full: bool = False) -> list[Result]:
    """Measure every curve, or the one named."""
    results: list[Result] = []
    async with bench(quick=quick) as ready:
        for curve in CURVES:
            if only not in {None, curve.name}:
                continue
            for n in curve.quick if quick else curve.full if full else curve.standard:
                began = time.monotonic()
                readings = await curve.measure(ready, n)
                tell(f"  {curve.name}: {n:,} ({time.monotonic() - began:.0f} s)")
                results += [
                    result(
                        "growth",
                        f"{curve.name}: {each.work}",
                        each.way,
                        each.values,
                        unit=each.unit,
                        n=n,
                        note=each.note,
                    )
                    for each in readings
                ]
    return results


@asynccontextmanager
async def bench(*, quick: bool) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        uri = stack.enter_context(EmbeddedMongod(folder / "home")).uri
        values = {"MONGODB_DB": DATABASE, "LKMONGO_HOME": str(folder / "home"), "LKMONGO_EMBEDDINGS": "local"}
        settings = Settings.load(values)
        client = stack.enter_context(MongoClient[dict[str, Any]](uri, tz_aware=True))
        ready = Prewarm(settings)
        stack.push_async_callback(ready.close)
        store = await ready.store()
        await ready.embedder.warm()
        await run_on_client_loop(lambda: database_indexes.apply(store.db))
        gc.collect()
        gc.freeze()  # of the modules nothing is ever freed: looking at them before each run would take most of the time
        yield Bench(folder, settings, uri, client[DATABASE], ready, store, quick)


def exponent(sizes: Sequence[int], figures: Sequence[float]) -> float | None:
    """The slope of log figure over log n over the upper half of the sizes; None where there are too few.

    Args:
        sizes: growing.
        figures: one for each, above zero.
    """
    half = len(sizes) // 2 + 1
    if len(sizes) < 2 or min(figures) <= 0:
        return None
    x = [math.log(size) for size in sizes[-half:]]
    y = [math.log(figure) for figure in figures[-half:]]
    mean_x, mean_y = sum(x) / half, sum(y) / half
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


def curves(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """The results of growth by work, unit and way, each by size."""
    found: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for each in results:
        if each.group == "growth" and each.n is not None:
            found[each.work, each.unit, each.way].append(each)
    return {key: sorted(points, key=lambda each: each.n or 0) for key, points in found.items()}


def table(results: Iterable[Result]) -> str:
    """One row a curve, as Markdown: the median at each size, and the exponent."""
    lines = ["| work | way | figures by size | exponent |", "|---|---|---|---|"]
    for (work, unit, way), points in curves(results).items():
        slope = exponent([each.n or 0 for each in points], [each.median for each in points])
        shown = ", ".join(f"{each.n:,}: {each.median:,.4g}" for each in points)
        lines.append(f"| {work}, {unit} | {way} | {shown} | {'' if slope is None else f'{slope:.2f}'} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write the results where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[curve.name for curve in CURVES])
    how_far = parser.add_mutually_exclusive_group()
    how_far.add_argument("--quick", action="store_true", help="small sizes, a minute")
    how_far.add_argument("--full", action="store_true", help="the largest sizes, an hour")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    results = asyncio.run(run(only=options.only, quick=options.quick, full=options.full))
    print(table(results))
    if options.json:
        write_json(options.json, results, machine())


if __name__ == "__main__":
    main()
