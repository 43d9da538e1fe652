"""Callers that lose patience leave the driver usable, and do not wait for it."""

from __future__ import annotations

import asyncio
import gc

import pytest
from pymongo import lock as driver_lock
from pymongo.errors import AutoReconnect

from lkmongo.store.mongo import client, operations
from tests.waiting import PATIENCE, until


@pytest.mark.parametrize("contended", [False, True])
@pytest.mark.parametrize("steps", range(4))
async def test_a_caller_who_is_cancelled_while_waiting_leaves_the_lock_usable(steps, contended):
    client.patch_pymongo()
    lock = driver_lock._async_create_lock()
    condition = driver_lock._async_create_condition(lock)

    async def wait_for_a_server():
        async with lock:
            await driver_lock._async_cond_wait(condition, 60)

    waiting = asyncio.create_task(wait_for_a_server())
    await asyncio.sleep(0.01)
    if contended:  # as by the monitor when it has news
        await lock.acquire()
    for _ in range(2):  # a deadline, and then the end of the call
        waiting.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
    if contended:
        lock.release()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(PATIENCE), lock:
        pass


async def test_a_wait_ends_in_time():
    client.patch_pymongo()
    lock = driver_lock._async_create_lock()
    condition = driver_lock._async_create_condition(lock)
    async with lock:
        assert not await driver_lock._async_cond_wait(condition, 0.01)
        assert lock.locked()


async def test_a_deadline_holds_for_an_operation_that_does_not_let_itself_be_cancelled(caplog, monkeypatch):
    monkeypatch.setattr(operations, "_CLEAN_UP", 0.05)
    refused, began, ended = [], asyncio.Event(), asyncio.Event()

    async def stubborn():  # as the driver, which tries again after what it takes for a lost connection
        while len(refused) < 3:
            try:
                began.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                refused.append(len(refused))
        ended.set()
        raise AutoReconnect("connection is already closed")

    for ask in (operations.read, operations.write):
        refused.clear()
        began.clear()
        ended.clear()
        asking = asyncio.create_task(ask(stubborn))
        await began.wait()
        asking.cancel()  # as a deadline does
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(refused) < 3, "whoever asked does not wait for it"
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
    await until(lambda: not operations._stopping)
    gc.collect()
    assert caplog.records == []


def test_a_loop_that_closes_does_not_wait_for_an_operation_that_takes_its_cancellations_for_lost_connections(
    monkeypatch,
):
    cancelled, ended_by_itself = [], []

    async def stubborn():
        while len(cancelled) < 4:
            try:
                await asyncio.sleep(5)  # instead of the driver's half a minute
            except asyncio.CancelledError:
                cancelled.append(len(cancelled))
            else:
                ended_by_itself.append(True)
                return
        raise AutoReconnect("connection is already closed")

    async def call():
        monkeypatch.setattr(operations, "_CLEAN_UP", 5)
        asking = asyncio.create_task(operations.read(stubborn))
        await asyncio.sleep(0.01)
        asking.cancel()  # as a deadline does
        await until(lambda: cancelled)
        monkeypatch.setattr(operations, "_CLEAN_UP", 0.01)

    asyncio.run(call())
    assert not ended_by_itself
    assert len(cancelled) == 4
