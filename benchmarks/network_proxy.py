"""The proxy of `benchmarks.network`, a separate program: it delays and counts the traffic of a driver and a mongod.

    python benchmarks/network_proxy.py SOCKET

It reads commands on standard input, one line of JSON each, answers each with a line, and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

_OP_QUERY, _OP_MSG = 2004, 2013
_MORE_TO_COME = 2
_HELLO = {"hello", "isMaster", "ismaster"}
_PATIENCE = 60.0
"""Seconds after which an answer does not come any more."""


@dataclass(slots=True)
class Counts:
    """What was asked and answered since the last `reset`; what is still under way is not in it.

    So at a round trip of some milliseconds, `Network.counts` tells at once after a piece of work what was waited for.

    Attributes:
        round_trips: the longest chain of messages of which each was sent after the answer to the one before; opening
            a connection is one more. Requests that are under way at the same time count once.
        requests: request messages, without handshakes and monitoring.
        handshakes: first messages of connections.
        monitoring: later `hello` messages, with which a driver looks whether the server lives.
        connections: connections that were opened.
        sent: bytes of requests; those of handshakes and monitoring are not in it.
        received: bytes of the answers to requests.
        commands: requests by the name of their command.
    """

    round_trips: int = 0
    requests: int = 0
    handshakes: int = 0
    monitoring: int = 0
    connections: int = 0
    sent: int = 0
    received: int = 0
    commands: dict[str, int] = field(default_factory=dict)


class _Proxy:
    """The proxy itself."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.latency = 0.0
        self.swallowing = False
        self.holding = False
        self.arrived = asyncio.Event()
        self.counts = Counts()
        self.answered = 0  # the longest chain whose last answer has arrived
        self.phase = 0  # what was asked before the last reset is not counted after it
        self.port = 0
        self.ends: set[_End] = set()
        self._server: asyncio.Server | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await self._listen()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            what, value = json.loads(line)
            sys.stdout.write(json.dumps(await self._do(what, value)) + "\n")
            sys.stdout.flush()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _do(self, what: str, value: Any) -> Any:
        match what:
            case "port":
                return self.port
            case "rtt":
                self.latency = value / 2
            case "reset":
                self.counts, self.answered, self.phase = Counts(), 0, self.phase + 1
            case "counts":
                return asdict(self.counts)
            case "swallow" | "hold":
                setattr(self, "swallowing" if what == "swallow" else "holding", value)
                for end in list(self.ends):
                    end.go_on()
            case "release":
                return await self._release(value)
            case "refuse":
                await self._refuse(value)
        return None

    async def _release(self, count: int) -> int:
        """Let what is kept leave, when it is `count` answers, or after a while; returns how many they are."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while sum(end.holds_an_answer for end in self.ends) < count:
                    self.arrived.clear()
                    await self.arrived.wait()
        kept = [end for end in self.ends if end.holds_an_answer]
        for end in kept:
            end.release()
        return len(kept)

    async def _refuse(self, on: bool) -> None:
        if on and self._server:
            self._server.close()
            self._server = None
            for end in list(self.ends):
                end.abort()
        elif not on and self._server is None:
            await self._listen()


class _End(asyncio.Protocol):
    """One end of a connection: what arrives here leaves at the other end, later."""

    def __init__(self, proxy: _Proxy, client: _End | None = None) -> None:
        self._proxy = proxy
        self._other = client
        self.watch: _Watch = client.watch if client else _Watch(proxy)
        self._is_client = client is None
        self.transport: asyncio.Transport | None = None
        self._leaving: deque[tuple[float, bytes]] = deque()  # what leaves here, and when; no bytes for the end
        self._timer: asyncio.TimerHandle | None = None
        self._opens = 0.0
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._proxy.ends.add(self)
        if self._is_client:
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._opens = time.monotonic() + 2 * self._proxy.latency
            self._other = _End(self._proxy, self)
            self._opening = asyncio.create_task(self._open(self._other))

    async def _open(self, far: _End) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: far, self._proxy.path)
        except OSError:
            self.abort()
        else:
            far.go_on()

    def data_received(self, data: bytes) -> None:
        assert self._other
        if self._is_client:
            self.watch.requests(data)
        self._other.send(max(time.monotonic(), self._opens) + self._proxy.latency, data)

    def send(self, due: float, data: bytes) -> None:
        """Let `data` leave here at the time `due`, after what leaves already."""
        self._leaving.append((due, data))
        self._proxy.arrived.set()
        if self._timer is None:
            self._arm()

    def go_on(self) -> None:
        """Let leave what is due."""
        self._timer = None
        if self._proxy.swallowing or self._is_holding or self.transport is None:
            return
        while self._leaving and self._leaving[0][0] <= time.monotonic():
            if not self._leave():
                return
        self._arm()

    def _leave(self) -> bool:
        """Let the next bytes leave; returns whether there may be more."""
        assert self.transport
        _, data = self._leaving.popleft()
        if not data:
            self.transport.close()
            return False
        if self._is_client:
            self.watch.answers(data)
        self.transport.write(data)
        return True

    @property
    def _is_holding(self) -> bool:
        """Whether what leaves here is kept: an answer to a request. Handshakes and monitoring pass."""
        return self._is_client and self._proxy.holding and self.watch.is_asked

    @property
    def holds_an_answer(self) -> bool:
        """Whether a whole answer is kept here."""
        kept = b"".join(data for _, data in self._leaving) if self._is_holding else b""
        return len(kept) >= 4 and len(kept) >= struct.unpack_from("<I", kept)[0]

    def release(self) -> None:
        """Let leave all that is kept, at once."""
        while self._leaving and self.transport and self._leave():
            pass

    def _arm(self) -> None:
        if self._leaving and self.transport is not None:
            self._timer = asyncio.get_running_loop().call_at(self._leaving[0][0], self.go_on)

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.ends.discard(self)
        if self._other and error is None:
            self._other.send(time.monotonic() + self._proxy.latency, b"")
        elif self._other:
            self._other.abort()

    def abort(self) -> None:
        """Reset the connection."""
        if self.transport:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Take no more at the other end than can leave here."""
        if self._other and self._other.transport:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Take more at the other end."""
        if self._other and self._other.transport:
            self._other.transport.resume_reading()


class _Watch:
    """Counts the messages of one connection."""

    def __init__(self, proxy: _Proxy) -> None:
        proxy.counts.connections += 1
        self._proxy = proxy
        self._chain = proxy.answered + 1  # opening it
        self._is_new = True
        self._parts = {"requests": bytearray(), "answers": bytearray()}
        self._asked: dict[int, tuple[int, int, str, int]] = {}
        """Of each request that is to be answered: its phase, its place in the chain, its command and its bytes."""

    @property
    def is_asked(self) -> bool:
        """Whether a request is under way that is neither handshake nor monitoring."""
        return any(name not in {"handshake", *_HELLO} for _, _, name, _ in self._asked.values())

    def requests(self, data: bytes) -> None:
        """Look at bytes on their way to the server."""
        for number, _, code, message in _messages(self._parts["requests"], data):
            name = "handshake" if self._is_new else _command(code, message)
            chain = 1 + max(self._proxy.answered, self._chain if self._is_new else 0)
            self._is_new = False
            self._asked[number] = (self._proxy.phase, chain, name, len(message))
            if code == _OP_MSG and struct.unpack_from("<I", message, 16)[0] & _MORE_TO_COME:
                self._count(number, 0)  # nobody waits for an answer

    def answers(self, data: bytes) -> None:
        """Look at bytes that arrive from the server."""
        for _, number, _, message in _messages(self._parts["answers"], data):
            self._count(number, len(message))

    def _count(self, number: int, received: int) -> None:
        phase, chain, name, sent = self._asked.pop(number, (0, 0, "hello", 0))
        counts = self._proxy.counts
        if phase != self._proxy.phase:
            return
        if name in _HELLO:
            counts.monitoring += 1
            return
        self._proxy.answered = counts.round_trips = max(self._proxy.answered, chain)
        if name == "handshake":
            counts.handshakes += 1
            return
        counts.requests += 1
        counts.sent += sent
        counts.received += received
        counts.commands[name] = counts.commands.get(name, 0) + 1


def _messages(unread: bytearray, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Take the whole messages out of `unread` and `data`: number, number of the request, code, and bytes of each."""
    unread += data
    while len(unread) >= 16:
        length, number, answered, code = struct.unpack_from("<4i", unread)
        if len(unread) < length:
            return
        message = bytes(unread[:length])
        del unread[:length]
        yield number, answered, code, message


def _command(code: int, message: bytes) -> str:
    """The name of the command in a request."""
    if code == _OP_QUERY:
        return "hello"  # what a driver says first; nothing else is sent this way any more
    if code != _OP_MSG or message[20] != 0:
        return f"opcode {code}"
    return message[26 : message.index(b"\0", 26)].decode()


def _loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are exact to microseconds: epoll rounds them up to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(_Proxy(sys.argv[1]).run())
