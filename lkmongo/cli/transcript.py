"""A call as text for people, and as fields for programs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from lkmongo.cli.text import visible
from lkmongo.model import Turn
from lkmongo.store.calls import Call
from lkmongo.store.transcript import Line, clock, lines


def as_fields(call: Call, turns: Sequence[Turn], slow: float) -> list[dict[str, Any]]:
    """The turns as they are stored, with how far into the call each is and which of its waits were slow."""
    return [
        asdict(turn)
        | {"offset_seconds": line.offset / timedelta(seconds=1) if line.offset is not None else None}
        | {"slow": list(line.slow)}
        for turn, line in zip(turns, lines(turns, call.started_at, slow=slow), strict=True)
    ]


def as_text(call: Call, turns: Sequence[Turn], slow: float, *, fit: bool) -> Iterator[str]:
    """The lines of the transcript; with `fit` they are broken to the terminal's width."""
    told = list(lines(turns, call.started_at, slow=slow))
    late = [f"{clock(line.offset)} {wait}".lstrip() for line in told for wait in line.slow]
    facts = {
        "person": f"{call.user_id} in tenant {call.tenant_id}",
        "room": call.room_name,
        "status": ", ".join(filter(None, (call.status, call.close_reason))),
        "started": call.started_at and call.started_at.astimezone().isoformat(sep=" ", timespec="seconds"),
        "length": clock(call.length),
        "turns": str(call.turns) + (f", {call.tool_errors} failed" if call.tool_errors else ""),
        f"slow (≥ {slow:g} s)": "; ".join(late) or "nothing that was measured",
    }
    yield f"Call {call.session_id}"
    width = shutil.get_terminal_size().columns if fit else 0
    names = max(len(name) for name in facts)
    for name, value in facts.items():
        if value:  # ids are not broken
            yield from _broken(f"  {name:<{names}}  ", value, width if name.startswith("slow") else 0)
    yield ""
    offsets = max((len(clock(line.offset)) for line in told), default=0)
    speakers = max((len(visible(line.who)) for line in told), default=0)
    for line in told:
        yield from _line(line, offsets, min(speakers, 12), width)


def _line(line: Line, offsets: int, speakers: int, width: int) -> Iterator[str]:
    head = f"{clock(line.offset):>{offsets}}  {line.who:<{speakers}}  "
    yield from _broken(head, line.text, width)
    if line.notes:
        yield from _broken(" " * len(head), f"[{', '.join(line.notes)}]", width)


def _broken(head: str, text: str, width: int) -> Iterator[str]:
    """`text` after `head`, and under where it began."""
    head, indent = visible(head, one_line=True), " " * len(head)
    for number, part in enumerate(visible(text).split("\n")):
        before = indent if number else head
        if width > len(indent) + 20:
            yield from textwrap.wrap(
                part,
                width,
                initial_indent=before,
                subsequent_indent=indent,
                break_on_hyphens=False,
                break_long_words=False,
            ) or [before.rstrip()]
        else:
            yield (before + part).rstrip()
