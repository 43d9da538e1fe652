"""What a caller types, in a room or on a keypad: answered in the order in which it was sent, one by one, none dropped.

The SDK's default answers each message as it arrives: one that follows another quickly overtakes it while that one waits
for an interruption, or makes the SDK drop its pending answer. It drops what arrives before the room lists who sent it,
as it may after a reconnection. And each message is read in a task of its own, so that messages sent within a few
milliseconds arrive in any order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import insort
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from lkmongo import deadlines
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.recorder import Recorder
from lkmongo.model import MAX_CONTENT, clean_text

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.agents import AgentSession, ConversationItemAddedEvent

logger = logging.getLogger(__name__)

MAX_WAITING = 50
"""Messages that may wait for their answers; more are refused, and the caller is told."""
TOO_LONG = "That is too long for me. Please tell me in parts."
"""The answer to typed text that exceeds the limit of an utterance."""
TOO_MANY = "That is too much at once: please write the rest again in a minute."
"""The answer to the first message that is refused; those behind it get none of their own until one is let in again."""


class _Message(NamedTuple):
    sent_at: int
    """By the caller's clock, in milliseconds."""
    arrived_at: float
    """By the event loop's."""
    text: str


class TypedText:
    """The queue of one caller's typed messages."""

    def __init__(self) -> None:
        self._waiting: list[_Message] = []
        """In the order in which they were sent."""
        self._unsaid: str | None = None
        """What is about to be answered, until it is part of the conversation."""
        self._reading: set[asyncio.Task[None]] = set()
        self._answering: asyncio.Task[None] | None = None
        self._refused = self._told = self._closed = False
        self._caller: CallerSession | None = None

    def listen(self, room: rtc.Room, session: AgentSession[Any], identity: Callable[[], str | None]) -> None:
        """Queue from now on what is typed in the room, in place of the SDK, whose `text_input` is to be off.

        A message interrupts what the agent is saying aloud, unless others are waiting before it.

        Args:
            room: as the agent sees it; clients may type as soon as it is there.
            session: what answers, when it has started.
            identity: the participant who is served; while it is None, everybody is read.
        """
        from livekit.agents.types import TOPIC_CHAT
        from livekit.rtc.data_stream import StreamError

        def take(reader: rtc.TextStreamReader, who: str) -> None:
            if identity() in {None, who}:
                task = asyncio.create_task(read(reader, who))
                self._reading.add(task)
                task.add_done_callback(self._reading.discard)

        async def read(reader: rtc.TextStreamReader, who: str) -> None:
            try:
                text = await reader.read_all()
            except StreamError as error:
                logger.info("a typed message did not arrive whole: %s", error)
                return
            if session.agent_state == "initializing":
                started = asyncio.Event()
                session.once("agent_state_changed", lambda _: started.set())
                await started.wait()
            if text.strip() and identity() in {None, who}:  # which is known by now
                self._add(session, text, reader.info.timestamp)

        room.register_text_stream_handler(TOPIC_CHAT, take)

    def say(self, session: AgentSession[Any], text: str) -> None:
        """Queue what the caller told otherwise than by typing or speaking, such as by pressing keys."""
        self._add(session, text, None)

    def _add(self, session: AgentSession[Any], text: str, sent_at: int | None) -> None:
        caller = self.begin(session)
        if self._closed:
            _note(caller.recorder, text)
            return
        allowance = caller.caller.allowance
        if not (allowance.refuse() if len(self._waiting) >= MAX_WAITING else allowance.admit()):
            self._refused = not self._told
        else:
            self._told = False
            if not self._waiting and session.agent_state == "speaking" and session.output.audio is not None:
                _interrupt(session)
            sent_at = int(time.time() * 1_000) if sent_at is None else sent_at
            message = _Message(sent_at, asyncio.get_running_loop().time(), text)
            insort(self._waiting, message, key=attrgetter("sent_at"))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all(session))

    def begin(self, session: AgentSession[Any]) -> CallerSession:
        """Record what is not answered when this session closes; the first message does it, too."""
        if self._caller is None:
            caller = self._caller = CallerSession.of(session)
            session.on("conversation_item_added", self._on_item)
            session.on("close", lambda _: self._record(caller.recorder))
        return self._caller

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if event.item.type == "message" and event.item.role == "user":
            self._unsaid = None

    def _record(self, recorder: Recorder) -> None:
        """Record what was let in and is not answered any more."""
        left = [*([self._unsaid] if self._unsaid else []), *(message.text for message in self._waiting)]
        self._waiting.clear()
        self._closed = True
        for text in left:
            _note(recorder, text)
        if left:
            logger.info("%d typed messages were not answered: the session has closed", len(left))

    async def _answer_all(self, session: AgentSession[Any]) -> None:
        try:
            while self._waiting or self._refused:
                if self._waiting:
                    there_for = asyncio.get_running_loop().time() - self._waiting[0].arrived_at
                    await asyncio.sleep(max(0.0, deadlines.TYPED_ORDER - there_for))
                # A model that is asked before the last tool has returned does not see what was just said.
                while speech := session.current_speech:
                    await speech.wait_for_playout()
                    await asyncio.sleep(0)  # the SDK puts the next speech, or none, in its place
                if self._waiting:
                    text, arrived_at = self._waiting[0].text, self._waiting[0].arrived_at
                    if len(text) > MAX_CONTENT:
                        self.begin(session).caller.allowance.passed_over()
                        answer = session.say(TOO_LONG)
                    else:
                        there_for = asyncio.get_running_loop().time() - arrived_at
                        self.begin(session).recorder.typed(clean_text(text), time.time() - there_for)
                        answer = session.generate_reply(user_input=clean_text(text))
                        self._unsaid = text
                    del self._waiting[0]
                else:
                    self._refused, self._told = False, True
                    answer = session.say(TOO_MANY)
                await answer.wait_for_playout()
        except RuntimeError:
            logger.debug("the session is closing: it answers no more")


def _note(recorder: Recorder, text: str) -> None:
    from livekit.agents.llm import ChatMessage

    recorder.note(ChatMessage(role="user", content=[clean_text(text)[:MAX_CONTENT]]))


def _interrupt(session: AgentSession[Any]) -> None:
    try:
        session.interrupt()
    except RuntimeError:
        logger.debug("the agent cannot be interrupted; it answers afterwards")
