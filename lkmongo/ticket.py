"""The part of a seal that is looked up while its session goes on: see `lkmongo.dispatch` and its `seal`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

VISITOR_PREFIX = "web-"
"""Of the user ids of visitors who do not log in; not allowed for logins, which could otherwise name their memory."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What only MongoDB knows of the seal that a session began with: was it used elsewhere, has its visitor logged out?

    Attributes:
        room: LiveKit's id of the room that it is used in.
        seal: a hash of it, which is bound to the first room that it is used in; None if it names its room itself.
        visitor: the browser or the login that it was made for; None if that is nobody who can log out.
        made_at: when it was made.
        until: until when it can be used in a room of its own.
    """

    room: str
    seal: str | None
    visitor: str | None
    made_at: datetime
    until: datetime
