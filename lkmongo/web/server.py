"""The web server: assembled and run; the talk page's files."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from aiohttp import web

from lkmongo.aio import running
from lkmongo.api_secret import check_secret
from lkmongo.errors import LkmongoError, SettingsError, UsageError
from lkmongo.model import DEFAULT_TENANT, TenantScope
from lkmongo.setting_checks import LiveKitCredentials, is_loopback
from lkmongo.store.indexes.database_indexes import apply
from lkmongo.store.open import Store, open_store
from lkmongo.tenants import TenantPolicy
from lkmongo.tokens import SigningKey, TokenRequest
from lkmongo.web.api import Interface, LiveKitServer
from lkmongo.web.brand import Brand, brand_routes, load_brand
from lkmongo.web.caller import Callers, Login, load_login
from lkmongo.web.connections import Connections, most_connections
from lkmongo.web.guard import MAX_BODY, content_security_policy, guard
from lkmongo.web.handle import CookieKeys, load_keys
from lkmongo.web.origins import Origins
from lkmongo.web.page import page_routes, serve_file
from lkmongo.web.proxies import Proxies
from lkmongo.web.rights import Rights
from lkmongo.web.unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.web_protocol import RequestHandler

    from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

CLIENT_VERSION = "2.23.0"
CLIENT_FILE = "livekit-client.umd.js"
CLIENT_URL = f"https://cdn.jsdelivr.net/npm/livekit-client@{CLIENT_VERSION}/dist/{CLIENT_FILE}"
CLIENT_INTEGRITY = "sha384-HkA7rQNo8H04l1p4zoXX1Cy+h9YoYp8LvKt4vfMFhv4KFk07UkrNwIUnyBum8Pw6"
"""Hash of the published file; browsers refuse any other."""


@dataclass(frozen=True, slots=True)
class Client:
    """LiveKit's browser client; without `content` the browser fetches it from jsDelivr."""

    content: bytes | None = None

    @property
    def tag(self) -> str:
        if self.content is not None:
            return f'<script src="{CLIENT_FILE}" defer></script>'
        return f'<script src="{CLIENT_URL}" integrity="{CLIENT_INTEGRITY}" crossorigin="anonymous" defer></script>'

    @property
    def source(self) -> str:
        """An additional script source for the content security policy."""
        return CLIENT_URL if self.content is None else ""

    @property
    def is_pinned(self) -> bool:
        """Whether it is the version that the page was written for."""
        if self.content is None:
            return True
        found = base64.b64encode(hashlib.sha384(self.content).digest()).decode()
        return f"sha384-{found}" == CLIENT_INTEGRITY


def load_client(folder: Path | None) -> Client:
    """The client in `folder`, or jsDelivr's without one; raises UsageError if it cannot be read."""
    if folder is None:
        return Client()
    try:
        return Client((folder.expanduser() / CLIENT_FILE).read_bytes())
    except OSError as error:
        raise UsageError(
            f"{folder / CLIENT_FILE} cannot be read",
            why=error.strerror,
            hint=f"npm pack livekit-client@{CLIENT_VERSION}, unpack it, and name its folder package/dist",
        ) from error


def routes(client: Client, brand: Brand) -> Iterable[web.RouteDef]:
    """The routes of the page; its files are read once."""
    yield from page_routes(client.tag, brand.page)
    yield from brand_routes(brand)
    if client.content is not None:
        yield web.get(f"/{CLIENT_FILE}", serve_file(client.content, "text/javascript"))


HOST = "127.0.0.1"
PORT = 8080
_FINISH = 5.0
"""Seconds for requests in progress when the server stops."""


class ListenError(LkmongoError):
    """The server cannot listen there."""

    code = "cannot_listen"


@dataclass(frozen=True, slots=True)
class Options:
    """Where the server listens, its tenant, the folder of LiveKit's browser client; `dev` accepts a weak secret."""

    host: str = HOST
    port: int = PORT
    tenant_id: str = DEFAULT_TENANT
    assets: Path | None = None
    dev: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a server, all checked before anything is started."""

    options: Options
    livekit: LiveKitServer
    login: Login
    keys: CookieKeys
    origins: Origins
    proxies: Proxies
    client: Client
    policy: TenantPolicy = field(default_factory=TenantPolicy)
    settings: Settings | None = None
    brand: Brand = field(default_factory=Brand)
    concern: str | None = None
    """What to warn of before it is started."""


def plan(settings: Settings, options: Options) -> Plan:
    """Check everything that a server needs.

    Raises:
        SettingsError: LiveKit's variables are not set, its secret could be guessed, the login cannot be loaded, the
            keys or the logo cannot be read or stored, or the server would be reachable by others without a login.
        UsageError: an invalid tenant, or no LiveKit client in the folder.
    """
    TenantScope(options.tenant_id)
    credentials = settings.livekit
    if credentials is None:
        raise SettingsError(
            "LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set",
            why="the page connects to a LiveKit server, and tokens for it are signed with its key pair",
            hint="set all three in .env.local; for a LiveKit server on this machine run livekit-server --dev, "
            "with devkey and secret",
        )
    concern = check_secret(credentials.secrets[0], permitted=options.dev or credentials.is_local)
    loopback = is_loopback(options.host)
    if not loopback and not settings.web_auth:
        raise SettingsError(
            f"others could reach {options.host}, and LKMONGO_WEB_AUTH is not set",
            why="anybody who reaches the server could talk at your cost without logging in",
            hint="set LKMONGO_WEB_AUTH to your login (docs/web.md), or listen on 127.0.0.1 behind a proxy that "
            "authenticates",
        )
    url = credentials.url.replace("http", "ws", 1) if credentials.url.startswith("http") else credentials.url
    return Plan(
        options,
        LiveKitServer(url, SigningKey(credentials.api_key, credentials.api_secret), settings.agent_name),
        load_login(settings.web_auth),
        load_keys(settings),
        Origins(settings.web_origins, loopback=loopback),
        Proxies(settings.web_proxies),
        load_client(options.assets),
        settings.tenant_policies().policy(options.tenant_id),
        settings,
        load_brand(settings),
        concern,
    )


_IN_PROGRESS = web.AppKey("in_progress", set)
"""The connections that have a request which is being answered."""


def create_app(plan: Plan, store: Store, on_token: Callable[[TokenRequest], None] = lambda _: None) -> web.Application:
    """The server's handlers; `on_token` is told of each token."""
    asks = plan.policy.consent == "ask"
    callers = Callers(store, plan.keys, plan.login, plan.origins, plan.options.tenant_id, asks=asks)
    rights = Rights(store, callers, plan.policy, plan.settings)
    policy = content_security_policy(plan.livekit.server_url, plan.client.source)
    in_progress: set[RequestHandler] = set()
    passed = guard(plan.origins, policy, plan.proxies, callers.visitor, in_progress)
    app = web.Application(client_max_size=MAX_BODY, middlewares=[passed])
    app[_IN_PROGRESS] = in_progress
    limits = plan.settings.limits_of(plan.options.tenant_id) if plan.settings else None
    interface = Interface(store, callers, plan.livekit, plan.proxies, limits, asks=asks, on_token=on_token)
    app.router.add_routes([*interface.routes(), *rights.routes(), *routes(plan.client, plan.brand)])

    async def close(_: web.Application) -> None:
        await callers.close()
        await rights.close()

    app.on_shutdown.append(close)
    return app


async def serve(
    settings: Settings, plan: Plan, *, on_ready: Callable[[str], None], on_status: Callable[[str], None]
) -> None:
    """Serve until cancelled; requests in progress then have some seconds to finish.

    Args:
        settings: name the database.
        plan: from `plan`.
        on_ready: called with the address once it is listening.
        on_status: called with a sentence about what takes a while or is unavailable.

    Raises:
        ListenError: the address is in use, or not one of this machine.
        EmbeddedError: the embedded mongod cannot run here.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings, on_status=on_status))
        stack.push_async_callback(_cancel, asyncio.create_task(_prepare(store, on_status)))
        unanswered = _unanswered(settings, plan, store)
        await stack.enter_async_context(running(unanswered.serve()))
        url = await stack.enter_async_context(listening(create_app(plan, store, unanswered.given), plan.options))
        on_ready(url)
        await asyncio.Event().wait()


@asynccontextmanager
async def listening(app: web.Application, options: Options, most: int | None = None) -> AsyncIterator[str]:
    """Serve `app` on `most` connections at once, by default as many as the system allows; yields its address."""
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_FINISH, keepalive_timeout=30)
    await runner.setup()
    in_progress: set[RequestHandler] = app[_IN_PROGRESS]
    connections = Connections(cast("web.Server", runner.server), in_progress, most or most_connections())
    try:
        try:
            server = await asyncio.get_running_loop().create_server(connections, options.host, options.port)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise ListenError(
                f"cannot listen on {options.host}, port {options.port}",
                why="another program already does" if taken else error.strerror,
                hint="choose another with --port" if taken else "choose an address of this machine with --host",
            ) from error
        async with server:
            yield _url(options.host, server.sockets[0].getsockname()[1])
    finally:
        await runner.cleanup()


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "localhost", "::": "localhost", HOST: "localhost"}.get(host, host)  # noqa: S104
    netloc = f"[{name}]" if ":" in name else name
    return urlsplit(f"http://{netloc}:{port}/").geturl()


def _unanswered(settings: Settings, plan: Plan, store: Store) -> Unanswered:
    server, asks = plan.livekit, plan.policy.consent == "ask"
    credentials = settings.livekit or LiveKitCredentials(server.server_url, server.key.api_key, server.key.api_secret)
    return Unanswered(store, credentials, server.agent_name, plan.options.tenant_id, asks=asks)


async def _prepare(store: Store, on_status: Callable[[str], None]) -> None:
    """Create missing indexes; without the database every visitor is a guest of one call."""
    try:
        await apply(store.db)
    except LkmongoError as error:
        on_status(f"warning: {error.message} ({error.why}); tokens are issued all the same")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
