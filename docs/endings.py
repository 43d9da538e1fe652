"""The ways in which a call ends, as docs/operations.md lists them.

tests/e2e/test_endings.py brings each of them about through a real LiveKit server and compares the record with its row
here; with LKMONGO_TEST_ENDINGS set it writes how long the record took to say so into docs/endings.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MEASURED = Path(__file__).with_suffix(".json")


@dataclass(frozen=True, slots=True)
class Ending:
    """One row.

    Attributes:
        what: what happened.
        status: the status of the record.
        reason: its close reason.
        why: what the time consists of.
    """

    what: str
    status: str
    reason: str
    why: str = ""


ENDINGS = {
    "hangs up": Ending("the caller hangs up", "complete", "hang-up"),
    "dies": Ending(
        "the caller's client dies, or loses the network",
        "complete",
        "connection lost",
        "LiveKit gives up a silent client late, and waits for it to come back; the record ends when it was last heard",
    ),
    "is removed": Ending(
        "the caller is removed from the room (`lk room participants remove`)",
        "complete",
        "removed",
        "LiveKit keeps the empty room for 20 s",
    ),
    "finds the room deleted": Ending("the room is deleted (`lk room delete`)", "complete", "room deleted"),
    "is joined by a copy": Ending(
        "a second client enters with the same token: both are cut off", "complete", "token used twice"
    ),
    "logs out": Ending(
        "the visitor logs out on the talk page", "complete", "logged out", "looked up with each renewal of the lease"
    ),
    "is one too many": Ending(
        "the person has more calls at once than `LKMONGO_MAX_CALLS` (`time limit`: after `LKMONGO_MAX_CALL_LENGTH`)",
        "complete",
        "too many calls",
        "counted after 7 s, when calls whose process died do not count any more",
    ),
    "is hung up on": Ending("the agent ends the session itself, in a tool for instance", "complete", "agent"),
    "outlasts the worker": Ending(
        "the worker gets SIGTERM, and the call does not end within `--drain-timeout`",
        "complete",
        "shutdown",
        "without the drain time",
    ),
    "outlives the worker": Ending(
        "the worker is killed, and the caller leaves before another agent continues the call",
        "interrupted",
        "lost",
        "another worker of the agent on the same machine sees that the process is gone; on another, that the lease has "
        "run out (6 s), and LiveKit has noticed that the agent has left (20 s). Else the next that starts does it, "
        "or `sessions recover`",
    ),
    "loses LiveKit": Ending(
        "the LiveKit server dies", "complete", "connection lost", "the agent tries to connect again for as long"
    ),
    "is not answered": Ending(
        "no worker takes the caller until they leave",
        "no agent",
        "no agent",
        "recorded by `lkmongo web` when LiveKit has closed the room, 20 s after they have left",
    ),
}


def table() -> str:
    """The table of docs/operations.md."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    rows = []
    for name, each in ENDINGS.items():
        after = ": ".join(filter(None, (f"{measured[name]:.1f} s", each.why)))
        rows.append(f"| {each.what} | `{each.status}` | `{each.reason}` | {after} |")
    head = ["| what happened | status | reason | recorded after |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def note(name: str, seconds: float) -> None:
    """Store how long it took."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    measured = {each: measured.get(each, 0.0) for each in ENDINGS} | {name: round(seconds, 1)}
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
