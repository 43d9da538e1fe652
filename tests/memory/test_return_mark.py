"""Who comes back with the mark is the same client, and who comes without it in the middle of a call is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from livekit import rtc

from lkmongo.memory.presence import Presence
from lkmongo.memory.return_mark import ATTRIBUTE, ReturnMark
from tests.livekit_api import Rooms, credentials_of
from tests.waiting import until

KIND = rtc.ParticipantKind


def participant(kind=KIND.PARTICIPANT_KIND_STANDARD, **attributes):
    return SimpleNamespace(identity="caller-1", kind=kind, attributes=attributes)


@pytest.fixture
async def livekit():
    rooms = Rooms()
    async with credentials_of(rooms) as rooms.credentials:
        yield rooms


@pytest.fixture
async def presence(livekit):
    """That of a caller who is in the room, and what LiveKit was asked to put on them."""
    presence = Presence()
    room = SimpleNamespace(on=lambda *_: None, remote_participants={"caller-1": participant()})
    presence.ask(room, lambda: "caller-1", ReturnMark(livekit.credentials, "room-1"))
    await until(lambda: livekit.attributes)
    yield presence
    presence.close()


async def test_who_comes_back_with_what_only_the_client_was_sent_goes_on(presence, livekit):
    (marked,) = livekit.attributes.values()
    presence.left(rtc.DisconnectReason.DUPLICATE_IDENTITY)
    assert not presence.came(participant(**marked))


@pytest.mark.parametrize("has", [{}, {ATTRIBUTE: ""}, {ATTRIBUTE: "é"}, {ATTRIBUTE: "x" * 22}])
async def test_who_comes_with_the_token_that_was_given_out_is_somebody_else(presence, has):
    presence.left(rtc.DisconnectReason.DUPLICATE_IDENTITY)
    assert presence.came(participant(**has))


async def test_the_mark_is_one_that_nobody_can_guess_and_another_session_has_another(presence, livekit):
    ReturnMark(livekit.credentials, "room-2").give(participant())
    await until(lambda: len(livekit.attributes) == 2)
    first, second = (marked[ATTRIBUTE] for marked in livekit.attributes.values())
    assert first != second
    assert len(first) >= 22  # 128 bits


async def test_who_comes_after_a_silence_without_it_is_marked_anew(presence, livekit):
    livekit.attributes.clear()
    presence.quality(rtc.ConnectionQuality.QUALITY_LOST)
    presence.left(None)
    assert not presence.came(participant())
    await until(lambda: livekit.attributes)


async def test_a_telephone_has_no_token_and_gets_no_mark(livekit):
    mark = ReturnMark(livekit.credentials, "room-1")
    mark.give(participant(KIND.PARTICIPANT_KIND_SIP))
    assert mark._giving is None
    assert not mark.is_on(participant(KIND.PARTICIPANT_KIND_SIP))


async def test_while_livekit_does_not_answer_it_is_tried_again(livekit):
    livekit.refused_updates = 1
    ReturnMark(livekit.credentials, "room-1").give(participant())
    await until(lambda: livekit.attributes)
