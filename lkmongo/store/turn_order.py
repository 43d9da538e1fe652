"""Where turns go that come late: among those of their call that are there already."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from lkmongo.model import Turn


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
