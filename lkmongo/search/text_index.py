"""The text branch: a BM25 index in memory.

BM25 is the "lucene" variant: its inverse document frequency, `ln(1 + (N - df + 0.5) / (df + 0.5))`, stays positive for
a word in every text, so that a match counts even in a corpus of one.
"""

from __future__ import annotations

import logging
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from lkmongo.search.words import ENGLISH, content_words, language_of, stem, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

_SOUNDS = str.maketrans("cqzv", "kksf", "aeiouyhw")
_K1 = 1.2  # Lucene's default, which Atlas Search scores with
_HALF_LENGTH = 30
"""Words; texts of this mean length are normalised by half of it (BM25's b)."""
MOST = 0.5
"""Of a query's content words: a text with more than this share has most of them."""
_MIN_COMPOUND = 5  # letters; shorter compounds are often accidental: "in to", "a way"


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
        self.mean_length = sum(map(len, cut)) / max(1, len(cut))
        """Words of a text, on average."""
        self._vocabulary = {base: number for number, base in enumerate(sorted(set(chain.from_iterable(cut))))}
        self._by_first_letter: dict[str, list[str]] | None = None
        if not self._vocabulary:
            return
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG, one line an index
        # Among short texts a longer one says more, and should not pay for its length. Among long ones it merely has
        # more words by chance.
        by_length = self.mean_length / (self.mean_length + _HALF_LENGTH)
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
            enough = shares[fit] > MOST
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
        for word in wanted:
            scores = self._word_scores(word, never)
            total += scores
            held += scores > 0
        held /= np.float32(max(1, len(wanted)))
        return total, held

    def _wanted(self, query: str) -> tuple[list[str], frozenset[str]]:
        """The content words; two that the texts write as one, such as "sound bar", are joined."""
        wanted, never = content_words(query, self._language)
        for parts in pairwise(words(query)):
            joined = stem("".join(parts), self._language)
            if len(joined) >= _MIN_COMPOUND and joined in self._vocabulary and joined not in never:
                apart = {stem(part, self._language) for part in parts}
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
