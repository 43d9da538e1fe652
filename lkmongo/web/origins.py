"""From which pages requests come: what hosts and origins are allowed, and what is told of the others."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

from aiohttp import web

from lkmongo.setting_checks import is_loopback
from lkmongo.web.caller import HEADER

logger = logging.getLogger(__name__)

_METHODS = "GET, POST, PUT, DELETE"
_HEADERS = f"authorization, content-type, {HEADER.lower()}, x-sandbox-id"
"""The last one comes from LiveKit's starter page when it is given a token endpoint, and means nothing here."""
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]{0,31}://[\w.:\[\]-]{1,255}", re.ASCII | re.IGNORECASE)
"""What browsers write; what anybody else may have written is neither sent back nor logged."""
_MOST_TOLD = 100
"""Origins that are named in the log; anybody can invent more."""
STRANGERS = 10
"""Visitors in a row who are new, after which it is told that a page's visitors are never known again."""


class Origins:
    """Judges a request by its headers Host, Origin and Sec-Fetch-Site."""

    def __init__(self, listed: str | None, *, loopback: bool) -> None:
        """`listed` are comma-separated origins; with `loopback` the server is reachable from this machine only."""
        self._listed = frozenset(listed.split(",")) if listed else frozenset()
        self._hosts = {urlsplit(origin).netloc for origin in self._listed}
        self._loopback = loopback
        self._refused: set[str] = set()
        self._strangers = dict.fromkeys(self._listed, 0)

    def knows_host(self, request: web.Request) -> bool:
        """Whether the request is meant for this server; protects against DNS rebinding."""
        host = request.headers.get("Host", "").lower()
        if host in self._hosts:
            return True
        name = urlsplit(f"//{host}").hostname or ""
        return is_loopback(name) if self._loopback else not self._listed

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser uses https, directly, or according to a proxy or the listed origins."""
        host = request.headers.get("Host", "").lower()
        proxied = request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        return request.secure or proxied or f"https://{host}" in self._listed

    def allows(self, request: web.Request) -> bool:
        """Whether the requesting page may; clients that are no browser name no origin."""
        origin = request.headers.get("Origin")
        if origin is None:
            return request.headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}
        return self._is_same(origin, request) or origin.lower() in self._listed

    def cors(self, request: web.Request) -> dict[str, str]:
        """The headers that let a listed page of another origin read the response, with cookies."""
        origin = request.headers.get("Origin", "")
        if origin.lower() not in self._listed or self._is_same(origin, request):
            return {}
        allowed = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}
        if request.method == "OPTIONS":
            allowed |= {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Allow-Headers": _HEADERS}
            allowed["Access-Control-Max-Age"] = "600"
        return allowed

    def refusal(self, request: web.Request) -> tuple[str, dict[str, str]]:
        """Why a page may not use this server, and the headers that let the page read that, and nothing else.

        A browser shows developers next to nothing of a preflight that failed. So it passes, with the cause in a header
        for those who look at it, and what comes then is refused with a text that the page can show. Nothing of it
        permits credentials: the browser sends none, or shows the page nothing.
        """
        origin = request.headers.get("Origin", "")
        if not _ORIGIN.fullmatch(origin):
            return "pages of other origins may not use this server", {}
        why = _why_refused(origin.lower())
        if origin.lower() not in self._refused and len(self._refused) < _MOST_TOLD:
            self._refused.add(origin.lower())
            logger.warning("refused: %s", why)
        headers = {"Access-Control-Allow-Origin": origin}
        if request.method == "OPTIONS":
            # With Authorization, which the asterisk leaves out.
            headers |= {"Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "*, authorization"}
            headers["X-Lkmongo-Refused"] = why
        return why, headers

    def came(self, request: web.Request, *, known: bool) -> None:
        """Note whether a page's request tells who its visitor is, or asks how to; tell of a page that never does."""
        origin = request.headers.get("Origin", "").lower()
        if origin not in self._strangers or self._is_same(origin, request):
            return
        if known:
            del self._strangers[origin]  # it can, so the others were new
            return
        self._strangers[origin] += 1
        if self._strangers[origin] == STRANGERS:
            logger.warning(
                "pages of %s have asked for %d tokens and sent neither a cookie nor %s: whoever comes back there is a "
                'stranger; docs/web.md, "A page of another origin", has the ways out',
                origin,
                STRANGERS,
                HEADER,
            )

    @staticmethod
    def _is_same(origin: str, request: web.Request) -> bool:
        # The scheme is not compared: behind a proxy that terminates TLS the server does not know its own.
        parts = urlsplit(origin.lower())
        return parts.scheme in {"http", "https"} and parts.netloc == request.headers.get("Host", "").lower()


def _why_refused(origin: str) -> str:
    if origin == "null":
        return "pages without an origin may not use this server: serve them by https, and not in a sandboxed frame"
    if not origin.startswith(("http://", "https://")):
        return f"pages of {origin} may not use this server: only origins of http and https can be listed"
    return f"pages of {origin} may not use this server: add it to LKMONGO_WEB_ORIGINS, and start lkmongo web again"
