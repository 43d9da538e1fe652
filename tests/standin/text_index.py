"""The inverted index of one snapshot: terms of mapped strings, and typed values of mapped paths."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tests.standin.analysis import analyze
from tests.standin.mappings import Mapping
from tests.standin.snapshots import Snapshot
from tests.standin.values import comparable, kind_of, values_at

K1, B = 1.2, 0.75
MAX_TOKEN = 8181
"""Longer token strings are cut there."""

_GAP = 100
"""Positions between two values of one path, so that no phrase spans them."""


@dataclass
class TextField:
    """The terms of one path: term -> document -> positions."""

    postings: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)

    @property
    def average(self) -> float:
        return sum(self.lengths.values()) / len(self.lengths)

    def rarity(self, documents: int) -> float:
        """Inverse document frequency of a term that stands in so many documents."""
        return math.log(1 + (len(self.lengths) - documents + 0.5) / (documents + 0.5))

    def weight(self, frequency: float, document: int) -> float:
        """The part of BM25 that saturates with the frequency and falls with the length."""
        return frequency / (frequency + K1 * (1 - B + B * self.lengths[document] / self.average))


class TextIndex:
    """What `$search` sees of a snapshot, built path by path when asked for."""

    def __init__(self, snapshot: Snapshot, mapping: Mapping) -> None:
        self.documents = snapshot.documents
        self.mapping = mapping
        self._texts: dict[tuple[str, str], TextField] = {}
        self._values: dict[tuple[str, str], dict[int, list[Any]]] = {}

    @classmethod
    def of(cls, snapshot: Snapshot, mapping: Mapping) -> TextIndex:
        """The index of a snapshot, built once."""
        key = ("text", mapping)
        if key not in snapshot.cache:
            snapshot.cache[key] = cls(snapshot, mapping)
        found: TextIndex = snapshot.cache[key]
        return found

    def text(self, path: str) -> tuple[TextField, str] | None:
        """The terms of a path and the analyzer for queries, or None if the path is not mapped as string."""
        how = self.mapping.lookup(path, "string")
        if how is None:
            return None
        key = (path, how.analyzer)
        if key not in self._texts:
            self._texts[key] = self._build(path, how.analyzer)
        return self._texts[key], how.search_analyzer

    def _build(self, path: str, analyzer: str) -> TextField:
        built = TextField()
        for number, document in enumerate(self.documents):
            position = length = 0
            for value in values_at(document, path):
                if not isinstance(value, str):
                    continue
                terms = analyze(value, analyzer)
                for offset, term in enumerate(terms):
                    built.postings.setdefault(term, {}).setdefault(number, []).append(position + offset)
                position += len(terms) + _GAP
                length += len(terms)
            if length:
                built.lengths[number] = length
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
        """A query value as the index holds it."""
        how = self.mapping.lookup(path, kind)
        if kind == "token" and how is not None:
            return _token(value, lowercase=how.lowercase)
        return comparable(value)


def _token(value: str, *, lowercase: bool) -> str:
    cut = value[:MAX_TOKEN]
    return cut.lower() if lowercase else cut
