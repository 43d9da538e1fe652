"""What a caller types in a room: answered in the order in which it was sent, one message at a time, none dropped.

The SDK's default answers each message as it arrives: one that follows another quickly overtakes it while that one waits
for an interruption, or makes the SDK drop its pending answer. And the SDK reads each message in a task of its own, so
that messages sent within a few milliseconds arrive in any order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import insort
from operator import attrgetter
from typing import Any, NamedTuple

from livekit.agents import AgentSession
from livekit.agents.voice.room_io import TextInputEvent

from lkmongo import deadlines
from lkmongo.model import MAX_CONTENT, clean_text

logger = logging.getLogger(__name__)

MAX_WAITING = 50
"""Messages that may wait for their answers; more are refused, and the caller is told."""
TOO_LONG = "That is too long for me. Please tell me in parts."
"""The answer to typed text that exceeds the limit of an utterance."""
TOO_MANY = "That is too much at once: please write the rest again when I have caught up."
"""The answer to the first message that is refused; those behind it get none of their own."""


class _Message(NamedTuple):
    sent_at: int
    """By the caller's clock, in milliseconds."""
    arrived_at: float
    """By the event loop's."""
    text: str


class TypedText:
    """The queue of one caller's typed messages; an SDK's `text_input_cb`."""

    def __init__(self) -> None:
        self._waiting: list[_Message] = []
        """In the order in which they were sent."""
        self._answering: asyncio.Task[None] | None = None
        self._refused = False

    def __call__(self, session: AgentSession[Any], event: TextInputEvent) -> None:
        """Queue a message. It interrupts what the agent is saying aloud, unless others are waiting before it."""
        if not event.text.strip():
            return
        if len(self._waiting) >= MAX_WAITING:
            self._refused = True
            return
        if not self._waiting and session.agent_state == "speaking" and session.output.audio is not None:
            _interrupt(session)
        sent_at = event.info.timestamp if event.info else int(time.time() * 1_000)
        message = _Message(sent_at, asyncio.get_running_loop().time(), event.text)
        insort(self._waiting, message, key=attrgetter("sent_at"))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all(session))

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
                    text = self._waiting.pop(0).text
                    if len(text) > MAX_CONTENT:
                        answer = session.say(TOO_LONG)
                    else:
                        answer = session.generate_reply(user_input=clean_text(text))
                else:
                    self._refused = False
                    answer = session.say(TOO_MANY)
                await answer.wait_for_playout()
        except RuntimeError as error:  # what the SDK raises when the session has closed
            logger.info("%d typed messages were not answered: %s", len(self._waiting) + 1, error)


def _interrupt(session: AgentSession[Any]) -> None:
    try:
        session.interrupt()
    except RuntimeError:
        logger.debug("the agent cannot be interrupted; it answers afterwards")
