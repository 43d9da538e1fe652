"""Fusion by ranks and by scores on every kind of server: what is sent there, and that the result is the same."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from lkmongo.embed.atlas import AtlasEmbedder
from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import UserScope
from lkmongo.search import atlas_queries
from lkmongo.search.atlas import AtlasStrategy
from lkmongo.search.choose import AtlasWithFallback, fusion_for, ways_of
from lkmongo.search.strategy import ExactStrategy
from lkmongo.settings import Settings
from lkmongo.store.mongo.capabilities import Capabilities
from tests.search_backends import open_backend, place

WORDS = "tea dog nurse Lisbon garden piano train bread winter doctor sister blue river coffee school market".split()
V80 = Capabilities((8, 0, 12), search=True, rank_fusion=True)
V83 = replace(V80, version=(8, 3, 4), score_details=True, score_fusion=True, rerank=True)
SIZES = (1, 5, 120)
TOLERANCE = 2e-3
"""Of a score; those of memories are from 0 to about 10."""
SENT = {
    ("atlas-7.0", "ranks"): ["$vectorSearch", "$search"],
    ("atlas-7.0", "scores"): ["$vectorSearch", "$search"],
    ("atlas-8.0", "ranks"): ["$rankFusion"],
    ("atlas-8.0", "scores"): ["$vectorSearch", "$search"],
    ("atlas-8.1", "ranks"): ["$rankFusion"],
    ("atlas-8.1", "scores"): ["$vectorSearch", "$search"],
    ("atlas-fused", "ranks"): ["$rankFusion"],
    ("atlas-fused", "scores"): ["$scoreFusion"],
}


@pytest.fixture(scope="module", params=["atlas-7.0", "atlas-8.0", "atlas-8.1", "atlas-fused"])
def where(request):
    with place(request.param, request) as made:
        yield made


@pytest.fixture
async def backend(where):
    async with open_backend(where) as made:
        yield made


def slots(rng: random.Random, count: int) -> dict[str, str]:
    return {f"{rng.choice(WORDS)}_{n}".lower(): " ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for n in range(count)}


def questions(rng: random.Random, count: int = 3) -> list[str]:
    return [" ".join(rng.choices([*WORDS, "my", "what", "holiday"], k=rng.randint(1, 5))) for _ in range(count)]


def found(result):
    return [(hit.item.memory_type, hit.vector_rank, hit.text_rank) for hit in result.hits]


def searches(backend):
    return [next(iter(command.pipeline[0])) for command in backend.standin.commands if command.name == "aggregate"]


async def test_by_scores_the_result_is_that_of_the_exact_strategy(backend):
    rng = random.Random(7)
    exact = ExactStrategy(backend.db, backend.embedder, embed_deadline=60)
    search = AtlasWithFallback(backend.db, backend.embedder, require_atlas=True, fusion="scores", deadline=60)
    await search.warm()
    for size in SIZES:
        scope = UserScope(tenant_id="default", user_id=f"u-{size}")
        await backend.remember(scope, slots(rng, size))
        # Written a moment ago: one with a vector, one without.
        await backend.remember(scope, {"new": "a blue piano"}, age=timedelta(0))
        await backend.remember(scope, {"newest": "the river in winter"}, age=timedelta(0), embedded=False)
        for question in questions(rng):
            expected, result = await exact.memories(scope, question), await search.memories(scope, question)
            assert (result.strategy, result.degraded) == ("atlas", None)
            assert [hit.score for hit in result.hits] == pytest.approx(
                [hit.score for hit in expected.hits], abs=TOLERANCE if size > 1 else 0.2
            ), (size, question)
            if size > 1:  # of two slots the centre is read without the one that is new
                assert found(result) == found(expected), (size, question)


async def test_by_ranks_the_result_is_that_of_the_branches_apart(backend):
    rng = random.Random(8)
    apart = AtlasStrategy(backend.db, backend.embedder, fuses=False, deadline=60)
    search = AtlasWithFallback(backend.db, backend.embedder, require_atlas=True, fusion="ranks", deadline=60)
    await search.warm()
    for size in SIZES:
        scope = UserScope(tenant_id="default", user_id=f"u-{size}")
        await backend.remember(scope, slots(rng, size))
        for question in questions(rng):
            expected, result = await apart.memories(scope, question, 10), await search.memories(scope, question, 10)
            assert found(result) == found(expected), (size, question)
            assert [hit.score for hit in result.hits] == pytest.approx([hit.score for hit in expected.hits], abs=1e-9)


@pytest.mark.parametrize("fusion", ["ranks", "scores"])
async def test_what_is_sent(backend, fusion):
    scope = UserScope(tenant_id="default", user_id="u-100")
    await backend.remember(scope, slots(random.Random(9), 20))
    search = AtlasWithFallback(backend.db, backend.embedder, require_atlas=True, fusion=fusion, deadline=60)
    await search.warm()
    await search.memories(scope, "dog")
    backend.standin.commands.clear()
    before = backend.standin.seen.get("find", 0)
    await search.memories(scope, "green tea")
    assert sorted(searches(backend)) == sorted(SENT[backend.name, fusion])
    assert backend.standin.seen["find"] - before == 1, "what is new, and no vectors: the centre is known"
    stage = backend.standin.commands[-1].pipeline[0].get(SENT[backend.name, fusion][0], {})
    if backend.name == "atlas-8.0" and fusion == "ranks":
        assert "scoreDetails" not in stage
    if "combination" in stage:
        assert stage["combination"]["weights"] == backend.embedder.weights.by_branch()


async def test_the_centre_is_read_again_after_a_change(backend):
    scope = UserScope(tenant_id="default", user_id="u-100")
    await backend.remember(scope, slots(random.Random(10), 20))
    search = AtlasStrategy(backend.db, backend.embedder, fusion="scores", fuses=False, deadline=60)
    seen = backend.standin.seen

    async def reads() -> int:
        before = seen["find"]
        await search.memories(scope, "a train to Lisbon")
        return int(seen["find"] - before)

    assert [await reads(), await reads()] == [2, 1]
    await backend.remember(scope, {"more": "a train in the garden"})
    assert [await reads(), await reads(), await reads()] == [1, 2, 1]
    await backend.db.memories.delete_one(scope.filter | {"memory_type": "more"})
    assert [await reads(), await reads(), await reads()] == [1, 2, 1]


async def test_of_more_slots_than_are_looked_at_the_vectors_are_read_once_in_vain(backend, monkeypatch):
    monkeypatch.setattr(atlas_queries, "WHOLE_SCOPE", 10)
    scope = UserScope(tenant_id="default", user_id="u-100")
    await backend.remember(scope, slots(random.Random(11), 20) | {"pet": "a dog in the garden"})
    search = AtlasStrategy(backend.db, backend.embedder, fusion="scores", fuses=False, deadline=60)
    seen = backend.standin.seen

    async def reads() -> int:
        before = seen["find"]
        result = await search.memories(scope, "a dog in the garden")
        assert result.hits[0].item.memory_type == "pet"
        return int(seen["find"] - before)

    assert [await reads(), await reads(), await reads()] == [2, 1, 1]
    few = [document["_id"] async for document in backend.db.memories.find({"memory_type": {"$ne": "pet"}}).limit(15)]
    await backend.db.memories.delete_many({"_id": {"$in": few}})
    assert [await reads(), await reads(), await reads()] == [1, 2, 1]


@pytest.mark.parametrize(
    ("can", "environ", "memories", "knowledge"),
    [
        (V80, {"LKMONGO_FUSION": "ranks"}, "$rankFusion", "$vectorSearch"),
        (V80, {}, "$vectorSearch and $search, fused here by scores", "$vectorSearch"),
        (V83, {}, "$scoreFusion", "$vectorSearch"),
        (V83, {"LKMONGO_RERANK": "atlas"}, "$scoreFusion", "$vectorSearch; reranked by $rerank"),
        (
            V80,
            {"LKMONGO_RERANK": "voyage", "LKMONGO_FUSION": "ranks"},
            "$rankFusion",
            "$vectorSearch; reranked by Voyage",
        ),
        (
            V80,
            {"LKMONGO_RERANK": "atlas", "LKMONGO_SEARCH": "exact"},
            "exact: LKMONGO_SEARCH is exact",
            "exact: LKMONGO_SEARCH is exact; not reranked, this MongoDB has no $rerank",
        ),
    ],
)
def test_how_a_server_is_searched_is_told(can, environ, memories, knowledge):
    ways = ways_of(Settings.load(environ), can, LocalEmbedder(), [])
    assert ways == {"memories": memories, "knowledge": knowledge}


def test_without_details_and_vectors_the_branches_are_sent_apart():
    environ = {"LKMONGO_EMBEDDINGS": "atlas", "MONGODB_URI": "mongodb://h"}
    assert ways_of(Settings.load(environ), V80, AtlasEmbedder(), [])["memories"].endswith("fused here by ranks")
    assert ways_of(Settings.load(environ), V83, AtlasEmbedder(), [])["memories"] == "$rankFusion"


@pytest.mark.parametrize(
    ("environ", "fusion"),
    [
        ({}, "scores"),
        ({"VOYAGE_API_KEY": "k"}, "ranks"),
        ({"VOYAGE_API_KEY": "k", "LKMONGO_FUSION": "scores"}, "scores"),
        ({"LKMONGO_FUSION": "ranks"}, "ranks"),
    ],
)
def test_without_the_setting_the_embedder_decides(environ, fusion):
    assert fusion_for(Settings.load(environ)) == fusion
