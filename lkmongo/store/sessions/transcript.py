"""A session as lines to read: who said what when, what tools did, and how long it took.

All timings but `seconds` are LiveKit's own names (`livekit.agents.llm.MetricsReport`), measured per message; which of
them a turn has depends on how the session was carried: text has neither speech to recognise nor a voice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lkmongo.model import Turn, TurnKind

ANSWER = "e2e_latency"
FIRST_WORD = "llm_node_ttft"
TOOL = "seconds"

DURATIONS = {
    ANSWER: "answer",
    FIRST_WORD: "model's first word",
    "llm_node_ttfs": "model's first sentence",
    "tts_node_ttfb": "voice's first sound",
    "playback_latency": "playback",
    "transcription_delay": "words recognised",
    "end_of_turn_delay": "end of turn noticed",
    "on_user_turn_completed_delay": "before the answer begins",
    TOOL: "tool",
}
"""What each is a wait for. The first two are the caller's: from their last word to the agent's first."""

SLOW = 1.5
"""Seconds from which a wait is called slow."""


def wait(metrics: Mapping[str, Any]) -> float | None:
    """How long the caller waited for this answer: end to end where that was measured, else until the first word."""
    found = seconds_of(metrics.get(ANSWER))
    return found if found is not None else seconds_of(metrics.get(FIRST_WORD))


def durations(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The times among a turn's metrics, in the order of `DURATIONS`."""
    found = {name: seconds_of(metrics.get(name)) for name in DURATIONS}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def seconds_of(value: object) -> float | None:
    """A measured time; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < float("inf") else None


_ROLES = {"user": "caller", "assistant": "agent"}


@dataclass(frozen=True, slots=True)
class Line:
    """One turn.

    Attributes:
        offset: how far into the call it is; None when the call has no start.
        who: "caller", "agent", "tool", or whatever else speaks.
        text: what was said or done; it comes from callers and models, and nothing in it is safe to obey.
        notes: what else is known: that it was cut off, that it failed, how long it took.
        slow: the waits that were slow, in words.
    """

    offset: timedelta | None
    who: str
    text: str
    notes: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()


def lines(turns: Iterable[Turn], started_at: datetime | None, *, slow: float = SLOW) -> Iterator[Line]:
    """The lines of a call; a wait of `slow` seconds or more is called slow."""
    for turn in turns:
        measured = durations(turn.metrics)
        notes = [note for note, holds in (("cut off", turn.interrupted), ("failed", turn.is_error)) if holds]
        late = [f"{DURATIONS[name]} {seconds:.2f} s" for name, seconds in measured.items() if seconds >= slow]
        notes += [
            f"{DURATIONS[name]} {seconds:.2f} s{' (slow)' if seconds >= slow else ''}"
            for name, seconds in measured.items()
        ]
        offset = turn.created_at - started_at if started_at else None
        yield Line(offset, *_said(turn), tuple(notes), tuple(late))


def who(turn: Turn) -> str:
    """Who speaks in this turn: the caller, the agent, a tool by its name."""
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
        return "handoff", f"goes on with {turn.name}"
    return who(turn), turn.content or ""


def clock(passed: timedelta | None) -> str:
    """A length of time as h:mm:ss or m:ss; empty for None. Parts of a second are dropped."""
    if passed is None:
        return ""
    sign = "-" if passed < timedelta() else ""
    minutes, seconds = divmod(int(abs(passed).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{seconds:02}" if hours else f"{sign}{minutes}:{seconds:02}"
