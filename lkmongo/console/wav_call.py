"""A spoken call without any device: the caller says WAV files, and the loudspeaker is recorded to another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from livekit import rtc

from lkmongo.console.lines import Line, Listener, Switch, no_lines
from lkmongo.console.sound import RATE, RECOGNITION_RATE, Loudspeaker, Microphone, Sound
from lkmongo.console.wav import Recording, Wav
from lkmongo.errors import LkmongoError

_TICK = 0.02
"""Seconds between two frames of the microphone, and between two requests of the loudspeaker."""
_AHEAD = 1.0  # seconds of a file that are read before they are spoken
_SETTLED = 1.0
"""Seconds of quiet after an answer was heard out: nothing more follows."""
_LOST = 10.0
"""Seconds of quiet after an answer when something was said since that may yet be recognised."""
_IDLE = 30.0
"""Seconds of quiet without an answer, with an agent that only listens."""
_HUNG = 120.0
"""Seconds without a sign of an agent that thinks or speaks."""


class UnansweredError(LkmongoError):
    """The agent left something unanswered."""

    code = "unanswered"


@dataclass(slots=True)
class _Turn:
    """What became of one file."""

    wav: Wav
    has_begun: bool = False
    is_recognised: bool = False
    is_answered: bool = False

    @property
    def trouble(self) -> str | None:
        if self.is_answered:
            return None
        if not self.has_begun:
            return "the call was over before it"
        return "no answer came" if self.is_recognised else "no words were recognised in it"


class WavCall:
    """The caller of `converse` who speaks files, each after the answer to the one before was heard out."""

    def __init__(self, wavs: Sequence[Wav], listener: Listener, record: Recording | None = None) -> None:
        """Say `wavs`, show the conversation to `listener`, and record what the agent says."""
        self.listener = replace(listener, event=self._on_event, live=self._on_live)
        """Shows the conversation, and tells this call when to go on; for `converse`."""
        self._shown_by = listener
        self._record = record
        self._turns = [_Turn(wav) for wav in wavs]
        self._turn: _Turn | None = None
        self._to_say = bytearray()
        self._failure: LkmongoError | None = None
        self._agent = "initializing"
        self._is_greeted = False
        self._speaks = False
        self._is_pending = False  # something was said that no message has yet
        self._changed = time.monotonic()

    def check_answers(self) -> None:
        """Raise UnansweredError if a file was not answered."""
        if troubles := [f"{turn.wav.path}: {turn.trouble}" for turn in self._turns if turn.trouble]:
            raise UnansweredError(
                f"{len(troubles)} of {len(self._turns)} files were not answered",
                why="\n".join(troubles),
                hint="listen to the file; lkmongo doctor tells whether the models answer",
            )

    async def lines(self) -> AsyncIterator[Line | Switch]:
        """Say the files, and then hang up; nothing is typed.

        Raises:
            WavError: a file cannot be read any more.
            LkmongoError: the recording cannot be written.
        """
        self._changed = time.monotonic()
        await self._settled()  # the greeting
        for turn in self._turns:
            self._shown_by.note(f"Saying {turn.wav.path} ({turn.wav.seconds:.1f} s) ...")
            self._turn, turn.has_begun = turn, True
            for block in turn.wav.blocks():
                self._to_say += block
                await self._until_said(_AHEAD)
            await self._until_said(0)
            self._changed = time.monotonic()
            await self._settled()
        async for line in no_lines():
            yield line

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sound]:
        """Open the microphone that the files come from, and the loudspeaker that is recorded."""
        loudspeaker = Loudspeaker()
        playing = asyncio.create_task(self._play(loudspeaker))
        try:
            yield Sound(Microphone(self._spoken()), loudspeaker)
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    async def _spoken(self) -> AsyncIterator[rtc.AudioFrame]:
        count = int(RECOGNITION_RATE * _TICK)
        async for _ in _ticks():
            piece = bytes(self._to_say[: 2 * count])
            del self._to_say[: 2 * count]
            yield rtc.AudioFrame(piece.ljust(2 * count, b"\0"), RECOGNITION_RATE, 1, count)

    async def _play(self, loudspeaker: Loudspeaker) -> None:
        try:
            async for _ in _ticks():
                piece = loudspeaker.read(int(RATE * _TICK))
                if self._record:
                    self._record.add(piece)
        except LkmongoError as error:
            self._failure = error

    async def _until_said(self, seconds: float) -> None:
        """Wait until no more than that is still to be said."""
        while len(self._to_say) > 2 * RECOGNITION_RATE * seconds:
            await self._tick()

    async def _settled(self) -> None:
        """Wait until the agent has answered and was heard out, or will not answer."""
        while time.monotonic() - self._changed < self._patience:
            await self._tick()

    @property
    def _patience(self) -> float:
        if self._speaks or self._agent not in {"listening", "idle"}:
            return _HUNG
        if not (self._turn.is_answered if self._turn else self._is_greeted):
            return _IDLE
        return _LOST if self._is_pending else _SETTLED

    async def _tick(self) -> None:
        await asyncio.sleep(_TICK)
        if self._failure:
            raise self._failure

    def _on_event(self, event: dict[str, Any]) -> None:
        self._changed = time.monotonic()
        if event["type"] == "message":
            if event["role"] == "assistant":
                self._is_greeted = True
            else:
                self._is_pending = False
            if self._turn:
                if event["role"] == "user":
                    self._turn.is_recognised, self._turn.is_answered = True, False
                else:
                    self._turn.is_answered = self._turn.is_recognised and not event.get("interrupted")
        self._shown_by.event(event)

    def _on_live(self, who: str, text: str) -> None:
        if text != "away":  # which is said of a caller who is silent
            self._changed = time.monotonic()
        if who == "state":
            self._agent = text
        elif who == "user_state":
            spoke, self._speaks = self._speaks, text == "speaking"
            self._is_pending = self._is_pending or spoke or self._speaks
        self._shown_by.live(who, text)


async def _ticks() -> AsyncIterator[None]:
    """Yield in real time; what a busy machine misses is left out, for the sound would come in bursts."""
    due = time.monotonic()
    while True:
        due = max(due + _TICK, time.monotonic())
        await asyncio.sleep(max(due - time.monotonic(), 0))
        yield
