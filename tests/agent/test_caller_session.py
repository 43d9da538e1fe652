"""What a session offers to an agent of one's own: its tools, and the caller's data by method."""

from __future__ import annotations

import json

import pytest
from livekit.agents import Agent
from livekit.agents.llm import FunctionTool

from lkmongo.agent.assistant import Assistant
from lkmongo.errors import InvalidTextError, NotFoundError, SecretError
from lkmongo.model import LastSession, UserScope, now
from tests.fake_llm import ScriptedLLM, calls
from tests.talk import calling, talk, talking

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="default", user_id="u-200")
NAMES = [
    *("forget_detail", "list_user_memories", "lookup_order", "recall_detail"),
    *("remember_detail", "search_knowledge", "search_memories", "search_past_calls", "update_profile"),
]


def names(tools: list[FunctionTool]) -> list[str]:
    return [tool.id for tool in tools]


async def test_the_tools_are_those_of_the_assistant(store):
    async with calling(store, ROBIN) as call:
        assert names(call.tools()) == NAMES
        assert [tool.info for tool in call.tools()] == [tool.info for tool in Assistant().tools]


async def test_tools_can_be_chosen_by_name(store):
    async with calling(store, ROBIN) as call:
        assert names(call.tools(include=["remember_detail", "recall_detail"])) == ["recall_detail", "remember_detail"]
        assert names(call.tools(exclude={"lookup_order"})) == [name for name in NAMES if name != "lookup_order"]
        assert names(call.tools(include=["recall_detail", "lookup_order"], exclude=["lookup_order"])) == [
            "recall_detail"
        ]
        assert call.tools(include=[]) == []


@pytest.mark.parametrize("which", ["include", "exclude"])
async def test_an_unknown_tool_is_named_with_those_there_are(store, which):
    async with calling(store, ROBIN) as call:
        with pytest.raises(ValueError, match=f"^there is no tool orders, recall; the tools are {', '.join(NAMES)}$"):
            call.tools(**{which: ["recall_detail", "recall", "orders"]})
        with pytest.raises(TypeError, match="named in a list, not in the text 'recall_detail'"):
            call.tools(**{which: "recall_detail"})


async def test_tools_serve_their_own_session_whatever_the_userdata_is(store):
    await store.memories.remember(ROBIN, "pet", "a heron")
    await store.memories.remember(KIM, "pet", "an otter")
    await store.db.orders.insert_one(ROBIN.filter | {"order_id": "7", "items": [], "total": 4, "status": "packed"})
    async with calling(store, ROBIN) as robin, calling(store, KIM, session_id="console-kim") as kim:
        agent = Agent(instructions="You are a florist.", tools=robin.tools())
        async with talking(robin, ScriptedLLM(calls()), agent, userdata=kim) as held:
            assert await held.tool("recall_detail", memory_type="pet") == ("Your pet: a heron.", False)
            output, _ = await held.tool("remember_detail", memory_type="flower", content="foxglove")
            assert output == "I will remember your flower: foxglove."
            await held.tool("update_profile", field="name", value="Robin")
            assert (await held.tool("list_user_memories"))[0].startswith("Your name is Robin.")
            assert (await held.tool("search_memories", query="flower"))[0].startswith("Your flower: foxglove.")
            assert (await held.tool("lookup_order"))[0] == "Order 7 is packed: 4.00 USD in total."
            assert "Nothing about that" in (await held.tool("search_knowledge", query="opening hours"))[0]
            assert await held.tool("forget_detail", memory_type="pet") == ("I have forgotten your pet.", False)
    assert [memory.memory_type for memory in await store.memories.slots(ROBIN)] == ["flower"]
    assert [memory.content for memory in await store.memories.slots(KIM)] == ["an otter"]


async def test_the_callers_data_by_method(store):
    await store.users.seen(ROBIN)
    await store.memories.remember(ROBIN, "pet", "a heron")
    await store.users.set_last_session(ROBIN, LastSession(now(), "asked for tulips"), started_at=now())
    async with talk(store, ROBIN, calls()) as held:
        call = held.call
        assert call.scope == ROBIN
        assert {label: fact.content for label, fact in call.facts.items()} == {"pet": "a heron"}
        fact = await call.remember("Favorite Flower", "foxglove")
        assert (fact.memory_type, fact.content, call.saved) == ("favorite_flower", "foxglove", "stored")
        assert list(call.facts) == ["favorite_flower", "pet"]
        assert call.recall("favourite flower").content == "foxglove"
        assert call.recall("car") is None
        assert await call.update_profile("email", "Robin@Example.org") == call.profile.email
        (found,) = [fact for fact in await call.search_memories("flower") if fact.memory_type == "favorite_flower"]
        assert found.content == "foxglove"
        assert not (await call.search_knowledge("opening hours")).hits
        assert await call.forget("Pet") == "pet"
        assert "pet" not in call.facts
        data = json.loads(call.briefing().split("<caller_data>\n")[1].split("\n</caller_data>")[0])
        assert list(data["memories"]) == ["favorite_flower"]
        assert "last_call" not in data  # something was forgotten
    assert [memory.memory_type for memory in await store.memories.slots(ROBIN)] == ["favorite_flower"]
    assert (await store.users.get(ROBIN)).email == call.profile.email


async def test_what_was_stored_before_it_was_refused_is_withheld(store):
    secret = {"memory_type": "bank_pin", "content": "my pin is 4321", "updated_at": now()}
    await store.db.memories.insert_one(ROBIN.filter | secret)
    async with talk(store, ROBIN, calls()) as held:
        assert "4321" not in str(held.call.facts) + str(held.call.recall("bank_pin")) + held.call.briefing()


async def test_bad_input_is_a_clear_error(store):
    async with talk(store, ROBIN, calls()) as held:
        call = held.call
        with pytest.raises(InvalidTextError, match="nothing to remember"):
            await call.remember("pet", " ")
        with pytest.raises(SecretError):
            await call.remember("bank_pin", "my pin is 4321")
        with pytest.raises(NotFoundError, match="nothing is remembered as shoe size"):
            await call.forget("shoe size")
        with pytest.raises(InvalidTextError, match="not a profile field"):
            await call.update_profile("is_admin", "yes")
        with pytest.raises(InvalidTextError, match="no letters"):
            call.recall("!!")
        assert call.facts == {}
