"""A soak as people read it: the summary of a run, and the block of docs/scale.md from benchmarks/soak_results.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import machine_line

RESULTS = Path(__file__).with_name("soak_results.json")
_WHOLE = 120.0
"""Minutes of a whole run."""


def block(path: Path = RESULTS) -> dict[str, str]:
    """The block, by its name."""
    return {"soak": document(json.loads(path.read_text(encoding="utf-8")))}


def document(figures: dict[str, Any]) -> str:
    """The run as text and tables."""
    minutes = figures["minutes"]
    lasted = f"{minutes:.0f} minutes" + ("" if minutes >= _WHOLE else f", not the whole {_WHOLE:.0f}")
    faults = sum(figures["faults"].values())
    rows = [
        ("calls", f"{figures['calls']} of {figures['people']} people, {figures['at_once']} at once"),
        ("", _listed(figures["outcomes"])),
        ("", f"how they were to go: {_listed(figures['ends'])}"),
        ("calls in which another agent came", str(figures["another_agent_came"])),
        ("lines", f"{figures['lines']}, of which {figures['answered']} were answered"),
        ("facts that were acknowledged", str(figures["acknowledged"])),
        ("questions about what was said before", str(figures["questions"])),
        ("sessions stored", f"{figures['sessions']}: {_listed(figures['sessions_by_status'])}"),
        ("turns stored", f"{figures['turns']:,}"),
        ("until everything was closed after the last call", f"{figures['all_closed_after_s']:.0f} s"),
        *_open(figures),
        *((f"memory of the {name}", _slope(each)) for name, each in figures["slopes"].items()),
        ("wrong", str(len(figures["wrong"])) if figures["wrong"] else "nothing"),
    ]
    lines = [
        f"{lasted}, {faults} faults, seed {figures['seed']}:",
        "",
        *_table(("what", "seen"), rows),
        "",
        *_table(("fault", "times"), [(kind, str(count)) for kind, count in sorted(figures["faults"].items())]),
        "",
        "What was not as usual, and why:",
        "",
        *_table(("what", "fault", "times"), [(what, why, str(count)) for what, why, count in figures["explained"]]),
    ]
    if figures["wrong"]:
        lines += ["", "What was wrong:", "", *(f"- {each}" for each in figures["wrong"])]
    return "\n".join([*lines, "", machine_line(figures["machine"])])


def summary(figures: dict[str, Any]) -> str:
    """The run as a few lines of text."""
    lines = [
        (
            f"{figures['minutes']:g} minutes, seed {figures['seed']}: {_listed(figures['outcomes'])} of "
            f"{figures['calls']} calls, {figures['at_once']} at once, of {figures['people']} people"
        ),
        f"faults: {_listed(figures['faults'])}",
        (
            f"lines: {figures['lines']}, {figures['answered']} of them answered; "
            f"{figures['acknowledged']} facts acknowledged, {figures['questions']} questions"
        ),
        (
            f"sessions: {_listed(figures['sessions_by_status'])}; {figures['turns']} turns; "
            f"all closed {figures['all_closed_after_s']:g} s after the last call"
        ),
        f"open before the first call: {figures['open_before']}",
        f"open after the last call: {figures['open_after']}",
    ]
    lines += [f"{what} ({why}): {count}" for what, why, count in figures["explained"]]
    for name, each in figures["slopes"].items():
        lines.append(
            f"memory of the {name}: {each['mb_an_hour']:+.1f} MB an hour, give or take {each['uncertainty']:.1f}, "
            f"over {60 * each['hours']:.0f} minutes: {each['verdict']} (at most {figures['most_mb_an_hour']:g})"
        )
    return "\n".join([*lines, f"{len(figures['wrong'])} wrong", *figures["wrong"]])


def _open(figures: dict[str, Any]) -> list[tuple[str, str]]:
    before, after = figures["open_before"] or {}, figures["open_after"] or {}
    words = {
        "files": "open files of the main process, before and after",
        "sockets": "sockets of the main process",
        "processes": "processes of the worker",
        "connections": "connections of MongoDB",
    }
    return [(text, f"{before.get(name)}, {after.get(name)}") for name, text in words.items()]


def _slope(each: dict[str, Any]) -> str:
    return (
        f"{each['mb_an_hour']:+.1f} MB an hour, give or take {each['uncertainty']:.1f} (95 %), "
        f"over {60 * each['hours']:.0f} minutes: {each['verdict']}"
    )


def _listed(counted: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counted.items(), key=lambda each: -each[1])) or "none"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(each)} |" for each in (head, ("---",) * len(head), *rows)]
