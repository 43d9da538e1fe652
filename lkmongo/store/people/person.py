"""Everything stored about one person: whether they are known, counts, lines to show, the access request's file."""

from __future__ import annotations

import asyncio
import math
import shlex
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Protocol

import orjson
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.confidential import WITHHELD
from lkmongo.declarations import ProfileField, declared
from lkmongo.errors import NotFoundError
from lkmongo.invisible import safe_json
from lkmongo.model import DEFAULT_TENANT, MAX_SLOTS, PROFILE_FIELDS, Fact, UserScope, now, slot_words
from lkmongo.redaction import Redaction
from lkmongo.store.mongo import declared as declarations
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.paging import read_place, write_place
from lkmongo.store.mongo.schema import (
    MEMORIES,
    MEMORY_HISTORY,
    PHONE_ATTEMPTS,
    PHONES,
    PINS,
    SESSIONS,
    TURNS,
    USERS,
    VISITORS,
)
from lkmongo.store.people.history import History
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.documents import VECTOR
from lkmongo.store.sessions.summaries import Summaries

Document = dict[str, Any]

_TECHNICAL = frozenset(
    "_id tenant_id user_id embedding embedding_model label_words memory_version "
    "origin lease report metrics item_id schema_version former former_until again content_mark".split()
)
"""Fields that say nothing about the person, or that the file states once."""
_TECHNICAL_OF_OWN = frozenset("_id tenant_id user_id embedding embedding_model".split())
"""The same in declared collections, where `report` and the like are the project's."""
_OF_CALLERS: Mapping[str, Sequence[str]] = {
    PHONES: ("last_digits", "linked_at", "last_seen_at", "by"),
    PINS: ("set_at", "by", "last_used_at"),
    PHONE_ATTEMPTS: ("at",),
}
"""What is told of numbers and PINs, by collection: neither them nor their hashes. They are sorted by the times."""
_SESSIONS_AT_ONCE = 50
"""Sessions whose turns are read, and held in memory, at a time."""
_NEAR_AMONG = 1_000
"""Ids that are searched for the one that may have been meant."""
_FIRST = ("memory_type", "order_id", "session_id", "seq", "name", "email", "content", "role")


class People(Protocol):
    """The parts of a `Store` that hold people."""

    @property
    def db(self) -> AsyncDatabase[Document]: ...
    @property
    def users(self) -> Users: ...
    @property
    def memories(self) -> Memories: ...
    @property
    def history(self) -> History: ...
    @property
    def summaries(self) -> Summaries: ...
    @property
    def redaction(self) -> Redaction: ...


async def count(
    db: AsyncDatabase[Document],
    scope: UserScope,
    collections: Sequence[str] | None = None,
    *,
    session: AsyncClientSession | None = None,
) -> dict[str, int]:
    """How many documents of the person each collection has, by default each that can have any.

    Raises the driver's errors within a transaction, which takes the names of collections.
    """
    names = await declarations.personal(db) if collections is None else collections

    async def documents(name: str) -> int:
        if session:
            return await db[name].count_documents(scope.filter, session=session)
        return await operations.read(lambda: db[name].count_documents(scope.filter))

    return {name: await documents(name) for name in names}


async def count_known(db: AsyncDatabase[Document], scope: UserScope) -> dict[str, int]:
    """As `count`; raises NotFoundError if there is nothing at all."""
    counts = await count(db, scope)
    if not any(counts.values()):
        raise await unknown_person(db, scope)
    return counts


async def is_known(db: AsyncDatabase[Document], scope: UserScope) -> bool:
    """Whether anything is stored about the person, in any collection."""

    async def there(name: str) -> bool:
        return await operations.read(lambda: db[name].find_one(scope.filter, {"_id": 1})) is not None

    return any(await asyncio.gather(*map(there, await declarations.personal(db))))


async def require_known(db: AsyncDatabase[Document], *, user_id: str | None, tenant_id: str | None) -> None:
    """Check that something is stored about the person, or about one of that id in any tenant; None is everybody.

    Raises:
        NotFoundError: nothing is.
    """
    if user_id is None:
        return
    tenants = await Users(db).tenants() if tenant_id is None else [tenant_id]
    for each in tenants:
        if await is_known(db, UserScope(tenant_id=each, user_id=user_id)):
            return
    if tenant_id is not None:
        raise await unknown_person(db, UserScope(tenant_id=tenant_id, user_id=user_id))
    raise NotFoundError(
        f"nothing is stored about {user_id} in any tenant", hint="check the id; lkmongo users list --all-tenants"
    )


async def unknown_person(db: AsyncDatabase[Document], scope: UserScope, *, why: str | None = None) -> NotFoundError:
    """The error for an id without any data; it suggests similar ids."""
    ids = [person["user_id"] for person in await Users(db).page(scope.tenant, limit=_NEAR_AMONG)]
    near = get_close_matches(scope.user_id, ids, cutoff=0.75)
    looked_at = ", ".join(await declarations.personal(db))
    first = f"did you mean {' or '.join(near)}?" if near else "check the id and --tenant;"
    return NotFoundError(
        f"nothing is stored about {scope.user_id} in tenant {scope.tenant_id}",
        why="\n".join(filter(None, [f"looked at the collections {looked_at}", why])),
        hint=f"{first} lkmongo users list{_tenant_option(scope)}",
    )


def no_memory(scope: UserScope, labels: str) -> NotFoundError:
    """The error for slots that a known person does not have."""
    hint = f"lkmongo memory list {shlex.quote(scope.user_id)}{_tenant_option(scope)}"
    return NotFoundError(f"{scope.user_id} has no memory called {labels}", hint=hint)


def _tenant_option(scope: UserScope) -> str:
    return "" if scope.tenant_id == DEFAULT_TENANT else f" --tenant {shlex.quote(scope.tenant_id)}"


async def slots_of(people: People, scope: UserScope) -> list[Fact]:
    """The slots, newest first; raises NotFoundError for an unknown person."""
    slots = await people.memories.slots(scope)
    if not slots:
        await require_known(people.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
    return slots


async def slot_of(people: People, scope: UserScope, label: str) -> tuple[Fact, str | None]:
    """One slot, and the embedding model of its vector if it has one.

    Raises:
        NotFoundError: the person or the slot is unknown.
        InvalidTextError: not a valid label.
    """
    slot = await people.memories.recall(scope, label)
    if slot is None:
        await require_known(people.db, user_id=scope.user_id, tenant_id=scope.tenant_id)
        raise no_memory(scope, label)
    return slot, await people.memories.vector_model(scope, label)


async def export(db: AsyncDatabase[Document], scope: UserScope) -> AsyncIterator[str]:
    """Yield the pieces of one JSON object with everything that is stored about the person, readable by them.

    Its keys are exported_at, tenant_id, user_id, profile, memories, memory_history, offered (see `offers`), orders and
    the declared collections, browsers, phones, pins, phone_attempts, and calls, which hold the sessions with their
    turns. Times are ISO 8601; vectors and technical reports are omitted, and so are PINs and hashes of numbers.
    Characters that a terminal would interpret are escaped.

    Raises:
        DatabaseError: MongoDB answered with an error; what was yielded is then incomplete.
    """
    head = {"exported_at": now(), "tenant_id": scope.tenant_id, "user_id": scope.user_id}
    yield "{\n" + "".join(f"  {_json(key)}: {_json(value)},\n" for key, value in head.items())
    encryption = Encryption.of(db)
    profile = await encryption.read_one(USERS, lambda: db[USERS].find_one(scope.filter), scope)
    yield f'  "profile": {_indented(_of_person(profile) if profile else None, 2)},\n'
    known = await declarations.read(db)
    slots = await _find(db, MEMORIES, scope.filter, "updated_at")
    # A former value may still be on its slot, see `History`.
    former = [each | {"memory_type": slot["memory_type"]} for slot in slots for each in slot.get("former", ())]
    entries = await _find(db, MEMORY_HISTORY, scope.filter, "valid_from")
    former += [each for each in entries if "offered" not in each]
    former.sort(key=lambda each: (str(each["memory_type"]), str(each["valid_from"])))
    offered = [each for each in entries if "offered" in each]
    for called, documents in ((MEMORIES, slots), (MEMORY_HISTORY, former), ("offered", offered)):
        yield f"  {_json(called)}: {_indented([_of_person(each) for each in documents], 2)},\n"
    lists: list[tuple[str, str, Sequence[str], frozenset[str]]] = [
        (each.name, each.name, each.key, _TECHNICAL_OF_OWN | {each.seed_mark})
        for each in known.personal
        if each.exported
    ]
    lists.append(("browsers", VISITORS, ["created_at"], _TECHNICAL))
    for called, name, order, left_out in lists:
        documents = await _find(db, name, scope.filter, *order)
        yield f"  {_json(called)}: {_indented([_of_person(each, left_out) for each in documents], 2)},\n"
    for name, shown in _OF_CALLERS.items():
        documents = await _find(db, name, scope.filter, *(field for field in shown if field.endswith("at")))
        yield f"  {_json(name)}: {_indented([_only(each, shown) for each in documents], 2)},\n"
    yield '  "calls": ['
    first = True
    async for session in _sessions(db, scope):
        yield ("" if first else ",") + f"\n    {_indented(session, 4)}"
        first = False
    yield ("]" if first else "\n  ]") + "\n}\n"


async def _sessions(db: AsyncDatabase[Document], scope: UserScope) -> AsyncIterator[Document]:
    """The person's sessions with their turns, oldest first; last the turns without a session document."""
    sessions = await _find(db, SESSIONS, scope.filter, "started_at", leave_out=("report", *VECTOR))
    known = {session["session_id"] for session in sessions}
    spoken = await operations.read(lambda: db[TURNS].distinct("session_id", scope.filter))
    sessions += [{"session_id": name} for name in sorted(set(spoken) - known)]
    for start in range(0, len(sessions), _SESSIONS_AT_ONCE):
        batch = sessions[start : start + _SESSIONS_AT_ONCE]
        turns: dict[str, list[Document]] = {session["session_id"]: [] for session in batch}
        selector = scope.filter | {"session_id": {"$in": list(turns)}}
        for turn in await _find(db, TURNS, selector, "seq"):
            turns[turn.pop("session_id")].append(_of_person(turn))
        for session in batch:
            yield _of_person(session) | {"turns": turns[session["session_id"]]}


async def _find(
    db: AsyncDatabase[Document],
    collection: str,
    selector: Document,
    *order: str,
    leave_out: Sequence[str] = ("embedding",),
) -> list[Document]:
    async def find() -> list[Document]:
        cursor = db[collection].find(selector, dict.fromkeys(leave_out, 0))
        return [document async for document in cursor.sort([(path, 1) for path in (*order, "_id")])]

    return await Encryption.of(db).read(collection, find)


def _of_person(document: Mapping[str, Any], left_out: frozenset[str] = _TECHNICAL) -> Document:
    """The fields about the person, identifying ones first."""
    names: Iterable[str] = sorted(document, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return {name: _readable(document[name]) for name in names if name not in left_out}


def _only(document: Mapping[str, Any], names: Sequence[str]) -> Document:
    return {name: document[name] for name in names if name in document}


def _readable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _readable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return value


def _indented(value: Any, spaces: int) -> str:
    return _json(value).replace("\n", "\n" + " " * spaces)


def _json(value: Any) -> str:
    return safe_json(orjson.dumps(value, _plain, orjson.OPT_INDENT_2 | orjson.OPT_PASSTHROUGH_DATETIME).decode())


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


LAST_SESSION = "last_call"
"""The `name` of the line with the last session's gist."""
NOT_THERE = "that is not remembered"
"""What a person is told who asks for a line that there is not."""


@dataclass(frozen=True, slots=True)
class Line:
    """Something remembered; `kind` and `name` identify it, `label` is for people.

    Its `kind` is "profile", "memory" or "commitment". What a call was about and what is still to be done is not
    `editable`: it can only be deleted.
    """

    kind: str
    name: str
    label: str
    content: str
    at: datetime | None = None
    editable: bool = True


async def lines(people: People, scope: UserScope) -> list[Line]:
    """The person's profile, the last session's gist, open commitments, and their memories, newest first."""
    about, slots = await asyncio.gather(about_lines(people, scope), people.memories.slots(scope))
    return about + list(map(memory_line, slots))


async def about_lines(people: People, scope: UserScope) -> list[Line]:
    """The `lines` without the memories."""
    profile = await people.users.get(scope)
    if profile is None:
        return []
    fields = declared().fields
    if profile.own.keys() - fields.keys():
        fields = (await declarations.read(people.db)).fields
    found = [profile_line(name, value, fields) for name, value in profile.values.items()]
    if last := profile.last_session:
        found.append(Line("profile", LAST_SESSION, "Last conversation", last.gist, last.at, editable=False))
    for each in profile.commitments:
        label = "Still to be done" if each.by == "assistant" else "You wanted to"
        found.append(Line("commitment", each.id, label, each.text, editable=False))
    return found


def profile_line(name: str, value: str, fields: Mapping[str, ProfileField] | None = None) -> Line:
    """The line of a field of the profile; one that this process has not declared it cannot check, so not edit either.

    `fields` are the declared ones that have a label, by default those of this process.
    """
    ours = declared().fields
    fields = ours if fields is None else fields
    label = (fields[name].words if name in fields else slot_words(name)).capitalize()
    return Line("profile", name, label, value, editable=name in PROFILE_FIELDS or name in ours)


async def memory_lines(
    people: People, scope: UserScope, *, limit: int, after: str = ""
) -> tuple[list[Line], str | None]:
    """One page of the `lines` that are memories.

    Args:
        people: the store.
        scope: the person.
        limit: how many lines a page has.
        after: what came with the page before; empty for the first one.

    Returns:
        The page, and what gets the next one; None for the last.

    Raises:
        UsageError: `after` did not come with a page.
    """
    place = read_place(after, most=MAX_SLOTS, timeless=True) if after else None
    slots = await people.memories.slots(scope, limit=limit + 1, after=place)
    page = slots[:limit]
    if len(slots) <= limit:
        return list(map(memory_line, page)), None
    return list(map(memory_line, page)), write_place(page[-1].updated_at, (each.updated_at for each in page), place)


def memory_line(slot: Fact) -> Line:
    """The line of a slot; one that is withheld cannot be edited, as nobody sees what it says."""
    label = slot_words(slot.memory_type).capitalize()
    return Line("memory", slot.memory_type, label, slot.content, slot.updated_at, slot.content != WITHHELD)
