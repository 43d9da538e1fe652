"""The microphone and the loudspeaker of the console, without a device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from livekit import rtc

from lkmongo.console.sound import RATE, Loudspeaker, Microphone

HUNDREDTH = RATE // 100


def frame(level: int, samples: int = HUNDREDTH) -> rtc.AudioFrame:
    return rtc.AudioFrame(np.full(samples, level, np.int16).tobytes(), RATE, 1, samples)


def heard(speaker: Loudspeaker, samples: int = HUNDREDTH) -> list[int]:
    """The levels in what the device gets next."""
    return sorted(set(np.frombuffer(speaker.read(samples), np.int16).tolist()))


@pytest.fixture
async def speaker():
    speaker = Loudspeaker()
    speaker.ended = []
    speaker.on("playback_finished", lambda event: speaker.ended.append((event.playback_position, event.interrupted)))
    return speaker


async def test_an_utterance_is_played_once_followed_by_silence(speaker):
    assert heard(speaker) == [0]
    for level in (1, 2):
        await speaker.capture_frame(frame(level))
    speaker.flush()
    assert [heard(speaker, HUNDREDTH * 3 // 2) for _ in range(3)] == [[1, 2], [0, 2], [0]]
    assert await speaker.wait_for_playout()
    assert speaker.ended == [(0.02, False)]


async def test_a_pause_keeps_the_rest_for_later(speaker):
    for level in (1, 2):
        await speaker.capture_frame(frame(level))
    speaker.flush()
    assert heard(speaker) == [1]
    speaker.pause()
    assert heard(speaker) == [0]
    await asyncio.sleep(0)
    assert speaker.ended == []
    speaker.resume()
    assert [heard(speaker), heard(speaker)] == [[2], [0]]
    await speaker.wait_for_playout()
    assert speaker.ended == [(0.02, False)]


async def test_an_interrupted_utterance_stops_at_once_and_the_next_is_played(speaker):
    for level in (1, 2, 3):
        await speaker.capture_frame(frame(level))
    assert heard(speaker) == [1]
    speaker.clear_buffer()
    assert heard(speaker) == [0]
    assert speaker.ended == [(0.01, True)]
    speaker.clear_buffer()
    assert len(speaker.ended) == 1
    await speaker.capture_frame(frame(4))
    speaker.flush()
    assert [heard(speaker), heard(speaker)] == [[4], [0]]
    await speaker.wait_for_playout()
    assert speaker.ended == [(0.01, True), (0.01, False)]


async def test_audio_still_in_the_device_counts_as_unheard_when_interrupted(speaker):
    speaker.latency = 0.005
    await speaker.capture_frame(frame(1))
    heard(speaker)
    speaker.clear_buffer()
    assert speaker.ended == [(pytest.approx(0.005), True)]


async def test_an_utterance_waits_until_the_one_before_it_was_heard(speaker):
    await speaker.capture_frame(frame(1))
    speaker.flush()
    waiting = asyncio.create_task(speaker.capture_frame(frame(2)))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert [heard(speaker), heard(speaker)] == [[1], [0]]
    await waiting
    assert heard(speaker) == [2]


async def test_a_muted_microphone_gives_silence_of_the_same_length():
    async def frames() -> AsyncIterator[rtc.AudioFrame]:
        while True:
            yield frame(5)

    microphone = Microphone(frames())
    levels = []
    for switch in (microphone.on_attached, microphone.on_detached, microphone.on_attached):
        switch()
        given = await anext(microphone)
        assert given.samples_per_channel == HUNDREDTH
        levels.append(int(np.frombuffer(given.data, np.int16)[0]))
    assert levels == [5, 0, 5]
