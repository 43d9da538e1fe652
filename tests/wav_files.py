"""WAV files of every kind, for tests, and what is in one."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


def encoded(levels: NDArray[np.float64], width: int, *, is_float: bool = False) -> bytes:
    """Levels from -1 to 1 as samples of so many bytes."""
    if is_float:
        return levels.astype(f"<f{width}").tobytes()
    if width == 1:
        return np.round(levels * 127 + 128).astype(np.uint8).tobytes()
    whole = np.round(levels * (2 ** (8 * width - 1) - 1)).astype("<i8")
    return whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def form(kind: int, channels: int, rate: int, width: int, bits: int | None = None) -> bytes:
    """The chunk that says what the samples are; an extensible one is for PCM."""
    bits = 8 * width if bits is None else bits
    data = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width % 2**32, channels * width, bits)
    if kind == EXTENSIBLE:
        data += struct.pack("<HHIH", 22, bits, 0, PCM) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    return chunk(b"fmt ", data)


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    """A chunk, of an even length; `length` is what it claims to have."""
    return name + struct.pack("<I", len(data) if length is None else length) + data + b"\0" * (len(data) % 2)


def riff(*chunks: bytes) -> bytes:
    """A whole file."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def write_wav(path: Path, samples: NDArray[np.int16], rate: int) -> Path:
    """Write the plainest kind of file."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def samples_of(path: Path) -> tuple[NDArray[np.int16], int]:
    """The samples and the rate of a mono file of 16 bits, whose header tells the right length."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        data = file.readframes(file.getnframes())
        assert len(data) == 2 * file.getnframes() == path.stat().st_size - 44
        return np.frombuffer(data, "<i2"), file.getframerate()
