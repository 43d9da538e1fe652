"""Rows of an index and documents it does not know yet become one ranking; a silence that cannot be right is noticed."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.embed.base import FusionWeights
from lkmongo.embed.vectors import to_bson
from lkmongo.model import now
from lkmongo.search.atlas_answers import (
    MEMORY,
    Answer,
    Branches,
    Candidate,
    Centres,
    RecentDocuments,
    ScopeCentre,
    answer_from_ranks,
    answer_from_score_details,
    answer_from_scores,
    fuse,
    merge,
    merge_by_scores,
    text_index_missed,
)
from lkmongo.search.exact import ExactIndex

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


@pytest.mark.parametrize(("query", "found"), [("Katze", [1]), ("Hund", [0]), ("cat", [])])
def test_a_few_short_texts_are_compared_in_a_language_that_the_question_may_be_in(query, found):
    candidates = {0: Candidate("Hunde", embedded=False), 1: Candidate("Katzen", embedded=False)}
    hits = merge(Branches([], [(0, 2.0), (1, 1.0)], candidates), NOTHING, query, None, WEIGHTS, 0.0, 30)
    assert [hit.key for hit in hits] == found


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


def scored(label, **scores):
    return {"memory_type": label, "content": "x", "scores": scores}


def test_the_branches_are_read_out_of_the_scores_of_a_fusion():
    rows = [scored("b", vector=0.75, text=3.5), scored("a", vector=1.0, text=0), scored("c", vector="NA", text=1.5)]
    answer = answer_from_scores(rows, MEMORY)
    assert (answer.near, answer.worded) == ([("a", 1.0), ("b", 0.5)], [("b", 3.5), ("c", 1.5)])
    assert set(answer.documents) == {"a", "b", "c"}
    with pytest.raises((AttributeError, KeyError)):
        answer_from_scores([{"memory_type": "a", "content": "x"}], MEMORY)


_DEPTH = 6
_BRANCH = st.lists(st.integers(0, 12), unique=True, max_size=_DEPTH)


@given(_BRANCH, _BRANCH, st.sampled_from([(0.7, 0.3), (0.25, 0.75), (0.5, 0.5), (0.95, 0.05)]), st.data())
def test_without_details_ranks_are_told_from_scores_and_vectors(near, worded, weights, data):
    """What 8.0 returns is enough to fuse again as if both branches were there."""
    weights = FusionWeights(*weights)
    key = "slot_{:02}".format
    cosines = {n: 0.99 - 0.04 * place for place, n in enumerate(near)}
    if len(near) > 1 and data.draw(st.booleans()):
        cosines[near[1]] = cosines[near[0]]  # equals share a rank
    # A vector that is not among the nearest is far away if these are all that were asked for, else there is none.
    far = {n: -0.5 for n in worded if n not in cosines and len(near) == _DEPTH}
    vectors = {n: np.array([c, np.sqrt(1 - c * c)], dtype=np.float32) for n, c in (cosines | far).items()}
    by_vector = [(key(n), cosines[n]) for n in near]
    by_words = [(key(n), float(-place)) for place, n in enumerate(worded)]
    fused = fuse({"vector": by_vector, "text": by_words}, weights.by_branch())
    rows = [
        {"memory_type": f.key, "score": f.score, "embedding": None if n not in vectors else to_bson(vectors[n])}
        for f in fused
        for n in [int(f.key[-2:])]
    ]
    answer = answer_from_ranks(rows, MEMORY, EAST, weights, _DEPTH)
    assert [k for k, _ in answer.worded] == [k for k, _ in by_words]
    assert {k: round(c, 4) for k, c in answer.near} == {k: round(c, 4) for k, c in by_vector}
    found = fuse({"vector": answer.near, "text": answer.worded}, weights.by_branch())
    assert [(f.key, f.ranks) for f in found] == [(f.key, f.ranks) for f in fused]


def test_a_score_that_the_ranks_do_not_explain_lets_the_words_be_looked_for_here():
    row = {"memory_type": "a", "content": "tea", "score": 0.7 / 65, "embedding": to_bson(EAST)}
    answer = answer_from_ranks([row], MEMORY, EAST, FusionWeights(0.7, 0.3), 30)
    assert (answer.near, answer.worded) == ([("a", 1.0)], None)


@given(st.integers(1, 40), st.integers(0, 2**32), st.data())
def test_by_scores_the_result_is_that_of_an_exact_index(count, seed, data):
    rng = np.random.default_rng(seed)
    words = "green black tea bread milk dog nurse river".split()
    keys = [f"k{n:02}" for n in range(count)]
    texts = {key: " ".join(rng.choice(words, rng.integers(1, 7))) for key in keys}
    matrix = rng.standard_normal((count + 1, 12)).astype(np.float32) + rng.standard_normal(12).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    vectors, asked = dict(zip(keys, matrix[:-1], strict=True)), matrix[-1]
    bare = data.draw(st.sets(st.sampled_from(keys)))
    unknown = data.draw(st.sets(st.sampled_from(keys))) | bare
    query = " ".join(rng.choice(words, 3))
    embedded = {key: vector for key, vector in vectors.items() if key not in bare}
    exact = ExactIndex(keys, list(texts.values()), [embedded.get(key) for key in keys])
    expected = exact.search(query, asked, 10, WEIGHTS, 0.2)

    answer = Answer(near=[(k, float(np.float32(v @ asked))) for k, v in vectors.items() if k not in unknown])
    answer.documents = {key: {"updated_at": now() - OLD} for key in keys if key not in unknown}
    recent = RecentDocuments(
        {key: Candidate(texts[key], key in embedded) for key in unknown},
        {key: embedded[key] for key in unknown & embedded.keys()},
    )
    centre = ScopeCentre.of(embedded, now())
    hits = merge_by_scores(answer, recent, texts, query, asked, WEIGHTS, 0.2, 10, centre)
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-3)
    assert {hit.key for hit in hits[:5]} == {hit.key for hit in expected[:5]} or len({h.score for h in hits}) < 10


def test_a_centre_fits_as_long_as_nothing_came_went_or_changed():
    vectors = {"a": EAST, "b": np.array([0, 1], dtype=np.float32)}
    centre = ScopeCentre.of(vectors, now() - timedelta(minutes=1))
    old, new = {"updated_at": now() - OLD}, {"updated_at": now()}
    assert centre.fits({"a": old, "b": old}, set(), 9)
    assert centre.fits({"a": old}, {"b"}, 9)
    assert centre.fits({"a": old, "b": {}}, set(), 9), "a document without a date"
    assert not centre.fits({"a": old}, set(), 9)
    assert not centre.fits({"a": old, "b": old, "c": old}, set(), 9)
    assert not centre.fits({"a": old, "b": new}, set(), 9)
    assert centre.along_of({"a": old, "c": old, "b": new})[1:] == [pytest.approx(sum(centre.along.values()) / 2)] * 2
    assert ScopeCentre.of({}, now()) is None


def test_of_too_many_nothing_is_taken_away_as_long_as_there_are_too_many():
    none = ScopeCentre.of_too_many(2, now())
    assert none.along_of({"a": {}}) == [0.0]
    assert none.fits({"a": {}, "b": {}}, {"c"}, 3)
    assert not none.fits({"a": {}, "b": {}}, set(), 3)


def test_only_the_centres_of_the_last_scopes_are_kept():
    centre = ScopeCentre.of({"a": EAST}, now())
    kept = Centres(size=2)
    for scope in ("x", "y", "z"):
        kept.keep(scope, centre)
        assert kept.get("x" if scope != "z" else "y") is (centre if scope != "z" else None)
    kept.keep("x", None)
    assert (kept.get("x"), kept.get("z")) == (None, centre)


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
