"""LiveKit's native library is listened to while a room is not connected, with the real library."""

from __future__ import annotations

import asyncio
import logging

import pytest
from livekit import rtc

from lkmongo.worker import native_log

CONNECTED, RECONNECTING = rtc.ConnectionState.CONN_CONNECTED, rtc.ConnectionState.CONN_RECONNECTING
NOWHERE = "ws://127.0.0.1:9"


@pytest.fixture(autouse=True)
def listened_to_afterwards():
    """As the SDK has it."""
    yield
    native_log._unconnected.clear()
    native_log._listen(True)


async def is_heard(caplog) -> bool:
    """Whether what the library logs about a connection that fails arrives here."""
    caplog.set_level(logging.INFO, "livekit")
    caplog.clear()
    with pytest.raises(rtc.ConnectError):
        await rtc.Room().connect(NOWHERE, "no-token", rtc.RoomOptions(single_peer_connection=True))
    await asyncio.sleep(0.1)  # each record comes in a thread of its own
    return any("connecting to" in record.getMessage() for record in caplog.records)


async def test_the_library_is_listened_to_while_a_room_connects_and_whenever_it_connects_anew(caplog):
    logging.getLogger("livekit").setLevel(logging.INFO)
    first, second = rtc.Room(), rtc.Room()
    for room in (first, second):
        native_log.follow(room)
    first.emit("connection_state_changed", CONNECTED)
    assert await is_heard(caplog), "one room is not connected yet"
    second.emit("connection_state_changed", CONNECTED)
    assert not await is_heard(caplog)
    first.emit("connection_state_changed", RECONNECTING)
    assert await is_heard(caplog)
    native_log.leave(first)
    assert not await is_heard(caplog), "it is gone"
