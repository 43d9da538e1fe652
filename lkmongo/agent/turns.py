"""Which chat items are recorded as turns, and what of them may be told again later.

A secret may be spread over turns: its kind in one and its value in the next, or the value again after it was refused.
So the turns are examined in order.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lkmongo.aio import aside
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
from lkmongo.search.words import content_words, stem, words
from lkmongo.summary import Summary

if TYPE_CHECKING:
    from livekit.agents import llm


_MAX_TOPICS, _MIN_TOPIC = 5, 3


def gist(turns: Sequence[Turn], limit: int) -> str:
    """What a session was about: the caller's last three utterances, in at most `limit` characters."""
    said = [turn.content for turn in turns if turn.role == "user" and turn.content][-3:]
    parts: list[str] = []
    for content in reversed(said):
        part = " ".join(content.split())[:160]
        if parts and sum(map(len, parts)) + len(part) > limit:
            break
        parts.insert(0, part)
    return "; ".join(parts)


def extract(turns: Sequence[Turn], limit: int, at: datetime) -> Summary | None:
    """The summary of a session in the caller's own words; None if they said nothing.

    Its topics are the words that say most: those they used most often, of these the longest.
    """
    text = gist(turns, limit)
    if not text:
        return None
    said = " ".join(turn.content for turn in turns if turn.role == "user" and turn.content)
    forms = {stem(word): word for word in reversed(words(said)) if not word.isdigit()}
    counts = Counter(stem(word) for word in words(said))
    telling = [each for each in content_words(said)[0] if len(each) >= _MIN_TOPIC and each in forms]
    telling.sort(key=lambda each: (-counts[each], -len(each)))
    return Summary(text, at, tuple(forms[each] for each in telling[:_MAX_TOPICS]))


def _timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def turn_of(item: Any) -> Turn | None:
    """The turn of a chat item; None for items that are not recorded, such as instructions."""
    from livekit.agents import llm

    if isinstance(item, llm.ChatMessage) and item.role in {"user", "assistant"}:
        return Turn(
            seq=0,
            item_id=item.id,
            kind=TurnKind.MESSAGE,
            created_at=_timestamp(item.created_at),
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
            created_at=_timestamp(item.created_at),
            name=item.new_agent_id,
        )
    return None


def turn_of_tool(call: llm.FunctionCall, output: llm.FunctionCallOutput | None) -> Turn:
    return Turn(
        seq=0,
        item_id=call.id,
        kind=TurnKind.TOOL,
        created_at=_timestamp(call.created_at),
        name=call.name,
        arguments=clean_text(call.arguments),
        output=clean_text(output.output) if output else None,
        is_error=bool(output and output.is_error),
        metrics={"seconds": round(output.created_at - call.created_at, 3)} if output else {},
    )


_KEEPING = {"remember_detail": ("memory_type", "content"), "update_profile": ("field", "value")}
"""The tools that keep something, with the arguments that say what."""


def stored_by(turns: Iterable[Turn]) -> list[str]:
    """What tools have kept of what was said, as "label: content"."""
    kept = []
    for turn in turns:
        if turn.kind is TurnKind.TOOL and turn.name in _KEEPING and turn.output is not None and not turn.is_error:
            given = _arguments(turn.arguments)
            label, content = (given.get(name) for name in _KEEPING[turn.name])
            if isinstance(label, str) and isinstance(content, str):
                kept.append(f"{label.replace('_', ' ')}: {content}")
    return kept


_REFERS_BACK = re.compile(
    r"(?:(?:please|ok|okay|yes|no|but|why|not|just|do|can|will|you|i|it|it's|that|this|them|anyway|remember|store|"
    r"save|keep|what|then|so|all|right|fine|sure|try|again|thanks|thank|said|oh|well|never|mind|is|was)\b[\s.,!?]*)+",
    re.IGNORECASE,
)
"""An utterance that only refers to what was said before, such as "why not?"."""


@dataclass(frozen=True, slots=True)
class RedactedTurns:
    """A conversation without secrets.

    Attributes:
        turns: the messages without secrets; messages left empty by that are dropped.
        secrets: what the caller mentioned that must not be remembered, numbers as digits.
    """

    turns: list[Turn]
    secrets: frozenset[str]


@dataclass(slots=True)
class _Exchange:
    """An utterance of the caller and the turns that follow it."""

    said: Turn | None
    then: list[Turn]
    is_secret: bool = False

    @property
    def words(self) -> str:
        return (self.said and self.said.content) or ""

    @property
    def answer(self) -> str:
        """The agent's last message."""
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


def characters_of(turns: Iterable[Turn]) -> int:
    """How many characters were said and given to tools."""
    return sum(len(each.content or "") + len(each.arguments or "") + len(each.output or "") for each in turns)


async def secrets_of(turns: Sequence[Turn]) -> frozenset[str]:
    """What the caller mentioned that must not be remembered."""
    return (await aside(characters_of(turns), lambda: redact_secrets(turns))).secrets


def redact_secrets(turns: Iterable[Turn]) -> RedactedTurns:
    """Remove what must not be remembered from a conversation."""
    exchanges = [_Exchange(None, [])]
    for turn in turns:
        if turn.kind is TurnKind.MESSAGE and turn.role == "user":
            exchanges.append(_Exchange(turn, []))
        else:
            exchanges[-1].then.append(turn)
    _mark_secrets(exchanges)
    secrets = frozenset(secret for each in exchanges for secret in each.secrets)
    kept: list[Turn] = []
    for each in exchanges:
        messages = [turn for turn in each.then if turn.kind is TurnKind.MESSAGE]
        for turn in messages if each.is_secret or not each.said else [each.said, *messages]:
            content = without_secrets(turn.content or "", secrets)
            kept += [replace(turn, content=content)] if content else []
    return RedactedTurns(kept, secrets)


def _mark_secrets(exchanges: list[_Exchange]) -> None:
    """Mark the exchanges of which nothing may be told again."""
    together: list[_Exchange] = []
    for before, each in pairwise(exchanges):
        is_bare = is_bare_value(each.words)
        together = [*together, each] if is_bare else [before, each]
        if (
            each.was_refused
            or trails_off(each.words)
            or (before.is_secret and _REFERS_BACK.fullmatch(each.words))
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
    """The text in the arguments of a tool call that stores something."""
    given = _arguments(arguments)
    found = given.get("content") or given.get("value")
    return found if isinstance(found, str) and len(found) > 2 else ""


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        given = json.loads(text or "{}")
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}
