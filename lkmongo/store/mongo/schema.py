"""The collections, their ordinary indexes and the version of their documents, as data.

Unique indexes begin with `tenant_id`, those of personal collections with `tenant_id, user_id`, as required for using
`{tenant_id, user_id}` as the shard key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

VERSION = "schema_version"
SCHEMA_VERSION = 1
"""The version of the documents that this code writes; one that has none was written before there were versions.

Only a change that earlier code cannot read raises it, and needs a migration in `store/indexes/upgrade.py`; a further
field does not.
"""
READABLE_VERSION = 1
"""The latest version that this code reads: one release ahead, as workers of two successive ones run together."""
STAMP = {VERSION: SCHEMA_VERSION}
"""What a new document carries: 20 bytes."""
OLDER: dict[str, Any] = {VERSION: {"$not": {"$gte": SCHEMA_VERSION}}}
NEWER: dict[str, Any] = {VERSION: {"$gt": READABLE_VERSION}}
OURS: dict[str, dict[str, Any]] = {
    USERS: {},
    MEMORIES: {},
    # Another program's orders and passages are read, but belong to it.
    KNOWLEDGE: {"origin": {"$in": ["knowledge", "seed"]}},
    ORDERS: {"origin": "seed"},
    SESSIONS: {},
    TURNS: {},
    VISITORS: {},
}
"""Which documents have a version, by collection. Receipts, tombstones and keys are written once, and for good."""


def is_newer(document: Mapping[str, Any]) -> bool:
    """Whether a later release wrote the document, in a way that this one cannot be expected to read."""
    version = document.get(VERSION)
    return isinstance(version, int) and version > READABLE_VERSION


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
    Index(TURNS, "turn", (*_PERSON, ("session_id", 1), ("seq", 1)), unique=True),
    Index(TURNS, "newest", (("tenant_id", 1), ("created_at", -1))),
    Index(VISITORS, "of_user", _PERSON),
    Index(RECEIPTS, "newest", (("tenant_id", 1), ("erased_at", -1))),
    Index(RECEIPTS, "of_person", (("hash", 1),)),
)
