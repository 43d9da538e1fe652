"""The export formats: JSON lines with everything, CSV and Parquet with a row per turn, Markdown to read.

A CSV cell is never a formula and holds no terminal control characters; in Markdown, nothing that was said is markup.
Only JSON lines hold what has no column: the report, and fields that another program wrote.
"""

from __future__ import annotations

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from lkmongo.imports import extra
from lkmongo.store.export.export import Sink
from lkmongo.store.mongo.extended_json import dumps
from lkmongo.store.sessions.documents import record_of, turn_of
from lkmongo.store.sessions.transcript import DURATIONS, clock, lines, seconds_of


class Kind(Enum):
    """What a column holds."""

    TEXT = "text"
    TIME = "time"
    NUMBER = "number"
    WHOLE = "whole"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and the field of a session's or a turn's document that it shows."""

    name: str
    kind: Kind
    field: str


_SESSION = (
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
COLUMNS = (*_SESSION, *_TURN, *_METRICS)


class _RowWriter(ABC):
    """A format with a row per turn: values in the order of `COLUMNS`, each of its column's kind or None."""

    def __init__(self) -> None:
        self._session: list[Any] = []
        self._is_empty = False

    def begin(self, session: dict[str, Any]) -> None:
        self._session = _values(_SESSION, session)
        self._is_empty = True

    def turns(self, turns: Sequence[dict[str, Any]]) -> None:
        self._is_empty = self._is_empty and not turns
        self._put(map(self._row, turns))

    def end(self) -> None:
        if self._is_empty:  # a session without turns has a row, too
            self._put([self._session + [None] * (len(COLUMNS) - len(_SESSION))])

    @abstractmethod
    def _put(self, rows: Iterable[list[Any]]) -> None: ...

    def _row(self, turn: Mapping[str, Any]) -> list[Any]:
        metrics = turn.get("metrics")
        measured = metrics if isinstance(metrics, Mapping) else {}
        return self._session + _values(_TURN, turn) + _values(_METRICS, measured)


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


_FORMULA = re.compile("^(?=[\t\r\n])|(?:^|(?<=[;|\t\r\n]))[\"' ]*(?=[=+\\-@\uff1d\uff0b\uff0d\uff20])")
"""Where a formula would begin, if what stands before it separates cells or rows.

https://owasp.org/www-community/attacks/CSV_Injection
"""


class CsvWriter(_RowWriter):
    """RFC 4180 in UTF-8, with a header, every cell quoted. Text is escaped; only JSON lines have it exactly."""

    def __init__(self, sink: Sink, show: Callable[[str], str]) -> None:
        """Write the header to `sink`; `show` makes text safe for a terminal."""
        super().__init__()
        self._sink = sink
        self._show = show
        self._put([[column.name for column in COLUMNS]])

    def _put(self, rows: Iterable[list[Any]]) -> None:
        self._sink.write(csv_lines(rows, self._show))

    def close(self) -> None:
        pass


def csv_lines(rows: Iterable[Iterable[Any]], show: Callable[[str], str]) -> bytes:
    """Rows as in `CsvWriter`."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([_cell(value, show) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any, show: Callable[[str], str]) -> Any:
    """A value as a cell: an apostrophe stands before what a spreadsheet would take for a formula.

    Within the text, too: one that separates by semicolons, as where a comma is the decimal mark, sees no quotes.
    """
    if isinstance(value, str):
        return show(_FORMULA.sub(lambda before: f"{before[0]}'", value))
    if isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo else value  # an export decodes without a zone
        return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


class JsonlWriter:
    """Writes the session's document with an additional field `turns`, an array of the turns' documents."""

    def __init__(self, sink: Sink) -> None:
        self._write = sink.write
        self._between = b""

    def begin(self, session: dict[str, Any]) -> None:
        session.pop("turns", None)  # lkmongo stores no such field, but another program might
        self._write(dumps(session)[:-1] + b',"turns":[')
        self._between = b""

    def turns(self, turns: Sequence[dict[str, Any]]) -> None:
        if turns:
            self._write(self._between + dumps(turns)[1:-1])
            self._between = b","

    def end(self) -> None:
        self._write(b"]}\n")

    def close(self) -> None:
        pass


_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#!|~&@:])")
_AT_START = re.compile(r"^(\d*)([-+=.])")


class MarkdownWriter:
    """Writes a transcript of each session."""

    def __init__(self, sink: Sink, show: Callable[[str], str]) -> None:
        """Write to `sink`; `show` makes text safe for a terminal."""
        self._sink = sink
        self._show = show
        self._started_at: datetime | None = None

    def begin(self, session: dict[str, Any]) -> None:
        record = record_of(session)
        self._started_at = record.started_at
        facts = {
            "person": self._text(f"{record.scope.user_id} in tenant {record.scope.tenant_id}"),
            "room": self._text(record.room_name or ""),
            "status": self._text(", ".join(filter(None, (record.status, record.close_reason)))),
            "started": record.started_at and record.started_at.isoformat(sep=" ", timespec="seconds"),
            "length": clock(record.length),
        }
        listed = "".join(f"- {name}: {value}\n" for name, value in facts.items() if value)
        self._put(f"## Session {self._text(record.session_id)}\n\n{listed}\n")

    def turns(self, turns: Sequence[dict[str, Any]]) -> None:
        for line in lines(map(turn_of, turns), self._started_at):
            notes = f" ({', '.join(line.notes)})" if line.notes else ""
            head = f"**{self._text(line.who)}** {clock(line.offset)}".rstrip()
            said = "".join(f"> {self._text(part)}\n" for part in line.text.split("\n"))
            self._put(f"{head}{notes}\n\n{said}\n")

    def end(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _put(self, text: str) -> None:
        self._sink.write(text.encode())

    def _text(self, text: str) -> str:
        escaped = _MARKUP.sub(r"\\\1", self._show(text).replace("\n", " ").strip())
        return _AT_START.sub(r"\1\\\2", escaped)  # a list item, or an underline that makes the line above a heading


_ROWS = 20_000
_CHARACTERS = 16 * 2**20
"""A row group is written when it reaches either limit, which bounds memory."""


class ParquetWriter(_RowWriter):
    """Writes one file with columns compressed by Zstandard; times are milliseconds in UTC."""

    def __init__(self, sink: Sink) -> None:
        """Write to `sink`.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        with extra("parquet", "Parquet"):
            import pyarrow as pa
            from pyarrow import parquet as pq
        types = {
            Kind.TEXT: pa.string(),
            Kind.TIME: pa.timestamp("ms", tz="UTC"),
            Kind.NUMBER: pa.float64(),
            Kind.WHOLE: pa.int64(),
            Kind.FLAG: pa.bool_(),
        }
        self._schema = pa.schema([(column.name, types[column.kind]) for column in COLUMNS])
        self._pa = pa
        self._file = pq.ParquetWriter(pa.PythonFile(_Output(sink), mode="w"), self._schema, compression="zstd")
        super().__init__()
        self._held: list[list[Any]] = []
        self._characters = 0

    def close(self) -> None:
        self._write()
        self._file.close()

    def _put(self, rows: Iterable[list[Any]]) -> None:
        for row in rows:
            self._held.append(row)
            self._characters += sum(len(value) for value in row if isinstance(value, str))
            if len(self._held) >= _ROWS or self._characters >= _CHARACTERS:
                self._write()

    def _write(self) -> None:
        if not self._held:
            return
        columns = zip(*self._held, strict=True)
        arrays = [self._pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._held.clear()
        self._characters = 0
        self._file.write_batch(self._pa.record_batch(arrays, schema=self._schema))


class _Output:
    """A file for pyarrow, which asks for its position, never seeks, and passes its own buffers."""

    closed = False

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._position = 0

    def write(self, data: Any) -> int:
        self._position += self._sink.write(bytes(data))
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """The sink decides when to flush."""

    def close(self) -> None:
        self.closed = True
