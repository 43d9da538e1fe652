"""Vectors that are missing are made: all of them, once, in the right tenant, whatever interrupts it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from lkmongo.embed.base import OverloadedError
from lkmongo.embed.choose import open_embedder
from lkmongo.embed.local import LocalEmbedder
from lkmongo.embed.vectors import from_bson, to_bson
from lkmongo.model import Fact, Passage, SessionRecord, SessionStatus, TenantScope, UserScope, now
from lkmongo.search.strategy import ExactStrategy
from lkmongo.settings import Settings
from lkmongo.store.indexes import backfill as module
from lkmongo.store.indexes.backfill import backfill, count_missing
from lkmongo.store.indexes.definitions import search_indexes
from lkmongo.store.people.forget import forget
from lkmongo.summary import Summary
from tests.embedding_services import KEY, OpenAI, Voyage, serving

ROBIN, KIM = UserScope(tenant_id="default", user_id="u-100"), UserScope(tenant_id="other", user_id="u-100")
EMBEDDER = LocalEmbedder()


class OtherModel(LocalEmbedder):
    model = "another@256"


class Interrupted(LocalEmbedder):
    """Embeds in small pieces, and fails after some of them."""

    def __init__(self, pieces):
        self.pieces = pieces
        self.texts = []

    async def embed_many(self, texts, *, documents=None, on_wait=None):
        if on_wait:
            on_wait(7.0)
        for start in range(0, len(texts), 3):
            if not self.pieces:
                raise OverloadedError("Voyage answered 503")
            self.pieces -= 1
            self.texts += texts[start : start + 3]
            yield await self.embed(texts[start : start + 3], kind="document")


async def remember(store, scope, count=1, embedder=None):
    for number in range(count):
        memory = await store.memories.remember(scope, f"slot {number}", f"value {number}")
        if embedder:
            vector = (await embedder.embed([memory.embedded_text], kind="document"))[0]
            await store.memories.set_vector(scope, memory, vector, embedder.model)


async def add(store, tenant, count=1, **fields):
    await store.db.knowledge.insert_many(
        tenant.filter
        | {"source": "a.md", "chunk": number, "title": "Tea", "content": f"Tea number {number}.", "updated_at": now()}
        | fields
        for number in range(count)
    )


async def unembedded(store, model=EMBEDDER.model):
    collections = (store.db.memories, store.db.knowledge)
    return [await each.count_documents({"embedding_model": {"$ne": model}}) for each in collections]


def counts(filled):
    """Of memories and passages; those of summaries if there are any."""
    found = {each.collection: (each.missing, each.embedded, each.changed, each.unfit) for each in filled}
    return {name: numbers for name, numbers in found.items() if name != "sessions" or any(numbers)}


async def test_what_has_no_vector_or_another_models_gets_one(store):
    await remember(store, ROBIN, 3)
    await remember(store, KIM, 2, OtherModel())
    await add(store, ROBIN.tenant, 2)
    filled = await backfill(store.db, EMBEDDER)
    assert counts(filled) == {"memories": (5, 5, 0, 0), "knowledge": (2, 2, 0, 0)}
    assert await unembedded(store) == [0, 0]
    slot = await store.db.memories.find_one(KIM.filter | {"memory_type": "slot_1"})
    (expected,) = await EMBEDDER.embed([Fact("slot_1", "value 1").embedded_text], kind="document")
    assert from_bson(slot["embedding"], 256) == pytest.approx(expected, abs=1e-6)
    passage = await store.db.knowledge.find_one({"chunk": 1})
    (expected,) = await EMBEDDER.embed([Passage("a.md", 1, "Tea", "Tea number 1.").embedded_text], kind="document")
    assert from_bson(passage["embedding"], 256) == pytest.approx(expected, abs=1e-6)
    assert counts(await backfill(store.db, EMBEDDER)) == {"memories": (0, 0, 0, 0), "knowledge": (0, 0, 0, 0)}


async def test_summaries_of_calls_get_one_too(store):
    at = now()
    for number, (scope, text) in enumerate([(ROBIN, "A lamp."), (ROBIN, ""), (KIM, "A chair.")]):
        record = SessionRecord(f"s-{number}", scope, "room", SessionStatus.COMPLETE, at, at, summary=Summary(text, at))
        await store.sessions.save(record)
    await store.sessions.save(SessionRecord("s-9", ROBIN, "room", SessionStatus.COMPLETE, at, at))
    assert counts(await count_missing(store.db, EMBEDDER, thorough=True))["sessions"] == (2, 0, 0, 0)
    assert counts(await backfill(store.db, EMBEDDER))["sessions"] == (2, 2, 0, 0)
    (call,) = await store.summaries.of_person(KIM, vectors=True)
    (expected,) = await EMBEDDER.embed(["A chair."], kind="document")
    assert from_bson(call.vector, 256) == pytest.approx(expected, abs=1e-6)
    assert call.model == EMBEDDER.model
    assert "sessions" not in counts(await backfill(store.db, EMBEDDER, thorough=True))


async def test_it_is_found_by_text_before_and_by_meaning_after(store):
    await store.memories.remember(ROBIN, "pet", "a golden retriever")
    search = ExactStrategy(store.db, EMBEDDER)
    assert (await search.memories(ROBIN, "do I have a dog")).hits == []
    assert (await search.memories(ROBIN, "retriever")).hits[0].text_rank == 1
    await backfill(store.db, EMBEDDER)
    assert (await search.memories(ROBIN, "do I have a dog")).hits[0].vector_rank == 1


async def test_an_interrupted_run_keeps_what_it_did_and_the_next_one_does_the_rest(store, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 10)
    await remember(store, ROBIN, 25)
    await add(store, ROBIN.tenant, 4)
    first = Interrupted(5)
    with pytest.raises(OverloadedError):
        await backfill(store.db, first)
    assert await unembedded(store) == [25 - 10 - 3, 4], "the first batch, and a piece of the second"
    second = Interrupted(100)
    await backfill(store.db, second)
    assert await unembedded(store) == [0, 0]
    assert set(first.texts) & set(second.texts) == set(), "nothing is embedded twice"


async def test_progress_and_waits_are_told(store, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 10)
    await remember(store, ROBIN, 13)
    told, waits = [], []
    await backfill(store.db, Interrupted(100), on_progress=lambda *step: told.append(step), on_wait=waits.append)
    assert told == [("memories", done, 13) for done in (0, 3, 6, 9, 10, 13)] + [("knowledge", 0, 0), ("sessions", 0, 0)]
    assert waits == [7.0, 7.0]


async def test_what_is_written_anew_meanwhile_does_not_get_the_old_vector(store):
    await remember(store, ROBIN, 2)

    class Meanwhile(LocalEmbedder):
        async def embed_many(self, texts, *, documents=None, on_wait=None):
            await store.memories.remember(ROBIN, "slot 0", "something else")
            await forget(store, ROBIN, ["slot 1"])
            yield await self.embed(texts, kind="document")

    assert counts(await backfill(store.db, Meanwhile()))["memories"] == (2, 0, 2, 0)
    slot = await store.db.memories.find_one(ROBIN.filter)
    assert (slot["content"], "embedding" in slot) == ("something else", False)
    assert counts(await backfill(store.db, EMBEDDER))["memories"] == (1, 1, 0, 0)


async def test_only_the_tenant_that_is_named(store):
    for person in (ROBIN, KIM):
        await remember(store, person, 2)
        await add(store, person.tenant, 1)
    filled = await backfill(store.db, EMBEDDER, tenant=TenantScope("other"))
    assert counts(filled) == {"memories": (2, 2, 0, 0), "knowledge": (1, 1, 0, 0)}
    left = await store.db.memories.distinct("tenant_id", {"embedding": {"$exists": False}})
    assert left == ["default"]


async def test_thorough_means_vectors_that_cannot_be_used_too(store):
    await remember(store, ROBIN, 5, EMBEDDER)
    good = await store.db.memories.find_one(ROBIN.filter | {"memory_type": "slot_4"})
    for number, spoilt in enumerate((to_bson(np.ones(3, dtype=np.float32)), [1.0, 2.0], None, "text")):
        await store.db.memories.update_one({"memory_type": f"slot_{number}"}, {"$set": {"embedding": spoilt}})
    assert counts(await backfill(store.db, EMBEDDER))["memories"][0] == 0
    assert counts(await count_missing(store.db, EMBEDDER, thorough=True))["memories"] == (4, 0, 0, 0)
    assert counts(await backfill(store.db, EMBEDDER, thorough=True))["memories"] == (4, 4, 0, 0)
    assert counts(await count_missing(store.db, EMBEDDER, thorough=True))["memories"][0] == 0
    assert await store.db.memories.find_one(ROBIN.filter | {"memory_type": "slot_4"}) == good


async def test_an_old_array_of_numbers_is_a_vector(store):
    vector = (await EMBEDDER.embed(["tea"], kind="document"))[0]
    await add(store, ROBIN.tenant, 1, embedding=[float(x) for x in vector], embedding_model=EMBEDDER.model)
    assert counts(await count_missing(store.db, EMBEDDER, thorough=True))["knowledge"][0] == 0


async def test_documents_of_other_hands_stop_nothing(store):
    await store.db.memories.insert_many([ROBIN.filter | {"memory_type": f"x{n}", "content": n} for n in range(3)])
    await store.db.knowledge.insert_one(
        {"tenant_id": "default", "source": "s", "chunk": 0, "title": " ", "content": ""}
    )
    await remember(store, ROBIN, 2)
    filled = await backfill(store.db, EMBEDDER)
    assert counts(filled) == {"memories": (5, 2, 0, 3), "knowledge": (1, 0, 0, 1)}


async def test_two_at_a_time_lose_nothing(store, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 10)
    await remember(store, ROBIN, 40)
    await asyncio.gather(*(backfill(store.db, EMBEDDER) for _ in range(2)))
    assert await unembedded(store) == [0, 0]


async def test_counting_what_is_missing_reads_no_document(store):
    await remember(store, ROBIN, 3, EMBEDDER)
    for selector in ({"embedding_model": {"$ne": "m"}}, {"tenant_id": "default", "embedding_model": {"$ne": "m"}}):
        plan = await store.db.command(
            {"explain": {"count": "memories", "query": selector}, "verbosity": "executionStats"}
        )
        assert plan["executionStats"]["totalDocsExamined"] == 0


async def test_it_moves_between_all_embedders_and_back(store):
    """A vector of another model is never compared: what another one made counts as none until it is made anew."""
    await remember(store, ROBIN, 3)
    await add(store, ROBIN.tenant, 2)
    async with serving(Voyage()) as voyage, serving(OpenAI(native=256, dimensions="ignored")) as server:
        of_voyage = {"VOYAGE_API_KEY": KEY, "VOYAGE_BASE_URL": voyage.url}
        of_server = {"LKMONGO_EMBEDDING_BASE_URL": server.url, "LKMONGO_EMBEDDING_DIMENSIONS": "256"}
        prefixed = of_server | {"LKMONGO_EMBEDDING_DOCUMENT_PREFIX": "passage:"}
        stations = [
            {},
            of_voyage,
            of_server | {"LKMONGO_EMBEDDING_MODEL": "own"},
            prefixed | {"LKMONGO_EMBEDDING_MODEL": "own"},
            of_voyage | {"LKMONGO_EMBEDDING_MODEL": "voyage-context-3"},
            {},
        ]
        seen: list[int] = []
        for environ in stations:
            async with open_embedder(Settings.load(environ)) as embedder:
                search = ExactStrategy(store.db, embedder)
                before = await search.memories(ROBIN, "value 1")
                assert [hit.vector_rank for hit in before.hits] == [None] * len(before.hits) != []
                assert [each.missing for each in await count_missing(store.db, embedder)] == [3, 2, 0]
                assert counts(await backfill(store.db, embedder, thorough=True)) == {
                    "memories": (3, 3, 0, 0),
                    "knowledge": (2, 2, 0, 0),
                }
                assert await unembedded(store, embedder.model) == [0, 0]
                document = await store.db.memories.find_one(ROBIN.filter)
                assert from_bson(document["embedding"], embedder.dimensions) is not None
                after = await ExactStrategy(store.db, embedder).memories(ROBIN, "value 1")
                assert after.degraded is None
                seen.append(search_indexes(embedder.dimensions)[0].definition["fields"][0]["numDimensions"])
    assert seen == [256, 512, 256, 256, 512, 256]
    assert server.requests[-1]["input"][0].startswith("passage: ")


async def test_documents_too_long_for_the_model_stop_nothing(store):
    await add(store, ROBIN.tenant, 40)
    await store.db.knowledge.update_many({"chunk": {"$in": [5, 6, 39]}}, {"$set": {"content": "x" * 200}})
    async with serving(OpenAI(context=100)) as server:
        environ = {"LKMONGO_EMBEDDING_BASE_URL": server.url, "LKMONGO_EMBEDDING_MODEL": "e5-small"}
        async with open_embedder(Settings.load(environ)) as embedder:
            (knowledge,) = [each for each in await backfill(store.db, embedder) if each.collection == "knowledge"]
    assert (knowledge.missing, knowledge.embedded, knowledge.too_long) == (40, 37, 3)
    assert (await unembedded(store, embedder.model))[1] == 3


async def test_documents_that_are_embedded_together_are_read_whole(store, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 4)
    for source, tenant, count in (("a.md", ROBIN, 7), ("b.md", ROBIN, 2), ("a.md", KIM, 3)):
        await add(store, tenant.tenant, count, source=source)
    await store.db.knowledge.insert_one(
        {"tenant_id": "default", "source": "b.md", "chunk": 9, "title": " ", "content": ""}
    )
    await remember(store, ROBIN, 2)
    async with AsyncExitStack() as stack:
        voyage = await stack.enter_async_context(serving(Voyage()))
        environ = {"VOYAGE_BASE_URL": voyage.url, "VOYAGE_API_KEY": KEY, "LKMONGO_EMBEDDING_MODEL": "voyage-context-3"}
        embedder = await stack.enter_async_context(open_embedder(Settings.load(environ)))

        async def sent():
            voyage.requests.clear()
            told = []
            await backfill(store.db, embedder, on_progress=lambda *step: told.append(step))
            assert all(done <= total for _, done, total in told)
            return sorted(len(document) for request in voyage.requests for document in request["inputs"])

        assert await sent() == [1, 1, 2, 3, 7]
        assert await sent() == [], "one without a text does not make its document new each time"
        await store.db.knowledge.update_one(
            {"tenant_id": "default", "source": "a.md", "chunk": 4}, {"$unset": {"embedding_model": ""}}
        )
        await store.db.knowledge.update_one(
            {"tenant_id": "default", "source": "a.md", "chunk": 0}, {"$set": {"content": "Moved to the end."}}
        )
        await store.db.knowledge.update_one({"content": "Moved to the end."}, {"$set": {"chunk": 99}})
        assert await sent() == [7]
        assert voyage.requests[-1]["inputs"][0][-1] == "Tea\nMoved to the end.", "in their order, not by their age"
        await store.db.knowledge.update_one(
            {"tenant_id": "default", "source": "a.md", "chunk": 99}, {"$set": {"content": "Tea number 0.", "chunk": 0}}
        )
        (first,) = await embedder.embed([Passage("a.md", 0, "Tea", "Tea number 0.").embedded_text], kind="document")
        stored = await store.db.knowledge.find_one({"tenant_id": "default", "source": "a.md", "chunk": 0})
        assert from_bson(stored["embedding"], 512) != pytest.approx(first, abs=0.1), "its document is part of it"
