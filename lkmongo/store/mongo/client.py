"""The one client of a process, the event loop it lives on, and a fix for PyMongo on Python 3.11.

A client belongs to the loop that first awaits it, and a process that waits for a job has no loop yet: the job brings
its own. So that connections are there before the job is, they live on a loop in a thread of this module's. Everything
the store asks of the driver goes through `run_on_client_loop`; in a process without such a loop, as in the console and
in every other command, that is a plain await.

PyMongo waits for a server or for a free connection in `asyncio.wait_for`, which before Python 3.12 runs the wait in a
task of its own. When the caller is cancelled while that task is taking the client's lock back, the lock is released by
a task that does not hold it and then held by one that is gone: no operation of the client ever finishes, nor does
closing it. Deadlines cancel, and an unreachable database is exactly when they do.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pymongo.lock
from pymongo import AsyncMongoClient
from pymongo.driver_info import DriverInfo
from pymongo.errors import PyMongoError

from lkmongo import __version__, telemetry
from lkmongo.errors import SettingsError
from lkmongo.redact import redact

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


async def _wait_for(work: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - the signature that is replaced
    """Do what `asyncio.wait_for` does from Python 3.12 on: await in the caller's own task."""
    async with asyncio.timeout(timeout):
        return await work


def patch_pymongo() -> None:
    """Have the driver wait in the caller's task; nothing is done where it does so already."""
    if sys.version_info < (3, 12):
        vars(pymongo.lock)["wait_for"] = _wait_for


Document = dict[str, Any]
Client = AsyncMongoClient[Document]

_OPTIONS: dict[str, Any] = {
    # Three sockets to one node: two for operations, one for monitoring, which polls instead of streaming.
    # Atlas counts connections: replicas x concurrent calls x (pool + monitors).
    "maxPoolSize": 2,
    "serverMonitoringMode": "poll",
    # A command on data answers within five seconds when nobody is there; the agent's own deadlines are shorter.
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 30_000,
    "maxIdleTimeMS": 300_000,
    # See store.operations.read.
    "retryReads": False,
    "appname": "lkmongo",
}


def create_client(uri: str, *, stays_warm: bool = False) -> Client:
    """Build a client that connects on first use; what the URI itself sets is left as it is.

    Args:
        uri: the address.
        stays_warm: once it is connected, keep the connections open however long nobody needs them.

    Raises:
        SettingsError: the URI cannot be parsed.
    """
    patch_pymongo()
    given = {part.partition("=")[0].lower() for part in uri.partition("?")[2].split("&")}
    warm = {"minPoolSize": _OPTIONS["maxPoolSize"]} if stays_warm and "maxpoolsize" not in given else {}
    wanted = _OPTIONS | warm
    options = {name: value for name, value in wanted.items() if name.lower() not in given}
    try:
        return AsyncMongoClient(
            uri,
            tz_aware=True,
            driver=DriverInfo("lkmongo", __version__),
            event_listeners=telemetry.listeners(),
            **options,
        )
    except (PyMongoError, ValueError) as error:
        raise SettingsError(
            "MONGODB_URI is not a MongoDB address",
            why=redact(str(error))[:200],
            hint="copy it from Atlas under Connect, Drivers; percent-encode special characters in the password",
        ) from None


def is_local(uri: str) -> bool:
    """Whether every host of the URI is this machine: a loopback address or a Unix socket."""
    if uri.startswith("mongodb+srv://"):
        return False
    hosts = re.sub(r"^mongodb://(?:[^@/]*@)?", "", uri).partition("/")[0].partition("?")[0]
    return all(
        re.fullmatch(r"localhost(:\d+)?|127(\.\d+){3}(:\d+)?|\[::1\](:\d+)?|%2F.*", host, re.IGNORECASE)
        for host in hosts.split(",")
    )
