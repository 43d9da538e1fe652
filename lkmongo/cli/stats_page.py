"""What calls sum up to, as one page of HTML with charts: nothing is loaded from elsewhere, no script runs.

Each chart has its numbers in a table below it, a description for those who cannot see it, and shapes beside colours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from lkmongo.cli import charts
from lkmongo.cli.charts import Series, text
from lkmongo.cli.stats_text import FAILURES, scope_text, seconds
from lkmongo.store.call_stats import Stats
from lkmongo.store.calls import CallFilter
from lkmongo.store.timings import DURATIONS

_PERCENTILES = "p50 and p95: half of the waits, and 95 in a hundred, were no longer."
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


def page(stats: Stats, wanted: CallFilter, made_at: datetime) -> str:
    """Return the page.

    Args:
        stats: what to show.
        wanted: whose calls they are.
        made_at: when it was made, in UTC.
    """
    title = scope_text(wanted)
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p class="soft">Made {made_at:%Y-%m-%d %H:%M} UTC; days are in UTC. {_PERCENTILES}</p>',
        _totals(stats),
        *(_sections(stats) if stats.days else ["<p>There were no calls in this time.</p>"]),
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
        "Calls": f"{total.calls:,}",
        "Minutes": f"{total.minutes:,.0f}",
        "Turns": f"{total.turns:,}",
        "Tool calls": f"{total.tool_calls:,}",
        "Answer, p50": seconds(total.answers.p50) or "not measured",
        "Answer, p95": seconds(total.answers.p95) or "not measured",
        "Failures": f"{sum(total.failures.values()):,}",
    }
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in shown.items())}</dl>"


def _sections(stats: Stats) -> Iterable[str]:
    yield _calls(stats)
    if stats.total.answers.count:
        yield _answers(stats)
    if stats.latencies:
        rows = [[DURATIONS[n], f"{w.count:,}", seconds(w.p50), seconds(w.p95)] for n, w in stats.latencies.items()]
        yield "<h2>Where the time goes</h2>" + _table(["wait", "count", "p50", "p95"], rows)
    if stats.tools:
        yield _tools(stats)
    yield _failures(stats)


def _calls(stats: Stats) -> str:
    rows = [
        [str(day), f"{p.calls:,}", f"{p.minutes:,.0f}", f"{p.turns:,}", f"{p.tool_calls:,}"]
        for day, p in stats.days.items()
    ]
    return _section(
        "Calls a day",
        charts.columns(_days(stats), [float(period.calls) for period in stats.days.values()], "Calls a day"),
        _table(["day", "calls", "minutes", "turns", "tool calls"], rows),
    )


def _answers(stats: Stats) -> str:
    waits = [period.answers for period in stats.days.values()]
    rows = [
        [day, f"{wait.count:,}", seconds(wait.p50), seconds(wait.p95)]
        for day, wait in zip(_days(stats), waits, strict=True)
    ]
    series = [
        Series("p95", "two", [wait.p95 for wait in waits]),
        Series("p50", "one", [wait.p50 for wait in waits]),
    ]
    return _section(
        "How long callers waited for an answer",
        charts.lines(_days(stats), series, "Seconds until an answer, a day"),
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
        charts.bars([(tool.name, tool.calls) for tool in stats.tools[:30]], "Uses of each tool"),
        _table(["tool", "calls", "failed", "p50", "p95"], rows),
    )


def _failures(stats: Stats) -> str:
    kinds = [kind for kind, count in stats.total.failures.items() if count]
    if not kinds:
        return "<h2>Failures</h2><p>None.</p>"
    rows = [[str(day), *(f"{period.failures[kind]:,}" for kind in kinds)] for day, period in stats.days.items()]
    rows.append(["in all", *(f"{stats.total.failures[kind]:,}" for kind in kinds)])
    sums = [float(sum(period.failures.values())) for period in stats.days.values()]
    return _section(
        "Failures",
        charts.columns(_days(stats), sums, "Failures a day", style="two"),
        _table(["day", *(FAILURES[kind] for kind in kinds)], rows),
    )


def _days(stats: Stats) -> list[str]:
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
