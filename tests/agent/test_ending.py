"""What the next session knows of the last one: when it was, what it was about, and nothing that was forgotten."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from lkmongo import deadlines
from lkmongo.agent.ending import end_session, tell_end
from lkmongo.agent.fence import opened
from lkmongo.agent.learning import Learner
from lkmongo.demo.llm import DemoLLM
from lkmongo.embed.choose import create_embedder
from lkmongo.model import Turn, TurnKind, UserScope, now
from tests.fake_llm import ScriptedLLM, calls
from tests.talk import hang_up, talk
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SAID = "I would like to return my blue kettle"


class Learning(ScriptedLLM):
    """A language model that is asked about a call that is over; keeps the tools that it was given, too."""

    def __init__(self, **told):
        answer = {"summary": "The caller wants to return a blue kettle.", "facts": []} | told
        super().__init__(lambda _: [json.dumps(answer)])
        self.tools = []

    def chat(self, *, chat_ctx, tools=None, **more):
        self.tools += tools or []
        return super().chat(chat_ctx=chat_ctx, tools=tools, **more)


async def call_once(store, model, *words, scope=ROBIN, tool=None, **more):
    """Hold a call and end it as a room or the console does."""
    async with talk(store, scope, calls(greeting="Hello."), **more) as call:
        for each in words or (SAID,):
            await call.say(each)
        if tool:
            await call.tool(*tool[:1], **tool[1])
        await hang_up(call, model)


async def told_next_time(store, scope=ROBIN):
    """What a model is told when the next call begins."""
    async with talk(store, scope, calls(greeting="Hello."), session_id="console-next") as call:
        return "\n".join(item.text_content or "" for item in call.llm.contexts[0].items if item.type == "message")


async def gist(store):
    last = (await store.users.get(ROBIN)).last_session
    return last.gist if last else None


async def test_the_next_call_is_told_when_the_last_one_was_and_what_the_model_made_of_it(store):
    model = Learning()
    before = now() - timedelta(seconds=1)
    await call_once(store, model)
    last = (await store.users.get(ROBIN)).last_session
    assert before <= last.at <= now()
    assert last.gist == "The caller wants to return a blue kettle."
    assert len(model.contexts) == 1, "one request"
    assert model.tools == []
    told = opened(model.contexts[0].items[-1].text_content)
    assert [(each["who"], each["said"]) for each in told["turns"]] == [
        ("assistant", "Hello."),
        ("caller", SAID),
        ("assistant", "Nothing to do."),
    ]
    told = await told_next_time(store)
    assert last.gist in told
    assert f'"at": "{last.at.isoformat(timespec="minutes")}"' in told
    assert "If there was a last call, mention" in told


async def test_the_record_is_complete_before_the_model_is_asked_and_waits_for_nothing(store):
    model = Learning()
    found = []

    class Looking(Learning):
        def chat(self, **more):
            found.append(store.db.sessions.find_one({}))
            return super().chat(**more)

    model = Looking()
    model.delay = 30
    async with talk(store, ROBIN, calls()) as call:
        await call.say(SAID)
        ended_at = now()
        assert await end_session(call.call, "hang-up", dict, ended_at=ended_at, learns=True)
        assert model.contexts == [], "the end of the record asks nobody"
        learner = Learner(store, create_embedder("local"), model, "on")
        telling = asyncio.create_task(tell_end(call.call, "hang-up", ended_at, stored=True, learner=learner))
        await until(lambda: bool(found))
        session = await found[0]
        telling.cancel()  # as at the end of the time for a hang-up
        await asyncio.gather(telling, return_exceptions=True)
    assert (session["status"], session["learning"]["attempts"]) == ("complete", 1)
    record = await store.sessions.get(ROBIN, "console-test")
    assert record.learning.due_at > now(), "for another process"
    assert await gist(store) == SAID


async def test_what_is_learned_is_known_in_the_next_call(store):
    fact = {"kind": "new", "label": "kettle", "content": "blue", "quote": "c2", "confidence": 0.9}
    await call_once(store, Learning(facts=[fact]))
    assert '"kettle": ["blue"' in await told_next_time(store)


async def test_the_responder_greets_with_what_the_last_call_was_about(store):
    await call_once(store, None)
    async with talk(store, ROBIN, calls(), model=DemoLLM(), session_id="console-next") as call:
        (greeting,) = [item.text_content for item in call.session.history.messages() if item.role == "assistant"]
    assert SAID in greeting


@pytest.mark.parametrize("trouble", ["slow", "broken", "silent", "none"])
async def test_without_a_summary_it_is_told_what_the_caller_said_last(store, monkeypatch, trouble):
    model = Learning()
    if trouble == "slow":
        monkeypatch.setattr(deadlines, "HANG_UP", 2.5)
        model.delay = 30
    if trouble == "silent":
        model.script = lambda _: []
    if trouble == "broken":

        def broken(_):
            raise RuntimeError("no model")

        model.script = broken
    await call_once(store, None if trouble == "none" else model)
    assert await gist(store) == SAID
    assert len(model.contexts) == (0 if trouble == "none" else 1)


async def test_nothing_is_told_of_a_call_in_which_something_was_forgotten(store):
    await store.memories.remember(ROBIN, "pet", "a heron")
    model = Learning()
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
    await call_once(store, Learning(), resumed=before)
    assert await gist(store) is None


async def test_of_a_call_that_was_gone_on_with_all_of_it_is_summed_up(store):
    model = Learning()
    before = [Turn(0, "a", TurnKind.MESSAGE, now(), role="user", content="I ordered a kettle")]
    await store.sessions.append(ROBIN, "console-test", before)
    await call_once(store, model, resumed=before)
    told = opened(model.contexts[0].items[-1].text_content)
    assert [each["said"] for each in told["turns"] if each["who"] == "caller"] == ["I ordered a kettle", SAID]


async def test_nothing_is_told_where_nobody_said_anything_or_the_caller_is_a_guest(store):
    model = Learning()
    async with talk(store, ROBIN, calls()) as call:
        await hang_up(call, model)
    await call_once(store, model, scope=UserScope.guest(), guest=True, session_id="console-guest")
    assert await gist(store) is None
    assert model.contexts == []
