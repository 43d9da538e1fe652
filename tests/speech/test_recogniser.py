"""The ears of this machine, on the real engines: a voice speaks, the recogniser hears."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectionError

from benchmarks.hearing import Sentence, hear, sentences, word_errors
from lkmongo.errors import SettingsError
from lkmongo.speech import recogniser
from lkmongo.speech.recogniser import HEARD_RATE, LocalSTT, _Said, engine
from lkmongo.speech.voice import SPOKEN_RATE, LocalTTS
from tests.local_speech import Kind, frame_of, listening, needs_local_speech, pause, said
from tests.waiting import until

pytestmark = needs_local_speech

ORDER = "Can you check the status of my order?"


def heard_as(text: str, heard: list[str]) -> int:
    """How many words were changed, lost or added."""
    return word_errors(text, " ".join(heard))[0]


def trimmed(sound: np.ndarray) -> np.ndarray:
    """A sound without the silence around it."""
    loud = np.nonzero(np.abs(sound) > 900)[0]
    return sound[loud[0] : loud[-1]]


@pytest.fixture
def calls(monkeypatch):
    """The lengths of the sounds that were recognised, in seconds."""
    engine.load()
    lengths: list[float] = []
    whole = engine._model.transcribe_without_streaming

    def counted(sound, rate):
        lengths.append(len(sound) / rate)
        return whole(sound, rate)

    monkeypatch.setattr(engine._model, "transcribe_without_streaming", counted)
    return lengths


@pytest.fixture
def held_up():
    """The recogniser is busy with somebody else until this is set."""
    may_go, busy = threading.Event(), threading.Event()
    engine.load()

    def hold(_) -> None:
        busy.set()
        may_go.wait()

    engine._submit(hold, urgent=True)
    busy.wait()
    yield may_go
    may_go.set()


async def test_nearly_all_words_and_what_matters_of_them_are_heard():
    heard = await hear(LocalSTT(), LocalTTS())
    assert len(sentences()) >= 30
    assert heard.word_error_rate < 0.05, heard.misheard
    assert heard.kept >= 0.9 * heard.slots, heard.misheard


async def test_a_quiet_voice_in_noise_is_heard():
    heard = await hear(LocalSTT(), LocalTTS(), sentences()[::4], noise=15)
    assert heard.word_error_rate < 0.2, heard.misheard


@pytest.mark.parametrize("text", ["Yes.", "No.", "Green.", "Children."])
async def test_a_short_word_is_heard_once(text, calls):
    word = len(trimmed(await said(text))) / SPOKEN_RATE
    heard = await hear(LocalSTT(), LocalTTS(), [Sentence(text, (text,))], noise=15)
    assert heard.errors == 0, heard.misheard
    assert max(calls) < word + 0.97  # the more silence is with it, the more it is heard over and over


def nothing_said() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    knocks = pause(4)
    for start in range(SPOKEN_RATE // 2, 3 * SPOKEN_RATE, SPOKEN_RATE // 2):
        fading = np.exp(-np.arange(2400) / 300) * random.normal(0, 12_000, 2400)
        knocks[start : start + 2400] = np.clip(fading, -32768, 32767)
    return {
        "silence": pause(4),
        "noise": random.normal(0, 1500, 4 * SPOKEN_RATE).astype(np.int16),
        "knocks": knocks,
        "hum": (8000 * np.sin(np.arange(4 * SPOKEN_RATE) * 2 * np.pi * 50 / SPOKEN_RATE)).astype(np.int16),
        "nothing": pause(0),
    }


@pytest.mark.parametrize("sound", nothing_said())
async def test_where_nothing_is_said_nothing_is_heard(sound):
    samples = nothing_said()[sound]
    event = await LocalSTT().recognize(frame_of(samples))
    assert event.alternatives[0].text == ""
    async with listening() as listener:
        listener.push(samples)
        await listener.end()
    assert listener.texts() == listener.texts(Kind.INTERIM_TRANSCRIPT) == []


async def test_interim_transcripts_come_while_one_speaks_and_the_final_one_at_the_end():
    sound = await said(ORDER)
    async with listening() as listener:
        listener.push(pause(0.6), sound[: len(sound) // 2])
        await listener.had(Kind.INTERIM_TRANSCRIPT)
        assert listener.texts() == []
        listener.push(sound[len(sound) // 2 :], pause(1))
        await listener.had(Kind.END_OF_SPEECH)
        kinds = listener.kinds()
        assert kinds[0] is Kind.START_OF_SPEECH
        assert kinds[1] is Kind.INTERIM_TRANSCRIPT
        assert kinds[-3:] == [Kind.PREFLIGHT_TRANSCRIPT, Kind.FINAL_TRANSCRIPT, Kind.END_OF_SPEECH]
        assert heard_as(ORDER, listener.texts()) == 0
        assert listener.texts()[-1] == listener.texts(Kind.PREFLIGHT_TRANSCRIPT)[-1]
        assert len({event.request_id for event in listener.events}) == 1
        usage = [event.recognition_usage for event in listener.events if event.recognition_usage]
        assert 1 < sum(each.audio_duration for each in usage) < 5


async def test_who_stops_to_think_has_said_one_thing():
    sound = await said("My order number is, um, 4711.")
    loud = np.flatnonzero(np.abs(sound) > 300)
    longest = int(np.diff(loud).argmax())
    before, after = sound[: loud[longest] + 400], sound[loud[longest + 1] - 400 :]
    async with listening() as listener:
        listener.push(pause(0.6), before, pause(1.1), after, pause(0.7))
        await listener.had(Kind.END_OF_SPEECH)
        assert len(listener.texts()) == 1
        assert listener.texts()[0].startswith("My order number is")
        assert heard_as("My order number is 4711.", [re.sub(r"\b[Uu]m+\b", "", listener.texts()[0])]) <= 1
        assert listener.kinds().count(Kind.START_OF_SPEECH) == 1


async def test_what_was_said_before_is_not_heard_again():
    yes, no = [trimmed(await said(word)) for word in ("Yes.", "No.")]
    async with listening() as listener:
        listener.push(pause(0.6), yes, pause(0.3), no, pause(0.3), yes, pause(1))
        await listener.end()
    assert heard_as("yes no yes", listener.texts()) == 0


LONG = (
    "I would like to know what happened to my order and it was supposed to arrive on Monday and nobody called although "
    "my neighbor said that a van was here at noon and I was at home the whole day with my children and so please tell "
    "me what I should do next because otherwise I want my money back this week"
)


async def test_long_speech_without_a_pause_is_cut_and_no_word_is_lost(calls):
    sound = await said(LONG)
    pauses = np.abs(sound) < 300  # the voice breathes: without that there is no pause that ends speech
    keep = np.ones(len(sound), bool)
    run = 0
    for place, quiet in enumerate(pauses):
        run = run + 1 if quiet else 0
        keep[place] = run < SPOKEN_RATE * 0.06
    sound = sound[keep]
    assert len(sound) > 13 * SPOKEN_RATE
    async with listening() as listener:
        listener.push(pause(0.6), sound, pause(1))
        await listener.end()
    assert listener.kinds().count(Kind.START_OF_SPEECH) == 1
    assert max(calls) < recogniser._LONGEST + 1
    assert heard_as(LONG, listener.texts()) <= 4, listener.texts()  # at the cut a word may be misheard


def test_speech_is_cut_where_it_is_quietest_and_nothing_is_lost():
    loud = np.random.default_rng(2).integers(-9000, 9000, 12 * HEARD_RATE).astype(np.int16)
    quiet = slice(10 * HEARD_RATE, 10 * HEARD_RATE + 2000)
    loud[quiet] //= 100
    speech = _Said(loud[:8000])
    speech.add(loud[8000:], silent=False)
    head = speech.cut()
    assert quiet.start < len(head) < quiet.stop
    assert np.array_equal(np.concatenate([head, speech.samples]), loud)
    assert speech.length == speech.spoken == len(loud) - len(head)


async def test_an_interim_transcript_that_is_outdated_is_dropped(held_up, calls):
    sound = await said(ORDER)
    async with listening() as listener:
        listener.push(pause(0.6), sound, pause(1))
        await listener.had(Kind.START_OF_SPEECH)
        await until(lambda: engine.waiting > 1)  # the interim one and the one of the end
        held_up.set()
        await listener.had(Kind.END_OF_SPEECH)
        assert listener.texts(Kind.INTERIM_TRANSCRIPT) == []
        assert heard_as(ORDER, listener.texts()) == 0
        assert len(calls) == 1
        await until(lambda: engine.waiting == 0)  # its thread passes over what was cancelled


async def test_two_sessions_share_one_recogniser_and_closing_one_leaves_it_to_the_other():
    sound = await said(ORDER)
    engine.load()
    model = engine._model
    first, second = LocalSTT(), LocalSTT()
    async with listening(first) as one, listening(second) as other:
        for listener in (one, other):
            listener.push(pause(0.6), sound, pause(1))
        await one.had(Kind.END_OF_SPEECH)
        await first.aclose()
        assert one.stream._task.done()
        await other.had(Kind.END_OF_SPEECH)
        other.push(sound, pause(1))
        await other.had(Kind.END_OF_SPEECH, 2)
        for listener in (one, other):
            assert heard_as(ORDER, listener.texts()[:1]) == 0
    assert engine._model is model
    assert [thread.name for thread in threading.enumerate() if "lkmongo-recogniser" in thread.name].__len__() == 1


async def test_a_stream_that_is_closed_in_the_middle_leaves_nothing(held_up):
    sound = await said(ORDER)
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with listening() as listener:
        listener.push(pause(0.6), sound[: len(sound) // 2])
        await listener.had(Kind.START_OF_SPEECH)
        await until(lambda: engine.waiting)
        stream = weakref.ref(listener.stream)
    assert asyncio.all_tasks() <= tasks
    held_up.set()
    await until(lambda: engine.waiting == 0)
    await until(lambda: set(threading.enumerate()) <= threads)
    del listener
    gc.collect()
    assert stream() is None


async def test_a_recogniser_that_fails_is_reported_without_what_was_said(monkeypatch, caplog):
    secret = "my card number is 4111"
    engine.load()

    def fail(*_):
        raise ValueError(secret)

    monkeypatch.setattr(engine._model, "transcribe_without_streaming", fail)
    errors = []
    ears = LocalSTT()
    ears.on("error", errors.append)
    sound = await said(ORDER)
    async with listening(ears) as listener:
        listener.push(pause(0.6), sound, pause(1))
        await until(lambda: errors)
        await until(listener.stream._task.done)
        failure = listener.stream._task.exception()
    assert isinstance(failure, APIConnectionError)
    assert not errors[0].recoverable
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("it failed", exc_info=failure)
    assert "the recogniser failed: ValueError" in caplog.text
    assert secret not in caplog.text


async def test_after_a_failure_the_next_sentence_is_heard(monkeypatch):
    engine.load()
    whole = engine._model.transcribe_without_streaming
    broken = True

    def sometimes(*given):
        if broken:
            raise RuntimeError
        return whole(*given)

    monkeypatch.setattr(engine._model, "transcribe_without_streaming", sometimes)
    errors = []
    ears = LocalSTT()
    ears.on("error", errors.append)
    sound = await said(ORDER)
    async with listening(ears, recogniser.DEFAULT_API_CONNECT_OPTIONS) as listener:
        listener.push(pause(0.6), sound, pause(1))
        await until(lambda: errors)
        assert errors[0].recoverable
        broken = False
        listener.push(sound, pause(1))
        await listener.had(Kind.FINAL_TRANSCRIPT)
        assert heard_as(ORDER, listener.texts()) == 0


async def test_what_was_heard_before_a_failure_is_told(monkeypatch):
    engine.load()
    whole = engine._model.transcribe_without_streaming
    broken = False

    def sometimes(*given):
        if broken:
            raise RuntimeError
        return whole(*given)

    monkeypatch.setattr(engine._model, "transcribe_without_streaming", sometimes)
    ears = LocalSTT(endpointing=(60, 60))
    sound = await said(ORDER)
    async with listening(ears) as listener:
        listener.push(pause(0.6), sound, pause(1))
        await listener.had(Kind.PREFLIGHT_TRANSCRIPT)
        await until(lambda: Kind.RECOGNITION_USAGE in [event.type for event in listener.events])
        assert listener.texts() == []
        broken = True
        listener.push(sound, pause(1))
        await listener.had(Kind.FINAL_TRANSCRIPT)
        assert heard_as(ORDER, listener.texts()) == 0


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 1), (44_100, 2), (48_000, 1), (16_000, 2)])
async def test_sound_of_other_rates_and_channels_is_heard(rate, channels):
    resampler = rtc.AudioResampler(SPOKEN_RATE, rate, quality=rtc.AudioResamplerQuality.HIGH)
    spoken = np.concatenate([pause(0.6), await said(ORDER), pause(1)])
    frames = resampler.push(frame_of(spoken)) + resampler.flush()
    samples = np.concatenate([np.frombuffer(frame.data, np.int16) for frame in frames])
    sound = np.repeat(samples, channels)
    whole = rtc.AudioFrame(sound.tobytes(), rate, channels, len(samples))
    event = await LocalSTT().recognize(whole)
    assert heard_as(ORDER, [event.alternatives[0].text]) == 0
    async with listening() as listener:
        for start in range(0, len(samples), rate // 50):
            piece = sound[start * channels : (start + rate // 50) * channels]
            listener.stream.push_frame(rtc.AudioFrame(piece.tobytes(), rate, channels, len(piece) // channels))
        await listener.end()
    assert heard_as(ORDER, listener.texts()) == 0


@pytest.mark.parametrize("ending", ["flush", "end_input"])
async def test_what_is_being_said_when_the_sound_ends_is_heard(ending):
    sound = await said("My name is Robin.")
    async with listening() as listener:
        listener.push(pause(0.6), sound)
        getattr(listener.stream, ending)()
        await listener.had(Kind.FINAL_TRANSCRIPT)
        await listener.had(Kind.END_OF_SPEECH)
        assert heard_as("My name is Robin.", listener.texts()) == 0


async def test_another_language_is_refused():
    for refused in (
        lambda: LocalSTT(language="de"),
        lambda: LocalSTT().stream(language="fr-FR"),
    ):
        with pytest.raises(SettingsError, match=r"in English only, and the language is (de|fr-FR)"):
            refused()
    with pytest.raises(SettingsError, match="the language is es"):
        await LocalSTT().recognize(frame_of(pause(0.1)), language="es")
    await LocalSTT().stream(language="en-GB").aclose()


def test_it_takes_one_thread_and_so_one_core():
    code = (
        "import psutil; from lkmongo.speech.recogniser import LocalSTT, engine; process = psutil.Process(); "
        "before = process.num_threads(); LocalSTT.load(); "
        "engine._model.transcribe_without_streaming([0.0] * 16000, 16000); print(process.num_threads() - before)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "0"
