"""A person's memory slots in memory: looked up by label, searched by words and by meaning, without the database."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lkmongo import deadlines
from lkmongo.agent.status_line import language_code
from lkmongo.embed.base import EmbeddingTimeoutError
from lkmongo.errors import InvalidTextError, LkmongoError
from lkmongo.model import Fact, slot_name
from lkmongo.search.exact import ExactIndex, Tokenizer
from lkmongo.search.strategy import memory_index

if TYPE_CHECKING:
    from datetime import datetime

    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

_NEAR_LABEL = 82
"""Similarity, of 100, from which two labels count as spellings of the same one."""


_SPELLINGS = (
    (re.compile("(?<=[lvbn])our"), "or"),
    (re.compile(r"centre\b"), "center"),
    (re.compile("grey"), "gray"),
)


def _american(name: str) -> str:
    """A label in American spelling, for comparison."""
    for spelling, american in _SPELLINGS:
        name = spelling.sub(american, name)
    return name


class Slots:
    """The slots of one person, newest first, with the vectors available so far."""

    def __init__(self, embedder: Embedder) -> None:
        self.all: dict[str, Fact] = {}
        self._embedder = embedder
        self._vectors: dict[str, Any] = {}
        self._index: ExactIndex[str] | None = None
        self._tokenizer = Tokenizer()
        self._language: str | None = None
        self._last_error: str | None = None

    def speak(self, preferred_language: str | None) -> None:
        """Take the slots to be in the profile's language unless they say otherwise themselves."""
        language = language_code(preferred_language) if preferred_language else None
        if language != self._language:
            self._language = language
            self._index = None

    def replace_all(self, slots: dict[str, Fact]) -> None:
        """Replace all slots; vectors are kept."""
        self.all = slots
        self._index = None

    def put(self, memory: Fact) -> None:
        """Write a slot, and discard its old vector."""
        name = memory.memory_type
        self.all = {name: memory} | {other: slot for other, slot in self.all.items() if other != name}
        self._vectors.pop(name, None)
        self._index = None

    def pop(self, name: str) -> None:
        """Delete a slot if it exists."""
        self.all.pop(name, None)
        self._vectors.pop(name, None)
        self._index = None

    def clear_vectors(self) -> None:
        """Discard the vectors."""
        self._vectors = {}

    def clear(self) -> None:
        """Discard everything, including the tokenizer's cache of words."""
        self.replace_all({})
        self.clear_vectors()
        self._tokenizer = Tokenizer()

    def add_vectors(self, stored: Mapping[str, tuple[datetime | None, Any]]) -> list[Fact]:
        """Add stored vectors of slots that have not changed since; returns the slots without a vector."""
        from lkmongo.embed.vectors import from_bson

        for name, (updated_at, value) in stored.items():
            memory = self.all.get(name)
            if memory and memory.updated_at == updated_at:
                self._vectors[name] = from_bson(value, self._embedder.dimensions)
        self._vectors = {name: vector for name, vector in self._vectors.items() if name in self.all}
        self._index = None
        return [memory for name, memory in self.all.items() if self._vectors.get(name) is None]

    def add_vector(self, memory: Fact, vector: Any) -> None:
        """Add a new vector unless its slot has changed since."""
        if self.all.get(memory.memory_type) == memory:
            self._vectors[memory.memory_type] = vector
            self._index = None

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

    def existing_label(self, name: str) -> str:
        """The existing label that differs from `name` in British or American spelling only; else `name`."""
        if name in self.all:
            return name
        american_name = _american(name)
        return next((other for other in self.all if _american(other) == american_name), name)

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
        hits = self._built_index().search(query, vector, limit, weights=embedder.weights, floor=embedder.floor)
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
        """The slots that share words with `text`, best first."""
        if not self.all or not text:
            return []
        embedder = self._embedder
        hits = self._built_index().search(text, None, limit, weights=embedder.weights, floor=embedder.floor)
        return [self.all[hit.key] for hit in hits]

    def _built_index(self) -> ExactIndex[str]:
        if self._index is None:
            memories = list(self.all.values())
            vectors = [self._vectors.get(memory.memory_type) for memory in memories]
            self._index = memory_index(memories, vectors, self._tokenizer, self._language)
        return self._index
