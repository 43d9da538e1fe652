"""The store on a loop of its own: from another loop the same answers, deadlines and errors as from its own."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from lkmongo.embed.choose import create_embedder
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import UserScope
from lkmongo.search.choose import AtlasWithFallback
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo import client
from lkmongo.store.open import open_store
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture
def bridge():
    loop = client.start_client_loop()
    yield loop
    client._abandon()


async def test_everything_a_call_asks_of_the_store_goes_over_the_bridge(bridge, mongodb_uri, database_name):
    settings = Settings.load({"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name})
    opened = asyncio.run_coroutine_threadsafe(_open(settings), bridge)
    store, close = await asyncio.wrap_future(opened)
    embedder = create_embedder("local")
    try:
        await database_indexes.apply(store.db)
        await store.memories.remember(ROBIN, "favorite_color", "teal")
        assert [slot.content for slot in await store.memories.slots(ROBIN)] == ["teal"]
        assert (await store.users.get(ROBIN)).memory_version == 1
        search = AtlasWithFallback(store.db, embedder)
        assert [hit.item.content for hit in (await search.memories(ROBIN, "which color?")).hits] == ["teal"]
        assert (await search.knowledge(ROBIN.tenant, "returns")).hits == []
        await client.run_on_client_loop(lambda: store.db.client.drop_database(database_name))
    finally:
        await embedder.close()
        await client.run_on_client_loop(close)


async def _open(settings):
    manager = open_store(settings, stays_warm=True)
    store = await manager.__aenter__()
    await asyncio.gather(store.ping(), store.ping())

    async def close():
        await manager.__aexit__(None, None, None)

    return store, close


async def test_errors_come_back_as_they_are(bridge):
    settings = Settings.load({"MONGODB_URI": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"})
    async with open_store(settings) as store:
        with pytest.raises(DatabaseUnavailableError):
            await store.users.get(ROBIN)


async def test_context_goes_along_and_a_cancellation_reaches_the_work(bridge):
    word = contextvars.ContextVar("word", default="none")
    word.set("ours")
    events = []

    async def work():
        events.append((word.get(), asyncio.get_running_loop() is bridge))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    asking = asyncio.create_task(client.run_on_client_loop(work))
    await until(lambda: events)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: len(events) == 2)
    assert events == [("ours", True), "cancelled"]


async def test_without_a_bridge_it_is_a_plain_await():
    task = asyncio.current_task()

    async def work():
        return asyncio.current_task()

    assert await client.run_on_client_loop(work) is task
