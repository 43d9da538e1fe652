"""The exact strategy on a real MongoDB: the right documents, of the right person, even when a part is missing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from pymongo import monitoring

from lkmongo.embed.base import OverloadedError
from lkmongo.embed.local import LocalEmbedder
from lkmongo.embed.vectors import to_bson
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import Fact, Passage, TenantScope, UserScope, now
from lkmongo.search.strategy import ExactStrategy, memory_index, passage_index
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.people.forget import forget

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SAME_ID_ELSEWHERE = UserScope(tenant_id="other", user_id="u-100")
SOMEBODY_ELSE = UserScope(tenant_id="default", user_id="u-200")
SHOP, OTHER_SHOP = TenantScope("default"), TenantScope("other")

SLOTS = {
    "favorite_color": "teal",
    "pet": "a golden retriever called Biscuit",
    "job": "nurse at the children's hospital",
    "allergies": "peanuts and shellfish",
    "hobby": "restoring old bicycles",
}
PASSAGES = [
    Passage("returns.md", 0, "Returns", "You can return any unused item within 30 days for a full refund."),
    Passage("shipping.md", 0, "Shipping", "Standard delivery takes three to five business days."),
    Passage("warranty.md", 0, "Warranty", "Headphones and speakers carry a two year warranty against defects."),
]


class Failing(LocalEmbedder):
    """Documents can be embedded, questions cannot."""

    def __init__(self, error=None):
        self.error = error

    async def embed(self, texts, *, kind, deadline=None):
        if kind == "document":
            return await super().embed(texts, kind=kind)
        if self.error:
            raise self.error
        await asyncio.sleep(60)
        raise AssertionError("nobody should have waited for this")


class OtherModel(LocalEmbedder):
    """The same vectors under another name."""

    model = "another@256"


@pytest.fixture
def embedder():
    return LocalEmbedder()


@pytest.fixture
def search(store, embedder):
    return ExactStrategy(store.db, embedder)


async def remember(store, scope, slots, embedder=None):
    embedder = embedder or LocalEmbedder()
    for label, content in slots.items():
        memory = await store.memories.remember(scope, label, content)
        vector = (await embedder.embed([memory.embedded_text], kind="document"))[0]
        await store.memories.set_vector(scope, memory, vector, embedder.model)


async def add(store, tenant, passages, embedder=None, **fields):
    embedder = embedder or LocalEmbedder()
    vectors = await embedder.embed([passage.embedded_text for passage in passages], kind="document")
    documents = [
        tenant.filter
        | {"source": p.source, "chunk": p.chunk, "title": p.title, "content": p.content, "updated_at": now()}
        | {"embedding": to_bson(vector), "embedding_model": embedder.model}
        | fields
        for p, vector in zip(passages, vectors, strict=True)
    ]
    await store.db.knowledge.insert_many(documents)


def labels(result):
    return [found.item.memory_type for found in result.hits]


def sources(result):
    return [found.item.source for found in result.hits]


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    ("query", "label"),
    [
        ("what is my favourite colour", "favorite_color"),  # by words, in another spelling
        ("do I have a dog", "pet"),  # by meaning: no word is the same
        ("which foods should I avoid", "allergies"),
        ("Biskuit", "pet"),
    ],
)
async def test_a_slot_is_found_by_words_or_by_meaning(store, search, query, label):
    await remember(store, ROBIN, SLOTS)
    result = await search.memories(ROBIN, query)
    assert labels(result)[0] == label
    assert result.hits[0].item.content == SLOTS[label]
    assert (result.strategy, result.degraded) == ("exact", None)


async def test_a_question_about_something_else_finds_nothing(store, search):
    await remember(store, ROBIN, SLOTS)
    await add(store, SHOP, PASSAGES)
    for query in ("how tall is mount everest", "who won the world cup", "", "  "):
        assert (await search.memories(ROBIN, query)).hits == []
        assert (await search.knowledge(SHOP, query)).hits == []


async def test_knowledge_is_found_with_its_source(store, search):
    await add(store, SHOP, PASSAGES)
    result = await search.knowledge(SHOP, "how do I get my money back")
    assert result.hits[0].item == PASSAGES[0]
    assert result.hits[0].vector_rank == 1


async def test_the_limit_is_kept(store, search):
    await remember(store, ROBIN, {f"pet_{n}": "a dog" for n in range(12)})
    assert len((await search.memories(ROBIN, "dog", limit=4)).hits) == 4
    assert len((await search.memories(ROBIN, "dog")).hits) == 5


async def test_nothing_is_found_where_nothing_is(search):
    assert (await search.memories(ROBIN, "dog")).hits == []
    assert (await search.knowledge(SHOP, "returns")).hits == []


# ---------------------------------------------------------------- whose it is


async def test_nobody_finds_what_is_not_theirs(store, search):
    await remember(store, ROBIN, SLOTS)
    await add(store, SHOP, PASSAGES)
    for other in (SAME_ID_ELSEWHERE, SOMEBODY_ELSE):
        assert (await search.memories(other, "dog called Biscuit")).hits == []
    assert (await search.knowledge(OTHER_SHOP, "return an item")).hits == []
    await add(store, OTHER_SHOP, PASSAGES[1:2])
    assert sources(await search.knowledge(OTHER_SHOP, "delivery")) == ["shipping.md"]
    assert sources(await search.knowledge(SHOP, "return an item"))[0] == "returns.md"


class Commands(monitoring.CommandListener):
    """What was sent to the server."""

    def __init__(self):
        self.sent = []

    def started(self, event):
        if event.command_name in {"find", "aggregate", "getMore"}:
            self.sent.append(event.command)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


async def test_every_read_begins_with_the_scope_and_is_bounded_in_time(store, mongodb_uri, embedder):
    from pymongo import AsyncMongoClient

    commands = Commands()
    async with AsyncMongoClient(mongodb_uri, event_listeners=[commands]) as client:
        search = ExactStrategy(client[store.db.name], embedder)
        await search.memories(ROBIN, "dog")
        await search.knowledge(SHOP, "returns")
    memories, stamp, knowledge = commands.sent
    assert memories["filter"] == ROBIN.filter
    assert stamp["pipeline"][0] == {"$match": SHOP.filter}
    assert knowledge["filter"] == SHOP.filter
    assert all(command["maxTimeMS"] > 0 for command in commands.sent)
    assert set(memories["projection"]) == {
        "_id", "memory_type", "content", "created_at", "updated_at", "embedding", "embedding_model",
    }  # fmt: skip


# ---------------------------------------------------------------- what changes


async def test_a_slot_that_was_just_written_is_found_by_its_words(store, search):
    await remember(store, ROBIN, SLOTS)
    await search.memories(ROBIN, "dog")
    await store.memories.remember(ROBIN, "sister_name", "Marta")
    result = await search.memories(ROBIN, "sister")
    assert labels(result)[0] == "sister_name"
    assert result.hits[0].vector_rank is None
    assert result.degraded is None, "a vector that is still to come is nothing to report"
    await forget(store, ROBIN, ["sister_name"])
    assert "sister_name" not in labels(await search.memories(ROBIN, "sister"))


async def test_passages_are_read_again_only_when_they_changed(store, mongodb_uri, embedder):
    from pymongo import AsyncMongoClient

    commands = Commands()
    async with AsyncMongoClient(mongodb_uri, event_listeners=[commands]) as client:
        search = ExactStrategy(client[store.db.name], embedder)

        async def reads_for(query):
            commands.sent.clear()
            result = await search.knowledge(SHOP, query)
            return sources(result)[:1], sum("find" in command for command in commands.sent)

        await add(store, SHOP, PASSAGES[:2])
        assert await reads_for("return an item") == (["returns.md"], 1)
        assert await reads_for("standard delivery") == (["shipping.md"], 0)
        # Added, changed, embedded anew, removed.
        await add(store, SHOP, PASSAGES[2:])
        assert await reads_for("warranty on headphones") == (["warranty.md"], 1)
        later = now() + timedelta(seconds=5)
        await store.db.knowledge.update_one(
            {"source": "warranty.md"}, {"$set": {"content": "Toasters: one year.", "updated_at": later}}
        )
        assert await reads_for("toasters") == (["warranty.md"], 1)
        await store.db.knowledge.update_one({"source": "warranty.md"}, {"$set": {"embedding_model": "gone@1"}})
        assert (await reads_for("toasters"))[1] == 1
        await store.db.knowledge.delete_one({"source": "shipping.md"})
        assert await reads_for("standard delivery") == ([], 1)
        assert await reads_for("standard delivery") == ([], 0)


async def test_searches_at_the_same_time_read_the_passages_once(store, mongodb_uri, embedder):
    from pymongo import AsyncMongoClient

    commands = Commands()
    await add(store, SHOP, PASSAGES)
    async with AsyncMongoClient(mongodb_uri, event_listeners=[commands]) as client:
        search = ExactStrategy(client[store.db.name], embedder)
        await asyncio.gather(*(search.knowledge(SHOP, "return an item") for _ in range(5)))
    assert sum("find" in command for command in commands.sent) == 1


async def test_what_a_search_has_begun_to_read_is_there_for_the_next_though_nobody_waited(store, mongodb_uri, embedder):
    from pymongo import AsyncMongoClient

    commands = Commands()
    await add(store, SHOP, PASSAGES)
    async with AsyncMongoClient(mongodb_uri, event_listeners=[commands]) as client:
        search = ExactStrategy(client[store.db.name], embedder)
        turn = asyncio.create_task(search.knowledge(SHOP, "return an item"))
        while not any("find" in command for command in commands.sent):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert sources(await search.knowledge(SHOP, "return an item"))[:1] == ["returns.md"]
    assert sum("find" in command for command in commands.sent) == 1


async def test_whether_passages_changed_is_told_without_reading_them(store, mongodb_uri, embedder):
    from pymongo import AsyncMongoClient

    commands = Commands()
    await database_indexes.apply(store.db)
    await add(store, SHOP, PASSAGES)
    async with AsyncMongoClient(mongodb_uri, event_listeners=[commands]) as client:
        await ExactStrategy(client[store.db.name], embedder).knowledge(SHOP, "return an item")
    stamp = commands.sent[0]
    for part in (
        stamp["pipeline"],
        *(each["$unionWith"]["pipeline"] for each in stamp["pipeline"] if "$unionWith" in each),
    ):
        own = [stage for stage in part if "$unionWith" not in stage]
        asked = {"explain": {"aggregate": "knowledge", "pipeline": own, "cursor": {}}, "verbosity": "executionStats"}
        assert max(_docs_examined(await store.db.command(asked))) <= 1, own


def _docs_examined(explained):
    if isinstance(explained, dict):
        for name, value in explained.items():
            if name == "totalDocsExamined":
                yield value
            yield from _docs_examined(value)
    elif isinstance(explained, list):
        for value in explained:
            yield from _docs_examined(value)


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Failing(OverloadedError("Voyage answered 503")), "by words alone: Voyage answered 503"),
        (Failing(), "by words alone: no vector within 0.05 s"),
    ],
    ids=["fails", "late"],
)
async def test_without_the_questions_vector_words_still_find_and_the_result_says_so(store, broken, why):
    await remember(store, ROBIN, SLOTS)
    await add(store, SHOP, PASSAGES)
    search = ExactStrategy(store.db, broken, embed_deadline=0.05)
    for result in (await search.memories(ROBIN, "dog named Biscuit"), await search.knowledge(SHOP, "warranty")):
        assert len(result.hits) == 1
        assert result.hits[0].vector_rank is None
        assert why in result.degraded


async def test_vectors_of_another_model_are_never_compared(store, search):
    await remember(store, ROBIN, {"pet": "a golden retriever"}, OtherModel())
    await remember(store, ROBIN, {"job": "nurse"})
    by_meaning = await search.memories(ROBIN, "do I have a dog")
    assert labels(by_meaning) == []
    assert "1 of 2 have a vector of another model than wordllama" in by_meaning.degraded
    assert "lkmongo db embed" in by_meaning.degraded
    by_words = await search.memories(ROBIN, "retriever")
    assert [(found.item.memory_type, found.vector_rank) for found in by_words.hits] == [("pet", None)]


async def test_a_vector_that_cannot_be_used_is_reported_and_stops_nothing(store, search):
    await add(store, SHOP, PASSAGES[:2])
    await add(store, SHOP, PASSAGES[2:], embedding=to_bson(np.ones(3, dtype=np.float32)))
    result = await search.knowledge(SHOP, "warranty for headphones")
    assert sources(result)[0] == "warranty.md"
    assert result.hits[0].vector_rank is None
    assert result.degraded.startswith("1 of 3")


async def test_old_arrays_of_numbers_are_compared_too(store, search, embedder):
    await add(store, SHOP, PASSAGES[1:])
    vector = (await embedder.embed([PASSAGES[0].embedded_text], kind="document"))[0]
    await add(store, SHOP, PASSAGES[:1], embedding=[float(number) for number in vector])
    result = await search.knowledge(SHOP, "when will I get my money back")
    assert sources(result)[0] == "returns.md"
    assert result.hits[0].vector_rank == 1


async def test_a_database_that_is_away_is_said_and_nothing_is_left_running(embedder):
    async with create_client("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100") as client:
        search = ExactStrategy(client["nowhere"], Failing())
        before = asyncio.all_tasks()
        for call in (search.memories(ROBIN, "dog"), search.knowledge(SHOP, "returns")):
            with pytest.raises(DatabaseUnavailableError):
                await call
        await asyncio.sleep(0)
        assert {task for task in asyncio.all_tasks() - before if "_embed" in repr(task)} == set()


async def test_a_search_that_is_cancelled_leaves_nothing_running(store):
    search = ExactStrategy(store.db, Failing(), embed_deadline=60)
    turn = asyncio.create_task(search.memories(ROBIN, "dog"))
    await asyncio.sleep(0.05)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert {task for task in asyncio.all_tasks() if "_embed" in repr(task)} == set()


# ---------------------------------------------------------------- size


async def test_ten_thousand_slots_are_all_searched(store, search):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((10_000, 256)).astype(np.float32)
    moment = now()
    await store.db.memories.insert_many(
        ROBIN.filter
        | {"memory_type": f"slot_{n}", "content": f"number {n} of many", "updated_at": moment}
        | ({"embedding": to_bson(vector), "embedding_model": LocalEmbedder.model} if n % 2 else {})
        for n, vector in enumerate(vectors)
    )
    await remember(store, ROBIN, {"pet": "a golden retriever called Biscuit"})
    assert labels(await search.memories(ROBIN, "do I have a dog"))[0] == "pet"
    assert labels(await search.memories(ROBIN, "9998"))[0] == "slot_9998"


def test_what_is_loaded_already_can_be_searched_without_a_database():
    east = np.array([1, 0], dtype=np.float32)
    memories = memory_index([Fact("favorite_color", "teal"), Fact("pet", "dog")], [east, None])
    assert [hit.key for hit in memories.search("color", None, 5, LocalEmbedder.weights, 0.2)] == ["favorite_color"]
    assert [hit.key for hit in memories.search("?", east, 5, LocalEmbedder.weights, 0.2)] == ["favorite_color"]
    passages = passage_index(PASSAGES, [None, None, None])
    assert [hit.key for hit in passages.search("delivery", None, 5, LocalEmbedder.weights, 0.2)] == [("shipping.md", 0)]
