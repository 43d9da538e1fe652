"""What is remembered of a person, at hand in a call: found by its label, by words and by meaning, without the database."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.embed.base import EmbeddingTimeoutError
from lkmongo.errors import InvalidTextError, LkmongoError
from lkmongo.model import Memory, slot_name
from lkmongo.search.exact import ExactIndex, Tokenizer
from lkmongo.search.strategy import memory_index

if TYPE_CHECKING:
    from datetime import datetime

    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

_NEAR_LABEL = 82
"""Similarity, of 100, from which another label is taken to be the same in another spelling."""


_SPELLINGS = (
    (re.compile("(?<=[lvbn])our"), "or"),
    (re.compile(r"centre\b"), "center"),
    (re.compile("grey"), "gray"),
)


def _plain(name: str) -> str:
    """A label with American spelling, to compare."""
    for spelling, american in _SPELLINGS:
        name = spelling.sub(american, name)
    return name


class Slots:
    """The slots of one person, newest first, with the vectors that are there by now."""

    def __init__(self, embedder: Embedder) -> None:
        """Nothing is remembered."""
        self.all: dict[str, Memory] = {}
        self._embedder = embedder
        self._vectors: dict[str, Any] = {}
        self._index: ExactIndex[str] | None = None
        self._cutter = Tokenizer()
        self._trouble: str | None = None

    def take(self, slots: dict[str, Memory]) -> None:
        """Have these slots and no others; the vectors stay."""
        self.all = slots
        self._index = None

    def put(self, memory: Memory) -> None:
        """Write a slot; its vector is another one."""
        name = memory.memory_type
        self.all = {name: memory} | {other: slot for other, slot in self.all.items() if other != name}
        self._vectors.pop(name, None)
        self._index = None

    def pop(self, name: str) -> None:
        """Delete a slot, if it is there."""
        self.all.pop(name, None)
        self._vectors.pop(name, None)
        self._index = None

    def drop_vectors(self) -> None:
        """Forget the vectors: what was made for one person is nothing of another."""
        self._vectors = {}

    def drop(self) -> None:
        """Forget everything, what was made of the words included."""
        self.take({})
        self.drop_vectors()
        self._cutter = Tokenizer()

    # ------------------------------------------------------------------ vectors

    def take_vectors(self, stored: Mapping[str, tuple[datetime | None, Any]]) -> list[Memory]:
        """Take stored vectors, of slots that have not changed since; returns the slots that have none."""
        from lkmongo.embed.vectors import from_bson

        for name, (updated_at, value) in stored.items():
            memory = self.all.get(name)
            if memory and memory.updated_at == updated_at:
                self._vectors[name] = from_bson(value, self._embedder.dimensions)
        self._vectors = {name: vector for name, vector in self._vectors.items() if name in self.all}
        self._index = None
        return [memory for name, memory in self.all.items() if self._vectors.get(name) is None]

    def take_vector(self, memory: Memory, vector: Any) -> None:
        """Take a vector that was made, unless the slot has changed since."""
        if self.all.get(memory.memory_type) == memory:
            self._vectors[memory.memory_type] = vector
            self._index = None

    # ------------------------------------------------------------------ finding

    def recall(self, label: str) -> Memory | None:
        """The slot of this label, or of one that is the same in another spelling.

        Raises:
            InvalidTextError: the label cannot be one.
        """
        from rapidfuzz import fuzz, process

        name = slot_name(label)
        if name in self.all:
            return self.all[name]
        near = process.extractOne(name, list(self.all), scorer=fuzz.ratio, score_cutoff=_NEAR_LABEL)
        return self.all[near[0]] if near else None

    def in_use(self, name: str) -> str:
        """The label under which `name` is there in British spelling for American, or the other way; else `name`."""
        if name in self.all:
            return name
        plain = _plain(name)
        return next((other for other in self.all if _plain(other) == plain), name)

    async def search(self, query: str, limit: int, *, vector_of: str | None = None) -> list[Memory]:
        """The slots that fit the query best, by words and by meaning.

        Args:
            query: what is looked for.
            limit: how many slots at most.
            vector_of: nearly the same words, whose vector is at hand already; by default the query's own is made.
        """
        if not self.all:
            return []
        embedder, vector = self._embedder, None
        named = self._named(query)
        if self._vectors and named is None:  # who names a label means it: words suffice
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
                trouble = f"{error.message} ({error.why})"
                if trouble != self._trouble:  # each cause once, as long as it lasts
                    logger.warning("searching memories by words alone: %s", trouble)
                self._trouble = trouble
            else:
                self._trouble = None
        hits = self._searchable().search(query, vector, limit, weights=embedder.weights, floor=embedder.floor)
        found = dict.fromkeys(([named] if named else []) + [hit.key for hit in hits])
        return [self.all[name] for name in found if name in self.all][:limit]

    def _named(self, query: str) -> str | None:
        """The label that a query is, if it is one."""
        try:
            name = slot_name(query)
        except InvalidTextError:
            return None
        return name if name in self.all else None

    def relevant(self, text: str, limit: int) -> list[Memory]:
        """The slots that share words with `text`, best first."""
        if not self.all or not text:
            return []
        embedder = self._embedder
        hits = self._searchable().search(text, None, limit, weights=embedder.weights, floor=embedder.floor)
        return [self.all[hit.key] for hit in hits]

    def _searchable(self) -> ExactIndex[str]:
        if self._index is None:
            memories = list(self.all.values())
            vectors = [self._vectors.get(memory.memory_type) for memory in memories]
            self._index = memory_index(memories, vectors, self._cutter)
        return self._index
