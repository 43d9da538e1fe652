"""Output of commands: data to stdout in one of four formats, everything else to stderr.

Stored text comes from callers and could contain terminal escape sequences: `visible` makes it safe. In tables, ids are
never wrapped, so that they can be copied; everything else fits the width of the terminal.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum, StrEnum
from itertools import zip_longest
from typing import Any, TextIO

from rich.cells import cell_len, chop_cells

from lkmongo.errors import LkmongoError
from lkmongo.invisible import safe_json
from lkmongo.invisible import visible as visible  # noqa: PLC0414 - what is shown goes through here
from lkmongo.redact import redact


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with a noun: "1 call", "1,000 calls"; `plural` is for one that takes more than an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


_IDS = frozenset({"session_id", "user_id", "tenant_id", "order_id", "source", "root"})
"""Columns that are never wrapped, even at spaces."""
_PROSE = frozenset({"content", "snippet", "title", "name", "detail", "by", "reason"})
"""Columns in which long words may be broken; all others are only wrapped between words."""
_WORD, _LINE, _LINES = 20, 40, 6
"""Minimum widths of a prose column: for a long word, and for a text that would take more than `_LINES` lines."""
_INDENT = "  "
_WHY_LINES = 40
"""Maximum lines of a cause, which may list many problems."""

Row = Sequence[str]


def lines(columns: Sequence[str], rows: Sequence[Row], width: int) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a table, each with whether it is a heading.

    If the columns do not fit, the first one is on a separate line above the others; if that does not fit either, each
    field is on a separate line.
    """
    table = [columns, *rows]
    if widths := _widths(table, width):
        for number, row in enumerate(table):
            yield from ((line, number == 0) for line in _side_by_side(row, widths))
    elif widths := _widths([row[1:] for row in table], width - len(_INDENT)):
        for number, (first, *others) in enumerate(table):
            yield first, number == 0
            yield from ((_INDENT + line, number == 0) for line in _side_by_side(others, widths))
    else:
        names = max(map(len, columns))
        for number, row in enumerate(rows):
            yield from [("", False)] if number else []
            fields = ((name, value) for name, value in zip(columns, row, strict=True) if value)
            yield from ((line, False) for name, value in fields for line in _field(name, value, names, width))


def _widths(table: Sequence[Row], width: int) -> list[int] | None:
    """The widths of the columns of a table, whose first row is the heading; None if they do not fit."""
    columns = list(zip(*table, strict=True))
    wanted = [max(map(cell_len, column)) for column in columns]
    widths = [max(_narrowest(column[0], cell) for cell in column) for column in columns]
    room = width - sum(widths) - (len(columns) - 1)
    if room < 0:
        return None
    while room and (narrow := [place for place, least in enumerate(widths) if least < wanted[place]]):
        widths[min(narrow, key=widths.__getitem__)] += 1
        room -= 1
    return widths


def _narrowest(name: str, cell: str) -> int:
    if name in _IDS:
        return cell_len(cell)
    longest = max(map(cell_len, cell.split()), default=0)
    return max(min(longest, _WORD), min(cell_len(cell) // _LINES, _LINE)) if name in _PROSE else longest


def _field(name: str, value: str, names: int, width: int) -> Iterator[str]:
    first, *others = _wrapped(value, max(width - names - 2, _WORD)) if name in _PROSE else [value]
    yield f"{name:{names}}  {first}"
    yield from (f"{'':{names}}  {line}" for line in others)


def _side_by_side(row: Row, widths: Sequence[int]) -> Iterator[str]:
    broken = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    for cells in zip_longest(*broken, fillvalue=""):
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True))
        yield " ".join(padded).rstrip()


def _wrapped(cell: str, width: int) -> list[str]:
    """The lines of a cell; longer words are broken."""
    lines = [""]
    for word in cell.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines += chop_cells(word, width)
    return lines if lines[0] else lines[1:]


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; one that was closed before the start is None."""
    return stream is not None and stream.isatty()


def is_unicode(stream: TextIO | None) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def styled(stream: TextIO | None) -> bool:
    """Whether to use colours: on a terminal, unless NO_COLOR or TERM=dumb is set."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return is_terminal(stream) and not plain


class Format(StrEnum):
    """The format of data: for people, for `cut` and `awk`, for programs, for streams."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"
    JSONL = "jsonl"


class Output:
    def __init__(self, fmt: Format | None = None, secrets: Sequence[str] = ()) -> None:
        self.format = fmt or (Format.TABLE if is_terminal(sys.stdout) else Format.PLAIN)
        self._secrets = secrets
        self.is_held = False
        """Whether data may not be shown yet: a command on people's data is in the audit trail first."""

    def hide(self, *texts: str) -> None:
        """Show these in no message any more."""
        self._secrets = [*self._secrets, *texts]

    @property
    def is_json(self) -> bool:
        return self.format in {Format.JSON, Format.JSONL}

    def rows(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, empty: str = "") -> None:
        """Write rows; without rows, write `empty` to stderr for people."""
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
            self._check()
            _table(columns, listed)
        else:
            self._line("\t".join(columns))
            for row in listed:
                self._line("\t".join(visible(_cell(row[column]), one_line=True) for column in columns))

    def record(self, fields: Mapping[str, Any], sentence: str) -> None:
        """Write one result: an object for programs, `sentence` for people."""
        self._line(to_json(dict(fields)) if self.is_json else visible(sentence))

    def event(self, fields: Mapping[str, Any]) -> None:
        self._line(to_json(dict(fields)))

    def say(self, text: str) -> None:
        """Write a line of text to stdout, for commands whose data is text."""
        self._line(visible(text))

    def note(self, text: str) -> None:
        print(redact(visible(text), self._secrets), file=sys.stderr, flush=True)

    def workflow_command(self, name: str, text: str = "", *, title: str = "") -> None:
        """Write a command that the log of GitHub Actions shows, such as `::notice title=Title::text`, to stderr.

        The runner reads them there as on stdout. In the text, line breaks and percent signs are escaped, in a title
        colons and commas too (actions/runner, ActionCommand.cs).
        """

        def escaped(part: str) -> str:
            return redact(visible(part), self._secrets).replace("%", "%25").replace("\n", "%0A")

        properties = f" title={escaped(title).replace(':', '%3A').replace(',', '%2C')}" if title else ""
        print(f"::{name}{properties}::{escaped(text)}", file=sys.stderr, flush=True)

    def note_wait(self, seconds: float) -> None:
        self.note(f"The embedding service asks to wait {seconds:.0f} s")

    def warn(self, text: str) -> None:
        self.note(f"warning: {text}")

    def error(self, error: LkmongoError) -> None:
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
            if line.lstrip().startswith("::"):  # after spaces alone, GitHub's runner would take it for a command
                line = line.replace("::", ": :", 1)  # noqa: PLW2901
            lines.append(f"  {'    ' if place else 'why:'} {visible(line, one_line=True)}")
        lines += [f"  try: {visible(str(parts['hint']), one_line=True)}"] if parts["hint"] else []
        print("\n".join(lines), file=sys.stderr, flush=True)

    def write(self, text: str) -> None:
        """Write safe data to stdout unchanged."""
        self._check()
        with _standard_output() as stream:
            stream.write(text)
            stream.flush()

    def _check(self) -> None:
        if self.is_held:
            raise RuntimeError("data would be shown that is not in the audit trail")

    def _line(self, text: str) -> None:
        self._check()
        with _standard_output() as stream:
            stream.write(text + "\n")
            stream.flush()


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Yield stdout, and translate its errors, except for a closed pipe."""
    if sys.stdout is None:
        raise LkmongoError("standard output is closed", hint="redirect it to a file or a command")
    try:
        yield sys.stdout
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> LkmongoError:
    """The error for a failed write to stdout, for example on a full disk."""
    return LkmongoError(
        "standard output cannot be written", why=error.strerror, hint="make room, or redirect it elsewhere"
    )


def to_json(value: Any) -> str:
    """JSON on one line, with times in ISO 8601, that a terminal shows as it is."""
    return safe_json(json.dumps(value, ensure_ascii=not is_unicode(sys.stdout), default=_plain))


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

    cells = [[visible(_brief(row[column]), one_line=True) for column in columns] for row in rows]
    bold, end = ("\x1b[1m", "\x1b[0m") if styled(sys.stdout) else ("", "")
    with _standard_output() as stream:
        for line, is_heading in lines(columns, cells, Console(file=stream).width):
            stream.write(f"{bold}{line}{end}\n" if is_heading else f"{line}\n")
        stream.flush()


def _brief(value: Any) -> str:
    return f"{value.astimezone():%Y-%m-%d %H:%M}" if isinstance(value, datetime) else _cell(value)


def show_fields(output: Output, fields: Mapping[str, Any]) -> None:
    """Write one object: for people, a field per line."""
    if output.is_json:
        output.record(fields, "")
    elif output.format is Format.PLAIN:
        output.rows(["field", "value"], ({"field": name, "value": value} for name, value in fields.items()))
    else:
        width = max(map(len, fields))
        for name, value in fields.items():
            output.say(f"{name:{width}}  {visible(_words(value), one_line=True)}".rstrip())


def cut(output: Output, text: Any, limit: int = 1_000) -> Any:
    if output.format is not Format.TABLE or not isinstance(text, str) or len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text):,} characters)"


def _words(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else _cell(value)
