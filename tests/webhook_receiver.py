"""A receiver of webhooks that accepts, refuses, redirects or hangs, for tests; it verifies as docs/examples does."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from docs.examples.webhook_receiver import verify
from lkmongo.outbox.webhook import Endpoint
from lkmongo.settings import Settings

SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes, or more").decode()


class Receiver:
    """What came, in order, and what is answered to it."""

    def __init__(self) -> None:
        self.url = ""
        self.ids: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.bodies: list[str] = []
        self.answers: list[int] = []
        """The next answers; afterwards it accepts."""
        self.goes_on = asyncio.Event()
        """While it is not set, nothing is answered."""
        self.goes_on.set()

    @property
    def environment(self) -> dict[str, str]:
        return {"LKMONGO_WEBHOOK_URL": self.url, "LKMONGO_WEBHOOK_SECRET": SECRET}

    @property
    def endpoint(self) -> Endpoint:
        endpoint = Endpoint.of(Settings.load(self.environment))
        assert endpoint
        return endpoint

    @property
    def data(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events]

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.events.append(verify(SECRET, request.headers, body))
        self.ids.append(request.headers["webhook-id"])
        self.bodies.append(body.decode())
        await self.goes_on.wait()
        status = self.answers.pop(0) if self.answers else 204
        headers = {"Location": f"{self.url}/elsewhere"} if status in {301, 302, 307} else {}
        return web.Response(status=status, headers=headers, text="x" * 100_000 if status == 500 else None)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.receive)
    app.router.add_post("/hook/elsewhere", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        receiver.goes_on.set()
        await runner.cleanup()
