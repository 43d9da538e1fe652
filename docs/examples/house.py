"""A login of your own for `lkmongo web`: who is talking is whoever is logged in to the site around the page."""

from __future__ import annotations

from aiohttp.web import Request

SESSIONS: dict[str, str] = {}
"""User ids by session cookie: the place of your own session store."""


async def who(request: Request) -> str | None:
    """Return the id of who is logged in, or None for a guest."""
    return SESSIONS.get(request.cookies.get("session", ""))
