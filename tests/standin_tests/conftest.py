"""A stand-in and a database of its own for each test, before the real mongod of the test run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection

from tests.standin import Standin


@pytest.fixture
def start(mongodb_uri: str) -> Iterator[Callable[..., Standin]]:
    """Start a stand-in; its clock stands still unless the test asks for a running one."""
    with ExitStack() as stack:

        def run(**options: Any) -> Standin:
            options = {"clock": "virtual", "build_seconds": 4.0} | options
            return stack.enter_context(Standin.before(mongodb_uri, **options))

        yield run


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., AsyncMongoClient]]:
    """Connect to a stand-in, or to an address."""
    async with AsyncExitStack() as stack:

        async def open_client(where: Standin | str, **options: Any) -> AsyncMongoClient:
            uri = where if isinstance(where, str) else where.uri
            options = {"serverSelectionTimeoutMS": 5000} | options
            return await stack.enter_async_context(AsyncMongoClient(uri, **options))

        yield open_client


@pytest.fixture
def name() -> str:
    """The name of a database of this test's own; it goes away with the server."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
async def collection(connect: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The collection `c`, made, seen through a stand-in."""

    async def through(standin: Standin, **options: Any) -> AsyncCollection:
        client = await connect(standin, **options)
        if "c" not in await client[name].list_collection_names():
            await client[name].create_collection("c")
        return client[name]["c"]

    return through
