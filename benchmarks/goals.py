"""What lkmongo is to reach, and whether the figures of a run reach it: the first table of docs/performance.md.

A goal that depends on the machine or the network is a multiple of, or a distance from, a limit that was measured in the
same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.measure import Result, figure

RTT_MS = 20.0
"""The round trip at which the goals hold."""


class Figures:
    """The medians of a run, by what they are."""

    def __init__(self, results: Iterable[Result]) -> None:
        """Know them all."""
        self._medians = {(each.work, each.way, each.unit, each.rtt_ms, each.n): each.median for each in results}

    def __call__(
        self, work: str, way: str = "lkmongo", *, unit: str = "ms", rtt_ms: float | None = None, n: int | None = None
    ) -> float:
        """One median.

        Raises:
            KeyError: the run has no such figure.
        """
        return self._medians[work, way, unit, rtt_ms, n]


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: `figure` must not be above `bound`, both in `unit`."""

    work: str
    goal: str
    unit: str
    figure: Callable[[Figures], float]
    bound: Callable[[Figures], float]


def _at_once(work: str, more: float, goal: str) -> Goal:
    """As long as its limit at the same distance, which is a ping or a vector, and `more` milliseconds."""
    return Goal(
        work,
        goal,
        "ms",
        lambda figures: figures(work, rtt_ms=RTT_MS),
        lambda figures: figures(work, "limit", rtt_ms=RTT_MS) + more,
    )


def _under(work: str, bound: float, unit: str = "ms", rtt_ms: float | None = RTT_MS) -> Goal:
    return Goal(
        work,
        f"under {bound:,.10g} {unit}",
        unit,
        lambda figures: figures(work, unit=unit, rtt_ms=rtt_ms),
        lambda _: bound,
    )


def _times(work: str, other: str, bound: float, goal: str, *, unit: str = "ms", n: int | None = None) -> Goal:
    """At most `bound` times what another way takes."""
    return Goal(
        work,
        goal,
        "times",
        lambda figures: figures(work, unit=unit, n=n) / figures(work, other, unit=unit, n=n),
        lambda _: bound,
    )


_WARM, _FIRST = "session start, warm, 10 slots", "session start, first call of a process"

GOALS = (
    _at_once(_WARM, 5, "1 round trip + 5 ms"),
    Goal(
        _FIRST,
        "as a warm one, within 5 ms",
        "ms",
        lambda figures: figures(_FIRST, rtt_ms=RTT_MS),
        lambda figures: figures(_WARM, rtt_ms=RTT_MS) + 5,
    ),
    _at_once("session start, warm, 1,000 slots", 10, "1 round trip + 10 ms"),
    _under("prompt of 1,000 slots", 4_800, "characters", None),
    *(
        _times(f"local: {work}", "recall-livekit", 1, "faster than recall-livekit", n=1)
        for work in ("session start", "remember", "search")
    ),
    _at_once("remember", 5, "1 round trip, and nothing to wait for beyond it"),
    _under("recall", 2),
    _under("list, 100 slots", 2),
    _under("search memories, by a label", 2),
    _at_once("search memories, a new question", 2, "2 ms and the question's vector"),
    _under("search knowledge, by voice", 10),
    Goal(
        "search knowledge, by voice: vectors a question",
        "at most 1.3",
        "vectors",
        lambda figures: figures("search knowledge, by voice: vectors a question", unit="vectors", rtt_ms=RTT_MS),
        lambda _: 1.3,
    ),
    _at_once("hang-up until the record is complete", 5, "1 round trip"),
    _under("MongoDB refuses at the start, until the greeting", 1_100, rtt_ms=0),
    _under("MongoDB does not answer at the start, until the greeting", 1_100, rtt_ms=0),
    *(
        _under(f"a slot with 1,024 dimensions: {what}", 4_500, "bytes", None)
        for what in ("in the database", "wire, to store it", "wire, to read it")
    ),
    _times("exact search, 10,000 x 512", "limit", 1.5, "under 1.5 times NumPy's product and partition"),
    Goal(
        "export",
        "twice as fast as a cursor and json_util.dumps",
        "times its time",
        lambda figures: (
            figures("export", "guide", unit="documents per second", n=5_000)
            / figures("export", unit="documents per second", n=5_000)
        ),
        lambda _: 0.5,
    ),
    *(
        Goal(
            f"{work}, {where}",
            "within 1.2 times the embedder alone",
            "times",
            lambda figures, work=work, where=where: (  # type: ignore[misc]
                figures(f"{work}, {where}", n=10_000) / figures(f"seed, {where}", "limit", n=10_000)
            ),
            lambda _: 1.2,
        )
        for work in ("seed", "knowledge add")
        for where in ("90 ms for each request of 128 texts", "the local model")
    ),
    _times("lkmongo --help", "limit", 1.5, "under 1.5 times an empty Typer app"),
    _times("lkmongo token", "limit", 2, "under 2 times `import livekit.api`"),
    _times("lkmongo memory list", "limit", 4, "under 4 times `import pymongo`"),
    _times("lkmongo doctor", "limit", 2.5, "under 2.5 times `import livekit.agents`"),
)


def table(results: Iterable[Result]) -> str:
    """Each goal beside its figure, as Markdown; what the run did not measure is left out."""
    figures = Figures(results)
    lines = ["| work | goal | measured | at most | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        try:
            value, bound = goal.figure(figures), goal.bound(figures)
        except KeyError:
            continue
        reached = "reached" if value <= bound else "**not reached**"
        lines.append(f"| {goal.work} | {goal.goal} | {figure(value)} {goal.unit} | {figure(bound)} | {reached} |")
    return "\n".join(lines)
