"""Open the store: connect to MongoDB, or start a mongod of our own when no address is given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo import telemetry
from lkmongo.settings import Settings
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker
from lkmongo.store.mongo.client import Client, create_client, run_on_client_loop
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.orders import Orders
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.sessions import Sessions

if TYPE_CHECKING:
    from lkmongo.local.mongod import EmbeddedMongod

logger = logging.getLogger(__name__)

_CLOSE_DEADLINE = 1.0
"""Seconds in which a server may take note that its client leaves."""


@dataclass(frozen=True, slots=True)
class Store:
    """The data of one database; every part takes an `UserScope` or a `Tenant` and stays within it."""

    db: AsyncDatabase[dict[str, Any]]
    users: Users
    memories: Memories
    orders: Orders
    sessions: Sessions
    embedded: EmbeddedMongod | None = None
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    @classmethod
    def of(cls, db: AsyncDatabase[dict[str, Any]], embedded: EmbeddedMongod | None = None) -> Store:
        """The store over `db`."""
        return cls(db, Users(db), Memories(db), Orders(db), Sessions(db), embedded)

    async def ping(self) -> None:
        """Ask MongoDB for a sign of life.

        Raises:
            DatabaseUnavailableError: there is none.
            AuthenticationError: the credentials were refused.
        """
        await operations.read(lambda: self.db.command("ping"))


@asynccontextmanager
async def open_store(
    settings: Settings, *, on_status: Callable[[str], None] = lambda _: None, stays_warm: bool = False
) -> AsyncIterator[Store]:
    """Yield the store that the settings name, and close it after.

    With MONGODB_URI nothing is connected yet: the first operation does that. Without, the embedded mongod is
    started or joined.

    Args:
        settings: where the database is.
        on_status: told in a sentence what takes a while.
        stays_warm: keep connections open that nobody needs for a while.

    Raises:
        EmbeddedError: the embedded mongod cannot run here.
        SettingsError: MONGODB_URI cannot be parsed.
    """
    telemetry.configure(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(telemetry.flush)
        embedded = None
        if settings.mongodb_uri:
            uri = settings.mongodb_uri.get_secret_value()
        else:
            from lkmongo.local.mongod import EmbeddedMongod

            embedded = EmbeddedMongod(
                settings.data_home,
                linger=settings.linger.total_seconds() if settings.linger else 0,
            )
            stack.push_async_callback(_finish, embedded.close)
            loop = asyncio.get_running_loop()

            def say_so() -> None:
                loop.call_soon_threadsafe(on_status, "Starting the embedded MongoDB ...")

            await _finish(lambda: embedded.open(on_start=say_so))
            uri = embedded.uri
        client = create_client(uri, stays_warm=stays_warm)
        stack.push_async_callback(run_on_client_loop, lambda: _close(client))
        yield Store.of(client[settings.mongodb_db], embedded)


async def _close(client: Client) -> None:
    """Close the connections; the server is told that its sessions are over, as long as it listens."""
    try:
        async with asyncio.timeout(_CLOSE_DEADLINE):
            await client.close()
    except TimeoutError:
        await client.close()  # the sessions are forgotten by now: this one does not speak to the server


async def _finish(work: Callable[[], None]) -> None:
    """Run blocking work in a thread to its end, also when cancelled: a mongod half started would stay behind."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            await task
        raise
