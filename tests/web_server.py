"""The web server on a real socket, and browsers as far as HTTP goes: with a cookie jar each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
from pydantic import SecretStr

from lkmongo.dispatch import Dispatched, read_dispatch
from lkmongo.settings import LiveKitCredentials, Settings
from lkmongo.store.open import Store
from lkmongo.tenants import TenantPolicy
from lkmongo.tokens import SigningKey, TokenRequest
from lkmongo.web.api import LiveKitServer
from lkmongo.web.brand import Brand
from lkmongo.web.caller import Hook, Login
from lkmongo.web.handle import CookieKeys
from lkmongo.web.origins import Origins
from lkmongo.web.proxies import Proxies
from lkmongo.web.server import Client, Options, Plan, create_app, listening

SECRET = "a-secret-that-is-long-enough-for-hmac-256"
KEY = SigningKey("APIabcdefgh", SecretStr(SECRET))
CREDENTIALS = LiveKitCredentials("ws://127.0.0.1:7880", KEY.api_key, KEY.api_secret)
AGENT = "lkmongo-agent"
OLD_KEY, NEW_KEY = "k" * 32, "n" * 32


@dataclass
class Server:
    """A web server that runs; `browser` makes a client that has no cookies yet."""

    url: str
    browser: Callable[[], aiohttp.ClientSession]

    @property
    def origin(self) -> str:
        """That of its own page."""
        return self.url.rstrip("/")


@asynccontextmanager
async def web_server(
    store: Store,
    *,
    hook: Hook | None = None,
    keys: tuple[str, ...] = (OLD_KEY,),
    origins: str | None = None,
    loopback: bool = True,
    tenant: str = "default",
    url: str = CREDENTIALS.url,
    key: SigningKey = KEY,
    agent_name: str = AGENT,
    client: Client | None = None,
    policy: TenantPolicy | None = None,
    settings: Settings | None = None,
    port: int = 0,
    proxies: str | None = None,
    most: int | None = None,
    brand: Brand | None = None,
    on_token: Callable[[TokenRequest], None] = lambda _: None,
) -> AsyncIterator[Server]:
    """Serve on 127.0.0.1, on at most so many connections."""
    plan = Plan(
        Options("127.0.0.1", port, tenant),
        LiveKitServer(url, key, agent_name),
        Login(hook),
        CookieKeys(list(keys)),
        Origins(origins, loopback=loopback),
        Proxies(proxies),
        client or Client(),
        policy or TenantPolicy(),
        settings,
        brand or Brand(),
    )
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(create_app(plan, store, on_token), plan.options, most))

        def browser() -> aiohttp.ClientSession:
            session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
            stack.push_async_callback(session.close)
            return session

        yield Server(url.replace("localhost", "127.0.0.1"), browser)


def claims(answer: dict[str, Any]) -> dict[str, Any]:
    """What the token of an answer says, its signature checked."""
    return jwt.decode(answer["participant_token"], SECRET, algorithms=["HS256"])


def told(answer: dict[str, Any]) -> Dispatched:
    """Whom the agent takes the caller for, who came with the token of this answer."""
    said = claims(answer)
    return read_dispatch(said["roomConfig"]["agents"][0]["metadata"], room=said["video"]["room"], secret=SECRET)


async def token(browser: aiohttp.ClientSession, server: Server, **options: Any) -> dict[str, Any]:
    """A token, by a request of LiveKit's clients."""
    async with browser.post(f"{server.url}api/token", json=options.pop("json", {}), **options) as answer:
        assert answer.status == 201, await answer.text()
        return dict(await answer.json())


async def call(browser: aiohttp.ClientSession, method: str, url: str, **options: Any) -> tuple[int, Any]:
    """Status and body of an answer."""
    async with browser.request(method, url, **options) as answer:
        return answer.status, await answer.json() if answer.content_type == "application/json" else await answer.read()
