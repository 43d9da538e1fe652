"""Calls as JSON lines: a call a line, its turns in it, every type kept by MongoDB's extended JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lkmongo.store.export import Sink
from lkmongo.store.extended_json import dumps


class JsonlWriter:
    """Writes the session's document with one field more, `turns`, an array of the turns' documents."""

    def __init__(self, sink: Sink) -> None:
        """Write to `sink`."""
        self._write = sink.write
        self._between = b""

    def begin(self, session: dict[str, Any]) -> None:
        """Begin a line."""
        session.pop("turns", None)  # the store writes no such field, and a line has one
        self._write(dumps(session)[:-1] + b',"turns":[')
        self._between = b""

    def turns(self, turns: Sequence[dict[str, Any]]) -> None:
        """Write the next turns."""
        if turns:
            self._write(self._between + dumps(turns)[1:-1])
            self._between = b","

    def end(self) -> None:
        """End the line."""
        self._write(b"]}\n")

    def close(self) -> None:
        """Nothing stands at the end of the file."""
