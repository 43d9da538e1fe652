"""How often one address and one person may ask: token buckets, in this process."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_KEYS = 10_000
"""Beyond so many the one that asked longest ago is forgotten: who asks much stays."""


class Limit:
    """So many a minute for each key, at once if need be, and then as they come back."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `per_minute`; `clock` tells seconds."""
        self._most = float(per_minute)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Take one; returns 0, or the seconds after which there is one again, and then none is taken."""
        now = self._clock()
        left, at = self._left.pop(key, (self._most, now))
        left = min(self._most, left + (now - at) * self._most / 60)
        enough = left >= 1
        self._left[key] = (left - 1 if enough else left, now)
        if len(self._left) > _MOST_KEYS:
            self._left.popitem(last=False)
        return 0.0 if enough else (1 - left) * 60 / self._most


def address_key(remote: str | None) -> str:
    """What an address is counted as: of IPv6 the first 64 bits, since one customer has all the rest."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)
