"""The inverted index of one snapshot: terms of mapped strings, and typed values of mapped paths."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.standin.analysis import Analyze, analyze
from tests.standin.errors import MongotError
from tests.standin.mappings import Mapping
from tests.standin.snapshots import Snapshot
from tests.standin.values import comparable, kind_of, present_at, values_at

K1, B = 1.2, 0.75
MAX_TOKEN = 8181
"""Longer token strings are cut there."""


@dataclass
class TextField:
    """The terms of one path: term -> document -> positions."""

    postings: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)

    @cached_property
    def average(self) -> float:
        """The mean length of the documents that have the path, when all are there."""
        return sum(self.lengths.values()) / len(self.lengths)

    def rarity(self, documents: int) -> float:
        """Inverse document frequency of a term that stands in so many documents."""
        return math.log(1 + (len(self.lengths) - documents + 0.5) / (documents + 0.5))

    def weight(self, frequency: float, document: int) -> float:
        """The part of BM25 that saturates with the frequency and falls with the length."""
        return frequency / (frequency + K1 * (1 - B + B * _kept(self.lengths[document]) / self.average))


def _kept(length: int) -> int:
    """A length as Lucene stores it in a byte: exact to 40, then four significant bits of what is over 24."""
    over = length - 24
    shift = max(0, over.bit_length() - 4)
    return length if over < 0 else 24 + (over >> shift << shift)


class TextIndex:
    """What `$search` sees of a snapshot, built path by path when asked for."""

    def __init__(self, snapshot: Snapshot, mapping: Mapping) -> None:
        self.documents = snapshot.documents
        self.mapping = mapping
        self._texts: dict[tuple[str, str | Analyze], TextField] = {}
        self._values: dict[tuple[str, str], dict[int, list[Any]]] = {}

    @classmethod
    def of(cls, snapshot: Snapshot, mapping: Mapping) -> TextIndex:
        """The index of a snapshot, built once."""
        key = ("text", mapping)
        if key not in snapshot.cache:
            snapshot.cache[key] = cls(snapshot, mapping)
        found: TextIndex = snapshot.cache[key]
        return found

    def text(self, path: str, multi: str | None = None) -> tuple[TextField, str | Analyze] | None:
        """The terms of a path and the analyzer for queries, or None if the path is not mapped as string.

        Raises:
            MongotError: the path has no such `multi`, which is not passed over.
        """
        how = self.mapping.lookup(path, "string")
        if multi is not None and (how := how.multi.get(multi) if how else None) is None:
            raise MongotError(8, f"{path} (multi: {multi}) not found in index")
        if how is None:
            return None
        key = (path, how.analyzer)
        if key not in self._texts:
            self._texts[key] = self._build(path, how.analyzer)
        return self._texts[key], how.search_analyzer

    def _build(self, path: str, analyzer: str | Analyze) -> TextField:
        built = TextField()
        for number, document in enumerate(self.documents):
            values = [value for value in values_at(document, path) if isinstance(value, str)]
            # The values of a path follow one another without a gap: a phrase may begin in one and end in the next.
            terms = [term for value in values for term in analyze(value, analyzer)]
            for position, term in enumerate(terms):
                built.postings.setdefault(term, {}).setdefault(number, []).append(position)
            if terms:
                built.lengths[number] = len(terms)
        return built

    def values(self, path: str, kind: str) -> dict[int, list[Any]]:
        """Comparable values of a path by document; none at all if the path is not mapped as `kind`."""
        how = self.mapping.lookup(path, kind)
        if how is None:
            return {}
        if (path, kind) not in self._values:
            wanted = "string" if kind == "token" else kind
            found: dict[int, list[Any]] = {}
            for number, document in enumerate(self.documents):
                leaves = [comparable(value) for value in values_at(document, path) if kind_of(value) == wanted]
                if kind == "token":
                    leaves = [_token(value, lowercase=how.lowercase) for value in leaves]
                if leaves:
                    found[number] = leaves
            self._values[path, kind] = found
        return self._values[path, kind]

    def wanted(self, path: str, kind: str, value: Any) -> Any:
        """A query value as the index holds it; a string that is too long for the index is not cut, and finds nothing.

        Raises:
            MongotError: a string for a path that is no token, unless it happens to be a single word.
        """
        if kind != "token":
            return comparable(value)
        how = self.mapping.lookup(path, kind)
        if how is None and len(analyze(value)) != 1:
            raise MongotError(8, f"Path '{path}' needs to be indexed as token")
        return value.lower() if how is not None and how.lowercase else value

    def present(self, path: str) -> list[int]:
        """The documents with anything at a path that is mapped, whatever it is mapped as."""
        if not self.mapping.has(path):
            return []
        return [number for number, document in enumerate(self.documents) if present_at(document, path)]

    def null(self, path: str) -> list[int]:
        """The documents with null at a path that is mapped."""
        return [number for number in self.present(path) if None in values_at(self.documents[number], path)]


class NoIndex(TextIndex):
    """What a query is read with before its index is known: it holds nothing, and nothing is known of its paths."""

    def __init__(self) -> None:
        super().__init__(Snapshot([]), Mapping(dynamic=True))

    def text(self, path: str, multi: str | None = None) -> tuple[TextField, str | Analyze] | None:
        return super().text(path)

    def wanted(self, path: str, kind: str, value: Any) -> Any:
        return comparable(value)


def _token(value: str, *, lowercase: bool) -> str:
    cut = value[:MAX_TOKEN]
    return cut.lower() if lowercase else cut
