"""Through a real LiveKit server: `make test-e2e`.

Nothing here is collected where `livekit-server` is not on PATH, nor by the processes of `make test`: calls that go on
in real time want the machine for themselves.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio
from livekit import api, rtc

from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from lkmongo.tokens import Token, TokenRequest, mint
from tests.e2e.caller import Caller, inside
from tests.livekit_server import BINARY, LiveKitServer, livekit_server_in
from tests.speech_gateway import Gateway, calls, inference_gateway
from tests.worker_process import Worker, worker

collect_ignore_glob = [] if BINARY and "PYTEST_XDIST_WORKER" not in os.environ else ["test_*.py"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the workers that tests share have logged last, where a test fails."""
    report = yield
    if report.failed:
        shared = {name: each for name, each in getattr(item, "funcargs", {}).items() if isinstance(each, Worker)}
        report.sections += [(f"log of {name}", each.log[-20_000:]) for name, each in shared.items()]
    return report


@pytest.fixture(scope="session")
def livekit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKitServer]:
    """A server that lives as long as the test run."""
    with livekit_server_in(tmp_path_factory.mktemp("livekit")) as server:
        yield server


@pytest.fixture
async def join(livekit_server: LiveKitServer) -> AsyncIterator[Callable[..., object]]:
    """Let a client in with a token; it leaves after the test. `before` is called with the room before it connects."""
    async with AsyncExitStack() as stack:

        async def enter(token: Token, before: Callable[[rtc.Room], object] = lambda _: None) -> rtc.Room:
            room = rtc.Room()
            before(room)
            stack.push_async_callback(room.disconnect)
            await room.connect(livekit_server.url, token.text)
            return room

        yield enter


# ---------------------------------------------------------------------- whole calls

VOICE, TEXT = "voice-agent", "text-agent"
"""The agents of the two workers that the tests share."""
DATABASE = "whole_calls"
TORN = 1.2
"""Seconds of silence that are no end of an utterance: on a busy machine sound arrives in pieces."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def records(mongodb_uri: str) -> AsyncIterator[Store]:
    """The store that all workers write to; each test has people of its own in it."""
    async with create_client(mongodb_uri) as client:
        store = Store.of(client[DATABASE])
        await database_indexes.apply(store.db)
        yield store


@pytest.fixture(scope="session")
def start_worker(
    livekit_server: LiveKitServer, mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractAsyncContextManager[Worker]]:
    """Start `lkmongo agent run` for the agent of a name, with more settings and options."""

    @asynccontextmanager
    async def start(name: str, environment: dict[str, str], *options: str) -> AsyncIterator[Worker]:
        settings = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": DATABASE, "LKMONGO_AGENT_NAME": name, "LKMONGO_AGENT": ""}
        async with worker(
            tmp_path_factory.mktemp(name),
            livekit_server.environment | settings | environment,
            *("--port", "0", "--host", "127.0.0.1", *options),
            program="lkmongo",
        ) as running:
            await running.logs("registered worker")  # before, a call has nobody to go to, and waits for nobody
            yield running

    return start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    """The stand-in for LiveKit Inference that the voice worker hears, thinks and speaks through."""
    async with inference_gateway(calls(), pause=TORN) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def voice_worker(start_worker, gateway: Gateway, records: Store) -> AsyncIterator[Worker]:
    """A worker as in production."""
    async with start_worker(VOICE, gateway.environment) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def text_worker(start_worker, records: Store) -> AsyncIterator[Worker]:
    """A worker for development, without LiveKit Inference or any language model."""
    async with start_worker(TEXT, {}, "--dev", "--demo") as running:
        yield running


@pytest.fixture(scope="session")
def call(livekit_server: LiveKitServer) -> Callable[..., AbstractAsyncContextManager[Caller]]:
    """Let a client into a room with a token that says `wanted`; see `inside`."""

    def call(*, microphone: bool = False, **wanted) -> AbstractAsyncContextManager[Caller]:
        token = mint(livekit_server.key, TokenRequest(**wanted))
        return inside(livekit_server.url, token.text, microphone=microphone)

    return call


@pytest_asyncio.fixture(loop_scope="session")
async def rooms(livekit_server: LiveKitServer) -> AsyncIterator[api.RoomService]:
    """What the holder of the secret can do with rooms."""
    key = livekit_server.key
    async with api.LiveKitAPI(livekit_server.url, key.api_key, key.secret, failover=False) as client:
        yield client.room
