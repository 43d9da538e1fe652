"""A call whose caller is a row of WAV files: a real session, on what `tests/speech_gateway.py` hears and says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit.agents import AgentSession

from lkmongo.console import wav_call
from lkmongo.console.sound import RATE
from lkmongo.console.text import Listener, Outcome, converse
from lkmongo.console.wav import Wav, WavError, recording
from lkmongo.console.wav_call import UnansweredError, WavCall
from lkmongo.errors import LkmongoError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from tests.speech_gateway import SPOKEN_WORD, calls, inference_gateway
from tests.speech_sound import speech
from tests.waiting import until
from tests.wav_files import samples_of, write_wav

ROBIN = UserScope(tenant_id="default", user_id="u-100")
HEARD_RATE = 24_000


def said(*seconds: float) -> np.ndarray:
    """Speech of so many seconds, silence where they are negative."""
    pieces = [speech(each, HEARD_RATE) if each > 0 else np.zeros(int(-each * HEARD_RATE), np.int16) for each in seconds]
    return np.concatenate(pieces)


@dataclass
class Call:
    """A call that is going on."""

    wav_call: WavCall
    out: Path
    task: asyncio.Task[Outcome] | None = None
    assistant: Any = None
    shown: list[Any] = field(default_factory=list)
    """Messages as (role, text), and notes."""

    def loud(self) -> float:
        """Seconds of the recording in which something is to be heard."""
        samples, rate = samples_of(self.out)
        assert rate == RATE
        return np.count_nonzero(np.abs(samples) > 1_000) / rate


@pytest.fixture
def begin(mongodb_uri, database_name, monkeypatch, tmp_path):
    # Nobody is in the middle of a word when a call here ends.
    closes_at_once = partialmethod(AgentSession.__init__, session_close_transcript_timeout=0.1)
    monkeypatch.setattr(AgentSession, "__init__", closes_at_once)

    @asynccontextmanager
    async def begin(script, texts, *files: np.ndarray, hang_up_after: Any = None) -> AsyncIterator[Call]:
        wavs = [
            Wav.read(write_wav(tmp_path / f"{number}.wav", file, HEARD_RATE))
            for number, file in enumerate(files, start=1)
        ]
        async with inference_gateway(script, texts) as gateway:
            settings = Settings.load({"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name} | gateway.environment)
            shown: list[Any] = []

            def event(event: dict[str, Any]) -> None:
                if event["type"] != "tool_output":
                    shown.append((event["role"], event["text"]) if event["type"] == "message" else event["name"])
                if shown[-1] == hang_up_after:
                    call.assistant.session.shutdown()

            async def before(_caller: Any, assistant: Any) -> None:
                call.assistant = assistant

            async def hold() -> Outcome:
                with ExitStack() as stack:
                    record = stack.enter_context(recording(tmp_path / "out.wav", wavs))
                    call.wav_call = WavCall(wavs, listener, record)
                    return await converse(
                        settings,
                        ROBIN,
                        call.wav_call.lines(),
                        call.wav_call.listener,
                        aloud=call.wav_call.open,
                        before=before,
                    )

            listener = Listener(event=event, note=shown.append, warn=shown.append, refuse=shown.append)
            call = Call(WavCall(wavs, listener), tmp_path / "out.wav", shown=shown)
            call.task = asyncio.create_task(hold())
            try:
                yield call
            finally:
                call.task.cancel()
                await asyncio.gather(call.task, return_exceptions=True)

    return begin


def conversation(call: Call) -> list[Any]:
    """Messages, tools, and which file was said when."""
    return [
        Path(each.split()[1]).name if isinstance(each, str) and each.startswith("Saying") else each
        for each in call.shown
        if not isinstance(each, str) or each.startswith(("Saying", "search"))
    ]


async def test_each_file_is_said_after_the_answer_to_the_one_before_was_heard_out_and_the_answers_are_recorded(
    begin, store
):
    script = calls(("search_memories", {"query": "guarantee"}), greeting="Hello there.")
    async with begin(script, ["How long is it?", "And now?"], said(1.5, -1.5), said(1)) as call:
        outcome = await call.task
        call.wav_call.check_answers()
    said_so = [each for each in conversation(call) if not isinstance(each, tuple) or each[0] == "user"]
    assert said_so == [
        "1.wav",
        ("user", "How long is it?"),
        "search_memories",
        "2.wav",
        ("user", "And now?"),
        "search_memories",
    ]
    answers = [text for role, text in (each for each in call.shown if isinstance(each, tuple)) if role == "assistant"]
    assert len(answers) == 3
    # Nothing was cut off: a tone of 0.3 s a word, of which two thirds are above the level that is counted.
    assert call.loud() > 0.6 * SPOKEN_WORD * len(" ".join(answers).split())
    assert (await store.sessions.get(ROBIN, outcome.session_id)).close_reason == "hang-up"


async def test_after_a_pause_within_a_file_the_answer_to_the_rest_is_waited_for(begin):
    async with begin(calls(), ["Well, let me see.", "How long is it?"], said(1, -2.5, 1)) as call:
        await call.task
        call.wav_call.check_answers()
    heard = [each[1] for each in conversation(call) if each[0] == "user"]
    assert heard == ["Well, let me see.", "How long is it?"]
    assert conversation(call)[-1] == ("assistant", "Nothing to do.")


def test_how_long_is_waited_follows_from_what_is_going_on(tmp_path):
    def show(*_: Any) -> None:
        pass

    wav = Wav.read(write_wav(tmp_path / "1.wav", said(0.1), HEARD_RATE))
    call = WavCall([wav], Listener(event=show, note=show, warn=show, refuse=show))
    live, event = call.listener.live, call.listener.event
    assert call._patience == wav_call._HUNG, "it is getting ready"
    live("state", "listening")
    assert call._patience == wav_call._IDLE, "no greeting yet"
    event({"type": "message", "role": "assistant", "text": "Hello."})
    assert call._patience == wav_call._SETTLED

    (call._turn,) = call._turns
    assert call._patience == wav_call._IDLE, "no answer yet"
    live("user_state", "speaking")
    assert call._patience == wav_call._HUNG
    live("user_state", "listening")
    live("user_state", "away")
    event({"type": "message", "role": "user", "text": "Well."})
    live("state", "thinking")
    assert call._patience == wav_call._HUNG
    event({"type": "message", "role": "assistant", "text": "Yes, what", "interrupted": True})
    live("state", "listening")
    assert call._patience == wav_call._IDLE, "the answer was cut off"
    event({"type": "message", "role": "user", "text": "How long is it?"})
    event({"type": "message", "role": "assistant", "text": "Two years."})
    assert call._patience == wav_call._SETTLED
    call.check_answers()
    live("user_state", "speaking")
    live("user_state", "listening")
    assert call._patience == wav_call._LOST, "something more was said"
    event({"type": "message", "role": "user", "text": "And now?"})
    assert call._patience == wav_call._IDLE
    with pytest.raises(UnansweredError, match="1 of 1 files"):
        call.check_answers()


async def test_a_file_with_no_words_in_it_and_one_without_an_answer_are_told(begin, monkeypatch):
    monkeypatch.setattr(wav_call, "_IDLE", 3.0)

    def script(messages):
        return [] if any(message["role"] == "user" for message in messages) else ["Hello."]

    async with begin(script, ["Is anybody there?"], said(-0.5), said(1.5)) as call:
        await call.task
        with pytest.raises(UnansweredError) as caught:
            call.wav_call.check_answers()
    assert caught.value.message == "2 of 2 files were not answered"
    first, second = caught.value.why.splitlines()
    assert first.endswith("1.wav: no words were recognised in it")
    assert second.endswith("2.wav: no answer came")
    assert call.loud() > 0.1, "the greeting"


async def test_when_the_agent_hangs_up_before_the_last_file_that_is_told(begin, store):
    async with begin(calls(), ["Goodbye."], said(1), said(1), hang_up_after=("assistant", "Nothing to do.")) as call:
        outcome = await call.task
        with pytest.raises(UnansweredError) as caught:
            call.wav_call.check_answers()
    assert outcome.failure is None
    assert caught.value.message == "1 of 2 files were not answered"
    assert caught.value.why.endswith("2.wav: the call was over before it")
    assert (await store.sessions.get(ROBIN, outcome.session_id)).close_reason == "agent"


async def test_ctrl_c_leaves_what_was_said_so_far(begin, store):
    async with begin(calls(greeting=" ".join(["word"] * 60)), [], said(1)) as call:
        await until(lambda: any(path.stat().st_size > 200_000 for path in call.out.parent.glob(".out.wav.*")))
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
    assert 0.3 < call.loud() < 60 * SPOKEN_WORD / 2
    (record,) = [document async for document in store.db.sessions.find()]
    assert (record["status"], record["close_reason"]) == ("complete", "interrupted")


async def test_a_recording_that_cannot_be_written_ends_the_call_which_is_stored(begin, store, monkeypatch):
    def full(_self, _samples):
        raise LkmongoError("out.wav cannot be written", why="No space left on device")

    monkeypatch.setattr("lkmongo.console.wav.Recording.add", full)
    async with begin(calls(), [], said(1)) as call:
        with pytest.raises(LkmongoError, match="cannot be written"):
            await call.task
    assert not call.out.exists()
    (record,) = [document async for document in store.db.sessions.find()]
    assert (record["status"], record["close_reason"]) == ("complete", "error")


async def test_a_file_that_goes_away_before_it_is_said_ends_the_call_with_its_name(begin):
    async with begin(calls(), [], said(1)) as call:
        (call.out.parent / "1.wav").unlink()
        with pytest.raises(WavError, match=r"there is no file .*1\.wav"):
            await call.task
