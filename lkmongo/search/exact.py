"""The exact scan: every vector of the scope is compared, a BM25 branch stands beside, both fused by their ranks.

For the sets of one person or one tenant this is faster than any index over a network (10,000 vectors of 512
numbers take about a millisecond), and it needs nothing of the server but a read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from lkmongo.search.fusion import RANK_CONSTANT, FusionWeights, fuse
from lkmongo.search.text import Cutter, TextIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

BRANCH_DEPTH = 30
"""How many documents each branch hands to the fusion, at least: what the Atlas strategy asks of its branches."""

K = TypeVar("K", bound=Any)


@dataclass(frozen=True, slots=True)
class Hit(Generic[K]):
    """One document that was found; a rank is None where its branch did not return the document."""

    key: K
    score: float
    vector_rank: int | None
    text_rank: int | None


class ExactIndex(Generic[K]):
    """Documents held in memory, to be searched by vector and by words. Immutable; may be built in a thread."""

    def __init__(
        self,
        keys: Sequence[K],
        texts: Sequence[str],
        vectors: Sequence[NDArray[np.float32] | None] | NDArray[np.float32],
        cutter: Cutter | None = None,
    ) -> None:
        """Index documents.

        Args:
            keys: what names each document, sortable; ties in score come in the order of keys.
            texts: what the text branch reads, with the words of a label apart.
            vectors: shape (n, d), or n rows of which those without a vector are None. Unit length, all of one
                model: only then do their products with a query mean anything.
            cutter: what cut most of the texts the last time, where they are indexed again and again.

        Raises:
            ValueError: the three differ in length, or the vectors among each other.
        """
        if not len(keys) == len(texts) == len(vectors):
            raise ValueError(f"{len(keys)} keys, {len(texts)} texts and {len(vectors)} vectors do not belong together")
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._keys = [keys[i] for i in order]
        self._text = TextIndex([texts[i] for i in order], cutter)
        present = [place for place, i in enumerate(order) if vectors[i] is not None]
        self._places = np.array(present, dtype=np.intp)
        self._without_vector = frozenset(range(len(order))) - frozenset(present)
        rows = [vectors[order[place]] for place in present]
        self._matrix = np.array(rows, dtype=np.float32) if rows else np.zeros((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self._keys)

    @property
    def vector_count(self) -> int:
        """How many of them have a vector."""
        return len(self._places)

    def search(
        self,
        query: str,
        query_vector: NDArray[np.float32] | None,
        limit: int,
        weights: FusionWeights,
        floor: float,
    ) -> list[Hit[K]]:
        """Return up to `limit` documents, best first; none when nothing fits.

        Args:
            query: the words to look for.
            query_vector: of unit length, shape (d,), from the model of the documents' vectors; None searches by
                words alone.
            limit: how many at most; below 1 finds nothing.
            weights: of the two branches.
            floor: a cosine below this counts as none; without a matching word the document is not a hit.

        Raises:
            ValueError: the query's vector has another length than the documents'.
        """
        if limit < 1:
            return []
        depth = max(BRANCH_DEPTH, limit)
        near = [] if query_vector is None else self.nearest(query_vector, depth)
        # The floor is applied before the fusion: ranks say nothing of distance, and in a small set even the
        # farthest document would get points for being thirtieth, enough for a stray word to beat a good vector.
        near = [(place, cosine) for place, cosine in near if cosine >= floor]
        # Ranks say nothing of how well words fit, either: beside vectors, one word in common of many is no reason to
        # put a document before those that mean the same. Without a vector a document has nothing but its words.
        without_vector = self._without_vector if query_vector is not None else None
        worded = self._text.search(query, depth, spared=without_vector)
        hits = [
            Hit(found.key, found.score, found.ranks.get("vector"), found.ranks.get("text"))
            for found in fuse({"vector": near, "text": worded}, weights.by_branch())
        ]
        if near and self._without_vector:
            hits = without_handicap(hits, weights, lambda key: key not in self._without_vector)
        return [Hit(self._keys[hit.key], hit.score, hit.vector_rank, hit.text_rank) for hit in hits[:limit]]

    def nearest(self, query_vector: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        """The vector branch alone: up to `count` (place, cosine), best first, ties in order of place.

        A place is a document's position in the order of the keys.
        """
        if not len(self._places):
            return []
        if query_vector.shape != self._matrix.shape[1:]:
            raise ValueError(
                f"the query's vector has shape {query_vector.shape}, the documents' {self._matrix.shape[1:]}"
            )
        cosines = self._matrix @ query_vector
        count = min(count, len(cosines))
        # Which of several equal cosines a partition leaves inside is arbitrary: take all that reach the last one.
        least = cosines[np.argpartition(cosines, -count)[-count]]
        rows = np.flatnonzero(cosines >= least)
        rows = rows[np.lexsort((rows, -cosines[rows]))][:count]
        return [(int(self._places[row]), float(cosines[row])) for row in rows]


def without_handicap(hits: Sequence[Hit[K]], weights: FusionWeights, has_vector: Callable[[K], bool]) -> list[Hit[K]]:
    """Let words count for both branches where there is no vector to be ranked by.

    A slot that was written a moment ago has none yet; without this, every vague neighbour would come before it.
    """
    fair = [
        hit
        if hit.text_rank is None or has_vector(hit.key)
        else replace(hit, score=(weights.vector + weights.text) / (RANK_CONSTANT + hit.text_rank))
        for hit in hits
    ]
    return sorted(fair, key=lambda hit: (-hit.score, hit.key))
