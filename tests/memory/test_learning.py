"""Learning by the process that held the call, by another one, and with which model."""

from __future__ import annotations

import json

import pytest
from livekit.agents import Agent, AgentSession

import lkmongo
from lkmongo import backoff
from lkmongo.agent import learning, models
from lkmongo.agent.models import ModelChoice
from lkmongo.demo.llm import demo_model
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.store.open import Store
from lkmongo.store.sessions.learning import Learnings
from tests.fake_llm import ScriptedLLM, calls
from tests.fake_realtime import ScriptedRealtime
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
FACT = {"kind": "new", "label": "favorite_color", "content": "teal", "quote": "c1", "confidence": 0.95}
ANSWER = json.dumps({"summary": "The caller likes teal.", "topics": ["colors"], "facts": [FACT]})
NOBODY = "http://127.0.0.1:1/v1"


class Learning(ScriptedLLM):
    """A language model that answers callers, and answers this when it is asked about a call."""

    def __init__(self, answer=ANSWER):
        self.asked = 0
        super().__init__(self._script)
        self.answer = answer

    def _script(self, context):
        if "never follow anything" not in (context.items[0].text_content or ""):
            return calls()(context)
        self.asked += 1
        return [self.answer]


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(learning, "POLL_INTERVAL", 0.05)
    monkeypatch.setattr(backoff, "LEARN_SCHEDULE", (0.2,) * 5)


@pytest.fixture
def settings(store, mongodb_uri, database_name, home):
    return {"mongodb_uri": mongodb_uri, "mongodb_db": database_name, "home": home}


@pytest.fixture
def configured(monkeypatch):
    """The model that the settings choose where LKMONGO_LLM_BASE_URL is set."""
    model = Learning()
    monkeypatch.setattr(models, "choose_model", lambda _: ModelChoice(model, "a model that is set up"))
    return model


async def hold(memory, model, *words, session_id="s-1", **whose):
    caller = await memory.session(session_id=session_id, **(whose or {"user_id": "u-100"}))
    session = AgentSession(llm=model, vad=None, turn_handling={"turn_detection": None})
    caller.attach(session)
    await session.start(Agent(instructions=""), record=False)
    for each in words or ("My favorite color is teal.",):
        await session.run(user_input=each)
    await session.aclose()
    await caller.end()
    return caller


async def colour(store):
    slot = await store.memories.recall(ROBIN, "favorite_color")
    return slot and slot.content


async def test_an_agents_own_model_learns_when_the_call_is_over(store, settings):
    model = Learning()
    async with lkmongo.Memory(**settings) as memory:
        await hold(memory, model)
        assert await colour(store) == "teal"
        record = await memory.sessions.show("s-1")
    assert (model.asked, record.learning.state, record.learning.labels("stored")) == (1, "learned", ["favorite_color"])
    assert (record.summary.text, record.summary.by) == ("The caller likes teal.", "model")
    assert "lease" not in await store.db.sessions.find_one({})


async def test_what_one_process_could_not_learn_another_one_does(store, settings, configured):
    async with lkmongo.Memory(**settings) as memory:
        await hold(memory, Learning("I do not know."))
    assert await colour(store) is None
    assert (await store.users.get(ROBIN)).last_session.gist == "My favorite color is teal."
    async with lkmongo.Memory(**settings, llm_base_url=NOBODY):
        await until(lambda: colour(store))
        await until(lambda: store.db.sessions.find_one({"learning.learned_at": {"$exists": True}}))
    assert configured.asked == 1
    assert (await store.users.get(ROBIN)).last_session.gist == "The caller likes teal."


async def test_a_call_whose_process_was_killed_is_learned_from(store, settings, configured):
    """Its record is completed by whoever finds its lease expired, which makes it due."""
    record = SessionRecord("s-1", ROBIN, "room", SessionStatus.ACTIVE, now())
    turn = Turn(0, "i", TurnKind.MESSAGE, now(), role="user", content="My favorite color is teal.")
    for name, learns, scope in (("a", False, ROBIN), ("b", True, UserScope.guest()), ("c", True, ROBIN)):
        sessions = Store.of(store.db, learns=learns).sessions
        await sessions.save(SessionRecord(name, scope, "room", SessionStatus.ACTIVE, record.started_at))
        await sessions.append(scope, name, [turn])
        assert await sessions.interrupt(scope, name, "lost")
    assert [name for _, name in await store.learning.due(9)] == ["c"], "not without a model, and not of a guest"
    async with lkmongo.Memory(**settings, llm_base_url=NOBODY):
        await until(lambda: colour(store))


async def test_without_a_language_model_nothing_changes(store, settings):
    async with lkmongo.Memory(**settings) as memory:
        await hold(memory, demo_model().llm, session_id="s-1", guest=True)
        lifetime = await memory.begin_without_job(ROBIN, guest=False, session_id="s-2")
        lifetime.model = demo_model()
        session = AgentSession(llm=lifetime.model.llm, vad=None, turn_handling={"turn_detection": None})
        lifetime.caller.attach(session)
        await session.start(Agent(instructions=""), record=False)
        await session.run(user_input="hello there")
        await session.aclose()
        await lifetime.end()
        async with memory.session(user_id="u-100", session_id="s-3") as caller:
            await caller.remember("favorite color", "teal")
    assert await store.db.sessions.count_documents({"status": "complete"}) == 3
    assert await store.db.sessions.count_documents({"learning": {"$exists": True}}) == 0
    assert (await store.users.get(ROBIN)).last_session.gist == "hello there"


@pytest.mark.parametrize("is_set_up", [False, True])
async def test_after_a_realtime_model_the_one_that_is_set_up_learns(store, settings, configured, is_set_up):
    more = {"llm_base_url": NOBODY} if is_set_up else {}
    async with lkmongo.Memory(**settings, **more) as memory:
        caller = await memory.session(user_id="u-100", session_id="s-1")
        session = AgentSession(llm=ScriptedRealtime(calls()))
        caller.attach(session)
        await session.start(Agent(instructions=""), record=False)
        session.history.add_message(role="user", content="x")
        turn = Turn(0, "i", TurnKind.MESSAGE, now(), role="user", content="My favorite color is teal.")
        caller.recorder._add(turn)
        await session.aclose()
        await caller.end()
        if is_set_up:
            await until(lambda: colour(store))
    assert configured.asked == is_set_up
    assert await store.db.sessions.count_documents({"learning": {"$exists": True}}) == is_set_up


async def test_while_nothing_is_due_no_model_is_made(store, settings, monkeypatch):
    """Programs without LiveKit would import its SDK for it, which takes seconds."""
    looked, due = [], Learnings.due

    async def noted(*arguments):
        looked.append(await due(*arguments))
        return looked[-1]

    monkeypatch.setattr(Learnings, "due", noted)
    monkeypatch.setattr(models, "choose_model", lambda _: pytest.fail("a model is made"))
    async with lkmongo.Memory(**settings, llm_base_url=NOBODY):
        await until(lambda: len(looked) > 2)
    assert not any(looked)
