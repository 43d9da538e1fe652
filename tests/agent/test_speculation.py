"""Speculative search: what is used, what is not, and what it costs."""

from __future__ import annotations

import asyncio
import logging

import pytest
from livekit import rtc
from livekit.agents import (
    AgentStateChangedEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    UserInputTranscribedEvent,
    llm,
)
from livekit.agents.voice.events import CloseReason

from lkmongo.agent.beginning import begin_session
from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.speculation import MAX_SEARCHES, Speculation
from lkmongo.embed.choose import create_embedder
from lkmongo.embed.local import LocalEmbedder
from lkmongo.model import Passage, TenantScope, UserScope
from lkmongo.search.strategy import ExactStrategy, SearchHit, SearchResult
from lkmongo.settings import Settings
from tests.fake_llm import ScriptedLLM, calls
from tests.overlaps import outbox_of
from tests.talk import talk
from tests.voice import voice_call
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
QUESTION = "what is your return policy for lamps"


@pytest.fixture
def embedded(monkeypatch) -> list[str]:
    """The questions that were embedded, past the cache."""
    asked: list[str] = []
    embed = LocalEmbedder.embed

    async def counting(self, texts, *, kind, deadline=None):
        asked.extend(texts if kind == "query" else [])
        return await embed(self, texts, kind=kind, deadline=deadline)

    monkeypatch.setattr(LocalEmbedder, "embed", counting)
    return asked


@pytest.fixture
async def call(store):
    embedder = create_embedder("local")
    await store.db.knowledge.insert_one(
        ROBIN.tenant.filter
        | {"source": "returns.md", "chunk": 0, "title": "Returns", "content": "Lamps go back within thirty days."}
    )
    outbox = outbox_of(store, ROBIN, "room-1", "room")
    recorder, caller = Recorder(outbox), Caller(store, embedder, outbox)
    await caller.preload()
    search = ExactStrategy(store.db, embedder)
    yield CallerSession(
        "room-1", "room", caller, store, search, recorder, Speculation(search, lambda: caller.scope.tenant)
    )
    await caller.flush(2)
    await recorder.close("hang-up", dict)
    await embedder.close()


async def test_what_was_found_while_the_caller_spoke_answers_the_tool(store, call, embedded):
    model = ScriptedLLM(calls(("search_knowledge", {"query": "return policy lamps"})))
    async with voice_call(call, model) as voice:
        await voice.answered(1)
        await voice.hear(QUESTION)
        answer = (await voice.answered(2))[-1]
    assert "within thirty days" in answer
    assert embedded == [QUESTION]  # and not the query of the tool
    await call.recorder.close("hang-up", dict)
    document = await store.db.sessions.find_one({})
    assert document["report"]["speculation"] == {"started": 1, "hits": 1, "misses": 0}


async def test_a_query_in_other_words_is_searched_for_afresh(call, embedded):
    model = ScriptedLLM(calls(("search_knowledge", {"query": "send something back"})))
    async with voice_call(call, model) as voice:
        await voice.answered(1)
        await voice.hear(QUESTION)
        await voice.answered(2)
    assert embedded == [QUESTION, "send something back"]
    assert call.speculation.report() == {"started": 1, "hits": 0, "misses": 1}


async def test_courtesies_are_not_searched_for_and_old_results_are_not_used_again(call, embedded):
    model = ScriptedLLM(calls(("search_knowledge", {"query": "return policy lamps"})))
    async with voice_call(call, model) as voice:
        await voice.answered(1)
        await voice.hear(QUESTION)
        await voice.answered(2)
        await voice.hear("yes thank you")
        await voice.answered(3)
    assert embedded == [QUESTION, "return policy lamps"]
    assert call.speculation.report() == {"started": 1, "hits": 1, "misses": 1}


async def test_memories_are_searched_with_the_vector_that_is_there(call, embedded):
    await call.caller.remember("dog_name", "Waffles")
    await call.caller.flush(5)
    model = ScriptedLLM(calls(("search_memories", {"query": "name of the dog"})))
    async with voice_call(call, model) as voice:
        await voice.answered(1)
        await voice.hear("do you know the name of my dog?")
        answer = (await voice.answered(2))[-1]
    assert "Waffles" in answer
    assert embedded == ["do you know the name of my dog?"]


async def test_an_answer_that_the_model_began_early_stays_valid(call, caplog):
    await call.caller.remember("dog_name", "Waffles")
    caplog.set_level(logging.DEBUG, "livekit.agents")
    model = ScriptedLLM(calls())
    async with voice_call(call, model) as voice:
        await voice.answered(1)
        await voice.hear("tell me about lamps and my dog", preflight=True)
        await voice.answered(2)
    assert len(model.contexts) == 2  # the greeting and one answer
    assert any("using preemptive generation" in record.message for record in caplog.records)
    assert call.speculation.counts.started == 1


async def test_in_text_nothing_is_searched_before_it_is_asked_for(store, embedded):
    async with talk(store, ROBIN, calls()) as text:
        text.call.speculation = Speculation(text.call.search, lambda: ROBIN.tenant)
        text.call.speculation.attach(text.session)
        await text.tool("search_knowledge", query="return policy")
        assert text.call.speculation.report() == {"started": 0, "hits": 0, "misses": 0}
    assert embedded == ["return policy"]


@pytest.mark.parametrize(("setting", "there"), [("on", True), ("off", False)])
async def test_it_is_on_or_off_by_the_setting(store, setting, there):
    embedder = create_embedder("local")
    settings = Settings.load({"LKMONGO_SPECULATION": setting})
    async with begin_session(settings, store, embedder, ROBIN, guest=True, session_id="s", room_name="r") as call:
        assert (call.speculation is not None) == there
    await embedder.close()


# ------------------------------------------------------------------ the order of things, with a search that waits


class SlowSearch:
    """A search that goes on until it is let go."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.cancelled: list[str] = []
        self.let_go = asyncio.Event()
        self.error: Exception | None = None

    async def knowledge(self, tenant, query, limit=3):
        self.asked.append((tenant.tenant_id, query))
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(query)
            raise
        if self.error:
            raise self.error
        return SearchResult("exact", [SearchHit(Passage("a.md", 0, query, query), 1.0, 1, 1)])

    async def memories(self, scope, query, limit=5):
        raise AssertionError("nothing here asks for memories")


class Listening:
    """Speculation on the events of a session that nobody is in."""

    def __init__(self) -> None:
        self.search = SlowSearch()
        self.tenant = TenantScope("default")
        self.session = rtc.EventEmitter()
        self.speculation = Speculation(self.search, lambda: self.tenant)
        self.speculation.attach(self.session)

    def hear(self, text: str, *, final: bool = True) -> None:
        self.session.emit("user_input_transcribed", UserInputTranscribedEvent(transcript=text, is_final=final))

    def end_turn(self) -> None:
        message = llm.ChatMessage(role="user", content=["..."])
        self.session.emit("conversation_item_added", ConversationItemAddedEvent(item=message))

    async def settle(self) -> list[str]:
        for _ in range(10):
            await asyncio.sleep(0)
        return [query for _, query in self.search.asked]


async def test_interim_words_are_searched_for_when_they_stand_still_and_not_before():
    listening = Listening()
    for text in ("what is", "what is your", "what is your return", "what is your return policy"):
        listening.hear(text, final=False)
        assert await listening.settle() == []
    await until(lambda: listening.search.asked)
    assert await listening.settle() == ["what is your return policy"]
    listening.hear("What is your return policy?")
    listening.hear("please")
    assert await listening.settle() == ["what is your return policy"]


async def test_one_search_is_under_way_at_a_time_and_a_turn_has_few():
    listening = Listening()
    listening.hear("what is your return policy?")
    listening.hear("or how long does shipping take?")
    listening.hear("and which lamps are dimmable?")
    assert len(await listening.settle()) == 1
    listening.search.let_go.set()
    assert await listening.settle() == ["what is your return policy?", "and which lamps are dimmable?"]
    for number in range(10):
        listening.hear(f"what about article zebra{number} violin{number}?")
        await listening.settle()
    assert len(await listening.settle()) == MAX_SEARCHES


async def test_a_tool_waits_for_the_search_that_is_under_way():
    listening = Listening()
    listening.hear("what is your return policy?")
    await listening.settle()
    tool = asyncio.create_task(listening.speculation.knowledge("return policy"))
    await listening.settle()
    assert not tool.done()
    listening.search.let_go.set()
    assert (await tool).hits[0].item.title == "what is your return policy?"


async def test_the_next_turn_ends_what_is_under_way_and_a_tool_that_waits_searches_itself():
    listening = Listening()
    listening.hear("what is your return policy?")
    await listening.settle()
    tool = asyncio.create_task(listening.speculation.knowledge("return policy"))
    await listening.settle()
    listening.end_turn()
    await listening.settle()
    assert listening.search.cancelled == []  # the tools of this turn are still to come
    listening.hear("hello?", final=False)
    assert await tool is None
    assert listening.search.cancelled == ["what is your return policy?"]
    assert listening.speculation.report() == {"started": 1, "hits": 0, "misses": 1}


async def test_the_turn_is_over_as_well_when_the_agent_speaks_and_when_the_call_ends():
    listening = Listening()
    listening.hear("what is your return policy?")
    await listening.settle()
    listening.session.emit("agent_state_changed", AgentStateChangedEvent(old_state="thinking", new_state="speaking"))
    listening.hear("how long does shipping take?")
    await listening.settle()
    assert listening.search.cancelled == ["what is your return policy?"]
    listening.session.emit("close", CloseEvent(reason=CloseReason.USER_INITIATED))
    await listening.settle()
    assert listening.search.cancelled == ["what is your return policy?", "how long does shipping take?"]


async def test_a_search_that_failed_is_no_answer():
    listening = Listening()
    listening.search.error = RuntimeError("the network is away")
    listening.search.let_go.set()
    listening.hear("what is your return policy?")
    await listening.settle()
    assert await listening.speculation.knowledge("return policy") is None
    assert listening.speculation.counts.misses == 1


async def test_what_was_found_for_another_tenant_is_not_used():
    listening = Listening()
    listening.search.let_go.set()
    listening.hear("what is your return policy?")
    await listening.settle()
    listening.tenant = TenantScope("hotel")
    assert await listening.speculation.knowledge("return policy") is None


async def test_a_tool_that_comes_first_keeps_a_late_search_from_beginning():
    listening = Listening()
    listening.hear("what is your return policy?", final=False)
    assert await listening.speculation.knowledge("return policy") is None
    await asyncio.sleep(0.6)
    assert await listening.settle() == []
