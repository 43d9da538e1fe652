"""What a session writes: a class for each kind of write, which is also its form in the journal.

Journals outlive the version that wrote them: the names of the operations and of their fields stay as they are.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, ClassVar, Literal, Self, get_args

from lkmongo.consent import Consent, consent_of
from lkmongo.instructions import reads_as_instruction
from lkmongo.model import DateMention, Fact, LastSession, Profile, Source, Turn, TurnKind, UserScope, clean, now
from lkmongo.store.people.history import dates_of, history_fields, source_of
from lkmongo.store.people.take_back import Known

Entry = dict[str, Any]
Lane = Literal["memory", "turns", "end"]
"""Operations of one lane are stored one after the other, those of different lanes side by side."""
LANES: tuple[Lane, ...] = get_args(Lane)

_MAX_SEQ = 2**31


@dataclass(frozen=True, slots=True)
class Operation:
    """One write of a session.

    Attributes:
        op: its name in the journal.
        lane: what it is stored in order with.
    """

    op: ClassVar[str]
    lane: ClassVar[Lane]

    @property
    def key(self) -> Hashable:
        """Of two pending operations with the same key, the later replaces the earlier."""
        return self.op

    @property
    def entry(self) -> Entry:
        """The operation as a journal entry."""
        return {"op": self.op} | {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """The operation of a journal entry; raises one of `journal.UNREADABLE` for anything else."""
        names = [each.name for each in fields(cls)]
        return cls(**{name: entry[name] for name in names if name in entry})


@dataclass(frozen=True, slots=True)
class Change(Operation):
    """A change to what is remembered of the person, made at `at`: the newer of two wins."""

    lane: ClassVar[Lane] = "memory"
    at: datetime

    def __post_init__(self) -> None:
        _check_time(self.at)

    @property
    def subject(self) -> Hashable:
        """What it changes."""
        return self.key


@dataclass(frozen=True, slots=True)
class SlotChange(Change):
    label: str

    @property
    def subject(self) -> Hashable:
        return "slot", self.label

    @property
    def key(self) -> Hashable:
        return "slot", self.label


@dataclass(frozen=True, slots=True)
class Remember(SlotChange):
    """A value, true from `valid_from` or else from `at` on; another value before it becomes a former one.

    What a guest told who was identified later is `of_guest`: it replaces nothing, and is offered instead.
    """

    op: ClassVar[str] = "remember"
    content: str
    valid_from: datetime | None = None
    source: Source | None = None
    dates: tuple[DateMention, ...] = ()
    of_guest: bool = False

    def __post_init__(self) -> None:
        _check_time(self.at)
        if self.valid_from is not None:
            _check_time(self.valid_from)

    @property
    def entry(self) -> Entry:
        return {
            "op": self.op,
            "at": self.at,
            "label": self.label,
            "content": self.content,
            **history_fields(self.valid_from, self.source, self.dates),
        } | ({"of_guest": True} if self.of_guest else {})

    @classmethod
    def of(cls, entry: Entry) -> Self:
        source, dates = source_of(entry.get("source")), dates_of(entry.get("dates"))
        of_guest = entry.get("of_guest") is True
        return cls(entry["at"], entry["label"], entry["content"], entry.get("valid_from"), source, dates, of_guest)

    def is_offered_to(self, account: Fact | None) -> bool:
        """Whether it is offered to the account, which has another value or might be told an instruction."""
        differs = account is not None and account.content != self.content
        return self.of_guest and (differs or reads_as_instruction(self.label, self.content))

    @classmethod
    def fact(cls, fact: Fact, valid_from: datetime | None) -> Self:
        """The operation that stores a slot, as said when it was written."""
        return cls(fact.updated_at or now(), fact.memory_type, fact.content, valid_from, fact.source, fact.dates)


@dataclass(frozen=True, slots=True)
class EndFact(SlotChange):
    """The fact is not true any more, since `valid_to` or else since `at`, and nothing replaces it."""

    op: ClassVar[str] = "ended"
    valid_to: datetime | None = None

    def __post_init__(self) -> None:
        _check_time(self.at)
        if self.valid_to is not None:
            _check_time(self.valid_to)


@dataclass(frozen=True, slots=True)
class Forget(SlotChange):
    """Deletes the slot and its history; a later value of the slot does not replace it while both wait.

    With `calls`, also what the summaries of earlier calls say of it; without, `ForgetCalls` does that.
    """

    op: ClassVar[str] = "forget"
    calls: bool = True

    @property
    def key(self) -> Hashable:
        return self.op, self.label

    @property
    def entry(self) -> Entry:
        return {"op": self.op, "at": self.at, "label": self.label} | ({} if self.calls else {"calls": False})


@dataclass(frozen=True, slots=True)
class ForgetCalls(Operation):
    """Delete the summaries of earlier calls, and what is open of them, that share a word with what is forgotten.

    In a lane of its own, as it takes several round trips: the caller waits for `Forget` alone.
    """

    op: ClassVar[str] = "forget_calls"
    lane: ClassVar[Lane] = "turns"
    at: datetime
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_time(self.at)

    @property
    def key(self) -> Hashable:
        return self.op, self.words

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(entry["at"], tuple(str(word) for word in entry["words"]))


@dataclass(frozen=True, slots=True)
class SetProfile(Change):
    op: ClassVar[str] = "profile"
    field: str
    value: str

    @property
    def key(self) -> Hashable:
        return self.op, self.field


@dataclass(frozen=True, slots=True)
class FillProfile(SetProfile):
    """A profile field given by a guest who was identified later: it only fills a missing value."""

    op: ClassVar[str] = "told"


@dataclass(frozen=True, slots=True)
class SaveGist(Operation):
    """What the session was about, for the next one; not stored if something was forgotten after `since`."""

    op: ClassVar[str] = "gist"
    lane: ClassVar[Lane] = "memory"
    at: datetime
    gist: str
    since: datetime | None = None

    def __post_init__(self) -> None:
        _check_time(self.at)
        if self.since is not None:
            _check_time(self.since)


@dataclass(frozen=True, slots=True)
class NoteConsent(Operation):
    """What the caller answered when they were asked whether something of them may be kept."""

    op: ClassVar[str] = "consent"
    lane: ClassVar[Lane] = "memory"
    consent: Consent

    @property
    def entry(self) -> Entry:
        return {"op": self.op} | self.consent.fields

    @classmethod
    def of(cls, entry: Entry) -> Self:
        consent = consent_of(entry)
        if consent is None:
            raise ValueError
        return cls(consent)


@dataclass(frozen=True, slots=True)
class LinkPhone(Operation):
    """The person calls from this telephone number, of which only the keyed hash and the last two digits are known."""

    op: ClassVar[str] = "phone"
    lane: ClassVar[Lane] = "memory"
    at: datetime
    phone_hash: str
    last_digits: str

    def __post_init__(self) -> None:
        _check_time(self.at)
        if not (isinstance(self.phone_hash, str) and isinstance(self.last_digits, str)):
            raise TypeError


@dataclass(frozen=True, slots=True)
class OfAnother(Operation):
    """Is about another scope than the session has now: one that it had before."""

    tenant_id: str
    user_id: str

    def __post_init__(self) -> None:
        _ = self.scope

    @property
    def scope(self) -> UserScope:
        return UserScope(tenant_id=self.tenant_id, user_id=self.user_id)


@dataclass(frozen=True, slots=True)
class UnlinkPhone(OfAnother):
    """The number is not that of the person who began with this call, and whose it is no longer."""

    op: ClassVar[str] = "no_phone"
    lane: ClassVar[Lane] = "memory"
    phone_hash: str

    def __post_init__(self) -> None:
        _ = self.scope
        if not isinstance(self.phone_hash, str):
            raise TypeError


@dataclass(frozen=True, slots=True)
class AddTurn(Operation):
    """A turn; `numbered` if its `seq` is the one in the database, not counted from this process's first turn."""

    op: ClassVar[str] = "turn"
    lane: ClassVar[Lane] = "turns"
    turn: Turn
    numbered: bool = False

    @property
    def key(self) -> Hashable:
        return self.op, self.turn.item_id

    @property
    def entry(self) -> Entry:
        kept = {name: value for name in Turn.__slots__ if (value := getattr(self.turn, name)) not in (None, {})}
        return {"op": self.op, "numbered": self.numbered, **kept, "kind": self.turn.kind.value}

    @classmethod
    def of(cls, entry: Entry) -> Self:
        values: dict[str, Any] = {name: clean(entry[name]) for name in Turn.__slots__ if name in entry}
        turn = Turn(**values | {"kind": TurnKind(entry["kind"])})
        _check_time(turn.created_at)
        if not (isinstance(turn.item_id, str) and isinstance(turn.metrics, dict) and type(turn.seq) is int):
            raise TypeError
        if not 0 <= turn.seq < _MAX_SEQ:
            raise ValueError
        return cls(turn, bool(entry["numbered"]))


@dataclass(frozen=True, slots=True)
class AmendTurn(Operation):
    """Other words for a turn that may be stored already: a later one told that it holds a piece of a secret."""

    op: ClassVar[str] = "amend"
    lane: ClassVar[Lane] = "turns"
    item_id: str
    content: str

    def __post_init__(self) -> None:
        if not (isinstance(self.item_id, str) and isinstance(self.content, str)):
            raise TypeError

    @property
    def key(self) -> Hashable:
        return self.op, self.item_id


@dataclass(frozen=True, slots=True)
class CountRedacted(Operation):
    """How much of the session was masked or dropped so far, by kind."""

    op: ClassVar[str] = "redacted"
    lane: ClassVar[Lane] = "turns"
    counts: dict[str, int]

    def __post_init__(self) -> None:
        if not all(isinstance(kind, str) and type(count) is int for kind, count in self.counts.items()):
            raise TypeError


@dataclass(frozen=True, slots=True)
class MoveGuest(OfAnother):
    """Move what is stored under the guest's scope that the session began with to the person they turned out to be."""

    op: ClassVar[str] = "was"
    lane: ClassVar[Lane] = "turns"


@dataclass(frozen=True, slots=True)
class TakeBack(OfAnother):
    """Take back what the session has stored for somebody who was not the one who spoke; see `take_back`.

    In the lane of turns, which become those of the guest that the session goes on with.
    """

    op: ClassVar[str] = "take_back"
    lane: ClassVar[Lane] = "turns"
    slots: tuple[Fact, ...] = ()
    """What was known before, of the labels that the session has written."""
    last: LastSession | None = None
    """The gist of the session before."""

    @property
    def known(self) -> Known:
        profile = Profile(self.scope, last_session=self.last)
        return Known({each.memory_type: each for each in self.slots}, profile)

    @property
    def entry(self) -> Entry:
        ids = {"op": self.op, "tenant_id": self.tenant_id, "user_id": self.user_id}
        last = {name: each for name in LastSession.__slots__ if (each := getattr(self.last, name, None)) is not None}
        return ids | {"slots": [_known(each) for each in self.slots]} | ({"last": last} if last else {})

    @classmethod
    def of(cls, entry: Entry) -> Self:
        slots, last = tuple(_fact_known(each) for each in entry["slots"]), entry.get("last")
        found = LastSession(last["at"], last["gist"], last.get("session_id")) if last else None
        for moment in [each.updated_at for each in slots] + ([found.at] if found else []):
            _check_time(moment)
        return cls(entry["tenant_id"], entry["user_id"], slots, found)


@dataclass(frozen=True, slots=True)
class End(Operation):
    """The session is complete.

    `summary` are the stored fields of what it was about, if that is told; `learn` if something may be learned from it.
    """

    op: ClassVar[str] = "end"
    lane: ClassVar[Lane] = "end"
    reason: str
    ended_at: datetime
    report: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    learn: bool = False

    def __post_init__(self) -> None:
        _check_time(self.ended_at)
        if not (isinstance(self.report, dict) and isinstance(self.summary, dict) and isinstance(self.learn, bool)):
            raise TypeError


@dataclass(frozen=True, slots=True)
class Notify(Operation):
    """Tell the webhook that the session is complete; after its end, in whose lane it therefore is."""

    op: ClassVar[str] = "notify"
    lane: ClassVar[Lane] = "end"
    event_id: str

    def __post_init__(self) -> None:
        if not isinstance(self.event_id, str):
            raise TypeError


OPERATIONS: dict[str, type[Operation]] = {
    each.op: each
    for each in (
        Remember,
        EndFact,
        Forget,
        ForgetCalls,
        SetProfile,
        FillProfile,
        SaveGist,
        NoteConsent,
        LinkPhone,
        UnlinkPhone,
        AddTurn,
        AmendTurn,
        CountRedacted,
        MoveGuest,
        TakeBack,
        End,
        Notify,
    )
}


LASTING = (Forget, ForgetCalls, EndFact, SetProfile, NoteConsent, LinkPhone)
"""What leaves no trace of what was there before, so that it cannot be taken back."""


def without_consent(operation: Operation) -> Operation | None:
    """What of an operation is stored of somebody who does not agree, or no longer: nothing that they said."""
    match operation:
        case End():
            return replace(operation, summary={}, learn=False)
        case Forget() | ForgetCalls() | NoteConsent() | MoveGuest() | TakeBack() | UnlinkPhone() | Notify():
            return operation
        case _:
            return None


def operation_of(entry: Entry) -> Operation:
    """The operation of a journal entry.

    Raises:
        LookupError, TypeError, ValueError, InvalidIdError: there is no such operation, or its fields are wrong.
    """
    return OPERATIONS[entry["op"]].of(entry)


def _known(fact: Fact) -> Entry:
    when = {"updated_at": fact.updated_at} if fact.updated_at else {}
    return (
        {"label": fact.memory_type, "content": fact.content}
        | when
        | history_fields(fact.valid_from, fact.source, fact.dates)
    )


def _fact_known(entry: Entry) -> Fact:
    source, dates = source_of(entry.get("source")), dates_of(entry.get("dates"))
    return Fact(entry["label"], entry["content"], None, entry["updated_at"], entry.get("valid_from"), source, dates)


def _check_time(value: Any) -> None:
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} is not a time")
