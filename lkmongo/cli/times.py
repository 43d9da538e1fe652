"""Times as they are typed: a date, a date with a time, or an age such as 7d."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from lkmongo.durations import parse_duration
from lkmongo.errors import UsageError
from lkmongo.model import now

_AGE = re.compile(r"[0-9]+[a-zA-Z]+")

Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="At this time or later: 2026-11-01, 2026-11-01T09:30 (UTC), or so long ago: 7d, 24h, 30m.",
    ),
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Before this time; a date means its first moment.")
]


def moment(text: str) -> datetime:
    """The time that `text` names: in ISO 8601, UTC where it does not say, or so long ago.

    Raises:
        UsageError: it names none.
    """
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
        hint="give a date (2026-11-01), a date with a time (2026-11-01T09:30), or how long ago (7d, 24h, 30m)",
    )


def span(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Both ends of a time that `--since` and `--until` name.

    Raises:
        UsageError: one of them names no time, or nothing is between them.
    """
    start, end = (moment(text) if text is not None else None for text in (since, until))
    if start and end and start >= end:
        raise UsageError(f"--since {since} is not before --until {until}", hint="nothing is between them")
    return start, end
