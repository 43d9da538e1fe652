"""The spoken console: a real session with the bundled voice activity and turn detection, on audio from memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partialmethod
from typing import Any

import pytest
from livekit.agents import AgentSession

from lkmongo.console.devices import AudioError
from lkmongo.console.lines import Line, Switch
from lkmongo.console.text import Listener, Outcome, converse
from lkmongo.errors import ExitCode
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from tests.memory_sound import MemorySound
from tests.speech_gateway import Gateway, calls, inference_gateway
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
LONG = " ".join(["word"] * 40)


@dataclass
class Person:
    """Who talks: what they type, and what they are shown."""

    sound: MemorySound
    gateway: Gateway
    shown: list[dict[str, Any]] = field(default_factory=list)
    live: list[tuple[str, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    typed: asyncio.Queue[Line | Switch | None] = field(default_factory=asyncio.Queue)
    outcome: Outcome | None = None

    async def lines(self) -> AsyncIterator[Line | Switch]:
        while (item := await self.typed.get()) is not None:
            yield item

    def messages(self, role: str) -> list[dict[str, Any]]:
        return [event for event in self.shown if event["type"] == "message" and event["role"] == role]

    def is_saying(self, text: str) -> bool:
        """Whether it was shown, while it was spoken, that the agent says `text`."""
        return any(who == "assistant" and text in said for who, said in self.live)


@pytest.fixture
def begin(mongodb_uri, database_name, monkeypatch):
    # Nobody is in the middle of a word when a call here ends.
    closes_at_once = partialmethod(AgentSession.__init__, session_close_transcript_timeout=0.1)
    monkeypatch.setattr(AgentSession, "__init__", closes_at_once)

    @asynccontextmanager
    async def begin(script, texts=(), refused=(), aloud=None) -> AsyncIterator[tuple[Person, asyncio.Task[Outcome]]]:
        async with inference_gateway(script, texts) as gateway:
            gateway.refused |= set(refused)
            settings = Settings.load({"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name} | gateway.environment)
            person = Person(MemorySound(), gateway)
            listener = Listener(
                event=person.shown.append,
                note=person.told.append,
                warn=person.told.append,
                refuse=lambda error: person.told.append(error.message),
                live=lambda who, text: person.live.append((who, text)),
            )
            talk = asyncio.create_task(
                converse(settings, ROBIN, person.lines(), listener, aloud=aloud or person.sound.open)
            )
            try:
                yield person, talk
            finally:
                talk.cancel()
                await asyncio.gather(talk, return_exceptions=True)

    return begin


async def stored(store, outcome):
    record = await store.sessions.get(ROBIN, outcome.session_id)
    return record, await store.sessions.turns(ROBIN, outcome.session_id)


async def test_a_spoken_question_is_transcribed_answered_aloud_and_an_answer_can_be_interrupted(begin, store):
    def script(messages):
        if not any(message["role"] == "user" for message in messages):
            return ["Hello."]
        if messages[-1]["role"] == "tool":
            return [LONG]
        return [("search_memories", {"query": "guarantee"})]

    async with begin(script, ["How long is the guarantee?", "Stop please, that is enough."]) as (person, talk):
        await until(lambda: person.messages("assistant"))
        assert person.messages("assistant") == [{"type": "message", "role": "assistant", "text": "Hello."}]
        assert person.sound.loud

        person.sound.say()
        await until(lambda: person.messages("user"))
        spoken = [text for who, text in person.live if who == "user"]
        assert spoken[0] == "How"
        assert spoken[-1] == person.messages("user")[0]["text"] == "How long is the guarantee?"
        assert ("state", "thinking") in person.live
        await until(lambda: person.is_saying("word word word word"))
        assert [event["name"] for event in person.shown if event["type"] == "tool_call"] == ["search_memories"]

        person.sound.say()
        await until(lambda: len(person.messages("assistant")) == 2)
        cut = person.messages("assistant")[1]
        assert cut["interrupted"]
        assert 3 < cut["text"].count("word") < 40
        await until(lambda: len(person.messages("user")) == 2)
        assert person.messages("user")[1]["text"] == "Stop please, that is enough."
        person.typed.put_nowait(Switch.HANG_UP)
        outcome = await talk
    record, turns = await stored(store, outcome)
    assert (record.status, record.close_reason) == ("complete", "hang-up")
    assert [(turn.role or turn.name, turn.interrupted) for turn in turns][:4] == [
        ("assistant", False),
        ("user", False),
        ("search_memories", False),
        ("assistant", True),
    ]


async def test_typing_mutes_microphone_and_loudspeaker(begin, store):
    async with begin(calls(greeting=LONG), ["This is aloud."]) as (person, talk):
        await until(lambda: person.is_saying("word word"))
        person.typed.put_nowait(Switch.TYPE)
        await until(lambda: person.messages("assistant"))
        assert person.messages("assistant")[0]["interrupted"]
        await asyncio.sleep(0.3)  # what was on its way to the loudspeaker
        person.sound.loud.clear()

        person.typed.put_nowait(Line(1, "I type this"))
        await until(lambda: len(person.messages("assistant")) == 2)
        assert person.messages("user")[-1]["text"] == "I type this"
        assert person.messages("assistant")[1]["text"] == "Nothing to do."
        person.sound.say()
        await until(lambda: not person.sound.left)
        await asyncio.sleep(1)  # the pause by which the end of an utterance is known
        assert person.gateway.heard == person.sound.loud == []

        person.typed.put_nowait(Switch.TALK)
        await until(person.typed.empty)
        person.sound.say()
        await until(lambda: len(person.messages("assistant")) == 3)
        assert person.gateway.heard == ["This is aloud."]
        assert person.sound.loud
        person.typed.put_nowait(Switch.HANG_UP)
        outcome = await talk
    assert (await stored(store, outcome))[0].close_reason == "hang-up"


async def test_lines_that_are_piped_in_are_answered_aloud_to_the_last_word(begin, store):
    async with begin(calls(greeting="Hello there.")) as (person, talk):
        for item in (Line(1, "what is there to do"), None):
            person.typed.put_nowait(item)
        outcome = await talk
        assert [message["text"] for message in person.messages("assistant")] == ["Hello there.", "Nothing to do."]
        assert not any(message.get("interrupted") for message in person.shown)
        assert len(person.sound.loud) > 100  # five words of 0.3 s, ten milliseconds each
    assert (await stored(store, outcome))[0].close_reason == "hang-up"


async def test_refused_credentials_end_the_session_with_an_error(begin, store):
    async with begin(calls(), refused={"stt"}) as (person, talk):
        outcome = await talk
    assert outcome.failure.exit_code is ExitCode.AUTHENTICATION
    assert outcome.failure.message == "speech recognition refuses the credentials"
    assert any("speech recognition does not answer" in text for text in person.told)
    assert (await stored(store, outcome))[0].close_reason == "error"


async def test_a_device_that_cannot_be_opened_is_an_error_and_nothing_is_recorded(begin, store):
    @asynccontextmanager
    async def open_busy() -> AsyncIterator[None]:
        raise AudioError("the microphone headset cannot be opened")
        yield

    async with begin(calls(), aloud=open_busy) as (_, talk):
        with pytest.raises(AudioError):
            await talk
    assert await store.db.sessions.count_documents({}) == 0


async def test_an_interrupted_session_is_stored_as_such(begin, store):
    async with begin(calls(greeting=LONG)) as (person, talk):
        await until(lambda: person.sound.loud)
        talk.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talk
    (call,) = [document async for document in store.db.sessions.find()]
    assert (call["status"], call["close_reason"]) == ("complete", "interrupted")
