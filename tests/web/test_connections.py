"""So many connections and no more, and nobody is kept out by those on which nothing is asked."""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from lkmongo.web import connections
from lkmongo.web.connections import most_connections
from tests.waiting import until
from tests.web_server import call, web_server

MOST = 20


@pytest.fixture
async def server(store):
    async with web_server(store, most=MOST) as running:
        yield running


@asynccontextmanager
async def idle(server, number: int, begin: bytes = b""):
    """That many connections on which no request ever ends."""
    host, port = server.url.split("/")[2].split(":")
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(number):
            reader, writer = await asyncio.open_connection(host, int(port))
            stack.callback(writer.transport.abort)
            writer.write(begin)
            opened.append((reader, writer))
        yield opened


def ended(opened) -> list[bool]:
    return [reader.at_eof() for reader, _ in opened]


@pytest.mark.parametrize("begin", [b"", b"GET /api/memories HTTP/1.1\r\nHost: "])
async def test_idle_connections_make_way_the_oldest_first(server, begin):
    async with idle(server, 3 * MOST, begin) as opened:
        for _ in range(3):
            assert (await call(server.browser(), "POST", f"{server.url}api/token"))[0] == 201
        await until(lambda: sum(ended(opened)) >= 2 * MOST + 3)
        of_all = ended(opened)
        assert of_all == sorted(of_all, reverse=True), "those that are left are the last"
        assert not of_all[-1]


@asynccontextmanager
async def busy(server, number: int):
    """That many connections with a request in progress, whose body has not ended."""
    head = b"POST /api/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    async with idle(server, number, head + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{") as opened:
        for reader, _ in opened:
            assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
            await reader.readline()
        yield opened


async def test_a_request_in_progress_is_never_cut_off_and_the_next_one_is_told_to_come_back(server):
    async with busy(server, MOST) as opened:

        async def answer() -> bytes:
            async with idle(
                server, 1, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            ) as opened:
                return await opened[0][0].read()

        refused = await answer()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5" in refused
        assert refused.endswith(b'"too many connections; try again later"}')
        for reader, writer in opened:
            writer.write(b"}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        assert (await call(server.browser(), "POST", f"{server.url}api/token"))[0] == 201


@pytest.mark.parametrize(
    ("files", "most"),
    [(1_024, 768), (65_536, 1_000), (resource.RLIM_INFINITY, 1_000), (1_256, 1_000), (100, 16)],
)
def test_it_leaves_files_for_the_rest_of_the_process(monkeypatch, files, most):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most


async def test_a_flood_of_refused_connections_takes_no_more_files(store, monkeypatch):
    monkeypatch.setattr(connections, "_REFUSED_AT_ONCE", 3)
    monkeypatch.setattr(connections, "_REFUSED_FOR", 60.0)
    async with web_server(store, most=1) as server, busy(server, 1), idle(server, 10) as opened:
        told = await asyncio.gather(*(last_words(reader) for reader, _ in opened))
    assert sum(each.startswith(b"HTTP/1.1 503 ") for each in told) == 3
    assert sum(each == b"" for each in told) == 7


async def last_words(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
