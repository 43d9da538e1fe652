"""`MemoryAgent`: an agent with the tools, found through what is attached to its session and not through `userdata`."""

from __future__ import annotations

import logging

import pytest
from livekit.agents import Agent, AgentSession, RunContext, function_tool
from livekit.agents.testing import fake_job_context

from lkmongo.agent.assistant import Assistant, MemoryAgent
from lkmongo.agent.caller_session import CallerSession
from lkmongo.errors import AttachmentError
from lkmongo.model import UserScope
from tests.fake_llm import ScriptedLLM, calls
from tests.talk import talk

ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture(autouse=True)
async def memories(store):
    await store.memories.remember(ROBIN, "pet", "a heron called Zephyrine")


def briefings(context) -> list[str]:
    texts = [item.text_content or "" for item in context.items if item.type == "message"]
    return [text for text in texts if "<caller_data>" in text]


class Florist(MemoryAgent):
    def __init__(self):
        super().__init__(instructions="You are a florist.")


class Desk(Agent):
    """An agent that exists, with a node of its own."""

    def __init__(self):
        super().__init__(instructions="You are at the desk.")

    async def llm_node(self, chat_ctx, tools, model_settings):
        chat_ctx.add_message(role="system", content="The desk is open.")
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            yield chunk

    @function_tool
    async def ring(self) -> str:
        """Ring the bell."""
        return "Ding."


class MemoryDesk(MemoryAgent, Desk):
    """The same with memory mixed in."""


@pytest.mark.parametrize("agent", [Florist, MemoryDesk, Assistant])
@pytest.mark.parametrize("userdata", [None, {"basket": []}], ids=["no userdata", "userdata of its own"])
async def test_it_has_the_tools_and_is_briefed_whatever_the_userdata_is(store, agent, userdata):
    async with talk(store, ROBIN, calls(), agent=agent(), userdata=userdata) as held:
        assert held.session.current_agent.caller_session is held.call
        assert await held.tool("recall_detail", memory_type="pet") == ("Your pet: a heron called Zephyrine.", False)
        await held.tool("remember_detail", memory_type="flower", content="foxglove")
        assert held.llm.contexts
        for context in held.llm.contexts:
            (briefing,) = briefings(context)
            assert "Zephyrine" in briefing
        assert "foxglove" in briefings(held.llm.contexts[-1])[0]
    assert len(await store.memories.slots(ROBIN)) == 2


async def test_what_it_is_mixed_into_keeps_its_own(store):
    async with talk(store, ROBIN, calls(), agent=MemoryDesk(), userdata=None) as held:
        assert await held.tool("ring") == ("Ding.", False)
        assert "The desk is open." in str(held.llm.contexts[0].items)
        assert "You are at the desk." in str(held.llm.contexts[0].items)


class Overrides(Assistant):
    """Another answer for one tool, from a node of its own."""

    @function_tool
    async def recall_detail(self, context: RunContext, memory_type: str) -> str:
        """Recall a detail, in a friendlier way.

        Args:
            memory_type: the label
        """
        return f"Of course! {await super().recall_detail(context, memory_type)}"

    @function_tool
    async def count(self, context: RunContext[CallerSession]) -> str:
        """Count what is known."""
        return str(len(context.userdata.caller.slots))

    async def llm_node(self, chat_ctx, tools, model_settings):
        async for chunk in super().llm_node(chat_ctx, tools, model_settings):
            yield chunk


async def test_a_subclass_may_override_a_tool_and_the_node_and_use_our_userdata(store):
    async with talk(store, ROBIN, calls(), agent=Overrides()) as held:
        assert await held.tool("recall_detail", memory_type="pet") == (
            "Of course! Your pet: a heron called Zephyrine.",
            False,
        )
        assert await held.tool("count") == ("1", False)
        assert [len(briefings(context)) for context in held.llm.contexts] == [1] * 5
        assert sorted(tool.id for tool in held.session.current_agent.tools).count("recall_detail") == 1


async def test_without_an_attachment_it_says_what_to_call(store, caplog):
    caplog.set_level(logging.ERROR)
    agent = Florist()
    with fake_job_context(job_id="console-nobody"):
        model = ScriptedLLM(calls())
        async with AgentSession(llm=model, vad=None, turn_handling={"turn_detection": None}) as session:
            await session.start(agent, record=False)
            with pytest.raises(AttachmentError, match=r"call caller_session\.attach\(agent_session\) before"):
                _ = agent.caller_session
            with pytest.raises(AttachmentError, match=r"call caller_session\.attach\(agent_session\) before"):
                await session.run(user_input="hello")
    assert model.contexts == []
    assert "call caller_session.attach(agent_session)" in caplog.text
