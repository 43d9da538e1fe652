"""The search process goes away in the middle of a conversation: the caller does not notice, the operator does, once."""

from __future__ import annotations

import json
import logging

import pytest

from lkmongo.embed.choose import create_embedder
from lkmongo.model import Passage, TenantScope, UserScope
from lkmongo.search.choose import AtlasWithFallback
from tests.fake_llm import calls
from tests.search_backends import open_backend, place
from tests.talk import talk

ROBIN, SHOP = UserScope(tenant_id="default", user_id="u-100"), TenantScope("default")
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
        await made.add(SHOP, PASSAGES)
        yield made
        for name in ("sessions", "turns"):
            await made.db[name].delete_many({})


def found(output: str) -> list[str]:
    return [entry["source"] for entry in json.loads(output)["results"]]


@pytest.mark.parametrize("how", ["refuses", "hangs", "is overloaded"])
async def test_the_agent_still_answers_after_one_attempt_and_one_line_in_the_log(backend, caplog, how):
    embedder = create_embedder("local")
    search = AtlasWithFallback(backend.db, embedder)
    await search.warm()
    async with talk(backend.store, ROBIN, calls()) as conversation:
        conversation.call.search = search
        await conversation.tool("remember_detail", memory_type="favorite color", content="teal")
        output, is_error = await conversation.tool("search_knowledge", query="how do I get my money back")
        assert (found(output)[0], is_error) == ("returns.md", False)

        caplog.clear()
        caplog.set_level(logging.WARNING, "lkmongo")
        if how == "refuses":
            backend.standin.set_mongot(up=False)
        elif how == "is overloaded":
            backend.standin.fail("$vectorSearch", code=489, times=None)
        else:
            backend.standin.delay("$vectorSearch", 60, times=None, network=True)
            conversation.call.search = search = AtlasWithFallback(backend.db, embedder, deadline=0.5)
            await search.warm()
        backend.standin.commands.clear()
        output, is_error = await conversation.tool("search_knowledge", query="how long does delivery take")
        assert (found(output)[0], is_error) == ("shipping.md", False)
        assert len(backend.standin.recorded("$vectorSearch")) == 1
        (line,) = [record for record in caplog.records if record.name.startswith("lkmongo.search")]
        assert line.message.startswith("searching exactly: ")

        output, is_error = await conversation.tool("search_memories", query="which color do I like")
        assert (output, is_error) == ("Your favorite color: teal.", False)
        output, is_error = await conversation.tool("search_knowledge", query="how do I get my money back")
        assert (found(output)[0], is_error) == ("returns.md", False)
        assert len([record for record in caplog.records if record.name.startswith("lkmongo.search")]) == 1
    await embedder.close()
