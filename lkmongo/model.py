"""The data model: scopes, profiles, memories, passages, orders, sessions and turns; plain data without I/O.

Every read and write of a person's data takes a `UserScope`, which cannot be built from unchecked input.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from lkmongo.after_end import Delivery, Learning
from lkmongo.confidential import WITHHELD, is_secret
from lkmongo.consent import Consent
from lkmongo.declarations import declared
from lkmongo.errors import InvalidIdError, InvalidTextError, SecretError, UsageError
from lkmongo.summary import Commitment, Summary
from lkmongo.ticket import Ticket

MAX_ID = 128
"""Characters in a user, tenant, session or order id."""
MAX_LABEL = 64
"""Characters in a memory's label."""
MAX_CONTENT = 4_000
"""Characters in a memory's content and in one utterance."""
MAX_SLOTS = 10_000
"""Memory slots of one person."""
DEFAULT_TENANT = "default"
PROFILE_FIELDS = ("name", "email", "preferred_language", "timezone")
"""Facts stored in the profile instead of in a memory slot; a project can declare more."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def now() -> datetime:
    """The current time in UTC, to the millisecond as in BSON."""
    return (at := datetime.now(UTC)).replace(microsecond=at.microsecond // 1_000 * 1_000)


def clean_text(text: str) -> str:
    """Replace lone surrogates with U+FFFD: BSON is UTF-8 and cannot hold them."""
    return _SURROGATES.sub("\ufffd", text)


def clean(value: Any) -> Any:
    """Make a tree of dicts and lists encodable: `clean_text` for strings and keys, `str` for types unknown to BSON."""
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
    """Return `value` if it is a valid id.

    Args:
        kind: what it identifies, for the message: "user", "tenant", "order".
        value: only a string of 1 to 128 printable characters passes, so that an operator document such as
            `{"$gt": ""}` never reaches a query.

    Raises:
        InvalidIdError: the value is not a string, is empty or too long, or has control characters or surrounding
            spaces.
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
    """One tenant, isolated from all others: the scope of knowledge."""

    tenant_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "tenant_id", check_id("tenant", self.tenant_id))

    @property
    def filter(self) -> dict[str, str]:
        """The MongoDB filter that every query of this tenant includes."""
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
        object.__setattr__(self, "tenant_id", check_id("tenant", self.tenant_id))
        object.__setattr__(self, "user_id", check_id("user", self.user_id))

    @classmethod
    def guest(cls, tenant_id: str = DEFAULT_TENANT) -> UserScope:
        """An unknown caller, for one call."""
        return cls(tenant_id=tenant_id, user_id=f"guest-{uuid4().hex}")

    @property
    def is_guest(self) -> bool:
        """Whether `guest` made the id."""
        return re.fullmatch(r"guest-[0-9a-f]{32}", self.user_id) is not None

    @property
    def tenant(self) -> TenantScope:
        return TenantScope(self.tenant_id)

    @property
    def filter(self) -> dict[str, str]:
        """The MongoDB filter that every read and write for this person includes."""
        return {"tenant_id": self.tenant_id, "user_id": self.user_id}


def slot_name(label: object) -> str:
    """Normalise a memory's label to snake_case: "Favorite Color" and favorite_color are one slot.

    Raises:
        InvalidTextError: the result is empty or has more than 64 characters.
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
    """The words of a slot's name: favorite_color is "favorite color"."""
    return memory_type.replace("_", " ")


def profile_words(field: str) -> str:
    """The words of a profile field: timezone is "time zone"."""
    own = declared().fields.get(field)
    return own.words if own else {"email": "e-mail address", "timezone": "time zone"}.get(field, slot_words(field))


def check_content(content: object) -> str:
    """Return cleaned text that can be remembered.

    Raises:
        InvalidTextError: it is not text, is empty, or has more than 4,000 characters.
    """
    if not isinstance(content, str):
        raise InvalidTextError(f"what is to be remembered must be text, not {type(content).__name__}")
    text = clean_text(content).strip()
    if not text:
        raise InvalidTextError("there is nothing to remember: the text is empty")
    if len(text) > MAX_CONTENT:
        raise InvalidTextError(f"the text has {len(text)} characters; {MAX_CONTENT} are allowed")
    return text


def clean_query(query: str) -> str:
    """Return a query as it is searched for.

    Raises:
        UsageError: it is empty, or has more than 4,000 characters.
    """
    text = clean_text(query).strip()
    if not text:
        raise UsageError("the query is empty", hint="give a few words to search for")
    if len(text) > MAX_CONTENT:
        raise UsageError(f"the query has {len(text)} characters; {MAX_CONTENT} are allowed", hint="use fewer words")
    return text


def check_memory(label: object, content: object) -> tuple[str, str]:
    """Return the normalised name and the cleaned content of a slot.

    Raises:
        InvalidTextError: one of them is invalid.
        SecretError: it must not be remembered.
    """
    name, text = slot_name(label), check_content(content)
    if is_secret(name, text):
        raise SecretError
    return name, text


@dataclass(frozen=True, slots=True)
class LastSession:
    """When the previous call was, what it was about, and its id if it was recorded with it."""

    at: datetime
    gist: str
    session_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Profile:
    """A person's profile.

    `own` are the declared fields that have a value, and values that no longer are declared; `commitments` are the open
    ones of all calls, the oldest first.
    """

    scope: UserScope
    name: str | None = None
    email: str | None = None
    preferred_language: str | None = None
    timezone: str | None = None
    created_at: datetime | None = None
    last_seen_at: datetime | None = None
    last_session: LastSession | None = None
    memory_version: int = 0
    own: Mapping[str, str] = field(default_factory=dict, hash=False)
    commitments: tuple[Commitment, ...] = ()
    consent: Consent | None = None

    @property
    def values(self) -> dict[str, str]:
        """Every field that has a value, by name."""
        ours = {name: value for name in PROFILE_FIELDS if (value := getattr(self, name))}
        return ours | dict(self.own)

    def with_value(self, name: str, value: str) -> Profile:
        """The profile with another value of one field."""
        if name not in PROFILE_FIELDS:
            return replace(self, own={**self.own, name: value})
        changed: dict[str, Any] = {name: value}
        return replace(self, **changed)


SourceKind = Literal["told", "learned", "staff", "imported"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact comes from.

    Attributes:
        how: told by the caller, learned from what they said, entered by staff, or imported from elsewhere.
        session_id: of the session in which it was said, None if they wrote it on the talk page; for an import, the name
            of where it comes from.
        item_id: of the turn that it rests on; for an import, its id there.
    """

    how: SourceKind
    session_id: str | None = None
    item_id: str | None = None


class DateMention(NamedTuple):
    """A date as it was said, such as "next Friday", and the day that was meant; None if that cannot be told."""

    words: str
    day: date | None = None


class Fact(NamedTuple):
    """One slot: a label with one value. A tuple, as a call may load a thousand and these are faster to make.

    Attributes:
        memory_type: the label.
        content: the value, as it was said.
        created_at: when something was first stored under the label.
        updated_at: when the value was last said or written.
        valid_from: since when it is true, as far as is known; None if it was written before there was a history.
        source: where it comes from; None if unknown, or not read.
        dates: relative dates in the content, resolved when it was said.
    """

    memory_type: str
    content: str
    created_at: datetime | None = None
    updated_at: datetime | None = None
    valid_from: datetime | None = None
    source: Source | None = None
    dates: tuple[DateMention, ...] = ()

    @property
    def is_unread(self) -> bool:
        """Whether its text is stored, and not loaded: of one with very much text, see `Memories.contents`."""
        return not self.content

    @property
    def told(self) -> Fact:
        """The slot as it may be spoken, shown and embedded: a secret stored before it was refused is withheld."""
        return self._replace(content=WITHHELD, dates=()) if is_secret(self.memory_type, self.content) else self

    @property
    def embedded_text(self) -> str:
        """What is embedded: the label too, since a short value means little without it."""
        return f"{self.memory_type}: {self.told.content}"


class FormerFact(NamedTuple):
    """A value that is no longer true: it was from `valid_from` to before `valid_to`, as far as is known."""

    memory_type: str
    content: str
    valid_from: datetime
    valid_to: datetime
    source: Source | None = None
    updated_at: datetime | None = None
    dates: tuple[DateMention, ...] = ()

    @property
    def told(self) -> FormerFact:
        """As `Fact.told`."""
        return self._replace(content=WITHHELD, dates=()) if is_secret(self.memory_type, self.content) else self


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, small enough to be read out; `source` and `chunk` identify it."""

    source: str
    chunk: int
    title: str
    content: str

    @property
    def embedded_text(self) -> str:
        """What is embedded: the title says what the passage is about."""
        return f"{self.title}\n{self.content}"


@dataclass(frozen=True, slots=True)
class OrderItem:
    name: str
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """An order of one person; `total` is in units of `currency`, such as 42.50. None if the document lacks it.

    `more` are further fields in words, by name: those of an `orders` that a project declares with its `document`.
    """

    order_id: str
    items: tuple[OrderItem, ...]
    total: float | None
    status: str | None
    currency: str = "USD"
    more: Mapping[str, str] = field(default_factory=dict, hash=False)


class SessionStatus(StrEnum):
    ACTIVE = "active"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    NO_AGENT = "no agent"


class TurnKind(StrEnum):
    """A turn is a message, a tool call with its result, or a handoff."""

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
    """Totals over the turns of a session.

    Attributes:
        last_turn_at: when the last turn was made.
        turns: their number.
        tool_errors: the number of failed tool calls.
        slowest: seconds of the longest wait for an answer; None if none was measured.
    """

    last_turn_at: datetime | None = None
    turns: int = 0
    tool_errors: int = 0
    slowest: float | None = None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session; its turns are separate documents.

    Room, status and start are only missing, and the status is only another text, in documents of other programs.

    Attributes:
        participant_identity: LiveKit's identity of the caller.
        agent: the name that its workers register with.
        agent_participant: LiveKit's identity of the agent.
        livekit: host of the LiveKit server.
        ticket: of a caller who came with a seal; of a stored session only whose visitor they are.
        totals: of its turns, if they were read as well.
        webhook: the delivery of its end; None while it goes on, or if nobody is told.
        summary: what it was about; None while it goes on, of a guest's, or if something was forgotten in it.
        learning: what is learned of it after its end; None while it goes on, or if nothing is.
        redacted: how much of what was said was masked or dropped before it was stored, by kind.
        trust: of a call by telephone whose caller is somebody, how sure that is; or `new`, if they began with it.
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
    ticket: Ticket | None = None
    totals: TurnTotals | None = None
    webhook: Delivery | None = None
    summary: Summary | None = None
    learning: Learning | None = None
    redacted: Mapping[str, int] = field(default_factory=dict)
    trust: str | None = None

    @property
    def length(self) -> timedelta | None:
        """From the start to the end, or to the last turn while it is running."""
        end = self.ended_at or (self.totals.last_turn_at if self.totals else None)
        return end - self.started_at if end and self.started_at else None


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How a session ended, as `CallerSession.on_end` tells it.

    Attributes:
        session_id: of the record.
        scope: whose it was; somebody new if the caller was erased meanwhile.
        guest: whether nobody knew who called.
        room_name: the LiveKit room.
        started_at: when it began with this agent.
        ended_at: when it ended.
        close_reason: why, in a word or two: "hang-up", "connection lost", "agent", "error", "crash", "shutdown".
        turns: what was said and done, including with an earlier agent.
        changes: memories and profile fields of the person that were set or forgotten.
        saved: where its record is: "stored" in MongoDB; "kept" on this machine, to be stored later; "not saved", which
            a broken disk causes, or a token that was not valid; "erased" with the person; "taken over" by another
            agent, which goes on with the session; or "not agreed", if the caller had not agreed that it is kept.
    """

    session_id: str
    scope: UserScope
    guest: bool
    room_name: str
    started_at: datetime
    ended_at: datetime
    close_reason: str
    turns: int
    changes: int
    saved: Literal["stored", "kept", "not saved", "erased", "taken over", "not agreed"]
