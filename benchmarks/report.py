"""Results as people read them: the tables of docs/performance.md and docs/scale.md, and the chart.

`docs/generate.py` writes them into the documents; a test fails when they are not those of benchmarks/results.json.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import goals, holding, scale
from benchmarks.growth import curves, exponent
from benchmarks.measure import Result, figure

OURS = "lkmongo"
RESULTS = Path(__file__).with_name("results.json")
_WIDTH = 720
_ROW = 46
_LEFT, _RIGHT = 190, 70
_STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.v{font-size:12px}"
    ".w0{fill:#8c959f}.w1{fill:#0a7d4f}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.w0{fill:#6e7681}.w1{fill:#3fb950}}</style>"
)


def load(path: Path = RESULTS) -> tuple[dict[str, Any], list[Result]]:
    """The facts of the machine, and the results, of a file that `measure.write_json` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return data["machine"], [Result(**each) for each in data["results"]]


def performance() -> dict[str, str]:
    """The blocks of docs/performance.md, by their names."""
    machine, results = load()
    return {
        "machine": machine_line(machine),
        "goals": goals.table(results),
        "side-by-side": beside(_of("side by side", results), ("guide", OURS, "limit")),
        "rival": beside(_of("rival", results), ("recall-livekit", OURS)),
        "growing": growing(results),
        "holding": holding.table(results),
    }


def sizes() -> dict[str, str]:
    """The block of docs/scale.md."""
    machine, results = load()
    return {"sizes": f"{scale.tables(_of('scale', results))}\n\n{machine_line(machine)}"}


def _of(group: str, results: Iterable[Result]) -> list[Result]:
    return [each for each in results if each.group == group]


def machine_line(machine: dict[str, Any]) -> str:
    """What the figures were measured on, as a sentence."""
    return (
        f"Measured on {machine['measured_on']} on {machine['cores']} cores, {machine['system']}, Python "
        f"{machine['python']}, MongoDB {machine['mongodb']}, PyMongo {machine['pymongo']}."
    )


def beside(results: Iterable[Result], ways: Sequence[str]) -> str:
    """One row for each work, round trip and unit, one column for each way; the last: how many times less than ours.

    Args:
        results: of one group.
        ways: the columns, from left to right; the ratio is of the first and ours.
    """
    rows: dict[tuple[str, float | None, str, int | None], dict[str, Result]] = defaultdict(dict)
    for each in results:
        way, _, variant = each.way.partition(", ")
        work = f"{each.work}, {variant}" if variant else each.work
        rows[work, each.rtt_ms, each.unit, each.n][way] = each
    used = [way for way in ways if any(way in row for row in rows.values())]
    works = list(dict.fromkeys(work for work, _, _, _ in rows))
    units = list(dict.fromkeys(unit for _, _, unit, _ in rows))
    # Of one work, what it takes at each distance together.
    ordered = sorted(rows.items(), key=lambda each: (works.index(each[0][0]), units.index(each[0][2]), each[0][1] or 0))
    lines = [
        f"| work | round trip | {' | '.join(used)} | {used[0]} / {OURS} |",
        f"|---|---|{'---|' * len(used)}---|",
    ]
    for (work, rtt_ms, unit, n), row in ordered:
        name = work if n is None else f"{work}, {n:,}"
        rtt = "-" if rtt_ms is None else f"{rtt_ms:g} ms"
        cells = [_cell(row.get(way), unit) for way in used]
        lines.append(f"| {name} | {rtt} | {' | '.join(cells)} | {_times(row, used)} |")
    return "\n".join(lines)


def _cell(each: Result | None, unit: str) -> str:
    if each is None:
        return ""
    if each.samples == 1 or each.spread == 0 == each.p95 - each.median:
        return f"{figure(each.median)} {unit}"
    return f"**{figure(each.median)}** {unit} (p95 {figure(each.p95)}, IQR {figure(each.spread)})"


def _times(row: dict[str, Result], ways: Sequence[str]) -> str:
    ours = row.get(OURS)
    other = row.get(ways[0])
    return f"{figure(other.median / ours.median)}" if ours and other and ours.median else ""


def growing(results: Iterable[Result]) -> str:
    """A table for each work that grows: a row for each way, a column for each size, and the exponent."""
    works: dict[tuple[str, str], dict[str, list[Result]]] = defaultdict(dict)
    for (work, unit, way), points in curves(results).items():
        works[work, unit][way] = points
    parts = []
    for (work, unit), ways in works.items():
        sizes = sorted({each.n or 0 for points in ways.values() for each in points})
        lines = [f"| {work}, {unit} | {' | '.join(f'{size:,}' for size in sizes)} | exponent |"]
        lines.append(f"|---|{'---|' * len(sizes)}---|")
        for way, points in ways.items():
            cells = {each.n: figure(each.median) for each in points}
            slope = exponent([each.n or 0 for each in points], [each.median for each in points])
            shown = "" if slope is None else f"{slope:.2f}"
            lines.append(f"| {way} | {' | '.join(cells.get(size, '') for size in sizes)} | {shown} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


_SHOWN = {
    "session start": "session start, warm, 10 slots",
    "the first of a process": "session start, first call of a process",
    "remember": "remember",
    "recall": "recall",
    "search knowledge": "search knowledge, a new question",
    "hang-up": "hang-up until the record is complete",
}


def chart() -> str:
    """What a caller waits for 20 ms from MongoDB, both ways, as SVG that reads well in light and dark."""
    _, results = load()
    medians = {
        (each.work, each.way): each.median for each in results if each.rtt_ms == goals.RTT_MS and each.unit == "ms"
    }
    rows = [(label, {way: medians[work, way] for way in ("guide", OURS)}) for label, work in _SHOWN.items()]
    title = "What a caller waits for, 20 ms from MongoDB: medians in milliseconds"
    height = 56 + _ROW * len(rows)
    scale = (_WIDTH - _LEFT - _RIGHT) / max(value for _, ways in rows for value in ways.values())
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">',
        _STYLE,
        f'<text class="t" x="8" y="20">{title}</text>',
    ]
    for number, way in enumerate(rows[0][1]):
        x = _LEFT + 130 * number
        out.append(f'<rect class="w{number}" x="{x}" y="32" width="12" height="12" rx="2"/>')
        out.append(f'<text class="v" x="{x + 18}" y="42">{way}</text>')
    for place, (label, ways) in enumerate(rows):
        y = 58 + _ROW * place
        out.append(f'<text x="{_LEFT - 10}" y="{y + 20}" text-anchor="end">{label}</text>')
        for number, value in enumerate(ways.values()):
            width, top = max(1.0, value * scale), y + 16 * number
            out.append(f'<rect class="w{number}" x="{_LEFT}" y="{top}" width="{width:.1f}" height="13" rx="2"/>')
            out.append(f'<text class="v" x="{_LEFT + width + 6:.1f}" y="{top + 11}">{figure(value)}</text>')
    return "\n".join([*out, "</svg>", ""])
