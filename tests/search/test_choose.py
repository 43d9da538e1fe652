"""Which strategy answers: the setting, what the server can do, and what it fails to do for the moment."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lkmongo import deadlines
from lkmongo.embed.atlas import AtlasEmbedder
from lkmongo.errors import DatabaseUnavailableError, NotReadyError, NotSupportedError
from lkmongo.model import Passage, TenantScope, UserScope
from lkmongo.search.choose import AtlasWithFallback, strategy_for
from lkmongo.search.strategy import ExactStrategy
from lkmongo.settings import Settings
from lkmongo.store.indexes.definitions import KNOWLEDGE_VECTOR, MEMORIES_VECTOR, search_indexes
from lkmongo.store.mongo.client import create_client
from tests.search_backends import NoQuestions, open_backend, place
from tests.standin import Standin

ROBIN, SHOP = UserScope(tenant_id="default", user_id="u-100"), TenantScope("default")
PATIENT = 30.0
"""Seconds; what a loaded machine takes is not the subject."""
SLOTS = {"pet": "a golden retriever called Biscuit", "job": "nurse at the hospital"}
PASSAGES = [
    Passage("returns.md", 0, "Returns", "You can return any unused item within 30 days for a full refund."),
    Passage("shipping.md", 0, "Shipping", "Standard delivery takes three to five business days."),
]


@pytest.fixture(scope="module", params=["atlas-fused", "atlas-apart"])
def where(request):
    with place(request.param, request) as made:
        yield made


@pytest.fixture
async def backend(where):
    async with open_backend(where) as made:
        await made.remember(ROBIN, SLOTS)
        await made.add(SHOP, PASSAGES)
        yield made


def settings(**environ: str) -> Settings:
    return Settings.load(environ)


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ExactStrategy),  # the embedded mongod
        ({"LKMONGO_SEARCH": "exact", "MONGODB_URI": "mongodb://h"}, ExactStrategy),
        ({"MONGODB_URI": "mongodb://h"}, AtlasWithFallback),
        ({"LKMONGO_SEARCH": "atlas"}, AtlasWithFallback),
    ],
)
async def test_the_setting_names_the_strategy(backend, environ, expected):
    assert type(strategy_for(settings(**environ), backend.db, backend.embedder)) is expected


async def test_the_server_is_asked_once_what_it_can_do(backend):
    search = AtlasWithFallback(backend.db, backend.embedder, deadline=PATIENT)
    backend.standin.seen.clear()
    await asyncio.gather(*(search.memories(ROBIN, "golden retriever") for _ in range(3)))
    await search.warm()
    result = await search.knowledge(SHOP, "refund")
    assert (result.strategy, result.degraded) == ("atlas", None)
    assert backend.standin.seen["buildInfo"] == 1


@pytest.mark.parametrize("profile", ["bare", "nosearch"])
async def test_a_server_without_search_is_searched_exactly_and_that_is_nothing_to_report(
    mongodb_uri, backend, profile, caplog
):
    caplog.set_level(logging.INFO, "lkmongo")
    async with Standin.before(mongodb_uri, profile=profile) as standin, create_client(standin.uri) as client:
        db = client[backend.db.name]
        search = AtlasWithFallback(db, backend.embedder, deadline=PATIENT)
        for _ in range(2):
            result = await search.memories(ROBIN, "golden retriever")
            assert (result.strategy, result.degraded) == ("exact", None)
            assert result.hits[0].item.memory_type == "pet"
        assert [record.levelname for record in caplog.records] == ["INFO"]
        with pytest.raises(NotSupportedError) as caught:
            await AtlasWithFallback(db, backend.embedder, require_atlas=True, deadline=PATIENT).memories(ROBIN, "dog")
        assert caught.value.exit_code == 7


async def test_what_fails_is_searched_exactly_and_told_once_until_it_changes(backend, caplog):
    caplog.set_level(logging.INFO, "lkmongo.search")
    search = AtlasWithFallback(backend.db, backend.embedder, deadline=PATIENT)
    await search.warm()
    backend.standin.set_mongot(up=False)
    for _ in range(3):
        for result in (await search.memories(ROBIN, "golden retriever"), await search.knowledge(SHOP, "refund")):
            assert result.strategy == "exact"
            assert result.hits[0].vector_rank == 1
            assert "searched exactly: the search process of MongoDB cannot be reached" in result.degraded
    assert len(warnings(caplog)) == 1
    backend.standin.set_mongot(up=True)
    caplog.clear()
    for _ in range(2):
        for result in (await search.memories(ROBIN, "golden retriever"), await search.knowledge(SHOP, "refund")):
            assert (result.strategy, result.degraded) == ("atlas", None)
    assert [record.message for record in caplog.records] == ["searching by the indexes again"]


@pytest.mark.parametrize("name", [MEMORIES_VECTOR, KNOWLEDGE_VECTOR])
async def test_an_index_that_is_not_ready_is_the_exact_strategys_turn(backend, name):
    collection = "memories" if name == MEMORIES_VECTOR else "knowledge"
    backend.standin.set_status(backend.db.name, collection, name, "FAILED")
    try:
        auto, insisting = (
            AtlasWithFallback(backend.db, backend.embedder, require_atlas=require_atlas, deadline=PATIENT)
            for require_atlas in (False, True)
        )
        if collection == "memories":
            result = await auto.memories(ROBIN, "do I have a dog")
            by_words = await insisting.memories(ROBIN, "golden retriever")
            assert (by_words.strategy, by_words.hits[0].vector_rank) == ("atlas", None)
        else:
            result = await auto.knowledge(SHOP, "how do I get my money back")
            with pytest.raises(NotReadyError):
                await insisting.knowledge(SHOP, "how do I get my money back")
        assert (result.strategy, result.hits[0].vector_rank) == ("exact", 1)
        assert "searched exactly: a search index is not ready yet" in result.degraded
    finally:
        backend.standin.set_status(backend.db.name, collection, name, None)


async def test_vectors_where_texts_are_asked_for_are_named_and_words_answer(backend):
    search = AtlasWithFallback(backend.db, AtlasEmbedder(), deadline=PATIENT)
    for ask, found in (
        (search.memories(ROBIN, "golden retriever"), "pet"),
        (search.knowledge(SHOP, "refund"), "Returns"),
    ):
        result = await ask
        assert (result.strategy, result.hits[0].vector_rank, found in str(result.hits[0].item)) == ("exact", None, True)
        assert "a search index does not match the search" in result.degraded
        assert "queryVector must be present" in result.degraded
        assert "run lkmongo db indexes; searched by words alone: MongoDB makes the vectors" in result.degraded


async def test_a_search_that_embeds_the_question_has_the_time_for_both(backend):
    environ = {"MONGODB_URI": "mongodb://h"}
    here = strategy_for(settings(**environ), backend.db, backend.embedder)
    there = strategy_for(settings(LKMONGO_EMBEDDINGS="atlas", **environ), backend.db, AtlasEmbedder())
    assert (here._deadline, there._deadline) == (deadlines.SEARCH, deadlines.SEARCH + deadlines.QUERY_EMBEDDING)


async def test_after_a_search_that_was_late_the_next_ones_do_not_wait_for_a_while(backend, caplog):
    search = AtlasWithFallback(backend.db, backend.embedder, deadline=1.0)
    await search.warm()
    backend.standin.delay("$vectorSearch", 60, times=None)
    backend.standin.commands.clear()
    for _ in range(3):
        result = await search.knowledge(SHOP, "refund")
        assert (result.strategy, result.hits[0].item.source) == ("exact", "returns.md")
        assert "took too long" in result.degraded
    assert len(backend.standin.recorded("$vectorSearch")) == 1
    assert len(warnings(caplog)) == 1
    backend.standin.clear_faults()
    search._paused_until = 0.0
    await search.knowledge(SHOP, "refund")
    assert len(backend.standin.recorded("$vectorSearch")) == 2


LABELS = ("SystemOverloadedError", "RetryableError")


@pytest.mark.parametrize(
    ("code", "said", "labels"),
    [
        (489, "Server is at capacity", LABELS),
        (462, "the server is overloaded", LABELS),
        (11601, "operation was interrupted", ()),
        (9_999_999, "a code of a later release", LABELS),
    ],
)
async def test_an_overloaded_search_is_sent_once_answered_exactly_and_sent_again_a_minute_later(
    backend, caplog, code, said, labels
):
    seconds = 0.0
    search = AtlasWithFallback(backend.db, backend.embedder, deadline=PATIENT, clock=lambda: seconds)
    assert (await search.memories(ROBIN, "golden retriever")).strategy == "atlas"
    ways = (lambda: search.memories(ROBIN, "golden retriever"), lambda: search.knowledge(SHOP, "refund"))
    for ask in ways:
        backend.standin.fail("$vectorSearch", code=code, message=said, labels=labels, times=None)
        backend.standin.commands.clear()
        caplog.clear()
        for _ in range(3):
            result = await ask()
            assert (result.strategy, result.hits[0].vector_rank) == ("exact", 1)
            assert result.degraded.startswith("searched exactly: MongoDB is overloaded (")
            assert "run" not in result.degraded, "there is nothing to run"
            seconds += 19
        assert len(backend.standin.recorded("$vectorSearch")) == 1
        assert len(backend.standin.recorded("$search")) <= 1
        assert len(warnings(caplog)) == 1
        assert said in caplog.text
        backend.standin.clear_faults()
        seconds += 5
        backend.standin.commands.clear()
        result = await ask()
        assert (result.strategy, result.degraded) == ("atlas", None)
        stage = "$rankFusion" if backend.name == "atlas-fused" and ask is ways[0] else "$vectorSearch"
        assert len(backend.standin.recorded(stage)) == 1


async def test_how_the_index_of_knowledge_is_quantized_is_looked_up(backend):
    index, *_ = search_indexes(backend.embedder.dimensions)
    vector, *filters = index.definition["fields"]

    async def known():
        search = AtlasWithFallback(backend.db, backend.embedder, deadline=PATIENT)
        await search.warm()
        return search._atlas.quantization

    async def define(**fields):
        definition = {"fields": [vector | fields, *filters]}
        await backend.db.command("updateSearchIndex", "knowledge", name=index.name, definition=definition)
        await asyncio.to_thread(backend.standin.finish_builds)

    await define(quantization="scalar")
    assert await known() == "scalar"
    backend.standin.set_management(up=False)
    assert await known() == "none", "what cannot be listed is not waited for"
    backend.standin.set_management(up=True)
    await define()
    assert await known() == "none"


async def test_a_server_that_is_overloaded_when_it_is_asked_what_it_can_do_is_asked_again(backend):
    seconds = 0.0
    search = AtlasWithFallback(backend.db, backend.embedder, deadline=PATIENT, clock=lambda: seconds)
    backend.standin.fail("$search", code=462, times=1)
    for _ in range(2):
        result = await search.memories(ROBIN, "golden retriever")
        assert (result.strategy, result.hits[0].vector_rank) == ("exact", 1)
        assert "MongoDB is overloaded" in result.degraded
    seconds += 61
    assert (await search.memories(ROBIN, "golden retriever")).strategy == "atlas"


async def test_without_the_questions_vector_knowledge_is_searched_by_words_without_asking_twice(backend, caplog):
    embedder = NoQuestions()
    for require_atlas in (False, True):
        search = AtlasWithFallback(backend.db, embedder, require_atlas=require_atlas, deadline=PATIENT)
        before = embedder.asked
        result = await search.knowledge(SHOP, "refund for an unused item")
        assert (result.strategy, result.hits[0].item.source) == ("exact", "returns.md")
        assert result.degraded == "searched by words alone: Voyage answered 503"
        assert embedder.asked == before + 1
    assert (
        warnings(caplog) == [f"searches of knowledge are degraded: {result.degraded}"] * 2
    )  # and nothing of the indexes


async def test_a_database_that_is_away_is_said(backend):
    async with create_client("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100") as client:
        search = AtlasWithFallback(client["nowhere"], backend.embedder)
        await search.warm()
        with pytest.raises(DatabaseUnavailableError):
            await search.memories(ROBIN, "dog")
