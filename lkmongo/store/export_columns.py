"""Calls as a table: a row a turn, with the call's own columns in each; a call without turns has one row.

What has no column (the report, fields that something else wrote) is in the JSON lines alone, which hold everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from lkmongo.store.extended_json import dumps
from lkmongo.store.timings import DURATIONS, seconds_of


class Kind(Enum):
    """What a column holds."""

    TEXT = "text"
    TIME = "time"
    NUMBER = "number"
    WHOLE = "whole"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Column:
    """A column and where in a session's or a turn's document its value is."""

    name: str
    kind: Kind
    field: str


_CALL = (
    *(Column(name, Kind.TEXT, name) for name in ("tenant_id", "user_id", "session_id", "room_name", "status")),
    Column("started_at", Kind.TIME, "started_at"),
    Column("ended_at", Kind.TIME, "ended_at"),
    Column("close_reason", Kind.TEXT, "close_reason"),
)
_TURN = (
    Column("seq", Kind.WHOLE, "seq"),
    Column("created_at", Kind.TIME, "created_at"),
    *(Column(name, Kind.TEXT, name) for name in ("item_id", "kind", "role", "name", "content", "arguments", "output")),
    Column("is_error", Kind.FLAG, "is_error"),
    Column("interrupted", Kind.FLAG, "interrupted"),
)
_METRICS = tuple(Column(name, Kind.NUMBER, name) for name in DURATIONS)
COLUMNS = (*_CALL, *_TURN, *_METRICS)
"""The columns, in their order."""

_NOTHING: Mapping[str, Any] = {}


class Rows:
    """Turns calls into rows of values in the order of `COLUMNS`, each of its column's kind or None."""

    def __init__(self) -> None:
        """No call has begun."""
        self._call: list[Any] = []
        self._empty = False

    def begin(self, session: Mapping[str, Any]) -> None:
        """Begin a call."""
        self._call = _values(_CALL, session)
        self._empty = True

    def turns(self, turns: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
        """A row for each turn."""
        for turn in turns:
            self._empty = False
            metrics = turn.get("metrics")
            measured = metrics if isinstance(metrics, Mapping) else _NOTHING
            yield self._call + _values(_TURN, turn) + _values(_METRICS, measured)

    def end(self) -> Iterator[list[Any]]:
        """The row of a call that had no turns."""
        if self._empty:
            yield self._call + [None] * (len(COLUMNS) - len(_CALL))


def _values(columns: Sequence[Column], document: Mapping[str, Any]) -> list[Any]:
    return [_OF[column.kind](document.get(column.field)) for column in columns]


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return dumps({"": value})[4:-1].decode()


def _as_time(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _as_whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _as_flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_OF: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _as_text,
    Kind.TIME: _as_time,
    Kind.NUMBER: seconds_of,
    Kind.WHOLE: _as_whole,
    Kind.FLAG: _as_flag,
}
