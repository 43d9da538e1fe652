"""How many connections there are at once: the oldest idle one is closed for a new one, so that nobody is kept out.

Without a bound, some thousand connections on which nothing is asked take all the files that a process may open.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler

logger = logging.getLogger(__name__)

MOST = 1_000
_OTHER_FILES = 256
"""Files that the rest of the process may open: connections to MongoDB, and those that are accepted at one time."""
_REFUSED_AT_ONCE = 50
_REFUSED_FOR = 1.0
"""Seconds for a client to read that it was refused: closed at once, it could see a broken connection instead."""
_BODY = b'{"error": "too_busy", "message": "too many connections; try again later"}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: 5\r\n"
    b"Cache-Control: no-store\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


def most_connections() -> int:
    """`MOST`, or what the limit of open files allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else max(min(MOST, files - _OTHER_FILES), 16)


class Connections:
    """Makes the protocol of each connection that is accepted."""

    def __init__(self, server: web.Server, in_progress: Collection[RequestHandler], most: int) -> None:
        """Allow `most` connections to `server`; those `in_progress` have a request that is being answered."""
        self._server = server
        self._in_progress = in_progress
        self._most = most
        self._refused: set[_Refusal] = set()

    def __call__(self) -> asyncio.Protocol:
        # One that was closed is listed until its task has ended.
        there = [each for each in self._server.connections if each.transport is not None]
        missing = len(there) - self._most + 1
        if missing > 0:
            idle = [each for each in there if each not in self._in_progress][:missing]
            for each in idle:
                each.force_close()
            if len(idle) < missing:
                return _Refusal(self._refused)
        return self._server()


class _Refusal(asyncio.Protocol):
    """Answers 503, and waits until the client has gone."""

    def __init__(self, refused: set[_Refusal]) -> None:
        self._refused = refused
        self._ends: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        if not self._refused:
            logger.warning("connections are refused: all that are allowed have a request in progress")
        if len(self._refused) >= _REFUSED_AT_ONCE:
            transport.abort()
            return
        self._refused.add(self)
        transport.write(_FULL)
        transport.write_eof()
        self._ends = asyncio.get_running_loop().call_later(_REFUSED_FOR, transport.abort)

    def connection_lost(self, _: Exception | None) -> None:
        self._refused.discard(self)
        if self._ends:
            self._ends.cancel()
