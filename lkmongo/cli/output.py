"""Where output goes: data to stdout in one of four formats, everything else to stderr."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, TextIO

from lkmongo.cli.text import visible
from lkmongo.errors import LkmongoError
from lkmongo.redact import redact


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is at the other end; a stream that was closed before we started is None."""
    return stream is not None and stream.isatty()


def is_unicode(stream: TextIO | None) -> bool:
    """Whether every character can be written to a stream."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def styled(stream: TextIO | None) -> bool:
    """Whether colours and other styles may go to a stream: to a terminal, unless NO_COLOR or TERM=dumb is set."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return is_terminal(stream) and not plain


_WHY_LINES = 40
"""Of a cause at most; of many problems each has a line of its own."""


class Format(StrEnum):
    """How data is written: for people, for `cut` and `awk`, for programs, for streams."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"
    JSONL = "jsonl"


class Output:
    """One command's way to the outside."""

    def __init__(self, fmt: Format | None = None, secrets: Sequence[str] = ()) -> None:
        """Write in `fmt`; by default a table on a terminal and plain lines elsewhere."""
        self.format = fmt or (Format.TABLE if is_terminal(sys.stdout) else Format.PLAIN)
        self._secrets = secrets

    @property
    def is_json(self) -> bool:
        """Whether a program reads the output."""
        return self.format in {Format.JSON, Format.JSONL}

    def rows(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, empty: str = "") -> None:
        """Write many of one kind; `empty` is said on stderr when there are none and a person reads."""
        listed = [{column: row.get(column) for column in columns} for row in rows]
        if self.format is Format.JSON:
            self._line(to_json(listed))
        elif self.format is Format.JSONL:
            for row in listed:
                self._line(to_json(row))
        elif not listed:
            if empty:
                self.note(empty)
        elif self.format is Format.TABLE:
            _table(columns, listed)
        else:
            self._line("\t".join(columns))
            for row in listed:
                self._line("\t".join(visible(_cell(row[column]), one_line=True) for column in columns))

    def record(self, fields: Mapping[str, Any], sentence: str) -> None:
        """Write one result: as an object for programs, as `sentence` for people."""
        self._line(to_json(dict(fields)) if self.is_json else visible(sentence))

    def event(self, fields: Mapping[str, Any]) -> None:
        """Write one object of a stream, at once."""
        self._line(to_json(dict(fields)))

    def say(self, text: str) -> None:
        """Write a line for people to stdout: for a command whose data is text, such as a conversation."""
        self._line(visible(text))

    def note(self, text: str) -> None:
        """Tell the person at the terminal something on stderr."""
        print(redact(visible(text), self._secrets), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Tell of something that is not as it should be, on stderr."""
        self.note(f"warning: {text}")

    def error(self, error: LkmongoError) -> None:
        """Say what is wrong, why, and what to do next, on stderr."""
        parts = {
            "code": error.code,
            "message": redact(error.message, self._secrets),
            "why": redact(error.why, self._secrets) if error.why else None,
            "hint": redact(error.hint, self._secrets) if error.hint else None,
        }
        if self.is_json:
            print(to_json({"error": parts}), file=sys.stderr, flush=True)
            return
        lines = [f"error: {visible(str(parts['message']))}"]
        for place, line in enumerate((parts["why"] or "").splitlines()[:_WHY_LINES]):
            lines.append(f"  {'    ' if place else 'why:'} {visible(line, one_line=True)}")
        lines += [f"  try: {visible(str(parts['hint']), one_line=True)}"] if parts["hint"] else []
        print("\n".join(lines), file=sys.stderr, flush=True)

    def write(self, text: str) -> None:
        """Write a piece of data to stdout as it is: for what is a file in itself, and harmless."""
        with _standard_output() as stream:
            stream.write(text)
            stream.flush()

    @staticmethod
    def _line(text: str) -> None:
        with _standard_output() as stream:
            stream.write(text + "\n")
            stream.flush()


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Yield where data go, and tell as such when they cannot; a reader that has enough is no failure."""
    if sys.stdout is None:
        raise LkmongoError("standard output is closed", hint="let it go to a file or to another command")
    try:
        yield sys.stdout
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> LkmongoError:
    """What is said when standard output takes no more, such as on a full disk."""
    return LkmongoError(
        "standard output cannot be written", why=error.strerror, hint="make room, or let it go somewhere else"
    )


def to_json(value: Any) -> str:
    """JSON on one line, exact, with times in ISO 8601."""
    return json.dumps(value, ensure_ascii=not is_unicode(sys.stdout), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="seconds")
    return value if isinstance(value, str) else str(_plain(value))


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console

    from lkmongo.cli.table import lines

    cells = [[visible(_brief(row[column]), one_line=True) for column in columns] for row in rows]
    bold, end = ("\x1b[1m", "\x1b[0m") if styled(sys.stdout) else ("", "")
    with _standard_output() as stream:
        for line, is_heading in lines(columns, cells, Console(file=stream).width):
            stream.write(f"{bold}{line}{end}\n" if is_heading else f"{line}\n")
        stream.flush()


def _brief(value: Any) -> str:
    return f"{value.astimezone():%Y-%m-%d %H:%M}" if isinstance(value, datetime) else _cell(value)
