"""Callers in the rooms of a LiveKit server, all in one process, for `benchmarks.rooms`.

    python -m benchmarks.rooms_callers text|voice CALLS

Who dispatches whom comes from the environment. The callers join half a second apart; a line with `"joined"` follows
when all have been greeted or have waited long enough. A line on standard input has the seconds for which they talk; a
line with what came of it follows, and all hang up.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
import time
from typing import Any

import numpy as np
from livekit import rtc
from pydantic import SecretStr

from lkmongo.model import UserScope
from lkmongo.tokens import SigningKey, TokenRequest, mint

APART = 0.5
"""Seconds between two callers who join."""
PAUSES = {"text": 10.0, "voice": 4.0}
"""Seconds from an answer to what is said next: with a sentence and its answer aloud, a turn takes about ten as well."""
WISH = "please remember that my favorite color is shade {}"
_GREETED = 30.0
"""Seconds after the last has joined, for whoever was not greeted yet."""
_ANSWERED = 20.0
"""Seconds after which no answer comes any more."""
_SPEECH = 2.0
"""Seconds that it takes to say a wish."""
_RATE, _LOUD = 16_000, 300
_FRAME = _RATE // 50


class Caller:
    """One participant, its microphone open all the time if it talks."""

    def __init__(self, number: int, speech: list[bytes]) -> None:
        """Join nothing yet.

        Args:
            number: who it is, and when it says something.
            speech: what it says each time, in frames of 20 ms; none to type.
        """
        self.greeting: float | None = None
        """Seconds from joining to the whole greeting, or to its first sound."""
        self.waits: list[float] = []
        """Seconds that it waited for each answer."""
        self.missing = 0
        """How many answers did not come."""
        self._random = random.Random(number)
        self._who = UserScope(tenant_id="default", user_id=f"u-{number}")
        self._speech = speech
        self._saying: list[bytes] = []
        self._said = self._heard = 0.0
        self._texts: list[tuple[float, str]] = []
        self._answered = asyncio.Event()
        self._room = rtc.Room()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room.on("track_subscribed", lambda track, *_: self._task(self._hear(track)))
        self._room.register_text_stream_handler("lk.transcription", lambda *text: self._task(self._read(*text)))

    async def join(self, url: str, key: SigningKey, agent_name: str) -> None:
        """Enter a room of its own, and be greeted or not."""
        began = time.monotonic()
        token = mint(key, TokenRequest(who=self._who, agent_name=agent_name))
        await self._room.connect(url, token.text)
        if self._speech:
            self._task(self._speak())
        await self._answered.wait()
        self.greeting = (self._heard if self._speech else self._texts[0][0]) - began

    async def talk(self, until: float, pause: float) -> None:
        """Say one thing after another until a time of the monotonic clock, each after the answer to the one before."""
        await asyncio.sleep(self._random.uniform(0, 10))
        turn = 0
        while time.monotonic() < until:
            turn += 1
            took = await (self._say() if self._speech else self._type(turn))
            if took is None:
                self.missing += 1
            else:
                self.waits.append(took)
            await asyncio.sleep(pause * self._random.uniform(0.8, 1.2))

    async def leave(self) -> None:
        """Hang up."""
        await self._room.disconnect()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _type(self, turn: int) -> float | None:
        """Type a wish; returns the seconds until its answer was there in full."""
        began, answer = time.monotonic(), re.compile(rf"shade {turn}\b")
        await self._room.local_participant.send_text(WISH.format(turn), topic="lk.chat")
        while (left := began + _ANSWERED - time.monotonic()) > 0:
            if found := [at for at, text in self._texts if at > began and answer.search(text)]:
                return found[0] - began
            await self._until_something(left)
        return None

    async def _say(self) -> float | None:
        """Say a wish, and listen to the answer; returns the seconds from the last sound to the first one of it."""
        self._saying = list(self._speech)
        while self._saying:  # noqa: ASYNC110 - sound takes its time
            await asyncio.sleep(0.02)
        said = self._said
        while self._heard <= said and (left := said + _ANSWERED - time.monotonic()) > 0:
            await self._until_something(left)
        if self._heard <= said:
            return None
        began = self._heard
        while time.monotonic() < self._heard + 1:  # noqa: ASYNC110 - nothing happens when nothing is heard
            await asyncio.sleep(0.1)
        return began - said

    async def _until_something(self, seconds: float) -> None:
        self._answered.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._answered.wait()
        except TimeoutError:
            pass

    def _task(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, reader: rtc.TextStreamReader, who: str) -> None:
        text = await reader.read_all()
        if who != self._room.local_participant.identity and text.strip() and not self._speech:
            self._texts.append((time.monotonic(), text))
            self._answered.set()

    async def _hear(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=_RATE, num_channels=1)
        async for event in stream:
            if np.abs(np.frombuffer(event.frame.data, np.int16)).max(initial=0) > _LOUD:
                self._heard = time.monotonic()
                self._answered.set()

    async def _speak(self) -> None:
        """Send what is to be said, and silence between, in real time."""
        source = rtc.AudioSource(_RATE, 1, queue_size_ms=100)
        track = rtc.LocalAudioTrack.create_audio_track("voice", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
        await self._room.local_participant.publish_track(track, options)
        began, number, silence = time.monotonic(), 0, bytes(2 * _FRAME)
        try:
            while True:
                number += 1
                await asyncio.sleep(max(0.0, began + number * 0.02 - time.monotonic()))
                frame = self._saying.pop(0) if self._saying else silence
                if frame is not silence:
                    self._said = time.monotonic()
                await source.capture_frame(rtc.AudioFrame(frame, _RATE, 1, _FRAME))
        finally:
            await source.aclose()


def _speech() -> list[bytes]:
    """A wish as the detector of voices takes it for one, in frames."""
    from tests.speech_sound import speech

    sound = speech(_SPEECH, _RATE)
    return [sound[start : start + _FRAME].tobytes() for start in range(0, len(sound) - _FRAME + 1, _FRAME)]


async def hold(kind: str, calls: int) -> None:
    """Let them join, talk when told to, and leave."""
    url, agent_name = os.environ["LIVEKIT_URL"], os.environ["LKMONGO_AGENT_NAME"]
    key = SigningKey(os.environ["LIVEKIT_API_KEY"], SecretStr(os.environ["LIVEKIT_API_SECRET"]))
    speech = _speech() if kind == "voice" else []
    callers = [Caller(number, speech) for number in range(calls)]
    joining = []
    for caller in callers:
        joining.append(asyncio.create_task(caller.join(url, key, agent_name)))
        await asyncio.sleep(APART)
    _, unserved = await asyncio.wait(joining, timeout=_GREETED)
    for task in unserved:
        task.cancel()
    await asyncio.gather(*joining, return_exceptions=True)
    print(json.dumps({"joined": calls}), flush=True)
    seconds = float(await asyncio.to_thread(sys.stdin.readline))  # which may come long after they have joined
    until = time.monotonic() + seconds
    served = [caller for caller in callers if caller.greeting is not None]
    await asyncio.gather(*(caller.talk(until, PAUSES[kind]) for caller in served))
    found = {
        "greetings": [caller.greeting for caller in served],
        "waits": [wait for caller in served for wait in caller.waits],
        "missing": sum(caller.missing for caller in served),
        "unserved": len(callers) - len(served),
    }
    print(json.dumps(found), flush=True)
    await asyncio.gather(*(caller.leave() for caller in callers))


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], int(sys.argv[2])))
