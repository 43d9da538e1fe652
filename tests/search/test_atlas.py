"""The Atlas strategy behind the stand-in: what it sends, and what it says when a part fails, is late, or is silent."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from pymongo.operations import SearchIndexModel

from lkmongo.embed.vectors import to_bson
from lkmongo.errors import DatabaseOverloadedError, DatabaseUnavailableError, DriftError, NotReadyError
from lkmongo.model import Passage, TenantScope, UserScope
from lkmongo.search.atlas import AtlasStrategy
from lkmongo.search.strategy import NotForAtlasError, SearchTimeoutError
from lkmongo.store.indexes.definitions import KNOWLEDGE_VECTOR, MEMORIES_TEXT, MEMORIES_VECTOR, search_indexes
from lkmongo.store.mongo.client import create_client
from tests.search_backends import open_backend, place

ROBIN, SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-100"), UserScope(tenant_id="default", user_id="u-200")
SHOP = TenantScope("default")
SLOTS = {"pet": "a golden retriever called Biscuit", "job": "nurse at the hospital", "allergies": "peanuts"}
PASSAGES = [
    Passage("returns.md", 0, "Returns", "You can return any unused item within 30 days for a full refund."),
    Passage("shipping.md", 0, "Shipping", "Standard delivery takes three to five business days."),
]
FUSED, APART = "atlas-fused", "atlas-apart"
INDEXES = {index.name: index for index in search_indexes(256)}


@pytest.fixture(scope="module", params=[FUSED, APART])
def where(request):
    with place(request.param, request) as made:
        yield made


@pytest.fixture
async def backend(where):
    async with open_backend(where) as made:
        yield made
        for name, index in INDEXES.items():  # what a test dropped or spoilt
            await remake(made, name, index.definition)


async def drop(backend, name):
    collection = backend.db[INDEXES[name].collection]
    await collection.drop_search_index(name)
    await asyncio.to_thread(backend.standin.finish_builds)


async def remake(backend, name, definition):
    """Give an index this definition, as an operator would, and let it be built."""
    index = INDEXES[name]
    collection = backend.db[index.collection]
    found = await (await collection.list_search_indexes(name)).to_list()
    if found and found[0]["latestDefinition"] == definition:
        return
    if found:
        await drop(backend, name)
    await collection.create_search_index(SearchIndexModel(definition, name=name, type=index.type))
    await asyncio.to_thread(backend.standin.finish_builds)


async def trail(backend, seconds):
    """Let the indexes know what is there now, and of what comes only after so many seconds."""
    await asyncio.to_thread(backend.standin.advance, seconds)
    await asyncio.to_thread(backend.standin.set_lag, seconds)


def labels(result):
    return [found.item.memory_type for found in result.hits]


def searches(backend):
    return [command for command in backend.standin.commands if command.name == "aggregate"]


# ---------------------------------------------------------------- what is sent


async def test_every_search_names_the_scope_twice_and_is_bounded(backend):
    backend.standin.commands.clear()
    await backend.strategy_with(backend.embedder, deadline=60).memories(ROBIN, "golden retriever")
    await backend.strategy_with(backend.embedder, deadline=60).knowledge(SHOP, "returns")
    sent = searches(backend)
    assert all(command.max_time_ms == 48_000 for command in sent)
    assert all(command.read_concern in (None, {"level": "local"}) for command in sent)
    stages = [stage for command in sent for stage in command.pipeline]
    branches = [
        spec for stage in stages for spec in stage.get("$rankFusion", {}).get("input", {}).get("pipelines", {}).values()
    ]
    for pipeline in [*branches, *(command.pipeline for command in sent if "$rankFusion" not in command.stages)]:
        first, match = pipeline[0], pipeline[1]["$match"]
        if "$vectorSearch" in first:
            scope = first["$vectorSearch"]["filter"]
        else:
            scope = {each["equals"]["path"]: each["equals"]["value"] for each in first["$search"]["compound"]["filter"]}
        assert scope in (ROBIN.filter, SHOP.filter)
        assert scope.items() <= match.items()
    assert len(sent) == (2 if backend.name == FUSED else 3)


async def test_the_fusion_on_the_server_gives_the_scores_that_the_one_here_gives(backend):
    await backend.remember(ROBIN, SLOTS | {f"note_{n}": f"a remark on dogs, number {n}" for n in range(12)})
    fused = await AtlasStrategy(backend.db, backend.embedder, fuses=True, deadline=30).memories(
        ROBIN, "dogs remark", 10
    )
    apart = await AtlasStrategy(backend.db, backend.embedder, fuses=False, deadline=30).memories(
        ROBIN, "dogs remark", 10
    )
    assert [(f.item, f.vector_rank, f.text_rank) for f in fused.hits] == [
        (f.item, f.vector_rank, f.text_rank) for f in apart.hits
    ]
    assert [f.score for f in fused.hits] == pytest.approx([f.score for f in apart.hits], abs=1e-12)
    if backend.name == FUSED:
        asked = [command for command in searches(backend) if "$rankFusion" in command.stages][-1]
        weights = asked.pipeline[0]["$rankFusion"]["combination"]["weights"]
        assert weights == backend.embedder.weights.by_branch()


async def test_where_the_server_cannot_tell_how_it_fused_it_is_asked_once(where, backend):
    if backend.name == FUSED:
        pytest.skip("this server can")
    strategy = AtlasStrategy(backend.db, backend.embedder, fuses=True, deadline=30)
    await backend.remember(ROBIN, SLOTS)
    backend.standin.commands.clear()
    for _ in range(3):
        assert labels(await strategy.memories(ROBIN, "golden retriever"))[0] == "pet"
    assert len(backend.standin.recorded("$rankFusion")) == 1
    apart = [command for command in backend.standin.recorded("$search") if "$rankFusion" not in command.stages]
    assert len(apart) == 3


@pytest.mark.parametrize(
    ("code", "again_after"),
    [(40324, 3_600), (224, 3_600), (8, 30), (2, 30)],
    ids=["unknown", "disabled", "not ready", "anything else"],
)
async def test_a_fusion_that_failed_is_tried_again_after_a_time(backend, code, again_after):
    if backend.name != FUSED:
        pytest.skip("there is none")
    seconds = 0.0
    strategy = backend.strategy_with(backend.embedder, clock=lambda: seconds)
    await backend.remember(ROBIN, SLOTS)
    backend.standin.fail("$rankFusion", code=code, message="not now")
    backend.standin.commands.clear()
    for moment, fusions in ((0, 1), (again_after - 1, 1), (again_after, 2)):
        seconds = moment
        result = await strategy.memories(ROBIN, "golden retriever")
        assert (labels(result)[0], result.degraded) == ("pet", None)
        assert len(backend.standin.recorded("$rankFusion")) == fusions


@pytest.mark.parametrize("needs_vectors", [True, False])
async def test_a_branch_that_is_refused_for_overload_is_the_exact_strategys_turn_if_there_is_one(
    backend, needs_vectors
):
    if backend.name == FUSED:
        pytest.skip("one answer for both branches")
    await backend.remember(ROBIN, SLOTS)
    strategy = backend.strategy_with(backend.embedder, needs_vectors=needs_vectors)
    backend.standin.commands.clear()
    backend.standin.fail("$search", code=489, message="Server is at capacity")
    if needs_vectors:
        with pytest.raises(DatabaseOverloadedError, match="overloaded") as caught:
            await strategy.memories(ROBIN, "golden retriever")
        assert caught.value.why == "Server is at capacity (code 489)"
    else:
        result = await strategy.memories(ROBIN, "golden retriever")
        assert labels(result)[0] == "pet"
        assert "MongoDB is overloaded" in result.degraded
    assert len(backend.standin.recorded("$search")) == len(backend.standin.recorded("$vectorSearch")) == 1


async def test_the_address_may_ask_for_another_read_concern(backend):
    await backend.remember(ROBIN, SLOTS)
    async with create_client(f"{backend.standin.uri}&readConcernLevel=majority") as client:
        strategy = AtlasStrategy(client[backend.db.name], backend.embedder, deadline=30)
        assert (await strategy.memories(ROBIN, "golden retriever")).degraded is None


@pytest.mark.parametrize(
    ("quantization", "cosine", "found"),
    [("none", 0.152, True), ("scalar", 0.152, False), ("scalar", 0.158, True), ("binary", 0.152, True)],
)
async def test_the_floor_of_knowledge_is_that_of_its_index(where, backend, quantization, cosine, found):
    if backend.name == FUSED:
        pytest.skip("the same")
    (query,) = await backend.embedder.embed(["zebra crossing"], kind="query")
    across = np.roll(query, 1) - float(np.roll(query, 1) @ query) * query
    vector = cosine * query + (1 - cosine**2) ** 0.5 * across / np.linalg.norm(across)
    fields = {"embedding": to_bson(vector.astype(np.float32)), "embedding_model": backend.embedder.model}
    await backend.add(SHOP, PASSAGES[:1], embedded=False, **fields)
    await backend.remember(ROBIN, SLOTS)
    await backend.db.memories.update_one({"memory_type": "job"}, {"$set": fields})
    strategy = backend.strategy_with(backend.embedder)
    strategy.quantization = quantization
    assert [hit.item for hit in (await strategy.knowledge(SHOP, "zebra crossing")).hits] == PASSAGES[: int(found)]
    assert "job" in labels(await strategy.memories(ROBIN, "zebra crossing")), "memories are searched exactly"


# ---------------------------------------------------------------- whose it is, on a stale index


async def test_what_became_somebody_elses_since_is_not_found_and_takes_nobodys_place(backend):
    await backend.remember(ROBIN, {f"pet_{n:02}": "a golden retriever" for n in range(60)})
    await trail(backend, 3600)
    moved = [f"pet_{n:02}" for n in range(30)]
    await backend.db.memories.update_many({"memory_type": {"$in": moved}}, {"$set": SOMEBODY_ELSE.filter})
    result = await backend.strategy.memories(ROBIN, "golden retriever", limit=30)
    by_words = [found for found in result.hits if found.text_rank is not None]
    assert not set(labels(result)) & set(moved)
    assert len(by_words) == 30, "a limit before the match would leave fewer"
    assert (await backend.strategy.memories(SOMEBODY_ELSE, "golden retriever")).hits == []


# ---------------------------------------------------------------- an index that trails


@pytest.mark.parametrize("lag", [5.0, 25.0])
async def test_a_new_memory_is_found_by_the_next_question_although_the_index_trails(backend, lag):
    await backend.remember(ROBIN, SLOTS)
    await trail(backend, lag)
    await backend.remember(ROBIN, {"sister_name": "Marta"}, age=timedelta(0))
    result = await backend.strategy.memories(ROBIN, "what is the name of my sister")
    assert labels(result)[0] == "sister_name"
    assert (result.strategy, result.degraded) == ("atlas", None)
    await backend.store.memories.remember(ROBIN, "pet", "a parrot named Polly")
    assert "pet" not in labels(await backend.strategy.memories(ROBIN, "golden retriever"))
    assert labels(await backend.strategy.memories(ROBIN, "Polly the parrot"))[0] == "pet"


async def test_an_index_that_trails_for_longer_than_that_is_noticed_by_its_silence(backend):
    await backend.remember(SOMEBODY_ELSE, SLOTS)
    await backend.strategy.memories(SOMEBODY_ELSE, "dog")
    for name in (MEMORIES_VECTOR, MEMORIES_TEXT):
        await asyncio.to_thread(backend.standin.freeze, backend.db.name, "memories", name)
    await backend.remember(ROBIN, SLOTS)
    result = await backend.strategy.memories(ROBIN, "golden retriever")
    assert "memories_embedding_index finds no existing documents" in result.degraded
    for name in (MEMORIES_VECTOR, MEMORIES_TEXT):
        await asyncio.to_thread(backend.standin.set_status, backend.db.name, "memories", name, None)


# ---------------------------------------------------------------- what fails


async def test_without_the_vector_index_words_find_and_the_result_says_so(backend):
    await backend.remember(ROBIN, SLOTS)
    await drop(backend, MEMORIES_VECTOR)
    result = await backend.strategy.memories(ROBIN, "golden retriever")
    assert labels(result) == ["pet"]
    assert (result.hits[0].vector_rank, result.hits[0].text_rank) == (None, 1)
    assert "memories_embedding_index finds no existing documents" in result.degraded
    assert "lkmongo db indexes" in result.degraded


_TEXT = INDEXES[MEMORIES_TEXT].definition
_WORDS = {path: way for path, way in _TEXT["mappings"]["fields"].items() if way["type"] == "string"}
NO_TOKENS = {**_TEXT, "mappings": {"dynamic": True, "fields": _WORDS}}
EARLIER = {"mappings": {"fields": {path: {"type": way["type"]} for path, way in _TEXT["mappings"]["fields"].items()}}}
SILENT, REFUSED = "memories_text_index finds no existing documents", "a search index does not match the search"
OUTDATED = "label_words (multi: joined) not found in index"


@pytest.mark.parametrize(
    ("spoilt", "user_id", "said"),
    [
        (None, "u-100", SILENT),
        (NO_TOKENS, "robin", SILENT),
        (NO_TOKENS, "u-100", REFUSED),
        (EARLIER, "robin", OUTDATED),
    ],
    ids=["dropped", "no token mapping", "no token mapping, and an id of two words", "of an earlier release"],
)
async def test_a_text_index_that_finds_nothing_is_noticed_and_its_words_are_found_otherwise(
    backend, spoilt, user_id, said
):
    somebody = UserScope(tenant_id="default", user_id=user_id)
    await backend.remember(somebody, SLOTS)
    await drop(backend, MEMORIES_TEXT)
    if spoilt:
        await remake(backend, MEMORIES_TEXT, spoilt)
    result = await backend.strategy.memories(somebody, "golden retriever")
    assert (labels(result)[0], result.hits[0].vector_rank, result.hits[0].text_rank) == ("pet", 1, 1)
    assert said in result.degraded


async def test_without_the_index_of_knowledge_the_search_fails_and_says_why(backend):
    await backend.add(SHOP, PASSAGES)
    await drop(backend, KNOWLEDGE_VECTOR)
    with pytest.raises(DriftError, match="knowledge_embedding_index finds no existing documents"):
        await backend.strategy.knowledge(SHOP, "return an item")
    assert (await backend.strategy.knowledge(TenantScope("nobody"), "return an item")).hits == []


@pytest.mark.parametrize(
    ("stage", "lost", "kept"), [("vector", "vector_rank", "text_rank"), ("text", "text_rank", "vector_rank")]
)
async def test_an_index_that_is_being_built_leaves_the_other_branch(backend, stage, lost, kept):
    await backend.remember(ROBIN, SLOTS)
    name = MEMORIES_VECTOR if stage == "vector" else MEMORIES_TEXT
    backend.standin.set_status(backend.db.name, "memories", name, "FAILED")
    try:
        result = await backend.strategy.memories(ROBIN, "golden retriever")
    finally:
        backend.standin.set_status(backend.db.name, "memories", name, None)
    assert labels(result)[0] == "pet"
    assert getattr(result.hits[0], kept) == 1
    if stage == "vector":
        assert getattr(result.hits[0], lost) is None
    assert "a search index is not ready yet" in result.degraded
    assert "while in state FAILED" in result.degraded


async def test_both_indexes_in_the_making_are_an_error(backend):
    await backend.remember(ROBIN, SLOTS)
    names = (MEMORIES_VECTOR, MEMORIES_TEXT)
    for name in names:
        backend.standin.set_status(backend.db.name, "memories", name, "FAILED")
    try:
        with pytest.raises(NotReadyError):
            await backend.strategy.memories(ROBIN, "golden retriever")
    finally:
        for name in names:
            backend.standin.set_status(backend.db.name, "memories", name, None)


async def test_a_refused_filter_is_never_dropped(backend):
    await backend.remember(ROBIN, SLOTS)
    await backend.remember(SOMEBODY_ELSE, {"pet": "a golden retriever of somebody else"})
    bare = {"fields": [field for field in INDEXES[MEMORIES_VECTOR].definition["fields"] if field["type"] == "vector"]}
    await remake(backend, MEMORIES_VECTOR, bare)
    backend.standin.commands.clear()
    result = await backend.strategy.memories(ROBIN, "golden retriever")
    assert [found.item.content for found in result.hits] == [SLOTS["pet"]]
    assert result.hits[0].vector_rank is None
    assert "needs to be indexed as filter" in result.degraded
    text = str([command.pipeline for command in searches(backend)])
    assert text.count("$vectorSearch") == text.count("'filter': {'tenant_id': 'default', 'user_id': 'u-100'}") > 0


async def test_an_index_for_vectors_of_another_length_is_named(backend):
    await backend.remember(ROBIN, SLOTS)
    await remake(backend, MEMORIES_VECTOR, search_indexes(512)[1].definition)
    result = await backend.strategy.memories(ROBIN, "golden retriever")
    assert labels(result) == ["pet"]
    assert "indexed with 512 dimensions but queried with 256" in result.degraded
    with pytest.raises(DriftError):
        await backend.strategy_with(backend.embedder, needs_vectors=True).memories(ROBIN, "golden retriever")


async def test_a_search_process_that_is_away_is_asked_once(backend):
    await backend.remember(ROBIN, SLOTS)
    backend.standin.set_mongot(up=False)
    backend.standin.commands.clear()
    with pytest.raises(DatabaseUnavailableError, match="search process") as caught:
        await backend.strategy.knowledge(SHOP, "returns")
    assert "code 6" in caught.value.why
    with pytest.raises(DatabaseUnavailableError, match="search process"):
        await backend.strategy.memories(ROBIN, "golden retriever")
    assert len(searches(backend)) == (2 if backend.name == FUSED else 3)


@pytest.mark.parametrize("network", [False, True], ids=["the server ends it", "we end it"])
async def test_a_search_that_is_late_is_given_up(backend, network):
    await backend.remember(ROBIN, SLOTS)
    await backend.add(SHOP, PASSAGES)
    strategy = backend.strategy_with(backend.embedder, deadline=0.5)
    for search in (strategy.memories(ROBIN, "golden retriever"), strategy.knowledge(SHOP, "returns")):
        for stage in ("$rankFusion", "$vectorSearch", "$search"):
            backend.standin.delay(stage, 60, times=None, network=network)
        with pytest.raises(SearchTimeoutError):
            await search
        backend.standin.clear_faults()


async def test_a_branch_that_is_late_does_not_keep_the_other_from_answering(backend):
    if backend.name == FUSED:
        pytest.skip("one answer for both branches")
    await backend.remember(ROBIN, SLOTS)
    await backend.strategy.memories(ROBIN, "golden retriever")
    backend.standin.delay("$search", 60, times=None)
    result = await backend.strategy_with(backend.embedder, deadline=4.0).memories(ROBIN, "golden retriever")
    assert (labels(result)[0], result.hits[0].vector_rank) == ("pet", 1)
    assert "took too long" in result.degraded


async def test_a_search_that_is_cancelled_leaves_nothing_running(backend):
    backend.standin.delay("$rankFusion", 60, network=True)
    backend.standin.delay("$vectorSearch", 60, network=True)
    before = asyncio.all_tasks()
    turn = asyncio.create_task(backend.strategy.memories(ROBIN, "golden retriever"))
    while not searches(backend):  # noqa: ASYNC110 - the stand-in runs in a thread of its own
        await asyncio.sleep(0.01)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if "lkmongo" in repr(task)]
    assert left == []


async def test_more_new_passages_than_can_be_read_are_not_for_the_index(backend):
    many = [Passage("many.md", n, "Returns", f"Rule {n} of returns.") for n in range(201)]
    await backend.add(SHOP, many, embedded=False)
    with pytest.raises(NotForAtlasError, match="exact"):
        await backend.strategy.knowledge(SHOP, "returns")
