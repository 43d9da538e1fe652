"""Audio input and output of a session on this machine: microphone and loudspeaker with echo cancellation."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from livekit import rtc
from livekit.agents.voice import io

from lkmongo.console.devices import AudioError, DevicePair

logger = logging.getLogger(__name__)

RECOGNITION_RATE = 16_000
"""Sample rate in hertz for speech recognition."""
RATE = 48_000
"""Sample rate in hertz of the devices, the only one at which MediaDevices cancels echoes."""
_CHUNK = 480  # samples, ten milliseconds: what the echo canceller processes
_BLOCK = 5 * _CHUNK  # MediaDevices' default of 100 ms, in and out, is a noticeable delay
_MAX_QUEUED = 0.4  # seconds; a block is 0.05 s


@dataclass(frozen=True, slots=True)
class Sound:
    microphone: io.AudioInput
    loudspeaker: io.AudioOutput


class Microphone(io.AudioInput):
    """Recorded frames; silence while muted, because speech recognition disconnects without input."""

    def __init__(self, frames: AsyncIterable[rtc.AudioFrame]) -> None:
        """Pass on `frames`, which arrive in real time."""
        super().__init__(label="microphone")
        self._frames = aiter(frames)
        self._muted = False

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await anext(self._frames)
        if not self._muted:
            return frame
        silence = bytes(2 * frame.num_channels * frame.samples_per_channel)
        return rtc.AudioFrame(silence, frame.sample_rate, frame.num_channels, frame.samples_per_channel)

    def on_attached(self) -> None:
        """Unmute."""
        self._muted = False

    def on_detached(self) -> None:
        """Mute."""
        self._muted = True


class Loudspeaker(io.AudioOutput):
    """Plays audio as the device requests it with `read`; can be paused and interrupted immediately."""

    def __init__(self) -> None:
        super().__init__(label="loudspeaker", capabilities=io.AudioOutputCapabilities(pause=True), sample_rate=RATE)
        self.latency = 0.0
        """Seconds from `read` until the sound is audible."""
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._read = 0
        self._open = False
        self._complete = False
        self._paused = False
        self._utterance = 0
        self._ready = asyncio.Event()
        self._ready.set()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Queue a frame."""
        if self._complete:
            await self._ready.wait()
        await super().capture_frame(frame)
        with self._lock:
            self._open = True
            self._waiting += frame.data.cast("b")

    def flush(self) -> None:
        """Mark the end of an utterance; `on_playback_finished` follows when it has been heard."""
        super().flush()
        with self._lock:
            if self._open:
                self._complete = True
                self._ready.clear()

    def clear_buffer(self) -> None:
        """Stop immediately, and report how much was heard."""
        if not self._open:
            return
        super().flush()  # later frames belong to another utterance
        self._finish(self._utterance, interrupted=True)

    def pause(self) -> None:
        """Pause until `resume` or `clear_buffer`."""
        super().pause()
        self._paused = True

    def resume(self) -> None:
        """Resume playback."""
        super().resume()
        self._paused = False

    def read(self, samples: int) -> bytes:
        """Return the next samples, padded with silence; called in the device's thread."""
        with self._lock:
            if self._paused or not self._open:
                return bytes(2 * samples)
            piece = bytes(self._waiting[: 2 * samples])
            del self._waiting[: 2 * samples]
            if piece and not self._read:
                self._call_in_loop(self._start, self._utterance, time.time() + self.latency)
            self._read += len(piece)
            if self._complete and not self._waiting and len(piece) < 2 * samples:
                self._complete = False
                self._call_in_loop(self._loop.call_later, self.latency, self._finish, self._utterance)
        return piece.ljust(2 * samples, b"\0")

    def _call_in_loop(self, function: Callable[..., Any], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def _start(self, utterance: int, at: float) -> None:
        if utterance == self._utterance:
            self.on_playback_started(created_at=at)

    def _finish(self, utterance: int, *, interrupted: bool = False) -> None:
        with self._lock:
            if utterance != self._utterance:
                return  # interrupted meanwhile
            heard = self._read / (2 * RATE)
            self._waiting.clear()
            self._utterance += 1
            self._read, self._open, self._complete = 0, False, False
            self._ready.set()
        self.on_playback_finished(
            playback_position=max(heard - self.latency, 0.0) if interrupted else heard, interrupted=interrupted
        )


@asynccontextmanager
async def open_sound(pair: DevicePair) -> AsyncIterator[Sound]:
    """Open a microphone and a loudspeaker, with the loudspeaker's echo cancelled in the microphone's signal.

    Raises:
        AudioError: one of them cannot be opened, for example because another program uses it.
    """
    loudspeaker = Loudspeaker()
    async with AsyncExitStack() as stack:
        stack.enter_context(_alsa_silenced())
        with _drivers_silenced():
            with _device_errors(f"the microphone {pair.microphone.name}", "--input-device"):
                capture = rtc.MediaDevices(blocksize=_BLOCK).open_input(
                    enable_aec=True, input_device=pair.microphone.index
                )
            stack.push_async_callback(capture.aclose)
            with _device_errors(f"the loudspeaker {pair.loudspeaker.name}", "--output-device"):
                stack.enter_context(_playing(loudspeaker, capture, pair.loudspeaker.index))
        recorded = rtc.AudioStream(
            rtc.LocalAudioTrack.create_audio_track("microphone", capture.source),
            sample_rate=RECOGNITION_RATE,
            num_channels=1,
        )
        stack.push_async_callback(recorded.aclose)
        yield Sound(Microphone(_frames(recorded, capture.source)), loudspeaker)


@contextmanager
def _playing(loudspeaker: Loudspeaker, capture: Any, device: int) -> Iterator[None]:
    """Play on a device, and feed what is played to the microphone's echo canceller.

    MediaDevices' own player plays a track in real time: each time the machine is busy, playback lags behind by that
    much for the rest of the conversation, and an interrupted answer continues for as long.
    """
    import sounddevice

    def play(out: Any, samples: int, when: Any, _status: Any) -> None:
        piece = loudspeaker.read(samples)
        out[:] = piece
        capture.delay_estimator.set_output_delay(when.outputBufferDacTime - when.currentTime)
        for start in range(0, len(piece) - 2 * _CHUNK + 1, 2 * _CHUNK):
            frame = rtc.AudioFrame(piece[start : start + 2 * _CHUNK], RATE, 1, _CHUNK)
            try:
                capture.apm.process_reverse_stream(frame)
            except RuntimeError as error:  # an exception would stop playback
                logger.debug("the echo canceller rejected a frame: %s", error)

    stream = sounddevice.RawOutputStream(
        samplerate=RATE, blocksize=_BLOCK, channels=1, dtype="int16", device=device, callback=play
    )
    with stream:
        loudspeaker.latency = stream.latency
        yield


async def _frames(stream: rtc.AudioStream, source: rtc.AudioSource) -> AsyncIterator[rtc.AudioFrame]:
    """The recorded frames; drops what queued up while the machine was busy, which would delay everything after it."""
    async for event in stream:
        if source.queued_duration > _MAX_QUEUED:
            source.clear_queue()
        yield event.frame


@contextmanager
def _device_errors(device: str, flag: str) -> Iterator[None]:
    """Name the device in errors.

    Raises:
        AudioError: it cannot be opened, or PortAudio cannot be loaded.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise AudioError("PortAudio cannot be loaded", why=str(error)) from error
    try:
        yield
    except sounddevice.PortAudioError as error:
        raise AudioError(
            f"{device} cannot be opened",
            why=str(error).splitlines()[0][:200],
            hint=f"close other programs that use it, or choose another with {flag}; --list-devices shows them",
        ) from error


@contextmanager
def _drivers_silenced() -> Iterator[None]:
    """Keep what audio drivers print on stderr out of the terminal; with --debug it is logged."""
    try:
        before = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    with tempfile.TemporaryFile() as said:
        try:
            os.dup2(said.fileno(), 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            said.seek(0)
            if text := said.read(10_000).decode(errors="replace").strip():
                logger.info("the audio drivers said: %s", text)


@contextmanager
def _alsa_silenced() -> Iterator[None]:
    """Log ALSA's messages, such as underruns, which it would print on stderr."""
    try:
        alsa = ctypes.CDLL("libasound.so.2")
    except OSError:  # another system, or a Linux without it
        yield
        return

    # The variadic arguments for the message's placeholders are ignored.
    def log(_file: bytes, _line: int, function: bytes, _error: int, message: bytes) -> None:
        logger.debug("ALSA said in %s: %s", function.decode(errors="replace"), message.decode(errors="replace"))

    kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
    handler = kind(log)
    alsa.snd_lib_error_set_handler(handler)
    try:
        yield
    finally:
        alsa.snd_lib_error_set_handler(None)
