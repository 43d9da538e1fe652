"""Whole calls aloud without any cloud: a real LiveKit server, and the engines of this machine on both sides."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from contextlib import suppress

import psutil
import pytest
import pytest_asyncio
from livekit import rtc

from lkmongo.model import UserScope
from lkmongo.speech.local import why_not_local
from tests.e2e.caller import Caller
from tests.e2e.records import completed
from tests.e2e.spoken import RATE

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(why_not_local() is not None, reason=f"no speech on this machine: {why_not_local()}"),
]
logger = logging.getLogger("e2e")

AGENT = "local-voice"
TRIES = 5
"""How often something is said until it counts as not being understood."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def local_worker(start_worker, records):
    """A worker that has nothing but this machine."""
    async with start_worker(AGENT, {"LKMONGO_SPEECH": "auto"}, "--demo", "--max-calls", "1") as running:
        yield running


class Ears:
    """Records what a client hears, and recognises it with the engine that the agent has, too."""

    def __init__(self, caller: Caller) -> None:
        self._heard: list[rtc.AudioFrame] = []
        self._tasks: set[asyncio.Task[None]] = set()
        for participant in caller.room.remote_participants.values():
            for publication in participant.track_publications.values():
                if publication.track:
                    self._listen(publication.track)
        caller.room.on("track_subscribed", lambda track, *_: self._listen(track))

    def _listen(self, track: rtc.Track) -> None:
        self._tasks.add(asyncio.create_task(self._record(track)))

    async def _record(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                self._heard.append(event.frame)
        finally:
            await stream.aclose()

    def clear(self) -> None:
        self._heard.clear()

    async def understood(self) -> str:
        """What was heard, in words."""
        from lkmongo.speech.recogniser import LocalSTT

        event = await LocalSTT().recognize(list(self._heard))
        text = event.alternatives[0].text if event.alternatives else ""
        logger.info("heard: %s", text)
        return text.lower()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def voiced(text: str) -> bytes:
    """`text` in the voice of this machine, as a microphone takes it."""
    from lkmongo.speech.voice import LocalTTS

    resampler, sound = None, b""
    async with LocalTTS().synthesize(text) as stream:
        async for audio in stream:
            resampler = resampler or rtc.AudioResampler(audio.frame.sample_rate, RATE)
            sound += b"".join(bytes(frame.data) for frame in resampler.push(audio.frame))
    return sound


def strangers(pid: int) -> list[str]:
    """The connections of a process and all that it has started to anywhere but this machine."""
    found = []
    worker = psutil.Process(pid)
    for process in [worker, *worker.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found += [
                f"{process.name()}: {each.raddr.ip}:{each.raddr.port}"
                for each in process.net_connections("inet")
                if each.raddr and not ipaddress.ip_address(each.raddr.ip).is_loopback
            ]
    return found


async def says(caller: Caller, text: str, answer: str) -> str:
    """Speak in the voice of this machine until the agent has answered so, and return that; as people repeat themselves.

    On a machine that has more to do than it can, sound is late, and words are lost.
    """
    sound = await voiced(text)
    for _ in range(TRIES):
        before = len(caller.said())
        caller.speak(sound)
        logger.info("%s says: %s", caller.identity, text)
        await caller.until(lambda: len(caller.said()) > before and caller.agent_state == "listening")  # noqa: B023
        if found := next((line for line in caller.said()[before:] if answer in line), None):
            return found
    pytest.fail(f"{text!r} was never understood: {caller.lines}")


async def test_a_call_is_heard_and_answered_by_this_machine_alone_and_the_next_one_greets_by_name(
    local_worker, records, call
):
    who = UserScope(tenant_id="alone", user_id="u-100")
    assert "callers are heard and answered aloud: the engines on this machine (English)" in local_worker.log
    seen: set[str] = set()

    async def watch() -> None:
        while True:
            seen.update(strangers(local_worker.process.pid))
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    async with call(who=who, agent_name=AGENT, microphone=True) as caller:
        ears = Ears(caller)
        session_id = await caller.room.sid
        await caller.reads("Hello", "Hi")
        assert caller.loud, "the greeting was not heard"
        # A name is written as it was heard.
        name = (await says(caller, "My name is Robin.", "Your name is ")).rpartition(" is ")[2].strip(".")
        ears.clear()
        answer = await says(caller, "Remember that my favorite color is blue.", "favorite color: blue")
        assert "blue" in await ears.understood(), f"the answer was not spoken: {answer}"
        assert any("blue" in line for line in caller.said(caller.identity))
        await ears.close()
        await caller.hang_up()
    record, turns = await completed(records, who, session_id)
    assert record.close_reason == "hang-up"
    assert {turn.name for turn in turns if turn.name} >= {"update_profile", "remember_detail"}

    async with call(who=who, agent_name=AGENT, microphone=True) as caller:
        ears = Ears(caller)
        assert name in await caller.reads("Hello", "Hi", "Welcome")
        assert await ears.understood()
        await ears.close()
        await caller.hang_up()
    watching.cancel()
    await asyncio.wait([watching])
    assert watching.cancelled()
    assert seen == set()


async def test_who_speaks_another_language_is_answered_in_writing(start_worker, records, call, tmp_path):
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text("tenants:\n  hof:\n    language: de\n", encoding="utf-8")
    who = UserScope(tenant_id="hof", user_id="u-100")
    environment = {"LKMONGO_SPEECH": "local", "LKMONGO_TENANTS": str(tenants)}
    async with start_worker("german", environment, "--demo", "--max-calls", "1") as running:
        async with call(who=who, agent_name="german", microphone=True) as caller:
            await caller.reads("Hello", "Hi")
            assert not caller.agent.track_publications
            await caller.type("My name is Robin.")
            await caller.reads("Your name is Robin")
            await caller.hang_up()
        await running.logs("this caller can only type, because the engines on this machine only know English")
