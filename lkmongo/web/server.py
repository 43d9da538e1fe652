"""Putting the web server together, and running it until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from lkmongo.errors import LkmongoError, SettingsError
from lkmongo.model import DEFAULT_TENANT, Tenant
from lkmongo.store.opening import Store, open_store
from lkmongo.store.provision import apply
from lkmongo.tokens import SigningKey
from lkmongo.web import page
from lkmongo.web.api import MAX_BODY, Calls, Interface
from lkmongo.web.caller import Callers
from lkmongo.web.guard import content_security_policy, guard
from lkmongo.web.handle import CookieKeys, load_keys
from lkmongo.web.login import Login, load_login
from lkmongo.web.origins import Origins, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORT = 8080
_FINISH = 5.0
"""Seconds that requests which go on may take when the server ends."""


class ListenError(LkmongoError):
    """The server cannot listen there."""

    code = "cannot_listen"


@dataclass(frozen=True, slots=True)
class Options:
    """Where the server listens, whose customers come, and where LiveKit's browser client is."""

    host: str = HOST
    port: int = PORT
    tenant_id: str = DEFAULT_TENANT
    assets: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a server is made of, all of it looked at before anything is started."""

    options: Options
    calls: Calls
    login: Login
    keys: CookieKeys
    origins: Origins
    client: page.Client


def plan(settings: Settings, options: Options) -> Plan:
    """See that everything is there that a server needs.

    Raises:
        SettingsError: LiveKit's variables are not set, the login cannot be loaded, the keys cannot be kept, or the
            server would be open to others with nobody to ask who they are.
        UsageError: the tenant cannot be one, or LiveKit's client is not in the folder.
    """
    Tenant(options.tenant_id)
    credentials = settings.livekit
    if credentials is None:
        raise SettingsError(
            "LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set",
            why="the page talks through a LiveKit server, and the tokens for it are signed with its key pair",
            hint="set all three in .env.local; a LiveKit server on this machine: livekit-server --dev, with devkey and secret",
        )
    loopback = is_loopback(options.host)
    if not loopback and not settings.web_auth:
        raise SettingsError(
            f"others could reach {options.host}, and LKMONGO_WEB_AUTH is not set",
            why="whoever reaches the server may talk, at your cost, and nobody asks who they are",
            hint="set LKMONGO_WEB_AUTH to your login (docs/web.md), or listen on 127.0.0.1 behind a proxy that asks",
        )
    url = credentials.url.replace("http", "ws", 1) if credentials.url.startswith("http") else credentials.url
    return Plan(
        options,
        Calls(url, SigningKey(credentials.api_key, credentials.api_secret), settings.agent_name),
        load_login(settings.web_auth),
        load_keys(settings),
        Origins(settings.web_origins, loopback=loopback),
        page.load_client(options.assets),
    )


def create_app(plan: Plan, store: Store) -> web.Application:
    """The application, for a server or a test."""
    callers = Callers(store, plan.keys, plan.login, plan.origins, plan.options.tenant_id)
    policy = content_security_policy(plan.calls.server_url, plan.client.source)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[guard(plan.origins, policy)])
    app.router.add_routes([*Interface(store, callers, plan.calls).routes(), *page.routes(plan.client)])

    async def close(_: web.Application) -> None:
        await callers.close()

    app.on_shutdown.append(close)
    return app


async def serve(
    settings: Settings, plan: Plan, *, on_ready: Callable[[str], None], on_status: Callable[[str], None]
) -> None:
    """Serve until cancelled; then requests that go on have some seconds to end.

    Args:
        settings: where the database is.
        plan: what the server is made of.
        on_ready: told the address, once it is listened on.
        on_status: told in a sentence what takes a while, or is away.

    Raises:
        ListenError: the address is taken, or is none of this machine's.
        EmbeddedError: the embedded mongod cannot run here.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings, on_status=on_status))
        stack.push_async_callback(_cancel, asyncio.create_task(_prepare(store, on_status)))
        url = await stack.enter_async_context(_listening(create_app(plan, store), plan.options))
        on_ready(url)
        await asyncio.Event().wait()


@asynccontextmanager
async def _listening(app: web.Application, options: Options) -> AsyncIterator[str]:
    """Serve `app`; yields the address that a browser on this machine takes."""
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_FINISH, keepalive_timeout=30)
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port)
        try:
            await site.start()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise ListenError(
                f"nobody can listen on {options.host}, port {options.port}",
                why="another program does already" if taken else error.strerror,
                hint="choose another with --port" if taken else "choose an address of this machine with --host",
            ) from error
        yield _url(options.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "localhost", "::": "localhost", HOST: "localhost"}.get(host, host)  # noqa: S104
    netloc = f"[{name}]" if ":" in name else name
    return urlsplit(f"http://{netloc}:{port}/").geturl()


async def _prepare(store: Store, on_status: Callable[[str], None]) -> None:
    """Create what is missing in the database, or say that it is away: guests are then known by their cookies alone."""
    try:
        await apply(store.db)
    except LkmongoError as error:
        on_status(f"warning: {error.message} ({error.why}); tokens are given all the same")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
