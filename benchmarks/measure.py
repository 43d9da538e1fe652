"""Timing that can be trusted on a machine that does other things, too: ways take turns, and the spread is told.

Whatever slows the machine down for a while meets all ways of doing the same work. Each figure is a median with its 95th
percentile and the distance between its quartiles; a ratio is the median of those of slices, with the slices' quartiles.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pymongo

Way = Callable[[], Awaitable[float | None]]
"""One run of some work. What it returns is its time in milliseconds; None: the time until it returned counts."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure.

    Attributes:
        group: "side by side", "rival" or "growth".
        work: what was done.
        way: who did it: "lkmongo", "guide", "limit", "recall-livekit".
        rtt_ms: round trip to MongoDB; None where none is involved.
        n: how much there was of what grows; None where nothing does.
        unit: "ms", "round trips", "bytes", "characters", "per second", "MB", "%" and the like.
        median, p95, spread: of the samples; the spread is the distance between the quartiles.
        samples: how many there were.
        note: what a reader has to know.
    """

    group: str
    work: str
    way: str
    rtt_ms: float | None
    n: int | None
    unit: str
    median: float
    p95: float
    spread: float
    samples: int
    note: str = ""


def result(
    group: str,
    work: str,
    way: str,
    values: Sequence[float],
    *,
    unit: str = "ms",
    rtt_ms: float | None = None,
    n: int | None = None,
    note: str = "",
) -> Result:
    """The figure that these samples make, to three decimals."""
    low, high = quartiles(values)
    median, p95, spread = (round(each, 3) for each in (statistics.median(values), percentile(values, 95), high - low))
    return Result(group, work, way, rtt_ms, n, unit, median, p95, spread, len(values), note)


async def take_turns(ways: Mapping[str, Way], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Run each way `rounds` times, one after the other, each round beginning with another one.

    Args:
        ways: by their names.
        rounds: how often.
        warm_up: rounds before, which do not count.

    Returns:
        Milliseconds of each run, in their order, by name.
    """
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # what is there already is not looked at again, which would take a tenth of a second each time
    try:
        for number in range(-warm_up, rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                gc.collect()  # what one way leaves behind is not the next one's to clear away
                began = time.perf_counter()
                own = await ways[name]()
                took = (time.perf_counter() - began) * 1000 if own is None else own
                if number >= 0:
                    times[name].append(took)
    finally:
        gc.unfreeze()
    return times


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` percent of `values` do not exceed, between two of them by weight."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The 25th and the 75th percentile."""
    return percentile(values, 25), percentile(values, 75)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times one is the other: the median over slices of the run, and the quartiles of the slices."""

    median: float
    low: float
    high: float


def ratio(one: Sequence[float], other: Sequence[float], *, slices: int = 8) -> Ratio:
    """Compare two ways that took turns: medians within each slice of the run, so that a slow minute meets both.

    Args:
        one: its samples, in their order.
        other: as many.
        slices: how many at most; each has at least one sample of each.

    Raises:
        ValueError: they are not as many, or none.
    """
    if len(one) != len(other) or not one:
        raise ValueError(f"{len(one)} samples cannot be compared with {len(other)}, slice by slice")
    slices = min(slices, len(one))
    bounds = [len(one) * number // slices for number in range(slices + 1)]
    parts = [slice(start, end) for start, end in itertools.pairwise(bounds)]
    values = [statistics.median(one[part]) / statistics.median(other[part]) for part in parts]
    return Ratio(statistics.median(values), *quartiles(values))


def machine(mongodb: str = "") -> dict[str, Any]:
    """What the figures were measured on; `mongodb` is the server's version."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "pymongo": pymongo.version,
        "mongodb": mongodb,
        "measured_on": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def write_json(path: Path, results: Iterable[Result], facts: Mapping[str, Any]) -> None:
    """Write `facts` of the machine, and the results."""
    data = {"machine": dict(facts), "results": [asdict(each) for each in results]}
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def figure(value: float) -> str:
    """A figure with three digits that say something: 0.0123, 1.23, 12.3, 1,234."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if abs(value) >= 1 else f"{value:.3g}"


def table(results: Iterable[Result]) -> str:
    """The results as lines of a Markdown table."""
    rows = [
        "| work | way | rtt ms | n | median | p95 | spread | samples | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        rtt = "" if each.rtt_ms is None else f"{each.rtt_ms:g}"
        n = "" if each.n is None else f"{each.n:,}"
        figures = " | ".join(f"{value:,.6g}" for value in (each.median, each.p95, each.spread))
        rows.append(
            f"| {each.work} | {each.way} | {rtt} | {n} | {figures} | {each.samples} | {each.unit}; {each.note} |"
        )
    return "\n".join(rows)


def tell(text: str) -> None:
    """Say on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)
