"""What is remembered of a person, as lines that they can read and delete one by one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from lkmongo.errors import NotFoundError
from lkmongo.model import PROFILE_FIELDS, UserScope, slot_words
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.users import Users

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
