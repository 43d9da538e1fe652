"""A worker of somebody else's: setup_fnc=Memory.prewarm, and each way in which its jobs end."""

from __future__ import annotations

import signal
from functools import partial

import pytest

import lkmongo
from lkmongo.dispatch import plain_metadata
from lkmongo.model import UserScope
from tests.livekit_dispatch import dispatch_server
from tests.waiting import until
from tests.worker_process import worker

ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture
async def plain(store, mongodb_uri, database_name, home, tmp_path):
    """The server that sends jobs, and the worker that takes them."""
    environment = {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name, "LKMONGO_HOME": str(home)}
    async with (
        dispatch_server() as livekit,
        worker(tmp_path, livekit.environment | environment, program="tests.plain_worker") as process,
    ):
        assert await livekit.registered() == "plain"
        yield livekit, process


async def record_of(store, job_id):
    """The session document of a job, whosever it is, when it has ended."""
    await until(lambda: store.db.sessions.find_one({"session_id": f"RM_{job_id}", "ended_at": {"$exists": True}}))
    return await store.db.sessions.find_one({"session_id": f"RM_{job_id}"})


async def test_a_session_is_recorded_however_its_job_ends(store, plain, tmp_path):
    livekit, process = plain
    for name, reason in {"close": "agent", "shutdown": "shutdown", "crash": "crash"}.items():
        await livekit.send(name, room=f"{name}-1", metadata=plain_metadata(ROBIN))
        record = await record_of(store, name)
        assert (record["user_id"], record["status"], record["close_reason"]) == ("u-100", "complete", reason), name
        # Given up after the last write, a round trip behind the end.
        await until(partial(store.db.sessions.find_one, {"_id": record["_id"], "lease": {"$exists": False}}))
        assert ("report" in record and record["report"].get("job_id")) == (None if name == "crash" else name)
        (tmp_path / "they-may-end").touch()  # the record of the first was complete before its job was over
        await livekit.ended(name)
    turns = await store.sessions.turns(ROBIN, "RM_close")
    assert [(turn.role or turn.name, turn.content) for turn in turns] == [
        ("assistant", "Hello."),
        ("user", "my favorite color is teal"),
        ("remember_detail", None),
        ("assistant", "You like teal."),
    ]
    # The second session was briefed with what the first was told.
    assert (await store.sessions.turns(ROBIN, "RM_shutdown"))[0].content == "You like teal."
    await livekit.send("stay", room="stay-1", metadata=plain_metadata(ROBIN))
    await until(lambda: store.db.turns.find_one({"session_id": "RM_stay", "seq": 3}))
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert (await record_of(store, "stay"))["close_reason"] == "shutdown"


async def test_a_killed_job_is_recorded_by_the_next_memory_that_opens(
    store, plain, mongodb_uri, database_name, home, tmp_path
):
    livekit, process = plain
    await livekit.send("kill", room="kill-1", metadata=plain_metadata(ROBIN))
    await until((tmp_path / "said").exists)
    process.signal(signal.SIGSTOP)  # its other processes would do it
    (tmp_path / "kill").touch()
    async with lkmongo.Memory(mongodb_uri=mongodb_uri, mongodb_db=database_name, home=home) as memory:
        record = await record_of(store, "kill")
        assert (record["status"], record["close_reason"]) == ("interrupted", "killed")
        turns = await memory.sessions.turns("RM_kill", user_id="u-100")
        assert [turn.content for turn in turns if turn.role == "user"] == ["my favorite color is teal"]
        assert [fact.content for fact in await memory.people.facts("u-100")] == ["teal"]
