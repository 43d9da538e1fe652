"""A client in a room: it speaks, types and asks, and keeps what it hears, reads and is sent."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from livekit import rtc
from livekit.protocol.agent_pb import agent_session

from lkmongo.agent.activity import ACTIVITY, MEMORY
from tests.e2e.spoken import RATE, spoken

logger = logging.getLogger("e2e")

PATIENCE = 60
"""Seconds that anything may take before it counts as not happening: workers import the SDK first."""
LOUD = 300
"""Root mean square, of 32,767, from which on a frame of sound is no silence."""
_FRAME = RATE // 50
_AHEAD = 20_000
"""Milliseconds of speech that may wait: as on a device of sound, a busy process does not tear it."""
_SESSION = "lk.agent.session"
"""The topic on which the SDK's own tools look into a session that lets them."""


class Line(NamedTuple):
    """What was said, as a transcription tells it."""

    who: str
    text: str


class Caller:
    """A participant; `inside` lets one in."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.joined = 0.0
        self.spoken = 0.0
        """When the last sound of speech is sent; it may be to come."""
        self.lines: list[Line] = []
        self.loud: list[float] = []
        """When frames arrived that were no silence."""
        self.silent = 0
        """How many frames arrived that were."""
        self.looked: list[agent_session.AgentSessionMessage] = []
        """What arrived of other people's sessions."""
        self.told: list[tuple[str, dict[str, Any]]] = []
        """What the agent's side tells this client of what it does, and under which topic."""
        self.left: set[str] = set()
        self.dropped = asyncio.Event()
        self._speech = b""
        self._speaks = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.room.on("track_subscribed", lambda track, *_: self._task(self._hear(track)))
        self.room.on("participant_disconnected", lambda one: (self.left.add(one.identity), self._changed.set()))
        self.room.on("disconnected", lambda *_: self.dropped.set())
        self.room.on("participant_attributes_changed", lambda *_: self._changed.set())
        self.room.on("participant_connected", lambda *_: self._changed.set())
        self.room.register_text_stream_handler("lk.transcription", lambda *text: self._task(self._read(*text)))
        for topic in (ACTIVITY, MEMORY):
            self.room.register_text_stream_handler(topic, lambda reader, _: self._task(self._take(reader)))
        self.room.register_byte_stream_handler(_SESSION, lambda reader, _: self._task(self._look(reader)))

    # ------------------------------------------------------------------ what it does

    def say(self, text: str) -> None:
        """Speak; what is understood of it is up to the recogniser."""
        logger.info("%s says: %s", self.identity, text)
        self.speak(spoken(text))

    def speak(self, sound: bytes) -> None:
        """Send sound: 16-bit samples at `RATE`."""
        self._speech += sound
        self._speaks.set()

    async def type(self, text: str) -> None:
        """Send a chat message."""
        logger.info("%s types: %.80s", self.identity, text)
        await self.room.local_participant.send_text(text, topic="lk.chat")

    async def press(self, keys: str) -> None:
        """Press keys of a telephone, one after the other."""
        logger.info("%s presses %d keys", self.identity, len(keys))
        for key in keys:
            await self.room.local_participant.publish_dtmf(code="0123456789*#".index(key), digit=key)

    async def ask(self, **request: Any) -> None:
        """Ask the agent's session, as the SDK's own tools do; any participant can try."""
        message = agent_session.AgentSessionMessage(request=agent_session.SessionRequest(request_id="1", **request))
        await self.room.local_participant.send_bytes(message.SerializeToString(), name="AS_1", topic=_SESSION)

    async def hang_up(self) -> None:
        """Leave."""
        logger.info("%s hangs up", self.identity)
        await self.room.disconnect()

    # ------------------------------------------------------------------ what it knows

    @property
    def identity(self) -> str:
        return str(self.room.local_participant.identity)

    @property
    def agent(self) -> rtc.RemoteParticipant | None:
        """The agent, once it is there."""
        kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        return next((one for one in self.room.remote_participants.values() if one.kind == kind), None)

    @property
    def agent_state(self) -> str:
        """What the agent does: listening, thinking, speaking; empty before it came."""
        return self.agent.attributes.get("lk.agent.state", "") if self.agent else ""

    def said(self, who: str | None = None) -> list[str]:
        """What somebody said; by default everybody but this client."""
        return [line.text for line in self.lines if (line.who == who if who else line.who != self.identity)]

    async def until(self, fact: Callable[[], Any]) -> None:
        """Wait until it is true."""
        async with asyncio.timeout(PATIENCE):
            while not fact():
                self._changed.clear()
                await self._changed.wait()

    async def reads(self, *words: str) -> str:
        """Wait until somebody else has said something with one of the `words`, and the agent listens; return it."""

        def found() -> str:
            return next((text for text in self.said() if any(word in text for word in words)), "")

        await self.until(lambda: found() and self.agent_state == "listening")
        return found()

    # ------------------------------------------------------------------ inside

    def _task(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, reader: rtc.TextStreamReader, who: str) -> None:
        text = await reader.read_all()
        if reader.info.attributes.get("lk.transcription_final", "true") == "true" and text.strip():
            self.lines.append(Line(who, text.strip()))
            logger.info("%s reads: %s: %s", self.identity, who.partition("-")[0], text.strip())
        self._changed.set()

    async def _take(self, reader: rtc.TextStreamReader) -> None:
        told = json.loads(await reader.read_all())
        self.told.append((reader.info.topic, told))
        logger.info("%s is told: %s", self.identity, told)
        self._changed.set()

    async def _look(self, reader: rtc.ByteStreamReader) -> None:
        self.looked.append(agent_session.AgentSessionMessage.FromString(b"".join([part async for part in reader])))
        self._changed.set()

    async def _hear(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                samples = array("h", bytes(event.frame.data))
                if math.sqrt(sum(value * value for value in samples) / len(samples)) < LOUD:
                    self.silent += 1
                    continue
                self.loud.append(time.monotonic())
                self._changed.set()
        finally:
            await stream.aclose()

    async def _speak(self) -> None:
        """Send what is to be said, and silence between, in real time: a thread of the SDK's own keeps it."""
        source = rtc.AudioSource(RATE, 1, queue_size_ms=_AHEAD)
        track = rtc.LocalAudioTrack.create_audio_track("voice", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
        await self.room.local_participant.publish_track(track, options)
        try:
            while True:
                await self._speaks.wait()
                self._speaks.clear()
                sound, self._speech = self._speech, b""
                began = time.monotonic() + source.queued_duration
                for start in range(0, len(sound), 2 * _FRAME):
                    frame = sound[start : start + 2 * _FRAME].ljust(2 * _FRAME, b"\0")
                    if max(map(abs, array("h", frame))) > LOUD:
                        self.spoken = began + (start / 2 + _FRAME) / RATE
                    await source.capture_frame(rtc.AudioFrame(frame, RATE, 1, _FRAME))
        finally:
            await source.aclose()

    async def close(self) -> None:
        await self.room.disconnect()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def enter(self, url: str, token: str, *, microphone: bool) -> None:
        began = time.monotonic()
        await self.room.connect(url, token)
        self.joined = time.monotonic()
        logger.info("%s joins %s (%.0f ms)", self.identity, self.room.name, 1e3 * (self.joined - began))
        if microphone:
            self._task(self._speak())


@asynccontextmanager
async def inside(url: str, token: str, *, microphone: bool = False) -> AsyncIterator[Caller]:
    """Let a client into a room, with a microphone that is open all the time, or without."""
    caller = Caller()
    try:
        await caller.enter(url, token, microphone=microphone)
        yield caller
    finally:
        await caller.close()
