"""A TCP proxy before a server on this machine: far away, slow, cutting replies short, silent, or not there.

What was sent to a silent network is not lost: it arrives when the network is back, even if the sender has given up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Literal

Fault = Literal["none", "refuse", "stall", "cut", "slow"]


class FaultProxy:
    """One proxy, whose fault may change at any time.

    - refuse: nobody listens, and what was open is reset;
    - stall: connections can be made, and no byte passes either way until the fault is over;
    - cut: of each reply the first half arrives, then the connection is reset;
    - slow: every byte takes `delay` seconds longer, either way, and so does opening a connection.
    """

    def __init__(self, server: str | int, *, delay: float = 0.0) -> None:
        """Stand before a server, at a Unix socket or a port; without a fault, every byte takes `delay` seconds."""
        self.port = 0
        self.delay = delay
        self.slow_delay = 0.3
        self.opened = 0
        self.most = 0
        self._target = server
        self._fault: Fault = "none"
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._readers: set[asyncio.StreamReader] = set()

    @property
    def open(self) -> int:
        """Connections that are open; `most` of them at the same time, `opened` in all."""
        return len(self._serving)

    async def listen(self) -> None:
        """Accept connections, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def begin(self, fault: Fault) -> None:
        """Have a fault from now on."""
        self._fault = fault
        if fault == "stall":
            self._passing.clear()
        if fault == "refuse":
            if self._server:
                self._server.close()
                self._server = None
            self.reset()

    async def end(self) -> None:
        """Be as before the fault."""
        self._fault = "none"
        self._passing.set()
        if self._server is None:
            await self.listen()

    def reset(self) -> None:
        """Reset every connection that is open."""
        for writer in list(self._ends):
            writer.transport.abort()

    async def close(self) -> None:
        """Close everything; what was held back is lost."""
        if self._server:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._readers.add(reader)
        self.opened += 1
        self._ends.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            await asyncio.sleep(2 * self._latency)
            await self._passing.wait()
            for _ in range(5):  # rounds of the loop, in which it hears of those that were closed before
                await asyncio.sleep(0)
            self.most = max(self.most, sum(not each.at_eof() for each in self._readers))
            near, far = await self._reach()
            self._ends.add(far)
            await _both(self._pump(reader, far, is_reply=False), self._pump(near, writer, is_reply=True))
        except (OSError, asyncio.CancelledError):
            return  # a callback that ends by being cancelled would be reported as an error
        finally:
            for each in (far, writer):
                if each is not None:
                    self._ends.discard(each)
                    each.close()
            self._readers.discard(reader)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(self._target)

    @property
    def _latency(self) -> float:
        return self.delay + (self.slow_delay if self._fault == "slow" else 0)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def receive() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(65_536)
                except OSError:
                    data = b""
                queue.put_nowait((loop.time() + self._latency, data))

        receiving = asyncio.create_task(receive())
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._passing.wait()
                if not data:
                    return
                if is_reply and self._fault == "cut":
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    await asyncio.sleep(0)
                    writer.transport.abort()
                    return
                with contextlib.suppress(OSError):  # whoever asked has left
                    writer.write(data)
                    await writer.drain()
        finally:
            receiving.cancel()
            writer.close()


async def _both(one: Awaitable[None], other: Awaitable[None]) -> None:
    await asyncio.gather(one, other)


@asynccontextmanager
async def delayed(socket_path: str, round_trip: float) -> AsyncIterator[int]:
    """Yield the port at which the Unix socket can be reached, `round_trip` seconds away; opening takes one more."""
    proxy = FaultProxy(socket_path, delay=round_trip / 2)
    await proxy.listen()
    try:
        yield proxy.port
    finally:
        await proxy.close()
