"""Misspelt words: the terms of an index that lie near a query term, whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import OSA

from tests.standin.errors import MongotError, unsupported
from tests.standin.values import whole_number

MAX_EXPANSIONS = 1000


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
        for key, value in spec.items():
            if key not in ("maxEdits", "prefixLength", "maxExpansions"):
                raise MongotError(8, f'"text.fuzzy" unrecognized field "{key}"')
            if whole_number(value) is None:
                raise MongotError(8, f'"text.fuzzy.{key}" must be an integer')
        how = cls(int(spec.get("maxEdits", 2)), int(spec.get("prefixLength", 0)), int(spec.get("maxExpansions", 50)))
        if how.max_edits not in (1, 2):
            raise MongotError(8, '"text.fuzzy.maxEdits" must be either 1 or 2')
        if how.prefix_length < 0:
            raise MongotError(8, '"text.fuzzy.prefixLength" cannot be negative')
        if not 1 <= how.max_expansions <= MAX_EXPANSIONS:
            raise MongotError(8, f'"text.fuzzy.maxExpansions" must be within bounds [1..{MAX_EXPANSIONS}]')
        return how


def expand(term: str, vocabulary: Iterable[str], how: Expansion) -> dict[str, float]:
    """The nearest terms of the whole vocabulary and what each is worth: 1 for the word itself, less with each edit.

    A word of one letter is near any other of one letter: it matches, and is worth nothing.
    """
    prefix = term[: how.prefix_length]
    found: dict[str, float] = {}
    for word in vocabulary:
        if not word.startswith(prefix) or abs(len(word) - len(term)) > how.max_edits:
            continue
        edits = OSA.distance(term, word, score_cutoff=how.max_edits)
        shorter = min(len(term), len(word))
        if edits <= how.max_edits:
            found[word] = 1.0 - edits / shorter
    nearest = sorted(found, key=lambda word: (-found[word], word))[: how.max_expansions]
    if nearest and found[nearest[-1]] < 0:
        raise unsupported(f"two edits of a word of one letter, which are worth less than nothing: {term!r}")
    return {word: found[word] for word in nearest}
