"""Calls and turns as documents, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lkmongo.model import Identity, SessionRecord, SessionStatus, Turn, TurnKind, clean


def turn_fields(turn: Turn) -> dict[str, Any]:
    """What is stored of a turn, beside whose and which it is."""
    kept = asdict(turn).items()
    fields: dict[str, Any] = clean({k: v for k, v in kept if k not in {"seq", "item_id"} and v not in (None, {})})
    return fields | {"kind": turn.kind.value}


def turn_of(document: dict[str, Any]) -> Turn:
    """The turn that a document is."""
    return Turn(
        seq=document["seq"],
        item_id=document["item_id"],
        kind=TurnKind(document["kind"]),
        created_at=document["created_at"],
        role=document.get("role"),
        content=document.get("content"),
        name=document.get("name"),
        arguments=document.get("arguments"),
        output=document.get("output"),
        is_error=document.get("is_error", False),
        interrupted=document.get("interrupted", False),
        metrics=document.get("metrics", {}),
    )


def record_of(document: dict[str, Any]) -> SessionRecord:
    """The call that a document is."""
    return SessionRecord(
        session_id=document["session_id"],
        identity=Identity(document["tenant_id"], document["user_id"]),
        room_name=document["room_name"],
        status=SessionStatus(document["status"]),
        started_at=document["started_at"],
        ended_at=document.get("ended_at"),
        close_reason=document.get("close_reason"),
        report=document.get("report") or {},
        participant=document.get("participant"),
        agent=document.get("agent"),
        agent_participant=document.get("agent_participant"),
        livekit=document.get("livekit"),
    )
