"""Faults on demand: which commands they hit, how often, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.standin.errors import (
    BUSY,
    MANAGEMENT_DOWN,
    MONGOT_DOWN,
    OVERLOADED,
    TIMED_OUT,
    CommandError,
    MongotError,
)

if TYPE_CHECKING:
    from tests.standin.commands import Command

Matcher = str | Callable[["Command"], bool]
"""A command's name, a stage's name with its `$`, or a function of the command."""

TEXTS = {
    6: MONGOT_DOWN,
    8: "cannot query search index default while in state INITIAL_SYNC",
    13: "not authorized on db to execute command",
    18: "Authentication failed.",
    20: BUSY,
    43: "cursor id 1 not found",
    50: TIMED_OUT,
    89: "Couldn't get a connection within the time limit",
    91: "The server is in quiesce mode and will shut down",
    125: MANAGEMENT_DOWN,
    175: "the plan of the query was killed",
    189: "operation was interrupted because the primary stepped down",
    262: "operation exceeded the time limit",
    396: "the search indexes of this collection are too large to list",
    462: "the server is overloaded",
    489: OVERLOADED,
    10107: "not primary",
    11601: "operation was interrupted",
}
OVERLOAD_LABELS = ("SystemOverloadedError", "RetryableError")
"""What an answer of 462 or 489 carries: drivers ask again, after a pause, up to twice."""


@dataclass
class Fault:
    """Something that goes wrong.

    Attributes:
        action: `error` answers with an error, `drop` ends the connection, `half` sends half a reply and ends it,
            `delay` answers later.
        after: let the command run first. A reply is lost then, the work is done.
        times: how many commands it hits; None for all.
        inside: the delay is spent in the search process, so `maxTimeMS` can cut it short.
    """

    matcher: Matcher
    action: Literal["error", "drop", "half", "delay"]
    times: int | None = 1
    after: bool = False
    seconds: float = 0.0
    inside: bool = False
    error: CommandError | None = None
    hits: int = 0

    def matches(self, command: Command) -> bool:
        if callable(self.matcher):
            return self.matcher(command)
        if self.matcher.startswith("$"):
            return command.name == "aggregate" and self.matcher in command.stages
        return self.matcher in ("*", command.name)


class Faults:
    """The faults that are waiting for their command."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []

    def arm(self, fault: Fault) -> Fault:
        self._armed.append(fault)
        return fault

    def clear(self) -> None:
        self._armed.clear()

    def take(self, command: Command) -> list[Fault]:
        """The faults that hit this command, each of them used up by one."""
        hit = [fault for fault in self._armed if fault.matches(command)]
        for fault in hit:
            fault.hits += 1
            if fault.times is not None and fault.hits >= fault.times:
                self._armed.remove(fault)
        return hit


def error_for(code: int, message: str | None, labels: tuple[str, ...]) -> CommandError:
    """The error of a code in the service's words, unless the caller has others."""
    if code in (462, 489) and not labels:
        labels = OVERLOAD_LABELS
    kind = MongotError if message is None and code in (6, 8, 43, 50, 489) else CommandError
    return kind(code, message or TEXTS.get(code, f"injected error {code}"), labels)
