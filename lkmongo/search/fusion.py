"""Reciprocal rank fusion as MongoDB's `$rankFusion` does it, for wherever the server does not.

A document's score is the sum over the branches of `weight / (60 + rank)`; ranks begin at 1, equal values share
a rank and the next rank skips, a branch without the document adds nothing. The order is by score, best first,
then by key. (MongoDB manual, `$rankFusion`; the server's own numbers are in the tests.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RANK_CONSTANT = 60
"""Fixed in the server too."""

K = TypeVar("K", bound=Any)


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """How much each branch counts; only their ratio matters for the order.

    Raises:
        ValueError: a weight is negative or not a number, or both are zero.
    """

    vector: float
    text: float

    def __post_init__(self) -> None:
        """Refuse what the server would refuse."""
        _check_weights({"vector": self.vector, "text": self.text})
        if not self.vector + self.text > 0:
            raise ValueError("one of the two weights must be above 0")

    def by_branch(self) -> dict[str, float]:
        """The weights under the names of the branches, as `fuse` and `$rankFusion` take them."""
        return {"vector": self.vector, "text": self.text}


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
        branches: name of the branch to its `(key, value)` pairs, best first; the value is what the branch sorted
            by, so that equal neighbours share a rank. Keys must be sortable among each other.
        weights: a factor for each branch, 1 for those not named.

    Raises:
        ValueError: a weight is negative, not a number, or names no branch.
    """
    factors = dict(weights or {})
    _check_weights(factors)
    if unknown := sorted(set(factors) - set(branches)):
        raise ValueError(f"there is a weight for {unknown[0]!r}, which is not a branch: {', '.join(sorted(branches))}")
    scores: dict[K, float] = {}
    ranks: dict[K, dict[str, int]] = {}
    for name in sorted(branches):  # the server's order; floating point sums depend on it in the last bit
        factor = factors.get(name, 1.0)
        for (key, _), rank in zip(branches[name], _ranks(branches[name]), strict=True):
            scores[key] = scores.get(key, 0.0) + factor * (1.0 / (RANK_CONSTANT + rank))
            ranks.setdefault(key, {})[name] = rank
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Fused(key, score, ranks[key]) for key, score in ordered]


def _ranks(branch: Sequence[tuple[Any, Any]]) -> list[int]:
    ranks: list[int] = []
    for position, (_, value) in enumerate(branch, start=1):
        tied = position > 1 and value == branch[position - 2][1]
        ranks.append(ranks[-1] if tied else position)
    return ranks


def _check_weights(weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of {name!r} must be a number from 0 up, not {weight!r}")
