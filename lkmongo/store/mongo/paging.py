"""Places in a list that is shown by pages, newest first: where a page begins, as a text for the client to send back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from lkmongo.errors import UsageError

Place = tuple[datetime | None, int]
"""The time with which a page begins, None for what has none, and how many of that time were shown."""


def read_place(after: str, *, most: int, timeless: bool = False) -> Place:
    """The place that `write_place` wrote.

    Args:
        after: the text.
        most: how many of one time there can be; more count as so many.
        timeless: whether the list has entries without a time.

    Raises:
        UsageError: it is none.
    """
    at, _, seen = after.partition("/")
    try:
        moment = None if timeless and not at else datetime.fromisoformat(at)
        skip = int(seen or 0)
        if moment and moment.tzinfo is None:
            raise ValueError
    except ValueError:
        raise UsageError("that is no place in the list", hint="begin again with the first page") from None
    return moment, max(0, min(skip, most))


def write_place(last: datetime | None, page: Iterable[datetime | None], begun: Place | None) -> str:
    """The place behind a page.

    Args:
        last: the time of its last entry.
        page: the times of all its entries.
        begun: where it began; None for the first page.
    """
    seen = sum(each == last for each in page) + (begun[1] if begun and begun[0] == last else 0)
    return f"{last.isoformat().replace('+00:00', 'Z') if last else ''}/{seen}"
