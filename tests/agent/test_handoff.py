"""Handoff from one agent to another: the example of the documentation, and what survives."""

from __future__ import annotations

import json
import sys

import pytest

from docs import generate
from lkmongo.agent.assistant import create_assistant
from lkmongo.model import TurnKind, UserScope
from lkmongo.settings import Settings
from tests.fake_llm import calls
from tests.talk import said, talk

ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture
def front_desk(monkeypatch):
    monkeypatch.chdir(generate.ROOT / "docs" / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield create_assistant(Settings.load({"LKMONGO_AGENT": "front_desk:FrontDesk"}))
    sys.modules.pop("front_desk", None)


def texts(context) -> list[str]:
    return [item.text_content or "" for item in context.items if item.type == "message"]


def hand_over(context):
    """A model that calls the tool when it is asked, and speaks when it has taken over."""
    if any("just taken over" in text for text in texts(context)):
        return ["This is the returns desk."]
    return calls(("to_returns_desk", {}))(context)


async def test_the_second_agent_knows_the_caller_and_what_was_said_and_everything_is_recorded(store, front_desk):
    await store.memories.remember(ROBIN, "pet", "a heron called Zephyrine")
    for user, number in (("u-100", "1"), ("u-200", "2")):
        await store.db.orders.insert_one(
            {"tenant_id": "default", "user_id": user, "order_id": number, "items": [], "total": 1, "status": "new"}
        )
    async with talk(store, ROBIN, calls(), agent=front_desk) as call:
        await call.tool("remember_detail", memory_type="shoe_size", content="42")
        call.llm.script = hand_over
        handed = await call.session.run(user_input="I want to send my lamp back")
        assert "This is the returns desk." in said(handed)
        assert type(call.session.current_agent).__name__ == "ReturnsDesk"

        first = call.llm.contexts[-1]  # what the model was asked when the second agent came
        words = texts(first)
        assert any("You are the returns desk" in text for text in words)
        assert any("just taken over" in text for text in words)
        assert not any("Greet the caller" in text for text in words)
        assert any("I want to send my lamp back" in text for text in words)
        (briefing,) = [text for text in words if "<caller_data>" in text]
        assert "Zephyrine" in briefing
        assert "42" in briefing

        assert await call.tool("start_return", order_id="1") == ("The return of order 1 has begun.", False)
        assert await call.tool("start_return", order_id="2") == ("There is no such order of yours.", False)
        assert await call.tool("lookup_order", order_id="2") == ("You have no order 2.", True)
        await call.tool("remember_detail", memory_type="hat_size", content="58")
    assert {memory.memory_type for memory in await store.memories.slots(ROBIN)} == {"pet", "shoe_size", "hat_size"}
    assert await store.db.memories.count_documents({"user_id": {"$ne": "u-100"}}) == 0

    turns = await store.sessions.turns(ROBIN, "console-test")
    tools = [turn.name for turn in turns if turn.kind == TurnKind.TOOL]
    assert tools == [
        "remember_detail",
        "to_returns_desk",
        "start_return",
        "start_return",
        "lookup_order",
        "remember_detail",
    ]
    (handoff,) = [turn for turn in turns if turn.kind == TurnKind.HANDOFF]
    assert handoff.name == "returns_desk"
    order = [turn.name or turn.content for turn in turns]
    assert order.index("I want to send my lamp back") < order.index("returns_desk") < order.index("start_return")
    assert len(await store.db.sessions.find({}).to_list()) == 1
    assert "caller_data" not in json.dumps([turn.content for turn in turns])


async def test_the_briefing_is_there_once_in_each_request_of_either_agent(store, front_desk):
    async with talk(store, ROBIN, calls(), agent=front_desk) as call:
        call.llm.script = hand_over
        await call.session.run(user_input="I want to send my lamp back")
        await call.tool("list_user_memories")
        for context in call.llm.contexts:
            assert sum("<caller_data>" in text for text in texts(context)) == 1
