"""The collections, their ordinary indexes and the version of their documents, as data.

Unique indexes begin with `tenant_id`, those of personal collections with `tenant_id, user_id`, as required for using
`{tenant_id, user_id}` as the shard key. Telephone numbers, by which a person is yet to be found, go by `{tenant_id,
phone_hash}`, as orders by their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lkmongo.declarations import SCOPES, Collection, Declarations

USERS = "users"
MEMORIES = "memories"
MEMORY_HISTORY = "memory_history"
KNOWLEDGE = "knowledge"
ORDERS = "orders"
SESSIONS = "sessions"
TURNS = "turns"
RECEIPTS = "receipts"
TOMBSTONES = "tombstones"
KEYS = "keys"
VISITORS = "visitors"
PHONES = "phones"
PINS = "pins"
PHONE_ATTEMPTS = "phone_attempts"
USED_SEALS = "used_seals"
DECLARATIONS = "declarations"
AUDIT = "audit"
AUDIT_CHECKPOINTS = "audit_checkpoints"

COLLECTIONS = (
    USERS,
    MEMORIES,
    MEMORY_HISTORY,
    KNOWLEDGE,
    ORDERS,
    SESSIONS,
    TURNS,
    VISITORS,
    PHONES,
    PINS,
    PHONE_ATTEMPTS,
    USED_SEALS,
    RECEIPTS,
    TOMBSTONES,
    KEYS,
    DECLARATIONS,
    AUDIT,
    AUDIT_CHECKPOINTS,
)
"""All collections of lkmongo, in the order in which they are created and listed."""
PERSONAL = (MEMORIES, MEMORY_HISTORY, TURNS, SESSIONS, USERS, VISITORS, PHONES, PINS, PHONE_ATTEMPTS, ORDERS)
"""Those with documents of a person, by `tenant_id` and `user_id`; `declared.personal` adds those of one's own."""

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
    MEMORY_HISTORY: {},
    # Another program's orders and passages are read, but belong to it.
    KNOWLEDGE: {"origin": {"$in": ["knowledge", "seed"]}},
    ORDERS: {"origin": "seed"},
    SESSIONS: {},
    TURNS: {},
    PHONES: {},
    PINS: {},
    VISITORS: {},
}
"""Which documents have a version, by collection. Receipts, tombstones, keys and the audit trail are written once, and
attempts at a PIN are gone after an hour."""

EMBEDDED = ["binData", "string"]
"""The types of an `embedding`: a vector, or the text of which MongoDB makes it (`lkmongo.embed.vectors.stored`)."""
HAS_EMBEDDING: dict[str, Any] = {"$in": [{"$type": "$embedding"}, EMBEDDED]}


def is_newer(document: Mapping[str, Any]) -> bool:
    """Whether a later release wrote the document, in a way that this one cannot be expected to read."""
    version = document.get(VERSION)
    return isinstance(version, int) and version > READABLE_VERSION


@dataclass(frozen=True, slots=True)
class Index:
    """An ordinary index; `keys` are pairs of a path and 1 or -1. With `expires`, its documents go at the time in it."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    expires: bool = False


_PERSON = (("tenant_id", 1), ("user_id", 1))

INDEXES = (
    Index(USERS, "user", _PERSON, unique=True),
    Index(MEMORIES, "slot", (*_PERSON, ("memory_type", 1)), unique=True),
    Index(MEMORIES, "newest", (*_PERSON, ("updated_at", -1))),
    Index(MEMORIES, "of_model", (("embedding_model", 1), ("tenant_id", 1))),
    Index(MEMORY_HISTORY, "value", (*_PERSON, ("memory_type", 1), ("valid_from", 1)), unique=True),
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
    Index(SESSIONS, "learning_due", (("learning.due_at", 1),)),
    Index(SESSIONS, "suggested", (*_PERSON, ("learning.proposals.state", 1))),
    Index(TURNS, "turn", (*_PERSON, ("session_id", 1), ("seq", 1)), unique=True),
    Index(TURNS, "newest", (("tenant_id", 1), ("created_at", -1))),
    Index(VISITORS, "of_user", _PERSON),
    Index(PHONES, "link", (("tenant_id", 1), ("phone_hash", 1), ("user_id", 1)), unique=True),
    Index(PHONES, "of_user", _PERSON),
    Index(PINS, "of_user", _PERSON, unique=True),
    Index(PHONE_ATTEMPTS, "of_user", _PERSON),
    Index(PHONE_ATTEMPTS, "of_number", (("tenant_id", 1), ("phone_hash", 1))),
    Index(PHONE_ATTEMPTS, "expiry", (("expires_at", 1),), expires=True),
    Index(USED_SEALS, "expiry", (("expires_at", 1),), expires=True),
    Index(RECEIPTS, "newest", (("tenant_id", 1), ("erased_at", -1))),
    Index(RECEIPTS, "of_person", (("hash", 1),)),
    Index(AUDIT, "of_person", (("subject", 1), ("at", -1))),
    Index(AUDIT, "newest", (("tenant_id", 1), ("at", -1))),
)
"""Those of lkmongo; `all_indexes` adds those of one's own collections."""


def indexes_of(collection: Collection) -> tuple[Index, ...]:
    """The indexes of a declared collection, each behind its owner's ids."""
    scope = SCOPES[collection.owner]
    found = [Index(collection.name, "key", tuple((path, 1) for path in collection.identity), unique=True)]
    if collection.unique_within == "tenant":
        found.append(Index(collection.name, "of_user", _PERSON))
    for paths in collection.indexes:
        keys = [(path.removeprefix("-"), -1 if path.startswith("-") else 1) for path in paths]
        found.append(Index(collection.name, f"by_{'_'.join(paths)}", (*((path, 1) for path in scope), *keys)))
    return tuple(found)


def all_indexes(declared: Declarations) -> tuple[Index, ...]:
    """Every ordinary index; an `orders` of one's own has its own instead of ours."""
    ours = tuple(index for index in INDEXES if index.collection not in declared.own)
    return ours + tuple(index for each in declared.own.values() for index in indexes_of(each))
