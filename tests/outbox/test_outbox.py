"""The outbox of a session: entries stay in the journal until MongoDB has them, whatever the disk does."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lkmongo.model import SessionRecord, SessionStatus, UserScope
from lkmongo.outbox import journal
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.outbox import Outbox
from tests.waiting import PATIENCE

ROBIN = UserScope(tenant_id="default", user_id="u-100")
AT = datetime(2026, 11, 3, 12, 30, 15, 250_000, UTC)
ENTRIES = [
    {"op": "turn", "content": "line\nbreak \u2028 and é", "at": AT},
    {"op": "remember", "label": "colour", "content": "teal", "at": AT},
    {"op": "end", "report": {"nested": [1, None, {"deep": 2.5}]}},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return journal.journal_folder(tmp_path / "home")


def create_in(folder: Path, scope: UserScope = ROBIN) -> Journal:
    record = SessionRecord("call-1", scope, "room", SessionStatus.ACTIVE, AT)
    return Journal.create(folder, record, owner="host/boot/1", database="db")


async def test_a_failing_disk_is_logged_once_and_retried(folder, caplog, monkeypatch):
    outbox = Outbox(lambda: create_in(folder))
    monkeypatch.setattr(journal, "MAX_ALL", -1)
    await outbox.open()
    assert not await outbox.add({"a": ENTRIES[0]})
    assert not await outbox.add({"b": ENTRIES[1]})
    assert [entry.levelname for entry in caplog.records] == ["WARNING"]
    monkeypatch.undo()
    assert await outbox.add({"b": ENTRIES[1]}), "the disk takes it again"
    await outbox.close(delete=True)
    assert list(folder.iterdir()) == []


async def test_the_journal_is_cleared_when_the_last_pending_entry_is_acknowledged(folder):
    outbox = Outbox(lambda: create_in(folder))
    await outbox.add({"a": ENTRIES[0], "b": ENTRIES[1]})
    (path,) = journal.files(folder)
    await outbox.acknowledge(["a", "never kept"])
    assert journal.read(path).entries == ENTRIES[:2]
    await outbox.acknowledge(["b"])
    assert journal.read(path).entries == []
    assert outbox.is_empty
    await outbox.close(delete=outbox.is_empty)
    assert journal.files(folder) == []


async def test_a_sync_includes_earlier_entries_that_were_not_synced(folder, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(descriptor) or fsync(descriptor))
    outbox = Outbox(lambda: create_in(folder))
    assert await outbox.add({"a": ENTRIES[0]}, sync=False)
    (path,) = journal.files(folder)
    assert journal.read(path).entries == ENTRIES[:1]
    assert synced == []
    assert await outbox.add({})
    assert len(synced) == 2, "the file, and the folder that names it"
    assert await outbox.add({})
    assert len(synced) == 2
    await outbox.close(delete=True)


async def test_a_busy_default_executor_does_not_delay_the_disk(folder):
    asking, answer = ThreadPoolExecutor(1), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(asking)
    loop.run_in_executor(None, answer.wait)
    try:
        async with asyncio.timeout(PATIENCE):
            outbox = Outbox(lambda: create_in(folder))
            assert await outbox.add({"a": ENTRIES[0]})
            await outbox.close(delete=True)
    finally:
        answer.set()


async def test_cancelling_a_slow_write_leaves_whole_lines_in_order(folder, monkeypatch):
    started, go_on = asyncio.Event(), asyncio.Event()
    loop, fsync = asyncio.get_running_loop(), os.fsync
    outbox = Outbox(lambda: create_in(folder))
    await outbox.open()

    def slow(descriptor):
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    first = asyncio.create_task(outbox.add({"a": ENTRIES[0]}))
    await started.wait()
    first.cancel()
    second = asyncio.create_task(outbox.add({"b": ENTRIES[1]}))
    third = asyncio.create_task(outbox.close(delete=False))
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second
    await third
    (path,) = journal.files(folder)
    assert journal.read(path).entries == ENTRIES[:2]
    assert not await outbox.add({"c": ENTRIES[2]}), "the call is over"


async def test_reopening_for_an_identified_guest_keeps_all_entries(folder):
    who = [UserScope(tenant_id="default", user_id="guest-1"), ROBIN]
    outbox = Outbox(lambda: create_in(folder, who[0]))
    await outbox.add({"a": ENTRIES[0]})
    who.pop(0)
    await outbox.reopen()
    (path,) = journal.files(folder)
    left = journal.read(path)
    assert left.record.scope == ROBIN
    assert left.entries == [{"op": "was", "tenant_id": "default", "user_id": "guest-1"}, ENTRIES[0]]
    await outbox.close(delete=True)
