"""How many requests a minute: of each address, each known visitor, and new visitors of one address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address | None
"""Of a client; None if it has none, as on a Unix socket."""

PER_ADDRESS = 600
"""Requests a minute to the interface from one address, without a cookie that is valid."""
PER_VISITOR = 120
"""Requests a minute of one visitor whose cookie is valid, whatever else comes from their address."""
PER_CALLER = 20
"""Tokens a minute for one person."""
EDITS = 30
"""Lines that one person may edit in a minute: each keeps what was there before."""
NEW_VISITORS = 60
"""New visitors a minute from one address."""
NEW_VISITORS_A_DAY = 1_000
SITE = 4
"""How many times as much all networks of one IPv6 site may do, which has 65,536 of them."""
_DAY = 86_400.0
_MOST_KEYS = 10_000
"""Beyond this the least recently used key is dropped, so frequent callers stay limited."""


class Limit:
    """A token bucket per key: `most` in a burst, refilled at that rate."""

    def __init__(self, most: int, period: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `most` each `period` of seconds."""
        self._most = float(most)
        self._rate = most / period
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Take one and return 0; or take none and return the seconds until one is available."""
        now = self._clock()
        left, at = self._left.pop(key, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        enough = left >= 1
        self._left[key] = (left - 1 if enough else left, now)
        if len(self._left) > _MOST_KEYS:
            self._left.popitem(last=False)
        return 0.0 if enough else (1 - left) / self._rate


class AddressLimit:
    """A limit of addresses: of IPv6 each network of 64 bits has one, and each site of 48 bits a larger one."""

    def __init__(self, most: int, period: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `most` each `period` of seconds."""
        self._single = Limit(most, period, clock)
        self._site = Limit(most * SITE, period, clock)

    def wait(self, address: Address) -> float:
        """Take one and return 0; or return the seconds until one is available."""
        single, site = keys_of(address)
        if seconds := self._single.wait(single):
            return seconds
        return self._site.wait(site) if site else 0.0


class NewVisitors:
    """How many of them an address may get, a minute and a day."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = (AddressLimit(NEW_VISITORS, clock=clock), AddressLimit(NEW_VISITORS_A_DAY, _DAY, clock))

    def wait(self, address: Address) -> float:
        """Count one and return 0; or return the seconds until there may be one."""
        return next((seconds for limit in self._limits if (seconds := limit.wait(address))), 0.0)


def keys_of(address: Address) -> tuple[str, str | None]:
    """What an address is counted as: itself, or its network of 64 bits and its site of 48, which have one owner."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            # Without the zone, which belongs to this machine.
            network, site = (IPv6Network((int(address), bits), strict=False) for bits in (64, 48))
            return str(network), str(site)
        address = address.ipv4_mapped
    return str(address or "unknown"), None
