"""Exact search in memory: every vector of the scope, a BM25 text branch, and the fusion of both by their scores.

For the data of one person or tenant this is faster than any index over a network, and it only needs a read from the
server.

A vector's closeness is its cosine after the mean of the scope's vectors is taken away from both, which is what all
texts of a scope share: their language, their speakers, their subject. It counts in standard deviations above the mean
of the scope, so that a text counts for how far it stands out. A text's BM25 score counts as it is: it is the sum of how
rare the shared words are. The two are added, with a factor each:

- closeness by the embedder's weight for vectors, times 1 + (d / 125)² where the lengths of the texts differ from their
  median by d words on average: a text longer than the others has many of the words by chance.
- words by its weight for words, times n / (n + 230) for n texts: in a small scope every word looks rare.

BM25 is the "lucene" variant: its inverse document frequency, `ln(1 + (N - df + 0.5) / (df + 0.5))`, stays positive for
a word in every text, so that a match counts even in a corpus of one.

The constants are from `benchmarks/retrieval_public.py`; docs/retrieval.md has what was measured.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from lkmongo.search.words import ENGLISH, content_words, language_of, stem, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from lkmongo.embed.base import FusionWeights

CANDIDATES = 100
"""Minimum number of documents that each branch contributes to the fusion."""
_KNOWN = 150
"""Texts of a scope of which the mean is believed by half: a few say little."""
_RARE = 230
"""Texts among which the rarity of a word is believed by half."""
_LEAST_SPREAD = 0.05
"""Added to the standard deviation, so that cosines which hardly differ do not count as if they did."""
_UNEVEN = 125
"""Words; where lengths differ from their median by as much on average, vectors count twice."""
_KIN = 0.5
"""Of the floor; a document with a lower cosine is only found if it has most of the query's words."""
_SOUNDS = str.maketrans("cqzv", "kksf", "aeiouyhw")
_K1 = 1.2  # Lucene's default, which Atlas Search scores with
_HALF_LENGTH = 40
"""Words; texts of this mean length are normalised by half of it (BM25's b), twice as long ones by four fifths."""
_MOST = 0.5
"""Of a query's content words: a text with more than this share has most of them."""
MIN_COMPOUND = 5  # letters; shorter compounds are often accidental: "in to", "a way"
K = TypeVar("K", bound=Any)


class _Stems(dict[str, str]):
    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language

    def __missing__(self, word: str) -> str:
        found = self[word] = stem(word, self._language)
        return found


class Tokenizer:
    """Splits texts into the stems of their words, and caches those of the last call.

    For a collection that is indexed again after small changes.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}
        self._language: str | None = None

    def __call__(self, texts: Sequence[str], language: str = ENGLISH) -> list[list[str]]:
        stem_of = _Stems(language).__getitem__
        before = self._known if language == self._language else {}
        self._known, self._language = {}, language
        for text in texts:
            if text not in self._known:
                known = before.get(text)
                self._known[text] = list(map(stem_of, words(text))) if known is None else known
        return [self._known[text] for text in texts]


class TextIndex:
    """A BM25 index; may be built in a thread."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer | None = None, language: str | None = None) -> None:
        """Index `texts`; hits are positions in it.

        Args:
            texts: in one language mostly, which is told from their stop words.
            tokenizer: of an earlier, similar index, to reuse its cache.
            language: the two-letter code to assume when the texts do not say; English by default.
        """
        self._language = language_of(texts, language)
        cut = (tokenizer or Tokenizer())(texts, self._language)
        self._size = len(texts)
        self._texts = texts
        lengths = np.array(list(map(len, cut)) or [0])
        mean_length = float(lengths.mean())
        self.unevenness = float(np.abs(lengths - np.median(lengths)).mean())
        """Words by which the length of a text differs from the median, on average."""
        self._vocabulary = {base: number for number, base in enumerate(sorted(set(chain.from_iterable(cut))))}
        self._by_first_letter: dict[str, list[str]] | None = None
        if not self._vocabulary:
            return
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG, one line an index
        # Among short texts a longer one says more, and should not pay for its length. Among long ones it merely has
        # more words by chance.
        by_length = mean_length**2 / (mean_length**2 + _HALF_LENGTH**2)
        self._bm25 = bm25s.BM25(method="lucene", k1=_K1, b=by_length)
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
        scores, shares = self.compare(query)
        fit = np.flatnonzero(scores)
        if spared is not None:
            enough = shares[fit] > _MOST
            if spared:
                enough |= np.array([position in spared for position in fit.tolist()], dtype=bool)
            fit = fit[enough]
        best = fit[np.lexsort((fit, -scores[fit]))][:limit]
        return [(position, float(scores[position])) for position in best.tolist()]

    def compare(self, query: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The BM25 score of every text, shape (n,), and its share of the query's content words."""
        total = np.zeros(self._size, dtype=np.float32)
        held = np.zeros(self._size, dtype=np.float32)
        if not self._vocabulary:
            return total, held
        wanted, never = self._wanted(query)
        for word, spoken in wanted.items():
            scores = self._word_scores(word, spoken, never)
            total += scores
            held += scores > 0
        held /= np.float32(max(1, len(wanted)))
        return total, held

    def _wanted(self, query: str) -> tuple[dict[str, str], frozenset[str]]:
        """The stems of the content words, each with the word; two that the texts write as one are joined."""
        said = words(query)
        stems, never = content_words(query, self._language)
        spoken = {stem(word, self._language): word for word in said}
        wanted = {base: spoken[base] for base in stems}
        for parts in pairwise(said):  # such as "sound bar"
            whole = "".join(parts)
            joined = stem(whole, self._language)
            if len(joined) >= MIN_COMPOUND and joined in self._vocabulary and joined not in never:
                apart = {stem(part, self._language) for part in parts}
                wanted = {base: word for base, word in wanted.items() if base not in {*apart, joined}} | {joined: whole}
        return wanted, never

    def _word_scores(self, word: str, spoken: str, never: frozenset[str]) -> NDArray[np.float32]:
        """The score of every text for one word: its stem and, to find what is related to it, the word itself."""
        for form in (word, spoken):  # the stem of "ciudades" is "ciudad", that of "ciudad" is "ciud"
            if form in self._vocabulary:
                return self._scores_of(form)
        best = self._written_apart(spoken, never)
        for near, similarity in self._near(word, never):
            np.maximum(best, self._scores_of(near) * np.float32(similarity), out=best)
        return best

    def _written_apart(self, word: str, never: frozenset[str]) -> NDArray[np.float32]:
        """The scores of the texts that write a word as two, such as "soundbar": those of the commoner part."""
        found = np.zeros(self._size, dtype=np.float32)
        if len(word) < MIN_COMPOUND or not word.isalpha():
            return found
        for place in range(2, len(word) - 1):
            parts = (stem(word[:place], self._language), stem(word[place:], self._language))
            if all(part in self._vocabulary and part not in never for part in parts):
                scores = np.minimum(*map(self._scores_of, parts))
                for text, score in _best(scores, np.flatnonzero(scores), CANDIDATES):
                    if parts in pairwise(stem(each, self._language) for each in words(self._texts[text])):
                        found[text] = max(found[text], score)
        return found

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
class Centre:
    """What the vectors of a scope share, and how each of them compares with it.

    Attributes:
        vector: their mean, less the fewer there are; shape (d,).
        along: the product of each vector with it; shape (n,).
    """

    vector: NDArray[np.float32]
    along: NDArray[np.float32]

    @classmethod
    def of(cls, matrix: NDArray[np.float32]) -> Centre:
        """The centre of n vectors of unit length, shape (n, d), of which there is at least one."""
        count = len(matrix)
        vector = matrix.mean(axis=0) * np.float32(count / (count + _KNOWN))
        return cls(vector, matrix @ vector)

    def closeness(self, cosines: NDArray[np.float32], query_vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosines after the centre is taken away from both sides, shape (n,), from those before."""
        query = query_vector - self.vector
        # The product of the two centred vectors, without a second matrix.
        product = cosines - self.along - np.float32(self.vector @ query)
        square = float(self.vector @ self.vector)
        lengths = np.sqrt(np.maximum(1 - 2 * self.along + square, 1e-6, dtype=np.float32))
        length = max(float(np.linalg.norm(query)), 1e-3)
        closeness: NDArray[np.float32] = product / (lengths * np.float32(length))
        return closeness


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
            vectors: shape (n, d), or n rows with None or no numbers for a missing vector; of unit length and of one
                model.
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
        present = [place for place, i in enumerate(order) if (each := vectors[i]) is not None and each.size]
        self._places = np.array(present, dtype=np.intp)
        rows = [vectors[order[place]] for place in present]
        self._matrix = np.array(rows, dtype=np.float32) if rows else np.zeros((0, 0), dtype=np.float32)
        self._centre = Centre.of(self._matrix) if rows else None

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
            query_vector: of unit length, shape (d,), of the documents' model; None, or no numbers, searches by words
                alone.
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
            believed[self._places] &= (cosines >= floor * _KIN) | (shares[self._places] > _MOST)
        worded = _best(by_words, np.flatnonzero(believed), depth)
        places = np.array(sorted({place for place, _ in (*near, *worded)}), dtype=np.intp)
        if worded:
            self._lend(by_vector, by_words, places)
        scores = weights.vector * (1 + (self._text.unevenness / _UNEVEN) ** 2) * by_vector
        scores += weights.text * len(self._keys) / (len(self._keys) + _RARE) * by_words
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

    def _compare(self, query_vector: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The cosine and the closeness of every vector, shape (n,) each."""
        if query_vector.shape != self._matrix.shape[1:]:
            raise ValueError(
                f"the query's vector has shape {query_vector.shape}, the documents' {self._matrix.shape[1:]}"
            )
        cosines = self._matrix @ query_vector
        return cosines, cosines if self._centre is None else self._centre.closeness(cosines, query_vector)

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


def ranks_of(branch: Sequence[tuple[Any, Any]]) -> list[int]:
    """The ranks of a branch, whose equal values share one."""
    ranks: list[int] = []
    for position, (_, value) in enumerate(branch, start=1):
        tied = position > 1 and value == branch[position - 2][1]
        ranks.append(ranks[-1] if tied else position)
    return ranks
