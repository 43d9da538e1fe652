"""Calls as CSV for spreadsheets: a row a turn. A cell is never a formula, and never steers a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from lkmongo.store.export import Sink
from lkmongo.store.export_columns import COLUMNS, Rows

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet take a cell for a formula: https://owasp.org/www-community/attacks/CSV_Injection"""


class CsvWriter:
    """RFC 4180 in UTF-8, with a header. The exact text is in the JSON lines alone."""

    def __init__(self, sink: Sink, show: Callable[[str], str]) -> None:
        """Write to `sink`, the header at once; `show` makes text safe for a terminal."""
        self._sink = sink
        self._show = show
        self._rows = Rows()
        self._write_rows([[column.name for column in COLUMNS]])

    def begin(self, session: dict[str, Any]) -> None:
        """Begin a call."""
        self._rows.begin(session)

    def turns(self, turns: Sequence[dict[str, Any]]) -> None:
        """Write the next turns."""
        self._write_rows([cell(value, self._show) for value in row] for row in self._rows.turns(turns))

    def end(self) -> None:
        """End the call."""
        self._write_rows([cell(value, self._show) for value in row] for row in self._rows.end())

    def close(self) -> None:
        """Nothing stands at the end of the file."""

    def _write_rows(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        self._sink.write(text.getvalue().encode())


def cell(value: Any, show: Callable[[str], str]) -> Any:
    """A value as a cell: text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, str):
        return f"'{show(value)}" if value.startswith(_FORMULA) else show(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds") + "Z"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
