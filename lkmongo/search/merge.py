"""What an index found and what it cannot know yet become one list, ranked as the exact strategy ranks.

An index trails its collection. What was written in the last moments is therefore read from the collection itself and
compared here, and what the index says of it is dropped. Cosines of both are of one scale and go into one branch; BM25
scores are not, so that the words of all candidates are scored anew when one of those that were read fits the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lkmongo.search.exact import Hit, without_handicap
from lkmongo.search.fusion import FusionWeights, fuse
from lkmongo.search.text import TextIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K = TypeVar("K", bound=Any)
Ranked = list[tuple[K, float]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may be a hit: what its text branch reads, and whether it has a vector that can be compared."""

    text: str
    embedded: bool


@dataclass(frozen=True, slots=True)
class Branches(Generic[K]):
    """What an index returned: (key, score) of each branch, best first.

    Attributes:
        near: by cosine.
        worded: by BM25; None where there is no text index, and the words of the candidates are scored here.
        candidates: every document of both branches.
    """

    near: Ranked[K]
    worded: Ranked[K] | None
    candidates: Mapping[K, Candidate]


@dataclass(frozen=True, slots=True)
class Fresh(Generic[K]):
    """Documents that were read from the collection itself; `vectors` has those that can be compared, of unit length."""

    candidates: Mapping[K, Candidate]
    vectors: Mapping[K, NDArray[np.float32]]


def merge(
    branches: Branches[K],
    fresh: Fresh[K],
    query: str,
    query_vector: NDArray[np.float32] | None,
    weights: FusionWeights,
    floor: float,
    depth: int,
) -> list[Hit[K]]:
    """Fuse both branches as `ExactIndex.search` does.

    Args:
        branches: of the index.
        fresh: what replaces the index's word on these documents.
        query: the question.
        query_vector: of unit length, shape (d,); None searches by words alone.
        weights: of the two branches.
        floor: a cosine below this counts as none.
        depth: how many documents of each branch take part.
    """
    candidates = {**branches.candidates, **fresh.candidates}
    near = [(key, cosine) for key, cosine in branches.near if key not in fresh.candidates]
    if query_vector is not None and fresh.vectors:
        near += [(key, float(vector @ query_vector)) for key, vector in fresh.vectors.items()]
        near.sort(key=lambda entry: (-entry[1], entry[0]))
    # Ranks say nothing of distance: what is too far is dropped before they are given.
    near = [(key, cosine) for key, cosine in near[:depth] if cosine >= floor]
    worded = _worded(branches.worded, candidates, fresh, query, beside_vectors=query_vector is not None)[:depth]
    hits = [
        Hit(found.key, found.score, found.ranks.get("vector"), found.ranks.get("text"))
        for found in fuse({"vector": near, "text": worded}, weights.by_branch())
    ]
    if near:
        hits = without_handicap(hits, weights, lambda key: candidates[key].embedded)
    return hits


def _worded(
    worded: Ranked[K] | None,
    candidates: Mapping[K, Candidate],
    fresh: Fresh[K],
    query: str,
    *,
    beside_vectors: bool,
) -> Ranked[K]:
    """The text branch: those that fit as `ExactIndex` sees it, in the index's order as long as it knows them all."""
    keys = sorted(candidates)
    bare = {place for place, key in enumerate(keys) if not candidates[key].embedded} if beside_vectors else None
    found = TextIndex([candidates[key].text for key in keys]).search(query, len(keys), spared=bare)
    scored = [(keys[place], score) for place, score in found]
    if worded is None or any(key in fresh.candidates for key, _ in scored):
        return scored
    fitting = {key for key, _ in scored}
    return [(key, score) for key, score in worded if key in fitting]
