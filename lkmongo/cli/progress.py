"""Progress of long work, on stderr, and only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lkmongo.cli.output import is_terminal

Tell = Callable[[str, int, int], None]
"""Takes the name of a part, how much of it is done, and how much there is."""


@contextmanager
def progress(title: str) -> Iterator[Tell]:
    """Show a bar for each part while the block runs; nothing at all when stderr is no terminal."""
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
