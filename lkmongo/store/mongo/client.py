"""The MongoDB client, the event loop it runs on, and a fix for PyMongo on Python 3.11.

A client belongs to the loop that first awaits it, but a process that waits for a job does not have the job's loop yet.
So that it can connect before the job arrives, the client runs on a loop in a background thread. The store awaits the
driver through `run_on_client_loop`; without such a loop, as in the console and other commands, that is a plain await.

PyMongo waits for a server or a free connection with `asyncio.wait_for`, which before Python 3.12 runs the wait in a
separate task. If the caller is cancelled while that task reacquires the client's lock, the lock is released by a task
that does not hold it, then held by one that has ended: no operation of the client ever finishes, not even closing it.
Deadlines cancel, and they do so when the database is unreachable.
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
from lkmongo.store.mongo.erasure_key import ErasureKey

T = TypeVar("T")

_lock = threading.Lock()
_home: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def start_client_loop() -> asyncio.AbstractEventLoop:
    """Start the client loop, once per process, in a daemon thread; call it before any client is used."""
    global _home, _thread  # noqa: PLW0603 - one for the process, as the clients' connections are
    with _lock:
        if _home is None:
            _home = asyncio.new_event_loop()
            _thread = threading.Thread(target=_home.run_forever, name="mongodb", daemon=True)
            _thread.start()
        return _home


async def run_on_client_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Await `work()` on the client loop, with the caller's context variables.

    Cancelling the caller cancels the work without waiting for its end. It must not return a cursor, which would be read
    on the wrong loop.
    """
    home = _home
    if home is None or home is asyncio.get_running_loop():
        return await work()

    async def run() -> T:
        return await work()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), home))


def _abandon() -> None:
    """Stop the client loop; for tests."""
    global _home, _thread
    loop, thread, _home, _thread = _home, _thread, None, None
    if loop is not None and thread is not None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _wait_for(work: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109 - the signature that is replaced
    """`asyncio.wait_for` as of Python 3.12: awaits in the caller's task."""
    async with asyncio.timeout(timeout):
        return await work


def patch_pymongo() -> None:
    """Replace `wait_for` in PyMongo before Python 3.12; see the module's docstring."""
    if sys.version_info < (3, 12):
        vars(pymongo.lock)["wait_for"] = _wait_for


Document = dict[str, Any]


class Client(AsyncMongoClient[Document]):
    """PyMongo's client, with the keys that its database must not hold."""

    erasure_key: ErasureKey | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.encryption: dict[str, Any] = {}
        """Of each database that is encrypted; see `Encryption.of`."""


CONNECTIONS = 2
"""Operations of one process that run at once, to each node."""
_OPTIONS: dict[str, Any] = {
    # Three sockets per node: two for operations, one for monitoring, which polls instead of streaming.
    # Atlas limits connections: nodes x concurrent calls x (pool + monitors).
    "serverMonitoringMode": "poll",
    # Commands fail within five seconds without a server; the agent's deadlines are shorter.
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 30_000,
    "maxIdleTimeMS": 300_000,
    # See operations.read.
    "retryReads": False,
    "appname": "lkmongo",
}


def create_client(uri: str, *, stays_warm: bool = False, connections: int = CONNECTIONS) -> Client:
    """Build a client that connects on first use; options in the URI take precedence.

    Args:
        uri: of MongoDB.
        stays_warm: keep idle connections open.
        connections: how many operations run at once.

    Raises:
        SettingsError: the URI cannot be parsed.
    """
    patch_pymongo()
    given = {part.partition("=")[0].lower() for part in uri.partition("?")[2].split("&")}
    warm = {"minPoolSize": connections} if stays_warm and "maxpoolsize" not in given else {}
    wanted = _OPTIONS | {"maxPoolSize": connections} | warm
    options = {name: value for name, value in wanted.items() if name.lower() not in given}
    try:
        return Client(
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


def is_encrypted(uri: str) -> bool:
    """Whether the driver uses TLS for this URI: if it is said, or else by `mongodb+srv://` (MongoDB's URI options)."""
    said = re.findall(r"[?&](?:tls|ssl)=(true|false)(?=&|$)", uri, re.IGNORECASE)
    return said[-1].lower() == "true" if said else uri.startswith("mongodb+srv://")


def is_local(uri: str) -> bool:
    """Whether every host of the URI is a loopback address or a Unix socket."""
    if uri.startswith("mongodb+srv://"):
        return False
    hosts = re.sub(r"^mongodb://(?:[^@/]*@)?", "", uri).partition("/")[0].partition("?")[0]
    return all(
        re.fullmatch(r"localhost(:\d+)?|127(\.\d+){3}(:\d+)?|\[::1\](:\d+)?|%2F.*", host, re.IGNORECASE)
        for host in hosts.split(",")
    )
