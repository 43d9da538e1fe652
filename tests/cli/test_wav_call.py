"""A call whose caller is a WAV file, as a user makes one; with local speech it needs no account and no device."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pexpect
import pytest

from lkmongo.console.sound import RECOGNITION_RATE
from lkmongo.console.wav import Wav
from lkmongo.errors import ExitCode
from lkmongo.speech.local import why_not_local
from tests.speech_gateway import calls, inference_gateway
from tests.speech_sound import speech
from tests.waiting import until
from tests.wav_files import samples_of, write_wav

HEARD_RATE = 24_000


@pytest.fixture
def hello(tmp_path) -> str:
    """Something that a voice activity detector takes for speech."""
    return str(write_wav(tmp_path / "hello.wav", speech(1.5, HEARD_RATE), HEARD_RATE))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--record", "out.wav"], "--record needs --wav"),
        (["--wav", "hello.wav", "--script", "said.txt"], "--wav excludes --script"),
        (["--wav", "hello.wav", "--input-device", "2"], "--wav excludes --script, --input-device"),
        (["--voice", "--wav", "hello.wav", "--output-device", "2"], "--wav excludes --script"),
        (["--wav", "hello.wav", "--guest", "--user", "u-100"], "--guest and --user exclude each other"),
    ],
)
def test_what_goes_not_together_is_told(run_inside, options, what):
    result = run_inside("agent", "console", *options)
    assert (result.code, result.stdout) == (2, "")
    assert what in result.stderr
    assert "  try: " in result.stderr


def test_before_anything_begins_each_file_is_looked_at(run_inside, hello, tmp_path):
    (tmp_path / "song.wav").write_bytes(b"ID3\4 an MP3")
    for options, what in {
        ("--wav", hello, "--wav", str(tmp_path / "song.wav")): "song.wav is not a WAV file",
        ("--wav", str(tmp_path / "nothing.wav")): "there is no file",
        ("--wav", str(tmp_path)): "cannot be read",
        ("--wav", hello, "--record", hello): "is both what is spoken and what is recorded",
        ("--wav", hello, "--record", str(tmp_path / "no" / "out.wav")): "there is no folder",
    }.items():
        result = run_inside("agent", "console", *options, env={"LKMONGO_SPEECH": "inference"} | GATEWAY)
        assert (result.code, result.stdout) == (2, ""), what
        assert what in result.stderr
        assert "  try: " in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello.wav", "song.wav"]


GATEWAY = {
    "LIVEKIT_INFERENCE_URL": "http://127.0.0.1:1/v1",
    "LIVEKIT_INFERENCE_API_KEY": "key",
    "LIVEKIT_INFERENCE_API_SECRET": "secret-0123456789-0123456789-0123456789",
}


def test_without_speech_it_says_why_and_what_to_do(run_inside, hello):
    result = run_inside("agent", "console", "--wav", hello, env={"LKMONGO_SPEECH": "off"})
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "error: speech is not available",
        "  why: LKMONGO_SPEECH is off",
        "  try: unset LKMONGO_SPEECH",
    ]


def test_at_a_terminal_nothing_is_typed_instead(at_terminal, hello):
    child = at_terminal("agent", "console", "--wav", hello, env={"LKMONGO_SPEECH": "off"})
    child.expect("try: unset LKMONGO_SPEECH")
    child.expect(pexpect.EOF)
    assert "in text" not in child.before
    child.close()
    assert child.exitstatus == ExitCode.USAGE


async def test_ctrl_c_in_the_middle_of_an_answer_leaves_a_wav_of_what_was_said(start, hello, tmp_path):
    out = tmp_path / "out.wav"
    async with inference_gateway(calls(greeting=" ".join(["word"] * 60))) as gateway:
        arguments = ["agent", "console", "--user", "u-100", "--wav", hello, "--record", str(out)]
        process = await asyncio.to_thread(start, *arguments, env=gateway.environment)
        with process:
            told = asyncio.create_task(asyncio.to_thread(process.communicate))
            await until(lambda: any(path.stat().st_size > 300_000 for path in tmp_path.glob(".out.wav.*.part")))
            process.send_signal(2)
            _, errors = await told
    assert process.returncode == ExitCode.INTERRUPTED, errors
    assert f"{out} holds what the agent said" in errors.decode()
    samples, _ = samples_of(out)
    assert np.abs(samples).max() > 1_000
    assert not list(tmp_path.glob(".out.wav.*"))


async def test_who_reads_no_further_ends_the_call_and_has_the_recording(start, hello, tmp_path):
    out = tmp_path / "out.wav"

    def read_one_line(process) -> bytes:
        line = process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.wait()
        return line + errors

    async with inference_gateway(calls(greeting="Hello there."), ["Is anybody there?"]) as gateway:
        arguments = ["agent", "console", "--user", "u-100", "--wav", hello, "--record", str(out)]
        process = await asyncio.to_thread(start, *arguments, env=gateway.environment)
        with process:
            told = (await asyncio.to_thread(read_one_line, process)).decode()
    assert told.startswith("agent> Hello there.\n")
    assert "Broken" not in told
    assert f"{out} holds what the agent said" in told
    assert process.returncode == 0
    assert np.abs(samples_of(out)[0]).max() > 1_000


async def test_a_file_that_is_not_answered_is_an_error_and_the_rest_is_recorded(run, hello, tmp_path):
    def script(messages):
        return [] if any(message["role"] == "user" for message in messages) else ["Hello there."]

    async with inference_gateway(script, ["Is anybody there?"]) as gateway:
        result = await asyncio.to_thread(
            run, "agent", "console", "--wav", hello, "--record", "out.wav", "--json", env=gateway.environment
        )
    assert result.code == ExitCode.FAILED
    assert '"code": "unanswered"' in result.stderr
    assert "hello.wav: no answer came" in result.stderr
    assert [event.get("text") for event in result.events] == ["Hello there.", "Is anybody there?"]
    assert np.abs(samples_of(tmp_path / "out.wav")[0]).max() > 1_000


# ------------------------------------------------------------------ aloud with nothing

local = pytest.mark.skipif(bool(why_not_local()), reason=str(why_not_local()))


async def spoken(path: Path, text: str) -> str:
    """A file in which the voice of this machine says `text`."""
    from lkmongo.speech.voice import LocalTTS

    frame = await LocalTTS().synthesize(text).collect()
    return str(write_wav(path, np.frombuffer(frame.data, np.int16), frame.sample_rate))


async def transcript(path: Path) -> str:
    """What the recogniser of this machine hears in a file."""
    from livekit import rtc
    from livekit.agents import stt

    from lkmongo.speech.recogniser import LocalSTT

    stream = LocalSTT().stream()
    for samples in (*Wav.read(path).blocks(), bytes(2 * RECOGNITION_RATE)):
        stream.push_frame(rtc.AudioFrame(samples, RECOGNITION_RATE, 1, len(samples) // 2))
    stream.end_input()
    return " ".join(
        [event.alternatives[0].text async for event in stream if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT]
    )


@local
async def test_with_no_account_and_no_device_it_hears_answers_aloud_and_remembers(run, tmp_path):
    async def call(said: str, name: str) -> tuple[list[str], str]:
        hello, out = await spoken(tmp_path / f"{name}.wav", said), tmp_path / f"{name}-out.wav"
        done = await asyncio.to_thread(run, "agent", "console", "--wav", hello, "--record", str(out), "--json")
        assert done.code == 0, done.stderr
        assert "Speech recognition and voice: the engines on this machine" in done.stderr
        return done.answers, await transcript(out)

    answers, aloud = await call("My name is Robin.", "hello")
    assert len(answers) == 2
    assert "Robin" not in answers[0]
    assert "Your name is Robin" in answers[1]
    assert "your name is robin" in aloud.lower()

    answers, aloud = await call("What is my name?", "again")
    assert "Robin" in answers[-1]
    assert aloud.lower().count("robin") == sum(answer.count("Robin") for answer in answers), aloud


@local
def test_a_tenant_with_another_language_is_told_that_this_machine_knows_english_only(run, hello, tmp_path):
    (tmp_path / "tenants.yaml").write_text("default:\n  language: de\n")
    out = tmp_path / "out.wav"
    result = run(
        "agent",
        "console",
        "--wav",
        hello,
        "--record",
        str(out),
        env={"LKMONGO_TENANTS": str(tmp_path / "tenants.yaml")},
    )
    assert (result.code, result.stdout) == (2, "")
    assert "error: speech is not available" in result.stderr
    assert "only know English, and the tenant's language is de" in result.stderr
    assert "  try: set LIVEKIT_URL" in result.stderr
    assert not out.exists()
