"""The exact scan finds what is nearest, what matches, and nothing when nothing does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.embed.base import FusionWeights
from lkmongo.search.exact import BRANCH_DEPTH, ExactIndex

EVEN = FusionWeights(0.5, 0.5)


def unit(*numbers):
    vector = np.array(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


EAST, NORTH, WEST = unit(1, 0), unit(0, 1), unit(-1, 0)


def search(index, query="", vector=None, limit=5, weights=EVEN, floor=0.2):
    return index.search(query, vector, limit, weights, floor)


def test_both_branches_are_fused_by_their_ranks():
    index = ExactIndex(["a", "b", "c"], ["green tea", "tea of a green kind", "bread"], [unit(1, 1), EAST, NORTH])
    hits = search(index, "green tea", EAST)
    assert [(hit.key, hit.vector_rank, hit.text_rank) for hit in hits] == [("a", 2, 1), ("b", 1, 2)]
    assert hits[0].score == pytest.approx(0.5 / 61 + 0.5 / 62, abs=1e-12)


def test_without_a_matching_word_a_cosine_below_the_floor_is_no_hit():
    index = ExactIndex(["a", "b"], ["tea", "bread"], [unit(0.21, 1), unit(0.19, 1)])
    assert [hit.key for hit in search(index, "zebra", EAST, floor=0.2)] == ["a"]
    assert search(index, "zebra", WEST) == []


def test_a_matching_word_counts_whatever_the_cosine():
    index = ExactIndex(["a"], ["tea"], [WEST])
    (hit,) = search(index, "tea", EAST)
    assert (hit.vector_rank, hit.text_rank) == (None, 1)


def test_a_far_vector_gives_a_stray_word_no_points():
    index = ExactIndex(["far", "near"], ["tea time", "bread"], [unit(0.1, 1), EAST])
    near, far = search(index, "time", EAST, weights=FusionWeights(0.6, 0.4))
    assert (near.key, far.key) == ("near", "far")


def test_beside_vectors_one_word_of_many_gives_no_points():
    index = ExactIndex(["near", "stray"], ["sleeps until two", "two stray cats of the neighbor"], [EAST, unit(1, 1)])
    near, stray = search(index, "when do my two girls nap", EAST)
    assert (near.key, near.text_rank, stray.text_rank) == ("near", None, None)
    alone = search(index, "when do my two girls nap")
    assert {hit.key for hit in alone} == {"near", "stray"}, "without a vector words are all there is"


def test_one_word_is_enough_to_find_a_document_without_a_vector():
    index = ExactIndex(["new", "old"], ["my two cats", "two stray cats"], [None, NORTH])
    assert [hit.key for hit in search(index, "when do my two girls nap", EAST)] == ["new"]


def test_documents_without_a_vector_take_part_by_their_words():
    index = ExactIndex(["a", "b"], ["tea", "bread"], [None, EAST])
    assert {hit.key for hit in search(index, "tea", EAST)} == {"a", "b"}
    assert len(index) == 2
    assert index.vector_count == 1


def test_a_document_without_a_vector_is_not_behind_for_it():
    index = ExactIndex(["new", "vague"], ["sister Marta", "bread"], [None, unit(1, 2)])
    hits = search(index, "sister", EAST, weights=FusionWeights(0.7, 0.3))
    assert [(hit.key, hit.vector_rank, hit.text_rank) for hit in hits] == [("new", None, 1), ("vague", 1, None)]
    assert hits[0].score == pytest.approx(1 / 61)


def test_a_document_that_fits_by_both_stays_before_one_without_a_vector_that_fits_less():
    index = ExactIndex(["new", "old"], ["tea", "green tea"], [None, EAST])
    assert [hit.key for hit in search(index, "green tea", EAST)] == ["old", "new"]


def test_without_a_vector_words_alone_are_searched():
    index = ExactIndex(["a", "b"], ["tea", "bread"], [EAST, EAST])
    assert [(hit.key, hit.vector_rank) for hit in search(index, "tea")] == [("a", None)]


def test_equal_documents_come_in_the_order_of_their_keys_and_share_a_rank():
    index = ExactIndex(["z", "m", "a"], ["x", "x", "x"], [EAST, EAST, EAST])
    hits = search(index, "none", EAST, limit=2)
    assert [(hit.key, hit.vector_rank) for hit in hits] == [("a", 1), ("m", 1)]


def test_ties_at_the_edge_of_the_branch_go_to_the_first_keys():
    keys = [f"k{n:03d}" for n in range(100)]
    index = ExactIndex(keys[::-1], ["x"] * 100, [EAST] * 100)
    assert [place for place, _ in index.nearest(EAST, 7)] == list(range(7))


def test_the_limit_is_kept_and_zero_finds_nothing():
    index = ExactIndex(list(range(50)), ["tea"] * 50, [EAST] * 50)
    assert len(search(index, "tea", EAST, limit=3)) == 3
    assert len(search(index, "tea", EAST, limit=BRANCH_DEPTH + 10)) == BRANCH_DEPTH + 10
    assert search(index, "tea", EAST, limit=0) == []


def test_an_empty_index_finds_nothing():
    assert search(ExactIndex([], [], []), "tea", EAST) == []


def test_an_array_of_rows_is_as_good_as_a_list():
    rows = np.stack([EAST, NORTH])
    assert search(ExactIndex(["a", "b"], ["x", "y"], rows), "q", EAST) == search(
        ExactIndex(["a", "b"], ["x", "y"], list(rows)), "q", EAST
    )


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="2 keys, 1 texts and 1 vectors"):
        ExactIndex(["a", "b"], ["x"], [EAST])
    with pytest.raises(ValueError, match=r"shape \(3,\), the documents' \(2,\)"):
        search(ExactIndex(["a"], ["x"], [EAST]), "x", unit(1, 0, 0))


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**31))
def test_the_vector_branch_is_the_full_sort(size, count, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, size=(size, 3)).astype(np.float32)  # small integers, so that there are ties
    has_vector = rng.random(size) < 0.8
    index = ExactIndex(
        list(range(size)), ["x"] * size, [row if has else None for row, has in zip(rows, has_vector, strict=True)]
    )
    query = np.array([1, 2, -1], dtype=np.float32)
    expected = sorted(
        ((place, float(rows[place] @ query)) for place in range(size) if has_vector[place]),
        key=lambda hit: (-hit[1], hit[0]),
    )
    assert index.nearest(query, count) == expected[:count]
