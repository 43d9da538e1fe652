"""Several calls in one process: which calls share one, whose they are, and what ends with a process that dies."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import re
import socket
import tempfile

import pytest

from lkmongo import deadlines
from lkmongo.dispatch import plain_metadata
from lkmongo.errors import SettingsError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.worker import agent_server, shared_processes
from lkmongo.worker.agent_server import CALLS_PER_PROCESS, calls_per_process
from lkmongo.worker.shared_processes import Beginning, CallProcesses
from tests.livekit_dispatch import dispatch_server
from tests.waiting import until
from tests.worker_process import Worker, worker

OWN = Settings.load({"LKMONGO_AGENT": "house:Agent"})


def _who(name: str) -> UserScope:
    return UserScope(tenant_id="default", user_id=name)


async def _record(store, name):
    return await store.db.sessions.find_one({"session_id": f"RM_{name}"})


async def _has_spoken(store, name):
    return await store.db.turns.find_one({"session_id": f"RM_{name}", "role": "assistant"})


async def _process_of(running: Worker, job: str) -> str:
    """The process that logs the beginning of a call."""

    def found() -> set[str]:
        began = [
            line for line in running.log.splitlines() if "a session began" in line and f'"job_id": "{job}"' in line
        ]
        return {pid for line in began for pid in re.findall(r'"pid": (\d+)', line)}

    await until(found)
    (pid,) = found()
    return pid


async def test_calls_share_a_process_and_nothing_else_and_one_that_dies_takes_no_other_with_it(
    store, mongodb_uri, database_name, tmp_path
):
    environment = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name}
    async with (
        dispatch_server() as livekit,
        worker(
            tmp_path,
            livekit.environment | environment,
            *("--demo", "--port", "0", "--log-format", "json", "--calls-per-process", "2"),
        ) as running,
    ):
        await livekit.registered()
        for name in ("first", "second", "third"):
            await livekit.send(name, room=f"later-{name}", metadata=plain_metadata(_who(name)))
            await until(lambda name=name: _has_spoken(store, name))
        await livekit.send("fourth", room="remember-fourth", metadata=plain_metadata(_who("fourth")))
        assert await livekit.ended("fourth") == "JS_SUCCESS"
        held_by = {each: await _process_of(running, each) for each in ("first", "second", "third", "fourth")}
        assert len(set(held_by.values())) < 4
        assert [slot.content for slot in await store.memories.slots(_who("fourth"))] == ["teal"]
        for name in ("first", "second", "third"):
            assert await store.memories.slots(_who(name)) == []

        await livekit.send("kill", room="kill-1", metadata=plain_metadata(_who("kill")))
        assert await livekit.ended("kill") == "JS_FAILED"
        killed = await _process_of(running, "kill")
        others = [each for each in ("first", "second", "third") if held_by[each] != killed]
        assert len(others) >= 2
        (tmp_path / "they-may-leave").touch()
        for name in others:
            assert await livekit.ended(name) == "JS_SUCCESS"
            assert (await _record(store, name))["close_reason"] == "hang-up"
        await until(lambda: store.db.sessions.find_one({"session_id": "RM_kill", "status": "interrupted"}))
        await livekit.send("after", room="leave-after", metadata=plain_metadata(_who("after")))
        assert await livekit.ended("after") == "JS_SUCCESS"


# ---------------------------------------------------------------- which process


def _setup(_):
    raise AssertionError("no call begins here")


async def _nothing(_):
    """What a call here never comes to."""


@pytest.fixture
async def processes(monkeypatch):
    monkeypatch.delenv("TMPDIR", raising=False)  # the process that all are forked from outlives the tests' own folder
    monkeypatch.setattr(tempfile, "tempdir", None)
    beginning = Beginning(functools.partial(int), _setup, _nothing, _nothing, deadlines.SESSION_END)
    made = CallProcesses(2, beginning)
    yield made
    await made.close()
    assert not [each for each in multiprocessing.active_children() if each.name == "job_proc"]


@pytest.fixture
def place(processes):
    """Place a call, whose socket is closed afterwards as the worker closes it."""

    async def place():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            return await processes.place(theirs)

    return place


async def test_a_call_goes_to_the_fullest_process_that_has_room(processes, place):
    first, second, third = await place(), await place(), await place()
    assert first is second is not third
    processes.leave(first)
    assert await place() is first or await place() is first


async def test_a_process_that_has_had_many_calls_takes_no_more_and_ends_with_its_last(processes, place, monkeypatch):
    monkeypatch.setattr(shared_processes, "MAX_CALLS_EVER", 2)
    first = await place()
    await place()
    processes.leave(first)
    second = await place()
    assert second is not first
    assert not first.has_ended.is_set()
    processes.leave(first)
    assert await asyncio.to_thread(first.has_ended.wait, 60)
    assert first.exit_code == 0
    assert not first.has_died()


async def test_a_process_that_was_killed_takes_no_more(processes, place):
    first = await place()
    first.process.kill()
    assert await asyncio.to_thread(first.has_ended.wait, 60)
    assert first.has_died()
    assert await place() is not first
    processes.leave(first)


# ---------------------------------------------------------------- how many


def test_an_agent_of_ones_own_has_its_process_to_itself_unless_it_is_wanted_otherwise():
    assert calls_per_process(Settings.load({}), None) == CALLS_PER_PROCESS
    assert calls_per_process(OWN, None) == 1
    assert calls_per_process(OWN, 5) == 5
    assert calls_per_process(Settings.load({}), 1) == 1


def test_elsewhere_than_on_linux_no_process_is_shared(monkeypatch):
    monkeypatch.setattr(agent_server.sys, "platform", "darwin")
    assert calls_per_process(Settings.load({}), None) == 1
    with pytest.raises(SettingsError, match="--calls-per-process is 3, which is possible on Linux only"):
        calls_per_process(Settings.load({}), 3)
