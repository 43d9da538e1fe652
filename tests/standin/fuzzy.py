"""Misspelt words: the terms of an index that lie near a query term, whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import OSA

from tests.standin.errors import MongotError
from tests.standin.values import whole_number


@dataclass(frozen=True)
class Expansion:
    """The options of `fuzzy`."""

    max_edits: int = 2
    prefix_length: int = 0
    max_expansions: int = 50

    @classmethod
    def parse(cls, spec: Any) -> Expansion:
        """Check the options.

        Raises:
            MongotError: unknown, or out of bounds.
        """
        if not isinstance(spec, dict):
            raise MongotError(8, '"text.fuzzy" must be a document')
        bounds = {"maxEdits": (1, 2), "prefixLength": (0, 2**31), "maxExpansions": (1, 1000)}
        for key, value in spec.items():
            if key not in bounds:
                raise MongotError(8, f'"text.fuzzy" unrecognized field "{key}"')
            low, high = bounds[key]
            number = whole_number(value)
            if number is None or not low <= number <= high:
                raise MongotError(8, f'"text.fuzzy.{key}" must be within bounds [{low}, {high}]')
        return cls(int(spec.get("maxEdits", 2)), int(spec.get("prefixLength", 0)), int(spec.get("maxExpansions", 50)))


def expand(term: str, vocabulary: Iterable[str], how: Expansion) -> dict[str, float]:
    """The nearest terms of the whole vocabulary and what each is worth: 1 for the word itself, less with each edit."""
    prefix = term[: how.prefix_length]
    found: dict[str, float] = {}
    for word in vocabulary:
        if not word.startswith(prefix) or abs(len(word) - len(term)) > how.max_edits:
            continue
        edits = OSA.distance(term, word, score_cutoff=how.max_edits)
        shorter = min(len(term), len(word))
        # A word that would have to change as a whole does not count: Lucene asks for fewer edits than letters.
        if edits <= how.max_edits and (edits == 0 or edits < shorter):
            found[word] = 1.0 - edits / shorter
    nearest = sorted(found, key=lambda word: (-found[word], word))[: how.max_expansions]
    return {word: found[word] for word in nearest}
