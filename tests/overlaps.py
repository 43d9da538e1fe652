"""A call without a session: its recorder, its caller, and what both leave on disk when their process dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import ConversationItemAddedEvent, llm

from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.recorder import Recorder
from lkmongo.embed.choose import create_embedder
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.outbox import Outbox
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.open import Store

ROBIN = UserScope(tenant_id="default", user_id="u-100")
GUEST = UserScope(tenant_id="default", user_id="guest-7")
SID, ROOM = "s-1", "room"
DATABASE = "db"
"""What the files say that the database is called; whoever recovers them says so, too."""


def outbox_of(
    store: Store, scope: UserScope, session_id: str = SID, room: str = ROOM, folder: Path | None = None
) -> Outbox:
    """The outbox of a session that begins now; with `folder`, its journal is there."""

    def create(record: SessionRecord, owner: str) -> Journal:
        assert folder
        return Journal.create(folder, record, owner=owner, database=DATABASE)

    record = SessionRecord(session_id, scope, room, SessionStatus.ACTIVE, now())
    return Outbox(store, record, create if folder else None)


def recorder_of(
    store: Store, scope: UserScope, session_id: str = SID, room: str = ROOM, folder: Path | None = None
) -> Recorder:
    """The recorder of a session that begins now; with `folder`, its journal is there."""
    return Recorder(outbox_of(store, scope, session_id, room, folder))


@asynccontextmanager
async def a_call(
    store: Store, scope: UserScope, folder: Path | None = None, *, guest: bool = False
) -> AsyncIterator[CallerSession]:
    """A call of which nothing is loaded or written yet; with `folder`, what waits is on disk there."""
    outbox, embedder = outbox_of(store, scope, folder=folder), create_embedder("local")
    recorder, caller = Recorder(outbox), Caller(store, embedder, outbox, guest=guest)
    try:
        yield CallerSession(SID, ROOM, caller, store, ExactStrategy(store.db, embedder), recorder)
    finally:
        await caller.flush(0)
        await die(recorder)
        await embedder.close()


def say(recorder: Recorder, text: str, moment: float) -> None:
    """Have the caller say something, with the time at which it was said."""
    message = llm.ChatMessage(role="user", content=[text], created_at=moment)
    recorder._on_item(ConversationItemAddedEvent(item=message))


async def said(store: Store, scope: UserScope) -> list[str | None]:
    """What MongoDB has of the call as one of `scope`."""
    return [turn.content for turn in await store.sessions.turns(scope, SID)]


def kinds(folder: Path) -> list[str]:
    """Of what kind the entries are that are on disk, in their order."""
    return [entry["op"] for path in journal.files(folder) for entry in journal.read(path).entries]


async def die(recorder: Recorder, caller: Caller | None = None) -> None:
    """What is left of a process that is killed: its file, which nobody locks any more."""
    if caller:
        await caller._background.cancel()
    await recorder._outbox.abandon()
    await recorder.lease.release()


@contextmanager
def away(*methods: tuple[type, str]) -> Iterator[None]:
    """Have MongoDB not be there for these methods, each a class and a name."""

    async def unavailable(*_: Any, **__: Any) -> None:
        raise DatabaseUnavailableError

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in methods:
            patch.setattr(owner, name, unavailable)
        yield
