"""What every request passes: host, origin and rate are looked at first; headers and errors are seen to last."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web

from lkmongo.errors import DatabaseError, InvalidTextError, LkmongoError, NotFoundError, UsageError
from lkmongo.web.limits import Limit, address_key
from lkmongo.web.login import LoginError
from lkmongo.web.origins import Origins
from lkmongo.web.token_request import RequestError

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

logger = logging.getLogger(__name__)

API = "/api/"
PER_ADDRESS = 600
"""Requests a minute to the interface from one address."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def content_security_policy(livekit_url: str, scripts: str = "") -> str:
    """What the page may load and talk to: this server, the LiveKit server, and `scripts` beside its own."""
    parts = urlsplit(livekit_url)
    secure = "s" if parts.scheme in {"wss", "https"} else ""
    servers = [f"{scheme}{secure}://{parts.netloc}" for scheme in ("ws", "http")]
    if (parts.hostname or "").endswith(".livekit.cloud"):  # its servers tell the client to go to one nearer by
        servers += ["wss://*.livekit.cloud", "https://*.livekit.cloud"]
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' {scripts}".strip(),
            "style-src 'self'",
            "img-src 'self' data:",
            "media-src 'self' blob:",
            f"connect-src 'self' {' '.join(servers)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def problem(status: int, code: str, message: str, **headers: str) -> web.Response:
    """An answer that says what is wrong, as LiveKit's clients show it to developers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": code, "message": message}, status=status, headers=named)


def too_many(seconds: float) -> web.Response:
    """The answer to who asks too often."""
    return problem(
        429, "too_many_requests", "too many requests; try again later", Retry_After=str(math.ceil(seconds) or 1)
    )


def guard(origins: Origins, policy: str) -> Middleware:
    """The middleware of all requests."""
    gate = _Gate(origins)
    headers = _headers(policy)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = gate.refusal(request) or await _answer(request, handler)
        response.headers.update(headers | origins.cors(request))
        if request.path.startswith(API):
            response.headers["Cache-Control"] = "no-store"
            response.headers["Vary"] = "Origin, Cookie"
        logger.info("%s %s %d", request.method, request.path, response.status)
        return response

    return middleware


class _Gate:
    """Lets a request through to the handlers, or answers it."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._per_address = Limit(PER_ADDRESS)

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.path == "/health":  # asked by probes, under any name
            return None
        if not self._origins.knows_host(request):
            return problem(421, "misdirected_request", "this server has another name")
        if not request.path.startswith(API):
            return None
        if not self._origins.allows(request):
            return problem(403, "foreign_origin", "pages of this origin may not use this server")
        if seconds := self._per_address.wait(address_key(request.remote)):
            return too_many(seconds)
        return web.Response(status=204) if request.method == "OPTIONS" else None


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the handler answers; whatever goes wrong is an answer, too."""
    try:
        return await handler(request)
    except web.HTTPException as error:  # aiohttp's own: no such path, no such method
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return problem(error.status, error.reason.lower().replace(" ", "_"), error.reason, **headers)
    except LkmongoError as error:
        return _failure(request, error)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return problem(500, "failed", "something went wrong; the server's log tells what")


def _headers(policy: str) -> dict[str, Any]:
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), display-capture=()",
        "Referrer-Policy": "no-referrer",
        "Server": "lkmongo",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _failure(request: web.Request, error: LkmongoError) -> web.Response:
    """Say what a client may know of it; the rest goes to the log."""
    if isinstance(error, RequestError):
        return problem(error.status, error.code, f"{error.message}{f'; {error.hint}' if error.hint else ''}")
    if isinstance(error, NotFoundError):
        return problem(404, error.code, error.message)
    if isinstance(error, LoginError):
        return problem(503, error.code, "the login does not answer; try again later", Retry_After="5")
    if isinstance(error, DatabaseError):
        logger.warning("%s %s: %s (%s)", request.method, request.path, error.message, error.why)
        return problem(503, "memory_unavailable", "the memory cannot be reached; try again later", Retry_After="5")
    if isinstance(error, InvalidTextError | UsageError):
        return problem(400, error.code, error.message)
    logger.warning("%s %s: %s (%s)", request.method, request.path, error.message, error.why)
    return problem(500, "failed", "something went wrong; the server's log tells what")
