"""Exact search in memory: every vector of the scope, a BM25 text branch, and the fusion of both.

For the data of one person or tenant this is faster than any index over a network (10,000 vectors of 512 numbers take
about a millisecond), and it only needs a read from the server.

Fusion works like MongoDB's `$rankFusion`: a document's score is the sum of `weight / (60 + rank)` over its branches.
Ranks begin at 1; equal values share a rank, and the next rank skips. Results are ordered by score, then by key.
(MongoDB manual, `$rankFusion`; the tests have results of a real server.)

BM25 is the "lucene" variant: its inverse document frequency, `ln(1 + (N - df + 0.5) / (df + 0.5))`, stays positive for
a word in every text, so that a match counts even in a corpus of one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from lkmongo.embed.base import FusionWeights, check_weights
from lkmongo.search.words import content_words, stem, words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

BRANCH_DEPTH = 30
"""Minimum number of documents that each branch contributes to the fusion."""
RANK_CONSTANT = 60
"""The server's constant."""

_SOUNDS = str.maketrans("cqzv", "kksf", "aeiouyhw")
_K1, _B = 1.2, 0.75  # Lucene's defaults, which Atlas Search scores with
_MIN_SHARE = 0.5
_MIN_COMPOUND = 5  # letters; shorter compounds are often accidental: "in to", "a way"
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


class _Stems(dict[str, str]):
    def __missing__(self, word: str) -> str:
        found = self[word] = stem(word)
        return found


class Tokenizer:
    """Splits texts into the stems of their words, and caches those of the last call.

    For a collection that is indexed again after small changes.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        stem_of = _Stems().__getitem__
        before, self._known = self._known, {}
        for text in texts:
            if text not in self._known:
                known = before.get(text)
                self._known[text] = list(map(stem_of, words(text))) if known is None else known
        return [self._known[text] for text in texts]


class TextIndex:
    """A BM25 index; may be built in a thread."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer | None = None) -> None:
        """Index `texts`; hits are positions in it. The `tokenizer` of an earlier, similar index has a warm cache."""
        cut = (tokenizer or Tokenizer())(texts)
        self._size = len(texts)
        self._vocabulary = {base: number for number, base in enumerate(sorted(set(chain.from_iterable(cut))))}
        self._by_first_letter: dict[str, list[str]] | None = None
        if not self._vocabulary:
            return
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG, one line an index
        self._bm25 = bm25s.BM25(method="lucene", k1=_K1, b=_B)
        number = self._vocabulary.__getitem__
        numbers = [list(map(number, text)) for text in cut]
        self._bm25.index((numbers, self._vocabulary), create_empty_token=False, show_progress=False)

    def search(self, query: str, limit: int, *, spared: AbstractSet[int] | None = None) -> list[tuple[int, float]]:
        """Return up to `limit` texts with content words of the query, as (position, score), best first.

        Ties are ordered by position, so that results are reproducible.

        Args:
            query: the words.
            limit: maximum number of results.
            spared: positions for which one matching word suffices; all others need more than half of the query's
                content words. None spares every text.
        """
        scores, shares = self._compare(query)
        fit = np.flatnonzero(scores)
        if spared is not None:
            enough = shares[fit] > _MIN_SHARE
            if spared:
                enough |= np.array([position in spared for position in fit.tolist()], dtype=bool)
            fit = fit[enough]
        best = fit[np.lexsort((fit, -scores[fit]))][:limit]
        return [(position, float(scores[position])) for position in best.tolist()]

    def _compare(self, query: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The BM25 score of every text, shape (n,), and its share of the query's content words."""
        total = np.zeros(self._size, dtype=np.float32)
        held = np.zeros(self._size, dtype=np.float32)
        if not self._vocabulary:
            return total, held
        wanted, never = self._wanted(query)
        for word in wanted:
            scores = self._word_scores(word, never)
            total += scores
            held += scores > 0
        held /= np.float32(max(1, len(wanted)))
        return total, held

    def _wanted(self, query: str) -> tuple[list[str], frozenset[str]]:
        """The content words; two that the texts write as one, such as "sound bar", are joined."""
        wanted, never = content_words(query)
        for parts in pairwise(words(query)):
            joined = stem("".join(parts))
            if len(joined) >= _MIN_COMPOUND and joined in self._vocabulary and joined not in never:
                apart = {stem(part) for part in parts}
                wanted = [*(word for word in wanted if word not in {*apart, joined}), joined]
        return wanted, never

    def _word_scores(self, word: str, never: frozenset[str]) -> NDArray[np.float32]:
        if word in self._vocabulary:
            return self._scores_of(word)
        best = np.zeros(self._size, dtype=np.float32)
        for near, similarity in self._near(word, never):
            np.maximum(best, self._scores_of(near) * np.float32(similarity), out=best)
        return best

    def _scores_of(self, word: str) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._bm25.get_scores_from_ids([self._vocabulary[word]])
        return scores

    def _near(self, word: str, never: frozenset[str]) -> list[tuple[str, float]]:
        """The indexed words with the fewest edits from an unknown one, with a similarity below 1.

        One edit is allowed from 4 letters on, two from 8; a transposition is one edit, as in Atlas Search. The first
        letter must match, and below 6 letters the consonants must sound alike: "Marc" is "Mark", but "tire" is not
        "time". Numbers must match exactly.
        """
        allowed = 2 if len(word) >= 8 else 1 if len(word) >= 4 else 0
        if not allowed or any(char.isdigit() for char in word):
            return []
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        if self._by_first_letter is None:
            self._by_first_letter = {letter: list(group) for letter, group in groupby(self._vocabulary, lambda w: w[0])}
        known = [w for w in self._by_first_letter.get(word[0], []) if w not in never and w.isalpha()]
        found = process.extract(word, known, scorer=OSA.distance, score_cutoff=allowed, limit=None)
        if len(word) < 6:
            found = [entry for entry in found if _sound(entry[0]) == _sound(word)]
        fewest = min((distance for _, distance, _ in found), default=0)
        return [(near, 1 - distance / (len(word) + 1)) for near, distance, _ in found if distance == fewest]


def _sound(word: str) -> str:
    """The consonants of a word by sound: "marc" and "mark" are both "mrk"."""
    plain = word.replace("ph", "f").translate(_SOUNDS)
    return "".join(letter for letter, _ in groupby(plain))


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
    ) -> None:
        """Index documents.

        Args:
            keys: one per document, sortable; ties in score are ordered by key.
            texts: for the text branch; the words of a label separated.
            vectors: shape (n, d), or n rows with None for a missing vector; of unit length and of one model.
            tokenizer: of an earlier, similar index, to reuse its cache.

        Raises:
            ValueError: the lengths of the arguments or of the vectors differ.
        """
        if not len(keys) == len(texts) == len(vectors):
            raise ValueError(f"{len(keys)} keys, {len(texts)} texts and {len(vectors)} vectors do not belong together")
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._keys = [keys[i] for i in order]
        self._text = TextIndex([texts[i] for i in order], tokenizer)
        present = [place for place, i in enumerate(order) if vectors[i] is not None]
        self._places = np.array(present, dtype=np.intp)
        self._without_vector = frozenset(range(len(order))) - frozenset(present)
        rows = [vectors[order[place]] for place in present]
        self._matrix = np.array(rows, dtype=np.float32) if rows else np.zeros((0, 0), dtype=np.float32)

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
            floor: the vector branch ignores lower cosines.

        Raises:
            ValueError: the query's vector has another length than the documents'.
        """
        if limit < 1:
            return []
        depth = max(BRANCH_DEPTH, limit)
        near = [] if query_vector is None else self.nearest(query_vector, depth)
        # The floor is applied before the fusion: ranks say nothing about distance, and of few documents even the
        # farthest would score for being thirtieth, enough for a chance word to beat a good vector.
        near = [(place, cosine) for place, cosine in near if cosine >= floor]
        # Nor do ranks say how well words match: next to vectors, one of many words is not enough to rank a document
        # above those with the same meaning. A document without a vector only has its words.
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
        """The vector branch: up to `count` (position in the order of the keys, cosine), best first."""
        if not len(self._places):
            return []
        if query_vector.shape != self._matrix.shape[1:]:
            raise ValueError(
                f"the query's vector has shape {query_vector.shape}, the documents' {self._matrix.shape[1:]}"
            )
        cosines = self._matrix @ query_vector
        count = min(count, len(cosines))
        # A partition picks arbitrarily among equal cosines: take all that reach the last one.
        least = cosines[np.argpartition(cosines, -count)[-count]]
        rows = np.flatnonzero(cosines >= least)
        rows = rows[np.lexsort((rows, -cosines[rows]))][:count]
        return [(int(self._places[row]), float(cosines[row])) for row in rows]


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
