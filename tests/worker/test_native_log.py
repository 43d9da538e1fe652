"""LiveKit's native library is listened to while a room is not connected, with the real library."""

from __future__ import annotations

import asyncio
import logging

import pytest
from livekit import rtc

from lkmongo.worker import native_log
from tests.waiting import until

CONNECTED, RECONNECTING = rtc.ConnectionState.CONN_CONNECTED, rtc.ConnectionState.CONN_RECONNECTING


@pytest.fixture(autouse=True)
def listened_to_afterwards():
    """As the SDK has it."""
    yield
    native_log._unconnected.clear()
    native_log._listen(True)


class Log:
    """What the library logs about connections that fail, each to a port of its own."""

    def __init__(self, caplog) -> None:
        caplog.set_level(logging.INFO, "livekit")
        self._records = caplog.records
        self._port = 1

    async def _fail(self) -> str:
        self._port += 1
        with pytest.raises(rtc.ConnectError):
            await rtc.Room().connect(f"ws://127.0.0.1:{self._port}", "no-token")
        return f"connecting to ws://127.0.0.1:{self._port}/"

    def _is_there(self, text: str) -> bool:
        return any(text in record.getMessage() for record in self._records)

    async def is_heard(self) -> None:
        text = await self._fail()
        await until(lambda: self._is_there(text))

    async def is_not_heard(self) -> None:
        text = await self._fail()
        await asyncio.sleep(0.1)
        assert not self._is_there(text)


async def test_the_library_is_listened_to_while_a_room_connects_and_whenever_it_connects_anew(caplog):
    log = Log(caplog)
    first, second = rtc.Room(), rtc.Room()
    for room in (first, second):
        native_log.follow(room)
    first.emit("connection_state_changed", CONNECTED)
    await log.is_heard()  # the other one is not connected yet
    second.emit("connection_state_changed", CONNECTED)
    await log.is_not_heard()
    first.emit("connection_state_changed", RECONNECTING)
    await log.is_heard()
    native_log.leave(first)
    await log.is_not_heard()


async def test_at_log_level_debug_it_is_listened_to_all_the_time(caplog):
    log = Log(caplog)
    caplog.set_level(logging.DEBUG, "livekit")
    room = rtc.Room()
    native_log.follow(room)
    room.emit("connection_state_changed", CONNECTED)
    await log.is_heard()
