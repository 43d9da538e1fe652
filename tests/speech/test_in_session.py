"""A session that hears and speaks on this machine: the real AgentSession, a caller whose words come in real time."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import Agent, AgentSession, inference
from livekit.agents.testing import fake_job_context
from livekit.agents.voice import io

from benchmarks.hearing import word_errors
from lkmongo.speech.recogniser import LocalSTT
from lkmongo.speech.voice import SPOKEN_RATE, LocalTTS
from tests.local_speech import frame_of, needs_local_speech, pause, said
from tests.voice import Speaker
from tests.waiting import until

pytestmark = needs_local_speech
_FRAME = SPOKEN_RATE // 50


class Line(io.AudioInput):
    """Silence, and what is said meanwhile."""

    def __init__(self) -> None:
        super().__init__(label="line")
        self._sound = pause(0)

    def say(self, sound: np.ndarray) -> None:
        self._sound = np.concatenate([self._sound, sound])

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.02)
        frame, self._sound = self._sound[:_FRAME], self._sound[_FRAME:]
        return frame_of(np.concatenate([frame, pause(0.02)])[:_FRAME])


async def test_the_caller_is_heard_and_interrupts_the_agent():
    LocalSTT.load()
    LocalTTS.load()
    question = "Where is my order?"
    sound = await said(question)
    line = Line()
    heard: list[Any] = []
    with fake_job_context(job_id="local-speech"):
        session: AgentSession[None] = AgentSession(
            stt=LocalSTT(),
            tts=LocalTTS(),
            vad=inference.VAD(),
            turn_handling={"turn_detection": "vad"},
            aec_warmup_duration=None,
        )
        session.on("user_input_transcribed", heard.append)
        session.input.audio = line
        session.output.audio = speaker = Speaker()
        async with session:
            await session.start(Agent(instructions="Listen."), record=False)
            speech = session.say("Welcome back. " + "I am going to tell you everything about our shop. " * 20)
            await until(lambda: speaker._seconds or speaker._ending)
            line.say(sound)
            await until(lambda: speech.interrupted)
            await until(lambda: any(event.is_final for event in heard))
    final = " ".join(event.transcript for event in heard if event.is_final)
    assert word_errors(question, final)[0] == 0, final
    assert not heard[0].is_final
