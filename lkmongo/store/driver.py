"""What PyMongo gets wrong on Python 3.11, put right before the first client is made.

Whoever waits for a server, or for a free connection, does so in `asyncio.wait_for`, which before Python 3.12 runs the wait
in a task of its own. When the caller is cancelled while that task is taking the client's lock back, the lock is
released by one that does not hold it and then held by one that is gone: no operation of the client ends any more, nor
does closing it. Deadlines cancel, and a database that is away is when they do.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

import pymongo.lock

T = TypeVar("T")


async def _wait_for(work: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - the signature that is replaced
    """Do what `asyncio.wait_for` does from Python 3.12 on: await in the caller's own task."""
    async with asyncio.timeout(timeout):
        return await work


def mend() -> None:
    """Have the driver wait in the caller's task; nothing is done where it does so already."""
    if sys.version_info < (3, 12):
        vars(pymongo.lock)["wait_for"] = _wait_for
