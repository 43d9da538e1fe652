"""What the caller hears when a search takes long: a short line, withdrawn when the answer comes before its sound does.

It costs no call of the model and stands in no history: it says nothing that the model or the next call should know.
Where nothing is heard, in text, nothing is said.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lkmongo.agent.phrases import language_code, languages

if TYPE_CHECKING:
    from livekit.agents import AgentSession, RunContext, SpeechHandle

logger = logging.getLogger(__name__)

DELAY = 0.5
"""Seconds of silence before the line is spoken."""


class StatusLines:
    """The lines of one call: in any order, and none twice before all had their turn."""

    def __init__(self) -> None:
        """Begin with whichever line."""
        self._left: list[str] = []
        self._last = ""

    def next(self, preferred_language: str | None) -> str:
        """The line to say, in the caller's language where the table has it."""
        lines = languages()[language_code(preferred_language)].wait
        if not set(self._left) <= set(lines):
            self._left = []  # the language is another one now
        if not self._left:
            self._left = random.sample(lines, len(lines))
            if self._left[-1] == self._last:
                self._left.reverse()
        self._last = self._left.pop()
        return self._last


@asynccontextmanager
async def status_line(
    context: RunContext[Any], lines: StatusLines, preferred_language: str | None
) -> AsyncIterator[None]:
    """Say a line when the work inside takes longer than `DELAY`; take it back if it is not heard yet at the end."""
    session = context.session
    if not is_heard(session):
        yield
        return
    said: list[SpeechHandle] = []

    def speak(_step: int) -> SpeechHandle | None:
        try:
            handle = session.say(lines.next(preferred_language), add_to_chat_ctx=False)
        except RuntimeError as error:  # the session is closing
            logger.debug("no status line: %s", error)
            return None
        said.append(handle)
        return handle

    try:
        async with context.with_filler(speak, delay=DELAY):
            yield
    finally:
        for handle in said:
            if not (session.current_speech is handle and session.agent_state == "speaking"):
                handle.interrupt(force=True)


def is_heard(session: AgentSession[Any]) -> bool:
    """Whether the session speaks: in text a line would only stand in the way."""
    return session.output.audio is not None and session.output.audio_enabled
