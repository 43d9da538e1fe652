"""Speech that fails in a call: what the log says, and what the caller is told."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestServer, unused_port
from livekit.agents import AgentSession, APIConnectOptions, inference
from livekit.agents.voice.agent_session import SessionConnectOptions

from lkmongo.agent.assistant import Assistant
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.speech.servers import create_stt, create_tts, servers_of
from lkmongo.worker.failing import DEAF, MUTE, FailingSpeech
from tests.fake_llm import ScriptedLLM, calls
from tests.openai_server import HEARD, REQUESTS, STATUS, create_app
from tests.sound_devices import Loudspeaker, Microphone, Subtitles
from tests.talk import calling
from tests.waiting import until

KEY = "sk-a-key-that-nobody-may-see"
WHO = UserScope(tenant_id="default", user_id="u-100")


@asynccontextmanager
async def talking(store, stt_url: str, tts_url: str):
    """A call whose recogniser and voice are at these addresses; requests are not repeated."""
    settings = Settings.load(
        {
            "LKMONGO_STT_BASE_URL": stt_url,
            "LKMONGO_STT": "small",
            "LKMONGO_STT_API_KEY": KEY,
            "LKMONGO_TTS_BASE_URL": tts_url,
            "LKMONGO_TTS": "kokoro",
            "LKMONGO_TTS_API_KEY": KEY,
        }
    )
    stt, tts = servers_of(settings)
    ears, voice = create_stt(stt), create_tts(tts)
    once = APIConnectOptions(max_retry=0, timeout=5)
    async with (
        calling(store, WHO, session_id="console-failing") as call,
        AgentSession(
            llm=ScriptedLLM(calls(greeting="Hello.")),
            stt=ears,
            tts=voice,
            vad=inference.VAD(),
            userdata=call,
            turn_handling={"turn_detection": "vad"},
            conn_options=SessionConnectOptions(stt_conn_options=once, tts_conn_options=once),
        ) as session,
    ):
        session.input.audio, session.output.audio = Microphone(), Loudspeaker()
        session.output.transcription = Subtitles()
        call.attach(session)
        FailingSpeech(session, settings)
        await session.start(Assistant(), record=False)
        yield session
    await ears.aclose()
    await voice.aclose()


def spoken(app) -> str:
    return " ".join(body["input"] for _, body in app[REQUESTS] if "input" in body)


@pytest.mark.parametrize(
    ("status", "why", "hint"),
    [
        (401, "refused the key (HTTP status 401)", "check LKMONGO_STT_API_KEY"),
        (404, "has no model small", "check LKMONGO_STT"),
        (None, "cannot be reached", "start the server, or correct LKMONGO_STT_BASE_URL"),
    ],
)
async def test_who_is_not_heard_is_told_so_once_and_heard_when_it_works_again(store, caplog, status, why, hint):
    ears, voice = create_app(status or 200), create_app()
    ears[HEARD][:] = ["Hello there."]
    async with TestServer(ears) as heard, TestServer(voice) as said:
        away = f"http://127.0.0.1:{unused_port()}/v1"
        url = str(heard.make_url("/v1")) if status else away
        async with talking(store, url, str(said.make_url("/v1"))) as session:
            await until(lambda: spoken(voice) and session.agent_state == "listening")
            with caplog.at_level(logging.ERROR, "lkmongo"):
                session.input.audio.say(1.5)
                await until(lambda: DEAF in spoken(voice) and session.agent_state == "listening")
            (told,) = [record.message for record in caplog.records if record.name == "lkmongo.worker.failing"]
            assert why in told
            assert hint in told
            assert KEY not in caplog.text
            assert DEAF in session.output.transcription.text
            if status:
                ears[STATUS][:] = [200]
                # The SDK listens anew after a second.
                await until(lambda: _says_again(session))
                assert spoken(voice).count(DEAF) == 1


def _says_again(session) -> bool:
    if session.input.audio.is_silent and session.agent_state == "listening":
        session.input.audio.say(1.5, pause=3.0)
    return any(item.type == "message" and item.role == "user" for item in session.history.items)


@pytest.mark.parametrize(("status", "why"), [(404, "has no model kokoro"), (422, "does not do it (HTTP status 422)")])
async def test_an_agent_without_a_voice_goes_on_in_writing(store, caplog, status, why):
    voice = create_app(status)
    async with TestServer(create_app()) as heard, TestServer(voice) as said:
        urls = str(heard.make_url("/v1")), str(said.make_url("/v1"))
        async with talking(store, *urls) as session:
            await until(lambda: MUTE in session.output.transcription.text)
            asked = len(spoken(voice))
            await session.generate_reply(user_input="Is anybody there?")
            assert "Nothing to do." in session.output.transcription.text
            assert len(spoken(voice)) == asked
    (told,) = [record.message for record in caplog.records if record.name == "lkmongo.worker.failing"]
    assert "the voice: " in told
    assert why in told
    assert KEY not in caplog.text
    assert "Hello." not in told, "the server quotes what it was to say"
