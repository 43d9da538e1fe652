"""Fusion by ranks, as MongoDB's `$rankFusion` does it: for the branches of two indexes on a server.

A document's score is the sum of `weight / (60 + rank)` over its branches. Ranks begin at 1; equal values share a rank,
and the next rank skips. Results are ordered by score, then by key. (MongoDB manual, `$rankFusion`; the tests have
results of a real server.) Where all scores of a scope are known, `lkmongo.search.exact` fuses by them instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lkmongo.embed.base import FusionWeights, check_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lkmongo.search.exact import Hit

BRANCH_DEPTH = 30
"""Minimum number of documents that each branch contributes to the fusion."""
RANK_CONSTANT = 60
"""The server's constant."""
K = TypeVar("K", bound=Any)


@dataclass(frozen=True, slots=True)
class Fused(Generic[K]):
    """One document after fusion; `ranks` holds its rank in each branch that returned it."""

    key: K
    score: float
    ranks: Mapping[str, int]


def fuse(
    branches: Mapping[str, Sequence[tuple[K, Any]]],
    weights: Mapping[str, float] | None = None,
) -> list[Fused[K]]:
    """Merge ranked lists into one.

    Args:
        branches: `(key, value)` pairs by name, best first; the value is the sort criterion, so that ties share a
            rank. Keys must be sortable.
        weights: a factor for each branch, 1 by default.

    Raises:
        ValueError: a weight is negative, not a number, or names no branch.
    """
    factors = dict(weights or {})
    check_weights(factors)
    if unknown := sorted(set(factors) - set(branches)):
        raise ValueError(f"the weight {unknown[0]!r} names none of the branches {', '.join(sorted(branches))}")
    scores: dict[K, float] = {}
    ranks: dict[K, dict[str, int]] = {}
    for name in sorted(branches):  # the server's order, on which the last bit of a sum depends
        factor = factors.get(name, 1.0)
        for (key, _), rank in zip(branches[name], ranks_of(branches[name]), strict=True):
            scores[key] = scores.get(key, 0.0) + factor * (1.0 / (RANK_CONSTANT + rank))
            ranks.setdefault(key, {})[name] = rank
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Fused(key, score, ranks[key]) for key, score in ordered]


def ranks_of(branch: Sequence[tuple[Any, Any]]) -> list[int]:
    """The ranks of a branch, whose equal values share one."""
    ranks: list[int] = []
    for position, (_, value) in enumerate(branch, start=1):
        tied = position > 1 and value == branch[position - 2][1]
        ranks.append(ranks[-1] if tied else position)
    return ranks


def without_handicap(hits: Sequence[Hit[K]], weights: FusionWeights, has_vector: Callable[[K], bool]) -> list[Hit[K]]:
    """Let words count for both branches if a document has no vector.

    A slot written a moment ago has none yet, and would otherwise rank below every vague neighbour.
    """
    fair = [
        hit
        if hit.text_rank is None or has_vector(hit.key)
        else replace(hit, score=(weights.vector + weights.text) / (RANK_CONSTANT + hit.text_rank))
        for hit in hits
    ]
    return sorted(fair, key=lambda hit: (-hit.score, hit.key))
