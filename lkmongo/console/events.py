"""What a conversation in the console shows, and how it went."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lkmongo.errors import InvalidTextError, LkmongoError

if TYPE_CHECKING:
    from livekit.agents import llm

    from lkmongo.console.sound import Sound

Show = Callable[[dict[str, Any]], None]
"""Takes one event: a message, a tool_call or a tool_output."""

OpenSound = Callable[[], "AbstractAsyncContextManager[Sound]"]
"""Opens a microphone and a loudspeaker."""


@dataclass(slots=True)
class Outcome:
    """How the conversation went."""

    session_id: str
    refused: int = 0
    unanswered: int = 0
    stored: bool = True
    failure: LkmongoError | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the conversation is shown."""

    event: Show
    note: Callable[[str], None]
    warn: Callable[[str], None]
    refuse: Callable[[InvalidTextError], None]
    live: Callable[[str, str], None] = lambda _who, _text: None
    """Aloud: what "user" or "assistant" have said so far of what they are saying, or the agent's "state"."""


def tool_call(item: llm.FunctionCall) -> dict[str, Any]:
    """The event that says which tool is called."""
    return {"type": "tool_call", "name": item.name, "arguments": _arguments(item.arguments)}


def tool_output(item: llm.FunctionCallOutput, name: str) -> dict[str, Any]:
    """The event that says what a tool returned; `name` is the tool's."""
    return {"type": "tool_output", "name": item.name or name, "output": item.output, "is_error": item.is_error}


def _arguments(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        return {"text": text}
    return parsed if isinstance(parsed, dict) else {"value": parsed}
