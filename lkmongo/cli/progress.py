"""Progress bars and speed of long work, on stderr if that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lkmongo.cli.output import is_terminal

ReportProgress = Callable[[str, int, int], None]
"""Called with the name of a part, how much of it is done, and how much there is."""


@contextmanager
def progress(title: str) -> Iterator[ReportProgress]:
    if not is_terminal(sys.stderr):
        yield lambda _part, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(f"{title} {part}", total=total)
            bars.update(tasks[part], completed=done, total=total)

        yield tell


@contextmanager
def rate(title: str, unit: str, *, shown: bool = True) -> Iterator[Callable[[str, int], None]]:
    """Yield a function that shows progress in words, and as a speed from the number of `unit` done."""
    with watched(title, shown=shown) as say:
        began = time.monotonic()

        def tell(text: str, done: int) -> None:
            speed = done / max(time.monotonic() - began, 0.001)
            say(f"{text}, {speed:,.0f} {unit} a second")

        yield tell


@contextmanager
def watched(title: str, *, shown: bool = True) -> Iterator[Callable[[str], None]]:
    if not (shown and is_terminal(sys.stderr)):
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda text: progress.update(task, description=f"{title}: {text}")
