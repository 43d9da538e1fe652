"""WAV files of every kind are spoken as they sound, or refused in a sentence; what is recorded, any program reads."""

from __future__ import annotations

import asyncio
import os
import resource
import stat
import struct
import subprocess
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lkmongo.console.sound import RATE, RECOGNITION_RATE
from lkmongo.console.wav import Wav, WavError, recording
from lkmongo.errors import ExitCode, UsageError
from tests.wav_files import EXTENSIBLE, FLOAT, PCM, chunk, encoded, form, riff, samples_of, write_wav

PITCH = 440.0


def tone(rate: int, channels: int = 1, seconds: float = 0.5) -> np.ndarray:
    """The levels of a tone, on each channel."""
    one = 0.5 * np.sin(2 * np.pi * PITCH * np.arange(int(rate * seconds)) / rate)
    return np.repeat(one, channels)


def heard(wav: Wav) -> np.ndarray:
    return np.frombuffer(b"".join(wav.blocks()), np.int16) / 32_767


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("kind", "width"), [(PCM, 1), (PCM, 2), (PCM, 3), (PCM, 4), (FLOAT, 4), (FLOAT, 8), (EXTENSIBLE, 3)]
)
def test_every_kind_of_sample_rate_width_and_channels_is_heard_as_it_sounds(tmp_path, kind, width, rate, channels):
    path = tmp_path / "tone.wav"
    data = encoded(tone(rate, channels), width, is_float=kind == FLOAT)
    path.write_bytes(riff(chunk(b"LIST", b"odd"), form(kind, channels, rate, width), chunk(b"data", data), b"tail"))
    wav = Wav.read(path)
    assert wav.seconds == pytest.approx(0.5, abs=0.001)
    levels = heard(wav)
    assert len(levels) == pytest.approx(RECOGNITION_RATE / 2, abs=RECOGNITION_RATE * 0.01)
    middle = levels[1_000:-1_000]  # a resampler fades in and out
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * RECOGNITION_RATE / len(middle) == pytest.approx(PITCH, abs=5)
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.03)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), abs=0.02)


def test_channels_are_mixed_and_what_is_too_loud_or_no_number_is_cut(tmp_path):
    path = tmp_path / "odd.wav"
    levels = np.array([1.0, 0.0, 4.0, 4.0, -9.0, -9.0, np.nan, np.inf])
    path.write_bytes(riff(form(FLOAT, 2, RECOGNITION_RATE, 4), chunk(b"data", levels.astype("<f4").tobytes())))
    assert heard(Wav.read(path)) == pytest.approx([0.5, 1.0, -1.0, 1.0], abs=0.001)


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 40_000])
def test_a_file_that_was_piped_or_is_cut_off_is_taken_as_it_is(tmp_path, length):
    path = tmp_path / "cut.wav"
    data = encoded(tone(RECOGNITION_RATE), 2)
    path.write_bytes(riff(form(PCM, 1, RECOGNITION_RATE, 2), chunk(b"data", data, length)) + b"\1")
    wav = Wav.read(path)
    assert (wav.frames, len(heard(wav))) == (RECOGNITION_RATE // 2, RECOGNITION_RATE // 2)
    path.write_bytes(path.read_bytes()[:10_045])
    assert len(heard(wav)) == 5_000  # meanwhile


GOOD = form(PCM, 1, RECOGNITION_RATE, 2)
DATA = chunk(b"data", bytes(64))

REFUSED = [
    ("is empty", b""),
    ("is not a WAV file", b"ID3\4\0\0\0\0\0\x23TSSE an MP3"),
    ("begins with b'RIFX'", b"RIFX" + riff(GOOD, DATA)[4:]),
    ("begins with b'RIFF' ... b'AVI '", b"RIFF\0\0\0\0AVI LIST"),
    ("ends before a description of the samples", riff(DATA)),
    ("ends before a description of the samples", riff(GOOD)[:16]),
    ("ends before the samples", riff(GOOD)),
    ("ends before the samples", riff(GOOD) + bytes(100_000)),
    ("has a damaged header", riff(chunk(b"fmt ", b"\1\0\1\0"), DATA)),
    ("they are mu-law", riff(form(7, 1, 8_000, 1), DATA)),
    ("they are A-law", riff(form(6, 1, 8_000, 1), DATA)),
    ("they are of format 85", riff(form(85, 1, 44_100, 2), DATA)),
    ("PCM of 64 bits", riff(form(PCM, 1, 44_100, 8), DATA)),
    ("PCM of 0 bits", riff(form(PCM, 1, 44_100, 2, bits=0), DATA)),
    ("floating point of 16 bits", riff(form(FLOAT, 1, 44_100, 2), DATA)),
    ("0 samples a second", riff(form(PCM, 1, 0, 2), DATA)),
    ("4000000000 samples a second", riff(form(PCM, 1, 4_000_000_000, 2), DATA)),
    ("0 channels", riff(form(PCM, 0, 44_100, 2), DATA)),
    ("65 channels", riff(form(PCM, 65, 8_000, 1), DATA)),
    ("has no sound in it", riff(GOOD, chunk(b"data", b""))),
    ("has no sound in it", riff(GOOD, chunk(b"data", b"\0", 2**32 - 1))[:-1]),
]


@pytest.mark.parametrize(("what", "data"), REFUSED)
def test_what_is_no_wav_that_can_be_spoken_is_refused_with_its_name_and_what_to_do(tmp_path, what, data):
    path = tmp_path / "speech.wav"
    path.write_bytes(data)
    with pytest.raises(WavError) as caught:
        Wav.read(path)
    assert str(path) in caught.value.message
    assert what in f"{caught.value.message} {caught.value.why}"
    assert caught.value.hint
    assert caught.value.exit_code is ExitCode.USAGE


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, what in {"nothing": "there is no file", "pipe": "cannot be read", ".": "cannot be read"}.items():
        with pytest.raises(WavError, match=what) as caught:
            Wav.read(tmp_path / name)
        assert caught.value.hint


def test_a_huge_file_is_read_as_it_is_spoken(tmp_path):
    path = tmp_path / "huge.wav"
    head = riff(form(PCM, 2, 48_000, 4), chunk(b"data", b"", 2**32 - 1))
    with path.open("wb") as file:
        file.write(head)
        file.truncate(3 * 2**30)  # a file with a hole: it takes no room
    wav = Wav.read(path)
    assert wav.seconds > 8_000
    next(wav.blocks())  # which imports and sets up what it needs
    tracemalloc.start()
    try:
        assert sum(map(len, islice(wav.blocks(), 200))) > 0
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------ the recording

SOUND = encoded(tone(RATE, seconds=0.25), 2)


def test_a_recording_is_a_wav_that_any_program_reads_and_its_owner_alone(tmp_path):
    path = tmp_path / "out.wav"
    path.write_text("of yesterday")
    with recording(path, []) as made:
        made.add(SOUND)
        assert path.read_text() == "of yesterday"
        made.add(SOUND)
    samples, rate = samples_of(path)
    assert (rate, samples.tobytes(), made.seconds) == (RATE, 2 * SOUND, 0.5)
    assert struct.unpack("<I", path.read_bytes()[4:8])[0] == path.stat().st_size - 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert Wav.read(path).seconds == 0.5


@pytest.mark.parametrize("failure", [KeyboardInterrupt, asyncio.CancelledError, RuntimeError, BrokenPipeError])
def test_whatever_ends_it_what_was_said_so_far_is_there(tmp_path, failure):
    path = tmp_path / "out.wav"
    with pytest.raises(failure), recording(path, []) as made:  # noqa: PT012
        made.add(bytes(960) + SOUND)
        raise failure
    assert samples_of(path)[0].tobytes() == bytes(960) + SOUND
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_anything_was_said_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.wav"
    path.write_text("of yesterday")
    with pytest.raises(KeyboardInterrupt), recording(path, []) as made:  # noqa: PT012
        made.add(bytes(960))
        raise KeyboardInterrupt
    assert path.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_is_told_and_what_was_there_stays(tmp_path):
    path = tmp_path / "out.wav"
    path.write_text("old")
    script = (
        "import sys\nfrom pathlib import Path\nfrom lkmongo.errors import LkmongoError\n"
        "from lkmongo.console.wav import recording\n"
        "try:\n    with recording(Path(sys.argv[1]), []) as made:\n        made.add(b'\\1' * 2_000)\n"
        "        made.add(b'\\1' * 9_000)\n"
        "except LkmongoError as error:\n    print(error.message, error.why, made.is_finished, sep='|')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096)),
    )
    assert done.stdout.strip() == f"{path} cannot be written|File too large|False"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_recorded_it_is_told_before_anything_is_said(tmp_path):
    said = write_wav(tmp_path / "in.wav", np.ones(100, np.int16), 8_000)
    (tmp_path / "linked.wav").hardlink_to(said)
    (tmp_path / "link.wav").symlink_to("elsewhere")
    places: dict[Path, str] = {
        said: "is both what is spoken and what is recorded",
        tmp_path / "linked.wav": "is both",
        Path("-"): "cannot go to standard output",
        tmp_path / "out.mp3": "has the ending of another format",
        tmp_path / "no" / "out.wav": "there is no folder",
        tmp_path / "link.wav": "is a symbolic link",
        tmp_path: "is a folder",
        Path("/dev/null"): "is not a regular file",
    }
    before = said.read_bytes()
    for place, what in places.items():
        with pytest.raises(UsageError, match=what) as caught, recording(place, [Wav.read(said)]):
            raise AssertionError(place)
        assert caught.value.hint
    assert said.read_bytes() == before
