"""The text branch of the exact strategy: BM25 with a tolerance for how speech recognition spells.

The library's "lucene" variant is used for its inverse document frequency, `ln(1 + (N - df + 0.5) / (df + 0.5))`:
it stays above zero for a word that every text holds, so that a match counts as one in a corpus of one.
"""

from __future__ import annotations

import logging
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from lkmongo.search.words import content_words, stem, words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

_SOUNDS = str.maketrans("cqzv", "kksf", "aeiouyhw")
_K1, _B = 1.2, 0.75  # Lucene's defaults, which Atlas Search scores with
_MOST = 0.5
_JOINED = 5  # letters; shorter words are often two by accident: "in to", "a way"


class _Stems(dict[str, str]):
    """The stems of the words that were asked for."""

    def __missing__(self, word: str) -> str:
        found = self[word] = stem(word)
        return found


class Cutter:
    """Cuts texts into the stems of their words; one that was there the last time is not cut again.

    For what is indexed anew whenever a little of it changes. It holds the texts of the last time, and no others.
    """

    def __init__(self) -> None:
        """Nothing was cut yet."""
        self._known: dict[str, list[str]] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """The stems of each text, in their order."""
        stem_of = _Stems().__getitem__
        before, self._known = self._known, {}
        for text in texts:
            if text not in self._known:
                known = before.get(text)
                self._known[text] = list(map(stem_of, words(text))) if known is None else known
        return [self._known[text] for text in texts]


class TextIndex:
    """Texts that can be searched by words. Building one touches no event loop: it may run in a thread."""

    def __init__(self, texts: Sequence[str], cutter: Cutter | None = None) -> None:
        """Index `texts`; a hit is told by its position among them. `cutter` may know most of them already."""
        cut = (cutter or Cutter())(texts)
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
        """Return up to `limit` texts that hold a content word of the query, as (position, score), best first.

        Equal scores come in order of position, so the same texts and query give the same answer everywhere.

        Args:
            query: the words to look for.
            limit: how many at most.
            spared: positions for which one word is enough; of all others more than half of the query's content
                words are asked. None spares every text.
        """
        scores, shares = self._compare(query)
        fit = np.flatnonzero(scores)
        if spared is not None:
            enough = shares[fit] > _MOST
            if spared:
                enough |= np.array([position in spared for position in fit.tolist()], dtype=bool)
            fit = fit[enough]
        best = fit[np.lexsort((fit, -scores[fit]))][:limit]
        return [(position, float(scores[position])) for position in best.tolist()]

    def _compare(self, query: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The BM25 score of every text, shape (n,), and the share of the query's content words that it holds."""
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
        """The content words; two that the texts write as one, such as "sound bar", are one."""
        wanted, never = content_words(query)
        for parts in pairwise(words(query)):
            joined = stem("".join(parts))
            if len(joined) >= _JOINED and joined in self._vocabulary and joined not in never:
                apart = {stem(part) for part in parts}
                wanted = [*(word for word in wanted if word not in {*apart, joined}), joined]
        return wanted, never

    def _word_scores(self, word: str, never: frozenset[str]) -> NDArray[np.float32]:
        if word in self._vocabulary:
            return self._scores_of(word)
        best = np.zeros(self._size, dtype=np.float32)
        for near, likeness in self._near(word, never):
            np.maximum(best, self._scores_of(near) * np.float32(likeness), out=best)
        return best

    def _scores_of(self, word: str) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._bm25.get_scores_from_ids([self._vocabulary[word]])
        return scores

    def _near(self, word: str, never: frozenset[str]) -> list[tuple[str, float]]:
        """The known words fewest edits away from one that is not known, with a likeness below 1.

        One edit is allowed from 4 letters, two from 8; two letters that changed places are one edit, as in
        Atlas Search. The first letter must be the same, and below 6 letters the consonants must sound alike:
        "Marc" is "Mark", but "tire" is not "time". Numbers are never bent into others.
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
    """The consonants of a word, those that sound alike as one: "marc" and "mark" are "mrk"."""
    plain = word.replace("ph", "f").translate(_SOUNDS)
    return "".join(letter for letter, _ in groupby(plain))
