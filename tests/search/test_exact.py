"""The exact scan finds what is nearest, what matches, and nothing when nothing does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.embed.base import FusionWeights
from lkmongo.search.exact import CANDIDATES, ExactIndex

EVEN = FusionWeights(0.5, 0.5)


def unit(*numbers):
    vector = np.array(numbers, dtype=np.float32)
    return vector / np.linalg.norm(vector)


EAST, NORTH, WEST = unit(1, 0), unit(0, 1), unit(-1, 0)


def search(index, query="", vector=None, limit=5, weights=EVEN, floor=0.2):
    return index.search(query, vector, limit, weights, floor)


def test_both_branches_are_fused_by_their_scores():
    index = ExactIndex(["a", "b", "c"], ["green tea", "tea of a green kind", "bread"], [unit(1, 1), EAST, NORTH])
    hits = search(index, "green tea", EAST)
    assert [(hit.key, hit.vector_rank, hit.text_rank) for hit in hits] == [("b", 1, 2), ("a", 2, 1)]
    words = search(index, "green tea", EAST, weights=FusionWeights(0, 1))
    assert [(hit.key, hit.vector_rank, hit.text_rank) for hit in words] == [("a", 2, 1), ("b", 1, 2)]
    assert all(first.score > second.score for first, second in pairwise(hits))


def test_a_rare_word_counts_more_than_a_common_one():
    texts = ["a dog called Biscuit", "black tea", *["green tea"] * 9]
    index = ExactIndex(list(range(11)), texts, [EAST] * 11)
    assert search(index, "tea and Biscuit", EAST)[0].key == 0


@pytest.mark.parametrize(("lengths", "first"), [((300, 300), "worded"), ((10, 590), "near"), ((10, 10), "worded")])
def test_vectors_count_more_where_the_lengths_of_the_texts_differ(lengths, first):
    """Not where all are long: then none has more of the words by chance than another."""
    fillers = ["bread " * length for length in lengths * 9]
    texts = ["otter " + "bread " * (sum(lengths) // 2 - 1), "bread " * (sum(lengths) // 2), *fillers]
    keys = ["worded", "near", *(f"filler {place:02}" for place in range(len(fillers)))]
    index = ExactIndex(keys, texts, [NORTH, EAST, *[NORTH] * len(fillers)])
    assert search(index, "otter", EAST, weights=FusionWeights(0.01, 0.99))[0].key == first


@pytest.mark.parametrize(("fold", "longer_first"), [(1, True), (40, False)])
def test_among_long_texts_the_longer_one_pays_for_its_length(fold, longer_first):
    """Two mentions in three times as many words are more than one among sentences, and less among long texts."""
    texts = [
        "otter " * 2 + "bread " * (6 * fold - 2),
        "otter " + "bread " * (2 * fold - 1),
        *["bread " * (4 * fold)] * 8,
    ]
    index = ExactIndex(list(range(10)), texts, [None] * 10)
    assert (search(index, "otter")[0].key == 0) == longer_first


def test_what_all_texts_of_a_scope_share_does_not_count():
    """Nearly all vectors lie in one direction, as those of one language do; what tells them apart is the rest."""
    rows = [unit(1, 1) if place == 7 else EAST for place in range(400)]
    query = unit(1, 0.3)
    assert float(EAST @ query) > float(rows[7] @ query)
    assert ExactIndex(list(range(400)), ["x"] * 400, rows).nearest(query, 1)[0][0] == 7
    assert ExactIndex(list(range(5, 8)), ["x"] * 3, rows[5:8]).nearest(query, 1)[0][0] == 0, "of three nothing is known"


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


def test_one_word_of_many_in_a_text_of_another_meaning_is_chance():
    index = ExactIndex(["near", "stray"], ["sleeps until two", "two stray cats of the neighbor"], [EAST, NORTH])
    (near,) = search(index, "when do my two girls nap", EAST)
    assert (near.key, near.text_rank) == ("near", 1)
    alone = search(index, "when do my two girls nap")
    assert {hit.key for hit in alone} == {"near", "stray"}, "without a vector words are all there is"
    assert {hit.key for hit in search(index, "two stray cats", EAST)} == {"near", "stray"}, "most of them are not"


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
    assert hits[0].score > hits[1].score


def test_nor_is_it_behind_when_no_vector_is_related():
    index = ExactIndex(["new", "other", "third"], ["sister", "sister Marta", "bread"], [None, unit(0.1, 1), WEST])
    hits = search(index, "sister", EAST)
    assert [(hit.key, hit.vector_rank, hit.text_rank) for hit in hits] == [("new", None, 1), ("other", None, 2)]


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
    index = ExactIndex(list(range(150)), ["tea"] * 150, [EAST] * 150)
    assert len(search(index, "tea", EAST, limit=3)) == 3
    assert len(search(index, "tea", EAST, limit=CANDIDATES + 10)) == CANDIDATES + 10
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


@st.composite
def indexes(draw):
    """Documents with few different vectors and words, so that there are ties."""
    size, seed = draw(st.integers(1, 60)), draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, size=(size, 3)).astype(np.float32) + np.float32(0.1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = [row if has else None for row, has in zip(rows, rng.random(size) < 0.8, strict=True)]
    texts = [" ".join(rng.choice(["tea", "bread", "milk", "salt", "oil"], 3)) for _ in range(size)]
    return vectors, texts, draw(st.sampled_from(["tea", "bread and milk", "tea salt oil soap", "nothing of it"]))


QUERY = unit(1, 2, -1)


@given(indexes(), st.integers(1, 40))
def test_the_vector_branch_is_the_full_sort(drawn, count):
    vectors, texts, _ = drawn
    index = ExactIndex(list(range(len(texts))), texts, vectors)
    there = [place for place, vector in enumerate(vectors) if vector is not None]
    everything = index.nearest(QUERY, len(texts))
    assert sorted(place for place, _ in everything) == there
    assert everything == sorted(everything, key=lambda hit: (-hit[1], hit[0]))
    assert index.nearest(QUERY, count) == everything[:count]


@given(indexes(), st.randoms(use_true_random=False))
def test_the_order_is_the_same_whatever_the_order_of_the_documents(drawn, random):
    vectors, texts, query = drawn
    mixed = list(range(len(texts)))
    random.shuffle(mixed)
    index = ExactIndex(list(range(len(texts))), texts, vectors)
    other = ExactIndex(mixed, [texts[n] for n in mixed], [vectors[n] for n in mixed])
    hits = search(index, query, QUERY, limit=9)
    assert hits == search(other, query, QUERY, limit=9)
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.key))


@given(indexes())
def test_every_hit_has_words_of_the_question_or_a_cosine_above_the_floor(drawn):
    vectors, texts, query = drawn
    index = ExactIndex(list(range(len(texts))), texts, vectors)
    for hit in search(index, query, QUERY, limit=len(texts), floor=0.4):
        vector, worded = vectors[hit.key], bool(set(query.split()) & set(texts[hit.key].split()))
        assert (hit.vector_rank is not None) == (vector is not None and float(vector @ QUERY) >= 0.4)
        assert hit.text_rank is None or worded
        assert hit.vector_rank is not None or hit.text_rank is not None
        assert hit.score >= 0
