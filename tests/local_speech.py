"""The recogniser and the voice of this machine, for tests: what the voice says, and what is heard of a sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectOptions, stt, utils

from lkmongo.speech.local import why_not_on_this_platform
from lkmongo.speech.recogniser import LocalSTT
from lkmongo.speech.voice import SPOKEN_RATE, LocalTTS
from tests.waiting import until

needs_local_speech = pytest.mark.skipif(why_not_on_this_platform() is not None, reason=str(why_not_on_this_platform()))
"""Where its packages can be installed, they must be."""
AT_ONCE = APIConnectOptions(max_retry=0)
Kind = stt.SpeechEventType


async def said(text: str) -> np.ndarray:
    """What the voice says, as samples of `SPOKEN_RATE`."""
    frame = await LocalTTS().synthesize(text).collect()
    return np.frombuffer(frame.data, np.int16)


def pause(seconds: float, rate: int = SPOKEN_RATE) -> np.ndarray:
    """Silence."""
    return np.zeros(int(seconds * rate), np.int16)


def frame_of(samples: np.ndarray, rate: int = SPOKEN_RATE) -> rtc.AudioFrame:
    """Sound of one channel."""
    return rtc.AudioFrame(samples.tobytes(), rate, 1, len(samples))


@dataclass
class Listening:
    """A stream of the recogniser and what came of it so far."""

    stream: stt.RecognizeStream
    events: list[stt.SpeechEvent] = field(default_factory=list)

    def push(self, *sounds: np.ndarray, rate: int = SPOKEN_RATE) -> None:
        """Let it hear sounds, in frames of 20 ms, as fast as it can."""
        sound = np.concatenate(sounds)
        for start in range(0, len(sound), rate // 50):
            self.stream.push_frame(frame_of(sound[start : start + rate // 50], rate))

    def kinds(self) -> list[stt.SpeechEventType]:
        """The kinds of its events, without those of usage."""
        return [event.type for event in self.events if event.type is not Kind.RECOGNITION_USAGE]

    def texts(self, kind: stt.SpeechEventType = Kind.FINAL_TRANSCRIPT) -> list[str]:
        """The transcripts of a kind."""
        return [event.alternatives[0].text for event in self.events if event.type is kind]

    async def had(self, kind: stt.SpeechEventType, times: int = 1) -> None:
        """Wait until so many events of a kind have come."""
        await until(lambda: self.kinds().count(kind) >= times)

    async def end(self) -> None:
        """End the sound, and wait for the last event."""
        self.stream.end_input()
        await until(lambda: self.stream._task.done() and self.stream._event_ch.empty())
        await asyncio.sleep(0)


@asynccontextmanager
async def listening(
    ears: LocalSTT | None = None, conn_options: APIConnectOptions = AT_ONCE
) -> AsyncIterator[Listening]:
    """Listen until the end of the block."""
    listener = Listening((ears or LocalSTT()).stream(conn_options=conn_options))

    async def collect() -> None:
        async for event in listener.stream:
            listener.events.append(event)

    collecting = asyncio.create_task(collect())
    try:
        yield listener
    finally:
        await listener.stream.aclose()
        await utils.aio.cancel_and_wait(collecting)
