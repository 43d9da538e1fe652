"""Reading a request within bounds, and waiting for MongoDB within others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from lkmongo.errors import DatabaseUnavailableError
from lkmongo.web.guard import problem

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
