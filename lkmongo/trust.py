"""How sure it is who is speaking: a telephone number is a hint, not a proof, so what may be told goes by levels.

They bind callers by telephone only. Whoever comes by console, dispatch metadata, seal or cookie is verified for their
own id: a server has said who they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from lkmongo.errors import LkmongoError


class Level(IntEnum):
    """What is known of who is speaking; each level includes the one before."""

    RECOGNISED = 1
    """By the number alone, which is shared, passed on, and can be forged."""
    NAMED = 2
    """The caller has said who they are, without having been told."""
    VERIFIED = 3
    """By a PIN on the keypad, by a hook of the project, or by a seal that a server has set."""

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, name: str) -> Level:
        """The level of that name. Raises ValueError."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"must be one of {', '.join(map(str, cls))}") from None


BEGAN_HERE = "new"
"""The mark of a session by telephone with which its person began: whatever is known of them, they have said in it."""


class NotTrustedError(LkmongoError):
    """It is not sure enough who is speaking; the message is a sentence for the caller."""

    code = "not_trusted"

    def __init__(self, needed: Level) -> None:
        super().__init__(_SENTENCES[needed])
        self.needed = needed

    @property
    def sentence(self) -> str:
        """What can be read out to the caller."""
        return f"{self.message[:1].upper()}{self.message[1:]}."


_SENTENCES = {
    Level.RECOGNISED: "that needs a caller whose number is known",
    Level.NAMED: "before I can do that, please tell me your name",
    Level.VERIFIED: "before I can do that, please confirm who you are with your PIN",
}

_SLOT, _ANY = Level.NAMED, "default"
_OPEN: Mapping[str, Level] = {
    "preferred_language": Level.RECOGNISED,
    "timezone": Level.RECOGNISED,
    "lookup_order": Level.VERIFIED,
}
"""What needs another level than a slot does, unless a tenant says otherwise."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The level that each slot, profile field and tool needs.

    Attributes:
        said: what a tenant says, by label, field or tool; `default` is that of all other slots and fields.
    """

    said: Mapping[str, Level] = field(default_factory=dict)

    def slot(self, label: str) -> Level:
        """The level that a slot or profile field needs, to be told and to be changed."""
        return self.said.get(label) or _OPEN.get(label) or self.said.get(_ANY, _SLOT)

    def tool(self, name: str) -> Level:
        """The level that a tool needs; most need none of their own."""
        return self.said.get(name) or _OPEN.get(name) or Level.RECOGNISED

    @property
    def everything(self) -> Level:
        """The level for what may hold the content of any slot, such as the summary of a call."""
        return max([self.said.get(_ANY, _SLOT), *self.said.values()])


def call_in_words(report: object) -> str | None:
    """What the record of a session says of the caller's telephone; None if they had none.

    The number that they had, how sure it was who they are, and of a call that the agent made what became of it.
    """
    if not isinstance(report, dict):
        return None
    denied = "they are not whom the number stands for" if report.get("denied") else None
    told = (report.get("number"), report.get("level"), denied, report.get("direction"), report.get("outcome"))
    return ", ".join(each for each in told if isinstance(each, str)) or None
