"""A call aloud in a process of its own, sentence by sentence, for `benchmarks.voice`.

    python -m benchmarks.voice_call memory|bare demo|scripted

A real AgentSession with the engines of this machine, whose microphone plays WAVs in real time and whose loudspeaker is
listened to; `memory` has lkmongo's memory, `bare` has the same parts without. A line of JSON to do on standard input, a
line with what came of it back. All times are of the clock that the sound goes by.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import sys
import time
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from livekit import rtc

from benchmarks.voice_cases import RATE

_FRAME = RATE // 50
_HEARD = 480  # samples of the loudspeaker that are listened to at once: ten milliseconds
_AUDIBLE = 300  # what a sample of the voice has, and none of silence
_ANSWERED = 8.0  # seconds within which an answer begins, or there is none
_BETWEEN = 0.4  # seconds of silence before the next sentence
_AFTER = 0.5  # seconds after the first sound that are counted to a turn's work
PERSON = "u-100"


@dataclass(slots=True)
class Wire:
    """What is played into the microphone, and when what was to be heard of the loudspeaker."""

    ended: float = 0.0
    """When the last speech of the sentence was played."""
    audible: list[float] = field(default_factory=list)
    _sound: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    _end: int = 0
    _played: int = 0

    def play(self, sound: np.ndarray, end: float) -> None:
        """Play a sentence whose speech ends after `end` seconds."""
        self._sound, self._end, self._played, self.ended = sound, round(end * RATE), 0, 0.0

    async def frames(self) -> AsyncIterator[rtc.AudioFrame]:
        """What the microphone hears, for ever."""
        began = time.time()
        for number in count(1):
            await asyncio.sleep(max(0.0, began + number / 50 - time.time()))
            piece = self._sound[self._played : self._played + _FRAME]
            self._played += _FRAME
            if not self.ended and self._end and self._played >= self._end:
                self.ended = time.time() - (self._played - self._end) / RATE
            yield rtc.AudioFrame(np.pad(piece, (0, _FRAME - len(piece))).tobytes(), RATE, 1, _FRAME)

    async def listen(self, read: Callable[[int], bytes]) -> None:
        """Listen to the loudspeaker, for ever."""
        began = time.time()
        for number in count(1):
            await asyncio.sleep(max(0.0, began + number / 100 - time.time()))
            piece = np.frombuffer(read(_HEARD), np.int16)
            if np.abs(piece.astype(np.int32)).max(initial=0) > _AUDIBLE:
                self.audible.append(time.time())


class Call:
    """A session that goes on."""

    def __init__(self, session: Any, wire: Wire, detector: Any) -> None:
        """Note what the session tells."""
        self._session = session
        self._wire = wire
        self._detector = detector
        self._heard: list[tuple[float, str]] = []
        self._texts: list[str] = []
        self._over: list[float] = []
        self._speaking: list[float] = []
        self._metrics: dict[str, float] = {}
        session.on("user_input_transcribed", self._on_heard)
        session.on("conversation_item_added", self._on_item)
        session.on("agent_state_changed", self._on_state)

    async def until_greeted(self) -> None:
        """Wait until the agent has said its greeting, if it has one."""
        end = time.time() + 20
        while time.time() < end and not (self._speaking and self._session.agent_state == "listening"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def setting(self, shortest: float, longest: float, *, detector: bool) -> None:
        """Go on with another endpointing."""
        self._session.update_options(
            endpointing_opts={"min_delay": shortest, "max_delay": longest},
            turn_detection=self._detector if detector else "vad",
        )

    async def say(self, path: Path, end: float) -> dict[str, Any]:
        """Play a sentence, wait for the first sound of the answer, and interrupt it."""
        with wave.open(str(path)) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        for noted in (self._heard, self._texts, self._over, self._speaking, self._wire.audible):
            noted.clear()
        self._metrics = {}
        began, used = time.time(), time.process_time()
        self._wire.play(sound, end)
        while not self._wire.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ended = self._wire.ended
        cut = [at for at in (*self._over, *self._speaking) if at < ended]
        late = time.time() + _ANSWERED
        while time.time() < late and not (cut or self._after(self._wire.audible, ended)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        audible = self._after(self._wire.audible, ended)
        await asyncio.sleep(_AFTER)
        used = time.process_time() - used
        await self._quiet()
        last = self._texts[-1] if self._texts else None
        known = next((at for at, text in self._heard if text == last), None)  # before it is final

        def since(at: float | None) -> float | None:
            return None if at is None else round(at - ended, 4)

        return {
            "cut": bool(cut),
            "known": since(known),
            "over": since(self._after(self._over, ended)),
            "audible": since(audible),
            "cpu": round(used, 4),
            "stages": {
                "text": " ".join(self._texts),
                "first words": round(self._heard[0][0] - began, 3) if self._heard else None,
                "speaking": since(self._after(self._speaking, ended)),
            }
            | {name: round(value, 4) for name, value in self._metrics.items()},
        }

    async def think(self, text: str) -> float | None:
        """Milliseconds from a typed turn to the first sentence at the voice; nothing is recognised meanwhile."""
        self._metrics = {}
        self._speaking.clear()
        self._session.generate_reply(user_input=text)
        late = time.time() + _ANSWERED
        while time.time() < late and not self._speaking:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await self._quiet()
        took = self._metrics.get("llm_node_ttfs")
        return None if took is None else 1000 * took

    async def _quiet(self) -> None:
        end = time.time() + 15
        while time.time() < end:
            if self._session.agent_state == "speaking":
                await self._session.interrupt(force=True)
            if self._session.agent_state == "listening" and self._session.user_state != "speaking":
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(_BETWEEN)

    def _on_heard(self, event: Any) -> None:
        if not event.transcript:
            return
        self._heard.append((time.time(), event.transcript))
        if event.is_final:
            self._texts.append(event.transcript)

    def _on_item(self, event: Any) -> None:
        item = event.item
        if item.type != "message":
            return
        if item.role == "user":
            self._over.append(time.time())
        wanted = ("transcription_delay", "end_of_turn_delay", "on_user_turn_completed_delay", "llm_node_ttft",
                  "llm_node_ttfs", "tts_node_ttfb", "e2e_latency")  # fmt: skip
        self._metrics |= {name: item.metrics[name] for name in wanted if item.metrics.get(name) is not None}

    def _on_state(self, event: Any) -> None:
        if event.new_state == "speaking":
            self._speaking.append(time.time())

    @staticmethod
    def _after(times: list[float], at: float) -> float | None:
        return next((each for each in times if each >= at), None)


def _model(name: str) -> Any:
    if name == "demo":
        from lkmongo.demo.llm import demo_model

        return demo_model()
    from lkmongo.agent.models import ModelChoice
    from tests.fake_llm import ScriptedLLM

    return ModelChoice(ScriptedLLM(lambda _: ["All right, that is done."]), "a script")


@asynccontextmanager
async def call(*, memory: bool, mind: str) -> AsyncIterator[Call]:
    """Begin a call by the settings of the environment, with memory or without."""
    from livekit.agents import Agent, AgentSession, utils
    from livekit.agents.testing import fake_job_context

    from lkmongo.console.sound import Loudspeaker, Microphone
    from lkmongo.settings import Settings
    from lkmongo.speech.choose import choose_speech
    from lkmongo.speech.recogniser import LocalSTT
    from lkmongo.speech.voice import LocalTTS

    settings = Settings.load()
    async with utils.http_context.open(), AsyncExitStack() as stack:
        stack.enter_context(fake_job_context(job_id="call"))
        speech = choose_speech(settings)
        if speech is None:
            raise SystemExit("error: there is no local speech on this machine: install the extra voice")
        stack.push_async_callback(speech.close)
        for part in (LocalSTT, LocalTTS):
            await asyncio.to_thread(part.load)
        model = _model(mind)
        stack.push_async_callback(model.close)
        wire, loudspeaker = Wire(), Loudspeaker()
        agent: Agent
        session: AgentSession[Any]
        if memory:
            from lkmongo.agent.assistant import create_assistant
            from lkmongo.agent.models import create_agent_session
            from lkmongo.memory.memory import Memory

            opened = await stack.enter_async_context(Memory(settings))
            caller = await opened.session(user_id=PERSON)
            stack.push_async_callback(caller.end)
            session, agent = create_agent_session(caller, model, speech), create_assistant(settings)
            caller.attach(session)
        else:
            shortest, longest = speech.endpointing
            session = AgentSession(
                llm=model.llm,
                stt=speech.stt,
                tts=speech.tts,
                vad=speech.vad,
                turn_handling={
                    "turn_detection": speech.turn_detection,
                    "endpointing": {"min_delay": shortest, "max_delay": longest},
                    "preemptive_generation": {"enabled": True, "preemptive_tts": True},
                },
            )
            agent = Agent(instructions="Answer in a sentence.")
        session.input.audio, session.output.audio = Microphone(wire.frames()), loudspeaker
        listening = asyncio.create_task(wire.listen(loudspeaker.read))
        going_on = Call(session, wire, speech.turn_detection)
        try:
            await session.start(agent, record=False)
            if memory:
                await going_on.until_greeted()
            await asyncio.sleep(1)
            yield going_on
        finally:
            await session.aclose()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def serve(*, memory: bool, mind: str) -> None:
    """Do what standard input says until it ends."""
    async with call(memory=memory, mind=mind) as going_on:
        _tell({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            match json.loads(line):
                case ["setting", shortest, longest, detector]:
                    going_on.setting(shortest, longest, detector=detector)
                    _tell({})
                case ["say", path, end]:
                    _tell(await going_on.say(Path(path), end))
                case ["think", text]:
                    _tell({"ms": await going_on.think(text)})
                case ["memory"]:
                    _tell({"pss": _memory()})


def _memory() -> float:
    """Megabytes of this process that are in use, shared pages by their share; what is free within it is given back."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not on this system
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return float(psutil.Process().memory_full_info().pss / 2**20)


def _tell(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(memory=sys.argv[1] == "memory", mind=sys.argv[2]))
