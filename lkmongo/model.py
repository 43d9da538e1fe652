"""The nouns: who is meant, what is known of them, and what a call leaves behind.

Everything here is plain data without I/O. `UserScope` is the one door to a person's data: every read and
write of the store takes one, and none can be built from unchecked input.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import uuid4

from lkmongo.confidential import WITHHELD, is_secret
from lkmongo.errors import InvalidIdError, InvalidTextError, SecretError

MAX_ID = 128
"""Characters in a user, tenant, session or order id."""
MAX_LABEL = 64
"""Characters in a memory's label."""
MAX_CONTENT = 4_000
"""Characters in a memory's content and in one utterance."""
MAX_SLOTS = 10_000
"""Slots of one person."""
DEFAULT_TENANT = "default"
PROFILE_FIELDS = ("name", "email", "preferred_language", "timezone")
"""What lives on the profile instead of in a memory slot."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def now() -> datetime:
    """The present in UTC, to the millisecond, which is what BSON keeps."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def clean_text(text: str) -> str:
    """Replace lone surrogates with U+FFFD: BSON is UTF-8 and refuses a document that holds one."""
    return _SURROGATES.sub("\ufffd", text)


def clean(value: Any) -> Any:
    """Make a tree of dicts and lists encodable: `clean_text` for strings and keys, text for what BSON has no type for."""
    if isinstance(value, str):
        return clean_text(str(value))
    if isinstance(value, dict):
        return {clean_text(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if value is None or isinstance(value, bool | float | datetime | bytes):
        return value
    return clean_text(str(value))


def check_id(kind: str, value: object) -> str:
    """Return `value` as an id, or say why it cannot be one.

    Args:
        kind: what the id names, for the message: "user", "tenant", "order".
        value: anything at all; only a plain string of 1 to 128 printable characters passes, so that an
            operator document such as `{"$gt": ""}` never reaches a query.

    Raises:
        InvalidIdError: the value is not a string, empty, too long, or holds control characters or
            spaces at its ends.
    """
    if not isinstance(value, str):
        raise InvalidIdError(f"a {kind} id must be text, not {type(value).__name__}")
    if not value.strip():
        raise InvalidIdError(f"the {kind} id is empty", hint=f"give the {kind} id, up to {MAX_ID} characters")
    if len(value) > MAX_ID:
        raise InvalidIdError(
            f"the {kind} id has {len(value)} characters; {MAX_ID} are allowed", hint="choose a shorter one"
        )
    if value != value.strip():
        raise InvalidIdError(f"the {kind} id begins or ends with a space: {value!r}")
    if any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in value):
        raise InvalidIdError(f"the {kind} id holds a control character: {value!r}")
    return str(value)


@dataclass(frozen=True, slots=True)
class TenantScope:
    """A customer whose data is apart from every other's: the scope of knowledge."""

    tenant_id: str

    def __post_init__(self) -> None:
        """Refuse what cannot be a tenant id."""
        object.__setattr__(self, "tenant_id", check_id("tenant", self.tenant_id))

    @property
    def filter(self) -> dict[str, str]:
        """The filter that every read of this tenant's data begins with."""
        return {"tenant_id": self.tenant_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserScope:
    """One person of one tenant: the scope of everything that is remembered of them.

    Raises:
        InvalidIdError: an id is not a string of 1 to 128 printable characters.
    """

    tenant_id: str
    user_id: str

    def __post_init__(self) -> None:
        """Refuse what cannot be an id."""
        object.__setattr__(self, "tenant_id", check_id("tenant", self.tenant_id))
        object.__setattr__(self, "user_id", check_id("user", self.user_id))

    @classmethod
    def guest(cls, tenant_id: str = DEFAULT_TENANT) -> UserScope:
        """Somebody nobody knows, for the length of one call."""
        return cls(tenant_id=tenant_id, user_id=f"guest-{uuid4().hex}")

    @property
    def is_guest(self) -> bool:
        """Whether the id is one that `guest` makes."""
        return re.fullmatch(r"guest-[0-9a-f]{32}", self.user_id) is not None

    @property
    def tenant(self) -> TenantScope:
        """The tenant alone."""
        return TenantScope(self.tenant_id)

    @property
    def filter(self) -> dict[str, str]:
        """The filter that every read and write of this person's data begins with."""
        return {"tenant_id": self.tenant_id, "user_id": self.user_id}


def slot_name(label: object) -> str:
    """Normalise a memory's label to snake_case: "Favorite Color" and favorite_color are one slot.

    Raises:
        InvalidTextError: nothing is left of it, or more than 64 characters are.
    """
    if not isinstance(label, str):
        raise InvalidTextError(f"a memory's label must be text, not {type(label).__name__}")
    text = unicodedata.normalize("NFKC", clean_text(label))
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z])", "_", text)  # favoriteColor, but not iPhone
    text = re.sub(r"['\u2019](?=s\b)", "", text)  # "mother's name" is mothers_name
    text = re.sub(r"[\W_]+", "_", text.casefold()).strip("_")
    if not text:
        raise InvalidTextError(f"{label!r} has no letters or digits to name a memory with")
    if len(text) > MAX_LABEL:
        raise InvalidTextError(f"the label has {len(text)} characters; {MAX_LABEL} are allowed")
    return text


def slot_words(memory_type: str) -> str:
    """The words of a slot's name apart: favorite_color is "favorite color"."""
    return memory_type.replace("_", " ")


def check_content(content: object) -> str:
    """Return text that can be remembered: cleaned, not empty, at most 4,000 characters.

    Raises:
        InvalidTextError: it is not text, empty or too long.
    """
    if not isinstance(content, str):
        raise InvalidTextError(f"what is to be remembered must be text, not {type(content).__name__}")
    text = clean_text(content).strip()
    if not text:
        raise InvalidTextError("there is nothing to remember: the text is empty")
    if len(text) > MAX_CONTENT:
        raise InvalidTextError(f"the text has {len(text)} characters; {MAX_CONTENT} are allowed")
    return text


def check_memory(label: object, content: object) -> tuple[str, str]:
    """Return a slot's name, normalised, and what it is to hold, cleaned.

    Raises:
        InvalidTextError: one of the two cannot be such.
        SecretError: it would hold what must not be remembered.
    """
    name, text = slot_name(label), check_content(content)
    if is_secret(name, text):
        raise SecretError
    return name, text


@dataclass(frozen=True, slots=True)
class LastSession:
    """What the next call may know of the one before: when it was and what it was about."""

    at: datetime
    gist: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Identity-like facts, on one document a person."""

    scope: UserScope
    name: str | None = None
    email: str | None = None
    preferred_language: str | None = None
    timezone: str | None = None
    created_at: datetime | None = None
    last_seen_at: datetime | None = None
    last_session: LastSession | None = None
    memory_version: int = 0


class Memory(NamedTuple):
    """One slot: a label that holds one value. A tuple: of the thousand that a call may begin with, each is made faster."""

    memory_type: str
    content: str
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def told(self) -> Memory:
        """The slot as it is spoken, shown and embedded: a secret that was stored when it was not refused yet is withheld."""
        return self._replace(content=WITHHELD) if is_secret(self.memory_type, self.content) else self

    @property
    def embedded_text(self) -> str:
        """What the embedding covers: a short value alone does not say what it is a value of."""
        return f"{self.memory_type}: {self.told.content}"


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of knowledge small enough to be read out; `source` and `chunk` say where it is from."""

    source: str
    chunk: int
    title: str
    content: str

    @property
    def embedded_text(self) -> str:
        """What the embedding covers: the title says what the passage is about."""
        return f"{self.title}\n{self.content}"


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One line of an order."""

    name: str
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """An order of one person; `total` is in the currency's units, such as 42.50. None is what its document does not tell."""

    order_id: str
    items: tuple[OrderItem, ...]
    total: float | None
    status: str | None
    currency: str = "USD"


class SessionStatus(StrEnum):
    """Where a call is in its life."""

    ACTIVE = "active"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"


class TurnKind(StrEnum):
    """What a turn is: something said, or a tool's call with what came of it."""

    MESSAGE = "message"
    TOOL = "tool"
    HANDOFF = "handoff"


@dataclass(frozen=True, slots=True)
class Turn:
    """One item of a conversation, in the order of `seq` (from 0)."""

    seq: int
    item_id: str
    kind: TurnKind
    created_at: datetime
    role: str | None = None
    content: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | None = None
    is_error: bool = False
    interrupted: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnTotals:
    """What the turns of a session add up to.

    Attributes:
        last_turn_at: when the last turn was made.
        turns: how many there are.
        tool_errors: how many of them are tool calls that failed.
        slowest: seconds of the longest wait for an answer; None if none was measured.
    """

    last_turn_at: datetime | None = None
    turns: int = 0
    tool_errors: int = 0
    slowest: float | None = None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session: whose, when, how it ended. Its turns are documents of their own.

    What an agent records has a room, a status and a start; only in documents that another program wrote are they missing,
    or the status is some other text.

    Attributes:
        participant_identity: LiveKit's identity of the participant that is served.
        agent: the name its workers register with.
        agent_participant: the agent's own participant identity.
        livekit: host of the LiveKit server.
        totals: what its turns add up to, where they were read with it.
    """

    session_id: str
    scope: UserScope
    room_name: str | None
    status: SessionStatus | str | None
    started_at: datetime | None
    ended_at: datetime | None = None
    close_reason: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    participant_identity: str | None = None
    agent: str | None = None
    agent_participant: str | None = None
    livekit: str | None = None
    totals: TurnTotals | None = None

    @property
    def length(self) -> timedelta | None:
        """From its start to its end; while it has no end, to its last turn."""
        end = self.ended_at or (self.totals.last_turn_at if self.totals else None)
        return end - self.started_at if end and self.started_at else None
