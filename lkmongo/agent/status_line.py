"""Status lines: a short phrase spoken when a search takes long, cancelled if the result arrives before its audio.

It needs no model call and is in no history: it says nothing that the model or the next session should know. In text
nothing is said. The phrases are in `phrases.toml`, which also serves `speculation`.
"""

from __future__ import annotations

import logging
import random
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.search.words import fold, stem, words

if TYPE_CHECKING:
    from livekit.agents import AgentSession, RunContext, SpeechHandle

logger = logging.getLogger(__name__)

DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Language:
    """The phrases of one language; see the head of `phrases.toml`."""

    names: tuple[str, ...]
    wait: tuple[str, ...]
    polite: tuple[str, ...]
    telling: tuple[str, ...]
    pin: str
    new_pin: str
    pin_again: str


@cache
def languages() -> dict[str, Language]:
    """All languages of `phrases.toml` by their two-letter codes."""
    table = tomllib.loads(files("lkmongo.agent").joinpath("phrases.toml").read_text(encoding="utf-8"))
    return {code: _language(**entry) for code, entry in table.items()}


def _language(pin: str, new_pin: str, pin_again: str, **lists: list[str]) -> Language:
    return Language(
        pin=pin, new_pin=new_pin, pin_again=pin_again, **{name: tuple(said) for name, said in lists.items()}
    )


def language_code(preferred: str | None) -> str:
    """The two-letter code of a profile's language, such as "Deutsch" or "de-AT"; English if it is unknown."""
    text = " ".join((preferred or "").casefold().split())
    tag = re.match(r"([a-z]{2})(?:[-_]|$)", text)
    if tag and tag[1] in languages():
        return tag[1]
    first = re.split(r"[,;/(]", text)[0].strip()
    return next((code for code, each in languages().items() if first in each.names), DEFAULT)


@cache
def polite_stems() -> frozenset[str]:
    """The stems of courtesies, which ask for nothing, in all languages."""
    return frozenset(stem(word) for each in languages().values() for said in each.polite for word in words(said))


@cache
def statement_opening() -> re.Pattern[str]:
    """Matches the beginning of a folded sentence that states something instead of asking."""
    openings = {fold(said) for each in languages().values() for said in each.telling}
    return re.compile(rf"(?:{'|'.join(re.escape(each) for each in sorted(openings, key=len, reverse=True))})\b")


class StatusLines:
    """The status lines of one session, in random order, without repetition until all have been used."""

    def __init__(self) -> None:
        self._left: list[str] = []
        self._last = ""

    def next(self, preferred_language: str | None) -> str:
        """The next line, in the caller's language if it is supported."""
        lines = languages()[language_code(preferred_language)].wait
        if not set(self._left) <= set(lines):
            self._left = []  # the language has changed
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
    """Say a line if the block takes longer than `deadlines.STATUS_LINE`; cancel it if it is not audible by the end."""
    session = context.session
    if not has_audio_output(session):
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
        async with context.with_filler(speak, delay=deadlines.STATUS_LINE):
            yield
    finally:
        for handle in said:
            if not (session.current_speech is handle and session.agent_state == "speaking"):
                handle.interrupt(force=True)


def has_audio_output(session: AgentSession[Any]) -> bool:
    """Whether a line can be spoken: in text it would only stand in the way.

    A realtime model that speaks itself would put it into the history.
    """
    from livekit.agents.utils import is_given

    agent = session.current_agent
    tts = agent.tts if is_given(agent.tts) else session.tts
    return tts is not None and session.output.audio is not None and session.output.audio_enabled
