"""The one mapping between sessions, turns and their documents; where late turns go; and who owns a session's lease.

Reading is tolerant: a document that another program wrote, or that lacks fields, becomes a record with gaps instead of
an error, so that one of them neither hides a list from operators nor keeps `recover` from the other sessions.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bson import ObjectId

from lkmongo import deadlines
from lkmongo.after_end import KINDS, STATES, Delivery, Learning, Proposal
from lkmongo.confidential import holds_secret, without_secrets
from lkmongo.model import (
    SessionRecord,
    SessionStatus,
    Turn,
    TurnKind,
    TurnTotals,
    clean,
    clean_text,
)
from lkmongo.store.mongo.cipher import is_sealed
from lkmongo.store.mongo.encryption import owner_of
from lkmongo.store.mongo.schema import STAMP, VERSION, is_newer
from lkmongo.store.sessions.transcript import seconds_of
from lkmongo.summary import MAX_COMMITMENT, MAX_SUMMARY, MAX_TOPICS, Commitment, Summary
from lkmongo.ticket import Ticket

logger = logging.getLogger(__name__)

_KINDS = frozenset(TurnKind)
_STATUSES = frozenset(SessionStatus)

VECTOR = ("summary.embedding", "summary.embedding_model")
"""The fields of a summary's vector, which only a search reads."""
HAS_RUN_OUT: dict[str, Any] = {"$not": {"$gt": ["$lease.until", "$$NOW"]}}
"""The expression for sessions whose lease nobody holds."""
LOOKING = "/resume"
"""Suffix of an owner that only checks whether to send another agent; the agent that continues takes the lease over."""
RECOVERING = "/recovery"
"""Suffix of an owner that only stores what a dead agent left; an agent that is alive waits until that is done."""
LeaseState = Literal["held", "missing", "recovering", "another's", "complete"]
"""What a renewal has found of a session: whose lease it is, that there is none, or that it is complete."""


def process_name() -> str:
    """Host, boot and pid of this process."""
    return f"{host_name()}/{os.getpid()}"  # the pid is not cached: it changes with a fork


def lease_owner() -> str:
    """A new owner of a lease: this process may run several agents in one session."""
    return f"{process_name()}/{secrets.token_hex(4)}"


def lease(owner: str) -> dict[str, Any]:
    """The expression for a lease from now on by the server's clock, as the clocks of two hosts may differ."""
    return {"owner": {"$literal": owner}, "until": {"$add": ["$$NOW", int(1_000 * deadlines.LEASE)]}}


def is_held_by(process: str) -> dict[str, Any]:
    """Whether any of a process's agents holds the lease: see `lease_owner`."""
    whose = {"$ifNull": ["$lease.owner", ""]}
    return {
        "$or": [
            {"$eq": [whose, {"$literal": process}]},
            {"$eq": [{"$indexOfBytes": [whose, {"$literal": f"{process}/"}]}, 0]},
        ]
    }


def is_gone(owner: str) -> bool:
    """Whether a lease's owner is a process of this machine that has ended; False where that is unknown."""
    here, number = host_name() + "/", owner.rpartition(LOOKING)[0] or owner
    pid = number.removeprefix(here).partition("/")[0]
    if not number.startswith(here) or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
        # A zombie is dead, too: its parent has not waited for it yet.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:
        return False


@functools.cache
def host_name() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Containers may share the host's name and boot; a pid has no meaning outside its own namespace.
        boot += f"-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116
    except OSError:
        boot = ""
    return f"{platform.node()}/{boot}"


def turn_fields(turn: Turn) -> dict[str, Any]:
    """The stored fields of a turn, without the ids and numbers that identify it."""
    kept = asdict(turn).items()
    fields: dict[str, Any] = clean({k: v for k, v in kept if k not in {"seq", "item_id"} and v not in (None, {})})
    return fields | {"kind": turn.kind.value} | STAMP


def turn_of(document: Mapping[str, Any]) -> Turn:
    """The turn of a document; a kind that is unknown counts as a message, a missing time as the epoch."""
    _warn_if_newer(document)
    kind, metrics = _text(document.get("kind")), document.get("metrics")
    return Turn(
        seq=seq if isinstance(seq := document.get("seq"), int) else 0,
        # Recovery tells turns apart by their item, so two that lack one must not become the same.
        item_id=str(document.get("item_id") or document.get("_id", "")),
        kind=TurnKind(kind) if kind in _KINDS else TurnKind.MESSAGE,
        created_at=_time(document.get("created_at")) or datetime.fromtimestamp(0, UTC),
        role=_text(document.get("role")),
        content=_text(document.get("content")),
        name=_text(document.get("name")),
        arguments=_text(document.get("arguments")),
        output=_text(document.get("output")),
        is_error=document.get("is_error") is True,
        interrupted=document.get("interrupted") is True,
        metrics=dict(metrics) if isinstance(metrics, Mapping) else {},
    )


def record_of(document: Mapping[str, Any]) -> SessionRecord:
    """The record of a session's document, or of the ids in a turn's document."""
    _warn_if_newer(document)
    status, report = _text(document.get("status")), document.get("report")
    return SessionRecord(
        session_id=str(document.get("session_id", "")),
        scope=owner_of(document),
        room_name=_text(document.get("room_name")),
        status=SessionStatus(status) if status in _STATUSES else status,
        started_at=_time(document.get("started_at")),
        ended_at=_time(document.get("ended_at")),
        close_reason=_text(document.get("close_reason")),
        report=dict(report) if isinstance(report, Mapping) else {},
        participant_identity=_text(document.get("participant")),
        agent=_text(document.get("agent")),
        agent_participant=_text(document.get("agent_participant")),
        livekit=_text(document.get("livekit")),
        ticket=_ticket(document.get("ticket"), str(document.get("session_id", ""))),
        # Of one that counted as dead and goes on, it is from before.
        webhook=_delivery(document.get("webhook")) if status != SessionStatus.ACTIVE else None,
        summary=summary_of(document.get("summary"), at=_time(document.get("started_at"))),
        learning=_learning(document.get("learning")) if status != SessionStatus.ACTIVE else None,
        redacted=_counts(document.get("redacted")),
        trust=_text(document.get("trust")),
    )


def unanswered_fields(record: SessionRecord) -> dict[str, Any]:
    """The document of a room to which no agent came.

    Its `_id` is of the room alone, so that of several processes that would record it one does, under whatever user.
    """
    names = ("room_name", "status", "started_at", "ended_at", "close_reason", "report", "agent")
    fields = {name: getattr(record, name) for name in names} | {"participant": record.participant_identity}
    kept: dict[str, Any] = clean({name: value for name, value in fields.items() if value})
    digest = hashlib.sha256(record.session_id.encode()).digest()
    return record.scope.filter | {"session_id": record.session_id} | kept | STAMP | {"_id": ObjectId(digest[:12])}


def _ticket(found: object, room: str) -> Ticket | None:
    """That of a visitor, for the room of the session itself."""
    if not isinstance(found, Mapping):
        return None
    visitor, made_at = _text(found.get("visitor")), _time(found.get("made_at"))
    return Ticket(room, None, visitor, made_at, made_at) if visitor and made_at else None


def summary_fields(summary: Summary) -> dict[str, Any]:
    """The stored fields of a summary, within bounds and without secrets."""
    topics = [text for each in summary.topics if (text := _line(each)) and not holds_secret(text)]
    return {
        "text": without_secrets(_line(summary.text))[:MAX_SUMMARY].rstrip(),
        "at": summary.at,
        "topics": topics[:MAX_TOPICS],
        "commitments": [fields for each in summary.commitments if (fields := commitment_fields(each))],
        "by": summary.by,
    }


def commitment_fields(commitment: Commitment) -> dict[str, Any] | None:
    """The stored fields of a commitment; None if it has no text or holds a secret."""
    text = _line(commitment.text)[:MAX_COMMITMENT].rstrip()
    if not text or holds_secret(text):
        return None
    return {name: value for name, value in (asdict(commitment) | {"text": text}).items() if value is not None}


def _line(text: str) -> str:
    return " ".join(clean_text(text).split())


def summary_of(found: object, *, at: datetime | None = None) -> Summary | None:
    """The summary in a session's document, if it has one; `at` is used if it has no time."""
    if not isinstance(found, Mapping):
        return None
    topics = found.get("topics")
    when = _time(found.get("at")) or at or datetime.fromtimestamp(0, UTC)
    return Summary(
        text=_text(found.get("text")) or "",
        at=when,
        topics=tuple(each for each in topics if isinstance(each, str)) if isinstance(topics, list) else (),
        commitments=commitments_of(found.get("commitments"), at=when),
        by="model" if found.get("by") == "model" else "extract",
    )


def commitments_of(found: object, *, at: datetime | None = None) -> tuple[Commitment, ...]:
    """The commitments in a document, by their times; those without an id or a text are left out."""
    listed = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    known = [
        Commitment(
            id=name,
            text=text,
            by="assistant" if each.get("by") == "assistant" else "caller",
            made_at=_time(each.get("made_at")) or at or datetime.fromtimestamp(0, UTC),
            due=_time(each.get("due")),
            session_id=_text(each.get("session_id")),
            closed_at=_time(each.get("closed_at")),
        )
        for each in listed
        if (name := _text(each.get("id"))) and (text := _text(each.get("text")))
    ]
    return tuple(sorted(known, key=lambda each: each.made_at))


def _delivery(webhook: object) -> Delivery | None:
    if not isinstance(webhook, Mapping):
        return None
    attempts = webhook.get("attempts")
    return Delivery(
        event_id=str(webhook.get("id", "")),
        attempts=attempts if isinstance(attempts, int) else 0,
        due_at=_time(webhook.get("due_at")),
        delivered_at=_time(webhook.get("delivered_at")),
        gave_up_at=_time(webhook.get("gave_up_at")),
        answer=_text(webhook.get("answer")),
    )


def _learning(learning: object) -> Learning | None:
    if not isinstance(learning, Mapping):
        return None
    attempts, proposals = learning.get("attempts"), learning.get("proposals")
    return Learning(
        attempts=attempts if isinstance(attempts, int) else 0,
        due_at=_time(learning.get("due_at")),
        asked_at=_time(learning.get("asked_at")),
        learned_at=_time(learning.get("learned_at")),
        gave_up_at=_time(learning.get("gave_up_at")),
        failure=_text(learning.get("failure")),
        proposals=tuple(filter(None, map(_proposal, proposals if isinstance(proposals, list) else []))),
    )


def _proposal(stored: object) -> Proposal | None:
    """A proposal; None for one that lacks what it needs to be stored."""
    if not isinstance(stored, Mapping):
        return None
    said_at, confidence = _time(stored.get("said_at")), stored.get("confidence")
    kind, state = stored.get("kind"), stored.get("state")
    if said_at is None or kind not in KINDS or state not in STATES:
        return None
    return Proposal(
        id=str(stored.get("id", "")),
        kind=kind,
        label=str(stored.get("label", "")),
        content=_text(stored.get("content")) or "",
        said_at=said_at,
        item_id=str(stored.get("item_id", "")),
        confidence=float(confidence) if isinstance(confidence, int | float) else 0.0,
        since=_time(stored.get("since")),
        state=state,
        reason=_text(stored.get("reason")),
        decided_at=_time(stored.get("decided_at")),
    )


def proposal_fields(proposal: Proposal) -> dict[str, Any]:
    """The stored fields of a proposal."""
    fields: dict[str, Any] = clean({name: value for name, value in asdict(proposal).items() if value is not None})
    return fields


def _warn_if_newer(document: Mapping[str, Any]) -> None:
    if is_newer(document):
        _warn(document[VERSION])


@functools.cache
def _warn(version: int) -> None:
    """Once, as a list may hold many."""
    logger.warning(
        "sessions of schema version %d, written by a later release of lkmongo, may show incompletely: upgrade this one",
        version,
    )


def totals_of(document: Mapping[str, Any]) -> TurnTotals:
    """The totals in a document of `listing.totals_pipeline`."""
    return TurnTotals(
        turns=document["turns"],
        tool_errors=document["tool_errors"],
        slowest=seconds_of(document.get("slowest")),
        last_turn_at=_time(document.get("last_turn_at")),
    )


def _counts(found: object) -> dict[str, int]:
    counts = found.items() if isinstance(found, Mapping) else ()
    return {str(kind): count for kind, count in counts if isinstance(count, int)}


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return None if is_sealed(value) else str(value)  # what nobody has opened is not shown


def _time(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)  # an export decodes without a zone


def in_time_order(turns: Sequence[tuple[Turn, bool]]) -> list[tuple[Turn, bool]]:
    """Sort turns by the time they were made, and renumber them in that order.

    They were recorded as they arrived, and what was said before a tool is called may arrive after the tool's result.
    Turns numbered by the database and turns that are not, see `Sessions.append_missing`, each share their own numbers.
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
    """Find the numbers of turns that are to be inserted among stored ones.

    Args:
        there: item id, number and time of the stored turns, by number.
        turns: see `Sessions.append_missing`.

    Returns:
        The missing turns with their numbers, and (item id, old number, new number) of the stored turns that make room,
        last one first.
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
    # A process that never learned a number wrote before whoever has written since.
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
