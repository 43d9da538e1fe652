"""What of a conversation is a turn that is recorded, and what a call was about in the caller's own words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lkmongo.model import Turn, TurnKind, clean_text

if TYPE_CHECKING:
    from livekit.agents import llm


def gist(turns: Sequence[Turn], limit: int) -> str:
    """What a call was about, in the caller's own last words (three utterances); at most `limit` characters."""
    said = [turn.content for turn in turns if turn.role == "user" and turn.content][-3:]
    parts: list[str] = []
    for content in reversed(said):
        part = " ".join(content.split())[:160]
        if parts and sum(map(len, parts)) + len(part) > limit:
            break
        parts.insert(0, part)
    return "; ".join(parts)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def turn_of(item: Any) -> Turn | None:
    """A turn of a chat item; None for what is no turn, such as instructions, which hold what the agent was told."""
    from livekit.agents import llm

    if isinstance(item, llm.ChatMessage) and item.role in {"user", "assistant"}:
        return Turn(
            seq=0,
            item_id=item.id,
            kind=TurnKind.MESSAGE,
            created_at=_moment(item.created_at),
            role=item.role,
            content=clean_text(item.text_content or ""),
            interrupted=item.interrupted,
            metrics={key: value for key, value in dict(item.metrics or {}).items() if isinstance(value, int | float)},
        )
    if isinstance(item, llm.AgentHandoff) and item.old_agent_id:  # the first agent takes over from nobody
        return Turn(
            seq=0,
            item_id=item.id,
            kind=TurnKind.HANDOFF,
            created_at=_moment(item.created_at),
            name=item.new_agent_id,
        )
    return None


def turn_of_tool(call: llm.FunctionCall, output: llm.FunctionCallOutput | None) -> Turn:
    return Turn(
        seq=0,
        item_id=call.id,
        kind=TurnKind.TOOL,
        created_at=_moment(call.created_at),
        name=call.name,
        arguments=clean_text(call.arguments),
        output=clean_text(output.output) if output else None,
        is_error=bool(output and output.is_error),
        metrics={"seconds": round(output.created_at - call.created_at, 3)} if output else {},
    )
