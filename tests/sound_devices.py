"""A microphone and a loudspeaker for an AgentSession in a test, in real time."""

from __future__ import annotations

import asyncio

from livekit import rtc
from livekit.agents.voice import io

from tests.speech_sound import speech
from tests.voice import RATE, Speaker


class Microphone(io.AudioInput):
    """Takes in real time what `say` is given, and silence between."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._sound = b""

    @property
    def is_silent(self) -> bool:
        """Whether all was said."""
        return not self._sound

    def say(self, seconds: float, pause: float = 0.0) -> None:
        """Speak for so many seconds, and then be silent."""
        self._sound += speech(seconds, RATE).tobytes() + bytes(2 * int(pause * RATE))

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.02)
        size = RATE // 50 * 2
        data, self._sound = self._sound[:size], self._sound[size:]
        return rtc.AudioFrame(data.ljust(size, b"\0"), RATE, 1, RATE // 50)


class Loudspeaker(Speaker):
    """Keeps what it plays."""

    def __init__(self) -> None:
        super().__init__()
        self.played = b""

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        self.played += bytes(frame.data)
        await super().capture_frame(frame)


class Subtitles(io.TextOutput):
    """Keeps what the agent says, as text."""

    def __init__(self) -> None:
        super().__init__(label="subtitles", next_in_chain=None)
        self.text = ""

    async def capture_text(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        self.text += "\n"
