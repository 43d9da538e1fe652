"""What the next session knows of the last one: when it was, what it was about, and nothing that was forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lkmongo import deadlines
from lkmongo.agent import ending
from lkmongo.agent.ending import MAX_GIST, end_session
from lkmongo.agent.models import ModelChoice
from lkmongo.demo.llm import DemoLLM
from lkmongo.model import Turn, TurnKind, UserScope, now
from tests.fake_llm import ScriptedLLM, calls
from tests.talk import talk
from tests.waiting import PATIENCE

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SAID = "I would like to return my blue kettle"


class Summarising(ScriptedLLM):
    """A language model that is asked what a call was about; keeps the tools that it was given, too."""

    def __init__(self, answer="The caller wants to return a blue kettle; the label is still to be sent."):
        super().__init__(lambda _: [answer])
        self.tools = []

    def chat(self, *, chat_ctx, tools=None, **more):
        self.tools += tools or []
        return super().chat(chat_ctx=chat_ctx, tools=tools, **more)


async def call_once(store, mind, *words, scope=ROBIN, tool=None, **more):
    """Hold a call and end it as a room or the console does."""
    async with talk(store, scope, calls(greeting="Hello."), **more) as call:
        for each in words or (SAID,):
            await call.say(each)
        if tool:
            await call.tool(*tool[:1], **tool[1])
        await end_session(call.call, "hang-up", dict, ended_at=now(), model=mind and ModelChoice(mind, "a mind"))


async def told_next_time(store, scope=ROBIN):
    """What a model is told when the next call begins."""
    async with talk(store, scope, calls(greeting="Hello."), session_id="console-next") as call:
        return "\n".join(item.text_content or "" for item in call.llm.contexts[0].items if item.type == "message")


async def gist(store):
    last = (await store.users.get(ROBIN)).last_session
    return last.gist if last else None


async def test_the_next_call_is_told_when_the_last_one_was_and_what_it_was_about(store):
    model = Summarising()
    before = now() - timedelta(seconds=1)
    await call_once(store, model)
    last = (await store.users.get(ROBIN)).last_session
    assert before <= last.at <= now()
    assert last.gist == "The caller wants to return a blue kettle; the label is still to be sent."
    assert len(model.contexts) == 1, "one request"
    assert model.tools == []
    asked = "\n".join(item.text_content for item in model.contexts[0].items)
    assert f"Assistant: Hello.\nCaller: {SAID}\nAssistant: Nothing to do." in asked
    told = await told_next_time(store)
    assert last.gist in told
    assert f'"at": "{last.at.isoformat(timespec="minutes")}"' in told
    assert "If there was a last call, mention" in told


async def test_the_responder_greets_with_what_the_last_call_was_about(store):
    await call_once(store, None)
    async with talk(store, ROBIN, calls(), model=DemoLLM(), session_id="console-next") as call:
        (greeting,) = [item.text_content for item in call.session.history.messages() if item.role == "assistant"]
    assert SAID in greeting


@pytest.mark.parametrize("trouble", ["slow", "broken", "silent", "none", "responder"])
async def test_without_a_summary_it_is_told_what_the_caller_said_last(store, monkeypatch, trouble):
    monkeypatch.setattr(deadlines, "SUMMARY", 0.1 if trouble == "slow" else PATIENCE)
    model = Summarising("" if trouble == "silent" else "never used")
    if trouble == "slow":
        model.delay = 30
    if trouble == "broken":

        def broken(_):
            raise RuntimeError("no model")

        model.script = broken
    mind = {"none": None, "responder": None}.get(trouble, model)
    async with talk(store, ROBIN, calls()) as call:
        await call.say(SAID)
        is_responder = ModelChoice(model, "the responder", is_responder=True) if trouble == "responder" else None
        mind = mind and ModelChoice(mind, "a mind")
        await end_session(call.call, "hang-up", dict, ended_at=now(), model=is_responder or mind)
    assert await gist(store) == SAID
    assert len(model.contexts) == (0 if trouble in {"none", "responder"} else 1)


async def test_nothing_is_told_of_a_call_in_which_something_was_forgotten(store):
    await store.memories.remember(ROBIN, "pet", "a heron")
    model = Summarising()
    await call_once(store, model, "my pet is a heron", tool=("forget_detail", {"memory_type": "pet"}))
    assert await gist(store) is None
    assert model.contexts == [], "it is not even asked"
    assert "last_call" not in await told_next_time(store)


async def test_nor_when_it_was_forgotten_with_the_agent_before(store):
    moment = now()
    before = [
        Turn(0, "a", TurnKind.MESSAGE, moment, role="user", content="forget my pet, the heron"),
        Turn(1, "b", TurnKind.TOOL, moment, name="forget_detail", arguments="{}", output="I have forgotten your pet."),
    ]
    await call_once(store, Summarising(), resumed=before)
    assert await gist(store) is None


async def test_of_a_call_that_was_gone_on_with_all_of_it_is_summed_up(store):
    model = Summarising()
    before = [Turn(0, "a", TurnKind.MESSAGE, now(), role="user", content="I ordered a kettle")]
    await call_once(store, model, resumed=before)
    asked = model.contexts[0].items[-1].text_content
    assert asked.index("Caller: I ordered a kettle") < asked.index(SAID)


async def test_nothing_is_told_where_nobody_said_anything_or_the_caller_is_a_guest(store):
    model = Summarising()
    async with talk(store, ROBIN, calls()) as call:
        await end_session(call.call, "hang-up", dict, ended_at=now(), model=ModelChoice(model, "a mind"))
    await call_once(store, model, scope=UserScope.guest(), guest=True, session_id="console-guest")
    assert await gist(store) is None
    assert model.contexts == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("NOTHING", None),
        ('"Nothing."', None),
        ("a\n\n b\ud800", "a b\ufffd"),
        ("word " * 200, ("word " * 200)[:MAX_GIST]),
    ],
)
async def test_what_a_model_says_is_one_line_and_short(store, answer, expected):
    await call_once(store, Summarising(answer))
    assert await gist(store) == (expected.strip() if expected else None)


async def test_of_a_long_call_the_end_is_summed_up(store):
    turns = [Turn(n, f"i-{n}", TurnKind.MESSAGE, now(), role="user", content=f"{n} " * 50) for n in range(500)]
    transcript = ending._transcript(turns)
    assert len(transcript) <= 8_000
    assert transcript.endswith(f"Caller: {'499 ' * 50}".strip())
