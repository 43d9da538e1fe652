"""Sessions and turns as documents, for tests that read what agents have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

BEGAN = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)


def session(session_id: str = "s-1", *, user: str = "u", tenant: str = "default", **fields: Any) -> dict[str, Any]:
    """A session of one minute; `fields` override it, and those that are None are left out."""
    document = {
        "tenant_id": tenant,
        "user_id": user,
        "session_id": session_id,
        "room_name": "room",
        "status": "complete",
        "started_at": BEGAN,
        "ended_at": BEGAN + timedelta(minutes=1),
        "close_reason": "hang-up",
        "report": {"errors": {"llm": 0}, "duration_ms": 60_000, "usage": None},
    } | fields
    return {name: value for name, value in document.items() if value is not None}


def said(
    seq: int, content: str, *, role: str = "user", of: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """Something that was said in the session `of`, `seq` seconds after its start."""
    return _turn(seq, of) | {"kind": "message", "role": role, "content": content} | fields


def used(seq: int, name: str, *, of: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A tool call."""
    done = {"kind": "tool", "name": name, "arguments": '{"a": 1}', "output": "done", "metrics": {"seconds": 0.25}}
    return _turn(seq, of) | done | fields


def _turn(seq: int, of: dict[str, Any] | None) -> dict[str, Any]:
    whose = of or session()
    return {
        "tenant_id": whose["tenant_id"],
        "user_id": whose["user_id"],
        "session_id": whose["session_id"],
        "seq": seq,
        "item_id": f"item_{seq}",
        "created_at": whose.get("started_at", BEGAN) + timedelta(seconds=seq),
        "is_error": False,
        "interrupted": False,
    }
