"""The times that turns hold, in seconds, and what they say in a word or two.

All but `seconds` are names of LiveKit's own (`livekit.agents.llm.MetricsReport`), which it measures on a message; which
of them a turn has depends on what carried the call: in text there is neither speech to recognise nor a voice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
