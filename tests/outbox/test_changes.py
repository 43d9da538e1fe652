"""Concurrent changes to memory and profile: the latest wins, and none is lost."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from functools import partial

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from lkmongo import backoff, deadlines
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import LastSession, SessionRecord, SessionStatus, now
from lkmongo.outbox.journal import Journal
from lkmongo.outbox.recovery import recover
from lkmongo.store.people.forget import forget
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.merge import merge
from lkmongo.store.people.users import Users
from tests.overlaps import DATABASE, GUEST, ROBIN, ROOM, SID, a_call, away, die, kinds
from tests.waiting import PATIENCE, until

READS = [(Memories, "contents"), (Users, "get")]
WRITES = [(Memories, name) for name in ("remember", "remember_if_newer", "delete")]
WRITES += [(Users, name) for name in ("set_field", "set_field_if_newer", "forget")]


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch):
    monkeypatch.setattr(backoff, "RETRY_SCHEDULE", (0.05,))


async def content(store, label):
    slot = await store.memories.recall(ROBIN, label)
    return slot and slot.content


# ---------------------------------------------------------------- what waits for MongoDB


@pytest.mark.parametrize("meanwhile", ["remembered anew", "forgotten"])
async def test_a_delayed_change_does_not_replace_a_newer_one(store, meanwhile):
    remember, forget_last_session = Memories.remember, Users.forget
    await store.users.seen(ROBIN)
    async with a_call(store, ROBIN) as call:
        await call.caller.preload()
        with away(*WRITES):
            await call.caller.remember("pet", "a heron")  # tried
            await call.caller.remember("city", "Rome")  # waits behind it
            await asyncio.sleep(0.05)
            if meanwhile == "forgotten":
                await forget_last_session(store.users, ROBIN, at=now())
            else:
                await remember(store.memories, ROBIN, "city", "Paris")
        await until(lambda: call.caller.saved == "stored")
    assert await content(store, "city") == (None if meanwhile == "forgotten" else "Paris")


async def test_a_memory_survives_an_earlier_forget_that_is_stored_late(store, monkeypatch):
    await store.memories.remember(ROBIN, "pet", "a heron")
    dropped = False

    def late(method):
        async def forgets_late(*arguments, **named):
            await asyncio.sleep(0.1)
            return await method(*arguments, **named)

        return forgets_late

    def once_in_vain(method):
        async def remembers(*arguments, **named):
            nonlocal dropped
            if not dropped:
                dropped = True
                raise DatabaseUnavailableError
            return await method(*arguments, **named)

        return remembers

    async with a_call(store, ROBIN) as call:
        await call.caller.preload()
        monkeypatch.setattr(Users, "forget", late(Users.forget))
        for name in ("remember", "remember_if_newer"):
            monkeypatch.setattr(Memories, name, once_in_vain(getattr(Memories, name)))
        await asyncio.gather(call.caller.forget("pet"), call.caller.remember("city", "Rome"))
        await until(lambda: call.caller.saved == "stored")
    assert dropped
    assert await content(store, "city") == "Rome"
    assert await content(store, "pet") is None


async def test_a_hanging_disk_without_mongodb_delays_neither_tools_nor_the_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "DISK", 0.2)
    it_works, append = threading.Event(), Journal.append

    def hang(*arguments, **named):
        it_works.wait()
        append(*arguments, **named)

    async with a_call(store, ROBIN, tmp_path) as call:
        await call.caller.preload()
        monkeypatch.setattr(Journal, "append", hang)
        tool, end, tasks = partial(call.caller.remember, "city", "Rome"), partial(call.caller.flush, 1.0), []
        try:
            with away(*WRITES):
                # Not `asyncio.timeout`: what waits for the disk may wait on when it is cancelled.
                for work in (tool, end):
                    tasks.append(asyncio.create_task(work()))
                    await asyncio.wait(tasks, timeout=PATIENCE)
                    assert tasks[-1].done()
                    assert call.caller.saved == "not saved"
        finally:
            it_works.set()
            await asyncio.gather(*tasks)


async def test_a_slot_forgotten_during_loading_does_not_come_back(store, monkeypatch):
    await store.memories.remember(ROBIN, "pet", "a heron")
    await store.users.set_last_session(ROBIN, LastSession(now(), "about the heron"), started_at=now())
    contents, get = Memories.contents, Users.get
    are_read, is_forgotten = asyncio.Event(), asyncio.Event()

    async def notes_that_they_are_read(*arguments):
        slots = await contents(*arguments)
        are_read.set()
        return slots

    async def comes_late(*arguments):
        await is_forgotten.wait()
        return await get(*arguments)

    monkeypatch.setattr(Memories, "contents", notes_that_they_are_read)
    monkeypatch.setattr(Users, "get", comes_late)
    async with a_call(store, ROBIN) as call:
        loading = asyncio.create_task(call.caller.preload())
        await are_read.wait()
        await call.caller.forget("pet")
        await until(lambda: call.caller.saved == "stored")
        is_forgotten.set()
        await loading
        await until(lambda: call.caller.loaded)
        await call.caller.refresh()
        assert call.caller.slots == {}
        assert call.caller.profile.last_session is None
    assert await content(store, "pet") is None


# ---------------------------------------------------------------- a guest becomes a person


async def test_a_guests_memory_does_not_replace_a_newer_one_of_the_person(store):
    async with a_call(store, GUEST, guest=True) as call:
        await call.caller.remember("city", "Rome")
        await asyncio.sleep(0.05)
        await store.memories.remember(ROBIN, "city", "Paris")
        await call.identify(ROBIN)
        await until(lambda: call.caller.loaded and call.caller.saved == "stored")
        assert call.caller.slots["city"].content == "Paris"
    assert await content(store, "city") == "Paris"


async def recognised_at_the_end(store, folder, monkeypatch, why):
    """A guest who tells something of themselves, and whose call ends before the person that they are is loaded."""
    contents, asked = Memories.contents, asyncio.Event()

    async def comes_late(*arguments):
        asked.set()
        if why == "MongoDB is away":
            raise DatabaseUnavailableError
        await asyncio.sleep(0.3)
        return await contents(*arguments)

    async with a_call(store, GUEST, folder, guest=True) as call:
        call.recorder.start()
        await call.caller.set_profile("name", "Ada")
        unavailable = [*READS, *WRITES, (Users, "seen")] if why == "MongoDB is away" else []
        with away(*unavailable), monkeypatch.context() as patch:
            patch.setattr(Memories, "contents", comes_late)
            await call.identify(ROBIN)
            await asked.wait()
            await call.recorder.close("hang-up", dict, alongside=call.caller.flush(2.0))
            await call.recorder.lease.release()
    await recover(store, folder, DATABASE)


WHY = ["the caller hangs up at once", "MongoDB is away"]


@pytest.mark.parametrize("why", WHY)
async def test_a_guests_profile_is_kept_if_the_session_ends_before_the_person_is_loaded(
    store, tmp_path, monkeypatch, why
):
    await recognised_at_the_end(store, tmp_path, monkeypatch, why)
    profile = await store.users.get(ROBIN)
    assert profile.name == "Ada"
    assert now() - profile.created_at < timedelta(hours=1)


@pytest.mark.parametrize("why", WHY)
async def test_a_guests_profile_does_not_overwrite_the_persons(store, tmp_path, monkeypatch, why):
    await store.users.set_field(ROBIN, "name", "Robin")
    await recognised_at_the_end(store, tmp_path, monkeypatch, why)
    assert (await store.users.get(ROBIN)).name == "Robin"


async def test_a_guests_memories_are_journaled_once_they_are_identified(store, tmp_path):
    async with a_call(store, GUEST, tmp_path, guest=True) as call:
        call.recorder.start()
        await call.caller.remember("city", "Rome")
        with away(*READS, *WRITES):
            await call.identify(ROBIN)
            await until(lambda: "remember" in kinds(tmp_path))
            await die(call.recorder, call.caller)
    await recover(store, tmp_path, DATABASE)
    assert await content(store, "city") == "Rome"


# ---------------------------------------------------------------- what is forgotten from outside the call


async def test_a_slot_forgotten_before_there_is_a_profile_does_not_come_back(store, tmp_path):
    began = now() - timedelta(minutes=5)
    record = SessionRecord(SID, ROBIN, ROOM, SessionStatus.ACTIVE, began)
    left = Journal.create(tmp_path, record, owner="elsewhere/boot/1", database=DATABASE)
    left.append([{"op": "remember", "label": "pet", "content": "a heron", "at": began}])
    left.close(delete=False)
    await forget(store, ROBIN, ["pet"])
    await recover(store, tmp_path, DATABASE)
    assert await content(store, "pet") is None


async def test_a_merge_does_not_restore_a_gist_that_is_forgotten_meanwhile(store, monkeypatch):
    await store.users.set_last_session(ROBIN, LastSession(now(), "about the heron"), started_at=now())
    await store.users.set_field(GUEST, "name", "Ada")
    await store.memories.remember(GUEST, "city", "Rome")
    find_one = AsyncCollection.find_one

    async def then_forgotten(collection, *arguments, **named):
        found = await find_one(collection, *arguments, **named)
        if collection.name == "users" and arguments[:1] == (ROBIN.filter,) and "session" in named:
            monkeypatch.setattr(AsyncCollection, "find_one", find_one)
            await forget(store, ROBIN, ["pet"])
        return found

    monkeypatch.setattr(AsyncCollection, "find_one", then_forgotten)
    await merge(store.db, GUEST, ROBIN, atomic=False)
    assert AsyncCollection.find_one is find_one, "something was forgotten"
    profile = await store.users.get(ROBIN)
    assert (profile.name, profile.last_session) == ("Ada", None)
