"""What is measured of fusion on Atlas: by scores the same as the exact strategy finds, by ranks something else."""

from __future__ import annotations

import numpy as np

from benchmarks.retrieval_atlas import WAYS, measure, table
from benchmarks.retrieval_public import Asked, Loaded, Searchable
from lkmongo.search.exact import ExactIndex

WORDS = "tea dog nurse garden piano train bread winter doctor river".split()


def loaded(count: int = 60) -> Loaded:
    rng = np.random.default_rng(4)
    texts = tuple(" ".join(rng.choice(WORDS, 5)) for _ in range(count))
    vectors = rng.standard_normal((count, 8)).astype(np.float32) + 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = tuple(
        Asked(" ".join(rng.choice(WORDS, 2)), vectors[place], frozenset({int(place)})) for place in range(0, count, 6)
    )
    scope = Searchable(lambda: ExactIndex(range(count), texts, vectors), asked, texts, vectors)
    return Loaded("made up", "test", "turns", count, 5.0, (scope,))


def test_by_scores_all_of_the_first_five_are_those_of_the_exact_strategy():
    figures = measure(loaded())
    assert figures["memories, scores"] == figures["exact"]
    assert figures["exact"][1] == 1.0
    assert figures["memories, ranks"][1] < 1.0
    assert figures["... centre not known"][1] < 1.0


def test_the_table_has_a_row_for_each_set_and_their_mean():
    head, _, row, mean = table([loaded()]).splitlines()
    assert head.count("|") == len(WAYS) + 2
    assert row.startswith("| made up | ")
    assert mean.removeprefix("| **mean**") == row.removeprefix("| made up")
