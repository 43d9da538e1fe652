"""Rows of an index and documents it does not know yet become one ranking; a silence that cannot be right is noticed."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.embed.base import FusionWeights
from lkmongo.model import now
from lkmongo.search.atlas_queries import (
    MEMORY,
    Answer,
    Branches,
    Candidate,
    RecentDocuments,
    answer_from_score_details,
    merge,
    text_index_missed,
)

WEIGHTS = FusionWeights(vector=0.7, text=0.3)
NOTHING = RecentDocuments({}, {})
EAST = np.array([1, 0], dtype=np.float32)
OLD, NEW = timedelta(hours=1), timedelta(0)


def branches(near, worded, texts, bare=()):
    candidates = {key: Candidate(text, key not in bare) for key, text in texts.items()}
    return Branches(near, worded, candidates)


def fused(answer, fresh=NOTHING, query="dog", vector=EAST, floor=0.2, depth=30):
    hits = merge(answer, fresh, query, vector, WEIGHTS, floor, depth)
    return [(hit.key, hit.vector_rank, hit.text_rank) for hit in hits]


def test_both_branches_are_fused_by_their_ranks():
    answer = branches([("a", 0.9), ("b", 0.5)], [("b", 7.0)], {"a": "cat", "b": "dog"})
    (first, second) = merge(answer, NOTHING, "dog", EAST, WEIGHTS, 0.2, 30)
    assert (first.key, first.score) == ("b", pytest.approx(0.7 / 62 + 0.3 / 61, abs=1e-15))
    assert (second.key, second.score) == ("a", pytest.approx(0.7 / 61, abs=1e-15))


def test_what_is_below_the_floor_has_no_rank():
    assert fused(branches([("a", 0.9), ("b", 0.1)], [], {"a": "cat", "b": "bird"})) == [("a", 1, None)]


def test_what_the_index_says_of_a_document_that_was_read_is_dropped():
    answer = branches([("pet", 0.9)], [("pet", 7.0)], {"pet": "dog"})
    fresh = RecentDocuments({"pet": Candidate("a parrot", embedded=False)}, {})
    assert fused(answer, fresh) == []
    assert fused(answer, fresh, query="parrot") == [("pet", None, 1)]


def test_the_vector_of_a_new_document_is_ranked_among_the_others():
    answer = branches([("a", 0.9), ("b", 0.5)], [], {"a": "one", "b": "two"})
    vector = np.array([0.7, np.sqrt(1 - 0.49)], dtype=np.float32)
    fresh = RecentDocuments({"new": Candidate("three", embedded=True)}, {"new": vector})
    assert fused(answer, fresh, query="?") == [("a", 1, None), ("new", 2, None), ("b", 3, None)]


def test_the_words_of_a_new_document_are_compared_with_those_of_the_others():
    answer = branches([], [("a", 9.0)], {"a": "dog name Biscuit"})
    fresh = RecentDocuments({"new": Candidate("sister name Marta", embedded=False)}, {})
    assert fused(answer, fresh, query="name of the dog") == [("a", None, 1), ("new", None, 2)]


def test_without_a_text_index_the_words_of_all_candidates_count():
    answer = branches([("a", 0.9), ("b", 0.8)], None, {"a": "cat", "b": "dog"})
    assert fused(answer) == [("b", 2, 1), ("a", 1, None)]


def test_without_a_vector_words_count_for_both_branches():
    answer = branches([("a", 0.9)], [("b", 7.0)], {"a": "cat", "b": "dog"}, bare={"b"})
    (first, _) = merge(answer, NOTHING, "dog", EAST, WEIGHTS, 0.2, 30)
    assert (first.key, first.score) == ("b", pytest.approx(1 / 61))


_TEXTS = st.lists(st.sampled_from(["green tea", "black tea", "bread", "tea and bread", "milk"]), min_size=1, max_size=8)


@given(_TEXTS, st.data())
def test_a_document_ranks_alike_wherever_it_is_read_from(texts, data):
    keys = [f"k{n}" for n in range(len(texts))]
    angles = data.draw(st.lists(st.floats(0, 3), min_size=len(keys), max_size=len(keys)))
    vectors = [np.array([np.cos(angle), np.sin(angle)], dtype=np.float32) for angle in angles]
    bare = data.draw(st.sets(st.sampled_from(keys)))
    unknown = data.draw(st.sets(st.sampled_from(keys))) | bare
    candidates = {key: Candidate(text, key not in bare) for key, text in zip(keys, texts, strict=True)}

    def ranked(unknown):
        near = [(k, float(v @ EAST)) for k, v in zip(keys, vectors, strict=True) if k not in unknown]
        near.sort(key=lambda entry: (-entry[1], entry[0]))
        answer = Branches(near, None, {key: candidates[key] for key, _ in near})
        embedded = {k: v for k, v in zip(keys, vectors, strict=True) if k in unknown - bare}
        recent = RecentDocuments({k: candidates[k] for k in unknown}, embedded)
        found = merge(answer, recent, "green tea", EAST, WEIGHTS, 0.2, 30)
        return [(hit.key, hit.vector_rank, hit.text_rank) for hit in found]

    assert ranked(unknown) == ranked(set(keys))


# ---------------------------------------------------------------- what the server tells


def row(label, **ranks):
    details = [
        {"inputPipelineName": name, "rank": rank, "weight": 0.5, "details": []} | ({"value": value} if value else {})
        for name, (rank, value) in ranks.items()
    ]
    return {"memory_type": label, "content": "x", "details": {"value": 0.1, "details": details}}


def test_the_branches_are_read_out_of_the_details_of_a_fusion():
    rows = [row("b", vector=(2, 0.75), text=(1, 3.5)), row("a", vector=(1, 1.0), text=("NA", None))]
    rows += [row("c", vector=(0, None), text=(2, 1.5))]  # as older servers say "not there"
    answer = answer_from_score_details(rows, MEMORY)
    assert answer.near == [("a", 1.0), ("b", 0.5)]
    assert answer.worded == [("b", 3.5), ("c", 1.5)]
    assert set(answer.documents) == {"a", "b", "c"}


def test_details_may_be_an_object_by_the_names_of_the_branches():
    older = {
        "memory_type": "a",
        "content": "x",
        "details": {
            "value": 0.1,
            "details": {"vector": {"rank": 1, "value": 1.0, "details": {}}, "text": {"rank": "NA", "details": {}}},
        },
    }
    answer = answer_from_score_details([older], MEMORY)
    assert (answer.near, answer.worded) == ([("a", 1.0)], [])


def test_details_without_scores_are_of_no_use():
    with pytest.raises(KeyError):
        answer_from_score_details([row("a", vector=(1, None), text=(1, 2.0))], MEMORY)


@pytest.mark.parametrize(
    ("words", "content", "age", "silent"),
    [
        (["biscuit"], "called Biscuit.", OLD, True),
        (["biscuit"], "called Biscuit.", NEW, False),  # it may not be there yet
        (["biscuits"], "called Biscuit.", OLD, False),  # another word, to an index that does not stem
        (["example"], "example.com", OLD, False),  # one word, to the standard analyzer
        (["42"], "number 42", OLD, False),
        ([], "called Biscuit.", OLD, False),
    ],
)
def test_a_text_branch_that_misses_a_word_that_is_there_is_silent(words, content, age, silent):
    moment = now()
    answer = Answer(worded=[])
    answer.take(
        "vector", [{"memory_type": "pet", "content": content, "updated_at": moment - age, "score": 0.9}], MEMORY
    )
    assert text_index_missed(answer, words, moment - timedelta(seconds=30), MEMORY) is silent
    answer.worded = [("other", 1.0)]
    assert not text_index_missed(answer, words, moment - timedelta(seconds=30), MEMORY)
