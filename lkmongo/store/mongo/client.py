"""The one client of a process: few sockets, short timeouts, warmed up before it is needed; and a fix for PyMongo.

PyMongo waits for a server or for a free connection in `asyncio.wait_for`, which before Python 3.12 runs the wait in a
task of its own. When the caller is cancelled while that task is taking the client's lock back, the lock is released by
a task that does not hold it and then held by one that is gone: no operation of the client ever finishes, nor does
closing it. Deadlines cancel, and an unreachable database is exactly when they do.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

import pymongo.lock
from pymongo import AsyncMongoClient
from pymongo.driver_info import DriverInfo
from pymongo.errors import PyMongoError

from lkmongo import __version__, telemetry
from lkmongo.errors import SettingsError
from lkmongo.redact import redact

T = TypeVar("T")


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
