"""Lengths of time as people write them: 90s, 15m, 6h, 30d."""

from __future__ import annotations

import re
from datetime import timedelta

from lkmongo.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """Read a length of time such as 90s, 15m, 6h, 30d or 2w.

    Raises:
        UsageError: it is none, or longer than a hundred years.
    """
    match = re.fullmatch(r"([0-9]{1,10})([smhdw])", text.strip().lower())
    if not match:
        raise UsageError(f"{text!r} is not a length of time", hint="write it as 90s, 15m, 6h, 30d or 2w")
    number, unit = match.groups()
    seconds = int(number) * _SECONDS[unit]
    if seconds > _LONGEST.total_seconds():
        raise UsageError(f"{text} is more than a hundred years", hint="name a shorter time")
    return timedelta(seconds=seconds)


def show_duration(length: timedelta) -> str:
    """Write a length of time in the largest unit that fits without a rest."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
