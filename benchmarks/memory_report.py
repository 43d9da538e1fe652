"""What the benchmark of memories found, as people read it: the tables and the chart of docs/memory.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import figure, percentile
from benchmarks.memory_cases import Cases, Question
from benchmarks.memory_judge import Answer, leaks, shares

RESULTS = Path(__file__).with_name("memory_results.json")
OURS = "lkmongo"
_A_TOKEN = 4
"""Characters."""

MEASURES = {
    "fact: first": "a fact that stayed as it was: first result",
    "fact: among 5": "the same: among five",
    "crowded: first": "the same among 600 memories: first result",
    "crowded: among 5": "the same among 600 memories: among five",
    "changed: the new value before the old": "a fact that changed: the new value, before the old one",
    "changed: the old value told as true": "the same: the old value told as though it were true",
    "corrected: the new value before the old": "a fact that was contradicted: the new value, before the old one",
    "corrected: the old value told as true": "the same: the old value told as though it were true",
    "before: found": "the value before it changed: found",
    "before: told as former": "the same: and told as former",
    "then: what was true in a month": "what was true in a month, and nothing else said to be",
    "since: with its date": "since when it is true: the value with the right day",
    "dated: with the day that was meant": '"in two weeks": the thing with the day that was meant',
    "unknown: nothing is told": "asked what was never told: no result",
    "off topic: nothing is told": "asked about something else: no result",
}
"""What is judged, as the table says it."""
LESS_IS_BETTER = {name for name in MEASURES if name.endswith("told as true")}
NEEDS_A_MODEL = {
    ("mem0", "before: told as former"): "it keeps every sentence, and marks none as former",
    ("mem0", "dated: with the day that was meant"): "it keeps the words",
    ("recall-livekit", "dated: with the day that was meant"): "it keeps the words",
}
"""What a system does not do without a language model or its service, and why."""


def results(cases: Cases, answers: Mapping[str, Sequence[Answer]], writing: Mapping[str, float]) -> dict[str, Any]:
    """Everything that is reported, as JSON."""
    told: dict[str, set[str]] = {}
    for each in cases.told:
        told.setdefault(each.person, set()).add(each.text)
    return {
        "seed": cases.seed,
        "sha256": cases.sha256,
        "people": len(cases.people),
        "sentences": len(cases.told),
        "questions": len(cases.questions),
        "systems": {
            name: {
                "measures": shares(cases.questions, given),
                "leaks": leaks(told, cases.questions, given),
                "briefed": _briefed(cases.questions, given),
                "write_ms": round(writing[name], 3),
                "search_ms": _times(cases.questions, given),
            }
            for name, given in answers.items()
        },
    }


def _briefed(questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
    """What stands before a model that has called no tool: tokens, and for how many facts the value is in it."""
    found = {}
    for kind in ("fact", "crowded"):
        both = [(q, a) for q, a in zip(questions, answers, strict=True) if q.kind == kind]
        if not both:
            continue
        found[kind] = {
            "tokens": round(statistics.mean(len(a.briefed) for _, a in both) / _A_TOKEN),
            "most": max(len(a.briefed) for _, a in both) // _A_TOKEN,
            "holds": [sum(q.right.casefold() in a.briefed.casefold() for q, a in both), len(both)],
            "of_a_search": round(statistics.mean(len(a.told) for _, a in both) / _A_TOKEN),
        }
    return found


def _times(questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
    found = {}
    for name, kinds in (("few", {"fact", "changed", "corrected"}), ("crowded", {"crowded"})):
        times = [a.ms for q, a in zip(questions, answers, strict=True) if q.kind in kinds]
        if times:
            found[name] = {"median": round(statistics.median(times), 3), "p95": round(percentile(times, 95), 3)}
    return found


def load() -> dict[str, Any]:
    """The results of the last run."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


def text(found: Mapping[str, Any]) -> str:
    """All of it, as it is printed."""
    return "\n\n".join([about(found), table(found), briefed(found), times(found)])


def document() -> dict[str, str]:
    """The blocks of docs/memory.md, by their names."""
    found = load()
    return {
        "about": about(found),
        "found": table(found),
        "lost-and-won": lost_and_won(found),
        "briefed": briefed(found),
        "times": times(found),
    }


def about(found: Mapping[str, Any]) -> str:
    """Seed, hash, sizes, versions and machine."""
    machine = found["machine"]
    versions = "; ".join(
        f"{name}: " + ", ".join(f"{package} {version}" for package, version in of.items())
        for name, of in found["versions"].items()
    )
    return (
        f"Seed {found['seed']}, SHA-256 of sentences and questions `{found['sha256'][:16]}`: {found['sentences']:,} "
        f"sentences of {found['people']} people, {found['questions']:,} questions. Measured on "
        f"{machine['measured_on']} on {machine['cores']} cores, {machine['system']}, Python {machine['python']}. "
        f"Versions: {versions}."
    )


def table(found: Mapping[str, Any]) -> str:
    """A row for each measure, a column for each system."""
    systems = found["systems"]
    lines = [f"| | questions | {' | '.join(systems)} |", f"|---|---:|{'---:|' * len(systems)}"]
    for name, words in MEASURES.items():
        counts = [each["measures"][name][1] for each in systems.values() if name in each["measures"]]
        if counts:
            cells = [_cell(system, name, found) for system in systems]
            lines.append(f"| {words} | {counts[0]} | {' | '.join(cells)} |")
    told = [str(each["leaks"]) for each in systems.values()]
    lines.append(f"| results that are somebody else's | {found['questions']} | {' | '.join(told)} |")
    return "\n".join(lines)


def _cell(system: str, measure: str, found: Mapping[str, Any]) -> str:
    if (system, measure) in NEEDS_A_MODEL:
        return "needs a model"
    share = _share(found, system, measure)
    others = [_share(found, other, measure) for other in found["systems"] if (other, measure) not in NEEDS_A_MODEL]
    best = min(others) if measure in LESS_IS_BETTER else max(others)
    return f"**{share:.0%}**" if share == best else f"{share:.0%}"


def _share(found: Mapping[str, Any], system: str, measure: str) -> float:
    met, of = found["systems"][system]["measures"][measure]
    return float(met / of)


def lost_and_won(found: Mapping[str, Any]) -> str:
    """A sentence for each measure in which another system is better than lkmongo, then for those in which none is."""
    lost: list[str] = []
    won: list[str] = []
    for name, words in MEASURES.items():
        ours = _share(found, OURS, name)
        sign = -1 if name in LESS_IS_BETTER else 1
        others = {
            other: _share(found, other, name)
            for other in found["systems"]
            if other != OURS and (other, name) not in NEEDS_A_MODEL
        }
        better = {other: share for other, share in others.items() if share * sign > ours * sign}
        rest = ", ".join(f"{other} {share:.0%}" for other, share in (better or others).items()) or "nobody else does it"
        (lost if better else won).append(f"- {words}: lkmongo {ours:.0%}, {rest}")
    return "\n".join(["**Lost**", "", *(lost or ["- nothing"]), "", "**Won, or equal**", "", *(won or ["- nothing"])])


def briefed(found: Mapping[str, Any]) -> str:
    """What a model is told before it calls a tool, and what a search tells it."""
    rows = [
        "| | tokens briefed, mean | at most | the fact is in it | tokens of a search |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind, words in (("fact", "some forty memories"), ("crowded", "600 memories")):
        for name, system in found["systems"].items():
            if each := system["briefed"].get(kind):
                held, of = each["holds"]
                rows.append(
                    f"| {name}, {words} | {each['tokens']:,} | {each['most']:,} | {held / of:.0%} of {of} | "
                    f"{each['of_a_search']:,} |"
                )
    return "\n".join(rows)


def times(found: Mapping[str, Any]) -> str:
    """How long searching and writing takes, as measured and in proportion."""
    systems = found["systems"]
    rows = [f"| | {' | '.join(systems)} |", f"|---|{'---:|' * len(systems)}"]
    for size, words in (("few", "some forty memories"), ("crowded", "600 memories")):
        for what, shown in (("median", "median"), ("p95", "p95")):
            values = [each["search_ms"].get(size, {}).get(what) for each in systems.values()]
            if all(values):
                rows.append(f"| a search, {words}, {shown} | {' | '.join(_ms(v, values[0]) for v in values)} |")
    values = [each["write_ms"] for each in systems.values()]
    rows.append(f"| writing a sentence, mean | {' | '.join(_ms(v, values[0]) for v in values)} |")
    return "\n".join(rows)


def _ms(value: float, first: float) -> str:
    ratio = "" if value == first else f" ({figure(value / first)} times)"
    return f"{figure(value)} ms{ratio}"


_WIDTH, _ROW, _LEFT, _RIGHT = 760, 58, 330, 60
_STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.v{font-size:12px}"
    ".w0{fill:#0a7d4f}.w1{fill:#8c959f}.w2{fill:#4f6d9a}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.w0{fill:#3fb950}.w1{fill:#6e7681}.w2{fill:#79a0d8}}</style>"
)


def chart() -> str:
    """All measures as bars, for each system, as SVG that reads well in light and dark."""
    found = load()
    systems = list(found["systems"])
    title = "What is found again, of what was told: share of the questions"
    height = 60 + _ROW * len(MEASURES)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">',
        _STYLE,
        f'<text class="t" x="8" y="20">{title}</text>',
    ]
    for number, system in enumerate(systems):
        x = 8 + 150 * number
        out.append(f'<rect class="w{number}" x="{x}" y="32" width="12" height="12" rx="2"/>')
        out.append(f'<text class="v" x="{x + 18}" y="42">{system}</text>')
    for place, (name, words) in enumerate(MEASURES.items()):
        top = 60 + _ROW * place
        less = " (less is better)" if name in LESS_IS_BETTER else ""
        first, _, second = words.partition(": ")
        out.append(f'<text x="{_LEFT - 10}" y="{top + 16}" text-anchor="end">{first}</text>')
        out.append(f'<text class="v" x="{_LEFT - 10}" y="{top + 33}" text-anchor="end">{second}{less}</text>')
        for number, system in enumerate(systems):
            y = top + 16 * number
            if (system, name) in NEEDS_A_MODEL:
                out.append(f'<text class="v" x="{_LEFT + 4}" y="{y + 11}">needs a model</text>')
                continue
            share = _share(found, system, name)
            width = max(1.0, share * (_WIDTH - _LEFT - _RIGHT))
            out.append(f'<rect class="w{number}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="13" rx="2"/>')
            out.append(f'<text class="v" x="{_LEFT + width + 6:.1f}" y="{y + 11}">{share:.0%}</text>')
    return "\n".join([*out, "</svg>", ""])
