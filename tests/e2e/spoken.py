"""Speech for a microphone: espeak-ng says the text where it is installed; elsewhere vowels last as long."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

from livekit import rtc

from tests.speech_sound import speech

RATE = 16_000
SECONDS_A_WORD = 0.3


@functools.cache
def spoken(text: str) -> bytes:
    """Say `text`: 16-bit samples at `RATE`, on one channel."""
    espeak = shutil.which("espeak-ng")
    if espeak is None:
        return speech(len(text.split()) * SECONDS_A_WORD, RATE).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        subprocess.run([espeak, "-w", str(path), text], check=True, timeout=30)
        with wave.open(str(path)) as file:
            rate, data = file.getframerate(), file.readframes(file.getnframes())
            assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
    resampler = rtc.AudioResampler(rate, RATE)
    return b"".join(bytes(frame.data) for frame in [*resampler.push(bytearray(data)), *resampler.flush()])
