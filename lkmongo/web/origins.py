"""Which pages may use the server: those it serves itself, and those of the origins that are listed."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

_METHODS = "GET, POST, DELETE"
_HEADERS = "authorization, content-type"


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Origins:
    """Judges a request by its headers Host, Origin and Sec-Fetch-Site."""

    def __init__(self, listed: str | None, *, loopback: bool) -> None:
        """Take the origins of `listed`, with commas between; `loopback`: the server listens on this machine alone."""
        self._listed = frozenset(listed.split(",")) if listed else frozenset()
        self._hosts = {urlsplit(origin).netloc for origin in self._listed}
        self._loopback = loopback

    def knows_host(self, request: web.Request) -> bool:
        """Whether the request means this server: a page elsewhere can give its own name our address (DNS rebinding)."""
        host = request.headers.get("Host", "").lower()
        if host in self._hosts:
            return True
        name = urlsplit(f"//{host}").hostname or ""
        return is_loopback(name) if self._loopback else not self._listed

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser came by https, as a proxy or the list of origins tells."""
        host = request.headers.get("Host", "").lower()
        proxied = request.headers.get("X-Forwarded-Proto", "").lower() == "https"
        return request.secure or proxied or f"https://{host}" in self._listed

    def allows(self, request: web.Request) -> bool:
        """Whether the page that asks may; what asks without a page names none."""
        origin = request.headers.get("Origin")
        if origin is None:
            return request.headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}
        return self._is_same(origin, request) or origin.lower() in self._listed

    def cors(self, request: web.Request) -> dict[str, str]:
        """The headers that let a listed page of another origin read the answer, with its cookies."""
        origin = request.headers.get("Origin", "")
        if origin.lower() not in self._listed or self._is_same(origin, request):
            return {}
        allowed = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}
        if request.method == "OPTIONS":
            allowed |= {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Allow-Headers": _HEADERS}
            allowed["Access-Control-Max-Age"] = "600"
        return allowed

    @staticmethod
    def _is_same(origin: str, request: web.Request) -> bool:
        # The scheme is not compared: behind a proxy that ends TLS the server does not know its own.
        parts = urlsplit(origin.lower())
        return parts.scheme in {"http", "https"} and parts.netloc == request.headers.get("Host", "").lower()
