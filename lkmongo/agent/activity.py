"""What the agent does, told to the caller's own client while it happens: its tools at work, and what is learned.

As text streams of JSON, under `ACTIVITY` and `MEMORY`, to the participant who is served alone; a telephone gets none. A
turn never waits for it, and nothing of it can fail a turn: what cannot be sent soon is left out.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.consent import CONSENT_TOOLS
from lkmongo.agent.dialled import is_telephone
from lkmongo.confidential import WITHHELD, holds_secret
from lkmongo.errors import InvalidTextError
from lkmongo.model import Fact, Profile, profile_words, slot_name, slot_words
from lkmongo.outbox.operations import Change, Forget, Operation, Remember, SetProfile
from lkmongo.store.people.person import memory_line, profile_line

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.agents import AgentSession, ConversationItemAddedEvent, ToolExecutionUpdatedEvent

    from lkmongo.agent.caller_session import CallerSession

logger = logging.getLogger(__name__)

_TOPIC = "lkmongo.%s"
ACTIVITY, MEMORY = _TOPIC % "activity", _TOPIC % "memory"
"""Topics; none is the name of a module, for which the whole text would be taken."""
MOST_WAITING = 50
"""Messages that wait to be sent; of more, the oldest are left out."""
_LABEL = 80
"""Characters of a label."""

Message = dict[str, Any]


def label_of(tool: str, arguments: object) -> str:
    """What a tool is about, in words such as "order 1001"; "" if that is not known, or holds a secret.

    Args:
        tool: its name; of one that is not lkmongo's, its words are all that is told, as arguments may mean anything.
        arguments: as the model gave them, in JSON.
    """
    if tool not in _ARGUMENTS:
        return _BY_ITSELF.get(tool) or _shortened(slot_words(tool))
    try:
        given = json.loads(arguments) if isinstance(arguments, str) and arguments else {}
    except (ValueError, RecursionError):
        return ""
    value = given.get(_ARGUMENTS[tool]) if isinstance(given, dict) else None
    if not isinstance(value, str | int):
        return _BY_ITSELF.get(tool, "")
    if holds_secret(text := " ".join(str(value).split())):
        return ""
    try:
        return _shortened(_WORDS[tool](text) if tool in _WORDS else text)
    except InvalidTextError:
        return ""


def _shortened(words: str) -> str:
    return words if len(words) <= _LABEL else f"{words[: _LABEL - 1].rstrip()}\u2026"


_ARGUMENTS: Mapping[str, str] = {
    "lookup_order": "order_id",
    "search_knowledge": "query",
    "search_memories": "query",
    "search_past_calls": "query",
    "remember_detail": "memory_type",
    "recall_detail": "memory_type",
    "forget_detail": "memory_type",
    "update_profile": "field",
}
_BY_ITSELF: Mapping[str, str] = {"lookup_order": "the latest orders", "list_user_memories": "all that is remembered"}
"""What a tool without an argument is about."""


def _slot(text: str) -> str:
    return slot_words(slot_name(text))


_WORDS: Mapping[str, Callable[[str], str]] = {
    "lookup_order": lambda text: f"order {text.lstrip('#').strip()}",
    "remember_detail": _slot,
    "recall_detail": _slot,
    "forget_detail": _slot,
    "update_profile": profile_words,
}


class Activity:
    """Tells one caller's client."""

    def __init__(
        self, caller: CallerSession, session: AgentSession[Any], room: rtc.Room, served: Callable[[], str | None]
    ) -> None:
        """Tell of what happens from now on, until the AgentSession closes.

        Args:
            caller: the session, attached to `session`.
            session: whose tools are at work.
            room: where the caller is.
            served: the identity of the participant who is served.
        """
        self._caller = caller.caller
        self._session = session
        self._room = room
        self._served = served
        self._waiting: deque[tuple[str, Message]] = deque(maxlen=MOST_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._tools: dict[str, dict[str, str]] = {}
        self._known: tuple[dict[str, Fact], Profile] = ({}, self._caller.profile)
        self._told: dict[tuple[str, str], str] = {}
        self._closed = False
        self._stating: asyncio.Task[None] | None = None
        room.on("reconnected", self._on_reconnected)
        session.on("tool_execution_updated", self._on_tool)
        session.on("conversation_item_added", self._on_item)
        session.on("close", self._on_close)
        self._caller.outbox.on_stored(self._on_stored)

    def _on_reconnected(self) -> None:
        if not self._closed:
            self._stating = asyncio.create_task(self._state_again())

    async def _state_again(self) -> None:
        """Say what the agent does: a server that has restarted does not know, and the SDK tells changes only."""
        from livekit.agents.types import ATTRIBUTE_AGENT_STATE

        try:
            await self._room.local_participant.set_attributes({ATTRIBUTE_AGENT_STATE: self._session.agent_state})
        except Exception as error:  # noqa: BLE001 - the connection may be lost again, in many ways
            logger.info("the caller's client could not be told what the agent does: %s", error)

    def _on_tool(self, event: ToolExecutionUpdatedEvent) -> None:
        try:
            self._tell_of_tool(event.update)
        except Exception:
            logger.exception("the caller's client could not be told of a tool")

    def _tell_of_tool(self, update: Any) -> None:
        if update.type == "tool_call_started":
            call, gate = update.function_call, self._caller.gate
            # What it is about is not theirs to see; or it notes what they answered, which a page shows by itself.
            if gate.level < gate.needs.tool(call.name) or call.name in CONSENT_TOOLS:
                return
            about = self._tools[call.call_id] = {"tool": call.name, "label": label_of(call.name, call.arguments)}
            self._tell(ACTIVITY, about | {"state": "started"})
        elif update.type == "tool_call_ended" and (about := self._tools.pop(update.call_id, {})):
            self._tell(ACTIVITY, about | {"state": "done" if update.status == "done" else "failed"})

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        """Note what is known before the turn changes it, unless a change is still on its way."""
        item = event.item
        if item.type == "message" and item.role == "user" and not self._caller.outbox.pending("memory"):
            self._known, self._told = (self._caller.slots, self._caller.profile), {}

    def _on_stored(self, operation: Operation) -> None:
        """MongoDB has a change of what is remembered of the caller."""
        try:
            if isinstance(operation, Change) and (message := self._change(operation)):
                self._tell(MEMORY, message)
        except Exception:
            logger.exception("the caller's client could not be told of what is learned")

    def _change(self, operation: Change) -> Message | None:
        """What to tell of a change; None if it is none for the caller."""
        slots, profile = self._known
        match operation:
            case Remember(label=label, content=content):
                line = memory_line(Fact(label, content).told)
                before = slots[label].content if label in slots else None
            case SetProfile(field=field, value=value):
                line = profile_line(field, value)
                before = profile.values.get(field)
            case Forget(label=label):
                line, before = memory_line(Fact(label, "")), None
            case _:
                return None
        key = line.kind, line.name
        before = self._told.get(key, before)
        is_gone = isinstance(operation, Forget)
        if line.content == WITHHELD or (before == line.content and not is_gone):
            return None
        self._told[key] = line.content
        return {
            "kind": line.kind,
            "name": line.name,
            "label": line.label,
            "content": None if is_gone else line.content,
            "at": operation.at.isoformat(),
            "change": "forgotten" if is_gone else "changed" if before else "learned",
        }

    def _tell(self, topic: str, message: Message) -> None:
        if self._closed or self._caller.phone or self._listener() is None:
            return
        self._waiting.append((topic, message))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    def _listener(self) -> str | None:
        """The identity of the participant who is told; None if nobody is, as nobody is there, or by telephone."""
        identity = self._served()
        participant = self._room.remote_participants.get(identity) if identity else None
        return None if participant is None or is_telephone(participant) else identity

    async def _send(self) -> None:
        while self._waiting:
            topic, message = self._waiting.popleft()
            if (identity := self._listener()) is None:
                continue
            try:
                async with asyncio.timeout(deadlines.ACTIVITY):
                    await self._room.local_participant.send_text(
                        json.dumps(message, ensure_ascii=False), destination_identities=[identity], topic=topic
                    )
            except Exception as error:  # noqa: BLE001 - it is told of a turn, and is no part of it
                logger.info("the caller's client was not told what the agent does: %r", error)

    def _on_close(self, _: object) -> None:
        self._closed = True
        self._waiting.clear()
        if self._sending:
            self._sending.cancel()
