"""How sessions and turns are stored: their documents, where late turns are inserted, and who owns a session's lease."""

from __future__ import annotations

import functools
import os
import platform
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, clean

LOOKING = "/resume"
"""What the owner of a lease ends with who looks whether another agent is to go on: whoever goes on, takes it."""


def process_name() -> str:
    """Which process of which boot of which host this is."""
    return f"{host_name()}/{os.getpid()}"  # the pid is asked for anew: a process that has forked is another one


def lease_owner() -> str:
    """A name for who holds a lease: this process, and which of the agents that it may have in one call."""
    return f"{process_name()}/{secrets.token_hex(4)}"


def is_gone(owner: str) -> bool:
    """Whether a lease's owner is a process of this machine that has ended; False where that cannot be told."""
    here, number = host_name() + "/", owner.rpartition(LOOKING)[0] or owner
    pid = number.removeprefix(here).partition("/")[0]
    if not number.startswith(here) or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
        # One that nobody has waited for yet is dead, too.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:
        return False


@functools.cache
def host_name() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Containers may share a host's name and boot; a pid says nothing outside its own namespace.
        boot += f"-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116
    except OSError:
        boot = ""
    return f"{platform.node()}/{boot}"


def turn_fields(turn: Turn) -> dict[str, Any]:
    """What is stored of a turn, beside whose and which it is."""
    kept = asdict(turn).items()
    fields: dict[str, Any] = clean({k: v for k, v in kept if k not in {"seq", "item_id"} and v not in (None, {})})
    return fields | {"kind": turn.kind.value}


def turn_of(document: dict[str, Any]) -> Turn:
    """The turn that a document is."""
    return Turn(
        seq=document["seq"],
        item_id=document["item_id"],
        kind=TurnKind(document["kind"]),
        created_at=document["created_at"],
        role=document.get("role"),
        content=document.get("content"),
        name=document.get("name"),
        arguments=document.get("arguments"),
        output=document.get("output"),
        is_error=document.get("is_error", False),
        interrupted=document.get("interrupted", False),
        metrics=document.get("metrics", {}),
    )


def record_of(document: dict[str, Any]) -> SessionRecord:
    """The call that a document is."""
    return SessionRecord(
        session_id=document["session_id"],
        scope=UserScope(tenant_id=document["tenant_id"], user_id=document["user_id"]),
        room_name=document["room_name"],
        status=SessionStatus(document["status"]),
        started_at=document["started_at"],
        ended_at=document.get("ended_at"),
        close_reason=document.get("close_reason"),
        report=document.get("report") or {},
        participant_identity=document.get("participant"),
        agent=document.get("agent"),
        agent_participant=document.get("agent_participant"),
        livekit=document.get("livekit"),
    )


def in_time_order(turns: Sequence[tuple[Turn, bool]]) -> list[tuple[Turn, bool]]:
    """Sort turns by the time at which they were made, and let them share out their numbers in that order.

    They were noted as they came, and what was said before a tool is called may come after the call. Those with a number
    of the database and those without, see `Sessions.append_missing`, keep to their own.
    """
    turns = sorted(turns, key=lambda each: each[0].created_at)
    numbers = {
        numbered: iter(sorted(turn.seq for turn, is_numbered in turns if is_numbered is numbered))
        for numbered in (True, False)
    }
    return [(replace(turn, seq=next(numbers[numbered])), numbered) for turn, numbered in turns]


def placed(
    there: Sequence[tuple[str, int, datetime]], turns: Sequence[tuple[Turn, bool]]
) -> tuple[list[Turn], list[tuple[str, int, int]]]:
    """Where turns go among those that are there.

    Args:
        there: item id, number and time of those that are there, by number.
        turns: see `Sessions.append_missing`.

    Returns:
        Those that are missing, with their numbers, and (item id, old number, new number) of those that make room,
        the last one first.
    """
    numbers = {item_id: seq for item_id, seq, _ in there}
    missing: dict[str, tuple[Turn, bool]] = {}
    for turn, is_numbered in turns:
        if turn.item_id not in numbers:
            missing.setdefault(turn.item_id, (turn, is_numbered))
    if not missing:
        return [], []
    known = [numbers[turn.item_id] - turn.seq for turn, numbered in turns if not numbered and turn.item_id in numbers]
    after_all = max(numbers.values(), default=-1) + 1
    wanted = [
        replace(turn, seq=turn.seq + (0 if numbered else (known or [after_all])[0]))
        for turn, numbered in missing.values()
    ]
    taken = set(numbers.values())
    # A process that has not learned of any number came before whoever has written since.
    is_last = (
        known
        or all(numbered for _, numbered in missing.values())
        or wanted[0].created_at >= max((created_at for _, _, created_at in there), default=wanted[0].created_at)
    )
    own = {turn.seq for turn in wanted}
    if is_last and len(own) == len(wanted) and not own & taken:
        return wanted, []
    placed: list[Turn] = []
    moved: list[tuple[str, int, int]] = []
    rest = deque(wanted)
    free = 0
    for item_id, seq, created_at in there:
        while rest and rest[0].created_at < created_at:
            placed.append(replace(rest.popleft(), seq=free))
            free += 1
        free = max(free, seq)
        if free != seq:
            moved.append((item_id, seq, free))
        free += 1
    placed += [replace(turn, seq=free + number) for number, turn in enumerate(rest)]
    return placed, moved[::-1]
