"""Search for what was said: a substring, in any case, in the turns of a tenant's sessions."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import DatabaseError, UsageError
from lkmongo.model import SessionRecord, Turn, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.cipher import is_sealed
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import TURNS
from lkmongo.store.sessions.documents import record_of, turn_of
from lkmongo.store.sessions.listing import MAX_MILLISECONDS, SessionFilter

Document = dict[str, Any]

FIELDS = ("content", "arguments", "output")
"""What is searched: what was said, a tool's arguments, its output. The first field that matches is shown."""
LONGEST = 200
"""Characters of a search text."""
_AROUND = 40
_OPENED = 1_000
"""Turns that are read at a time, to look through those that are encrypted."""
_FIRST_SPAN, _LEAST_SPAN = timedelta(days=1), timedelta(hours=1)
_QUICK, _SLOW = 1.0, 5.0
"""Seconds: a query faster than the first lengthens the next span of time, one slower than the second shortens it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A turn that matches.

    Attributes:
        session: its session, of which only the ids are read.
        turn: the turn.
        text: the whole text in which the match is.
        start: where in `text` the match begins.
        end: where it ends; equal to `start` if MongoDB and Python disagree about upper and lower case.
    """

    session: SessionRecord
    turn: Turn
    text: str
    start: int
    end: int

    @property
    def snippet(self) -> str:
        """The match in double brackets with some text around it, on one line."""
        before, match, after = self.text[: self.start], self.text[self.start : self.end], self.text[self.end :]
        before = ("..." if len(before) > _AROUND else "") + before[-_AROUND:]
        after = after[:_AROUND] + ("..." if len(after) > _AROUND else "")
        marked = f"[[{match}]]" if match else ""
        return " ".join(f"{before}{marked}{after}".split())


def search_query(wanted: SessionFilter, text: str) -> Document:
    """The query over `turns` for a literal text; what is encrypted is looked through here."""
    pattern = {"$regex": re.escape(text), "$options": "i"}
    found = [{field: pattern} for field in FIELDS] + [{field: {"$type": "binData"}} for field in FIELDS]
    return wanted.turns() | {"$or": found}


async def search(
    db: AsyncDatabase[Document],
    wanted: SessionFilter,
    text: str,
    *,
    limit: int = 50,
    on_progress: Callable[[datetime], None] = lambda _: None,
) -> list[Found]:
    """Turns that contain `text`, newest first; the filter's status and length do not apply.

    No index helps with a substring, so this scans one span of time after the other, from the newest, until `limit`
    turns are found. The spans adapt so that each query stays short.

    Args:
        db: the database.
        wanted: whose turns, and from when.
        text: the text to find, taken literally.
        limit: the most turns to return.
        on_progress: called with the time back to which the turns have been searched.

    Raises:
        UsageError: the text is empty or too long.
        DatabaseError: MongoDB answered with an error, or one hour of turns took longer than a query may.
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
    for tenant in tenants:  # the index on time begins with the tenant
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
    """When the first and the last turn were made; the first is after the last if there are none."""
    query = wanted.turns()
    query["created_at"] = {"$type": "date"} | query.get("created_at", {})
    first, last = [
        await db[TURNS].find_one(
            query, {"created_at": 1}, sort=[("created_at", direction)], max_time_ms=MAX_MILLISECONDS
        )
        for direction in (1, -1)
    ]
    if first is None or last is None:
        return now(), now() - timedelta(1)
    return first["created_at"], last["created_at"] + timedelta(milliseconds=1)


async def _find(db: AsyncDatabase[Document], query: Document, text: str, limit: int) -> list[Found]:
    encryption, order = Encryption.of(db), [("created_at", -1)]
    most = 0 if encryption.is_on else limit
    cursor = db[TURNS].find(query, {"embedding": 0}, sort=order, limit=most, max_time_ms=MAX_MILLISECONDS)
    found: list[Found] = []
    async with cursor:
        while len(found) < limit and (batch := await cursor.to_list(_OPENED)):
            was_sealed = [any(is_sealed(each.get(field)) for field in FIELDS) for each in batch]
            opened = zip(await encryption.open(TURNS, batch), was_sealed, strict=True)
            found += [one for each, sealed in opened if (one := _found(each, text, missing=sealed))]
    return found[:limit]


def _found(document: Document, text: str, *, missing: bool) -> Found | None:
    """Where the text is in a turn; without it None if it may be `missing`, as MongoDB could not look."""
    pattern = re.compile(re.escape(text), re.IGNORECASE)
    texts = [value for field in FIELDS if isinstance(value := document.get(field), str)]
    for value in texts:
        if match := pattern.search(value):
            return Found(record_of(document), turn_of(document), value, *match.span())
    return None if missing else Found(record_of(document), turn_of(document), texts[0] if texts else "", 0, 0)
