"""A microphone that is spoken into from memory and a loudspeaker that is listened to, in real time, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import numpy as np
from livekit import rtc

from lkmongo.console.sound import RATE, RECOGNITION_RATE, Loudspeaker, Microphone, Sound
from tests.speech_sound import speech

FRAME = RECOGNITION_RATE // 50


class MemorySound:
    """Opens as a `Sound`; `say` speaks into it, and it keeps when something was to be heard."""

    def __init__(self) -> None:
        self._said = b""
        self.loud: list[float] = []
        """When, on the monotonic clock, ten milliseconds each were heard that were no silence."""

    @property
    def left(self) -> int:
        """Bytes that are still to be spoken."""
        return len(self._said)

    def say(self, seconds: float = 1.5) -> None:
        """Speak into the microphone."""
        self._said += speech(seconds, RECOGNITION_RATE).tobytes()

    async def _frames(self) -> AsyncIterator[rtc.AudioFrame]:
        began = time.monotonic()
        size = 2 * FRAME
        number = 0
        while True:
            number += 1
            await asyncio.sleep(max(0.0, began + number * 0.02 - time.monotonic()))
            data, self._said = self._said[:size], self._said[size:]
            yield rtc.AudioFrame(data.ljust(size, b"\0"), RECOGNITION_RATE, 1, FRAME)

    async def _listen(self, loudspeaker: Loudspeaker) -> None:
        began = time.monotonic()
        for number in count(1):
            await asyncio.sleep(max(0.0, began + number * 0.01 - time.monotonic()))
            if np.abs(np.frombuffer(loudspeaker.read(RATE // 100), np.int16)).max() > 1000:
                self.loud.append(time.monotonic())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sound]:
        """What `open_sound` is with real devices."""
        loudspeaker = Loudspeaker()
        listening = asyncio.create_task(self._listen(loudspeaker))
        try:
            yield Sound(Microphone(self._frames()), loudspeaker)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
