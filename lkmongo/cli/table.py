"""Tables for a terminal: ids stay whole, so that they can be copied; all else gives way to its width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len, chop_cells

_IDS = frozenset({"session_id", "user_id", "tenant_id", "order_id", "source", "root"})
"""Columns whose values may hold spaces and are never broken."""
_PROSE = frozenset({"content", "snippet", "title", "name", "detail", "by", "reason"})
"""Columns in which a long word may be broken; in all others a line breaks only between words."""
_WORD, _LINE, _LINES = 20, 40, 6
"""Of prose, how wide a column is at least for a long word, and for a text that would be of more lines than so many."""
_INDENT = "  "

Row = Sequence[str]


def lines(columns: Sequence[str], rows: Sequence[Row], width: int) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a table, each with whether it is a heading.

    Where the columns do not stand side by side, the first of each row stands on a line of its own, above the others;
    where even those do not, each field does.
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
    """How wide each column of a table, whose first row names them, is; None where they do not fit."""
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
    first, *others = _broken(value, max(width - names - 2, _WORD)) if name in _PROSE else [value]
    yield f"{name:{names}}  {first}"
    yield from (f"{'':{names}}  {line}" for line in others)


def _side_by_side(row: Row, widths: Sequence[int]) -> Iterator[str]:
    broken = [_broken(cell, width) for cell, width in zip(row, widths, strict=True)]
    for cells in zip_longest(*broken, fillvalue=""):
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True))
        yield " ".join(padded).rstrip()


def _broken(cell: str, width: int) -> list[str]:
    """The lines of a cell; what is wider than them is broken."""
    lines = [""]
    for word in cell.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines += chop_cells(word, width)
    return lines if lines[0] else lines[1:]
