"""A session as lines to read: who said what when, what tools did, and how long it took.

All timings but `seconds` and `typed_latency` have LiveKit's names (`livekit.agents.llm.MetricsReport`) and are measured
per message. A session in text has none of those that speech recognition and the voice measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lkmongo.model import Turn, TurnKind

SPOKEN = "e2e_latency"
"""From the end of the caller's speech to the first sound of the answer."""
TYPED = "typed_latency"
"""From the arrival of a typed message at the agent, with its time in the queue, to the first word of the answer."""
FIRST_WORD = "llm_node_ttft"
TOOL = "seconds"

DURATIONS = {
    SPOKEN: "answer to speech",
    TYPED: "answer to typing",
    FIRST_WORD: "model's first word",
    "llm_node_ttfs": "model's first sentence",
    "tts_node_ttfb": "voice's first sound",
    "playback_latency": "playback",
    "transcription_delay": "words recognised",
    "end_of_turn_delay": "end of turn noticed",
    "on_user_turn_completed_delay": "before the answer begins",
    TOOL: "tool",
}
"""What each timing measures. The first two are the caller's wait, from their last word to the agent's first."""
WAITS = (TYPED, SPOKEN, FIRST_WORD)
"""The timings that say how long a caller waited, best first. The last one is what there is of answers to typing that
earlier versions recorded, and of what an agent says unasked; it leaves out all that comes before the model."""

SLOW = 1.5
"""Seconds from which a wait counts as slow."""


def wait(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """How long the caller waited for this answer, and which of `WAITS` that is; None if nothing was measured."""
    return next(((name, value) for name in WAITS if (value := seconds_of(metrics.get(name))) is not None), None)


def durations(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The timings among a turn's metrics in seconds, in the order of `DURATIONS`."""
    found = {name: seconds_of(metrics.get(name)) for name in DURATIONS}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def seconds_of(value: object) -> float | None:
    """A timing in seconds; None for anything that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < float("inf") else None


_ROLES = {"user": "caller", "assistant": "agent"}


@dataclass(frozen=True, slots=True)
class Line:
    """One turn.

    Attributes:
        offset: time since the start of the session; None if that is unknown.
        who: "caller", "agent", "tool", or another role.
        text: what was said or done. It comes from callers and models: escape it before a terminal or a page shows it.
        notes: whether it was cut off or failed, and its timings.
        slow: the timings that were slow, in words.
    """

    offset: timedelta | None
    who: str
    text: str
    notes: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()


def lines(turns: Iterable[Turn], started_at: datetime | None, *, slow: float = SLOW) -> Iterator[Line]:
    """The lines of a session; a wait of `slow` seconds or more counts as slow."""
    for turn in turns:
        waits = [
            (f"{DURATIONS[name]} {seconds:.2f} s", seconds >= slow) for name, seconds in durations(turn.metrics).items()
        ]
        notes = [note for note, holds in (("cut off", turn.interrupted), ("failed", turn.is_error)) if holds]
        notes += [f"{wait} (slow)" if is_slow else wait for wait, is_slow in waits]
        offset = turn.created_at - started_at if started_at else None
        yield Line(offset, *_said(turn), tuple(notes), tuple(wait for wait, is_slow in waits if is_slow))


def who(turn: Turn) -> str:
    """Who speaks in this turn: the caller, the agent, or a tool by name."""
    if turn.kind is TurnKind.TOOL:
        return f"tool {turn.name}"
    if turn.kind is TurnKind.HANDOFF:
        return "handoff"
    return _ROLES.get(turn.role or "", turn.role or "?")


def _said(turn: Turn) -> tuple[str, str]:
    if turn.kind is TurnKind.TOOL:
        call = f"{turn.name} {turn.arguments or ''}".rstrip()
        return "tool", call if turn.output is None else f"{call} -> {turn.output}"
    if turn.kind is TurnKind.HANDOFF:
        return "handoff", f"continues with {turn.name}"
    return who(turn), turn.content or ""


def clock(passed: timedelta | None) -> str:
    """A length of time as h:mm:ss or m:ss, without fractions of a second; empty for None."""
    if passed is None:
        return ""
    sign = "-" if passed < timedelta() else ""
    minutes, seconds = divmod(int(abs(passed).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{seconds:02}" if hours else f"{sign}{minutes}:{seconds:02}"
