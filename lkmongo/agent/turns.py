"""Which items of a conversation are recorded as turns, and what of them may be told again later.

A secret is not always told in one piece: its kind comes in one turn and its value in the next, or the value once more
after it was refused. So the turns are read in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lkmongo.confidential import (
    REFUSAL,
    asks_for_secret,
    holds_secret,
    is_bare_value,
    numbers_in,
    secrets_in,
    trails_off,
    without_secrets,
)
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


_SAYS_NOTHING = re.compile(
    r"(?:(?:please|ok|okay|yes|no|but|why|not|just|do|can|will|you|i|it|it's|that|this|them|anyway|remember|store|save|keep|what|"
    r"then|so|all|right|fine|sure|try|again|thanks|thank|said|oh|well|never|mind|is|was)\b[\s.,!?]*)+",
    re.IGNORECASE,
)
"""What is about nothing but what was said before, such as "why not?"."""


@dataclass(frozen=True, slots=True)
class Discreet:
    """A conversation as it may be told again.

    Attributes:
        turns: what was said, without what is secret; nothing of which nothing is left.
        secrets: what the caller has told that must not be remembered, numbers as their digits.
    """

    turns: list[Turn]
    secrets: frozenset[str]


@dataclass(slots=True)
class _Exchange:
    """Something that the caller said, and what came of it."""

    said: Turn | None
    then: list[Turn]
    is_secret: bool = False

    @property
    def words(self) -> str:
        return (self.said and self.said.content) or ""

    @property
    def answer(self) -> str:
        """What the agent said last."""
        return next(
            (turn.content for turn in reversed(self.then) if turn.kind is TurnKind.MESSAGE and turn.content), ""
        )

    @property
    def was_refused(self) -> bool:
        return any(REFUSAL in (turn.output or turn.content or "") for turn in self.then)

    @property
    def secrets(self) -> set[str]:
        found = set(secrets_in(self.words))
        if self.is_secret:
            found |= numbers_in(self.words)
            found |= {_content(turn.arguments) for turn in self.then if turn.output == REFUSAL} - {""}
        return found


def discreet(turns: Iterable[Turn]) -> Discreet:
    """Leave out of a conversation what must not be remembered."""
    exchanges = [_Exchange(None, [])]
    for turn in turns:
        if turn.kind is TurnKind.MESSAGE and turn.role == "user":
            exchanges.append(_Exchange(turn, []))
        else:
            exchanges[-1].then.append(turn)
    _judge(exchanges)
    secrets = frozenset(secret for each in exchanges for secret in each.secrets)
    kept: list[Turn] = []
    for each in exchanges:
        messages = [turn for turn in each.then if turn.kind is TurnKind.MESSAGE]
        for turn in messages if each.is_secret or not each.said else [each.said, *messages]:
            content = without_secrets(turn.content or "", secrets)
            kept += [replace(turn, content=content)] if content else []
    return Discreet(kept, secrets)


def _judge(exchanges: list[_Exchange]) -> None:
    """Mark what the caller said where none of it may be told again."""
    together: list[_Exchange] = []
    for before, each in pairwise(exchanges):
        is_bare = is_bare_value(each.words)
        together = [*together, each] if is_bare else [before, each]
        if (
            each.was_refused
            or trails_off(each.words)
            or (before.is_secret and _SAYS_NOTHING.fullmatch(each.words))
            or (is_bare and (before.is_secret or asks_for_secret(before.words) or asks_for_secret(before.answer)))
        ):
            each.is_secret = True
        if not any(holds_secret(one.words) for one in together) and _holds_secret(together):
            while _holds_secret(together[1:]):
                together = together[1:]
            for one in together:
                one.is_secret = True


def _holds_secret(together: list[_Exchange]) -> bool:
    return holds_secret(" ".join(one.words for one in together))


def _content(arguments: str | None) -> str:
    """What a tool was to store."""
    try:
        given = json.loads(arguments or "{}")
    except ValueError:
        return ""
    found = given.get("content") or given.get("value") if isinstance(given, dict) else ""
    return found if isinstance(found, str) and len(found) > 2 else ""
