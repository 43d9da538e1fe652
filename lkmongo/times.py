"""Parses durations such as 90s, 15m or 30d, dates, and ages such as 7d."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from lkmongo.errors import UsageError
from lkmongo.model import now

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_LONGEST = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90s, 15m, 6h, 30d or 2w.

    Raises:
        UsageError: it is invalid, or longer than a hundred years.
    """
    match = re.fullmatch(r"([0-9]{1,10})([smhdw])", text.strip().lower())
    if not match:
        raise UsageError(f"{text!r} is not a duration", hint="write it as 90s, 15m, 6h, 30d or 2w")
    number, unit = match.groups()
    seconds = int(number) * _SECONDS[unit]
    if seconds > _LONGEST.total_seconds():
        raise UsageError(f"{text} is more than a hundred years", hint="choose a shorter time")
    return timedelta(seconds=seconds)


def show_duration(length: timedelta) -> str:
    """Write a duration in the largest unit without a remainder."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


_AGE = re.compile(r"[0-9]+[a-zA-Z]+")

Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="From this time on: 2026-11-01, 2026-11-01T09:30 (UTC), or an age: 7d, 24h, 30m.",
    ),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this time; a date means its start.")]


def moment(text: str) -> datetime:
    """Parse a time in ISO 8601 (UTC by default) or an age such as 7d. Raises UsageError."""
    try:
        if _AGE.fullmatch(text):
            return now() - parse_duration(text)
        found = datetime.fromisoformat(text)
        found = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    else:
        return found
    raise UsageError(
        f"{text!r} is not a time",
        hint="give a date (2026-11-01), a date with a time (2026-11-01T09:30), or an age (7d, 24h, 30m)",
    )


def span(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Parse `--since` and `--until`. Raises UsageError if one is invalid or nothing is between them."""
    start, end = (moment(text) if text is not None else None for text in (since, until))
    if start and end and start >= end:
        raise UsageError(f"--since {since} is not before --until {until}", hint="nothing is between them")
    return start, end
