"""The event loop that MongoDB is spoken to on, where that is not the caller's own.

A client belongs to the loop that first awaits it, and a process that waits for a job has no loop yet: the job brings
its own. So that connections are there before the job is, they live on a loop in a thread of this module's. Everything
the store asks of the driver goes through `run_on_client_loop`; in a process without such a loop, as in the console and in every
other command, that is a plain await.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_home: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def start_client_loop() -> asyncio.AbstractEventLoop:
    """Start the loop, once for the process and for good: the thread is a daemon and ends with it.

    Call it before any client of the process is used.
    """
    global _home, _thread  # noqa: PLW0603 - one for the process, as the clients' connections are
    with _lock:
        if _home is None:
            _home = asyncio.new_event_loop()
            _thread = threading.Thread(target=_home.run_forever, name="mongodb", daemon=True)
            _thread.start()
        return _home


async def run_on_client_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Await `work()` on the clients' loop.

    The context variables of the caller go with it; a cancellation of the caller cancels it there, without waiting for
    it to end. It must return data, no cursor: a cursor would be read on the wrong loop.
    """
    home = _home
    if home is None or home is asyncio.get_running_loop():
        return await work()

    async def run() -> T:
        return await work()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), home))


def _abandon() -> None:
    """End the loop; for tests, which share a process with others."""
    global _home, _thread
    loop, thread, _home, _thread = _home, _thread, None, None
    if loop is not None and thread is not None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
