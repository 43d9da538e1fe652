"""The voice of this machine, on the real engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.agents import APIConnectionError

from benchmarks.hearing import loudness, word_errors
from lkmongo.speech import voice
from lkmongo.speech.recogniser import LocalSTT
from lkmongo.speech.voice import SPOKEN_RATE, LocalTTS, _pieces, _plain, _sound_of, engine
from tests.local_speech import AT_ONCE, needs_local_speech, said
from tests.waiting import until

pytestmark = needs_local_speech

SENTENCE = (
    "You can return whatever you bought within thirty days, as long as it is as new, and we will refund what you paid, "
    "to the card that you paid with, within a week after the parcel has come back to us."
)


@pytest.fixture
def pieces(monkeypatch):
    """The pieces that were spoken; the second one waits until `may_go`."""
    spoken: list[str] = []
    whole = voice._sound_of

    def watched(model, text: str) -> bytes:
        spoken.append(text)
        if len(spoken) > 1:
            watched.may_go.wait()
        return whole(model, text)

    watched.may_go = threading.Event()
    watched.spoken = spoken
    monkeypatch.setattr(voice, "_sound_of", watched)
    yield watched
    watched.may_go.set()


async def test_what_it_says_can_be_understood():
    frame = await LocalTTS().synthesize(SENTENCE).collect()
    assert (frame.sample_rate, frame.num_channels) == (SPOKEN_RATE, 1)
    heard = await LocalSTT().recognize(frame)
    errors, words = word_errors(SENTENCE, heard.alternatives[0].text)
    assert errors <= words / 20, heard.alternatives[0].text


async def test_nobody_waits_for_the_silence_before_the_first_sound():
    frame = await LocalTTS().synthesize("How can I help you?").collect()
    loud = np.flatnonzero(np.abs(np.frombuffer(frame.data, np.int16)) > 300)
    assert loud[0] < 0.06 * SPOKEN_RATE


async def test_a_long_sentence_is_heard_before_it_is_spoken_to_its_end(pieces):
    stream = LocalTTS().synthesize(SENTENCE)
    first = await anext(stream)  # before the second piece may be spoken
    assert first.frame.samples_per_channel
    pieces.may_go.set()
    length = first.frame.duration + sum([each.frame.duration async for each in stream])
    await stream.aclose()
    assert len(pieces.spoken) >= 2
    assert length > 8


async def test_what_is_interrupted_is_not_spoken_to_its_end(pieces):
    tasks = asyncio.all_tasks()
    stream = LocalTTS().synthesize(SENTENCE)
    await anext(stream)
    await until(lambda: len(pieces.spoken) == 2)
    await stream.aclose()
    pieces.may_go.set()
    await until(lambda: engine.waiting == 0 and not engine._running.locked())
    assert len(pieces.spoken) == 2
    assert asyncio.all_tasks() <= tasks


async def test_two_sessions_share_one_voice_and_closing_one_leaves_it_to_the_other():
    first, second = LocalTTS(), LocalTTS()
    one, other = await asyncio.gather(*(each.synthesize("Good morning.").collect() for each in (first, second)))
    model = engine._model
    await first.aclose()
    assert (await second.synthesize("Good morning.").collect()).data == other.data == one.data
    assert engine._model is model


@pytest.mark.parametrize(
    "text",
    [
        "👍",
        "\u4f60\u597d\uff0c\u4e16\u754c\u3002",
        "...",
        "Grüße an José Núñez 👋🏽",
        "It is 1" + "0" * 40 + ".",
        "a" * 3000,
        "Words and words, " * 60,
        "[here](/x/) & <there>",
        "\u202e\u0000\u200b",
        "🇪žc&$🇩^️①Ⅷ½",
    ],
)
async def test_any_text_is_spoken_or_silent(text):
    frame = await LocalTTS().synthesize(text, conn_options=AT_ONCE).collect()
    assert frame.duration > 0


async def test_no_text_is_no_sound():
    stream = LocalTTS().synthesize("", conn_options=AT_ONCE)
    assert sum([each.frame.duration async for each in stream]) < 0.1


@given(st.text(max_size=60))
@settings(max_examples=40)
def test_no_text_is_too_much_for_it(text):
    engine.load()
    assert len(_sound_of(engine._model, text)) % 2 == 0


def test_numbers_that_are_too_long_are_read_by_their_digits():
    assert _plain("No. 1234 é, ok") == "No. 1 2 3 4  , ok"


def test_what_is_too_loud_is_clipped():
    loud = np.array([3, -3, 0.25, np.nan], np.float32)
    samples = np.frombuffer(_sound_of(lambda *_, **__: loud, "x"), np.int16)
    assert samples.tolist() == [32767, -32767, 16383, 0]


async def test_it_is_neither_faint_nor_too_loud():
    samples = await said(SENTENCE)
    assert 0.08 < loudness(samples) / 32768 < 0.25
    assert (np.abs(samples) > 32700).mean() < 0.0001


words = st.text("abcdefgh", min_size=1, max_size=250)


@given(st.lists(st.lists(st.tuples(words, st.sampled_from(["", "", "", ",", ";", ":"])), min_size=1), max_size=4))
def test_pieces_are_the_whole_text_and_none_is_long(sentences):
    texts = [" ".join(word + mark for word, mark in each) for each in sentences]
    pieces = list(_pieces(texts))
    assert "".join("".join(texts).split()) == "".join("".join(pieces).split())
    assert all(len(piece) <= 2 * voice._NEXT for piece in pieces)


def test_the_first_piece_is_short_so_that_it_is_heard_soon():
    first, *others = _pieces([SENTENCE])
    assert len(first) <= voice._SHORT
    assert first == "You can return whatever you bought within thirty days,"
    assert all(piece.endswith((",", ".")) for piece in others)


def test_a_sentence_of_some_words_is_one_piece():
    assert list(_pieces(["One, two, three.", "Four, five."])) == ["One, two, three.", "Four, five."]


async def test_a_voice_that_fails_is_reported_without_what_it_was_to_say(monkeypatch):
    secret = "your card number is 4111"

    def fail(*_, **__):
        raise RuntimeError(secret)

    engine.load()
    monkeypatch.setattr(engine._model, "from_ids", fail)
    errors = []
    mouth = LocalTTS()
    mouth.on("error", errors.append)
    with pytest.raises(APIConnectionError, match="the voice failed: RuntimeError at test_voice") as caught:
        await mouth.synthesize("Hello.", conn_options=AT_ONCE).collect()
    assert secret not in repr(caught.value)
    assert caught.value.__suppress_context__
    assert len(errors) == 1


def test_it_takes_one_thread_and_so_one_core():
    code = (
        "import psutil; from lkmongo.speech.voice import LocalTTS, engine; process = psutil.Process(); "
        "before = process.num_threads(); LocalTTS.load(); engine._model('Hello there.'); "
        "print(process.num_threads() - before)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "0"
