"""`lkmongo phone`: callers by telephone."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="phone",
    help="The numbers that people call from, and their PINs: list, look up, link and unlink them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
