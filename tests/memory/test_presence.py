"""Who is there, who has fallen silent, and who has been replaced."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents import AgentSession

from lkmongo import deadlines
from lkmongo.memory.presence import Presence

CODE = rtc.RpcError.ErrorCode
SOMEBODY = SimpleNamespace(identity="caller-1", kind=rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD, attributes={})


class Room(SimpleNamespace):
    """A client is in it, whose media connection does not stand yet."""

    def __init__(self):
        self.caller = SimpleNamespace(state=rtc.ParticipantState.PARTICIPANT_STATE_JOINED)
        self.answers = False
        super().__init__(
            remote_participants={"caller-1": self.caller},
            local_participant=SimpleNamespace(perform_rpc=self._answer),
            isconnected=lambda: True,
        )

    async def _answer(self, **_):
        raise rtc.RpcError(CODE.UNSUPPORTED_METHOD if self.answers else CODE.CONNECTION_TIMEOUT, "")

    def hears(self):
        self.answers = True

    def is_told_of(self):
        self.caller.state = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE


IN_ROOM = SimpleNamespace(room_io=None)
"""A session that has an end in the room."""


@pytest.mark.parametrize("happens", [Room.hears, Room.is_told_of], ids=["asked", "told by LiveKit"])
async def test_the_first_words_wait_until_the_callers_client_is_connected(happens):
    room, named = Room(), []
    waiting = asyncio.create_task(Presence().until_there(room, IN_ROOM, lambda: next(iter(named), None)))
    await asyncio.sleep(0.1)
    happens(room)
    await asyncio.sleep(0.1)
    assert not waiting.done(), "it is not known yet who is served"
    named.append("caller-1")
    await waiting


async def test_the_first_words_wait_for_no_client_for_ever(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(deadlines, "CALLER_THERE", 0.1)
    await Presence().until_there(Room(), IN_ROOM, lambda: "caller-1")
    assert "is not connected yet" in caplog.text


async def test_a_session_outside_the_room_waits_for_nobody():
    await Presence().until_there(Room(), AgentSession(), lambda: "caller-1")


async def asked(presence: Presence, *answers: int | None) -> None:
    """Ask once for each answer: the code of an error, or None for a result."""
    for answer in answers:

        async def perform_rpc(answer=answer, **_):
            if answer is not None:
                raise rtc.RpcError(answer, "")

        await presence._ask(SimpleNamespace(perform_rpc=perform_rpc), "caller-1")


@pytest.mark.parametrize(
    ("answers", "silent"),
    [
        ([], False),
        ([CODE.UNSUPPORTED_METHOD], False),
        ([CODE.UNSUPPORTED_METHOD, CODE.CONNECTION_TIMEOUT], False),
        ([CODE.UNSUPPORTED_METHOD, CODE.CONNECTION_TIMEOUT, CODE.RESPONSE_TIMEOUT], True),
        ([None, CODE.CONNECTION_TIMEOUT, CODE.CONNECTION_TIMEOUT], True),
        ([None, CODE.CONNECTION_TIMEOUT, CODE.CONNECTION_TIMEOUT, None], False),
        ([None, CODE.CONNECTION_TIMEOUT, None, CODE.CONNECTION_TIMEOUT], False),
        ([CODE.CONNECTION_TIMEOUT] * 5, False),  # a telephone answers nothing
        ([CODE.RECIPIENT_NOT_FOUND, CODE.CONNECTION_TIMEOUT, CODE.CONNECTION_TIMEOUT], False),
    ],
)
async def test_a_client_that_answered_and_does_no_more_has_fallen_silent(answers, silent):
    presence = Presence()
    await asked(presence, *answers)
    assert (presence.silent_since is not None) is silent
    presence.left(None)
    assert presence.came(SOMEBODY) is not silent
    assert presence.silent_since is None


async def test_whose_connection_is_lost_is_silent_until_it_is_heard_again():
    presence = Presence()
    presence.quality(rtc.ConnectionQuality.QUALITY_LOST)
    assert presence.silent_since
    presence.quality(rtc.ConnectionQuality.QUALITY_POOR)
    assert presence.silent_since is None


async def test_who_comes_for_the_first_time_replaces_nobody():
    assert not Presence().came(SOMEBODY)


@pytest.mark.parametrize(
    ("happens", "replaced"), [([], True), (["reconnecting"], False), (["reconnecting", "reconnected"], True)]
)
async def test_an_agent_that_connects_anew_itself_takes_nobody_for_a_copy(happens, replaced):
    presence, listeners = Presence(), {}
    presence.ask(SimpleNamespace(on=listeners.__setitem__), lambda: None)
    for event in happens:
        listeners[event]()
    presence.left(None)
    assert presence.came(SOMEBODY) is replaced
    presence.close()
