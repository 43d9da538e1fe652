"""The journal holds what is pending until MongoDB has it, whatever the disk does."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope
from lkmongo.outbox import journal
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.journal_writer import JournalWriter
from lkmongo.outbox.operations import AddTurn, End, Operation, Remember
from tests.waiting import PATIENCE, until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
AT = datetime(2026, 11, 3, 12, 30, 15, 250_000, UTC)
A = AddTurn(Turn(0, "item", TurnKind.MESSAGE, AT, role="user", content="line\nbreak \u2028 and é"), numbered=True)
B = Remember(AT, "colour", "teal")
C = End("hang-up", AT, {"nested": [1, None, {"deep": 2.5}]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return journal.journal_folder(tmp_path / "home")


def create_in(folder: Path, scope: UserScope = ROBIN) -> Journal:
    record = SessionRecord("call-1", scope, "room", SessionStatus.ACTIVE, AT)
    return Journal.create(folder, record, owner="host/boot/1", database="db")


class Pending(dict[Hashable, Operation]):
    """What is pending, and its journal in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.scope = ROBIN
        self.writer = JournalWriter(self, lambda: create_in(folder, self.scope), entries)

    def put(self, *operations: Operation) -> None:
        self.update({each.key: each for each in operations})


def entries(operations):
    return [each.entry for each in operations.values()]


def on_disk(folder: Path):
    (path,) = journal.files(folder)
    return journal.read(path).entries


async def test_a_failing_disk_is_logged_once_and_retried(folder, caplog, monkeypatch):
    pending = Pending(folder)
    monkeypatch.setattr(journal, "MAX_ALL", -1)
    for operation in (A, B):
        pending.put(operation)
        await pending.writer.sync()
        assert not pending.writer.has_synced([operation])
    assert [entry.levelname for entry in caplog.records] == ["WARNING"]
    monkeypatch.undo()
    await pending.writer.sync()
    assert pending.writer.has_synced([A, B]), "the disk takes it again"
    assert on_disk(folder) == [A.entry, B.entry]
    pending.clear()
    await pending.writer.close()
    assert list(folder.iterdir()) == []


async def test_the_journal_is_cleared_when_nothing_is_pending(folder):
    pending = Pending(folder)
    pending.put(A, B)
    await pending.writer.sync()
    del pending[A.key]
    pending.writer.update()
    await asyncio.sleep(0.05)
    assert on_disk(folder) == [A.entry, B.entry]
    del pending[B.key]
    pending.writer.update()
    await until(lambda: on_disk(folder) == [])
    await pending.writer.close()
    assert journal.files(folder) == []


async def test_a_journal_of_what_is_pending_is_left_when_it_is_closed(folder):
    pending = Pending(folder)
    pending.put(A, B)
    await pending.writer.close()
    assert journal.files(folder) == [], "nothing was written, and after the end no journal is created"
    pending = Pending(folder)
    pending.writer.update()
    await until(lambda: journal.files(folder))
    pending.put(C)
    pending.writer.update()
    await pending.writer.close()
    assert on_disk(folder) == [C.entry]


async def test_a_sync_includes_earlier_operations_that_were_not_synced(folder, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(descriptor) or fsync(descriptor))
    pending = Pending(folder)
    pending.put(A)
    pending.writer.update()
    await until(lambda: journal.files(folder) and on_disk(folder) == [A.entry])
    assert synced == []
    await pending.writer.sync()
    assert len(synced) == 2, "the file, and the folder that names it"
    await pending.writer.sync()
    assert len(synced) == 2
    pending.clear()
    await pending.writer.close()


async def test_a_busy_default_executor_does_not_delay_the_disk(folder):
    asking, answer = ThreadPoolExecutor(1), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(asking)
    loop.run_in_executor(None, answer.wait)
    try:
        async with asyncio.timeout(PATIENCE):
            pending = Pending(folder)
            pending.put(A)
            await pending.writer.sync()
            assert pending.writer.has_synced([A])
            await pending.writer.close()
    finally:
        answer.set()


async def test_giving_up_a_slow_write_leaves_whole_lines_in_order(folder, monkeypatch):
    started, go_on = asyncio.Event(), asyncio.Event()
    loop, fsync = asyncio.get_running_loop(), os.fsync
    pending = Pending(folder)

    def slow(descriptor):
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    pending.put(A)
    first = asyncio.create_task(pending.writer.sync())
    await started.wait()
    first.cancel()
    pending.put(B)
    second = asyncio.create_task(pending.writer.sync())
    await asyncio.sleep(0)
    third = asyncio.create_task(pending.writer.close())
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.gather(second, third)
    assert on_disk(folder) == [A.entry, B.entry]
    pending.put(C)
    await pending.writer.sync()
    assert on_disk(folder) == [A.entry, B.entry], "the session is over"


async def test_what_is_pending_is_in_the_new_journal_before_the_previous_one_is_deleted(folder, monkeypatch):
    pending = Pending(folder)
    pending.scope = UserScope(tenant_id="default", user_id="guest-1")
    pending.put(A)
    await pending.writer.sync()
    close, left = Journal.close, []

    def closes(before, delete):
        left.append((before.path, delete, [journal.read(path).entries for path in journal.files(folder)]))
        close(before, delete)

    monkeypatch.setattr(Journal, "close", closes)
    (guests,) = journal.files(folder)
    pending.scope = ROBIN
    pending.put(B)
    pending.writer.begin_anew()
    await pending.writer.sync()
    (path,) = journal.files(folder)
    assert journal.read(path).record.scope == ROBIN
    assert on_disk(folder) == [A.entry, B.entry]
    (deleted,) = left
    assert deleted[:2] == (guests, True)
    assert [A.entry, B.entry] in deleted[2]
    pending.clear()
    await pending.writer.close()


async def test_without_a_new_journal_the_previous_one_is_left_for_recovery(folder, monkeypatch):
    pending = Pending(folder)
    pending.put(A)
    await pending.writer.sync()
    pending.writer.begin_anew()
    monkeypatch.setattr(Journal, "create", partial(create_nothing))
    await pending.writer.sync()
    assert not pending.writer.has_synced([A])
    await pending.writer.close()
    assert on_disk(folder) == [A.entry]


def create_nothing(*_, **__):
    raise journal.JournalError("the disk is full")
