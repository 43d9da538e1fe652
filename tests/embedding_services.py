"""Embedding services for tests, over real HTTP: Voyage, and a server with OpenAI's embeddings API."""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

KEY = "pa-very-secret"


def vector_of(text: str, kind: str, dimensions: int) -> np.ndarray:
    """What a server gives for a text: any vector will do, but always the same one."""
    seed = int.from_bytes(sha256(f"{kind} {text}".encode()).digest()[:8])
    vector = np.random.default_rng(seed).standard_normal(dimensions).astype("<f4")
    return vector / np.linalg.norm(vector)


def encoded(vector: np.ndarray, *, as_list: bool) -> Any:
    return vector.tolist() if as_list else base64.b64encode(vector.astype("<f4").tobytes()).decode()


def refusal(status: int, detail: str, **headers: str) -> web.Response:
    return web.json_response(
        {"detail": detail}, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


@dataclass
class Service(ABC):
    """A service: what it was asked, and what it shall do to the next requests instead of answering."""

    url: str = ""
    requests: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    connections: set = field(default_factory=set)
    script: deque = field(default_factory=deque)
    warmed: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def routes(self) -> dict[str, Any]:
        return {"/v1/embeddings": self.embeddings}

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self.scripted(request, body) or self.answer(body, request.headers.get("Authorization"))

    @abstractmethod
    def answer(self, body: dict, authorization: str | None) -> web.Response:
        """What it answers to a body with this authorization."""

    async def elsewhere(self, request: web.Request) -> web.Response:
        self.warmed += 1
        self.connections.add(request.transport)
        return refusal(404, "Not found")

    async def scripted(self, request: web.Request, body: dict) -> web.StreamResponse | None:
        """Note the request, and do what the script says."""
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.connections.add(request.transport)
        self.asked.set()
        action = self.script.popleft() if self.script else None
        if action == "reset":
            request.transport.abort()
            return web.Response()
        if action == "half":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"data": [')
            request.transport.close()
            return response
        if action == "hang":
            await self.released.wait()
        return action if isinstance(action, web.Response) else None


@dataclass
class Voyage(Service):
    """Voyage's two endpoints; a vector with context depends on every passage of its document."""

    free_tier: bool = False
    as_lists: bool = False
    dimensions: int | None = None

    def routes(self) -> dict[str, Any]:
        return super().routes() | {"/v1/contextualizedembeddings": self.embeddings}

    def answer(self, body: dict, authorization: str | None) -> web.Response:
        if authorization != f"Bearer {KEY}":
            return refusal(401, f"Provided API key {(authorization or '')[7:]} is invalid.")
        together = "inputs" in body
        documents = body["inputs"] if together else [[text] for text in body["input"]]
        tokens = sum(len(text) for document in documents for text in document) // 4
        if self.free_tier and tokens > 10_000:
            return refusal(429, "You have not yet added your payment method: 3 RPM and 10K TPM.")
        if together and (tokens > 32_000 or len(documents) > 1000 or not all(documents)):
            return refusal(400, "The total number of tokens across all inputs must not exceed 32000 tokens.")
        rows = [self._rows(document, body) for document in documents]
        data: list[Any] = [{"data": row, "index": index} for index, row in enumerate(rows)]
        if not together:
            data = [row[0] | {"index": index} for index, row in enumerate(rows)]
        return web.json_response({"data": data, "model": body["model"], "usage": {"total_tokens": tokens}})

    def _rows(self, document: list[str], body: dict) -> list[dict]:
        dimensions = self.dimensions or body.get("output_dimension") or 1024
        context = " | ".join(document) if len(document) > 1 else ""
        vectors = [vector_of(text + context, body["input_type"], dimensions) for text in document]
        return [{"embedding": encoded(row, as_list=self.as_lists), "index": n} for n, row in enumerate(vectors)]


@dataclass
class OpenAI(Service):
    """OpenAI's embeddings API as some server or other has it.

    Attributes:
        native: dimensions of its vectors unless it is asked for fewer.
        key: refused without it.
        dimensions: whether it takes the parameter, ignores it, or refuses it.
        base64: sends it, whatever is asked for.
        numbered: gives indices, with the last text first; or no indices.
        scale: the length of its vectors.
        most: texts of a request.
        context: characters of a text.
    """

    native: int = 384
    key: str | None = None
    dimensions: str = "taken"
    base64: bool = False
    numbered: bool = True
    scale: float = 1.0
    most: int = 2048
    context: int = 100_000

    def answer(self, body: dict, authorization: str | None) -> web.Response:
        if self.key and authorization != f"Bearer {self.key}":
            return web.json_response({"error": {"message": f"Incorrect API key: {authorization}"}}, status=401)
        texts = body["input"]
        if len(texts) > self.most:  # TEI's words
            message = f"batch size {len(texts)} > maximum allowed batch size {self.most}"
            return web.json_response({"error": message, "error_type": "Validation"}, status=422)
        if max(map(len, texts)) > self.context:  # Ollama's
            return web.json_response(
                {"error": {"message": "the input length exceeds the context length", "type": "api_error"}}, status=400
            )
        wanted = body.get("dimensions")
        if wanted and self.dimensions == "refused":  # vLLM's
            message = f'Model "{body["model"]}" does not support matryoshka representation, changing output dimensions'
            return web.json_response({"object": "error", "message": message, "code": 400}, status=400)
        size = wanted if wanted and self.dimensions == "taken" else self.native
        vectors = [vector_of(text, body["model"], size) * self.scale for text in texts]
        data = [
            {"object": "embedding", "index": index, "embedding": encoded(vector, as_list=not self.base64)}
            for index, vector in enumerate(vectors)
        ]
        if not self.numbered:
            data = [{"embedding": each["embedding"]} for each in data]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        ordered = data[::-1] if self.numbered else data
        return web.json_response({"object": "list", "data": ordered, "model": body["model"], "usage": usage})


@asynccontextmanager
async def serving(service: Any) -> AsyncIterator[Any]:
    """Let a service answer at its `url`, as long as the block lasts."""
    app = web.Application(client_max_size=64 * 2**20)
    for path, handler in service.routes().items():
        app.router.add_post(path, handler)
    app.router.add_get("/v1", service.elsewhere)
    async with TestServer(app) as server:
        service.url = str(server.make_url("/v1"))
        yield service
        service.released.set()
