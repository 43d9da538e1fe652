"""One thing with its fields, and long texts in tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lkmongo.cli.output import Format
from lkmongo.cli.text import visible

if TYPE_CHECKING:
    from lkmongo.cli.command import Cli


def show_fields(cli: Cli, fields: Mapping[str, Any]) -> None:
    """Write one object for programs, a field a line for people."""
    if cli.output.is_json:
        cli.output.record(fields, "")
    elif cli.output.format is Format.PLAIN:
        cli.output.rows(["field", "value"], ({"field": name, "value": value} for name, value in fields.items()))
    else:
        width = max(map(len, fields))
        for name, value in fields.items():
            cli.output.say(f"{name:{width}}  {visible(_words(value), one_line=True)}".rstrip())


def cut(cli: Cli, text: Any, limit: int = 1_000) -> Any:
    """Shorten a long text where a table is shown: it would be hard to read, and slow to lay out."""
    if cli.output.format is not Format.TABLE or not isinstance(text, str) or len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text):,} characters)"


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="seconds")
    return str(value)
