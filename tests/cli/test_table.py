"""Tables for a terminal: whatever their width, an id stays whole and nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from lkmongo.cli.output import lines

CALLS = ["session_id", "user_id", "status", "started_at", "length", "slowest"]
CONSOLE = "console-6e9f8d7c-1b2a-4c3d-8e9f-0a1b2c3d4e5f"
REST = ["complete", "2026-11-23 13:27", "0:31", "0.01 s"]


def shown(columns: list[str], rows: list[list[str]], width: int = 80) -> list[str]:
    return [line for line, _ in lines(columns, rows, width)]


def test_what_fits_stands_side_by_side() -> None:
    assert list(lines(["user_id", "name"], [["u-1", "Priya Raman"], ["u-1000000", ""]], 80)) == [
        ("user_id   name", True),
        ("u-1       Priya Raman", False),
        ("u-1000000", False),
    ]


def test_what_may_wrap_gives_way_before_anything_else_does() -> None:
    said = "teal, and a lot of other colours that they like very much in the morning"
    columns = ["memory_type", "content", "created_at", "updated_at"]
    assert shown(columns, [["favorite_color", said, "2026-11-23 13:27", "2026-11-23 13:27"]]) == [
        "memory_type    content                         created_at       updated_at",
        "favorite_color teal, and a lot of other        2026-11-23 13:27 2026-11-23 13:27",
        "               colours that they like very",
        "               much in the morning",
    ]
    assert max(map(len, shown(columns, [["pet", "x" * 300, *REST[1:3]]]))) == 80


def test_a_long_text_is_not_squeezed_into_a_narrow_column() -> None:
    columns = ["source", "content", "score", "vector_rank", "text_rank"]
    row = ["a handbook of returns.md", "You may return it. " * 20, "0.0163", "1", "2"]
    told = shown(columns, [row])
    assert told[0] == "source"
    assert told[1].split() == columns[1:]
    assert told[2:4] == [row[0], "  You may return it. You may return it. You may     0.0163 1           2"]
    row = [row[0], "1", "Returns: How long do I have?", *row[1:]]
    told = shown(["source", "chunk", "title", *columns[1:]], [row])
    assert told[:3] == [f"source       {row[0]}", "chunk        1", "title        Returns: How long do I have?"]
    assert told[3] == "content      You may return it. You may return it. You may return it. You may"
    assert told[4].startswith(" " * 13 + "return it.")


def test_an_id_that_leaves_no_room_stands_above_the_rest() -> None:
    assert shown(CALLS, [[CONSOLE, "u-100", *REST], ["RM_x", "root", *REST]]) == [
        "session_id",
        "  user_id status   started_at       length slowest",
        CONSOLE,
        "  u-100   complete 2026-11-23 13:27 0:31   0.01 s",
        "RM_x",
        "  root    complete 2026-11-23 13:27 0:31   0.01 s",
    ]


def test_and_where_the_rest_leaves_none_each_field_stands_alone() -> None:
    user = "u" * 128
    assert shown(CALLS, [[CONSOLE, user, *REST], ["RM_x", "root", *REST[:3], ""]])[:9] == [
        f"session_id  {CONSOLE}",
        f"user_id     {user}",
        "status      complete",
        "started_at  2026-11-23 13:27",
        "length      0:31",
        "slowest     0.01 s",
        "",
        "session_id  RM_x",
        "user_id     root",
    ]


cells = st.text("äéß日 ", max_size=40).map(str.strip)


@given(
    st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=4),
    st.sampled_from([("user_id", "status", "content"), ("content", "source", "length"), ("tool", "name", "root")]),
    st.integers(1, 90),
)
def test_at_any_width_ids_and_words_are_whole_and_nothing_is_lost(rows, columns, width) -> None:
    told = list(lines(columns, rows, width))
    text = "\n".join(line for line, _ in told)
    for row in rows:
        for name, cell in zip(columns, row, strict=True):
            if name in {"user_id", "source", "root"}:
                assert cell in text
            elif name not in {"content", "name"}:
                assert all(word in text for word in cell.split())
    assert Counter(filter(str.isalpha, text)) >= Counter(
        char for row in rows for cell in row for char in cell.strip() if char != " "
    )
    headings = sum(is_heading for _, is_heading in told)
    if headings:
        fits = [line for line, _ in told if headings == 1 or line.startswith("  ")]
        assert all(cell_len(line) <= width for line in fits)


@pytest.mark.parametrize("width", [1, 10, 30, 80, 400])
def test_a_table_of_one_column_is_a_list(width) -> None:
    told = shown(["source"], [["a very long name of a document.md"], ["b.md"]], width)
    assert any(line.endswith("a very long name of a document.md") for line in told)
