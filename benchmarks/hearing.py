"""How well the recogniser on this machine hears the voice on this machine, with and without noise.

Sentences and what must survive of them are in `voice_data/sentences.txt`. Numbers and addresses are compared in one
form, however they were said and written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import stt, tts
from numpy.typing import NDArray

Samples = NDArray[np.int16]

DATA = Path(__file__).with_name("voice_data")
PAUSE = 0.7
"""Seconds of silence before and after a sentence."""
_NOISE_SEED = 19
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
)
_UNITS += "eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS = {word: number for number, word in enumerate(_UNITS.split())} | {"oh": 0}
_NUMBERS |= {word: 10 * number for number, word in enumerate(_TENS.split(), 2)}
_SPELLINGS = {"favourite": "favorite", "colour": "color", "e-mail": "email", "okay": "ok"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said, and what has to survive."""

    text: str
    slots: tuple[str, ...]


@dataclass(slots=True)
class Heard:
    """What became of sentences: wrong words of how many, slots kept of how many, seconds of sound and of its work."""

    errors: int = 0
    words: int = 0
    kept: int = 0
    slots: int = 0
    sound: float = 0.0
    processor: float = 0.0
    misheard: list[tuple[str, str]] = field(default_factory=list)
    """What was said and what was heard, where they differ."""

    @property
    def word_error_rate(self) -> float:
        """From 0 to 1 or more."""
        return self.errors / self.words if self.words else 0.0

    def add(self, sentence: Sentence, heard: str) -> None:
        """Count one sentence."""
        errors, words = word_errors(sentence.text, heard)
        self.errors += errors
        self.words += words
        found = f" {' '.join(canonical(heard))} "
        self.slots += len(sentence.slots)
        self.kept += sum(f" {' '.join(canonical(slot))} " in found for slot in sentence.slots)
        if errors:
            self.misheard.append((sentence.text, heard))


def sentences() -> list[Sentence]:
    """The sentences of `voice_data/sentences.txt`."""
    lines = (DATA / "sentences.txt").read_text(encoding="utf-8").splitlines()
    parts = [line.partition("|") for line in lines if line and not line.startswith("#")]
    return [Sentence(text.strip(), tuple(slot.strip() for slot in slots.split(","))) for text, _, slots in parts]


def canonical(text: str) -> list[str]:
    """The words of a text: numbers as digits, e-mail addresses as they are written, spelled in the American way."""
    text = re.sub(r"\s+dot\s+", ".", text.lower().replace("\u2019", "'"))
    text = re.sub(r"([\w.]+) at (\w+\.\w)", r"\1@\2", text)
    words = [_SPELLINGS.get(word, word) for word in re.findall(r"[\w.']+@[\w.]+|[a-z']+|\d+", text)]
    words = [word.rstrip(".") for word in words]
    found: list[str] = []
    number: list[str] = []
    for word in [*words, ""]:
        if word.isdecimal() or word in _NUMBERS or (number and word in {"hundred", "thousand"}):
            number.append(word)
            continue
        if number:
            found.append(_digits(number))
            number = []
        if word:
            found.append(word)
    return found


def _digits(words: list[str]) -> str:
    """Number words as digits: `forty seven eleven` is 4711 and `one thousand one` is 1001."""
    groups = [""]
    value, last = -1, ""
    for word in words:
        if word == "hundred":
            value = value // 1000 * 1000 + max(value % 1000, 1) * 100
        elif word == "thousand":
            value *= 1000
        elif word.isdecimal():
            groups += [str(value)] * (value >= 0) + [word]
            value = -1
        else:
            number = _NUMBERS[word]
            joins = last in {"hundred", "thousand"} or (last in _TENS.split() and 0 < number < 10)
            if value >= 0 and not joins:
                groups.append(str(value))
            value = value + number if value >= 0 and joins else number
        last = word
    return "".join([*groups, str(value) if value >= 0 else ""])


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Words that were changed, lost or added, and how many were said."""
    want, got = canonical(said), canonical(heard)
    row = list(range(len(got) + 1))
    for count, word in enumerate(want, 1):
        before, row[0] = row[0], count
        for place, other in enumerate(got, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1], len(want)


async def spoken(voice: tts.TTS[Any], text: str, *, noise: float | None = None) -> rtc.AudioFrame:
    """A sentence between two pauses, as a voice says it.

    Args:
        voice: who says it.
        text: the sentence.
        noise: how much louder the voice is than a noise of all frequencies, in dB; none if None.
    """
    frame = await voice.synthesize(text).collect()
    sound = np.frombuffer(frame.data, np.int16)
    pause = np.zeros(int(PAUSE * frame.sample_rate), np.int16)
    samples = with_noise(np.concatenate([pause, sound, pause]), noise, loudness(sound))
    return rtc.AudioFrame(samples.tobytes(), frame.sample_rate, 1, len(samples))


def loudness(samples: Samples) -> float:
    """The root mean square of samples."""
    return float(np.sqrt(np.square(samples.astype(np.float64)).mean())) if len(samples) else 0.0


def with_noise(samples: Samples, noise: float | None, of: float) -> Samples:
    """Samples with a noise that is so many dB below the loudness `of`; the same noise each time."""
    if noise is None:
        return samples
    heard = samples + np.random.default_rng(_NOISE_SEED).normal(0, of / 10 ** (noise / 20), len(samples))
    return np.clip(heard, -32768, 32767).astype(np.int16)


async def hear(
    ears: stt.STT[Any], voice: tts.TTS[Any], said: Iterable[Sentence] | None = None, *, noise: float | None = None
) -> Heard:
    """Have a voice say sentences and a recogniser hear them.

    Args:
        ears: the recogniser.
        voice: the voice.
        said: the sentences; all of the file if None.
        noise: as in `spoken`.
    """
    heard = Heard()
    for sentence in sentences() if said is None else said:
        frame = await spoken(voice, sentence.text, noise=noise)
        began = time.process_time()
        event = await ears.recognize([frame])
        heard.processor += time.process_time() - began
        heard.sound += frame.duration
        heard.add(sentence, event.alternatives[0].text)
    return heard
