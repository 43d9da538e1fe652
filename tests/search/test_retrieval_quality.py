"""The weights that are shipped with the local embedder keep what they are for, on questions they were not fitted on."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import retrieval
from benchmarks.retrieval_sets import load
from lkmongo.embed.base import FusionWeights
from lkmongo.embed.local import LocalEmbedder


@pytest.fixture(scope="module")
def embedder():
    return LocalEmbedder()


@pytest.fixture(scope="module")
def scopes(embedder):
    return asyncio.run(load(embedder))


def figures(scopes, search):
    return retrieval.measure(scopes, search, retrieval.reported)


def test_the_questions_are_enough_and_fall_into_two_halves(scopes):
    questions = [question for scope in scopes for question in scope.questions]
    assert len(questions) >= 150
    assert sum(len(scope.index) for scope in scopes) >= 300
    assert 0.4 < sum(question.for_fitting for question in questions) / len(questions) < 0.6
    assert {scope.kind for scope in scopes} == {"memories", "knowledge"}
    assert all(question.answers for question in questions)


def test_both_branches_together_are_at_least_as_good_as_the_better_one(scopes, embedder):
    both = figures(scopes, retrieval.fused(embedder.weights, embedder.floor))
    branches = figures(scopes, retrieval.by_vector(embedder.floor)), figures(scopes, retrieval.by_text)
    assert retrieval.shortfalls(both, *branches) == []
    assert both.mrr > max(branch.mrr for branch in branches), "else words are not worth their place"


def test_words_that_count_for_nearly_everything_would_fall_short(scopes, embedder):
    """The guard guards: weights that were not fitted do not pass."""
    both = figures(scopes, retrieval.fused(FusionWeights(0.02, 0.98), embedder.floor))
    branches = figures(scopes, retrieval.by_vector(embedder.floor)), figures(scopes, retrieval.by_text)
    assert retrieval.shortfalls(both, *branches)


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("what is your return policy", "Returns: Our return policy in short"),
        ("how long does shipping take", "Shipping: How long does shipping take?"),
    ],
)
def test_what_callers_ask_first_is_answered_by_its_own_passage(scopes, embedder, question, title):
    from lkmongo.store.seed.seeds import default_seed_folder, load_seeds

    (shop,) = [scope for scope in scopes if scope.name == "default"]
    (asked,) = [each for each in shop.questions if each.text == question]
    best = retrieval.fused(embedder.weights, embedder.floor)(shop, asked)[0]
    titles = {
        (p.source, p.chunk): p.title for t, p in load_seeds(default_seed_folder()).passages if t.tenant_id == "default"
    }
    assert titles[best.key] == title
