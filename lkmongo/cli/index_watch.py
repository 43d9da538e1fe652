"""How waiting for search indexes looks: a view that moves on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from lkmongo.cli.output import Output, is_terminal

if TYPE_CHECKING:
    from rich.table import Table

    from lkmongo.store.readiness import IndexState


class IndexWatch:
    """Shows the states it is told of on stderr while the block runs, and keeps the last of each index."""

    def __init__(self, output: Output) -> None:
        """Write lines by `output`, or draw on the terminal."""
        self.states: dict[str, IndexState] = {}
        self._output = output
        self._stack = ExitStack()
        self._moving = is_terminal(sys.stderr)
        self._began = time.monotonic()
        self._spinner: Any = None

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._moving:
            from rich.console import Console
            from rich.live import Live
            from rich.spinner import Spinner

            self._spinner = Spinner("line")
            live = Live(console=Console(stderr=True), get_renderable=self._table, transient=True, refresh_per_second=4)
            self._stack.enter_context(live)
        return self

    def __exit__(self, *_: object) -> None:
        """Clear the view."""
        self._stack.close()

    def __call__(self, state: IndexState, before: IndexState | None, seconds: float) -> None:
        """Take the new state of an index, and the one before."""
        self.states[state.index.name] = state
        if not self._moving:
            self._output.note(f"index {state.index.name}: {_change(state, before)} ({seconds:.0f} s)")

    def rows(self) -> list[dict[str, Any]]:
        """Return the last state of each index as a row."""
        return [state_row(state) for state in self.states.values()]

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


COLUMNS = ("collection", "index", "kind", "status", "queryable", "ready", "canary", "detail")


def state_row(state: IndexState) -> dict[str, Any]:
    """One index as a row of `COLUMNS`."""
    canary = state.canary
    return {
        "collection": state.index.collection,
        "index": state.index.name,
        "kind": state.index.type,
        "status": state.status,
        "queryable": state.queryable,
        "ready": state.ready,
        "canary": canary.outcome.value if canary else None,
        "detail": "; ".join(filter(None, [state.detail, canary.detail if canary else ""])),
    }


def _change(state: IndexState, before: IndexState | None) -> str:
    if state.canary is not None:
        return f"canary {state.canary.outcome.value}" + (f", {state.canary.detail}" if state.canary.detail else "")
    return f"{before.label} \u2192 {state.label}" if before else state.label
