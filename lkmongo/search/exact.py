"""Exact search in memory: every vector of the scope, a BM25 text branch, and the fusion of both by their scores.

For the data of one person or tenant this is faster than any index over a network, and it only needs a read from the
server.

A vector's closeness is its cosine after the mean of the scope's vectors is taken away from both, which is what all
texts of a scope share: their language, their speakers, their subject. It counts in standard deviations above the mean
of the scope, so that a text counts for how far it stands out. A text's BM25 score counts as it is: it is the sum of how
rare the shared words are. The two are added, with a factor each:

- closeness by the embedder's weight for vectors, times 1 + (mean length of the texts) / 100 words: a long text has many
  words by chance.
- words by its weight for words, times n / (n + 150) for n texts: in a small scope every word looks rare.

The constants are from `benchmarks/retrieval_public.py`; docs/retrieval.md has what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from lkmongo.search.rank_fusion import ranks_of
from lkmongo.search.text_index import MOST, TextIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lkmongo.embed.base import FusionWeights
    from lkmongo.search.text_index import Tokenizer

CANDIDATES = 100
"""Minimum number of documents that each branch contributes to the fusion."""
_KNOWN = 150
"""Texts of a scope of which mean and rarity of words are believed by half: a few say little."""
_LEAST_SPREAD = 0.05
"""Added to the standard deviation, so that cosines which hardly differ do not count as if they did."""
_LONG = 100
"""Words; among texts of this mean length, vectors count twice."""
_KIN = 0.5
"""Of the floor; a document with a lower cosine is only found if it has most of the query's words."""
K = TypeVar("K", bound=Any)


@dataclass(frozen=True, slots=True)
class Hit(Generic[K]):
    """A result; a rank is None if its branch did not return the document."""

    key: K
    score: float
    vector_rank: int | None
    text_rank: int | None


class ExactIndex(Generic[K]):
    """An in-memory index by vector and by words. Immutable; may be built in a thread."""

    def __init__(
        self,
        keys: Sequence[K],
        texts: Sequence[str],
        vectors: Sequence[NDArray[np.float32] | None] | NDArray[np.float32],
        tokenizer: Tokenizer | None = None,
        language: str | None = None,
    ) -> None:
        """Index documents.

        Args:
            keys: one per document, sortable; ties in score are ordered by key.
            texts: for the text branch; the words of a label separated.
            vectors: shape (n, d), or n rows with None for a missing vector; of unit length and of one model.
            tokenizer: of an earlier, similar index, to reuse its cache.
            language: the two-letter code to assume when the texts do not say; English by default.

        Raises:
            ValueError: the lengths of the arguments or of the vectors differ.
        """
        if not len(keys) == len(texts) == len(vectors):
            raise ValueError(f"{len(keys)} keys, {len(texts)} texts and {len(vectors)} vectors do not belong together")
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._keys = [keys[i] for i in order]
        self._text = TextIndex([texts[i] for i in order], tokenizer, language)
        present = [place for place, i in enumerate(order) if vectors[i] is not None]
        self._places = np.array(present, dtype=np.intp)
        rows = [vectors[order[place]] for place in present]
        self._matrix = np.array(rows, dtype=np.float32) if rows else np.zeros((0, 0), dtype=np.float32)
        self._centre()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def vector_count(self) -> int:
        return len(self._places)

    def search(
        self,
        query: str,
        query_vector: NDArray[np.float32] | None,
        limit: int,
        weights: FusionWeights,
        floor: float,
    ) -> list[Hit[K]]:
        """Return up to `limit` documents, best first.

        Args:
            query: the words.
            query_vector: of unit length, shape (d,), of the documents' model; None searches by words alone.
            limit: maximum number of results.
            weights: of the two branches.
            floor: a document with a lower cosine is only found by words of the query, and with much lower ones by most
                of them.

        Raises:
            ValueError: the query's vector has another length than the documents'.
        """
        if limit < 1:
            return []
        depth = max(CANDIDATES, limit)
        by_words, shares = self._text.compare(query)
        believed = by_words > 0
        near: list[tuple[int, float]] = []
        by_vector = np.zeros(len(self._keys), dtype=np.float32)
        if query_vector is not None and len(self._places):
            cosines, closeness = self._compare(query_vector)
            by_vector[self._places] = np.maximum(0, (closeness - closeness.mean()) / (closeness.std() + _LEAST_SPREAD))
            near = [
                (int(self._places[row]), value)
                for row, value in _best(closeness, np.flatnonzero(cosines >= floor), depth)
            ]
            # One word of many that it shares with a text of no kinship in meaning is chance.
            believed[self._places] &= (cosines >= floor * _KIN) | (shares[self._places] > MOST)
        worded = _best(by_words, np.flatnonzero(believed), depth)
        places = np.array(sorted({place for place, _ in (*near, *worded)}), dtype=np.intp)
        if near and worded:
            self._lend(by_vector, by_words, places)
        scores = weights.vector * (1 + self._text.mean_length / _LONG) * by_vector
        scores += weights.text * len(self._keys) / (len(self._keys) + _KNOWN) * by_words
        vector_ranks = dict(zip((place for place, _ in near), ranks_of(near), strict=True))
        text_ranks = dict(zip((place for place, _ in worded), ranks_of(worded), strict=True))
        return [
            Hit(self._keys[place], score, vector_ranks.get(place), text_ranks.get(place))
            for place, score in _best(scores, places, limit)
        ]

    def nearest(self, query_vector: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        """The vector branch: up to `count` (position in the order of the keys, closeness), best first."""
        if not len(self._places):
            return []
        _, closeness = self._compare(query_vector)
        best = _best(closeness, np.arange(len(closeness)), count)
        return [(int(self._places[row]), value) for row, value in best]

    def _centre(self) -> None:
        """What of the comparison with the centred vectors does not depend on the query."""
        count = len(self._matrix)
        if not count:
            return
        self._centre_vector = self._matrix.mean(axis=0) * np.float32(count / (count + _KNOWN))
        self._along = self._matrix @ self._centre_vector
        square = float(self._centre_vector @ self._centre_vector)
        self._lengths = np.sqrt(np.maximum(1 - 2 * self._along + square, 1e-6, dtype=np.float32))

    def _compare(self, query_vector: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The cosine and the closeness of every vector, shape (n,) each."""
        if query_vector.shape != self._matrix.shape[1:]:
            raise ValueError(
                f"the query's vector has shape {query_vector.shape}, the documents' {self._matrix.shape[1:]}"
            )
        cosines = self._matrix @ query_vector
        query = query_vector - self._centre_vector
        # The product of the two centred vectors, without a second matrix.
        product = cosines - self._along - np.float32(self._centre_vector @ query)
        length = max(float(np.linalg.norm(query)), 1e-3)
        return cosines, product / (self._lengths * np.float32(length))

    def _lend(self, by_vector: NDArray[np.float32], by_words: NDArray[np.float32], places: NDArray[np.intp]) -> None:
        """Let words count for both branches if a document has no vector.

        A slot written a moment ago has none yet, and would otherwise rank below every vague neighbour.
        """
        bare = np.ones(len(self._keys), dtype=bool)
        bare[self._places] = False
        if bare.any():
            best = by_vector[places].max()
            by_vector[bare] = best * by_words[bare] / by_words.max()


def _best(values: NDArray[np.float32], among: NDArray[np.intp], count: int) -> list[tuple[int, float]]:
    """The highest values at these positions: up to `count` (position, value), ties by position."""
    if len(among) > count:
        # A partition picks arbitrarily among equal values: take all that reach the last one.
        least = np.partition(values[among], len(among) - count)[len(among) - count]
        among = among[values[among] >= least]
    order = among[np.lexsort((among, -values[among]))][:count]
    return [(int(place), float(values[place])) for place in order]
