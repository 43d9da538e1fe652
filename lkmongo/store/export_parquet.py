"""Calls as Parquet for analysis: a row a turn, typed columns, exact text. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lkmongo.imports import extra
from lkmongo.store.export import Sink
from lkmongo.store.export_columns import COLUMNS, Kind, Rows

_ROWS = 20_000
_CHARACTERS = 16 * 2**20
"""A row group is written when it has either; that is what bounds memory."""


class ParquetWriter:
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
        self._rows = Rows()
        self._held: list[list[Any]] = []
        self._characters = 0

    def begin(self, session: dict[str, Any]) -> None:
        """Begin a call."""
        self._rows.begin(session)

    def turns(self, turns: Sequence[dict[str, Any]]) -> None:
        """Take the next turns."""
        self._hold(self._rows.turns(turns))

    def end(self) -> None:
        """End the call."""
        self._hold(self._rows.end())

    def close(self) -> None:
        """Write what is held and the end of the file."""
        self._write()
        self._file.close()

    def _hold(self, rows: Iterable[list[Any]]) -> None:
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
    """What pyarrow takes for a file: it asks where it is, never goes back, and passes on buffers of its own."""

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
        """Nothing: the sink decides."""

    def close(self) -> None:
        self.closed = True
