"""Status lines: when they are spoken, when they are cancelled, and that they are not recorded."""

from __future__ import annotations

import asyncio

import pytest
from livekit.agents import Agent, AgentSession
from livekit.agents.types import NOT_GIVEN

from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.recorder import Recorder
from lkmongo.agent.status_line import has_audio_output, languages
from lkmongo.embed.choose import create_embedder
from lkmongo.model import Passage, Profile, UserScope
from lkmongo.search.strategy import SearchHit, SearchResult
from lkmongo.tenants import TenantPolicy, Tenants
from tests.fake_llm import ScriptedLLM, calls
from tests.fake_realtime import ScriptedRealtime
from tests.overlaps import outbox_of
from tests.talk import talk
from tests.voice import Mouth, Speaker, voice_call
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
GERMAN = set(languages()["de"].wait)


class SlowSearch:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def knowledge(self, tenant, query, limit=3):
        await self.let_go.wait()
        return SearchResult("exact", [SearchHit(Passage("a.md", 0, "Returns", "thirty days"), 1.0, 1, 1)])

    async def memories(self, scope, query, limit=5):
        raise AssertionError("nothing here asks for memories")


@pytest.fixture
async def call(store):
    await store.users.set_field(ROBIN, "preferred_language", "German")
    embedder = create_embedder("local")
    outbox = outbox_of(store, ROBIN, "room-1", "room")
    recorder, caller = Recorder(outbox), Caller(store, embedder, outbox)
    await caller.preload()
    yield CallerSession("room-1", "room", caller, store, SlowSearch(), recorder)
    await caller.flush(2)
    await recorder.close("hang-up", dict)
    await embedder.close()


def script() -> ScriptedLLM:
    return ScriptedLLM(calls(("search_knowledge", {"query": "return policy"})))


async def test_a_slow_search_speaks_a_line_in_the_callers_language_and_keeps_it_nowhere(store, call):
    model = script()
    async with voice_call(call, model) as voice:
        await voice.answered(1)
        await voice.hear("what is your return policy")
        await until(lambda: len(voice.mouth.sounded) == 2)
        assert voice.mouth.sounded[-1] in GERMAN
        call.search.let_go.set()
        said = await voice.answered(2)
        assert "thirty days" in voice.mouth.sounded[-1]
        assert len(model.contexts) == 3  # greeting, tool, answer: the line cost no request
        kept = str(voice.session.history.to_dict()) + str(voice.session.current_agent.chat_ctx.to_dict())
        kept += "".join(str(context.to_dict()) for context in model.contexts)
    assert not any(line in kept for line in GERMAN)
    assert len(said) == 2
    await call.recorder.close("hang-up", dict)
    turns = await store.sessions.turns(ROBIN, "room-1")
    assert not any((turn.content or "") in GERMAN for turn in turns)


async def test_a_caller_of_whom_no_language_is_known_hears_the_line_in_that_of_the_tenant(call):
    call.caller.profile, call.caller.tenants = Profile(ROBIN), Tenants(TenantPolicy(language="de-AT"))
    async with voice_call(call, script()) as voice:
        await voice.answered(1)
        await voice.hear("what is your return policy")
        await until(lambda: len(voice.mouth.sounded) == 2)
        assert voice.mouth.sounded[-1] in GERMAN
        call.search.let_go.set()
        await voice.answered(2)


async def test_a_line_that_is_not_heard_yet_is_withdrawn_when_the_answer_comes(call):
    async with voice_call(call, script()) as voice:
        await voice.answered(1)
        voice.mouth.delay = 5.0
        await voice.hear("what is your return policy")
        await until(lambda: len(voice.mouth.begun) == 2)  # its sound is being made, and takes a while
        voice.mouth.delay = 0.0
        call.search.let_go.set()
        await voice.answered(2)
        assert voice.mouth.begun[1] in GERMAN
        assert voice.mouth.sounded[1:] == voice.mouth.begun[2:]
        assert "thirty days" in voice.mouth.sounded[1]


async def test_a_line_that_is_being_heard_is_said_to_its_end(call):
    finished: list[bool] = []
    async with voice_call(call, script()) as voice:
        await voice.answered(1)
        voice.session.output.audio.on("playback_finished", lambda event: finished.append(event.interrupted))
        await voice.hear("what is your return policy")
        await until(lambda: voice.session.agent_state == "speaking")
        call.search.let_go.set()
        await voice.answered(2)
        assert finished == [False, False]


async def test_a_search_that_answers_at_once_speaks_no_line(call):
    call.search.let_go.set()
    async with voice_call(call, script()) as voice:
        await voice.answered(1)
        await voice.hear("what is your return policy")
        await voice.answered(2)
        assert len(voice.mouth.begun) == 2


async def test_a_search_that_fails_withdraws_its_line_too(call, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.TOOL_SEARCH", 1.0)
    async with voice_call(call, script()) as voice:
        await voice.answered(1)
        voice.mouth.delay = 5.0
        await voice.hear("what is your return policy")
        await until(lambda: len(voice.mouth.begun) == 2)
        voice.mouth.delay = 0.0
        assert "took too long" in (await voice.answered(2))[-1]
        assert voice.mouth.begun[1] not in voice.mouth.sounded


async def test_in_text_there_is_no_line(store):
    spoken: list[str] = []
    async with talk(store, ROBIN, calls()) as text:
        text.call.search = SlowSearch()
        text.session.on("speech_created", lambda event: spoken.append(event.source))
        asyncio.get_running_loop().call_later(0.9, text.call.search.let_go.set)
        await text.tool("search_knowledge", query="return policy")
    assert "say" not in spoken


@pytest.mark.parametrize(
    ("of_the_session", "of_the_agent", "spoken"),
    [(Mouth, NOT_GIVEN, True), (None, Mouth, True), (None, NOT_GIVEN, False), (Mouth, None, False)],
)
async def test_a_realtime_model_that_speaks_itself_says_no_line(of_the_session, of_the_agent, spoken):
    def made(mouth):
        return mouth() if mouth is Mouth else mouth

    session = AgentSession(llm=ScriptedRealtime(calls()), tts=made(of_the_session) or NOT_GIVEN, vad=None)
    session.output.audio = Speaker()
    async with session:
        await session.start(Agent(instructions="You are a florist.", tts=made(of_the_agent)), record=False)
        assert has_audio_output(session) is spoken
