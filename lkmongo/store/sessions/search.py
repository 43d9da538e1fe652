"""Find what was said: a part of a text, in whatever case, in the turns of a tenant's calls."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import DatabaseError, UsageError
from lkmongo.model import Turn, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import TURNS
from lkmongo.store.sessions.calls import MAX_MILLISECONDS, Call, SessionFilter, call_of, turn_of

Document = dict[str, Any]

FIELDS = ("content", "arguments", "output")
"""Where it is looked for: in what was said, what a tool was given, what it answered. The first that has it is shown."""
LONGEST = 200
"""Characters of a text to look for."""
_AROUND = 40
_FIRST_SPAN, _LEAST_SPAN = timedelta(days=1), timedelta(hours=1)
_QUICK, _SLOW = 1.0, 5.0
"""Seconds: a query below the first is followed by one over a longer span of time, one above the second by a shorter."""


@dataclass(frozen=True, slots=True)
class Found:
    """A turn that holds the text.

    Attributes:
        call: the ids of its call; the rest is not read.
        turn: the turn.
        text: the whole text that it was found in.
        start: where in `text` it begins.
        end: where it ends; equal to `start` when MongoDB and Python disagree on what is a capital of what.
    """

    call: Call
    turn: Turn
    text: str
    start: int
    end: int

    @property
    def snippet(self) -> str:
        """What stands around it, on one line, with it in double brackets."""
        before, match, after = self.text[: self.start], self.text[self.start : self.end], self.text[self.end :]
        before = ("..." if len(before) > _AROUND else "") + before[-_AROUND:]
        after = after[:_AROUND] + ("..." if len(after) > _AROUND else "")
        marked = f"[[{match}]]" if match else ""
        return " ".join(f"{before}{marked}{after}".split())


def search_query(wanted: SessionFilter, text: str) -> Document:
    """The query over `turns` for a literal text."""
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return wanted.turns() | {"$or": [{field: pattern} for field in FIELDS]}


async def search(
    db: AsyncDatabase[Document],
    wanted: SessionFilter,
    text: str,
    *,
    limit: int = 50,
    on_progress: Callable[[datetime], None] = lambda _: None,
) -> list[Found]:
    """Turns that hold `text`, newest first. Of `wanted`, status and length do not apply.

    This reads turn after turn until `limit` are found, as no index helps with a part of a text: span after span of
    time, so that no query takes long.

    Args:
        db: where.
        wanted: whose turns, and of when.
        text: what to look for.
        limit: at most so many.
        on_progress: told how far back it has come.

    Raises:
        UsageError: the text is empty or too long.
        DatabaseError: MongoDB answered with an error; the turns of one hour took longer than a query may.
    """
    if not text.strip():
        raise UsageError("there is nothing to search for: the text is empty", hint="name words that were said")
    if len(text) > LONGEST:
        raise UsageError(
            f"the text to search for has {len(text)} characters; {LONGEST} are allowed", hint="name fewer words"
        )
    if wanted.tenant_id is None:
        stored = await operations.read(lambda: db[TURNS].distinct("tenant_id"))
        tenants = [tenant for tenant in stored if isinstance(tenant, str) and tenant.strip()]
    else:
        tenants = [wanted.tenant_id]
    found: list[Found] = []
    for tenant in tenants:  # the index by time begins with it
        found += await _search(db, replace(wanted, tenant_id=tenant), text, limit, on_progress)
    return sorted(found, key=lambda one: one.turn.created_at, reverse=True)[:limit]


async def _search(
    db: AsyncDatabase[Document], wanted: SessionFilter, text: str, limit: int, on_progress: Callable[[datetime], None]
) -> list[Found]:
    oldest, end = await operations.read(lambda: _ends(db, wanted))
    width = _FIRST_SPAN
    found: list[Found] = []
    while end > oldest and len(found) < limit:
        start = max(oldest, end - width) if end - oldest > width else oldest
        query, left = search_query(replace(wanted, since=start, until=end), text), limit - len(found)
        began = time.monotonic()
        try:
            found += await operations.read(lambda query=query, left=left: _find(db, query, text, left))  # type: ignore[misc]
        except DatabaseError as error:
            if error.why != "code 50" or width <= _LEAST_SPAN:  # MaxTimeMSExpired
                raise
            width = max(width / 8, _LEAST_SPAN)
            continue
        took = time.monotonic() - began
        end = start
        width = width * 2 if took < _QUICK else max(width / 2, _LEAST_SPAN) if took > _SLOW else width
        on_progress(end)
    return found


async def _ends(db: AsyncDatabase[Document], wanted: SessionFilter) -> tuple[datetime, datetime]:
    """From when to when there are turns; the first after the second when there are none."""
    query = wanted.turns()
    query["created_at"] = {"$type": "date"} | query.get("created_at", {})
    found: list[datetime] = []
    for direction in (1, -1):
        cursor = db[TURNS].find(query, {"created_at": 1}, max_time_ms=MAX_MILLISECONDS)
        async for document in cursor.sort("created_at", direction).limit(1):
            found.append(document["created_at"])  # noqa: PERF401 - there is one
    return (found[0], found[1] + timedelta(milliseconds=1)) if len(found) == 2 else (now(), now() - timedelta(1))


async def _find(db: AsyncDatabase[Document], query: Document, text: str, limit: int) -> list[Found]:
    cursor = db[TURNS].find(query, {"embedding": 0}, max_time_ms=MAX_MILLISECONDS)
    return [_found(document, text) async for document in cursor.sort("created_at", -1).limit(limit)]


def _found(document: Document, text: str) -> Found:
    pattern = re.compile(re.escape(text), re.IGNORECASE)
    texts = [value for field in FIELDS if isinstance(value := document.get(field), str)]
    for value in texts:
        if match := pattern.search(value):
            return Found(call_of(document), turn_of(document), value, *match.span())
    return Found(call_of(document), turn_of(document), texts[0] if texts else "", 0, 0)
