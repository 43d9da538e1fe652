"""Which slots the caller is talking about, by words and by meaning: those that the briefing puts first.

The vector of what was said is made while the turn ends, and never waited for longer than a moment: without it words
alone decide, and the next request of the turn has it. What the turn before was about stays for one more turn.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.aio import Background, Task
from lkmongo.errors import LkmongoError
from lkmongo.model import Fact

if TYPE_CHECKING:
    from lkmongo.agent.slots import Slots
    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

MOST = 80
"""Slots that are ranked: more than a briefing holds."""
_BEST, _FROM_BEFORE = 16, 8
"""After how many slots those of the turn before come, and how many of these."""


class Attention:
    """What one caller said last, and the slots it is about."""

    def __init__(self, slots: Slots, embedder: Embedder, background: Background) -> None:
        """Attend to nothing yet; `background` runs, and cancels, the embedding."""
        self._slots = slots
        self._embedder = embedder
        self._background = background
        self._embedding: tuple[str, Task] | None = None
        self._vector: tuple[str, Any] | None = None
        self.words = ""
        """What was attended to last."""
        self._ranked: tuple[object, list[str]] = None, []
        self._before: list[str] = []

    def expect(self, words: str) -> None:
        """Begin to embed what is probably said, or was."""
        if words and (self._embedding is None or self._embedding[0] != words):
            self._embedding = words, self._background.begin(self._embed(words))

    async def _embed(self, words: str) -> None:
        try:
            (vector,) = await self._embedder.embed([words], kind="query", deadline=deadlines.QUERY_EMBEDDING)
        except LkmongoError as error:
            logger.debug("the briefing is chosen by words alone: %s", error.message)
        else:
            self._vector = words, vector

    async def attend(self, words: str) -> None:
        """Rank the slots for what was said last; waits for its vector only briefly."""
        self.expect(words)
        if self._embedding and not self._embedding[1].done():
            await asyncio.wait({self._embedding[1]}, timeout=deadlines.BRIEFING_VECTOR)
        vector = self._vector[1] if self._vector and self._vector[0] == words else None
        state = words, vector is not None, self._slots.version
        if state == self._ranked[0]:
            return
        if words != self.words:
            self._before, self.words = self._ranked[1][:_FROM_BEFORE], words
        self._ranked = state, [slot.memory_type for slot in await self._slots.ranked(words, vector, MOST)]

    def relevant(self, words: str) -> list[Fact]:
        """The slots that `words` are about, best first; by words alone unless `attend` was awaited for them."""
        if not words or words != self.words:
            return self._slots.relevant(words, MOST)
        now = self._ranked[1]
        ranked = dict.fromkeys([*now[:_BEST], *self._before, *now[_BEST:]])
        return [slot for name in ranked if (slot := self._slots.all.get(name))]

    def clear(self) -> None:
        """Forget what was said."""
        self._embedding = self._vector = None
        self.words, self._ranked, self._before = "", (None, []), []
