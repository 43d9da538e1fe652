"""Memory for agents that know nothing of lkmongo: the briefing reaches the model, once, whoever asks it and how."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import weakref

import pytest
from livekit.agents import Agent, AgentSession, AgentTask, RunContext, function_tool
from livekit.agents.testing import fake_job_context
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from docs import generate
from lkmongo.agent.caller_session import CallerSession
from lkmongo.errors import AttachmentError
from lkmongo.model import TurnKind, UserScope
from tests.fake_llm import ScriptedLLM, calls
from tests.talk import calling, said, talk, talking
from tests.voice import voice_call
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="default", user_id="u-200")


@pytest.fixture(autouse=True)
async def memories(store):
    await store.memories.remember(ROBIN, "pet", "a heron called Zephyrine")
    await store.memories.remember(KIM, "pet", "an otter called Quillon")


def briefings(context) -> list[str]:
    texts = [item.text_content or "" for item in context.items if item.type == "message"]
    return [text for text in texts if "<caller_data>" in text]


def assert_briefed_once(model: ScriptedLLM, words: str = "Zephyrine", *, requests: int | None = None) -> None:
    """Every request to the model had one briefing, with these words in it."""
    assert model.contexts
    assert requests is None or len(model.contexts) == requests
    for context in model.contexts:
        (briefing,) = briefings(context)
        assert words in briefing


def kept(session: AgentSession) -> str:
    """What the SDK keeps of a session."""
    agents = json.dumps(session.current_agent.chat_ctx.to_dict())
    events = [str(event) for event in session._recorded_events]
    return json.dumps(session.history.to_dict()) + agents + "".join(events)


class Plain(Agent):
    """An agent as anybody writes one, that greets."""

    def __init__(self, **options):
        super().__init__(instructions="You are a florist.", **options)

    async def on_enter(self):
        self.session.generate_reply(instructions="Greet the caller.")


@pytest.mark.parametrize("userdata", [None, {"basket": ["roses"]}], ids=["no userdata", "userdata of its own"])
async def test_a_plain_agent_is_briefed_in_every_request_and_recorded(store, userdata):
    async with calling(store, ROBIN) as call:
        agent = Plain(tools=call.tools())
        model = ScriptedLLM(calls())
        async with talking(call, model, agent, userdata=userdata) as held:
            assert await held.tool("recall_detail", memory_type="pet") == (
                "Your pet: a heron called Zephyrine.",
                False,
            )
            assert_briefed_once(model, requests=3)
            last = model.contexts[-1].items
            position = next(n for n, item in enumerate(last) if item.type == "message" and item.role == "user")
            assert "<caller_data>" in last[position - 1].text_content
            assert "caller_data" not in kept(held.session)
            if userdata:
                assert held.session.userdata is userdata
            report = held.job.make_session_report(held.session).to_dict()
            assert "caller_data" not in json.dumps(report, default=str)
    turns = await store.sessions.turns(ROBIN, "console-test")
    assert [turn.role or turn.name for turn in turns] == ["assistant", "user", "recall_detail", "assistant"]
    assert "caller_data" not in str(turns)
    assert (await store.sessions.get(ROBIN, "console-test")).status == "complete"


async def test_the_agent_is_left_as_it_is(store):
    async with talk(store, ROBIN, calls(), agent=Plain(), userdata=None) as held:
        assert type(held.session.current_agent) is Plain
        assert held.session.llm is held.llm
        assert held.session.current_agent.instructions == "You are a florist."


class Delegates(Plain):
    """Has its own node, which leaves the work to the SDK's."""

    async def llm_node(self, chat_ctx, tools, model_settings):
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            yield chunk


class Asks(Plain):
    """Asks the model itself."""

    async def llm_node(self, chat_ctx, tools, model_settings):
        async with self.session.llm.chat(chat_ctx=chat_ctx, tools=tools) as stream:
            async for chunk in stream:
                yield chunk


class Returns(Plain):
    """Is no generator: returns the model's stream."""

    async def llm_node(self, chat_ctx, tools, model_settings):
        return self.session.llm.chat(chat_ctx=chat_ctx, tools=tools, conn_options=DEFAULT_API_CONNECT_OPTIONS)


class Keeps(Plain):
    """Keeps the context that it was given, as agents do that shorten it."""

    async def llm_node(self, chat_ctx, tools, model_settings):
        await self.update_chat_ctx(chat_ctx)
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            yield chunk


@pytest.mark.parametrize("agent", [Delegates, Asks, Returns, Keeps])
async def test_an_agent_with_its_own_node_is_briefed_once(store, agent):
    async with talk(store, ROBIN, calls(), agent=agent(), userdata=None) as held:
        await held.say("hello")
        assert await held.say("hello again") == "Nothing to do."
        assert_briefed_once(held.llm, requests=3)
        assert "caller_data" not in json.dumps(held.session.history.to_dict())


class Answers(Plain):
    """Asks no model at all."""

    async def llm_node(self, chat_ctx, tools, model_settings):
        return f"I was told: {briefings(chat_ctx)[0]}"


async def test_a_node_may_return_text(store):
    async with talk(store, ROBIN, calls(), agent=Answers(), userdata=None) as held:
        assert "Zephyrine" in await held.say("hello")
        assert held.llm.contexts == []


class Searches(Plain):
    """Adds to the context in place what belongs to the question, once a turn."""

    async def llm_node(self, chat_ctx, tools, model_settings):
        if chat_ctx.items[-1].type == "message":
            chat_ctx.add_message(role="system", content="Tulips are sold out.")
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            yield chunk


class SearchesFirst(Plain):
    """The same before it returns the model's stream."""

    async def llm_node(self, chat_ctx, tools, model_settings):
        if chat_ctx.items[-1].type == "message":
            chat_ctx.add_message(role="system", content="Tulips are sold out.")
        return self.session.llm.chat(chat_ctx=chat_ctx, tools=tools)


@pytest.mark.parametrize("agent", [Searches, SearchesFirst])
async def test_what_a_node_adds_to_the_context_holds_for_the_turn_as_without_us(store, agent):
    async with calling(store, ROBIN) as call:
        model = ScriptedLLM(calls())
        async with talking(call, model, agent(tools=call.tools()), userdata=None) as held:
            await held.tool("recall_detail", memory_type="pet")
            assert_briefed_once(model, requests=3)
            assert str(model.contexts[-1].items).count("Tulips are sold out.") == 1
            assert "Tulips" not in kept(held.session)


class FrontDesk(Plain):
    """Hands over to an agent that is as plain, and may have a model of its own."""

    def __init__(self, second):
        super().__init__()
        self._second = second

    @function_tool
    async def hand_over(self) -> Agent:
        """Hand the caller over."""
        return self._second


async def test_the_second_plain_agent_is_briefed_too_and_the_handover_recorded(store):
    async with talk(store, ROBIN, calls(), agent=FrontDesk(Plain()), userdata=None) as held:
        held.llm.script = lambda context: (
            ["Welcome."] if "Greet the caller" in str(context.items) else [("hand_over", {})]
        )
        assert said(await held.session.run(user_input="Somebody else, please")) == "Welcome."
        assert_briefed_once(held.llm, requests=3)
    turns = await store.sessions.turns(ROBIN, "console-test")
    assert [turn.kind for turn in turns].count(TurnKind.HANDOFF) == 1


async def test_an_agent_with_a_model_of_its_own_is_briefed(store):
    own = ScriptedLLM(calls(greeting="Welcome."))
    async with talk(store, ROBIN, calls(), agent=FrontDesk(Plain(llm=own)), userdata=None) as held:
        held.llm.script = calls(("hand_over", {}))
        await held.session.run(user_input="Somebody else, please")
        await held.say("hello")
        assert_briefed_once(held.llm, requests=2)
        assert_briefed_once(own, requests=2)


async def test_an_agent_that_is_exchanged_from_outside_is_briefed(store):
    async with talk(store, ROBIN, calls(), agent=Plain(), userdata=None) as held:
        held.session.update_agent(Delegates())
        await until(lambda: len(held.llm.contexts) == 2)
        await held.say("hello")
        assert_briefed_once(held.llm, requests=3)


class AskName(AgentTask[str]):
    """A task within a call."""

    def __init__(self):
        super().__init__(instructions="Find out the caller's name.")

    async def on_enter(self):
        self.session.generate_reply(instructions="Ask for the name.")

    @function_tool
    async def take_name(self, name: str) -> None:
        """Take the name."""
        self.complete(name)


class Registers(Plain):
    @function_tool
    async def register(self) -> str:
        """Register the caller."""
        return f"Registered {await AskName()}."


async def test_a_task_within_a_call_and_the_agent_that_goes_on_after_it_are_briefed(store):
    async with talk(store, ROBIN, calls(), agent=Registers(), userdata=None) as held:
        held.llm.script = lambda context: (
            ["What is your name?"] if "Ask for the name" in str(context.items) else [("register", {})]
        )
        await held.session.run(user_input="Register me")
        held.llm.script = calls(("take_name", {"name": "Robin"}))
        assert "Registered Robin." in said(await held.session.run(user_input="I am Robin"))
        await held.say("hello")
        assert_briefed_once(held.llm)


async def test_an_answer_that_was_begun_early_stays_valid(store, caplog):
    caplog.set_level(logging.DEBUG, "livekit.agents")
    model = ScriptedLLM(calls())
    async with calling(store, ROBIN) as call, voice_call(call, model, agent=Plain(), userdata=None) as voice:
        await voice.answered(1)
        await voice.hear("tell me about lamps and my pet", preflight=True)
        await voice.answered(2)
    assert any("using preemptive generation" in record.message for record in caplog.records)
    assert_briefed_once(model, requests=2)


async def test_calls_at_the_same_time_in_one_process_with_one_model_do_not_mix(store):
    model = ScriptedLLM(calls())

    def of(words: str) -> list[str]:
        return [text for context in model.contexts if words in str(context.items) for text in briefings(context)]

    async with (
        calling(store, ROBIN, session_id="console-robin") as robin,
        calling(store, KIM, session_id="console-kim") as kim,
        talking(robin, model, Plain(), userdata=None) as of_robin,
        talking(kim, model, Plain(), userdata=None) as of_kim,
    ):
        for _ in range(2):
            await of_robin.say("this is Robin")
            await of_kim.say("this is Kim")
        assert CallerSession.of(of_robin.session) is robin
        assert CallerSession.of(of_kim.session) is kim
        assert len(of("this is Robin")) == len(of("this is Kim")) == 2
        assert all("Zephyrine" in text and "Quillon" not in text for text in of("this is Robin"))
        assert all("Quillon" in text and "Zephyrine" not in text for text in of("this is Kim"))


async def test_an_agent_that_is_used_again_knows_the_new_caller_alone(store):
    agent = Plain()
    async with talk(store, ROBIN, calls(), agent=agent, userdata=None) as held:
        await held.say("hello")
    async with talk(store, KIM, calls(), agent=agent, userdata=None, session_id="console-kim") as held:
        await held.say("hello")
        assert_briefed_once(held.llm, "Quillon", requests=2)
        assert agent.llm_node.own == Agent.llm_node.__get__(agent)  # and not what was put around it before
        assert "Zephyrine" not in str([briefings(context) for context in held.llm.contexts])
    model = ScriptedLLM(calls())
    with fake_job_context(job_id="console-nobody"):
        async with AgentSession(llm=model, vad=None, turn_handling={"turn_detection": None}) as session:
            await session.start(agent, capture_run=True, record=False)
    assert model.contexts
    assert [briefings(context) for context in model.contexts] == [[]]


async def test_a_session_that_runs_already_is_briefed_from_then_on_and_recorded_from_its_beginning(store):
    model = ScriptedLLM(calls(("hand_over", {})))
    async with calling(store, ROBIN) as call:
        with fake_job_context(job_id=call.session_id):
            async with AgentSession(llm=model, vad=None, turn_handling={"turn_detection": None}) as session:
                await session.start(FrontDesk(Plain(tools=call.tools())), capture_run=True, record=False)
                await session.run(user_input="Somebody else, please")
                asked = len(model.contexts)
                assert [text for context in model.contexts for text in briefings(context)] == []
                call.attach(session)
                model.script = calls(("recall_detail", {"memory_type": "pet"}))
                await session.run(user_input="What is my pet?")
        model.contexts = model.contexts[asked:]
        assert_briefed_once(model, requests=2)
    turns = await store.sessions.turns(ROBIN, "console-test")
    assert [turn.role or turn.name for turn in turns] == [
        *("assistant", "user", "hand_over", "plain", "assistant"),
        *("user", "recall_detail", "assistant"),
    ]
    assert [turn.seq for turn in turns] == list(range(len(turns)))


async def test_who_is_identified_later_is_briefed_about_from_then_on(store):
    async with talk(store, UserScope.guest(), calls(), agent=Plain(), guest=True, userdata=None) as held:
        await held.say("hello")
        assert_briefed_once(held.llm, "guest")
        assert await held.call.identify(ROBIN)
        await until(lambda: held.call.caller.loaded)
        await held.say("hello again")
        (briefing,) = briefings(held.llm.contexts[-1])
        assert "Zephyrine" in briefing
        assert '"guest"' not in briefing


async def test_a_session_is_attached_once(store):
    async with (
        calling(store, ROBIN) as robin,
        calling(store, KIM, session_id="console-kim") as kim,
        talking(robin, ScriptedLLM(calls()), Plain(), userdata=None) as held,
    ):
        with pytest.raises(AttachmentError, match="this caller session is attached to an AgentSession already"):
            robin.attach(held.session)
        with pytest.raises(AttachmentError, match="another caller session is attached to this AgentSession"):
            kim.attach(held.session)
        other = AgentSession(vad=None, turn_handling={"turn_detection": None})
        with pytest.raises(AttachmentError, match="this caller session is attached to an AgentSession already"):
            robin.attach(other)
        with pytest.raises(AttachmentError, match=r"call caller_session\.attach\(agent_session\) before"):
            CallerSession.of(other)
        kim.attach(other)
        assert CallerSession.of(other) is kim
        await held.say("hello")
        assert_briefed_once(held.llm, requests=2)


@pytest.mark.usefixtures("impatient")  # a deadline that was cancelled refers to the session until its time
async def test_a_session_that_is_gone_is_not_kept(store):
    async def hold() -> weakref.ref:
        async with calling(store, ROBIN) as call, talking(call, ScriptedLLM(calls()), Plain(), userdata=None) as held:
            await held.say("hello")
            return weakref.ref(held.session)

    def is_collected() -> bool:
        gc.collect()
        return gone() is None

    gone = await asyncio.create_task(hold())  # the context of a task refers to the session
    await until(is_collected)  # and work that is being cancelled may still do so


async def test_a_briefing_that_fails_costs_no_answer(store, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no briefing")

    monkeypatch.setattr("lkmongo.agent.briefing._parts", fail)
    async with talk(store, ROBIN, calls(), agent=Plain(), userdata=None) as held:
        assert await held.say("hello") == "Nothing to do."
    assert any("asked without a briefing" in record.message for record in caplog.records)


async def test_a_tool_of_ones_own_finds_the_caller_by_the_session(store):
    class Florist(Plain):
        @function_tool
        async def favourite(self, context: RunContext) -> str:
            """Say which flower the caller likes best."""
            return CallerSession.of(context.session).facts["flower"].content

    await store.memories.remember(ROBIN, "flower", "the foxglove")
    async with talk(store, ROBIN, calls(), agent=Florist(), userdata=None) as held:
        assert await held.tool("favourite") == ("the foxglove", False)


def test_the_door_does_not_import_livekit():
    code = "import lkmongo.agent.caller_session, sys; sys.exit(any(m.startswith('livekit') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=generate.ROOT).returncode == 0
