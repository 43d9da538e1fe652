"""Hold a call with a voice in a test: a real AgentSession whose ears follow a script and whose mouth keeps a list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, LanguageCode, stt, tts
from livekit.agents.testing import fake_job_context
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN
from livekit.agents.voice import io

from lkmongo.agent.assistant import Assistant
from lkmongo.agent.caller_session import CallerSession
from tests.talk import OURS
from tests.waiting import until

RATE = 16_000


class Ears(stt.STT):
    """Recognises what `hear` is given, word by word."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self.events: asyncio.Queue[stt.SpeechEvent] = asyncio.Queue()

    def put(self, kind: stt.SpeechEventType, text: str = "") -> None:
        """Recognise something."""
        data = [stt.SpeechData(language=LanguageCode("en"), text=text)] if text else []
        self.events.put_nowait(stt.SpeechEvent(type=kind, alternatives=data))

    def stream(self, *, language=NOT_GIVEN, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        return _EarStream(stt=self, conn_options=conn_options, sample_rate=RATE)

    async def _recognize_impl(self, *_, **__):
        raise AssertionError("speech comes as a stream")


class _EarStream(stt.RecognizeStream):
    async def _run(self) -> None:
        async def listen() -> None:
            async for _ in self._input_ch:
                pass

        async def tell() -> None:
            while True:
                self._event_ch.send_nowait(await self._stt.events.get())

        telling = asyncio.create_task(tell())
        try:
            await listen()
        finally:
            telling.cancel()


class Mouth(tts.TTS):
    """Speaks 0.2 s of silence after `delay` seconds; `begun` are the texts begun, `sounded` those heard."""

    def __init__(self) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1)
        self.delay = 0.0
        self.begun: list[str] = []
        self.sounded: list[str] = []

    def synthesize(self, text, *, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        return _MouthStream(tts=self, input_text=text, conn_options=conn_options)


class _MouthStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        self._tts.begun.append(self.input_text)
        output_emitter.initialize(
            request_id=f"r{time.monotonic_ns()}", sample_rate=RATE, num_channels=1, mime_type="audio/pcm"
        )
        await asyncio.sleep(self._tts.delay)
        self._tts.sounded.append(self.input_text)
        output_emitter.push(bytes(RATE * 2 // 5))
        output_emitter.flush()


class _Silence(io.AudioInput):
    def __init__(self) -> None:
        super().__init__(label="silence")

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.05)
        return rtc.AudioFrame(bytes(RATE // 10), RATE, 1, RATE // 20)


class Speaker(io.AudioOutput):
    """Plays in real time, to nobody."""

    def __init__(self) -> None:
        super().__init__(label="nobody", capabilities=io.AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self._seconds = 0.0
        self._ending: asyncio.Task[None] | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._seconds:
            self.on_playback_started(created_at=time.time())
        self._seconds += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._seconds:
            self._ending = asyncio.create_task(self._end(self._seconds))
            self._seconds = 0.0

    def clear_buffer(self) -> None:
        if self._ending and not self._ending.done():
            self._ending.cancel()
            self.on_playback_finished(playback_position=0, interrupted=True)

    async def _end(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.on_playback_finished(playback_position=seconds, interrupted=False)


@dataclass
class VoiceCall:
    """A call with a voice that is going on."""

    session: AgentSession[Any]
    call: CallerSession
    ears: Ears
    mouth: Mouth
    job: Any
    waited: list[float] = field(default_factory=list)

    async def hear(self, text: str, *, a_word: float = 0.02, end: float = 0.05, preflight: bool = False) -> None:
        """Say `text`: an interim transcript `a_word` seconds after the other, the final one `end` seconds after.

        With `preflight` the recogniser says before that it is rather sure, at which the model begins to answer.
        """
        words = text.split()
        self.ears.put(stt.SpeechEventType.START_OF_SPEECH)
        for count in range(1, len(words) + 1):
            await asyncio.sleep(a_word)
            self.ears.put(stt.SpeechEventType.INTERIM_TRANSCRIPT, " ".join(words[:count]))
        if preflight:
            self.ears.put(stt.SpeechEventType.PREFLIGHT_TRANSCRIPT, text)
        await asyncio.sleep(end)
        self.ears.put(stt.SpeechEventType.FINAL_TRANSCRIPT, text)
        self.ears.put(stt.SpeechEventType.END_OF_SPEECH)

    async def answered(self, number: int) -> list[str]:
        """Wait until the agent has said that many things, and return them."""
        await until(lambda: len(self.said()) >= number and self.session.agent_state == "listening")
        return self.said()

    def said(self) -> list[str]:
        """What the agent said, as the history has it."""
        return [
            item.text_content or ""
            for item in self.session.history.items
            if item.type == "message" and item.role == "assistant"
        ]


@asynccontextmanager
async def voice_call(
    call: CallerSession, model: Any, *, agent: Agent | None = None, userdata: Any = OURS, **turns: Any
) -> AsyncIterator[VoiceCall]:
    """Hold `call` by voice; the recogniser says when a turn is over. The record is left to the caller of this."""
    ears, mouth = Ears(), Mouth()
    with fake_job_context(job_id=call.session_id) as job:
        session: AgentSession[Any] = AgentSession(
            llm=model,
            stt=ears,
            tts=mouth,
            vad=None,
            userdata=call if userdata is OURS else userdata,
            turn_handling={"turn_detection": "stt", "endpointing": {"min_delay": 0.1, "max_delay": 0.5}} | turns,
            session_close_transcript_timeout=0.1,  # nobody is in the middle of a word
        )
        session.input.audio = _Silence()
        session.output.audio = Speaker()
        async with session:
            call.attach(session)
            await session.start(agent or Assistant(), record=False)
            yield VoiceCall(session, call, ears, mouth, job)
