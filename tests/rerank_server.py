"""Voyage's API for reranking over real HTTP, with the stand-in's model: it counts words, and knows nothing else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.standin.rerank import MODELS, relevance

KEY = "pa-very-secret"


@dataclass
class RerankServer:
    """What it was asked, and what it shall do to the next requests instead of answering.

    An entry of `script` is a status, a body to answer with, or "hang".
    """

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    script: deque[Any] = field(default_factory=deque)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def rerank(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        action = self.script.popleft() if self.script else None
        if action == "hang":
            await self.released.wait()
        if isinstance(action, int):
            return web.json_response({"detail": f"status {action}"}, status=action)
        if isinstance(action, dict):
            return web.json_response(action)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"detail": "Provided API key is invalid."}, status=401)
        if body["model"] not in MODELS:
            return web.json_response({"detail": f"Model {body['model']} is not supported."}, status=400)
        scores = [relevance(body["query"], text) for text in body["documents"]]
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        data = [{"object": "rerank", "index": place, "relevance_score": scores[place]} for place in order]
        usage = {"total_tokens": sum(len(text) // 4 for text in body["documents"])}
        return web.json_response({"object": "list", "data": data, "model": body["model"], "usage": usage})


@asynccontextmanager
async def rerank_server() -> AsyncIterator[RerankServer]:
    """A server for the time of the block; its `url` is what VOYAGE_BASE_URL is set to."""
    server = RerankServer()
    app = web.Application()
    app.router.add_post("/v1/rerank", server.rerank)
    running = TestServer(app)
    await running.start_server()
    server.url = str(running.make_url("/v1"))
    try:
        yield server
    finally:
        server.released.set()
        await running.close()
