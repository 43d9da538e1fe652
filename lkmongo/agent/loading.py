"""From the database into a call's memory: the slots, their vectors, and texts that were too much to load at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lkmongo.agent.slots import Slots
from lkmongo.aio import aside
from lkmongo.errors import LkmongoError
from lkmongo.model import Fact, Profile, UserScope
from lkmongo.outbox.outbox import Outbox
from lkmongo.store.open import Store

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

MOST_EMBEDDED = 500
"""Slots for which a call makes the vectors that are missing; `lkmongo db embed` makes the others."""
_TOGETHER, _TOGETHER_CHARACTERS = 32, 20_000
"""Slots that are embedded in one request, and their characters."""


class Whose(Protocol):
    """What is asked of a `Caller`."""

    scope: UserScope
    guest: bool

    @property
    def for_this_call(self) -> bool: ...


class Loading:
    """What a call reads of its caller's slots."""

    def __init__(self, caller: Whose, store: Store, embedder: Embedder, outbox: Outbox, slots: Slots) -> None:
        self._caller = caller
        self._store = store
        self._embedder = embedder
        self._outbox = outbox
        self._slots = slots

    async def known(self, scope: UserScope) -> tuple[list[Fact], Profile | None]:
        """The slots and the profile, read side by side."""
        while True:
            before = self._outbox.stored_count
            # The slots first: there may be many of them, and the profile arrives before the last one.
            profile = self._store.users.get_admitted(scope, self._outbox.lease.admission)
            read = await asyncio.gather(self._store.memories.contents(scope), profile)
            if self._outbox.stored_count == before:  # else it may lack a change stored meanwhile
                return read

    async def vectors(self) -> None:
        """Load the slots' vectors, and embed slots that have none."""
        if self._caller.guest:
            return
        scope = self._caller.scope
        stored = await self._store.memories.vectors(scope, self._embedder.model)
        missing = await self._slots.add_vectors(stored)
        await self.embed([each for each in missing if not each.is_unread][:MOST_EMBEDDED])

    async def embed(self, memories: Sequence[Fact]) -> None:
        """Make the vectors of slots, and store them unless they are a guest's."""
        for some in _few(memories):
            texts = await aside(sum(len(each.content) for each in some), partial(_texts, some))
            for memory, vector in zip(some, await self._embedder.embed(texts, kind="document"), strict=True):
                self._slots.add_vector(memory, vector)
                if not self._caller.for_this_call:
                    await self._store.memories.set_vector(self._caller.scope, memory, vector, self._embedder.model)

    async def whole(self, memories: Sequence[Fact]) -> list[Fact]:
        """The slots with their texts, those that were not loaded read now; one that cannot be is left out."""
        return [each for each in await asyncio.gather(*map(self._whole, memories)) if each]

    async def _whole(self, memory: Fact) -> Fact | None:
        if not memory.is_unread:
            return memory
        scope = self._caller.scope
        try:
            found = await self._store.breaker.read(lambda: self._store.memories.text(scope, memory))
        except LkmongoError as error:
            logger.info("a memory of which only the label is loaded could not be read: %s (%s)", error, error.why)
            return None
        if found:
            self._slots.fill(found)
        return found


def _texts(memories: Sequence[Fact]) -> list[str]:
    return [each.embedded_text for each in memories]


def _few(memories: Sequence[Fact]) -> Iterator[list[Fact]]:
    """The slots in parts that are embedded together."""
    part: list[Fact] = []
    for each in memories:
        if part and (len(part) == _TOGETHER or sum(len(m.content) for m in part) > _TOGETHER_CHARACTERS):
            yield part
            part = []
        part.append(each)
    if part:
        yield part
