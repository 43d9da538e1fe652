"""Realtime models: the briefing is in the instructions of the SDK's session with the model, and nowhere else."""

from __future__ import annotations

import asyncio
import json

import pytest
from livekit.agents import Agent, AgentSession, function_tool
from livekit.agents.testing import fake_job_context
from livekit.agents.types import NOT_GIVEN

from lkmongo.agent.assistant import Assistant
from lkmongo.model import UserScope, now
from lkmongo.store.people.erase import erase
from tests.fake_llm import ScriptedLLM, calls
from tests.fake_realtime import Connected, ScriptedRealtime
from tests.talk import calling, said, talk, talking
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="default", user_id="u-200")


@pytest.fixture(autouse=True)
async def memories(store):
    await store.memories.remember(ROBIN, "pet", "a heron called Zephyrine")
    await store.memories.remember(KIM, "pet", "an otter called Quillon")


class Plain(Agent):
    def __init__(self, **options):
        super().__init__(instructions="You are a florist.", **options)

    async def on_enter(self):
        self.session.generate_reply(instructions="Greet the caller.")


def data(told: str) -> dict:
    """What the one briefing in some instructions says."""
    assert told.count("<caller_data>\n") == 1
    return json.loads(told.split("<caller_data>\n")[1].split("\n</caller_data>")[0])


def delay_loading(store, monkeypatch) -> asyncio.Event:
    """Let nobody's memory be loaded before the event."""
    arrived = asyncio.Event()
    contents = store.memories.contents

    async def late(_, scope):
        await arrived.wait()
        return await contents(scope)

    monkeypatch.setattr("lkmongo.store.people.memories.Memories.contents", late)
    monkeypatch.setattr("lkmongo.deadlines.PRELOAD", 0.05)
    return arrived


async def test_a_realtime_model_is_briefed_and_its_turns_are_recorded_without_the_briefing(store):
    model = ScriptedRealtime(calls(("recall_detail", {"memory_type": "pet"})))
    async with calling(store, ROBIN) as call:
        await call.caller.preload()
        async with talking(call, model, Plain(tools=call.tools()), userdata=None) as held:
            (connected,) = model.sessions
            (told,) = connected.told
            assert told.startswith("You are a florist.\n\n")
            assert data(told)["memories"]["pet"][0] == "a heron called Zephyrine"
            connected.hear("What is my pet?")
            await until(lambda: "Zephyrine" in str(held.session.history.messages()[-1].content))
            model.script = calls()
            await held.session.run(user_input="Thank you")
            assert held.session.current_agent.instructions == "You are a florist."
            kept = json.dumps(held.session.history.to_dict()) + str(held.session._recorded_events)
            kept += json.dumps(held.session.current_agent.chat_ctx.to_dict()) + str(connected.chat_ctx.to_dict())
            kept += json.dumps(held.job.make_session_report(held.session).to_dict(), default=str)
            assert "You are a florist." in kept
            assert "caller_data" not in kept
            assert connected.told == [told]
    turns = await store.sessions.turns(ROBIN, "console-test")
    assert [turn.role or turn.name for turn in turns] == [
        *("assistant", "user", "recall_detail", "assistant", "user", "assistant"),
    ]
    assert turns[1].content == "What is my pet?"
    assert "caller_data" not in str(turns)
    assert (await store.sessions.get(ROBIN, "console-test")).status == "complete"


async def test_what_changes_in_the_call_is_told_at_once(store):
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None) as held:
        await held.call.remember("flower", "foxglove")
        await until(lambda: "foxglove" in model.told)
        await held.call.update_profile("name", "Robin Miller")
        await until(lambda: data(model.told).get("profile") == {"name": "Robin Miller"})
        await held.call.forget("pet")
        await until(lambda: "Zephyrine" not in model.told)
        assert list(data(model.told)["memories"]) == ["flower"]
        assert model.told.startswith("You are a florist.\n\n")
        assert len(model.sessions) == 1


async def test_what_a_tool_changes_is_told_at_once(store):
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Assistant()) as held:
        assert "You are a friendly voice assistant" in model.told
        model.script = calls(("remember_detail", {"memory_type": "flower", "content": "foxglove"}))
        assert "foxglove" in said(await held.session.run(user_input="I like foxgloves"))
        await until(lambda: "foxglove" in model.told)


async def test_what_is_loaded_late_is_told_when_it_is_there(store, monkeypatch):
    arrived = delay_loading(store, monkeypatch)
    model = ScriptedRealtime(calls())
    async with calling(store, ROBIN) as call:
        await call.caller.preload(0.05)
        async with talking(call, model, Plain(), userdata=None) as held:
            assert data(model.told) == {"status": "loading"}
            arrived.set()
            await until(lambda: "Zephyrine" in model.told)
            assert data(model.told)["status"] == "known"
            await held.session.run(user_input="hello")


async def test_what_another_process_changes_is_told_after_the_next_turn(store):
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None) as held:
        await until(lambda: held.call.caller.loaded)
        await store.memories.remember(ROBIN, "flower", "foxglove")
        await held.session.run(user_input="hello")
        await until(lambda: "foxglove" in model.told)


async def test_a_guest_who_is_identified_is_told(store, monkeypatch):
    model = ScriptedRealtime(calls())
    guest = UserScope.guest()
    async with talk(store, guest, calls(), model=model, agent=Plain(), userdata=None, guest=True) as held:
        assert data(model.told) == {"status": "guest"}
        arrived = delay_loading(store, monkeypatch)
        assert await held.call.identify(ROBIN)
        await until(lambda: data(model.told) == {"status": "loading"})  # and no guest, though MongoDB be away
        arrived.set()
        await until(lambda: "Zephyrine" in model.told)


async def test_what_is_erased_is_told_no_more(store, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.LEASE_RENEWAL_EVERY", 0.05)
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None):
        await erase(store.db, ROBIN, by="tests")
        await until(lambda: "Zephyrine" not in model.told)


async def test_instructions_that_the_agent_changes_keep_the_briefing(store):
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None) as held:
        await held.session.current_agent.update_instructions("You sell tulips only.")
        assert model.told.startswith("You sell tulips only.\n\n")
        assert "Zephyrine" in model.told
        await held.call.remember("flower", "foxglove")
        await until(lambda: "foxglove" in model.told)
        assert model.told.startswith("You sell tulips only.\n\n")
        assert "caller_data" not in json.dumps(held.session.history.to_dict())


class Second(Plain):
    def __init__(self, **options):
        super().__init__(**options)
        self._instructions = "You take complaints."


class FrontDesk(Plain):
    def __init__(self, second):
        super().__init__()
        self._second = second

    @function_tool
    async def hand_over(self) -> Agent:
        """Hand the caller over."""
        return self._second


@pytest.mark.parametrize("own_model", [False, True], ids=["the same model", "a model of its own"])
async def test_the_second_agent_is_briefed_too(store, own_model):
    model, other = ScriptedRealtime(calls()), ScriptedRealtime(calls())
    second = Second(llm=other if own_model else NOT_GIVEN)
    async with talk(store, ROBIN, calls(), model=model, agent=FrontDesk(second), userdata=None) as held:
        model.script = calls(("hand_over", {}))
        await held.session.run(user_input="I have a complaint")
        asked = other if own_model else model
        await until(lambda: asked.sessions and "You take complaints." in asked.told)
        assert data(asked.told)["memories"]
        await held.call.remember("flower", "foxglove")
        await until(lambda: "foxglove" in asked.told)


async def test_from_a_language_model_to_a_realtime_model_and_both_are_briefed(store):
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), agent=FrontDesk(Second(llm=model)), userdata=None) as held:
        assert isinstance(held.llm, ScriptedLLM)
        await held.tool("hand_over")
        await until(lambda: model.sessions)
        await until(lambda: "You take complaints." in model.told)
        assert all(str(context.items).count("<caller_data>") == 1 for context in held.llm.contexts)
        assert data(model.told)["memories"]


async def test_calls_at_the_same_time_with_one_model_do_not_mix(store):
    model = ScriptedRealtime(calls())
    async with (
        calling(store, ROBIN, session_id="console-robin") as robin,
        calling(store, KIM, session_id="console-kim") as kim,
        talking(robin, model, Plain(), userdata=None),
        talking(kim, model, Plain(), userdata=None),
        AgentSession(llm=model, vad=None, turn_handling={"turn_detection": None}) as nobody,
    ):
        await nobody.start(Plain(), record=False)
        await robin.remember("flower", "foxglove")
        await kim.remember("flower", "hemlock")
        of_robin, of_kim, of_nobody = model.sessions
        await until(lambda: "foxglove" in of_robin.told[-1] and "hemlock" in of_kim.told[-1])
        assert "Quillon" not in str(of_robin.told)
        assert "hemlock" not in str(of_robin.told)
        assert "Zephyrine" not in str(of_kim.told)
        assert "foxglove" not in str(of_kim.told)
        assert of_nobody.told == ["You are a florist."]


async def test_a_model_that_takes_no_instructions_later_has_the_briefing_from_the_beginning(store):
    model = ScriptedRealtime(calls(), mutable_instructions=False)
    async with calling(store, ROBIN) as call, talking(call, model, Plain(), userdata=None) as held:
        assert data(model.told)["memories"]  # though nothing was loaded before
        await call.remember("flower", "foxglove")
        await held.session.run(user_input="hello")
        assert len(model.sessions[0].told) == 1


class FullDuplex(Connected):
    """Takes its configuration at once, as the SDK's adapter for full-duplex models does."""

    async def _update_session(self, *, instructions=NOT_GIVEN, chat_ctx=NOT_GIVEN, tools=NOT_GIVEN):
        self.told.append(instructions)


async def test_a_model_that_is_configured_at_once_is_briefed(store):
    model = ScriptedRealtime(calls(), session_class=FullDuplex)
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None) as held:
        assert len(model.sessions[0].told) == 1
        assert data(model.told)["memories"]
        await held.call.remember("flower", "foxglove")
        await until(lambda: "foxglove" in model.told)
        assert model.told.startswith("You are a florist.\n\n")


async def test_a_session_that_runs_already_is_told(store):
    model = ScriptedRealtime(calls())
    async with calling(store, ROBIN) as call:
        with fake_job_context(job_id=call.session_id):
            async with AgentSession(llm=model, vad=None, turn_handling={"turn_detection": None}) as session:
                await session.start(Plain(), capture_run=True, record=False)
                assert model.told == "You are a florist."
                call.attach(session)
                await until(lambda: "Zephyrine" in model.told)
                assert model.told.startswith("You are a florist.\n\n")
                await call.remember("flower", "foxglove")
                await until(lambda: "foxglove" in model.told)
    turns = await store.sessions.turns(ROBIN, "console-test")
    assert [turn.role for turn in turns] == ["assistant"]


async def test_a_model_that_refuses_is_told_with_the_next_change(store, caplog):
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None) as held:
        (connected,) = model.sessions
        connected.refuses = True
        await held.call.remember("flower", "foxglove")
        await until(lambda: any("could not be told" in record.message for record in caplog.records))
        connected.refuses = False
        await held.call.remember("tree", "rowan")
        await until(lambda: "rowan" in model.told and "foxglove" in model.told)
        assert said(await held.session.run(user_input="hello")) == "Nothing to do."


async def test_a_briefing_that_fails_costs_nothing_but_itself(store, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no briefing")

    monkeypatch.setattr("lkmongo.agent.attachment.brief_aside", fail)
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None) as held:
        assert model.told == "You are a florist."
        assert said(await held.session.run(user_input="hello")) == "Nothing to do."
    assert any("is not briefed" in record.message for record in caplog.records)


async def test_of_more_than_a_briefing_holds_it_is_told_what_the_words_are_about(store):
    await store.db.memories.insert_many(
        ROBIN.filter | {"memory_type": f"fact_{n}", "content": f"detail number {n} " * 8, "updated_at": now()}
        for n in range(120)
    )
    model = ScriptedRealtime(calls())
    async with talk(store, ROBIN, calls(), model=model, agent=Plain(), userdata=None) as held:
        assert "pet" not in data(model.told)["memories"]  # the oldest
        model.sessions[0].hear("Do you know the name of my pet?")
        await until(lambda: "pet" in data(model.told)["memories"])
        assert held.call.caller.attention.words == "Do you know the name of my pet?"
