"""What every request passes: hosts and origins, rate limits, bounds, validation, headers, errors."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web

from lkmongo.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidTextError,
    LkmongoError,
    NotFoundError,
    UsageError,
)
from lkmongo.web.caller import HEADER, LoginError
from lkmongo.web.limits import PER_ADDRESS, PER_VISITOR, AddressLimit, Limit
from lkmongo.web.origins import Origins
from lkmongo.web.proxies import Proxies

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware
    from aiohttp.web_protocol import RequestHandler

logger = logging.getLogger(__name__)

_IDENTIFYING = ("participant_identity", "participant_metadata", "participant_attributes")
_WHY = dict.fromkeys(_IDENTIFYING, "the server says who is calling") | {"room_name": "each session has its own room"}
_FIELDS = ("room_name", "participant_name", *_IDENTIFYING, "room_config")


class RequestError(LkmongoError):
    """The request is invalid."""

    code = "bad_request"
    status = 400


class ForbiddenFieldError(RequestError):
    """A client may not set this field."""

    code = "forbidden_field"
    status = 403


def read_token_request(body: bytes, agent_name: str) -> str:
    """Return the requested participant name, "" for none.

    Args:
        body: what the client sent; may be empty.
        agent_name: the agent that is dispatched; the client may name it, but no other.

    Raises:
        RequestError: not a JSON object, or an unknown field.
        ForbiddenFieldError: a field that a client may not set; the message names it.
    """
    if not body.strip():
        return ""
    asked = _json_object(body)
    fields = {_snake_case(name): value for name, value in asked.items()}
    for name, value in fields.items():
        if name not in _FIELDS:
            raise RequestError(f"there is no field {name[:64]!r}", hint=f"accepted are {', '.join(_FIELDS)}")
        if name in _WHY and value:
            raise ForbiddenFieldError(f"{name} is not the client's to set: {_WHY[name]}")
    _check_room_config(fields.get("room_config"), agent_name)
    name = fields.get("participant_name") or ""
    if not isinstance(name, str):
        raise RequestError("participant_name is not text")
    return name.strip()


def read_content(body: bytes) -> str:
    """The text in `{"content": text}`, which must hold nothing else.

    Raises:
        RequestError: it is something else.
    """
    asked = _json_object(body)
    if asked.keys() != {"content"} or not isinstance(asked["content"], str):
        raise RequestError('the body must be {"content": text}')
    return str(asked["content"])


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON") from error
    if not isinstance(asked, dict):
        raise RequestError("the body is not a JSON object")
    return asked


def _check_room_config(config: Any, agent_name: str) -> None:
    """Accept only the name of the agent that is dispatched anyway."""
    if not config:
        return
    if not isinstance(config, dict):
        raise RequestError("room_config is not an object")
    for name, value in config.items():
        if value and name != "agents":
            raise _not_to_set(f"room_config.{name}")
    agents = config.get("agents") or []
    if not isinstance(agents, list) or not all(isinstance(agent, dict) for agent in agents):
        raise RequestError("room_config.agents is not a list of objects")
    for number, agent in enumerate(agents):
        _check_agent(agent, f"room_config.agents[{number}]", agent_name)
    if len(agents) > 1:
        raise _not_to_set("room_config.agents[1]")


def _check_agent(agent: dict[str, Any], path: str, agent_name: str) -> None:
    for name, value in agent.items():
        if value and _snake_case(name) != "agent_name":
            raise _not_to_set(f"{path}.{name}")
        if value and value != agent_name:
            raise ForbiddenFieldError(f"{path}.agent_name is not the agent of this server")


def _not_to_set(path: str) -> ForbiddenFieldError:
    return ForbiddenFieldError(f"{path[:100]} is not the client's to set")


def _snake_case(name: str) -> str:
    """The name as in LiveKit's protocol; the JSON form of protocol buffers may be camelCase."""
    return re.sub(r"(?<=[a-z])[A-Z]", lambda match: f"_{match[0].lower()}", name)


API = "/api/"

response_headers: ContextVar[dict[str, str]] = ContextVar("response_headers")
"""The headers that the response gets, for a handler that streams."""
HSTS = "max-age=31536000"
"""A year of https only, for this host alone: its subdomains may be somebody else's."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def content_security_policy(livekit_url: str, scripts: str = "") -> str:
    """Lets the page load from and talk to this server and the LiveKit server; `scripts` is an additional source."""
    parts = urlsplit(livekit_url)
    secure = "s" if parts.scheme in {"wss", "https"} else ""
    servers = [f"{scheme}{secure}://{parts.netloc}" for scheme in ("ws", "http")]
    if (parts.hostname or "").endswith(".livekit.cloud"):  # redirects clients to a nearby server
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
    """An error response; LiveKit's clients show its text to developers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": code, "message": message}, status=status, headers=named)


def too_many(seconds: float) -> web.Response:
    return problem(
        429, "too_many_requests", "too many requests; try again later", Retry_After=str(math.ceil(seconds) or 1)
    )


def guard(
    origins: Origins,
    policy: str,
    proxies: Proxies,
    visitor: Callable[[web.Request], str | None],
    in_progress: set[RequestHandler],
) -> Middleware:
    """What every request passes.

    Args:
        origins: who may ask.
        policy: the content security policy.
        proxies: those that are trusted to say who asks.
        visitor: returns a key of the visitor whose valid cookie or visitor token a request has, or None.
        in_progress: gets each connection while its request is being answered.
    """
    gate = _Gate(origins, proxies, visitor)
    headers = _headers(policy)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        wanted = headers | origins.cors(request)
        if origins.is_secure(request):
            wanted["Strict-Transport-Security"] = HSTS
        if request.path.startswith(API):
            wanted |= {"Cache-Control": "no-store", "Vary": f"Origin, Cookie, {HEADER}"}
        response_headers.set(wanted)
        in_progress.add(request.protocol)
        try:
            response = gate.refusal(request) or await _answer(request, handler)
        finally:
            in_progress.discard(request.protocol)
        for name, value in wanted.items():
            response.headers.setdefault(name, value)  # a file may have a stricter policy
        logger.info("%s %s %d", request.method, request.path, response.status)
        return response

    return middleware


class _Gate:
    def __init__(self, origins: Origins, proxies: Proxies, visitor: Callable[[web.Request], str | None]) -> None:
        self._origins = origins
        self._proxies = proxies
        self._visitor = visitor
        self._per_address = AddressLimit(PER_ADDRESS)
        self._per_visitor = Limit(PER_VISITOR)

    def refusal(self, request: web.Request) -> web.Response | None:
        if request.path == "/health":  # probes use any host name
            return None
        if not self._origins.knows_host(request):
            return problem(421, "misdirected_request", "this server has another name")
        if not request.path.startswith(API):
            return None
        if not self._origins.allows(request):
            return _foreign(request, *self._origins.refusal(request))
        # Whom the server has let in before is not kept out by what others send from the same address.
        client, visitor = self._proxies.client(request), self._visitor(request)
        seconds = self._per_visitor.wait(visitor) if visitor else self._per_address.wait(client)
        if seconds:
            return too_many(seconds)
        return web.Response(status=204) if request.method == "OPTIONS" else None


def _foreign(request: web.Request, why: str, readable: dict[str, str]) -> web.Response:
    """The error of a page that may not, after a preflight that lets the page read it; see `Origins.refusal`."""
    if readable and request.method == "OPTIONS":
        return web.Response(status=204, headers=readable)
    response = problem(403, "foreign_origin", why)
    response.headers.update(readable)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:  # aiohttp's own: no such path, no such method
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return problem(error.status, error.reason.lower().replace(" ", "_"), error.reason, **headers)
    except LkmongoError as error:
        return _failure(request, error)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return problem(500, "failed", "something went wrong; see the server's log")


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
    """Tell the client what it may know; the rest goes to the log."""
    if isinstance(error, RequestError):
        return problem(error.status, error.code, f"{error.message}{f'; {error.hint}' if error.hint else ''}")
    if isinstance(error, NotFoundError):
        return problem(404, error.code, error.message)
    if isinstance(error, LoginError):
        return problem(503, error.code, "the login is not available; try again later", Retry_After="5")
    if isinstance(error, DatabaseError):
        logger.warning("%s %s: %s (%s)", request.method, request.path, error.message, error.why)
        return problem(503, "memory_unavailable", "the memory is unavailable; try again later", Retry_After="5")
    if isinstance(error, InvalidTextError | UsageError):
        return problem(400, error.code, error.message)
    logger.warning("%s %s: %s (%s)", request.method, request.path, error.message, error.why)
    return problem(500, "failed", "something went wrong; see the server's log")


MAX_BODY = 16 * 1024
"""Bytes of a request's body."""
_FORMS = {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
"""Types that a page of another site can send without a CORS preflight."""
_BODY_SECONDS = 10.0
_MEMORY_SECONDS = 5.0


async def json_body(request: web.Request) -> bytes | web.Response:
    """The body, or the response that rejects it."""
    if (request.content_length or 0) > MAX_BODY:
        return problem(413, "too_large", f"the body may have at most {MAX_BODY:,} bytes", Connection="close")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await request.read()
    except TimeoutError:
        return problem(408, "too_slow", "the body did not arrive in time", Connection="close")
    except web.HTTPRequestEntityTooLarge:
        return problem(413, "too_large", f"the body may have at most {MAX_BODY:,} bytes", Connection="close")
    # Some clients send a content type without a body.
    if request.content_type != "application/json" and (body or request.content_type in _FORMS):
        return problem(415, "not_json", "the body must be application/json")
    return body


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Bound a wait for MongoDB; raises DatabaseUnavailableError."""
    try:
        async with asyncio.timeout(_MEMORY_SECONDS):
            yield
    except TimeoutError as error:
        raise DatabaseUnavailableError(why=f"it did not answer in {_MEMORY_SECONDS:g} s") from error
