"""From the database into a call's memory: the slots, their vectors, and texts that were too much to load at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lkmongo import deadlines
from lkmongo.agent.slots import Slots
from lkmongo.aio import aside
from lkmongo.backoff import retry_pause
from lkmongo.dates import zone_of
from lkmongo.errors import DatabaseUnavailableError, LkmongoError
from lkmongo.model import Fact, Profile, UserScope, now
from lkmongo.outbox.outbox import Outbox
from lkmongo.search.past_calls import past_calls
from lkmongo.store.open import Store
from lkmongo.store.people.admission import NotAdmittedError
from lkmongo.summary import PastCall

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
    profile: Profile

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
        self.error: LkmongoError | None = None
        """Why the caller is not loaded yet; None while nothing has failed."""
        self.closing = False
        """Whether nothing is tried again."""

    async def until_loaded(self, load: Callable[[], Awaitable[None]]) -> None:
        """Run `load` until it succeeds, with growing pauses."""
        attempt = 0
        while not self._caller.guest:
            try:
                try:
                    async with asyncio.timeout(deadlines.LOAD_ATTEMPT):
                        await load()
                except TimeoutError as error:
                    raise DatabaseUnavailableError(why="it does not answer") from error
                self._store.breaker.answered()
            except NotAdmittedError as error:
                self._outbox.lease.not_admitted(error)
                return
            except LkmongoError as error:
                if self.error is None:
                    logger.info("the caller's memory is not loaded yet: %s (%s)", error.message, error.why)
                self.error = error
                if self.closing:
                    return
                attempt += 1
                await asyncio.sleep(retry_pause(attempt))
            else:
                self.error = None
                return

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

    async def past_calls(
        self, query: str, *, since: datetime | None, until: datetime | None, without: str
    ) -> list[PastCall]:
        """The three earlier calls that match best: see `search.past_calls`. Raises DatabaseError."""
        whose = self._store.summaries, self._caller.scope, query, self._embedder
        today = now().astimezone(zone_of(self._caller.profile.timezone))
        found = await past_calls(*whose, today=today, since=since, until=until, limit=3, without=without)
        if found.degraded:
            logger.info("past calls: %s", found.degraded)
        return found.calls


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
