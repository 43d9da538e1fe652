"""Sessions as operators list them, across the users of a tenant or across tenants, with what their turns add up to.

A `SessionFilter` says which sessions are meant. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import NotFoundError, UsageError
from lkmongo.model import DEFAULT_TENANT, SessionRecord, SessionStatus, TurnTotals, check_id
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.documents import VECTOR, record_of, totals_of
from lkmongo.store.sessions.transcript import WAITS

Document = dict[str, Any]
Key = tuple[str, str, str]
"""What identifies a session: the ids of its tenant, its user and itself."""

MAX_MILLISECONDS = 25_000
"""Time limit of an operator's query on the server: below the socket timeout, so that the server reports it."""
COUNTED = 10_000
"""Up to how many sessions are counted beyond those that a list shows."""
_SHOWN = dict.fromkeys(("report", *VECTOR), 0)
_KEY_FIELDS = ("tenant_id", "user_id", "session_id")


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to read.

    Attributes:
        tenant_id: sessions of this tenant; None reads every tenant, which has to be asked for.
        user_id: sessions of this user.
        since: started at this time or later.
        until: started before this time.
        status: in this status.
        min_length: ended, and at least this long.
        max_length: ended, and at most this long.

    Raises:
        InvalidIdError: an id is not valid.
    """

    tenant_id: str | None = DEFAULT_TENANT
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: SessionStatus | None = None
    min_length: timedelta | None = None
    max_length: timedelta | None = None

    def __post_init__(self) -> None:
        """Check the ids."""
        for kind, value in (("tenant", self.tenant_id), ("user", self.user_id)):
            if value is not None:
                check_id(kind, value)

    @property
    def scope(self) -> Document:
        """The part of the query that sessions and turns share."""
        ids = {"tenant_id": self.tenant_id, "user_id": self.user_id}
        return {name: value for name, value in ids.items() if value is not None}

    def sessions(self) -> Document:
        """The query over `sessions`."""
        query = self.scope | _between("started_at", self.since, self.until)
        if self.status is not None:
            query["status"] = self.status.value
        length = {"$subtract": ["$ended_at", "$started_at"]}
        bounds: list[Document] = []
        if self.min_length is not None:
            bounds.append({"$gte": [length, self.min_length // timedelta(milliseconds=1)]})
        if self.max_length is not None:
            bounds.append({"$lte": [length, self.max_length // timedelta(milliseconds=1)]})
        if bounds:
            query["ended_at"] = {"$type": "date"}
            query["$expr"] = {"$and": bounds}
        return query

    def turns(self) -> Document:
        """The query over `turns` made in that time, whenever their session started; ignores status and length."""
        return self.scope | _between("created_at", self.since, self.until)


def _between(field: str, since: datetime | None, until: datetime | None) -> Document:
    bounds = {operator: moment for operator, moment in (("$gte", since), ("$lt", until)) if moment is not None}
    return {field: bounds} if bounds else {}


async def newest(db: AsyncDatabase[Document], wanted: SessionFilter, *, limit: int = 50) -> list[SessionRecord]:
    """The matching sessions, newest first, with totals and without reports."""
    return await _with_totals(db, await _read(db, wanted.sessions(), limit, order=[("started_at", -1)]))


async def count(db: AsyncDatabase[Document], wanted: SessionFilter) -> int:
    """How many sessions match; no more than `COUNTED` are counted."""
    query = wanted.sessions()
    return await operations.read(lambda: db[SESSIONS].count_documents(query, limit=COUNTED, maxTimeMS=MAX_MILLISECONDS))


async def find(db: AsyncDatabase[Document], wanted: SessionFilter, session_id: str) -> SessionRecord:
    """The session of this id in the filter's tenant and of its user, with totals and its report.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several, of different users.
    """
    found = await _read(
        db, wanted.scope | {"session_id": check_id("session", session_id)}, 2, shown=dict.fromkeys(VECTOR, 0)
    )
    where = f"tenant {wanted.tenant_id}" if wanted.tenant_id else "any tenant"
    if not found:
        raise NotFoundError(f"there is no session {session_id} in {where}", hint="lkmongo sessions list")
    if len(found) > 1:
        raise UsageError(
            f"there is more than one session {session_id} in {where}", hint="name its user with --user, and --tenant"
        )
    return (await _with_totals(db, found))[0]


async def _read(
    db: AsyncDatabase[Document],
    query: Document,
    limit: int,
    order: list[tuple[str, int]] | None = None,
    shown: Document = _SHOWN,
) -> list[SessionRecord]:
    documents = await Encryption.of(db).read(
        SESSIONS,
        lambda: db[SESSIONS].find(query, shown, sort=order, limit=limit, max_time_ms=MAX_MILLISECONDS).to_list(),
    )
    return [record_of(document) for document in documents]


async def _with_totals(db: AsyncDatabase[Document], records: Sequence[SessionRecord]) -> list[SessionRecord]:
    return await operations.read(lambda: with_totals(db[TURNS], records)) if records else []


async def with_totals(turns: AsyncCollection[Document], records: Sequence[SessionRecord]) -> list[SessionRecord]:
    """The records, at least one, with what their turns add up to: one query."""
    keys = [_key_of(record) for record in records]
    cursor = await turns.aggregate(totals_pipeline(keys), maxTimeMS=MAX_MILLISECONDS)
    totals = {tuple(document["_id"]): totals_of(document) async for document in cursor}
    return [replace(record, totals=totals.get(key, TurnTotals())) for record, key in zip(records, keys, strict=True)]


def totals_pipeline(keys: Sequence[Key]) -> list[Document]:
    """Over `turns`: a document of totals, see `documents.totals_of`, for each session; its `_id` is the key."""
    return [
        {"$match": turns_query(keys)},
        {
            "$group": {
                "_id": [f"${field}" for field in _KEY_FIELDS],
                "turns": {"$sum": 1},
                "last_turn_at": {"$max": "$created_at"},
                "tool_errors": {"$sum": {"$cond": [{"$eq": ["$is_error", True]}, 1, 0]}},
                "slowest": {"$max": {"$ifNull": [f"$metrics.{name}" for name in WAITS]}},
            }
        },
    ]


def turns_query(keys: Sequence[Key]) -> Document:
    """The query for the turns of these sessions.

    It may also match another user's session of the same id: the reader has to compare keys.
    """
    return {field: {"$in": sorted(set(ids))} for field, ids in zip(_KEY_FIELDS, zip(*keys, strict=True), strict=True)}


def _key_of(record: SessionRecord) -> Key:
    return (record.scope.tenant_id, record.scope.user_id, record.session_id)
