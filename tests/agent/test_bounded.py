"""A caller of whom as much is kept as may be: what is loaded of it, what is built of it, and on which thread."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from livekit.agents import ToolError, llm
from pymongo import monitoring

from lkmongo import model
from lkmongo.agent.briefing import BUDGET, with_briefing
from lkmongo.agent.tools import _MOST_LISTED, BoundTools
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import MAX_CONTENT, UserScope, now
from lkmongo.search.exact import Tokenizer
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from lkmongo.store.people.memories import LOADED
from tests.talk import calling
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SLOTS = 1_200
PLACE = f"a place in {'the north ' * 500}"[: MAX_CONTENT - 12]
CONTEXT: Any = SimpleNamespace()


@pytest.fixture(autouse=True)
def _waits_for_mongodb(monkeypatch) -> None:
    """A change that waits for a busy machine is not in a journal here, and would count as not saved."""
    monkeypatch.setattr("lkmongo.deadlines.ACKNOWLEDGED", 60)


class Read(monitoring.CommandListener):
    """How many bytes of slots were read."""

    def __init__(self) -> None:
        self.bytes = 0

    def started(self, _: Any) -> None:
        pass

    def failed(self, _: Any) -> None:
        pass

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        cursor = event.reply.get("cursor") or {}
        for document in [*cursor.get("firstBatch", ()), *cursor.get("nextBatch", ())]:
            if "content" in document:
                self.bytes += len(bson.encode(document))


@pytest.fixture
async def read(store, mongodb_uri):
    """A store of the same database, with somebody of 1,200 memories of 4,000 characters, that tells what it reads."""
    at = now() - timedelta(hours=1)
    await store.db.memories.insert_many(
        ROBIN.filter
        | {
            "memory_type": f"place_{number:04d}",
            "content": f"{number:04d}: {PLACE} end-{number}",
            "updated_at": at - timedelta(seconds=number),
        }
        for number in range(SLOTS)
    )
    await store.users.touch_memories(ROBIN)
    listener = Read()
    monitoring.register(listener)
    try:
        async with create_client(mongodb_uri) as client:
            yield SimpleNamespace(store=Store.of(client[store.db.name]), counted=listener)
    finally:
        monitoring._LISTENERS.command_listeners.remove(listener)


async def test_every_memory_is_known_by_its_label_and_the_newest_texts_within_a_bound(read):
    found = await read.store.memories.contents(ROBIN)
    assert [each.memory_type for each in found] == [f"place_{number:04d}" for number in range(SLOTS)]
    texts = [each for each in found if not each.is_unread]
    assert LOADED - MAX_CONTENT < sum(len(each.content) for each in texts) <= LOADED
    assert texts == found[: len(texts)]
    assert read.counted.bytes < 1_000 * (MAX_CONTENT + 200) + (SLOTS - 1_000) * 300


async def test_short_texts_are_read_of_the_oldest_memories_too(read):
    old = {"updated_at": now() - timedelta(days=300)}
    await read.store.db.memories.insert_one(ROBIN.filter | {"memory_type": "pet", "content": "a heron"} | old)
    *_, last = await read.store.memories.contents(ROBIN)
    assert (last.memory_type, last.content) == ("pet", "a heron")


async def test_what_is_not_loaded_is_read_when_it_is_asked_for(read):
    async with calling(read.store, ROBIN) as call:
        await call.caller.preload(deadline=60)
        tools = BoundTools(call)
        assert call.caller.recall("place_1199").is_unread
        assert "end-1199" in await tools.recall_detail(CONTEXT, "place_1199")
        assert "end-1199" in call.caller.recall("place_1199").content, "the next one does not read it again"
        assert "end-1100" in await tools.search_memories(CONTEXT, "place 1100")


async def test_what_cannot_be_read_now_is_not_told_to_be_unknown(read, monkeypatch):
    async def away(*_: Any) -> None:
        raise DatabaseUnavailableError

    async with calling(read.store, ROBIN) as call:
        await call.caller.preload(deadline=60)
        monkeypatch.setattr(read.store.memories, "text", away)
        with pytest.raises(ToolError, match="cannot look up what I remember right now"):
            await BoundTools(call).recall_detail(CONTEXT, "place_1199")


async def test_another_value_and_forgetting_do_not_need_the_text(read):
    async with calling(read.store, ROBIN) as call:
        await call.caller.preload(deadline=60)
        tools = BoundTools(call)
        await tools.remember_detail(CONTEXT, "place_1199", "a hut")
        await until(lambda: call.caller.saved == "stored")
        assert [each.content for each in call.caller.former("place_1199")] == []
        await tools.forget_detail(CONTEXT, "place_1198")
    assert await read.store.memories.recall(ROBIN, "place_1198") is None
    (former,) = await read.store.history.former(ROBIN, "place_1199")
    assert former.content.endswith("end-1199")


async def test_a_list_of_everything_is_bounded_and_says_how_much_there_is_more(read):
    async with calling(read.store, ROBIN) as call:
        await call.caller.preload(deadline=60)
        told = await BoundTools(call).list_user_memories(CONTEXT)
        assert len(told) < _MOST_LISTED + 200
        assert told.count(" end-") in {2, 3}
        assert told.endswith(" more: ask me about what you want to know.")


async def test_the_event_loop_does_not_look_through_all_the_texts(read, monkeypatch):
    mine, looked_through, cut = threading.get_ident(), Counter(), Counter()
    is_secret, tokenize = model.is_secret, Tokenizer.__call__

    def counted(label: str, content: str) -> bool:
        looked_through[threading.get_ident() == mine] += len(content)
        return is_secret(label, content)

    def counted_cut(self: Tokenizer, texts: Any, *more: Any) -> Any:
        cut[threading.get_ident() == mine] += sum(map(len, texts))
        return tokenize(self, texts, *more)

    monkeypatch.setattr(model, "is_secret", counted)
    monkeypatch.setattr(Tokenizer, "__call__", counted_cut)
    async with calling(read.store, ROBIN) as call:
        await call.caller.preload(deadline=60)
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="what is there in place 0007")
        briefed = await with_briefing(context, call.caller)
        text = "\n".join(item.text_content for item in briefed.items[:2])
        assert '"place_0007"' in text
        assert len(text) <= BUDGET
        await call.search_memories("what is there in the north")
        loaded = [each for each in call.caller.slots.values() if not each.is_unread]
        await until(lambda: len(call.caller._slots._vectors) == len(loaded))
    assert cut[False] >= LOADED - MAX_CONTENT
    assert looked_through[False] > 100_000
    assert cut[True] == 0
    assert looked_through[True] <= 5 * MAX_CONTENT
