"""Days in scenarios: `{day}` is the day on which it is run, `{day-40}` forty days before it; and time that passes.

A scenario runs in a moment, so what it has stored is made older instead: every time in it is moved back.
"""

from __future__ import annotations

import re
from calendar import month_name
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import PERSONAL

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

_DAY = re.compile(r"\{day(?:([+-])(\d{1,4}))?\}")
_ISO = re.compile(r"\d{4}-\d\d-\d\d")


def _day(match: re.Match[str]) -> date:
    sign, days = match[1] or "+", int(match[2] or 0)
    return datetime.now(UTC).date() + timedelta(days=days if sign == "+" else -days)


def filled(given: Any) -> Any:
    """A text with days as 2026-10-31, and so in lists and mappings."""
    if isinstance(given, str):
        return _DAY.sub(lambda match: _day(match).isoformat(), given)
    if isinstance(given, Mapping):
        return {name: filled(value) for name, value in given.items()}
    return [filled(each) for each in given] if isinstance(given, list | tuple) else given


def as_pattern(text: str, literal: Callable[[str], str]) -> str:
    """A regular expression in which a day fits however it is written: 2026-10-31, 31 October 2026, October 31, 2026.

    Args:
        text: what is expected.
        literal: makes the expression of what stands between the days.
    """
    pieces, at = [], 0
    for match in _DAY.finditer(text):
        day = _day(match)
        month = month_name[day.month]
        forms = (day.isoformat(), f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}")
        pieces += [literal(text[at : match.start()]), f"(?:{'|'.join(map(re.escape, forms))})"]
        at = match.end()
    return "".join([*pieces, literal(text[at:])])


async def let_pass(db: AsyncDatabase[dict[str, Any]], days: int) -> None:
    """Make what is stored of people so many days older.

    Raises:
        DatabaseError: MongoDB failed.
    """
    back = timedelta(days=days)
    for name in PERSONAL:
        documents = await operations.read(lambda name=name: db[name].find({}).to_list())  # type: ignore[misc]
        # The oldest first, lest one gets for a moment the time of another in a unique index.
        for document in sorted(documents, key=lambda each: str(each.get("valid_from"))):
            older = _older(document, back)
            await operations.write(lambda name=name, new=older: db[name].replace_one({"_id": new["_id"]}, new))  # type: ignore[misc]


def _older(value: Any, back: timedelta) -> Any:
    if isinstance(value, datetime):
        return value - back
    if isinstance(value, Mapping):
        return {
            name: _older_day(each, back) if name == "day" and isinstance(each, str) else _older(each, back)
            for name, each in value.items()
        }
    return [_older(each, back) for each in value] if isinstance(value, list) else value


def _older_day(text: str, back: timedelta) -> str:
    return (date.fromisoformat(text) - back).isoformat() if _ISO.fullmatch(text) else text
