"""The two conversations that the README shows: how they are held, and the second one as a picture.

`python -m docs.generate` holds them in a database of their own, so what the README shows is what the program prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from html import escape

CALLER = "robin"

FIRST_CALL = [
    "my name is Robin",
    "remember that my favorite color is teal",
    "where is my order",
    "how long is the warranty",
]
"""What the caller types in the README."""

SECOND_CALL = ["what is my favorite color"]
"""What they type in the picture, in a call after that."""

SEARCH = ["memory", "search", CALLER, "which colour do I like", "--output", "table"]
"""What is asked of the memory afterwards."""

_COLUMNS = 96

STARTING = "Starting the embedded MongoDB ..."

Run = Callable[[list[str], str], str]
"""Runs `lkmongo` with these arguments and this input; returns what it prints, stderr first."""


def first_call(run: Run) -> str:
    """The README's block: a conversation with an agent that has never heard of the caller."""
    return "\n".join(["```console", "$ make console", *_wrapped(_talk(run, FIRST_CALL)), "```"])


def second_call(run: Run) -> str:
    """The text of the picture; the first call must be over."""
    # What the console says of itself stands in the README already.
    talk = "".join(
        line for line in _talk(run, SECOND_CALL).splitlines(keepends=True) if not line.startswith("You are ")
    )
    found = run(SEARCH, "").partition("\n")[2]  # the first line names the strategy
    return f'$ make console\n{talk}\n$ lkmongo memory search {CALLER} "{SEARCH[3]}"\n{found}'


def _talk(run: Run, lines: list[str]) -> str:
    return run(["agent", "console"], "".join(f"{line}\n" for line in lines))


def record() -> tuple[str, str]:
    """Hold both conversations in a home of their own; returns the README's block and the text of the picture.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    with tempfile.TemporaryDirectory() as home:
        keep = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        env = keep | {"HOME": home, "LKMONGO_HOME": home, "LOGNAME": CALLER, "LKMONGO_LINGER": "60s", "COLUMNS": "100"}

        def run(arguments: list[str], typed: str) -> str:
            command = [sys.executable, "-m", "lkmongo", *arguments]
            done = subprocess.run(  # noqa: S603 - our own program
                command, input=typed, env=env, cwd=home, capture_output=True, text=True, check=True
            )
            return done.stderr + done.stdout

        try:
            return first_call(run), second_call(run)
        finally:
            run(["local", "stop"], "")


_LINE, _MARGIN = 20, 16
_STYLE = (
    "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre;fill:#1f2328}"
    ".you{font-weight:600}.tool{fill:#6e7781}rect{fill:#f6f8fa;stroke:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.tool{fill:#8b949e}rect{fill:#161b22;stroke:#30363d}}</style>"
)
_KINDS = {"$ ": "you", "you> ": "you", "  [": "tool"}


def picture(text: str) -> str:
    """A terminal that shows `text`, as SVG that reads well in light and dark."""
    rows = [(_kind(line), row) for line in text.splitlines() for row in _wrapped(line)]
    width, height = 2 * _MARGIN + 8 * _COLUMNS, 2 * _MARGIN + _LINE * len(rows)
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'role="img" aria-label="A second call">'
        ),
        _STYLE,
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for number, (kind, row) in enumerate(rows):
        y = _MARGIN + _LINE * number + 14
        out.append(f'<text class="{kind}" x="{_MARGIN}" y="{y}" xml:space="preserve">{escape(row, quote=False)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _wrapped(text: str) -> list[str]:
    return [row for line in text.splitlines() or [""] for row in textwrap.wrap(line, _COLUMNS) or [""]]


def _kind(line: str) -> str:
    return next((kind for start, kind in _KINDS.items() if line.startswith(start)), "said")
