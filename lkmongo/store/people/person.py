"""Everything that is kept of one person: counted, shown line by line, exported for an access request."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import NotFoundError
from lkmongo.model import PROFILE_FIELDS, UserScope, now, slot_words
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import MEMORIES, ORDERS, PERSONAL, SESSIONS, TURNS, USERS, VISITORS
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.users import Users

Document = dict[str, Any]

_TECHNICAL = (
    "_id",
    "tenant_id",
    "user_id",
    "embedding",
    "embedding_model",
    "label_words",
    "memory_version",
    "origin",
    "lease",
    "report",
    "metrics",
    "item_id",
)
"""Fields that say nothing of the person, or that the file says once."""
_CALLS = 50
"""Calls whose turns are read, and held in memory, at a time."""
_FIRST = ("memory_type", "order_id", "session_id", "seq", "name", "email", "content", "role")
# Valid in JSON, and obeyed by a terminal or an editor that shows the file: other control characters, marks that turn
# the direction of writing, line separators.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


async def count(
    db: AsyncDatabase[Document],
    scope: UserScope,
    collections: Sequence[str] = PERSONAL,
    *,
    session: AsyncClientSession | None = None,
) -> dict[str, int]:
    """How many documents of the person each collection has; within a transaction, raises the driver's errors."""

    async def documents(name: str) -> int:
        if session:
            return await db[name].count_documents(scope.filter, session=session)
        return await operations.read(lambda: db[name].count_documents(scope.filter))

    return {name: await documents(name) for name in collections}


async def is_known(db: AsyncDatabase[Document], scope: UserScope) -> bool:
    """Whether anything is kept of the person, in whichever collection."""

    async def there(name: str) -> bool:
        return await operations.read(lambda: db[name].find_one(scope.filter, {"_id": 1})) is not None

    return any(await asyncio.gather(*map(there, PERSONAL)))


async def export(db: AsyncDatabase[Document], scope: UserScope) -> AsyncIterator[str]:
    """Yield the pieces of one JSON object with everything that is kept of the person, readable by them.

    Its keys are exported_at, tenant_id, user_id, profile, memories, orders, browsers and calls, each call with its turns. Times
    are ISO 8601; vectors and technical reports stay out. Characters that a terminal would obey are escaped.

    Raises:
        DatabaseError: MongoDB answered with an error; what was yielded is then no whole file.
    """
    head = {"exported_at": now(), "tenant_id": scope.tenant_id, "user_id": scope.user_id}
    yield "{\n" + "".join(f"  {_json(key)}: {_json(value)},\n" for key, value in head.items())
    profile = await operations.read(lambda: db[USERS].find_one(scope.filter))
    yield f'  "profile": {_indented(_of_person(profile) if profile else None, 2)},\n'
    for name, order in ((MEMORIES, "updated_at"), (ORDERS, "order_id"), (VISITORS, "created_at")):
        documents = await _find(db, name, scope.filter, order)
        called = "browsers" if name == VISITORS else name
        yield f'  "{called}": {_indented([_of_person(document) for document in documents], 2)},\n'
    yield '  "calls": ['
    first = True
    async for call in _calls(db, scope):
        yield ("" if first else ",") + f"\n    {_indented(call, 4)}"
        first = False
    yield ("]" if first else "\n  ]") + "\n}\n"


async def _calls(db: AsyncDatabase[Document], scope: UserScope) -> AsyncIterator[Document]:
    """The person's calls with their turns, oldest first; last the turns of which no call is known."""
    sessions = await _find(db, SESSIONS, scope.filter, "started_at", leave_out="report")
    known = {session["session_id"] for session in sessions}
    spoken = await operations.read(lambda: db[TURNS].distinct("session_id", scope.filter))
    sessions += [{"session_id": name} for name in sorted(set(spoken) - known)]
    for start in range(0, len(sessions), _CALLS):
        batch = sessions[start : start + _CALLS]
        turns: dict[str, list[Document]] = {session["session_id"]: [] for session in batch}
        selector = scope.filter | {"session_id": {"$in": list(turns)}}
        for turn in await _find(db, TURNS, selector, "seq"):
            turns[turn.pop("session_id")].append(_of_person(turn))
        for session in batch:
            yield _of_person(session) | {"turns": turns[session["session_id"]]}


async def _find(
    db: AsyncDatabase[Document], collection: str, selector: Document, order: str, *, leave_out: str = "embedding"
) -> list[Document]:
    async def find() -> list[Document]:
        return [
            document async for document in db[collection].find(selector, {leave_out: 0}).sort([(order, 1), ("_id", 1)])
        ]

    return await operations.read(find)


def _of_person(document: Mapping[str, Any]) -> Document:
    """The fields that tell of the person, those by which a document is known first."""
    names: Iterable[str] = sorted(document, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    return {name: _readable(document[name]) for name in names if name not in _TECHNICAL}


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
    text = orjson.dumps(value, _plain, orjson.OPT_INDENT_2 | orjson.OPT_PASSTHROUGH_DATETIME).decode()
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


LAST_CALL = "last_call"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is remembered; `kind` and `name` say which, `label` what it is in words."""

    kind: str
    name: str
    label: str
    content: str
    at: datetime | None = None


async def lines(users: Users, memories: Memories, scope: UserScope) -> list[Line]:
    """The person's profile, the last call's gist, and their memories, newest first."""
    profile, slots = await asyncio.gather(users.get(scope), memories.slots(scope))
    found = []
    if profile:
        told = [(name, getattr(profile, name)) for name in PROFILE_FIELDS]
        found = [Line("profile", name, slot_words(name).capitalize(), value) for name, value in told if value]
        if last := profile.last_session:
            found.append(Line("profile", LAST_CALL, "Last conversation", last.gist, last.at))
    return found + [
        Line("memory", slot.memory_type, slot_words(slot.memory_type).capitalize(), slot.content, slot.updated_at)
        for slot in slots
    ]


async def forget(users: Users, memories: Memories, scope: UserScope, kind: str, name: str) -> None:
    """Forget one line.

    Raises:
        NotFoundError: there is none of this kind and name.
        InvalidTextError: no memory can be called so.
    """
    if kind == "memory":
        gone = bool(await memories.forget(scope, [name]))
    elif name == LAST_CALL:
        gone = await users.forget_last_session(scope)
    else:
        gone = name in PROFILE_FIELDS and bool(await users.forget_profile(scope, [name]))
    if not gone:
        raise NotFoundError("that is not remembered")


async def forget_everything(users: Users, memories: Memories, scope: UserScope) -> int:
    """Forget every line; returns how many there were."""
    before = len(await lines(users, memories, scope))
    await asyncio.gather(memories.forget(scope), users.forget_profile(scope))
    return before
