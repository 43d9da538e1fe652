"""What the callers of `benchmarks.voice` say, as sound: sentences in the local voice, with stops to think, and noise.

The sentences are in `voice_data/turns.txt`. Those that hesitate stop where the voice itself makes its longest
breaks, at their commas: its intonation says that more is coming, as a caller's does, and the break is stretched. The
voice is the one that comes with the extra `voice`, as it is, and moved in pitch and pace for two callers more; if
`flite` is on PATH, its voice slt is another.
"""

from __future__ import annotations

import functools
import itertools
import random
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from benchmarks.hearing import loudness, with_noise
from benchmarks.voice_turns import HESITATING

Samples = NDArray[np.int16]
RATE = 16_000
"""Samples a second of what callers say."""
DATA = Path(__file__).with_name("voice_data") / "turns.txt"
STOPS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3)
"""Seconds for which somebody stops to think."""
VOICES = {
    "hibari": (1.0, 1.0),
    "hibari, lower": (0.9, 0.92),
    "hibari, higher": (1.15, 1.06),
}
"""Pace and pitch of each voice, as a multiple of what it comes with."""
FLITE = "flite slt"
NOISE_DB = 15.0
"""How much louder the caller is than the noise."""
_SEED = 7
_LOUD = 300
"""What a sample of speech has, and none of silence."""
_BREAK = 0.06
"""Seconds of silence that are a break between words rather than within one."""
_STEP = RATE // 100


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, and what must survive of it: spellings of each, one of which is enough."""

    kind: str
    text: str
    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence as somebody says it.

    Attributes:
        sound: at `RATE`.
        end: seconds of it up to the end of speech.
        stops: seconds of each stop to think.
        noisy: whether there is noise.
    """

    sentence: Sentence
    voice: str
    sound: Samples
    end: float
    stops: tuple[float, ...]
    noisy: bool


def load() -> list[Sentence]:
    """The sentences of `DATA`, in their order."""
    lines = [line for line in DATA.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    parts = [[part.strip() for part in line.split("|")] for line in lines]
    return [Sentence(kind, text, tuple(slots.split("/"))) for kind, text, slots in parts]


def voices() -> list[str]:
    """Those that this machine has."""
    return [*VOICES, *([FLITE] if shutil.which("flite") else [])]


def say(sentence: Sentence, voice: str = "hibari", *, noisy: bool = False) -> Said:
    """The sentence as sound; the same each time.

    Args:
        sentence: what is said.
        voice: one of `voices`.
        noisy: with noise, `NOISE_DB` below the voice.
    """
    chance = random.Random(f"{_SEED} {voice} {sentence.text}")
    sound = _flite(sentence.text) if voice == FLITE else _hibari(sentence.text, *VOICES[voice])
    stops: tuple[float, ...] = ()
    if sentence.kind in HESITATING:
        sound, stops = hesitating(sound, [chance.choice(STOPS) for _ in range(sentence.text.count(","))])
    end = spoken(sound)[1] / RATE
    if noisy:
        sound = noisy_sound(sound)
    return Said(sentence, voice, sound, end, stops, noisy)


def breaks(sound: Samples) -> list[tuple[int, int]]:
    """Where there is silence between two words: the first sample of each, and the one behind it."""
    loud = _loud(sound)
    found = [((int(before) + 1) * _STEP, int(after) * _STEP) for before, after in itertools.pairwise(loud)]
    return [(start, end) for start, end in found if end - start >= _BREAK * RATE]


def spoken(sound: Samples) -> tuple[int, int]:
    """The first sample of speech, and the one behind the last.

    Raises:
        ValueError: there is none.
    """
    loud = _loud(sound)
    if not len(loud):
        raise ValueError("there is nothing to be heard")
    return int(loud[0]) * _STEP, (int(loud[-1]) + 1) * _STEP


def hesitating(sound: Samples, stops: Sequence[float]) -> tuple[Samples, tuple[float, ...]]:
    """Stretch the longest breaks, as many as there are stops, to so many seconds each; fewer if it has fewer."""
    last = spoken(sound)[1] - _STEP * 30  # what is silent later is the closure of a last consonant
    between = [each for each in breaks(sound) if each[1] < last]
    longest = sorted(sorted(between, key=lambda each: each[0] - each[1])[: len(stops)])
    pieces, at = [], 0
    for (start, end), seconds in zip(longest, stops, strict=False):
        middle = (start + end) // 2
        more = max(0, round(seconds * RATE) - (end - start))
        pieces += [sound[at:middle], np.zeros(more, np.int16)]
        at = middle
    return np.concatenate([*pieces, sound[at:]]), tuple(stops[: len(longest)])


def noisy_sound(sound: Samples) -> Samples:
    """With noise `NOISE_DB` below the loudness of the speech, breaks apart."""
    speech = sound[np.abs(sound.astype(np.int32)) > _LOUD]
    return with_noise(sound, NOISE_DB, loudness(speech))


def write(path: Path, sound: Samples) -> None:
    """Write a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(sound.tobytes())


def _loud(sound: Samples) -> NDArray[np.int64]:
    count = len(sound) // _STEP
    loudest = np.abs(sound[: count * _STEP].astype(np.int32)).reshape(count, _STEP).max(axis=1)
    return np.flatnonzero(loudest > _LOUD)


@functools.cache
def _voice() -> Any:
    from hibari import Hibari

    return Hibari(threads=1)


def _hibari(text: str, pace: float, pitch: float) -> Samples:
    from hibari import SAMPLE_RATE

    sound = (np.clip(_voice()(text, speed=pace, seed=_SEED), -1, 1) * 32767).astype(np.int16)
    return _resampled(sound, round(SAMPLE_RATE * pitch))


def _flite(text: str) -> Samples:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", str(path)], check=True)
        with wave.open(str(path)) as file:
            return _resampled(np.frombuffer(file.readframes(file.getnframes()), np.int16), file.getframerate())


def _resampled(sound: Samples, rate: int) -> Samples:
    if rate == RATE:
        return sound
    resampler = rtc.AudioResampler(rate, RATE, quality=rtc.AudioResamplerQuality.HIGH)
    frames = resampler.push(rtc.AudioFrame(sound.tobytes(), rate, 1, len(sound))) + resampler.flush()
    return np.concatenate([np.frombuffer(frame.data, np.int16) for frame in frames])
