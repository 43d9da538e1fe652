"""Opens the store: connects to MONGODB_URI, or starts the embedded mongod."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo import telemetry
from lkmongo.redaction import Redaction
from lkmongo.settings import Settings
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker
from lkmongo.store.mongo.client import CONNECTIONS, Client, create_client, run_on_client_loop
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.erasure_key import ErasureKey, load_erasure_key
from lkmongo.store.mongo.master_keys import MasterKeys, master_keys
from lkmongo.store.people.history import History
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.orders import Orders
from lkmongo.store.people.phones import Phones
from lkmongo.store.people.pins import Pins
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.learning import Learnings
from lkmongo.store.sessions.sessions import Sessions
from lkmongo.store.sessions.summaries import Summaries
from lkmongo.store.sessions.webhooks import Webhooks

if TYPE_CHECKING:
    from lkmongo.local.mongod import EmbeddedMongod

logger = logging.getLogger(__name__)

_WITH_KEYS = CONNECTIONS + 1
"""Connections where a person's key is fetched beside their slots and their profile."""
_CLOSE_DEADLINE = 1.0
"""Seconds for a graceful close of the connections."""


@dataclass(frozen=True, slots=True)
class Store:
    """The repositories of one database; each stays within the `UserScope` or `TenantScope` it is given."""

    db: AsyncDatabase[dict[str, Any]]
    users: Users
    memories: Memories
    history: History
    orders: Orders
    sessions: Sessions
    webhooks: Webhooks
    summaries: Summaries
    learning: Learnings
    phones: Phones
    pins: Pins
    embedded: EmbeddedMongod | None = None
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    redaction: Redaction = field(default_factory=Redaction)

    @classmethod
    def of(
        cls,
        db: AsyncDatabase[dict[str, Any]],
        embedded: EmbeddedMongod | None = None,
        *,
        announces: bool = False,
        learns: bool = False,
        redaction: Redaction | None = None,
    ) -> Store:
        """The repositories over `db`.

        Args:
            db: the database.
            embedded: the server that it is on, if it is ours.
            announces: a webhook is told of the end of each session.
            learns: there is a language model to learn from sessions that were interrupted.
            redaction: what is not kept of what people say; by default what every tenant has.
        """
        sessions = Sessions(db, announces=announces, learns=learns)
        return cls(
            db,
            Users(db),
            Memories(db),
            History(db),
            Orders(db),
            sessions,
            Webhooks(db),
            Summaries(db),
            Learnings(db),
            Phones(db),
            Pins(db),
            embedded,
            redaction=redaction or Redaction(),
        )

    @property
    def encryption(self) -> Encryption:
        """What is encrypted of people in this database, and by which keys."""
        return Encryption.of(self.db)

    @property
    def erasure_key(self) -> ErasureKey | None:
        """The key that this process has to hide the ids of erased people."""
        client = self.db.client
        return client.erasure_key if isinstance(client, Client) else None

    async def ping(self) -> None:
        """Ping MongoDB. Raises as `operations.read` does."""
        await operations.read(lambda: self.db.command("ping"))

    async def warm(self) -> None:
        """Open every connection, and fetch the key that every person's is found by; raises as `ping` does."""
        vault = self.encryption.vault
        pings = CONNECTIONS if vault is None or vault.apart else _WITH_KEYS
        await asyncio.gather(*(self.ping() for _ in range(pings)))
        if vault:
            await vault.warm()


@asynccontextmanager
async def open_store(
    settings: Settings, *, on_status: Callable[[str], None] = lambda _: None, stays_warm: bool = False
) -> AsyncIterator[Store]:
    """Yield the store that the settings name, and close it at the end.

    With MONGODB_URI, the first operation connects. Without, the embedded mongod is started or joined.

    Args:
        settings: with the address of the database.
        on_status: called with a sentence when something takes a while.
        stays_warm: keep idle connections open.

    Raises:
        EmbeddedError: the embedded mongod cannot run here.
        SettingsError: MONGODB_URI or what is to be redacted is invalid, or what LKMONGO_ENCRYPTION needs is missing.
        MissingExtraError: phone numbers are to be redacted, and the extra for that is not installed.
    """
    redaction = Redaction.of(settings)
    master = master_keys(settings)
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
            stack.push_async_callback(_run_to_end, embedded.close)
            loop = asyncio.get_running_loop()

            def report_start() -> None:
                loop.call_soon_threadsafe(on_status, "Starting the embedded MongoDB ...")

            await _run_to_end(lambda: embedded.open(on_start=report_start))
            uri = embedded.uri
        shares = master is not None and settings.key_vault_uri is None
        client = create_client(uri, stays_warm=stays_warm, connections=_WITH_KEYS if shares else CONNECTIONS)
        client.erasure_key = load_erasure_key(settings, embedded=embedded is not None)
        stack.push_async_callback(run_on_client_loop, lambda: _close(client))
        if master:
            await _encrypt(stack, client, settings, master, stays_warm=stays_warm)
        announces, learns = settings.webhook_url is not None, settings.has_language_model
        yield Store.of(client[settings.mongodb_db], embedded, announces=announces, learns=learns, redaction=redaction)


async def _encrypt(
    stack: AsyncExitStack, client: Client, settings: Settings, master: MasterKeys, *, stays_warm: bool
) -> None:
    """Let the database of the settings be encrypted by the keys of their key vault."""
    from lkmongo.store.mongo.key_vault import KeyVault

    keeper = client
    if settings.key_vault_uri:
        keeper = create_client(settings.key_vault_uri.get_secret_value(), stays_warm=stays_warm)
        stack.push_async_callback(run_on_client_loop, lambda: _close(keeper))
    vault = KeyVault(keeper, settings.mongodb_db, master, apart=keeper is not client)
    stack.push_async_callback(vault.close)
    stack.callback(client.encryption.clear)
    Encryption(vault).use(client[settings.mongodb_db])


async def _close(client: Client) -> None:
    """Close the connections, and end the server's sessions if it answers in time."""
    try:
        async with asyncio.timeout(_CLOSE_DEADLINE):
            await client.close()
    except TimeoutError:
        await client.close()  # without sessions left, this does not contact the server


async def _run_to_end(work: Callable[[], None]) -> None:
    """Run blocking work in a thread to its end, even if cancelled, so that no half-started mongod is left."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            await task
        raise
