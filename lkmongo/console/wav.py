"""WAV files: what a caller says is read from them, and what the agent says is recorded to one."""

from __future__ import annotations

import shlex
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from livekit import rtc

from lkmongo.console.sound import RATE, RECOGNITION_RATE
from lkmongo.errors import UsageError
from lkmongo.files import Write, whole_file
from lkmongo.regular_files import open_regular

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_RATES = range(1_000, 768_001)
_MAX_CHANNELS = 64
_MAX_CHUNKS = 1_000
_BLOCK = 4_096  # samples that are read at once, of each channel
_LARGEST = 2**32 - 1
_OTHER_FORMATS = {".aac", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".webm"}
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


class WavError(UsageError):
    """This is no WAV file that can be spoken."""

    code = "bad_wav"


@dataclass(frozen=True, slots=True)
class Wav:
    """A WAV file that can be spoken; it is read as it is spoken, however large it is."""

    path: Path
    rate: int
    channels: int
    width: int
    """Bytes of a sample."""
    is_float: bool
    start: int
    """Where the sound begins, in bytes."""
    frames: int
    """Samples of each channel."""

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    @classmethod
    def read(cls, path: Path) -> Wav:
        """Read what a file is.

        A file that ends before the length in its header, as one that is still written or was piped, is taken as it is.

        Raises:
            WavError: it cannot be read, is no WAV, or has no samples, or some that are not PCM.
        """
        with _readable(path) as file:
            return _parse(path, file)

    def blocks(self) -> Iterator[bytes]:
        """Yield all of it, in pieces, in the rate and the form in which speech is recognised: mono, 16 bits.

        Raises:
            WavError: it cannot be read any more.
        """
        resampler = None if self.rate == RECOGNITION_RATE else rtc.AudioResampler(self.rate, RECOGNITION_RATE)
        left = self.frames
        with _readable(self.path) as file:
            file.seek(self.start)
            while left:
                data = file.read(min(left, _BLOCK) * self.channels * self.width)
                data = data[: len(data) - len(data) % (self.channels * self.width)]
                if not data:
                    break  # cut meanwhile
                left -= len(data) // (self.channels * self.width)
                samples = self._mono(data)
                if resampler is None:
                    yield samples
                else:
                    yield from (bytes(frame.data) for frame in resampler.push(bytearray(samples)))
        if resampler is not None:
            yield from (bytes(frame.data) for frame in resampler.flush())

    def _mono(self, data: bytes) -> bytes:
        levels: np.ndarray[Any, np.dtype[np.float64]]
        if self.is_float:
            levels = np.nan_to_num(np.frombuffer(data, f"<f{self.width}").astype(np.float64))
        elif self.width == 1:
            levels = (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
        else:
            # The most significant bytes of 32: 24 bits have no type of their own.
            wide = np.zeros((len(data) // self.width, 4), np.uint8)
            wide[:, 4 - self.width :] = np.frombuffer(data, np.uint8).reshape(-1, self.width)
            levels = wide.view("<i4")[:, 0] / 2**31
        mono = levels.reshape(-1, self.channels).mean(axis=1)
        return bytes((np.clip(mono, -1, 1) * 32_767).astype("<i2"))


@contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path, follow_links=True) as file:
            yield file
    except FileNotFoundError as error:
        raise WavError(f"there is no file {path}", hint="check the path after --wav") from error
    except OSError as error:
        raise WavError(
            f"{path} cannot be read", why=error.strerror, hint="name a WAV file that you may read"
        ) from error


def _parse(path: Path, file: BinaryIO) -> Wav:
    convert = f"convert it, for example with: ffmpeg -i {shlex.quote(str(path))} -c:a pcm_s16le -ac 1 speech.wav"
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if not head:
        raise WavError(f"{path} is empty", hint="name a WAV file with something spoken in it")
    if head[:4] != b"RIFF" or (len(head) == 12 and head[8:] != b"WAVE"):
        begins = f"{head[:4]!r} ... {head[8:]!r}" if head[:4] == b"RIFF" else f"{head[:4]!r}"
        raise WavError(f"{path} is not a WAV file", why=f"it begins with {begins}", hint=convert)
    form: bytes | None = None
    for _ in range(_MAX_CHUNKS):
        if len(head := file.read(8)) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        if name == b"data" and form is not None:
            return _checked(path, form, file.tell(), min(length, size - file.tell()), convert)
        if name == b"fmt ":
            form = file.read(min(length, 40))
            length -= len(form)
        file.seek(length + length % 2, 1)
    missing = "the samples" if form is not None else "a description of the samples"
    raise WavError(f"{path} ends before {missing}", why="it is cut off", hint="record or copy it once more")


def _checked(path: Path, form: bytes, start: int, size: int, convert: str) -> Wav:
    if len(form) < 16:
        raise WavError(f"{path} has a damaged header", hint="record or copy it once more")
    kind, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", form[:16])
    if kind == _EXTENSIBLE and len(form) >= 26:
        (kind,) = struct.unpack("<H", form[24:26])
    width = (bits + 7) // 8
    if width not in {_PCM: {1, 2, 3, 4}, _FLOAT: {4, 8}}.get(kind, set()):
        what = {_PCM: f"PCM of {bits} bits", _FLOAT: f"floating point of {bits} bits", 6: "A-law", 7: "mu-law"}
        raise WavError(
            f"{path} has samples of a kind that is not read",
            why=f"they are {what.get(kind, f'of format {kind}')}, not PCM of 8 to 32 bits or floating point",
            hint=convert,
        )
    if rate not in _RATES or not 1 <= channels <= _MAX_CHANNELS or frame != channels * width:
        raise WavError(
            f"{path} has a header that cannot be right",
            why=f"{rate} samples a second, {channels} channels, {frame} bytes for a sample of each",
            hint="record or copy it once more",
        )
    if size < frame:
        raise WavError(f"{path} has no sound in it", hint="name a WAV file with something spoken in it")
    return Wav(path, rate, channels, width, kind == _FLOAT, start, size // frame)


class Recording:
    """A WAV file that is written as it is heard: mono, 16 bits, 48 kHz."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._size = 0
        self.is_silent = True
        """Whether nothing was to be heard so far."""
        self.is_broken = False
        """Whether something could not be written."""
        self.is_finished = False
        write(_header(_LARGEST))

    @property
    def seconds(self) -> float:
        return self._size / (2 * RATE)

    def add(self, samples: bytes) -> None:
        """Add samples. Raises LkmongoError if they cannot be written."""
        self.is_broken = True
        self._write(samples)
        self.is_broken = False
        self._size += len(samples)
        self.is_silent = self.is_silent and not samples.strip(b"\0")

    def finish(self) -> None:
        """Put the length into the header."""
        self._write(_header(self._size), at=0)
        self.is_finished = True


@contextmanager
def recording(path: Path, wavs: Sequence[Wav]) -> Iterator[Recording]:
    """Record to a file, which is there when the block ends, replacing what was there, however the block ends.

    If nothing was to be heard when the block fails, or the file cannot be written, what was there before stays.

    Raises:
        UsageError: nothing can be written there, or it is one of `wavs`.
        LkmongoError: writing failed, for instance because the disk is full.
    """
    if path == Path("-"):
        raise UsageError("a recording cannot go to standard output", hint="name a file after --record")
    if path.suffix.lower() in _OTHER_FORMATS:
        raise UsageError(
            f"{path} has the ending of another format, and a recording is a WAV file",
            hint=f"name it {path.with_suffix('.wav')}",
        )
    for wav in wavs:
        if path.exists() and path.samefile(wav.path):
            raise UsageError(
                f"{path} is both what is spoken and what is recorded", hint="name another file after --record"
            )
    failure: BaseException | None = None
    with whole_file(path) as write:
        made = Recording(write)
        try:
            yield made
        except BaseException as error:
            if made.is_silent or made.is_broken:
                raise
            failure = error
        made.finish()
    if failure:
        raise failure


def _header(size: int) -> bytes:
    size = min(size, _LARGEST - _HEADER.size)
    form = (16, _PCM, 1, RATE, 2 * RATE, 2, 16)
    return _HEADER.pack(b"RIFF", size + _HEADER.size - 8, b"WAVE", b"fmt ", *form, b"data", size)
