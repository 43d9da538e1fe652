"""Ears on this machine: LiveKit's `stt.STT` over the recogniser Moonshine, which hears English only.

LiveKit's voice activity detector tells speech from silence, and Moonshine gets what was said since speech began, again
and again: for the interim transcripts, and at a short pause for the one that becomes the final one if nothing follows.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIError, LanguageCode, stt, utils, vad
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from numpy.typing import NDArray

from lkmongo.errors import MissingExtraError, SettingsError
from lkmongo.setting_checks import ENDPOINTING
from lkmongo.speech.engine import Engine
from lkmongo.speech.local import HOW_TO_INSTALL, is_english, why_not_local
from lkmongo.speech.patience import Patience

if TYPE_CHECKING:
    from moonshine_voice.transcriber import Transcriber

HEARD_RATE = 16_000
"""Samples a second that the recogniser and the voice activity detector take; other sound is resampled."""
Samples = NDArray[np.int16]
_Kind = stt.SpeechEventType

_EVERY = 0.5  # seconds of new speech between two interim transcripts
_LEAST_OFTEN = 4.0  # likewise, on a machine that is busy
_PAUSE = 0.1  # seconds of silence after which what was said is recognised ahead of the end of speech
_LEAD = 0.2  # seconds of sound before speech; of more, short words are heard over and over
_TAIL = 0.3  # seconds of silence put after speech, without which its last word suffers
_LONGEST = 12.0  # seconds of speech without an end after which it is cut where it is quietest
_LOOK_BACK = 4.0  # seconds at the end of it in which that place is sought
_WINDOW = 512  # samples that the quietest place is made of, as long as the detector's
_BLEED = 0.1  # seconds before the end of speech that may be heard again: they are silent
_FLUSHED = 1.0  # seconds of silence that stand for the end of the sound


def _load() -> Transcriber:
    if (missing := why_not_local()) is not None:
        raise MissingExtraError("speech cannot be recognised on this machine", why=missing, hint=HOW_TO_INSTALL)
    # Its threads wait for each other by spinning, and take twice the processor time to be no faster.
    os.environ.setdefault("MOONSHINE_ORT_SINGLE_THREAD", "1")
    from moonshine_voice import ModelArch, get_model_path
    from moonshine_voice.transcriber import Transcriber

    # LiveKit's detector has cut the sound already, and copies of it are not wanted.
    options = {"vad_threshold": "0.0", "identify_speakers": "false", "return_audio_data": "false"}
    return Transcriber(get_model_path("tiny-en"), ModelArch.TINY, options=options)


def _unload(transcriber: Transcriber) -> None:
    transcriber.close()


engine: Engine[Transcriber] = Engine("the recogniser", _load, _unload)
"""The one of this process."""
_activity: vad.VAD | None = None


def _shared_activity() -> vad.VAD:
    global _activity  # noqa: PLW0603
    if _activity is None:
        from livekit.agents import inference

        _activity = inference.VAD()
    return _activity


class LocalSTT(stt.STT[Any]):
    """Recognises English on this machine; all sessions of a process share one recogniser, and one core at most.

    Closing it ends its own streams and leaves the recogniser to others; `unload` is for the end of the process.
    """

    def __init__(
        self,
        activity: vad.VAD | None = None,
        *,
        language: str | None = None,
        endpointing: tuple[float, float] = ENDPOINTING,
    ) -> None:
        """Load nothing yet: `load` does, or the first stream.

        Args:
            activity: tells speech from silence; one that all of the process share if none is given.
            language: of the caller, if known.
            endpointing: seconds of silence after which what was said is final, and after which if it trails off.

        Raises:
            SettingsError: another language than English.
        """
        _check_language(language)
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self._activity = activity
        self.endpointing = endpointing
        self._streams: weakref.WeakSet[stt.RecognizeStream] = weakref.WeakSet()

    @staticmethod
    def load() -> None:
        """Load the recogniser unless it is loaded; this blocks for about a second.

        Raises:
            MissingExtraError: it is not installed.
        """
        engine.load()

    @staticmethod
    def unload() -> None:
        """Give the memory of this process's recogniser back, for all of its sessions."""
        engine.unload()

    def prewarm(self) -> None:
        """Load the recogniser in its thread."""
        engine.load_soon()

    @property
    def model(self) -> str:
        """The model, for metrics."""
        return "moonshine-tiny-en"

    @property
    def provider(self) -> str:
        """Who runs it, for metrics."""
        return "local"

    @property
    def activity(self) -> vad.VAD:
        """What tells speech from silence."""
        return self._activity or _shared_activity()

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Hear sound as it comes.

        Raises:
            SettingsError: another language than English.
        """
        _check_language(language)
        engine.load_soon()
        hearing = _Hearing(self, conn_options)
        self._streams.add(hearing)
        return hearing

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,  # noqa: ARG002
    ) -> stt.SpeechEvent:
        _check_language(language)
        events: list[stt.SpeechEvent] = []
        heard = _heard(buffer)
        async with aclosing(self.activity.stream()) as activity:
            for sound in (heard, np.zeros(int(_FLUSHED * HEARD_RATE), np.int16)):
                activity.push_frame(rtc.AudioFrame(sound.tobytes(), HEARD_RATE, 1, len(sound)))
            activity.end_input()
            await _listen(activity, _Speech(events.append, partial=False))
        texts = [event.alternatives[0].text for event in events if event.type is _Kind.FINAL_TRANSCRIPT]
        return _event(_Kind.FINAL_TRANSCRIPT, " ".join(texts), utils.shortuuid())

    async def aclose(self) -> None:
        """Close the streams; the recogniser stays loaded for other sessions."""
        for each in list(self._streams):
            await each.aclose()
        self._streams.clear()


async def text_of(samples: Samples, *, urgent: bool) -> str:
    """Recognise speech of `HEARD_RATE`, of at most 20 s or so.

    Args:
        samples: the speech.
        urgent: somebody waits for it; it is recognised before what is not.

    Raises:
        APIError: the recogniser cannot be loaded, or failed.
    """
    tail = np.zeros(int(_TAIL * HEARD_RATE), np.float32)

    def recognise(transcriber: Transcriber) -> str:
        sound = np.append(samples.astype(np.float32) / 32768, tail).tolist()
        lines = transcriber.transcribe_without_streaming(sound, HEARD_RATE).lines
        return " ".join(" ".join(line.text for line in lines).replace('"', " ").split())  # it quotes at random

    return await engine.do(recognise, urgent=urgent) if len(samples) else ""


class _Said:
    """The sound of speech since it began, or since it was cut."""

    def __init__(self, samples: Samples) -> None:
        self._pieces = [samples]
        self.length = len(samples)
        self.spoken = 0
        """Samples up to the end of the last sound that was speech; none since the cut, if 0."""

    @property
    def samples(self) -> Samples:
        return np.concatenate(self._pieces)

    @property
    def seconds(self) -> float:
        return self.length / HEARD_RATE

    def add(self, samples: Samples, *, silent: bool) -> None:
        self._pieces.append(samples)
        self.length += len(samples)
        if not silent:
            self.spoken = self.length

    def cut(self) -> Samples:
        """Take what was said up to the quietest place near the end; the rest stays."""
        samples = self.samples
        start = max(0, self.length - int(_LOOK_BACK * HEARD_RATE))
        stretch = samples[start:].astype(np.float32)
        count = len(stretch) // _WINDOW
        loudness = np.square(stretch[: count * _WINDOW].reshape(count, _WINDOW)).mean(axis=1)
        smooth = np.convolve(loudness, np.ones(3), mode="valid")  # a place that is quiet on both sides
        place = start + (int(smooth.argmin()) + 1) * _WINDOW + _WINDOW // 2
        head, rest = samples[:place], samples[place:]
        self._pieces, self.length = [rest], len(rest)
        self.spoken = max(0, self.spoken - place)
        return head


class _Hearing(stt.RecognizeStream):
    def __init__(self, ears: LocalSTT, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=ears, conn_options=conn_options, sample_rate=HEARD_RATE)
        self._ears = ears

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        """Push sound to be recognised; channels are mixed."""
        super().push_frame(_mono(frame))

    async def _run(self) -> None:
        async with aclosing(self._ears.activity.stream()) as activity:
            feeding = asyncio.create_task(self._feed(activity))
            patience = Patience(self._tell, *self._ears.endpointing)
            try:
                await _listen(activity, _Speech(patience.tell), patience)
                patience.close()
            except APIError:
                patience.close()  # what was heard before is not lost
                raise
            finally:
                await utils.aio.cancel_and_wait(feeding)

    async def _feed(self, activity: vad.VADStream) -> None:
        async for item in self._input_ch:
            if isinstance(item, rtc.AudioFrame):
                activity.push_frame(item)
            else:  # a flush, as at the end of the sound: silence ends what is being said
                activity.push_frame(utils.audio.silence_frame(_FLUSHED + self._ears.endpointing[1], HEARD_RATE))
        activity.end_input()

    def _tell(self, event: stt.SpeechEvent) -> None:
        if not self._event_ch.closed:
            self._event_ch.send_nowait(event)


async def _listen(activity: vad.VADStream, speech: _Speech, patience: Patience | None = None) -> None:
    try:
        async for event in activity:
            await speech.on(event)
            if patience is not None:
                patience.on(event)
    except APIError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the detector raises: the SDK tries again after an APIError only
        raise APIConnectionError(f"the voice activity detector failed: {type(error).__name__}") from None
    finally:
        await speech.close()


class _Speech:
    """What one caller says: from events of voice activity to transcripts."""

    def __init__(self, tell: Callable[[stt.SpeechEvent], None], *, partial: bool = True) -> None:
        self._tell = tell
        self._partial = partial
        self._said: _Said | None = None
        self._request = ""
        self._paused = False
        self._ended = 0  # samples of the stream up to the end of the last speech
        self._work: asyncio.Task[str | None] | None = None
        self._known = 0  # samples of what was said that the work covers
        self._ahead = False  # whether the work becomes the final transcript if nothing follows
        self._took = 0.0  # seconds from the asking for the last transcript to its coming

    async def on(self, event: vad.VADEvent) -> None:
        if event.type is vad.VADEventType.START_OF_SPEECH:
            self._begin(event)
        elif event.type is vad.VADEventType.INFERENCE_DONE and event.speaking and self._said is not None:
            self._said.add(_heard(event.frames), silent=event.raw_accumulated_silence > 0)
            await self._go_on(self._said, event.raw_accumulated_silence)
        elif event.type is vad.VADEventType.END_OF_SPEECH and self._said is not None:
            said, self._said = self._said, None
            self._ended = event.samples_index - int(_BLEED * HEARD_RATE)
            when = time.time() - event.silence_duration
            await self._finish(said, when)
            self._tell(stt.SpeechEvent(_Kind.END_OF_SPEECH, self._request, speech_end_time=when))

    async def close(self) -> None:
        self._said = None
        if self._work is not None:
            await utils.aio.cancel_and_wait(self._work)

    def _begin(self, event: vad.VADEvent) -> None:
        samples = _heard(event.frames)
        # What the detector gives from before the beginning may reach into what was said before.
        heard_twice = self._ended - (event.samples_index - len(samples))
        too_early = len(samples) - int((event.speech_duration + _LEAD) * HEARD_RATE)
        self._said = _Said(samples[max(0, heard_twice, too_early) :])
        self._said.spoken = self._known = self._said.length
        self._paused, self._ahead, self._request = False, False, utils.shortuuid()
        began = time.time() - event.speech_duration
        self._tell(stt.SpeechEvent(_Kind.START_OF_SPEECH, self._request, speech_start_time=began))

    async def _go_on(self, said: _Said, silence: float) -> None:
        pause = silence >= _PAUSE and not self._paused
        self._paused = silence >= _PAUSE
        if said.seconds >= _LONGEST:
            head = _Said(said.cut())
            head.spoken, self._ahead = head.length, False
            await self._finish(head)
        elif not self._partial:
            return
        elif pause and said.spoken:
            self._recognise(said, ahead=True)
        elif not silence and (self._work is None or self._work.done()):
            every = min(max(_EVERY, 2 * self._took), _LEAST_OFTEN)  # a machine that is busy gets fewer
            if said.length - self._known >= every * HEARD_RATE:
                self._recognise(said, ahead=False)

    def _recognise(self, said: _Said, *, ahead: bool) -> None:
        """Begin an interim transcript, or at a pause the one ahead of the final; an earlier one is given up."""
        if self._work is not None:
            self._work.cancel()
        self._known, self._ahead = said.length, ahead
        kind = _Kind.PREFLIGHT_TRANSCRIPT if ahead else _Kind.INTERIM_TRANSCRIPT
        self._work = asyncio.create_task(self._transcribe(said.samples, kind))

    async def _transcribe(self, samples: Samples, kind: stt.SpeechEventType) -> str | None:
        began = time.monotonic()
        try:
            text = await text_of(samples, urgent=kind is _Kind.PREFLIGHT_TRANSCRIPT)
        except APIError:
            return None  # the final one says so, should the recogniser fail again
        self._took = time.monotonic() - began
        if text:
            self._tell(_event(kind, text, self._request))
        return text

    async def _finish(self, said: _Said, when: float | None = None) -> None:
        work, ahead = self._work, self._ahead and self._known >= said.spoken
        if work is not None and not ahead:
            await utils.aio.cancel_and_wait(work)  # it is outdated, and nobody shall wait for it
        text = await work if work is not None and ahead else None
        if text is None and said.spoken:
            text = await text_of(said.samples, urgent=self._partial)
        self._work, self._known, self._ahead = None, 0, False
        if text:
            self._tell(_event(_Kind.FINAL_TRANSCRIPT, text, self._request, when))
        usage = stt.RecognitionUsage(audio_duration=said.seconds)
        self._tell(stt.SpeechEvent(_Kind.RECOGNITION_USAGE, self._request, recognition_usage=usage))


def _check_language(language: NotGivenOr[str] | None) -> None:
    if utils.is_given(language) and not is_english(language):
        raise SettingsError(
            f"speech is recognised on this machine in English only, and the language is {language}",
            hint="use LiveKit Inference or a speech server for other languages, or set LKMONGO_SPEECH=off",
        )


def _heard(frames: rtc.AudioFrame | Iterable[rtc.AudioFrame]) -> Samples:
    """The samples of sound, of one channel and `HEARD_RATE`."""
    given = [frames] if isinstance(frames, rtc.AudioFrame) else frames
    pieces = [_mono(frame) for frame in given if frame.samples_per_channel]
    if pieces and pieces[0].sample_rate != HEARD_RATE:
        resampler = rtc.AudioResampler(pieces[0].sample_rate, HEARD_RATE, quality=rtc.AudioResamplerQuality.HIGH)
        pieces = [each for piece in pieces for each in resampler.push(piece)] + resampler.flush()
    return np.concatenate([np.frombuffer(piece.data, np.int16) for piece in pieces] or [np.zeros(0, np.int16)])


def _mono(frame: rtc.AudioFrame) -> rtc.AudioFrame:
    if frame.num_channels == 1:
        return frame
    channels = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
    mixed = channels.mean(axis=1).astype(np.int16)
    return rtc.AudioFrame(mixed.tobytes(), frame.sample_rate, 1, len(mixed))


def _event(kind: stt.SpeechEventType, text: str, request: str, when: float | None = None) -> stt.SpeechEvent:
    data = stt.SpeechData(language=LanguageCode("en"), text=text, confidence=1.0)
    return stt.SpeechEvent(kind, request, [data], speech_end_time=when)
