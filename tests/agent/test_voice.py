"""The whole default stack aloud: audio in, recognition, language model, tools, and a voice out."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web
from livekit import rtc
from livekit.agents import utils
from livekit.agents.testing import fake_job_context
from livekit.agents.voice import io

from lkmongo.agent.assistant import Assistant
from lkmongo.agent.beginning import begin_session
from lkmongo.agent.models import choose_model, create_agent_session
from lkmongo.embed.choose import create_embedder
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.speech.choose import choose_speech
from tests.inference_gateway import Gateway
from tests.livekit_api import KEY, SECRET
from tests.speech_sound import RATE, speech
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
FRAME = RATE // 20


class Microphone(io.AudioInput):
    """Sound as a room gives it, 50 ms at a time; silence when nobody speaks."""

    def __init__(self) -> None:
        super().__init__(label="test")
        self._sound = np.zeros(0, np.int16)

    def say(self, sound) -> None:
        self._sound = np.concatenate([self._sound, sound])

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.05)
        piece, self._sound = self._sound[:FRAME], self._sound[FRAME:]
        piece = np.pad(piece, (0, FRAME - len(piece)))
        return rtc.AudioFrame(piece.tobytes(), RATE, 1, FRAME)


class Speaker(io.AudioOutput):
    """Keeps what it is given, and has played it at once."""

    def __init__(self) -> None:
        super().__init__(label="test", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self.sound: list[np.ndarray] = []
        self._seconds = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._seconds:
            self.on_playback_started(created_at=asyncio.get_running_loop().time())
        self.sound.append(np.frombuffer(frame.data, np.int16))
        self._seconds += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._seconds:
            seconds, self._seconds = self._seconds, 0.0
            self.on_playback_finished(playback_position=seconds, interrupted=False)

    def clear_buffer(self) -> None:
        self.flush()


@pytest.fixture
async def gateway():
    gateway = Gateway()
    runner = web.AppRunner(gateway.create_app(), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield gateway
    await runner.cleanup()


@asynccontextmanager
async def spoken_call(settings, store, microphone, speaker):
    """A call with Robin that is heard and spoken; yields its session."""
    embedder = create_embedder("local")
    async with (
        utils.http_context.open(),
        begin_session(settings, store, embedder, ROBIN, guest=False, session_id="RM_1", room_name="room") as call,
    ):
        with fake_job_context(job_id="job"):
            mind, talk = choose_model(settings), choose_speech(settings)
            session = create_agent_session(call, mind, talk)
            session.input.audio, session.output.audio = microphone, speaker
            call.attach(session)
            await session.start(Assistant(), record=False)
            try:
                yield session
            finally:
                await session.aclose()
                await mind.close()
                await talk.close()
                await call.caller.flush(2)
                await call.recorder.close("hang-up", dict)
    await embedder.close()


async def test_a_spoken_question_is_heard_answered_by_a_tool_and_spoken(store, gateway):
    await store.memories.remember(ROBIN, "favorite_color", "teal")
    settings = Settings.load(
        {
            "LIVEKIT_INFERENCE_URL": gateway.url,
            "LIVEKIT_INFERENCE_API_KEY": KEY,
            "LIVEKIT_INFERENCE_API_SECRET": SECRET,
            "LKMONGO_STT": "deepgram/nova-3:multi,assemblyai/universal-streaming",
            "LKMONGO_ENDPOINTING": "0.2,1",
        }
    )
    gateway.script = ["please recall my favorite color"]
    microphone, speaker = Microphone(), Speaker()
    async with spoken_call(settings, store, microphone, speaker) as session:
        delays = session.options.turn_handling["endpointing"]
        assert (delays["min_delay"], delays["max_delay"]) == (0.2, 1)
        facts = session.userdata.recorder.facts["speech"]()
        await until(lambda: speaker.sound)
        greeted = len(speaker.sound)
        microphone.say(speech(1.2))
        await until(lambda: any("teal" in text for text in gateway.spoken) and len(speaker.sound) > greeted)
        await asyncio.sleep(0.3)
    assert facts["endpointing"] == [0.2, 1]
    assert "deepgram/nova-3:multi" in facts["models"]
    assert gateway.spoken[-1] == "The tool said: Your favorite color: teal."
    assert max(np.abs(piece.astype(np.int32)).max() for piece in speaker.sound[greeted:]) > 4_000
    turns = await store.sessions.turns(ROBIN, "RM_1")
    assert [turn.role or turn.name for turn in turns] == ["assistant", "user", "recall_detail", "assistant"]
    assert turns[1].content == "please recall my favorite color"
    asked = dict(gateway.sessions)
    assert (asked["stt"]["model"], asked["stt"]["settings"]["language"]) == ("deepgram/nova-3", "multi")
    assert [each["model"] for each in asked["stt"]["fallback"]["models"]] == ["assemblyai/universal-streaming"]
    assert asked["tts"]["model"] == "cartesia/sonic-3"
    assert asked["tts"]["voice"] == "9626c31c-bec5-4cca-baa8-f8ba9e84c8bc"
    assert {body["model"] for _, body in gateway.requests} == {"openai/gpt-5.3-chat-latest"}
    # What was begun on the final transcript was kept: one request for the greeting, one for the question, one for
    # what to do with the tool's answer.
    assert len(gateway.requests) == 3


def aloud(gateway):
    return Settings.load(
        {
            "LIVEKIT_INFERENCE_URL": gateway.url,
            "LIVEKIT_INFERENCE_API_KEY": KEY,
            "LIVEKIT_INFERENCE_API_SECRET": SECRET,
        }
    )


@pytest.mark.parametrize(
    ("language", "heard", "spoken"),
    [
        (None, "where is order number A-1001", "You said: where is order number A., one zero zero one"),
        (
            "German",
            "where is order number a dash one thousand one",
            "You said: where is order number a dash one thousand one",
        ),
    ],
)
async def test_words_become_data_for_the_model_and_data_words_for_the_voice(store, gateway, language, heard, spoken):
    if language:
        await store.users.set_field(ROBIN, "preferred_language", language)
    gateway.script = ["where is order number a dash one thousand one"]
    microphone, speaker = Microphone(), Speaker()
    async with spoken_call(aloud(gateway), store, microphone, speaker) as session:
        await until(lambda: speaker.sound)
        microphone.say(speech(1.2))
        await until(lambda: any("You said" in text for text in gateway.spoken))
        assert gateway.spoken[-1] == spoken
        await session.say("**Order 4711** is on its way.")
        digits = "4 7 1 1" if language else "four seven one one"
        assert gateway.spoken[-1] == f"Order {digits} is on its way."
        await session.generate_reply(user_input="order number four seven one one")
    assert {turn.content for turn in await store.sessions.turns(ROBIN, "RM_1")} > {
        heard,
        f"You said: {heard}",
        "**Order 4711** is on its way.",
        "order number four seven one one",  # as it was typed
        "You said: order number four seven one one",
    }
