"""Which address a request comes from, according to the proxies that LKMONGO_WEB_PROXIES trusts, and to nobody else.

Each proxy adds whom it was asked by at the right of a list. Only what a trusted one has added is believed, so the list
is read from the right, up to the first address that is not a trusted proxy's; what is left of it may be anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from lkmongo.web.limits import Address

if TYPE_CHECKING:
    from aiohttp import web

_HOST_AND_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:]+)(?::\d+)?")
_PAIR = re.compile(r'\s*([\w-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))\s*([,;]|$)', re.ASCII)


class Proxies:
    """Those that are trusted."""

    def __init__(self, named: str | None = None) -> None:
        """`named` is how many there are in a row, or their networks with commas between; None means there are none."""
        self._count = int(named) if named and named.isdigit() else 0
        networks = [] if named is None or self._count else named.split(",")
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(each) for each in networks]

    def client(self, request: web.Request) -> Address:
        """The address of who sent the request.

        That of the nearest proxy which is trusted, where what it passes on cannot be read, or where the two headers
        differ: a proxy passes on the one that it does not know as anybody has sent it.
        """
        peer = parse_address(request.remote or "")
        if not self._trusts(peer, 0):
            return peer
        forwarded = request.headers.getall("Forwarded", ())
        listed = request.headers.getall("X-Forwarded-For", ())
        told = {self._behind(peer, list(_forwarded(",".join(forwarded))))} if forwarded else set()
        told |= {self._behind(peer, ",".join(listed).split(","))} if listed else set()
        return told.pop() if len(told) == 1 else peer

    def _behind(self, peer: Address, chain: list[str]) -> Address:
        nearest = peer
        for passed, entry in enumerate(reversed(chain), start=1):
            address = parse_address(entry)
            if address is None:
                return nearest
            nearest = address
            if not self._trusts(nearest, passed):
                break
        return nearest

    def _trusts(self, address: Address, passed: int) -> bool:
        """Whether it is the address of a trusted proxy, with so many of them between it and this server."""
        if self._count:
            return passed < self._count
        return address is not None and any(address in network for network in self._networks)


def parse_address(text: str) -> Address:
    """An address, with or without a port, as both headers have it; None if it is none."""
    text = text.strip()
    found = None if text.count(":") > 1 and not text.startswith("[") else _HOST_AND_PORT.fullmatch(text)
    host = (found[1] or found[2] or "") if found else text
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _forwarded(text: str) -> Iterator[str]:
    """The `for` of each element of a header Forwarded (RFC 7239); "" for one without, and for a malformed rest."""
    position, asked_by, between = 0, "", ","
    while between:
        pair = _PAIR.match(text, position)
        if pair is None:
            yield ""
            return
        name, quoted, plain, between = pair.groups()
        if name.lower() == "for":
            asked_by = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if between != ";":
            yield asked_by
            asked_by = ""
        position = pair.end()
