"""Calls as Markdown to read: a heading a call, a quotation a turn. What people said is never markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from lkmongo.store.calls import call_of, turn_of
from lkmongo.store.export import Sink
from lkmongo.store.transcript import clock, lines

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#!|~&@:])")
_AT_START = re.compile(r"^(\d*)([-+=.])")


class MarkdownWriter:
    """Writes a transcript of each call."""

    def __init__(self, sink: Sink, show: Callable[[str], str]) -> None:
        """Write to `sink`; `show` makes text safe for a terminal."""
        self._sink = sink
        self._show = show
        self._started_at: datetime | None = None

    def begin(self, session: dict[str, Any]) -> None:
        """Write the heading and what is known of the call."""
        call = call_of(session)
        self._started_at = call.started_at
        facts = {
            "person": self._text(f"{call.user_id} in tenant {call.tenant_id}"),
            "room": self._text(call.room_name or ""),
            "status": self._text(", ".join(filter(None, (call.status, call.close_reason)))),
            "started": call.started_at and call.started_at.isoformat(sep=" ", timespec="seconds"),
            "length": clock(call.length),
        }
        listed = "".join(f"- {name}: {value}\n" for name, value in facts.items() if value)
        self._put(f"## Call {self._text(call.session_id)}\n\n{listed}\n")

    def turns(self, turns: Sequence[dict[str, Any]]) -> None:
        """Write the next turns."""
        for line in lines(map(turn_of, turns), self._started_at):
            notes = f" ({', '.join(line.notes)})" if line.notes else ""
            head = f"**{self._text(line.who)}** {clock(line.offset)}".rstrip()
            said = "".join(f"> {self._text(part)}\n" for part in line.text.split("\n"))
            self._put(f"{head}{notes}\n\n{said}\n")

    def end(self) -> None:
        """Nothing stands at the end of a call."""

    def close(self) -> None:
        """Nothing stands at the end of the file."""

    def _put(self, text: str) -> None:
        self._sink.write(text.encode())

    def _text(self, text: str) -> str:
        escaped = _MARKUP.sub(r"\\\1", self._show(text).replace("\n", " ").strip())
        return _AT_START.sub(r"\1\\\2", escaped)  # a list, or the line that makes a heading of the one above
