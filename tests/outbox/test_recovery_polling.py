"""A running worker polls for dead sessions of its machine and recovers them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import SessionStatus
from lkmongo.outbox import journal as spool
from lkmongo.outbox import recovery
from lkmongo.outbox.journal import Journal, journal_folder
from lkmongo.settings import Settings
from lkmongo.store.sessions.sessions import Sessions
from tests.outbox.test_recovery import CALL, OWNER, ROBIN, kept, later, leave, stored, turn
from tests.waiting import until


@pytest.fixture
async def worker(store, mongodb_uri, database_name, tmp_path, monkeypatch):
    """What a worker does beside its calls: look again and again for those that have died; yields their folder."""
    monkeypatch.setattr(recovery, "POLL_INTERVAL", 0.02)
    given = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name, "LKMONGO_HOME": str(tmp_path / "home")}
    settings = Settings.load(given)
    looking = asyncio.create_task(recovery.recover_periodically(settings, store))
    yield journal_folder(settings.data_home), spool.database_id(settings)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


async def test_a_running_worker_recovers_a_session_whose_process_dies(store, worker):
    folder, database = worker
    call = Journal.create(folder, CALL, owner=OWNER, database=database)
    call.append(kept(turn(0), turn(1)))
    alone = leave(folder, kept(turn(0)), replace(CALL, session_id="another database's"), database="another")
    seen = []
    await until(lambda: seen.append(spool.abandoned(folder)) or len(seen) > 5)
    assert await store.db.turns.count_documents({}) == 0, "its call goes on"
    call.close(delete=False)
    await until(lambda: spool.files(folder) == [alone])
    assert await stored(store) == ["turn 0", "turn 1"]
    assert (await store.sessions.get(ROBIN, "call-1")).status is SessionStatus.INTERRUPTED


async def test_a_worker_recovers_the_journal_of_a_session_that_another_agent_resumed(store, worker):
    folder, database = worker
    await store.sessions.open(CALL, "elsewhere/boot/2")
    path = leave(folder, kept(turn(0)), database=database)
    seen = []
    await until(lambda: seen.append(path.exists()) or len(seen) > 5)
    assert all(seen)
    await store.sessions.append(ROBIN, "call-1", [turn(1, "of the other", 10)])
    await store.sessions.save(replace(CALL, status=SessionStatus.COMPLETE, ended_at=later(20)))
    await until(lambda: not path.exists())
    assert await stored(store) == ["turn 0", "of the other"]


async def test_a_worker_keeps_polling_while_mongodb_is_unreachable(store, worker, monkeypatch):
    folder, database = worker
    asked = []
    real = Sessions.claim

    async def away(*arguments, **named):
        asked.append(1)
        raise DatabaseUnavailableError

    monkeypatch.setattr(Sessions, "claim", away)
    path = leave(folder, kept(turn(0)), database=database)
    await until(lambda: len(asked) > 2)
    assert path.exists()
    monkeypatch.setattr(Sessions, "claim", real)
    await until(lambda: not path.exists())
    assert await stored(store) == ["turn 0"]
