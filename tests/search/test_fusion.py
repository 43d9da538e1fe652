"""Reciprocal rank fusion gives the server's numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.embed.base import FusionWeights
from lkmongo.search.atlas_answers import fuse

# From the server's own test of `$rankFusion` (jstests, sort_stress_test.js) and the example of its manual page.
SERVER_NUMBERS = [
    ((1, 2, 1), 0.048915917503966164),
    ((1, 1, 3), 0.04865990111891751),
    ((1, 2), 0.03252247488101534),
    ((3, 1), 0.032266458495966696),
    ((1,), 0.01639344262295082),
    ((2,), 0.016129032258064516),
]


def branch_with_rank(key, rank):
    """A branch in which `key` stands at `rank`, behind others."""
    return [(f"other-{place}", -place) for place in range(1, rank)] + [(key, -rank)]


@pytest.mark.parametrize(("ranks", "score"), SERVER_NUMBERS)
def test_scores_are_the_servers(ranks, score):
    fused = fuse({f"branch{n}": branch_with_rank("x", rank) for n, rank in enumerate(ranks)})
    (found,) = [f for f in fused if f.key == "x"]
    assert math.isclose(found.score, score, rel_tol=0, abs_tol=1e-12)
    assert tuple(found.ranks[f"branch{n}"] for n in range(len(ranks))) == ranks


def test_weights_scale_their_branch():
    (first,) = fuse({"vector": [("x", 1)], "text": [("x", 1)]}, {"vector": 0.7, "text": 0.3})
    assert math.isclose(first.score, 0.01639344262295082, abs_tol=1e-12)
    ninth = fuse({"a": branch_with_rank("x", 9)}, {"a": 3})[-1]
    assert math.isclose(ninth.score, 0.043478260869565216, abs_tol=1e-12)


def test_equal_values_share_a_rank_and_the_next_rank_skips():
    fused = fuse({"a": [("p", 5.0), ("q", 3.0), ("r", 3.0), ("s", 3.0), ("t", 1.0)]})
    assert {f.key: f.ranks["a"] for f in fused} == {"p": 1, "q": 2, "r": 2, "s": 2, "t": 5}


def test_equal_scores_come_in_the_order_of_keys():
    fused = fuse({"a": [("zebra", 2), ("ape", 1)], "b": [("ape", 2), ("zebra", 1)]})
    assert [f.key for f in fused] == ["ape", "zebra"]
    assert fused[0].score == fused[1].score


def test_a_branch_that_returns_nothing_changes_no_score():
    alone = fuse({"vector": [("x", 2), ("y", 1)]}, {"vector": 0.7})
    beside = fuse({"vector": [("x", 2), ("y", 1)], "text": []}, {"vector": 0.7, "text": 0.3})
    assert [(f.key, f.score) for f in alone] == [(f.key, f.score) for f in beside]
    assert fuse({"vector": [], "text": []}) == []


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_must_be_a_number_from_zero_up(weight):
    with pytest.raises(ValueError, match="must be a number from 0 up"):
        fuse({"a": [("x", 1)]}, {"a": weight})
    with pytest.raises(ValueError, match="must be a number from 0 up"):
        FusionWeights(vector=weight, text=0.3)


def test_a_weight_for_no_branch_is_refused_by_name():
    with pytest.raises(ValueError, match="'vectors' names none of the branches text, vector"):
        fuse({"vector": [("x", 1)], "text": []}, {"vectors": 0.7})


def test_two_zero_weights_would_find_nothing_and_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        FusionWeights(0, 0)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.dictionaries(st.integers(0, 20), st.integers(0, 5)),
    ),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0, 10)),
)
def test_fusion_is_the_sum_of_its_branches_whatever_they_hold(values, weights):
    branches = {name: sorted(found.items(), key=lambda item: -item[1]) for name, found in values.items()}
    weights = {name: weight for name, weight in weights.items() if name in branches}
    fused = fuse(branches, weights)
    assert {f.key for f in fused} == {key for found in values.values() for key in found}
    for f in fused:
        expected = 0.0
        for name, found in values.items():
            if f.key in found:
                rank = 1 + sum(value > found[f.key] for value in found.values())
                assert f.ranks[name] == rank
                expected += weights.get(name, 1.0) / (60 + rank)
        assert math.isclose(f.score, expected, abs_tol=1e-12)
    order = [(-f.score, f.key) for f in fused]
    assert order == sorted(order)
