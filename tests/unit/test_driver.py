"""The driver's locks survive callers that lose patience."""

from __future__ import annotations

import asyncio

import pytest
from pymongo import lock as driver_lock

from lkmongo.store import driver


@pytest.mark.parametrize("contended", [False, True])
@pytest.mark.parametrize("steps", range(4))
async def test_a_caller_who_is_cancelled_while_waiting_leaves_the_lock_usable(steps, contended):
    driver.mend()
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
    async with asyncio.timeout(5), lock:
        pass


async def test_a_wait_ends_in_time():
    driver.mend()
    lock = driver_lock._async_create_lock()
    condition = driver_lock._async_create_condition(lock)
    async with lock:
        assert not await driver_lock._async_cond_wait(condition, 0.01)
        assert lock.locked()
