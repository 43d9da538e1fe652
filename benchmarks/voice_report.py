"""The tables of `benchmarks.voice`: printed, and shown in docs/performance.md."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.voice_turns import CUT_INS, MEDIAN, P95, Figures, Heard, Pause

RESULTS = Path(__file__).with_name("voice_results.json")
ADDED = {"median_ms": 5.0, "p95_ms": 15.0, "mb": 25.0}
"""What memory may add at most: milliseconds of a turn, megabytes of a call's process."""


def row(name: str, figures: Figures, how: str) -> dict[str, Any]:
    """A row of the table of settings, rounded."""
    rounded = {
        key: None if isinstance(value, float) and math.isinf(value) else round(value, 4)
        for key, value in asdict(figures).items()
    }
    return {"setting": name, "how": how, **rounded, "misses": figures.misses}


def heard_of(found: Mapping[str, Any]) -> list[Heard]:
    """What was heard, of what a run has found."""
    return [Heard(**{**each, "pauses": _pauses_of(each)}) for each in found.get("heard", ())]


def _pauses_of(heard: Mapping[str, Any]) -> tuple[Pause, ...]:
    return tuple(Pause(**pause) for pause in heard["pauses"])


def results() -> dict[str, Any]:
    """The figures of the last run; empty if there is none."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.exists() else {}


def settings_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each setting does to callers, and whether it meets the targets."""
    lines = [
        "| what ends a turn: delays in seconds | | median | p95 | cut in | of who stops to think | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for each in rows:
        times = [f"{each[name]:.2f} s" if each[name] is not None else "never" for name in ("median", "p95")]
        shares = [f"{each[name]:.1%}" for name in ("cut_ins", "hesitating")]
        verdict = f"not the {', '.join(each['misses'])}" if each["misses"] else "**meets all**"
        counts = f"{each['how']}, {each['turns']} turns" + (
            f", {each['heard']} heard" if each["heard"] != each["turns"] else ""
        )
        lines.append(f"| {each['setting']} | {counts} | {' | '.join([*times, *shares])} | {verdict} |")
    return "\n".join(lines)


def words_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is left of the words by voice and noise."""
    lines = ["| caller | sentences | words wrong | names, numbers and the like that survive |", "|---|---:|---:|---:|"]
    for each in rows:
        caller = f"{each['voice']}{', noise 15 dB below' if each['noisy'] else ''}"
        kept = f"{each['kept']} of {each['sentences']}"
        lines.append(f"| {caller} | {each['sentences']} | {each['wrong'] / each['words']:.1%} | {kept} |")
    return "\n".join(lines)


def added_table(added: Mapping[str, float]) -> str:
    """What memory adds to the same call without."""
    named = {
        "median_ms": ("from the words of a turn to the first sentence at the voice, median", "ms"),
        "p95_ms": ("the same, 95th percentile", "ms"),
        "audible_ms": ("from the end of speech to the first sound, median", "ms"),
        "mb": (f"memory of the call's process (PSS), beside {added['bare_mb']:.0f} MB", "MB"),
        "cpu_ms": (f"processor time of a turn, beside {added['bare_cpu_ms']:.0f} ms", "ms"),
    }
    lines = ["| what memory adds | measured | at most | |", "|---|---:|---:|---|"]
    for name, (what, unit) in named.items():
        bound = ADDED.get(name)
        verdict = "" if bound is None else "reached" if added[name] <= bound else "**not reached**"
        lines.append(f"| {what} | {added[name]:.1f} {unit} | {'' if bound is None else f'{bound:g}'} | {verdict} |")
    return "\n".join(lines)


def blocks(told: Mapping[str, Any]) -> dict[str, str]:
    """The parts of docs/performance.md."""
    if not told:
        return dict.fromkeys(("voice-machine", "voice-turns", "voice-words", "voice-added"), "Not measured yet.")
    facts = told["machine"]
    load = ", ".join(f"{part} {value:g}" for part, value in facts["load"].items())
    return {
        "voice-machine": (
            f"Measured on {facts['measured_on']} on {facts['cores']} cores, {facts['system']}, Python "
            f"{facts['python']}; load average at the beginning of each part: {load}."
        ),
        "voice-turns": settings_table(told["rows"]),
        "voice-words": words_table(told["words"]),
        "voice-added": added_table(told["added"]),
    }


def everything(told: Mapping[str, Any]) -> str:
    """What a run prints, of the parts that it has."""
    parts = [f"targets: median {MEDIAN:g} s, p95 {P95:g} s, cut-ins {CUT_INS:.0%} of the turns"]
    parts += [settings_table(told["rows"])] if told["rows"] else []
    parts += [words_table(told["words"])] if "words" in told else []
    parts += [added_table(told["added"])] if "added" in told else []
    if met := [each["setting"] for each in told["rows"] if not each["misses"]]:
        parts.append(f"meets all targets: {'; '.join(dict.fromkeys(met))}")
    return "\n\n".join(parts)
