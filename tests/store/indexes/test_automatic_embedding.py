"""Indexes that embed by themselves: made, refused, found to differ, replaced; and the texts that they embed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from lkmongo.embed.atlas import AtlasEmbedder
from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import Passage, TenantScope, UserScope
from lkmongo.store.indexes import database_indexes, readiness
from lkmongo.store.indexes import search_indexes as search_provision
from lkmongo.store.indexes.backfill import backfill, count_missing
from lkmongo.store.indexes.canary import Outcome
from lkmongo.store.indexes.database_indexes import Action
from lkmongo.store.indexes.definitions import Tuning, indexes_for
from lkmongo.store.indexes.readiness import states
from lkmongo.store.indexes.search_indexes import RefusedDefinitionError
from lkmongo.store.knowledge.knowledge import Document, Knowledge
from lkmongo.store.people.memories import Memories
from tests.search_rig import KNOWLEDGE, MEMORIES, TEXT, WANTED, rig

ROBIN, SHOP = UserScope(tenant_id="default", user_id="u-100"), TenantScope("default")
ATLAS, LOCAL = AtlasEmbedder(), LocalEmbedder()
EMBEDS = indexes_for(ATLAS)
OTHER_MODEL = indexes_for(AtlasEmbedder(model="voyage-4", dimensions=1024))
BOTH = {KNOWLEDGE.name, MEMORIES.name}


@pytest.fixture
async def start(mongodb_uri, database_name):
    async with AsyncExitStack() as stack:

        async def run(**options):
            return await stack.enter_async_context(
                rig(mongodb_uri, database_name, **{"profile": "atlas_embeds"} | options)
            )

        yield run


async def apply(it, indexes, **options):
    return {
        change.index.name: change
        for change in await search_provision.apply(it.db, indexes, backoff=it.backoff(30.0), **options)
    }


async def test_made_once_ready_and_found_by_a_text(start):
    it = await start()
    assert {change.action for change in (await apply(it, EMBEDS)).values()} == {Action.CREATE}
    assert {change.action for change in (await apply(it, EMBEDS)).values()} == {Action.UNCHANGED}
    definition = (await it.listed(EMBEDS[1]))["latestDefinition"]
    assert definition["fields"] == [
        {
            "type": "autoEmbed",
            "modality": "text",
            "model": "voyage-4-lite",
            "numDimensions": 512,
            "similarity": "cosine",
            "path": "embedding",
        },
        {"type": "filter", "path": "user_id"},
        {"type": "filter", "path": "tenant_id"},
    ]
    await it.finish_builds()
    ready = await readiness.wait_ready(it.db, EMBEDS, ATLAS, it.backoff())
    assert [state.canary.outcome for state in ready] == [Outcome.FOUND] * 3, "of documents that were made for it"
    assert await it.db.memories.count_documents({}) == 0
    await it.db.memories.insert_one(
        ROBIN.filter | {"memory_type": "pet", "embedding": "pet: a poodle", "embedding_model": "atlas"}
    )
    (memories,) = [
        each for each in await readiness.tested_states(it.db, ATLAS, None) if each.index.name == MEMORIES.name
    ]
    assert memories.canary.outcome is Outcome.FOUND
    text = it.standin.recorded("$vectorSearch")[-1].body["pipeline"][0]["$vectorSearch"]
    assert text["query"] == {"text": "pet: a poodle"}
    assert "queryVector" not in text


@pytest.mark.parametrize("before", [WANTED, OTHER_MODEL], ids=["vectors", "another model"])
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
async def test_what_embeds_is_replaced_on_request_and_never_updated(start, before, back):
    it = await start()
    first, then = (EMBEDS, before) if back else (before, EMBEDS)
    await apply(it, first)
    await it.finish_builds()
    blocked = {name: change for name, change in (await apply(it, then)).items() if change.action is Action.BLOCKED}
    assert set(blocked) == BOTH
    assert all("an update cannot change" in change.detail for change in blocked.values())
    assert {change.hint for change in blocked.values()} == {"lkmongo db indexes --replace drops and recreates it"}
    differing = [state for state in await states(it.db, then) if state.different]
    assert {state.index.name for state in differing} == BOTH
    assert {state.remedy for state in differing} == {"lkmongo db indexes --replace"}
    assert it.sent("updateSearchIndex", "dropSearchIndex") == []
    replaced = await apply(it, then, replace=[index.name for index in then])
    assert {name for name, change in replaced.items() if change.action is Action.REPLACE} == BOTH
    await it.finish_builds()
    assert {change.action for change in (await apply(it, then)).values()} == {Action.UNCHANGED}


async def test_a_filter_that_is_missing_is_an_update_as_ever(start):
    it = await start()
    narrow = {"fields": EMBEDS[1].definition["fields"][:2]}
    await it.make(EMBEDS[1], narrow)
    await it.make(TEXT)
    await it.make(EMBEDS[0])
    changes = await apply(it, EMBEDS)
    assert {name for name, change in changes.items() if change.action is Action.UPDATE} == {MEMORIES.name}
    await it.finish_builds()
    assert not [state for state in await states(it.db, EMBEDS) if state.different]


async def test_what_was_tuned_by_hand_stays_and_what_a_setting_decides_is_built(start):
    it = await start()
    vector, *filters = EMBEDS[0].definition["fields"]
    await it.make(
        EMBEDS[0], {"fields": [vector | {"quantization": "scalar", "hnswOptions": {"maxEdges": 32}}, *filters]}
    )
    await it.make(EMBEDS[1], {"fields": EMBEDS[1].definition["fields"][:2]})
    await it.make(TEXT)
    planned = {change.index.name: change.action for change in await search_provision.plan(it.db, EMBEDS)}
    assert planned == {KNOWLEDGE.name: Action.UNCHANGED, MEMORIES.name: Action.UPDATE, TEXT.name: Action.UNCHANGED}
    decided = indexes_for(ATLAS, Tuning(quantization="none", indexing_method="flat"))
    assert decided[0].definition["fields"][0]["quantization"] == "float", "as none is called here"
    assert decided[1].definition["fields"][0]["indexingMethod"] == "flat"
    blocked = {change.index.name for change in await search_provision.plan(it.db, decided) if change.hint}
    assert blocked == BOTH, "neither can be changed by an update"


async def test_a_server_that_does_not_embed_is_said_at_once_in_its_words_and_what_to_do(start):
    it = await start(profile="atlas")
    with pytest.raises(RefusedDefinitionError, match="refuses the definition of") as caught:
        await apply(it, EMBEDS)
    assert "CanonicalModel: voyage-4-lite not registered yet" in caught.value.why
    assert "set VOYAGE_API_KEY, or LKMONGO_EMBEDDINGS=local" in caught.value.hint
    assert it.pauses == [], "and not tried again"


async def test_texts_take_the_place_of_vectors_and_vectors_that_of_texts(start):
    it = await start()
    db, memories, knowledge = it.db, Memories(it.db), Knowledge(it.db)
    await database_indexes.apply(db)
    await memories.remember(ROBIN, "pet", "a poodle")
    await knowledge.put(SHOP, Document("a.md", (Passage("a.md", 0, "Tea", "Black or green."),)), ATLAS.model)
    session = ROBIN.filter | {"session_id": "s", "summary": {"text": "They asked for tea.", "embedding_model": "old"}}
    await db.sessions.insert_one(session)

    async def embed(embedder):
        missing = {each.collection: each.missing for each in await count_missing(db, embedder, thorough=True)}
        done = {each.collection: each.embedded for each in await backfill(db, embedder, thorough=True)}
        assert done == missing
        assert sum(each.missing for each in await count_missing(db, embedder, thorough=True)) == 0
        (memory,) = await db.memories.find().to_list()
        (passage,) = await db.knowledge.find().to_list()
        assert memory["embedding_model"] == passage["embedding_model"] == embedder.model
        return missing, memory["embedding"], passage["embedding"]

    texts = ("pet: a poodle", "Tea\nBlack or green.")
    assert await embed(ATLAS) == ({"memories": 1, "knowledge": 1}, *texts)
    assert await db.sessions.find_one({}) == session | {"_id": session["_id"]}, "no index covers summaries"
    missing, memory, passage = await embed(LOCAL)
    assert missing == {"memories": 1, "knowledge": 1, "sessions": 1}
    assert len(memory) == len(passage) == 2 + 4 * LOCAL.dimensions
    assert (await embed(ATLAS))[1:] == texts


async def test_a_text_is_written_like_a_vector_and_goes_with_what_it_says(start):
    it = await start()
    db, memories, knowledge = it.db, Memories(it.db), Knowledge(it.db)
    await database_indexes.apply(db)
    memory = await memories.remember(ROBIN, "pet", "a poodle")
    (vector,) = await ATLAS.embed([memory.embedded_text], kind="document")
    assert await memories.set_vector(ROBIN, memory, vector, ATLAS.model)
    assert (await db.memories.find_one({}))["embedding"] == "pet: a poodle"
    await memories.remember(ROBIN, "pet", "a parrot")
    assert "embedding" not in await db.memories.find_one({}), "the old text would be found by what is no longer true"
    passages = tuple(Passage("a.md", number, "Tea", f"Kind {number}.") for number in range(2))
    await knowledge.put(SHOP, Document("a.md", passages), ATLAS.model)
    assert await knowledge.count_without_vector(SHOP, ["a.md"], ATLAS.model) == 2
    assert await knowledge.embed(SHOP, ["a.md"], ATLAS) == 2
    assert await knowledge.count_without_vector(SHOP, ["a.md"], ATLAS.model) == 0
    (source,) = await knowledge.sources(SHOP, ATLAS.model)
    assert (source.passages, source.embedded) == (2, 2)
    moved = (replace(passages[1], chunk=0), Passage("a.md", 1, "Tea", "Another."))
    await knowledge.put(SHOP, Document("a.md", moved), ATLAS.model)
    found = {each["chunk"]: each.get("embedding") async for each in db.knowledge.find()}
    assert found == {0: "Tea\nKind 1.", 1: None}, "what only moved keeps its text"
