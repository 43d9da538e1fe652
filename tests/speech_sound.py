"""A sound that a voice activity detector takes for somebody who speaks, for tests: no recording, no synthesiser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 24_000
_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240), (530, 1840, 2480))


def speech(seconds: float, rate: int = RATE) -> NDArray[np.int16]:
    """Syllables of a male voice: a train of pulses through the formants of vowels, four vowels a second."""
    count = int(seconds * rate)
    times = np.arange(count) / rate
    pitch = 115 + 12 * np.sin(2 * np.pi * 2.3 * times)
    phase = np.cumsum(pitch / rate)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    noise = np.random.default_rng(7).normal(0, 0.01, count)
    sound = np.zeros(count)
    for number, start in enumerate(range(0, count, rate // 4)):
        piece = slice(start, min(start + rate // 4, count))
        for frequency in _VOWELS[number % len(_VOWELS)]:
            sound[piece] += _resonance((pulses + noise)[piece], frequency, rate)
    sound *= 0.55 + 0.45 * np.sin(2 * np.pi * 4 * times - np.pi / 2)
    return (sound / np.abs(sound).max() * 0.6 * 32767).astype(np.int16)


def _resonance(signal: NDArray[np.float64], frequency: float, rate: int) -> NDArray[np.float64]:
    width = np.exp(-np.pi * 90 / rate)
    a, b = 2 * width * np.cos(2 * np.pi * frequency / rate), -(width**2)
    out = np.zeros(len(signal) + 2)
    for place, value in enumerate(signal):
        out[place + 2] = value + a * out[place + 1] + b * out[place]
    return out[2:]
