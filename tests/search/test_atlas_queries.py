"""What the Atlas strategy sends, stage by stage."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.embed.base import FusionWeights
from lkmongo.model import TenantScope, UserScope
from lkmongo.search import atlas_queries
from lkmongo.search.atlas_queries import QueryWords
from lkmongo.store.indexes.definitions import LANGUAGES

SCOPE = UserScope(tenant_id="acme", user_id="u-1").filter
VECTOR = np.array([1.0, 0.0], dtype=np.float32)
NEAR = [
    {
        "$vectorSearch": {
            "index": "memories_embedding_index",
            "path": "embedding",
            "queryVector": [1.0, 0.0],
            "limit": 30,
            "filter": {"tenant_id": "acme", "user_id": "u-1"},
            "exact": True,
        }
    },
    {"$match": {"tenant_id": "acme", "user_id": "u-1", "embedding_model": "m@2"}},
]
JOINED, GERMAN = (
    [{"value": path, "multi": multi} for path in ("label_words", "content")] for multi in ("joined", "de")
)
TERMS = QueryWords(("dog", "biscuit"), ("dogbiscuit",), ("en", "de"))
WORDED = [
    {
        "$search": {
            "index": "memories_text_index",
            "compound": {
                "filter": [
                    {"equals": {"path": "tenant_id", "value": "acme"}},
                    {"equals": {"path": "user_id", "value": "u-1"}},
                ],
                "should": [
                    {"text": {"query": ["dog", "biscuit"], "path": ["label_words", "content", *JOINED, *GERMAN]}},
                    {
                        "text": {
                            "query": ["biscuit"],
                            "path": ["label_words", "content"],
                            "fuzzy": {"maxEdits": 1, "prefixLength": 2, "maxExpansions": 10},
                        }
                    },
                    {"text": {"query": ["dogbiscuit"], "path": ["label_words", "content"]}},
                ],
                "minimumShouldMatch": 1,
            },
        }
    },
    {"$match": {"tenant_id": "acme", "user_id": "u-1"}},
    {"$limit": 30},
]
SHOWN = {"_id": 0, "memory_type": 1, "content": 1, "created_at": 1, "updated_at": 1, "embedding_model": 1}


def test_memories_by_vector():
    score = {"score": {"$meta": "vectorSearchScore"}}
    assert atlas_queries.memories_by_vector(SCOPE, VECTOR, "m@2", 30) == [*NEAR, {"$project": SHOWN | score}]


def test_memories_by_text():
    score = {"score": {"$meta": "searchScore"}}
    assert atlas_queries.memories_by_text(SCOPE, TERMS, 30) == [*WORDED, {"$project": SHOWN | score}]


def test_words_too_short_to_be_misspelt_are_taken_as_they_are():
    (search, *_) = atlas_queries.memories_by_text(SCOPE, QueryWords(("dog", "a-1005"), (), ("en",)), 30)
    (clause,) = search["$search"]["compound"]["should"]
    assert clause == {"text": {"query": ["dog", "a-1005"], "path": ["label_words", "content", *JOINED]}}


def test_both_branches_are_fused_with_the_weights_of_the_embedder():
    weights = FusionWeights(vector=0.7, text=0.3)
    stages = atlas_queries.memories_by_ranks(SCOPE, VECTOR, TERMS, "m@2", weights, 30, details=True)
    assert stages == [
        {
            "$rankFusion": {
                "input": {"pipelines": {"vector": NEAR, "text": WORDED}},
                "combination": {"weights": {"vector": 0.7, "text": 0.3}},
                "scoreDetails": True,
            }
        },
        {"$limit": 60},
        {"$project": SHOWN | {"details": {"$meta": "scoreDetails"}}},
    ]


def test_knowledge_by_vector():
    scope = TenantScope("acme").filter
    assert atlas_queries.knowledge_by_vector(scope, VECTOR, "m@2", 30) == [
        {
            "$vectorSearch": {
                "index": "knowledge_embedding_index",
                "path": "embedding",
                "queryVector": [1.0, 0.0],
                "limit": 30,
                "filter": {"tenant_id": "acme"},
                "numCandidates": 600,
            }
        },
        {"$match": {"tenant_id": "acme", "embedding_model": "m@2"}},
        {
            "$project": {"_id": 0, "source": 1, "chunk": 1, "title": 1, "content": 1}
            | {"updated_at": 1, "embedding_model": 1, "score": {"$meta": "vectorSearchScore"}}
        },
    ]


@pytest.mark.parametrize(("limit", "depth"), [(1, 30), (5, 30), (30, 30), (31, 31), (500, 500), (5_000, 5_000)])
def test_an_approximate_search_looks_at_twenty_times_what_it_returns_or_at_all(limit, depth):
    assert atlas_queries.depth_for(limit) == depth
    options = atlas_queries.knowledge_by_vector({"tenant_id": "t"}, VECTOR, "m", depth)[0]["$vectorSearch"]
    assert options["limit"] == depth
    if depth <= 500:
        assert 20 * depth <= options["numCandidates"] <= 10_000
        assert "exact" not in options
    else:
        assert options["exact"] is True
        assert "numCandidates" not in options


@pytest.mark.parametrize(
    ("query", "found", "joined", "languages"),
    [
        ("What is my voice mail?", ["voice", "mail"], ["whatis", "myvoice", "voicemail"], ["en"]),
        ("Mother's Wi-Fi", ["mother's", "wi-fi"], ["wifi"], list(LANGUAGES)),
        ("crème brûlée, Crème", ["crème", "brûlée"], ["crèmebrûlée", "brûléecrème"], list(LANGUAGES)),
        ("the dog, the DOG", ["dog"], ["thedog", "dogthe"], list(LANGUAGES)),
        ("a way", ["way"], [], list(LANGUAGES)),
        ("Wie heißt meine Katze?", ["heisst", "katze"], ["wieheisst", "heisstmeine", "meinekatze"], ["de"]),
        ("what is it", [], ["whatis"], ["en"]),
        ("?!", [], [], list(LANGUAGES)),
    ],
)
def test_the_words_of_a_question(query, found, joined, languages):
    terms = atlas_queries.query_words(query)
    assert (list(terms.words), list(terms.joined), list(terms.languages)) == (found, joined, languages)
    assert bool(terms) == bool(found)


def test_a_long_question_is_cut_to_what_a_small_cluster_takes():
    """A boolean query has at most 1,024 clauses there, with all variants of misspelt words."""
    words = ["".join(parts) for parts in itertools.product("bdf", ("ano", "ipu", "uro"), ("lk", "mt", "sp"))]
    (search, *_) = atlas_queries.memories_by_text(SCOPE, atlas_queries.query_words(" ".join(words)), 30)
    compound = search["$search"]["compound"]
    texts = [clause["text"] for clause in compound["should"]]
    assert [len(text["query"]) for text in texts] == [atlas_queries.MAX_WORDS] * 3
    variants = [text.get("fuzzy", {"maxExpansions": 1})["maxExpansions"] for text in texts]
    clauses = [len(text["query"]) * len(text["path"]) * most for text, most in zip(texts, variants, strict=True)]
    assert sum(clauses) + len(compound["filter"]) <= 1_024


@given(st.text(max_size=200), st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_whatever_is_asked_the_scope_is_compared_and_never_interpreted(query, tenant, user):
    scope = {"tenant_id": tenant, "user_id": user}
    terms = atlas_queries.query_words(query)
    for word in (*terms.words, *terms.joined):
        assert word.strip()
    search, match, limit = atlas_queries.memories_by_text(scope, terms, 30)[:3]
    clauses = search["$search"]["compound"]["filter"]
    assert {clause["equals"]["path"]: clause["equals"]["value"] for clause in clauses} == scope
    assert (match, limit) == ({"$match": scope}, {"$limit": 30})
    assert json.dumps(atlas_queries.memories_by_vector(scope, VECTOR, "m", 30))
