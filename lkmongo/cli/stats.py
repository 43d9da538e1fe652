"""Statistics of sessions: tables with bars for a terminal, fields for programs, an HTML page with charts.

The page loads nothing and runs no script. Each chart has its numbers in a table below, a description for screen
readers, and shapes besides colours. All text is escaped here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from typing import Any

from lkmongo.cli.output import counted, visible
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.store.sessions.stats import Latency, Period, Stats
from lkmongo.store.sessions.transcript import DURATIONS

_WIDTH, _HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 12, 26
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_NAMES, _ROW = 190, 28
_LABELS = 6
_SHAPES = 120
"""Up to this many points, each has a shape."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart; None is a gap. `style` is "one" or "two": colour, dash and shape."""

    name: str
    style: str
    values: Sequence[float | None]


def text(value: object) -> str:
    """Text for a page: markup escaped, invisible characters written out."""
    return escape(visible(str(value), one_line=True))


def columns(days: Sequence[str], values: Sequence[float], title: str, *, style: str = "one") -> str:
    """A column for each day."""
    most = max(2.0, _round_up(max(values, default=0)))  # so that the middle of the scale is a whole number
    step = _INNER_WIDTH / max(1, len(days))
    gap = min(4.0, step * 0.2)
    shapes = (
        f'<rect class="{style}" x="{_LEFT + number * step + gap / 2:.1f}" y="{_y(value, most):.1f}" '
        f'width="{step - gap:.1f}" height="{value / most * _INNER_HEIGHT:.1f}">'
        f"<title>{text(day)}: {value:,.0f}</title></rect>"
        for number, (day, value) in enumerate(zip(days, values, strict=True))
        if value
    )
    about = f"{title}, from {days[0]} to {days[-1]}; at most {max(values):,.0f}."
    return _svg(title, about, _HEIGHT, (*_grid(days, most, lambda value: f"{value:,.4g}"), *shapes))


def lines(days: Sequence[str], series: Sequence[Series], title: str, *, unit: str = "s") -> str:
    """A line for each series, with a gap where there is nothing."""
    known = [value for one in series for value in one.values if value is not None]
    most = _round_up(max(known, default=0))
    about = f"{title}, from {days[0]} to {days[-1]}; " + "; ".join(
        f"{one.name} is at most {max((v for v in one.values if v is not None), default=0):.2f} {unit}" for one in series
    )
    shapes = (shape for one in series for shape in _line(days, one, most, unit))
    return _svg(title, f"{about}.", _HEIGHT, (*_grid(days, most, lambda value: f"{value:.4g} {unit}"), *shapes))


def _line(days: Sequence[str], series: Series, most: float, unit: str) -> Iterator[str]:
    step = _INNER_WIDTH / max(1, len(days))
    path, pen = [], "M"
    for number, (day, value) in enumerate(zip(days, series.values, strict=True)):
        if value is None:
            pen = "M"
            continue
        x, y = _LEFT + (number + 0.5) * step, _y(value, most)
        path.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
        label = f"<title>{text(day)}: {series.name} {value:.2f} {unit}</title>"
        if len(days) > _SHAPES:
            continue
        if series.style == "one":
            yield f'<circle class="one" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{label}</circle>'
        else:
            yield f'<rect class="two" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">{label}</rect>'
    yield f'<path class="line-{series.style}" d="{" ".join(path)}"/>'


def bars(values: Sequence[tuple[str, int]], title: str) -> str:
    """A horizontal bar for each name."""
    most = max((value for _, value in values), default=0) or 1
    room = _WIDTH - _NAMES - 90
    shapes = (
        f'<text class="name" x="{_NAMES - 8}" y="{number * _ROW + 19}" text-anchor="end">{text(_short(name))}</text>'
        f'<rect class="one" x="{_NAMES}" y="{number * _ROW + 5}" '
        f'width="{max(1.0, value / most * room):.1f}" height="18">'
        f"<title>{text(name)}: {value:,}</title></rect>"
        f'<text x="{_NAMES + value / most * room + 6:.1f}" y="{number * _ROW + 19}">{value:,}</text>'
        for number, (name, value) in enumerate(values)
    )
    about = f"{title}: " + ", ".join(f"{name} {value:,}" for name, value in values) + "."
    return _svg(title, about, _ROW * len(values) + 6, shapes)


def _grid(days: Sequence[str], most: float, scale: Callable[[float], str]) -> Iterator[str]:
    for value in (0.0, most / 2, most):
        y = _y(value, most)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{scale(value)}</text>'
    step = _INNER_WIDTH / max(1, len(days))
    every = max(1, -(-len(days) // _LABELS))
    for number in range(0, len(days), every):
        x = _LEFT + (number + 0.5) * step
        yield f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{text(days[number][-5:])}</text>'


def _svg(title: str, about: str, height: int, shapes: Sequence[str] | Iterator[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{text(about)}">'
        f"<title>{text(title)}</title>{''.join(shapes)}</svg>"
    )


def _y(value: float, most: float) -> float:
    return _TOP + _INNER_HEIGHT * (1 - value / most)


def _round_up(value: float) -> float:
    """The next of 1, 2, 3, 4, 6, 8, 10, 20 and so on: the top of a scale whose middle is a round number, too."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(step * power for step in (1, 2, 3, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"


Rows = tuple[str, list[str], list[dict[str, Any]]]

_BAR = 12
_SHORT_BAR = 5
"""Beside both kinds of waits: the table then fits 80 columns."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"

FAILURES = {
    "calls_without_agent": "callers to whom no agent came",
    "interrupted_calls": "interrupted sessions",
    "calls_ended_by_error": "sessions ended by an error",
    "tool_errors": "tool errors",
    "llm_errors": "language model errors",
    "stt_errors": "speech recognition errors",
    "tts_errors": "voice errors",
    "realtime_errors": "realtime model errors",
    "interruption_errors": "interruption detection errors",
}


def as_fields(stats: Stats, wanted: SessionFilter) -> dict[str, Any]:
    """Everything as one object; times are in seconds."""
    return {
        "tenant_id": wanted.tenant_id,
        "user_id": wanted.user_id,
        "since": wanted.since,
        "until": wanted.until,
        **_period_fields(stats.total),
        "latencies": {name: asdict(latency) for name, latency in stats.latencies.items()},
        "tools": [asdict(tool) for tool in stats.tools],
        "days": [{"day": day.isoformat(), **_period_fields(period)} for day, period in stats.days.items()],
    }


def _period_fields(period: Period) -> dict[str, Any]:
    """The fields by their names in JSON, where sessions are called calls."""
    fields = asdict(period)
    return {"calls": fields.pop("sessions"), **fields}


def plain_rows(stats: Stats) -> tuple[list[str], list[dict[str, Any]]]:
    """A row per day and one for the total, for programs; times are in seconds."""
    rows = [_plain(str(day), period) for day, period in stats.days.items()] + [_plain("total", stats.total)]
    return list(rows[-1]), rows


def _plain(day: str, period: Period) -> dict[str, Any]:
    return {
        "day": day,
        "calls": period.sessions,
        "minutes": period.minutes,
        "turns": period.turns,
        "tool_calls": period.tool_calls,
        "answer_p50": period.answers.p50,
        "answer_p95": period.answers.p95,
        **period.failures,
        **{
            f"{kind}_{share}": getattr(getattr(period, kind), share)
            for kind in ("typed", "spoken")
            for share in ("p50", "p95")
        },
    }


def tables(stats: Stats, wanted: SessionFilter) -> Iterator[Rows]:
    """The tables for a terminal: title, columns, rows."""
    yield f"{scope_text(wanted)}\n{summary(stats)}\n", *_days(stats)
    if stats.latencies:
        yield (
            "\nWaits",
            ["wait", "count", "p50", "p95"],
            [{"wait": DURATIONS[name], **_latency(latency)} for name, latency in stats.latencies.items()],
        )
    if stats.tools:
        most = max(tool.calls for tool in stats.tools)
        yield (
            "\nTools",
            ["tool", "calls", "", "failed", "p50", "p95"],
            [
                {"tool": tool.name, **_latency(tool.latency), "calls": f"{tool.calls:,}", "failed": tool.errors}
                | {"": bar(tool.calls, most)}
                for tool in stats.tools
            ],
        )
    failures = [{"failure": FAILURES[kind], "count": n} for kind, n in stats.total.failures.items() if n]
    yield "\nFailures" if failures else "\nFailures: none", ["failure", "count"] if failures else [], failures


def scope_text(wanted: SessionFilter) -> str:
    """Whose sessions, and from when."""
    whose = f"tenant {wanted.tenant_id}" if wanted.tenant_id is not None else "every tenant"
    person = f"{wanted.user_id} in " if wanted.user_id is not None else ""
    ends = ((word, moment) for word, moment in (("since", wanted.since), ("until", wanted.until)) if moment)
    when = "".join(f", {word} {moment:%Y-%m-%d %H:%M}" for word, moment in ends)
    return f"Sessions of {person}{whose}{when} (UTC)"


def summary(stats: Stats) -> str:
    """The totals in a sentence."""
    total = stats.total
    parts = [counted(total.sessions, "session"), counted(round(total.minutes), "minute"), counted(total.turns, "turn")]
    parts.append(counted(total.tool_calls, "tool call"))
    parts += [
        f"answers to {ANSWERS[kind]} after {seconds(waits.p50)} (p50) and {seconds(waits.p95)} (p95)"
        for kind, waits in _answers_of(total).items()
    ]
    return ", ".join(parts)


ANSWERS = {"typed": "typing", "spoken": "speech"}
"""What is answered, by the attribute of a `Period` that says how long callers waited for it."""


def _answers_of(period: Period) -> dict[str, Latency]:
    """The waits of those kinds that there are."""
    return {kind: waits for kind in ANSWERS if (waits := getattr(period, kind)).count}


def _days(stats: Stats) -> tuple[list[str], list[dict[str, Any]]]:
    most = max((period.sessions for period in stats.days.values()), default=0)
    kinds = list(_answers_of(stats.total))
    waits = [(f"{kind} {share}", kind, share) for kind in kinds for share in ("p50", "p95")]
    columns = ["day", "sessions", "", "minutes", "turns", *(name for name, _, _ in waits), "tools", "failed"]
    width = _BAR if len(kinds) < len(ANSWERS) else _SHORT_BAR
    return columns, [
        {
            "day": day.isoformat(),
            "sessions": f"{period.sessions:,}",
            "": bar(period.sessions, most, width),
            "minutes": f"{period.minutes:,.0f}",
            "turns": f"{period.turns:,}",
            **{name: seconds(getattr(getattr(period, kind), share)) for name, kind, share in waits},
            "tools": f"{period.tool_calls:,}",
            "failed": sum(period.failures.values()),
        }
        for day, period in stats.days.items()
    ]


def _latency(latency: Latency) -> dict[str, Any]:
    return {"count": f"{latency.count:,}", "p50": seconds(latency.p50), "p95": seconds(latency.p95)}


def seconds(value: float | None) -> str:
    """A wait in seconds, or milliseconds if it is short; empty for None."""
    return "" if value is None else f"{value:.2f} s" if value >= 0.1 else f"{value * 1_000:.0f} ms"


def bar(value: float, most: float, width: int = _BAR) -> str:
    """A bar of `value` in `most`, of block characters, or of # if the terminal has none."""
    eighths = round(width * 8 * value / most) if most else 0
    if value and not eighths:
        eighths = 1  # even the smallest value is visible
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return "#" * max(bool(eighths), eighths // 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


_PERCENTILES = "p50 and p95: half of the waits, and 95 percent of them, were no longer."
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --ground: #ffffff; --line: #d0d7de;
  --one: #0b5fc0; --two: #a04100; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --ground: #14181d; --line: #3a424c;
  --one: #74b3ff; --two: #ffb26b; } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0; } .soft, figcaption { color: var(--soft); font-size: .875rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0; }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem; }
dt { color: var(--soft); font-size: .875rem; } dd { margin: 0; font-size: 1.35rem; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg text.name { fill: var(--ink); }
.grid { stroke: var(--line); } .one { fill: var(--one); } .two { fill: var(--two); }
.line-one, .line-two { fill: none; stroke: var(--one); stroke-width: 2; }
.line-two { stroke: var(--two); stroke-dasharray: 6 4; }
details { margin-top: .5rem; } summary { cursor: pointer; padding: .25rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; } table, dd { font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem .25rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; }
:focus-visible { outline: 2px solid var(--one); outline-offset: 2px; }
"""


def page(stats: Stats, wanted: SessionFilter, made_at: datetime) -> str:
    """The page; `made_at` is in UTC."""
    title = scope_text(wanted)
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p class="soft">Made {made_at:%Y-%m-%d %H:%M} UTC; days are in UTC. {_PERCENTILES}</p>',
        _totals(stats),
        *(_sections(stats) if stats.days else ["<p>There were no sessions in this time.</p>"]),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _totals(stats: Stats) -> str:
    total = stats.total
    shown = {
        "Sessions": f"{total.sessions:,}",
        "Minutes": f"{total.minutes:,.0f}",
        "Turns": f"{total.turns:,}",
        "Tool calls": f"{total.tool_calls:,}",
        **{
            f"Answer to {ANSWERS[kind]}, {share}": seconds(getattr(waits, share))
            for kind, waits in _answers_of(total).items()
            for share in ("p50", "p95")
        },
        "Failures": f"{sum(total.failures.values()):,}",
    }
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in shown.items())}</dl>"


def _sections(stats: Stats) -> Iterable[str]:
    yield _sessions(stats)
    for kind in _answers_of(stats.total):
        yield _answers(stats, kind)
    if stats.latencies:
        rows = [[DURATIONS[n], f"{w.count:,}", seconds(w.p50), seconds(w.p95)] for n, w in stats.latencies.items()]
        yield "<h2>Where the time goes</h2>" + _table(["wait", "count", "p50", "p95"], rows)
    if stats.tools:
        yield _tools(stats)
    yield _failures(stats)


def _sessions(stats: Stats) -> str:
    rows = [
        [str(day), f"{p.sessions:,}", f"{p.minutes:,.0f}", f"{p.turns:,}", f"{p.tool_calls:,}"]
        for day, p in stats.days.items()
    ]
    return _section(
        "Sessions per day",
        columns(_day_names(stats), [float(period.sessions) for period in stats.days.values()], "Sessions per day"),
        _table(["day", "sessions", "minutes", "turns", "tool calls"], rows),
    )


def _answers(stats: Stats, kind: str) -> str:
    waits: list[Latency] = [getattr(period, kind) for period in stats.days.values()]
    rows = [
        [day, f"{wait.count:,}", seconds(wait.p50), seconds(wait.p95)]
        for day, wait in zip(_day_names(stats), waits, strict=True)
    ]
    p95, p50 = Series("p95", "two", [wait.p95 for wait in waits]), Series("p50", "one", [wait.p50 for wait in waits])
    return _section(
        f"How long callers waited for an answer to {ANSWERS[kind]}",
        lines(_day_names(stats), [p95, p50], f"Seconds until an answer to {ANSWERS[kind]}, per day"),
        _table(["day", "answers", "p50", "p95"], rows),
        "Solid line with dots: p50. Dashed line with squares: p95.",
    )


def _tools(stats: Stats) -> str:
    rows = [
        [tool.name, f"{tool.calls:,}", f"{tool.errors:,}", seconds(tool.latency.p50), seconds(tool.latency.p95)]
        for tool in stats.tools
    ]
    return _section(
        "Tools",
        bars([(tool.name, tool.calls) for tool in stats.tools[:30]], "Uses of each tool"),
        _table(["tool", "calls", "failed", "p50", "p95"], rows),
    )


def _failures(stats: Stats) -> str:
    kinds = [kind for kind, count in stats.total.failures.items() if count]
    if not kinds:
        return "<h2>Failures</h2><p>None.</p>"
    rows = [[str(day), *(f"{period.failures[kind]:,}" for kind in kinds)] for day, period in stats.days.items()]
    rows.append(["total", *(f"{stats.total.failures[kind]:,}" for kind in kinds)])
    sums = [float(sum(period.failures.values())) for period in stats.days.values()]
    return _section(
        "Failures",
        columns(_day_names(stats), sums, "Failures per day", style="two"),
        _table(["day", *(FAILURES[kind] for kind in kinds)], rows),
    )


def _day_names(stats: Stats) -> list[str]:
    return [day.isoformat() for day in stats.days]


def _section(title: str, chart: str, table: str, caption: str = "") -> str:
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return (
        f"<section><h2>{text(title)}</h2><figure>{chart}{below}</figure>"
        f"<details><summary>{text(title)}: the numbers</summary>{table}</details></section>"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{text(value)}</td>' for value in row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
