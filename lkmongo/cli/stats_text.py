"""What calls sum up to, as tables with bars for a terminal, as lines and as fields for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from lkmongo.cli.text import counted
from lkmongo.store.call_stats import Latency, Period, Stats
from lkmongo.store.calls import CallFilter
from lkmongo.store.timings import DURATIONS

Rows = tuple[str, list[str], list[dict[str, Any]]]

_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉█"

FAILURES = {
    "interrupted_calls": "calls that were cut off",
    "calls_ended_by_error": "calls that an error ended",
    "tool_errors": "tools that failed",
    "llm_errors": "errors of the language model",
    "stt_errors": "errors of speech recognition",
    "tts_errors": "errors of the voice",
    "realtime_errors": "errors of the realtime model",
    "interruption_errors": "errors of interruption detection",
}


def as_fields(stats: Stats, wanted: CallFilter) -> dict[str, Any]:
    """All of it as one object; times are in seconds."""
    return {
        "tenant_id": wanted.tenant_id,
        "user_id": wanted.user_id,
        "since": wanted.since,
        "until": wanted.until,
        **asdict(stats.total),
        "latencies": {name: asdict(latency) for name, latency in stats.latencies.items()},
        "tools": [asdict(tool) for tool in stats.tools],
        "days": [{"day": day.isoformat(), **asdict(period)} for day, period in stats.days.items()],
    }


def plain_rows(stats: Stats) -> tuple[list[str], list[dict[str, Any]]]:
    """A line a day and one for all, with numbers that programs read; times are in seconds."""
    rows = [_plain(str(day), period) for day, period in stats.days.items()] + [_plain("total", stats.total)]
    return list(rows[-1]), rows


def _plain(day: str, period: Period) -> dict[str, Any]:
    return {
        "day": day,
        "calls": period.calls,
        "minutes": period.minutes,
        "turns": period.turns,
        "tool_calls": period.tool_calls,
        "answer_p50": period.answers.p50,
        "answer_p95": period.answers.p95,
        **period.failures,
    }


def tables(stats: Stats, wanted: CallFilter) -> Iterator[Rows]:
    """The tables for a terminal: title, columns, rows."""
    yield _heading(stats, wanted), *_days(stats)
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


def _heading(stats: Stats, wanted: CallFilter) -> str:
    return f"{scope_text(wanted)}\n{summary(stats)}\n"


def scope_text(wanted: CallFilter) -> str:
    """Whose calls, and of when."""
    whose = f"tenant {wanted.tenant_id}" if wanted.tenant_id is not None else "every tenant"
    person = f"{wanted.user_id} in " if wanted.user_id is not None else ""
    ends = ((word, moment) for word, moment in (("since", wanted.since), ("until", wanted.until)) if moment)
    when = "".join(f", {word} {moment:%Y-%m-%d %H:%M}" for word, moment in ends)
    return f"Calls of {person}{whose}{when} (UTC)"


def summary(stats: Stats) -> str:
    """The totals in a sentence."""
    total = stats.total
    parts = [counted(total.calls, "call"), counted(round(total.minutes), "minute"), counted(total.turns, "turn")]
    parts.append(counted(total.tool_calls, "tool call"))
    if total.answers.count:
        parts.append(f"answers after {seconds(total.answers.p50)} (p50) and {seconds(total.answers.p95)} (p95)")
    return ", ".join(parts)


def _days(stats: Stats) -> tuple[list[str], list[dict[str, Any]]]:
    most = max((period.calls for period in stats.days.values()), default=0)
    columns = ["day", "calls", "", "minutes", "turns", "p50", "p95", "tools", "failed"]
    return columns, [
        {
            "day": day.isoformat(),
            "calls": f"{period.calls:,}",
            "": bar(period.calls, most),
            "minutes": f"{period.minutes:,.0f}",
            "turns": f"{period.turns:,}",
            "p50": seconds(period.answers.p50),
            "p95": seconds(period.answers.p95),
            "tools": f"{period.tool_calls:,}",
            "failed": sum(period.failures.values()),
        }
        for day, period in stats.days.items()
    ]


def _latency(latency: Latency) -> dict[str, Any]:
    return {"count": f"{latency.count:,}", "p50": seconds(latency.p50), "p95": seconds(latency.p95)}


def seconds(value: float | None) -> str:
    """A wait in seconds; empty for none."""
    return "" if value is None else f"{value:.2f} s" if value >= 0.1 else f"{value * 1_000:.0f} ms"


def bar(value: float, most: float, width: int = _BAR) -> str:
    """A bar of block characters, as long as `value` is of `most`; of # where the terminal has no blocks."""
    eighths = round(width * 8 * value / most) if most else 0
    if value and not eighths:
        eighths = 1  # little is not nothing
    if not _has_blocks(sys.stdout.encoding):
        return "#" * max(bool(eighths), eighths // 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _has_blocks(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("-", "").startswith("utf")
