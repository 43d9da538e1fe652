"""A person's memory slots in memory: looked up by label, searched by words and by meaning, without the database."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Collection, Mapping
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.status_line import language_code
from lkmongo.aio import aside
from lkmongo.embed.base import EmbeddingTimeoutError
from lkmongo.errors import InvalidTextError, LkmongoError
from lkmongo.model import MAX_CONTENT, Fact, slot_name
from lkmongo.search.exact import ExactIndex, Tokenizer
from lkmongo.search.strategy import memory_index
from lkmongo.store.people.memories import bytes_of

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

_MANY, _MUCH = 500, 50_000
"""Slots, or characters of them, from which they are indexed and searched in a thread."""
_VECTORS_AT_ONCE = 500
_NEAR_LABEL = 82
"""Similarity, of 100, from which two labels count as spellings of the same one."""


_SPELLINGS = (
    (re.compile("(?<=[lvbn])our"), "or"),
    (re.compile(r"centre\b"), "center"),
    (re.compile("grey"), "gray"),
)


@functools.lru_cache(20_000)  # a new label is compared with each that there is
def _american(name: str) -> str:
    """A label in American spelling, for comparison."""
    for spelling, american in _SPELLINGS:
        name = spelling.sub(american, name)
    return name


def existing_label(name: str, known: Collection[str]) -> str:
    """The known label that differs from `name` in British or American spelling only; else `name`."""
    if name in known:
        return name
    american_name = _american(name)
    return next((other for other in known if _american(other) == american_name), name)


class Slots:
    """The slots of one person, newest first, with the vectors available so far."""

    def __init__(self, embedder: Embedder) -> None:
        self.all: dict[str, Fact] = {}
        self.characters = 0
        """Of all labels and texts; a text that is not loaded counts as the longest."""
        self._embedder = embedder
        self._vectors: dict[str, Any] = {}
        self._index: ExactIndex[str] | None = None
        self.version = 0
        """Increases with every change of the slots and their vectors."""
        self._building = asyncio.Lock()
        self._tokenizer = Tokenizer()
        self._language: str | None = None
        self._last_error: str | None = None

    @property
    def bytes(self) -> int:
        """Of all labels and texts in UTF-8, those that are not loaded as in `characters`."""
        return sum(map(bytes_of, self.all.values()))

    def speak(self, preferred_language: str | None) -> None:
        """Take the slots to be in the profile's language unless they say otherwise themselves."""
        language = language_code(preferred_language) if preferred_language else None
        if language != self._language:
            self._language = language
            self._changed()

    def replace_all(self, slots: dict[str, Fact]) -> None:
        """Replace all slots; vectors are kept."""
        self.all = slots
        self.characters = sum(map(characters_of, slots.values()))
        self._changed()

    def put(self, memory: Fact) -> None:
        """Write a slot, and discard its old vector."""
        name = memory.memory_type
        old = self.all.get(name)
        self.characters += characters_of(memory) - (characters_of(old) if old else 0)
        self.all = {name: memory} | {other: slot for other, slot in self.all.items() if other != name}
        self._vectors.pop(name, None)
        self._changed()

    def pop(self, name: str) -> None:
        """Delete a slot if it exists."""
        if old := self.all.pop(name, None):
            self.characters -= characters_of(old)
        self._vectors.pop(name, None)
        self._changed()

    def clear_vectors(self) -> None:
        """Discard the vectors."""
        self._vectors = {}

    def clear(self) -> None:
        """Discard everything, including the tokenizer's cache of words."""
        self.replace_all({})
        self.clear_vectors()
        self._tokenizer = Tokenizer()

    def fill(self, memory: Fact) -> None:
        """Add the text of a slot that was loaded without, unless it has changed since."""
        known = self.all.get(memory.memory_type)
        if known and known.is_unread and known.updated_at == memory.updated_at:
            self.characters += characters_of(memory) - characters_of(known)
            self.all[memory.memory_type] = memory
            self._changed()

    async def add_vectors(self, stored: Mapping[str, tuple[datetime | None, Any]]) -> list[Fact]:
        """Add stored vectors of slots that have not changed since; returns the slots without a vector."""
        from lkmongo.embed.vectors import from_bson

        entries = iter(stored.items())
        while some := list(islice(entries, _VECTORS_AT_ONCE)):
            for name, (updated_at, value) in some:
                memory = self.all.get(name)
                if memory and memory.updated_at == updated_at:
                    self._vectors[name] = from_bson(value, self._embedder.dimensions)
            await asyncio.sleep(0)
        self._vectors = {name: vector for name, vector in self._vectors.items() if name in self.all}
        self._changed()
        return [memory for name, memory in self.all.items() if self._vectors.get(name) is None]

    def add_vector(self, memory: Fact, vector: Any) -> None:
        """Add a new vector unless its slot has changed since."""
        known = self.all.get(memory.memory_type)
        if known and (known.content, known.updated_at) == (memory.content, memory.updated_at):
            self._vectors[memory.memory_type] = vector
            self._changed()

    def recall(self, label: str) -> Fact | None:
        """The slot with this label or another spelling of it.

        Raises:
            InvalidTextError: the label is invalid.
        """
        from rapidfuzz import fuzz, process

        name = slot_name(label)
        if name in self.all:
            return self.all[name]
        closest = process.extractOne(name, list(self.all), scorer=fuzz.ratio, score_cutoff=_NEAR_LABEL)
        return self.all[closest[0]] if closest else None

    async def search(self, query: str, limit: int, *, vector_of: str | None = None) -> list[Fact]:
        """The slots that match the query best, by words and by meaning.

        Args:
            query: what to search for.
            limit: maximum number of slots.
            vector_of: a similar query whose vector is already being made, to use instead of a new one.
        """
        if not self.all:
            return []
        embedder, vector = self._embedder, None
        exact = self._exact_label(query)
        if self._vectors and exact is None:  # a query that is a label needs no vector
            try:
                async with asyncio.timeout(deadlines.MEMORY_QUERY_EMBEDDING):
                    (vector,) = await embedder.embed(
                        [vector_of or query], kind="query", deadline=deadlines.MEMORY_QUERY_EMBEDDING
                    )
            except (EmbeddingTimeoutError, TimeoutError):
                logger.info(
                    "searching memories by words alone: no vector within %g s", deadlines.MEMORY_QUERY_EMBEDDING
                )
            except LkmongoError as error:
                reason = f"{error.message} ({error.why})"
                if reason != self._last_error:  # log each cause once while it lasts
                    logger.warning("searching memories by words alone: %s", reason)
                self._last_error = reason
            else:
                self._last_error = None
        index = await self._index_aside()
        search = functools.partial(index.search, query, vector, limit, weights=embedder.weights, floor=embedder.floor)
        hits = await asyncio.to_thread(search) if self._is_large else search()
        found = dict.fromkeys(([exact] if exact else []) + [hit.key for hit in hits])
        return [self.all[name] for name in found if name in self.all][:limit]

    def _exact_label(self, query: str) -> str | None:
        """The label that the query is, if any."""
        try:
            name = slot_name(query)
        except InvalidTextError:
            return None
        return name if name in self.all else None

    def relevant(self, text: str, limit: int) -> list[Fact]:
        """The slots that share words with `text`, best first; none of very many that `ranked` was not awaited for."""
        if not self.all or not text or (self._is_large and self._index is None):
            return []
        embedder = self._embedder
        hits = self._built_index().search(text, None, limit, weights=embedder.weights, floor=embedder.floor)
        return [self.all[hit.key] for hit in hits]

    async def ranked(self, text: str, vector: NDArray[np.float32] | None, limit: int) -> list[Fact]:
        """The slots that share words with `text` and those next to it in meaning, by turns, best first.

        One branch does not crowd out the other, since a briefing has room for many of both. With very many slots this
        takes long enough to be done in a thread.

        Args:
            text: what was said.
            vector: its vector, if there is one.
            limit: maximum number of slots.
        """
        if not self.all or not text:
            return []
        rank = functools.partial(self._by_turns, await self._index_aside(), text, vector, limit)
        names = await asyncio.to_thread(rank) if self._is_large else rank()
        return [self.all[name] for name in names if name in self.all]

    def _by_turns(self, index: ExactIndex[str], text: str, vector: NDArray[np.float32] | None, limit: int) -> list[str]:
        weights = self._embedder.weights
        worded = [hit.key for hit in index.search(text, None, limit, weights=weights, floor=self._embedder.floor)]
        near = (
            [hit.key for hit in index.search("", vector, limit, weights=weights, floor=-1.0)]
            if vector is not None
            else []
        )
        both = chain.from_iterable(zip_longest(worded, near))
        return list(dict.fromkeys(name for name in both if name is not None))[:limit]

    @property
    def _is_large(self) -> bool:
        return len(self.all) >= _MANY or self.characters >= _MUCH

    async def _index_aside(self) -> ExactIndex[str]:
        """As `_built_index`, without holding the event loop."""
        if not self._is_large:
            return self._built_index()
        async with self._building:
            version, index = self.version, self._index
            if index is None:
                index = await asyncio.to_thread(memory_index, *self._contents(), self._tokenizer, self._language)
                if version == self.version:
                    self._index = index
            return index

    def _built_index(self) -> ExactIndex[str]:
        if self._index is None:
            # A thread may be using the one with the cache.
            tokenizer = Tokenizer() if self._building.locked() else self._tokenizer
            self._index = memory_index(*self._contents(), tokenizer, self._language)
        return self._index

    def _contents(self) -> tuple[list[Fact], list[Any]]:
        """The slots and their vectors, as an index takes them."""
        memories = list(self.all.values())
        return memories, [self._vectors.get(memory.memory_type) for memory in memories]

    def _changed(self) -> None:
        self.version += 1
        self._index = None


def characters_of(memory: Fact) -> int:
    """The characters of a slot's label and text; of a text that is not loaded, the most that it may have."""
    return len(memory.memory_type) + (MAX_CONTENT if memory.is_unread else len(memory.content))


async def told_of(memories: list[Fact]) -> list[Fact]:
    """The slots as they may be told."""
    return await aside(sum(len(each.content) for each in memories), lambda: [each.told for each in memories])
