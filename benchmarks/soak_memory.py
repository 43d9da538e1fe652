"""What the processes of `benchmarks.soak` hold: memory, sockets, files, connections; and whether it grows."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MOST_A_HOUR = 10.0
"""Megabytes an hour by which a process may grow: a quarter of a gigabyte a day is no leak that anybody would miss."""
LONG_ENOUGH = 0.5
"""Hours that say something of an hour: before that, a process still fills its caches."""
_BIN = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the steady worker and at mongod.

    Attributes:
        at: seconds since the run began.
        main_mb: proportional memory (Pss) of the worker's main process.
        forkserver_mb: anonymous memory of the process that jobs are forked from. Its Pss says how many share its pages.
        files: open files of the main process, sockets included.
        sockets: connections of the main process.
        processes: of the steady worker, itself included.
        all_mb: Pss of all of these.
        connections: of mongod; 0 if it does not answer at the time.
    """

    at: float
    main_mb: float
    forkserver_mb: float
    files: int
    sockets: int
    processes: int
    all_mb: float
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Slope:
    """How much something grows in an hour, give or take so much at 95 %, as seen for so many hours."""

    mb_an_hour: float
    uncertainty: float
    hours: float

    @property
    def verdict(self) -> str:
        """What that says of the bound."""
        if self.hours < LONG_ENOUGH:
            return "too short to tell"
        if self.mb_an_hour - self.uncertainty > MOST_A_HOUR:
            return "grows"
        return "flat" if self.mb_an_hour + self.uncertainty <= MOST_A_HOUR else "too short to tell"


def slope(times: Sequence[float], megabytes: Sequence[float]) -> Slope:
    """The line of least squares through means of a minute each.

    Samples that follow each other within seconds err alike, so that their number says too much of what is known.

    Args:
        times: in seconds.
        megabytes: at these times.
    """
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for at, value in zip(times, megabytes, strict=True):
        bins[int(at // _BIN)].append((at / 3600, value))
    points = [tuple(map(statistics.fmean, zip(*each, strict=True))) for each in bins.values()]
    if len(points) < 3:
        return Slope(0.0, math.inf, 0.0)
    x, y = zip(*points, strict=True)
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    over = sum((each - mean_x) ** 2 for each in x)
    rise = sum((a - mean_x) * (b - mean_y) for a, b in points) / over
    left = sum((b - mean_y - rise * (a - mean_x)) ** 2 for a, b in points)
    error = math.sqrt(left / (len(points) - 2) / over)
    return Slope(rise, _student(len(points) - 2) * error, max(x) - min(x))


def _student(freedom: int) -> float:
    """The quantile of Student's t for 95 % on both sides, near enough."""
    return 1.96 + 2.5 / freedom + 8.2 / freedom**3


@dataclass(frozen=True, slots=True)
class Idle:
    """What is open while nobody calls."""

    files: int
    sockets: int
    processes: int
    connections: int

    def more_than(self, before: Idle) -> list[str]:
        """What is open that was not, a sentence each."""
        names = {"files": "open files", "sockets": "sockets", "processes": "processes", "connections": "connections"}
        return [
            f"{words} of the steady worker or mongod: {then} before the first call, {now} after the last"
            for name, words in names.items()
            if (now := getattr(self, name)) > (then := getattr(before, name))
        ]


def look(pid: int, at: float) -> Sample | None:
    """Look at a worker and its processes; None while it has not all of them, as when it begins."""
    with suppress(psutil.Error, OSError):
        main = psutil.Process(pid)
        others = main.children(recursive=True)
        forkserver = next((each for each in others if "forkserver" in " ".join(each.cmdline())), None)
        total = 0.0
        for each in (main, *others):
            with suppress(psutil.Error, OSError):
                total += memory(each.pid, "Pss")
        return Sample(
            at=at,
            main_mb=memory(pid, "Pss"),
            forkserver_mb=memory(forkserver.pid, "Anonymous") if forkserver else 0.0,
            files=main.num_fds(),
            sockets=len(main.net_connections()),
            processes=1 + len(others),
            all_mb=total,
        )
    return None


def memory(pid: int, what: str) -> float:
    """Megabytes of one kind that a process has, as the system counts them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == what:
            return int(rest.split()[0]) / 1024
    return 0.0


@dataclass
class Watched:
    """The samples of a run, and the slopes that they make after its first tenth."""

    samples: list[Sample] = field(default_factory=list)

    def slopes(self) -> dict[str, Slope]:
        """Of the main process and of the one that jobs are forked from."""
        last = self.samples[-1].at if self.samples else 0.0
        kept = [each for each in self.samples if each.at > last / 10]
        times = [each.at for each in kept]
        return {
            "main process": slope(times, [each.main_mb for each in kept]),
            "forkserver": slope(times, [each.forkserver_mb for each in kept]),
        }
