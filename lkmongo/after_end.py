"""What becomes of a session after its end: the delivery of its webhook, and what is learned from it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args


@dataclass(frozen=True, slots=True)
class Delivery:
    """The webhook of a session's end: how far it has got.

    Attributes:
        event_id: the same in every attempt.
        attempts: requests that were sent, or begun.
        due_at: the earliest time of the next one; None if there is none.
        delivered_at: when the receiver accepted it.
        gave_up_at: when the last attempt had failed.
        answer: to the last attempt: "HTTP 500", or why there was none.
    """

    event_id: str
    attempts: int = 0
    due_at: datetime | None = None
    delivered_at: datetime | None = None
    gave_up_at: datetime | None = None
    answer: str | None = None

    @property
    def state(self) -> Literal["delivered", "given up", "pending"]:
        return "delivered" if self.delivered_at else "given up" if self.gave_up_at else "pending"


Mode = Literal["on", "suggest", "off"]
"""LKMONGO_LEARN: proposals are stored; or wait until somebody accepts them; or only the summary is made."""

Kind = Literal["new", "changed", "ended", "preference", "profile"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""A new fact, a new value of a known one, one that is no longer true, a preference, an empty field of the profile."""

State = Literal["proposed", "suggested", "stored", "accepted", "declined", "dropped"]
STATES: tuple[State, ...] = get_args(State)
"""About to be stored; waiting for somebody; stored; accepted or declined by somebody; not stored for a `reason`."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One change that a call suggests.

    What is decided keeps no content here, and what is dropped no label either: what must not be remembered, or is to be
    forgotten, would stand here as well.

    Attributes:
        id: of the proposal, unique among the person's.
        kind: what kind of change.
        label: of the slot, or the profile's field.
        content: the new value; the former one if it is `ended`.
        said_at: when the caller said it.
        item_id: the caller's turn that it rests on.
        confidence: of the model, from 0 to 1.
        since: since when it is true, or no longer true; None if they did not say.
        state: how far it has got.
        reason: why it was dropped, in a word or two.
        decided_at: when it was accepted or declined.
    """

    id: str
    kind: Kind
    label: str
    content: str
    said_at: datetime
    item_id: str
    confidence: float
    since: datetime | None = None
    state: State = "proposed"
    reason: str | None = None
    decided_at: datetime | None = None


def proposal_id(session_id: str, item_id: str, kind: str, label: str) -> str:
    """The id of a proposal: the same whoever makes it again."""
    return hashlib.sha256(f"{session_id}\n{item_id}\n{kind}\n{label}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Learning:
    """What is to be learned of a session that has ended, or was.

    Attributes:
        attempts: requests to a language model that were made, or begun.
        due_at: the earliest time of the next one; None if there is none.
        asked_at: when a model had answered; what it proposed is stored here from then on.
        learned_at: when all of it was stored.
        gave_up_at: when the last attempt had failed.
        failure: why the last attempt failed, or why the session was left out.
        proposals: what the model proposed.
    """

    attempts: int = 0
    due_at: datetime | None = None
    asked_at: datetime | None = None
    learned_at: datetime | None = None
    gave_up_at: datetime | None = None
    failure: str | None = None
    proposals: tuple[Proposal, ...] = ()

    @property
    def state(self) -> Literal["learned", "given up", "pending"]:
        return "learned" if self.learned_at else "given up" if self.gave_up_at else "pending"

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of proposals by state."""
        found = Counter(proposal.state for proposal in self.proposals)
        return {state: found[state] for state in STATES if found[state]}

    def labels(self, *states: State) -> list[str]:
        """The labels of the proposals in one of these states."""
        return [proposal.label for proposal in self.proposals if proposal.state in states]
