"""What scalar quantization of a search index does to cosines, and which floor then hides as much as before.

    python -m benchmarks.quantization [--embedder local|voyage]

MongoDB's search engine quantizes to 7 bits with Lucene's `ScalarQuantizer`, and scores approximate searches with what
is left, without looking at the full vectors; exact searches read these. The quantizer is repeated here in NumPy, so
that any embedder can be measured: of 13,560 scores that Lucene 9.12 gave to the same vectors, none differs by more than
0.0005. The questions of `benchmarks/retrieval_data` are asked, each within its scope; the quantiles are those of one
segment with the vectors of all scopes of a kind.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.retrieval_sets import Scope, load
from lkmongo.search.atlas_queries import quantized_floor

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 7
_CHUNK = 20
"""Vectors of which Lucene takes the quantiles at a time; it uses their means over all whole chunks."""
_AMONG = 5
OFFSETS = (-0.01, 0.0, 0.005, 0.01, 0.02, 0.03)
"""What is added to the embedder's floor."""


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Lucene's scalar quantizer with its default confidence interval, for vectors of unit length."""

    low: float
    high: float

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Quantizer:
        """The quantizer of a segment with these vectors, shape (n, d)."""
        dimensions = vectors.shape[1]
        outside = (1 - max(0.9, 1 - 1 / (dimensions + 1))) / 2
        bounds = []
        for start in range(0, max(len(vectors) - _CHUNK, 0) + 1, _CHUNK):
            values = np.sort(vectors[start : start + _CHUNK], axis=None)
            cut = int(len(values) * outside + 0.5)
            bounds.append((values[cut], values[len(values) - 1 - cut]))
        low, high = np.mean(bounds, axis=0)
        return cls(float(low), float(high))

    def cosines(self, queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """The cosines as the index sees them, shape (queries, vectors)."""
        (left, add_left), (right, add_right) = self._quantize(queries), self._quantize(vectors)
        seen: NDArray[np.float64] = left @ right.T + add_left[:, None] + add_right[None, :]
        return seen

    def _quantize(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The quantized vectors less the lower quantile, and what each adds to every product."""
        step = (self.high - self.low) / (2**BITS - 1)
        above = vectors.astype(np.float64) - self.low
        kept = np.rint(np.clip(above, 0, self.high - self.low) / step) * step
        return kept, (self.low * (vectors - self.low / 2) + (above - kept) * kept).sum(axis=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """The cosines of a question with its scope, as they are and as the index sees them; `right`: where answers are."""

    true: NDArray[np.float64]
    seen: NDArray[np.float64]
    right: frozenset[int]


def ask(scopes: Sequence[Scope]) -> list[Asked]:
    """Every question and every off-topic one, within its scope."""
    quantizer = Quantizer.of(np.concatenate([scope.index._matrix for scope in scopes]))  # noqa: SLF001
    asked = []
    for scope in scopes:
        matrix, keys = scope.index._matrix, scope.index._keys  # noqa: SLF001
        places = {keys[place]: row for row, place in enumerate(scope.index._places)}  # noqa: SLF001
        questions = [*scope.questions, *scope.off_topic]
        vectors = np.array([question.vector for question in questions])
        for question, true, seen in zip(questions, vectors @ matrix.T, quantizer.cosines(vectors, matrix), strict=True):
            right = frozenset(places[key] for key in question.answers if key in places)
            asked.append(Asked(true.astype(np.float64), seen, right))
    return asked


def hidden(asked: Sequence[Asked], floor: float, *, quantized: bool) -> float:
    """The share of answers among the five nearest that the floor hides."""
    best = []
    for each in asked:
        cosines = each.seen if quantized else each.true
        near = np.argsort(-cosines)[:_AMONG]
        if found := [cosines[place] for place in near if int(place) in each.right]:
            best.append(found[0])
    return float(np.mean(np.array(best) < floor))


def found_off_topic(asked: Sequence[Asked], floor: float, *, quantized: bool) -> float:
    """The share of off-topic questions for which anything is found."""
    off = [each for each in asked if not each.right]
    return float(np.mean([(each.seen if quantized else each.true).max() >= floor for each in off]))


async def report(kind: str) -> None:
    """Print the errors of the cosines, and the floors."""
    from lkmongo.embed.choose import embedder_for
    from lkmongo.settings import Settings

    embedder = embedder_for(Settings.load().model_copy(update={"embeddings": kind}))
    try:
        scopes = await load(embedder)
    finally:
        await embedder.close()
    floor = quantized_floor(embedder, "scalar")
    print(f"Embedder {embedder.model}, floor {embedder.floor}; with scalar quantization {floor:.3f}.")
    for name in ("knowledge", "memories"):
        asked = ask([scope for scope in scopes if scope.kind == name])
        errors = np.concatenate([each.seen - each.true for each in asked])
        print(
            f"\n{name}: {len(errors):,} cosines, error {errors.mean():+.4f} on the mean, "
            f"standard deviation {errors.std():.4f}, at most {np.abs(errors).max():.3f}\n"
        )
        print("| floor | answers hidden | quantized | off-topic found | quantized |\n|---|---|---|---|---|")
        for floor in [embedder.floor + offset for offset in OFFSETS]:
            cells = [
                f"{share(asked, floor, quantized=quantized):.3f}"
                for share in (hidden, found_off_topic)
                for quantized in (False, True)
            ]
            print(f"| {floor:.3f} | {' | '.join(cells)} |")


def main() -> None:
    """Measure the embedder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", choices=("local", "voyage"), default="local", help="whose vectors")
    asyncio.run(report(parser.parse_args().embedder))


if __name__ == "__main__":
    main()
