"""A call whose embedder has no vectors, because MongoDB makes them: words decide, and texts are stored once."""

from __future__ import annotations

from contextlib import asynccontextmanager

import numpy as np
import pytest

from lkmongo.agent.caller import Caller
from lkmongo.agent.slots import Slots
from lkmongo.embed.atlas import AtlasEmbedder
from lkmongo.embed.vectors import to_bson
from lkmongo.model import Fact, SessionRecord, SessionStatus, now
from lkmongo.search.past_calls import past_calls
from lkmongo.summary import Summary
from tests.overlaps import ROBIN, outbox_of

EMBEDDER = AtlasEmbedder()
SLOTS = {"pet": "a golden retriever called Biscuit", "job": "nurse at the hospital", "favorite_color": "teal"}


@pytest.fixture
def written(store, monkeypatch):
    """The labels of the slots whose text was stored, each time."""
    labels, before = [], type(store.memories).set_vector

    async def noted(self, scope, memory, vector, model):
        labels.append(memory.memory_type)
        return await before(self, scope, memory, vector, model)

    monkeypatch.setattr(type(store.memories), "set_vector", noted)
    return labels


@asynccontextmanager
async def a_call(store):
    caller = Caller(store, EMBEDDER, outbox := outbox_of(store, ROBIN))
    try:
        await caller.preload()
        yield caller
    finally:
        await caller.flush(5)
        await outbox.lease.release()


async def test_a_slot_is_stored_with_its_text_once_and_found_by_words(store, written, caplog):
    async with a_call(store) as caller:
        for label, content in SLOTS.items():
            await caller.remember(label, content)
    stored = {each["memory_type"]: each["embedding"] async for each in store.db.memories.find()}
    assert stored == {label: f"{label}: {content}" for label, content in SLOTS.items()}
    assert set(written) == set(SLOTS)
    written.clear()
    async with a_call(store) as caller:
        assert [slot.memory_type for slot in await caller.search("is Biscuit a retriever")] == ["pet"]
        assert await caller.search("which animals do I own") == []
        await caller.attention.attend("tell me of my job as a nurse")
        assert next(iter(caller.relevant("tell me of my job as a nurse"))).memory_type == "job"
    assert written == [], "a text that is there is not written again"
    assert caplog.records == []


async def test_slots_with_texts_lack_nothing_and_none_is_near():
    slots = Slots(EMBEDDER)
    slots.replace_all({label: Fact(label, content) for label, content in SLOTS.items()})
    assert await slots.add_vectors({label: (None, f"{label}: {content}") for label, content in SLOTS.items()}) == []
    (vector,) = await EMBEDDER.embed(["which animals do I own"], kind="query")
    assert await slots.ranked("which animals do I own", vector, 5) == []
    assert [slot.memory_type for slot in await slots.ranked("the hospital", vector, 5)] == ["job"]


async def test_a_summary_is_not_stored_twice_and_found_by_words(store):
    summary = Summary("They asked for a green lamp.", now())
    await store.users.seen(ROBIN)
    await store.sessions.open(SessionRecord("s-2", ROBIN, "room", SessionStatus.ACTIVE, now()), "somebody")
    async with a_call(store) as caller:
        (vector,) = await EMBEDDER.embed([summary.embedded_text], kind="document")
        assert await store.summaries.save(ROBIN, "s-2", summary, vector=vector, model=EMBEDDER.model)
        await caller.embed_summary("s-2", summary)
    assert "embedding" not in (await store.db.sessions.find_one({"session_id": "s-2"}))["summary"]
    vector = {"summary.embedding": to_bson(np.ones(256, np.float32)), "summary.embedding_model": "of before"}
    await store.db.sessions.update_one({"session_id": "s-2"}, {"$set": vector})
    found = await past_calls(store.summaries, ROBIN, "the lamp", EMBEDDER, today=now())
    assert [call.session_id for call in found.calls] == ["s-2"]
    assert found.degraded is None, "nothing can be done about the vector of before"
