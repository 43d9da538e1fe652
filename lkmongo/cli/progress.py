"""Progress bars and speed of long work, on stderr if that is a terminal; and what search indexes are waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from lkmongo.cli.output import Output, is_terminal, visible
from lkmongo.errors import LkmongoError

if TYPE_CHECKING:
    from rich.table import Table

    from lkmongo.store.indexes.definitions import SearchIndex
    from lkmongo.store.indexes.readiness import IndexState

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


class IndexWatch:
    """Shows the states of indexes on stderr while the block runs, and keeps the last of each.

    In GitHub Actions they are a group of lines in the log, and how it ended is a notice or an error.
    """

    def __init__(self, output: Output, indexes: Iterable[SearchIndex], *, in_github: bool) -> None:
        self.states: dict[str, IndexState] = {}
        self._output = output
        self._in_github = in_github
        self._title = f"Waiting for {', '.join(index.name for index in indexes)}"
        self._stack = ExitStack()
        self._moving = is_terminal(sys.stderr)
        self._began = time.monotonic()
        self._spinner: Any = None

    def __enter__(self) -> Self:
        if self._in_github:
            self._output.workflow_command("group", self._title)
        if self._moving:
            from rich.console import Console
            from rich.live import Live
            from rich.spinner import Spinner

            self._spinner = Spinner("line")
            live = Live(console=Console(stderr=True), get_renderable=self._table, transient=True, refresh_per_second=4)
            self._stack.enter_context(live)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._stack.close()
        if self._in_github:
            self._output.workflow_command("endgroup")
            self._tell_how_it_ended(error)

    def __call__(self, state: IndexState, before: IndexState | None, seconds: float) -> None:
        self.states[state.index.name] = state
        if not self._moving:
            line = f"index {state.index.name}: {_change(state, before)} ({seconds:.0f} s)"
            self._output.note(visible(line, one_line=self._in_github))  # a line of a server's message is no command

    def _tell_how_it_ended(self, error: BaseException | None) -> None:
        if isinstance(error, LkmongoError):
            parts = [error.message, error.why, f"try: {error.hint}" if error.hint else None]
            self._output.workflow_command("error", "\n".join(filter(None, parts)), title="Search indexes")
        elif error is None and self.states:
            seconds = time.monotonic() - self._began
            text = f"{', '.join(self.states)} are ready after {seconds:.0f} s"
            self._output.workflow_command("notice", text, title="Search indexes")

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for state in self.states.values():
            done = state.ready and state.canary is not None
            table.add_row(
                Text("+") if done else self._spinner,
                Text(state.index.name),
                Text(state.label),
                Text(state.canary.outcome.value if state.canary else ""),
            )
        table.add_row("", Text(f"{time.monotonic() - self._began:.0f} s"))
        return table


def _change(state: IndexState, before: IndexState | None) -> str:
    if state.canary is not None:
        return f"canary {state.canary.outcome.value}" + (f", {state.canary.detail}" if state.canary.detail else "")
    return f"{before.label} \u2192 {state.label}" if before else state.label
