"""The worker: real job processes, from dispatch to the record of a session, and every way they end."""

from __future__ import annotations

import json
import signal

import pytest
from aiohttp.test_utils import TestServer

from lkmongo.dispatch import plain_metadata, sealed_metadata
from lkmongo.model import UserScope
from tests.livekit_api import SECRET
from tests.livekit_dispatch import dispatch_server
from tests.openai_server import create_app
from tests.waiting import until
from tests.worker_process import worker

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="acme", user_id="u-100")


@pytest.fixture
def environment(mongodb_uri, database_name):
    return {"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name}


@pytest.fixture(params=["1", "4"])
def sharing(request):
    """How many calls share a process."""
    return "--calls-per-process", request.param


async def call_of(store, session_id):
    """The session document of a job, whosever it is."""
    return await store.db.sessions.find_one({"session_id": f"RM_{session_id}"})


async def test_each_session_is_its_callers_and_a_signal_to_the_group_loses_none(store, environment, tmp_path, sharing):
    sealed = sealed_metadata(KIM, room="remember-kim", participant_identity="mock_user", secret=SECRET)
    elsewhere = sealed_metadata(KIM, room="another room", participant_identity="mock_user", secret=SECRET)
    strangers = {"list": "[]", "null": "null", "text": "abc", "number": '{"user_id": 42}', "seal": elsewhere}
    strangers["operator"] = '{"user_id": {"$gt": ""}}'
    async with (
        dispatch_server() as livekit,
        worker(
            tmp_path,
            livekit.environment | environment,
            *("--demo", "--port", "0", "--log-format", "json", "--drain-timeout", "1s", *sharing),
        ) as process,
    ):
        assert await livekit.registered() == "lkmongo-agent"

        # A person by plain metadata hangs up; another of the same id, of another tenant, comes sealed.
        await livekit.send("robin", room="remember-robin", metadata=plain_metadata(ROBIN))
        await livekit.send("kim", room="remember-kim", metadata=sealed)
        assert await livekit.ended("robin") == await livekit.ended("kim") == "JS_SUCCESS"
        for scope, session_id in ((ROBIN, "RM_robin"), (KIM, "RM_kim")):
            record = await store.sessions.get(scope, session_id)
            assert (record.status, record.close_reason) == ("complete", "hang-up")
            assert record.report["job_id"] == session_id.removeprefix("RM_")
            turns = await store.sessions.turns(scope, session_id)
            assert [turn.name for turn in turns if turn.name] == ["remember_detail", "recall_detail"]
            assert turns[-1].content == "Your favorite color: teal."
            assert [slot.content for slot in await store.memories.slots(scope)] == ["teal"]

        # The same room once more: the record goes on, and what was said before is still there.
        await livekit.send("again", room="leave-robin", sid="RM_robin", metadata=plain_metadata(ROBIN))
        await livekit.ended("again")
        more = await store.sessions.turns(ROBIN, "RM_robin")
        assert [turn.seq for turn in more] == list(range(len(turns) + 1))
        assert [turn.content for turn in more[: len(turns)]] == [turn.content for turn in turns]

        # Whoever cannot be told is a guest, and nothing of theirs is anybody's.
        for name, metadata in strangers.items():
            await livekit.send(name, room=f"leave-{name}", metadata=metadata)
            await livekit.ended(name)
            assert (await call_of(store, name))["user_id"].startswith("guest-")
        await livekit.send("crash", room="crash-1", metadata=plain_metadata(ROBIN))
        await livekit.ended("crash")
        assert (await call_of(store, "crash"))["close_reason"] == "crash"
        await livekit.send("finish", room="finish-1")
        await livekit.ended("finish")
        assert (await call_of(store, "finish"))["close_reason"] == "agent"

        for name in ("one", "two"):
            await livekit.send(name, room=f"stay-{name}")
        await said(store, "one", "two")
        process.signal(signal.SIGTERM, group=True)
        process.signal(signal.SIGTERM)  # as `timeout` does; not a second wish to end
        await process.logs("draining 2 sessions")
        assert await process.ended() == 0
    for name in ("one", "two"):
        document = await call_of(store, name)
        assert (document["status"], document["close_reason"]) == ("complete", "shutdown")
        assert document["report"]["job_id"] == name
    assert not [line for line in process.log.splitlines() if not line.startswith("{")]
    lines = [json.loads(line) for line in process.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in lines))
    assert [line["logger"] for line in lines if line["message"] == "registered worker"] == ["livekit.agents"]
    guests = [line["message"] for line in lines if "is a guest" in line["message"]]
    assert len(guests) == len(strangers)
    assert not any(secret in process.log for secret in (SECRET, "teal", "$gt"))


async def test_a_signal_drains_sessions_and_a_second_one_stops_at_once(store, environment, tmp_path, sharing):
    async with (
        dispatch_server() as livekit,
        worker(
            tmp_path, livekit.environment | environment, "--demo", "--port", "0", "--drain-timeout", "10m", *sharing
        ) as process,
    ):
        await livekit.registered()
        await livekit.send("short", room="later-1")
        await livekit.send("long", room="stay-1")
        await said(store, "short", "long")
        process.signal(signal.SIGTERM)
        await process.logs("draining 2 sessions; they have 600 s")
        (tmp_path / "they-may-leave").touch()
        await livekit.ended("short")
        assert (await call_of(store, "short"))["close_reason"] == "hang-up"
        assert (await call_of(store, "long"))["status"] == "active"
        assert await process.ended(by=signal.SIGTERM) == -signal.SIGTERM


async def test_a_killed_or_suspended_job_loses_nothing(store, environment, tmp_path):
    async with (
        dispatch_server() as livekit,
        worker(tmp_path, livekit.environment | environment, "--demo", "--port", "0"),
    ):
        await livekit.registered()
        await livekit.send("block", room="block-1", metadata=plain_metadata(KIM))
        await livekit.send("kill", room="kill-1", metadata=plain_metadata(ROBIN))
        await livekit.ended("kill")
        await said(store, "kill")
        await until(lambda: store.db.sessions.find_one({"session_id": "RM_kill", "status": "interrupted"}))
        await livekit.ended("block")
    record = await store.sessions.get(KIM, "RM_block")
    assert (record.status, record.close_reason) == ("complete", "hang-up")
    assert [turn.role for turn in await store.sessions.turns(KIM, "RM_block")] == ["assistant"]


@pytest.mark.parametrize("asked", [False, True])
async def test_in_text_the_event_loop_is_watched_only_when_that_is_asked_for(environment, tmp_path, asked):
    """LiveKit's monitor costs as much as all else that a process does while nobody says anything."""
    wish = {"LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS": "100"} if asked else {}
    async with (
        dispatch_server() as livekit,
        worker(tmp_path, livekit.environment | environment | wish, "--demo", "--dev", "--port", "0"),
    ):
        await livekit.registered()
        await livekit.send("one", room="threads-1")
        await livekit.ended("one")
    assert ("livekit-loop-monitor-job" in (tmp_path / "threads").read_text().splitlines()) == asked


async def test_a_language_model_of_ones_own_answers(store, environment, tmp_path):
    async with (
        TestServer(create_app()) as model,
        dispatch_server() as livekit,
        worker(
            tmp_path,
            livekit.environment | environment | {"LKMONGO_LLM_BASE_URL": str(model.make_url("/v1"))},
            *("--port", "0"),
        ),
    ):
        await livekit.registered()
        await livekit.send("robin", room="leave-robin", metadata=plain_metadata(ROBIN))
        assert await livekit.ended("robin") == "JS_SUCCESS"
    (greeting,) = await store.sessions.turns(ROBIN, "RM_robin")
    assert greeting.content == "Welcome."


async def said(store, *names):
    """Wait until the calls have been greeted, and that is stored."""
    for name in names:
        await until(lambda name=name: store.db.turns.find_one({"session_id": f"RM_{name}"}))
