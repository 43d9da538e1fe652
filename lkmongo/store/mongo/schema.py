"""The collections and their ordinary indexes, as data.

Unique indexes begin with `tenant_id`, those of personal collections with `tenant_id, user_id`, as required for using
`{tenant_id, user_id}` as the shard key.
"""

from __future__ import annotations

from dataclasses import dataclass

USERS = "users"
MEMORIES = "memories"
KNOWLEDGE = "knowledge"
ORDERS = "orders"
SESSIONS = "sessions"
TURNS = "turns"
RECEIPTS = "receipts"
TOMBSTONES = "tombstones"
KEYS = "keys"
VISITORS = "visitors"

COLLECTIONS = (USERS, MEMORIES, KNOWLEDGE, ORDERS, SESSIONS, TURNS, VISITORS, RECEIPTS, TOMBSTONES, KEYS)
"""All collections, in the order in which they are created and listed."""
PERSONAL = (MEMORIES, TURNS, SESSIONS, USERS, VISITORS, ORDERS)
"""Collections with documents of a person, by `tenant_id` and `user_id`: these are exported, merged and erased."""


@dataclass(frozen=True, slots=True)
class Index:
    """An ordinary index; `keys` are pairs of a path and 1 or -1."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    unique: bool = False


_PERSON = (("tenant_id", 1), ("user_id", 1))

INDEXES = (
    Index(USERS, "user", _PERSON, unique=True),
    Index(MEMORIES, "slot", (*_PERSON, ("memory_type", 1)), unique=True),
    Index(MEMORIES, "newest", (*_PERSON, ("updated_at", -1))),
    Index(MEMORIES, "of_model", (("embedding_model", 1), ("tenant_id", 1))),
    Index(KNOWLEDGE, "passage", (("tenant_id", 1), ("source", 1), ("chunk", 1)), unique=True),
    Index(KNOWLEDGE, "changed", (("tenant_id", 1), ("updated_at", -1))),
    Index(KNOWLEDGE, "of_model", (("embedding_model", 1), ("tenant_id", 1))),
    Index(ORDERS, "order", (("tenant_id", 1), ("order_id", 1)), unique=True),
    Index(ORDERS, "of_user", _PERSON),
    Index(SESSIONS, "session", (*_PERSON, ("session_id", 1)), unique=True),
    Index(SESSIONS, "of_user_newest", (*_PERSON, ("started_at", -1))),
    Index(SESSIONS, "newest", (("tenant_id", 1), ("started_at", -1))),
    Index(SESSIONS, "by_id", (("tenant_id", 1), ("session_id", 1))),
    Index(SESSIONS, "unended", (("status", 1), ("interrupted_at", -1))),
    Index(SESSIONS, "webhook_due", (("webhook.due_at", 1),)),
    Index(TURNS, "turn", (*_PERSON, ("session_id", 1), ("seq", 1)), unique=True),
    Index(TURNS, "newest", (("tenant_id", 1), ("created_at", -1))),
    Index(VISITORS, "of_user", _PERSON),
    Index(RECEIPTS, "newest", (("tenant_id", 1), ("erased_at", -1))),
    Index(RECEIPTS, "of_person", (("hash", 1),)),
)
