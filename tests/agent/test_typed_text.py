"""What is typed in a room, and what is said while a tool runs: each is answered, in order."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from livekit.agents import AgentSession
from livekit.rtc.data_stream import StreamError

from lkmongo.agent import limits
from lkmongo.agent.assistant import Assistant
from lkmongo.agent.typed_text import MAX_WAITING, TOO_LONG, TOO_MANY, TypedText
from lkmongo.model import MAX_CONTENT, UserScope
from lkmongo.tenants import Limits
from tests.fake_llm import ScriptedLLM
from tests.talk import calling, talking
from tests.voice import Speaker, voice_call
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
CALLER = "caller-1"


def echo(context):
    """Answer what was said last with its own words; to "remember", with what a tool says."""
    items = list(context.items)
    spoken = [place for place, item in enumerate(items) if item.type == "message" and item.role == "user"]
    if not spoken:
        return ["Hello."]
    text = items[spoken[-1]].text_content
    outputs = [item.output for item in items[spoken[-1] :] if item.type == "function_call_output"]
    if "remember" in text and not outputs:
        return [("remember_detail", {"memory_type": "pet", "content": text})]
    return [f"Answer to {text}"]


class Arriving:
    """A message as the room hands it on; `torn` before it is whole."""

    def __init__(self, text: str, sent_at: int, *, torn: bool = False) -> None:
        self.info = SimpleNamespace(timestamp=sent_at)
        self._text, self._torn = text, torn

    async def read_all(self) -> str:
        if self._torn:
            raise StreamError("Disconnected while receiving")
        return self._text


class Typing:
    """A caller who types to a running session, in a room that does not list them."""

    def __init__(self, session) -> None:
        self.session = session
        self.typed: list[str] = []
        handlers = {}
        room = SimpleNamespace(remote_participants={}, register_text_stream_handler=handlers.__setitem__)
        TypedText().listen(room, session, lambda: CALLER)
        self._take = handlers["lk.chat"]

    def type(self, *texts: str) -> None:
        for text in texts:
            self.typed.append(text)
            self.arrive(text, len(self.typed))

    def arrive(self, text: str, sent_at: int, who: str = CALLER, *, torn: bool = False) -> None:
        self._take(Arriving(text, sent_at, torn=torn), who)

    @property
    def conversation(self) -> list[tuple[str, str]]:
        """Role and text of each message so far."""
        messages = [item for item in self.session.history.items if item.type == "message"]
        return [(item.role, item.text_content) for item in messages]

    async def answered(self, number: int) -> list[tuple[str, str]]:
        """Wait for as many answers, and return the conversation behind the greeting."""
        await until(lambda: sum(role == "assistant" for role, _ in self.conversation) > number)
        return self.conversation[1:]


def in_turn(texts):
    return [each for text in texts for each in (("user", text), ("assistant", f"Answer to {text}"))]


async def test_what_is_typed_while_the_agent_begins_is_answered_when_it_has(store):
    handlers = {}
    room = SimpleNamespace(register_text_stream_handler=handlers.__setitem__)
    async with calling(store, ROBIN) as call, AgentSession(llm=ScriptedLLM(echo)) as session:
        TypedText().listen(room, session, lambda: CALLER)
        for number in (2, 1):
            handlers["lk.chat"](Arriving(f"{number}", number), CALLER)
        await asyncio.sleep(0.05)
        call.attach(session)
        await session.start(Assistant())
        answers = "Answer to 1", "Answer to 2"
        await until(lambda: answers == tuple(each.text_content for each in session.history.messages())[-3::2])


async def test_what_others_type_and_what_does_not_arrive_whole_is_not_answered(store):
    async with calling(store, ROBIN) as call, talking(call, ScriptedLLM(echo), Assistant()) as held:
        caller = Typing(held.session)
        caller.arrive("I am the caller", 1, "somebody-else")
        caller.arrive("my name is", 2, torn=True)
        caller.type("good morning")
        assert await caller.answered(1) == in_turn(["good morning"])


async def test_twenty_messages_in_bursts_are_answered_one_by_one_in_the_order_of_arrival(store):
    model = ScriptedLLM(echo)
    model.delay = 0.02
    async with calling(store, ROBIN) as call, talking(call, model, Assistant()) as held:
        caller = Typing(held.session)
        caller.type("1", "2 remember a cat", "3")  # during the greeting
        await until(lambda: any(text == "2 remember a cat" for _, text in caller.conversation))
        caller.type(*map(str, range(4, 10)))  # during the tool, or the answer with its result
        await until(lambda: ("assistant", "Answer to 4") in caller.conversation)
        for number in range(10, 21):
            caller.type(str(number))
            await asyncio.sleep(0.01)  # some while an answer is being made, some while it is given
        assert await caller.answered(20) == in_turn(caller.typed)
        assert held.call.facts["pet"].content == "2 remember a cat"


async def test_what_the_caller_waited_is_recorded_with_the_first_answer_and_holds_the_time_in_the_queue(store):
    model = ScriptedLLM(echo)
    model.delay = 0.05
    async with calling(store, ROBIN) as call, talking(call, model, Assistant()) as held:
        caller = Typing(held.session)
        began = asyncio.get_running_loop().time()
        caller.type("1", "2 remember a cat", "3")
        await caller.answered(3)
        at_most = asyncio.get_running_loop().time() - began
        turns = [each for each in call.recorder.turns if each.role]
    waits = [each.metrics.get("typed_latency") for each in turns]
    assert [each.role for each in turns] == ["assistant", *["user", "assistant"] * 3]
    assert [each for each in waits if each is None] == [None] * 4, "of the greeting, or of what was typed"
    first, second, third = (each for each in waits if each is not None)
    # A request for each message, and one more with the result of the tool.
    assert model.delay <= first
    assert first + 2 * model.delay <= second + 0.001
    assert second + model.delay <= third + 0.001 <= at_most + 0.002


async def test_messages_that_the_sdk_hands_over_in_another_order_are_answered_as_they_were_sent(store):
    async with calling(store, ROBIN) as call, talking(call, ScriptedLLM(echo), Assistant()) as held:
        caller = Typing(held.session)
        for sent_at in (3, 1, 4, 2, 4):
            caller.arrive(f"sent at {sent_at}", sent_at)
        assert await caller.answered(5) == in_turn(f"sent at {number}" for number in (1, 2, 3, 4, 4))


async def test_what_is_too_long_or_too_much_is_refused_in_a_sentence_and_the_conversation_goes_on(store):
    model = ScriptedLLM(echo)
    async with calling(store, ROBIN) as call, talking(call, model, Assistant()) as held:
        caller = Typing(held.session)
        caller.type("a" * (MAX_CONTENT + 1), "   ", *map(str, range(1, MAX_WAITING)), "dropped", "dropped too")
        expected = [("assistant", TOO_LONG), *in_turn(map(str, range(1, MAX_WAITING))), ("assistant", TOO_MANY)]
        assert await caller.answered(MAX_WAITING + 1) == expected
        caller.type("again")
        assert (await caller.answered(MAX_WAITING + 2))[-2:] == in_turn(["again"])


async def test_what_is_typed_too_fast_is_refused_in_one_sentence_and_counted(store, monkeypatch):
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: clock.now))
    async with calling(store, ROBIN) as call:
        allowance = call.caller.allowance = limits.Allowance(Limits(messages=3))
        allowance.is_call = True
        async with talking(call, ScriptedLLM(echo), Assistant()) as held:
            caller = Typing(held.session)
            caller.type("a" * (MAX_CONTENT + 1), "1", "2", *["too much"] * 500)
            expected = [("assistant", TOO_LONG), *in_turn("12"), ("assistant", TOO_MANY)]
            assert await caller.answered(4) == expected
            caller.type(*["still too much"] * 500)
            await asyncio.sleep(0)  # each is read in a task of its own
            clock.now += 61
            caller.type("3", "4", "5", "more")
            assert await caller.answered(8) == [*expected, *in_turn("345"), ("assistant", TOO_MANY)]
        assert allowance.report() == {"messages": 1_001}
        assert not allowance.is_flooded, "what was let in is answered"


async def test_what_was_let_in_and_not_answered_before_the_end_is_recorded(store):
    model = ScriptedLLM(echo)
    async with calling(store, ROBIN) as call, talking(call, model, Assistant()) as held:
        caller = Typing(held.session)
        await caller.answered(0)
        model.delay = 60
        caller.type("1", "2", "3")
        await until(lambda: len(model.contexts) == 2)
    said = [turn.content for turn in await store.sessions.turns(ROBIN, "console-test") if turn.role == "user"]
    assert said == ["1", "2", "3"]


async def test_what_is_typed_while_the_agent_speaks_aloud_interrupts_it(store, monkeypatch):
    speak, spoken = Speaker._end, []

    async def endless_greeting(speaker, seconds):
        spoken.append(seconds)
        if len(spoken) == 1:
            await asyncio.Event().wait()
        await speak(speaker, seconds)

    monkeypatch.setattr(Speaker, "_end", endless_greeting)
    async with calling(store, ROBIN) as call, voice_call(call, ScriptedLLM(echo)) as voice:
        await until(lambda: spoken)
        caller = Typing(voice.session)
        caller.type("stop")
        await until(lambda: caller.conversation[-2:] == in_turn(["stop"]))


@pytest.mark.parametrize("pause", [0.0, 1.0])
async def test_what_is_said_while_a_tool_runs_is_answered_with_its_result(store, pause):
    begun, goes_on = asyncio.Event(), asyncio.Event()
    async with calling(store, ROBIN) as call:
        remember = call.caller.remember

        async def slowly(*told, **more):
            begun.set()
            await goes_on.wait()
            return await remember(*told, **more)

        call.caller.remember = slowly
        async with voice_call(call, ScriptedLLM(echo)) as voice:
            await voice.answered(1)
            await voice.hear("remember a cat")
            await until(begun.is_set)
            await voice.hear("what is it called")
            await asyncio.sleep(pause)  # before or after the end of the turn is recognised
            goes_on.set()
            caller = Typing(voice.session)
            await until(lambda: caller.conversation[-2:] == in_turn(["what is it called"]))
            kinds = [item.type for item in voice.session.history.items]
    assert kinds.index("function_call_output") == kinds.index("function_call") + 1
    assert kinds.index("function_call_output") < len(kinds) - 2
    assert call.facts["pet"].content == "remember a cat"
