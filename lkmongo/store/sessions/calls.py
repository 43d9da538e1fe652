"""Calls as operators see them: across the people of a tenant, or across tenants.

What one person's own agent may see of their calls is in `lkmongo.store.sessions.sessions`. Here a read is scoped by a
`SessionFilter`, which says whose calls are meant; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import NotFoundError, UsageError
from lkmongo.model import DEFAULT_TENANT, SessionStatus, Turn, TurnKind, check_id
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.transcript import ANSWER, FIRST_WORD, seconds_of

Document = dict[str, Any]

MAX_MILLISECONDS = 25_000
"""What a query of an operator may cost the server; below the client's socket timeout, so that it says so itself."""
_KINDS = frozenset(TurnKind)
COUNTED = 10_000
"""Calls that a list counts beyond what it shows."""


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which calls are meant.

    Attributes:
        tenant_id: of this tenant; None means of every tenant, which has to be asked for.
        user_id: of this person.
        since: begun at this time or later.
        until: begun before this time.
        status: with this status.
        min_length: ended, and at least this long.
        max_length: ended, and at most this long.

    Raises:
        InvalidIdError: an id cannot be one.
    """

    tenant_id: str | None = DEFAULT_TENANT
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: SessionStatus | None = None
    min_length: timedelta | None = None
    max_length: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be an id."""
        for kind, value in (("tenant", self.tenant_id), ("user", self.user_id)):
            if value is not None:
                check_id(kind, value)

    @property
    def scope(self) -> Document:
        """The part that sessions and turns share."""
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
        """The query over `turns`: what was said in the time, whenever its call began. Status and length do not apply."""
        return self.scope | _between("created_at", self.since, self.until)


def _between(field: str, since: datetime | None, until: datetime | None) -> Document:
    bounds = {operator: moment for operator, moment in (("$gte", since), ("$lt", until)) if moment is not None}
    return {field: bounds} if bounds else {}


@dataclass(frozen=True, slots=True)
class Call:
    """One call, and what its turns sum up to.

    Attributes:
        last_turn_at: when its last turn was made.
        turns: how many it has.
        tool_errors: how many of them are tools that failed.
        slowest: seconds of the longest wait for an answer, where one was measured.
    """

    session_id: str
    tenant_id: str
    user_id: str
    room_name: str | None
    status: str | None
    started_at: datetime | None
    ended_at: datetime | None
    close_reason: str | None
    last_turn_at: datetime | None = None
    turns: int = 0
    tool_errors: int = 0
    slowest: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it one of its own."""
        return (self.tenant_id, self.user_id, self.session_id)

    @property
    def length(self) -> timedelta | None:
        """From its start to its end, or to its last turn while it has no end."""
        end = self.ended_at or self.last_turn_at
        return end - self.started_at if end and self.started_at else None


class Calls:
    """The collections `sessions` and `turns`, read across people."""

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        """Work on `db`."""
        self._sessions = db[SESSIONS]
        self._turns = db[TURNS]

    async def newest(self, wanted: SessionFilter, *, limit: int = 50) -> list[Call]:
        """The calls that are meant, newest first, with what their turns sum up to."""

        async def find() -> list[Call]:
            cursor = self._sessions.find(wanted.sessions(), {"report": 0}, max_time_ms=MAX_MILLISECONDS)
            return [call_of(document) async for document in cursor.sort("started_at", -1).limit(limit)]

        return await self._summed(await operations.read(find))

    async def count(self, wanted: SessionFilter) -> int:
        """How many calls are meant; no more than `COUNTED` are counted."""
        query = wanted.sessions()
        return await operations.read(
            lambda: self._sessions.count_documents(query, limit=COUNTED, maxTimeMS=MAX_MILLISECONDS)
        )

    async def get(self, wanted: SessionFilter, session_id: str) -> Call:
        """The one call of this id.

        Raises:
            NotFoundError: there is none among those that are meant.
            UsageError: there are several, of different people.
        """
        query = wanted.scope | {"session_id": check_id("call", session_id)}

        async def find() -> list[Call]:
            cursor = self._sessions.find(query, {"report": 0}, max_time_ms=MAX_MILLISECONDS).limit(2)
            return [call_of(document) async for document in cursor]

        found = await operations.read(find)
        where = f"tenant {wanted.tenant_id}" if wanted.tenant_id else "any tenant"
        if not found:
            raise NotFoundError(f"there is no call {session_id} in {where}", hint="lkmongo sessions list")
        if len(found) > 1:
            raise UsageError(
                f"there is more than one call {session_id} in {where}", hint="add --user, and --tenant, of the one"
            )
        return (await self._summed(found))[0]

    async def turns(self, call: Call) -> list[Turn]:
        """The turns of a call in their order."""
        query = dict(zip(("tenant_id", "user_id", "session_id"), call.key, strict=True))

        async def find() -> list[Turn]:
            return [turn_of(document) async for document in self._turns.find(query).sort("seq")]

        return await operations.read(find)

    async def _summed(self, calls: Sequence[Call]) -> list[Call]:
        if not calls:
            return []

        async def aggregate() -> dict[tuple[str, str, str], Document]:
            cursor = await self._turns.aggregate(sums_pipeline(calls), maxTimeMS=MAX_MILLISECONDS)
            return {tuple(document["_id"]): document async for document in cursor}

        sums = await operations.read(aggregate)
        return [with_sums(call, sums.get(call.key, {})) for call in calls]


def of_calls(keys: Sequence[tuple[str, str, str]]) -> Document:
    """The query for the turns of these calls, given as (tenant, user, session) ids.

    It may find a call that was not asked for, of another person with the same id: the reader compares.
    """
    fields = ("tenant_id", "user_id", "session_id")
    return {field: {"$in": sorted(set(ids))} for field, ids in zip(fields, zip(*keys, strict=True), strict=True)}


def sums_pipeline(calls: Sequence[Call]) -> list[Document]:
    """What the turns of each call sum up to: a document a call, `_id` being its key."""
    return [
        {"$match": of_calls([call.key for call in calls])},
        {
            "$group": {
                "_id": ["$tenant_id", "$user_id", "$session_id"],
                "turns": {"$sum": 1},
                "last_turn_at": {"$max": "$created_at"},
                "tool_errors": {"$sum": {"$cond": [{"$eq": ["$is_error", True]}, 1, 0]}},
                "slowest": {"$max": {"$ifNull": [f"$metrics.{ANSWER}", f"$metrics.{FIRST_WORD}"]}},
            }
        },
    ]


def call_of(document: Mapping[str, Any]) -> Call:
    """A call of a document, also of one that lacks fields because something else wrote it."""
    return Call(
        session_id=str(document.get("session_id", "")),
        tenant_id=str(document.get("tenant_id", "")),
        user_id=str(document.get("user_id", "")),
        room_name=_text(document.get("room_name")),
        status=_text(document.get("status")),
        started_at=_moment(document.get("started_at")),
        ended_at=_moment(document.get("ended_at")),
        close_reason=_text(document.get("close_reason")),
    )


def turn_of(document: Mapping[str, Any]) -> Turn:
    """A turn of a document, also of one that lacks fields."""
    metrics = document.get("metrics")
    return Turn(
        seq=seq if isinstance(seq := document.get("seq"), int) else 0,
        item_id=str(document.get("item_id", "")),
        kind=TurnKind(document["kind"]) if document.get("kind") in _KINDS else TurnKind.MESSAGE,
        created_at=_moment(document.get("created_at")) or datetime.fromtimestamp(0, UTC),
        role=_text(document.get("role")),
        content=_text(document.get("content")),
        name=_text(document.get("name")),
        arguments=_text(document.get("arguments")),
        output=_text(document.get("output")),
        is_error=document.get("is_error") is True,
        interrupted=document.get("interrupted") is True,
        metrics=dict(metrics) if isinstance(metrics, Mapping) else {},
    )


def with_sums(call: Call, sums: Mapping[str, Any]) -> Call:
    """The call with a document of `sums_pipeline`; one without turns has none."""
    return replace(
        call,
        last_turn_at=_moment(sums.get("last_turn_at")),
        turns=sums.get("turns", 0),
        tool_errors=sums.get("tool_errors", 0),
        slowest=seconds_of(sums.get("slowest")),
    )


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _moment(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)  # an export decodes without a zone
