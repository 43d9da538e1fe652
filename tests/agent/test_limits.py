"""What one caller may: each bound is told in a sentence, what was accepted stays, and the record says how often."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from livekit.agents import ToolError
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.testing import fake_job_context

from lkmongo.agent import limits as bounds
from lkmongo.agent.assistant import Assistant
from lkmongo.agent.limits import (
    CALL_LIMIT,
    ONE_MINUTE_LEFT,
    TIME_IS_UP,
    TIME_LIMIT,
    TOO_FAST,
    TOO_MANY_CALLS,
    Allowance,
    CallWatch,
)
from lkmongo.agent.tools import BoundTools
from lkmongo.errors import DatabaseUnavailableError, LimitError
from lkmongo.memory.lifetime import Lifetime
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.tenants import Limits
from tests.fake_llm import ScriptedLLM
from tests.talk import calling, talking
from tests.voice import voice_call
from tests.waiting import until
from tests.web_server import CREDENTIALS

ROBIN = UserScope(tenant_id="default", user_id="u-100")
KIM = UserScope(tenant_id="default", user_id="u-200")
CONTEXT: Any = SimpleNamespace()


@pytest.fixture(autouse=True)
def _waits_for_mongodb(monkeypatch) -> None:
    """A change that waits for a busy machine is not in a journal here, and would count as not saved."""
    monkeypatch.setattr("lkmongo.deadlines.ACKNOWLEDGED", 60)


@asynccontextmanager
async def bounded(store, scope=ROBIN, **limits: Any):
    """A call in a room of somebody with these limits."""
    async with calling(store, scope) as call:
        allowance = call.caller.allowance = Allowance(Limits(**limits))
        allowance.is_call = True
        call.recorder.facts["limits"] = allowance.report
        await call.caller.preload(deadline=60)
        yield call


async def slot_labels(store) -> set[str]:
    return {slot.memory_type for slot in await store.memories.slots(ROBIN)}


async def report(store) -> Any:
    return (await store.sessions.get(ROBIN, "console-test")).report.get("limits")


async def test_changes_of_a_call_are_bounded_and_those_made_are_stored(store):
    async with bounded(store, changes=3) as call:
        tools = BoundTools(call)
        for number in range(2):
            await tools.remember_detail(CONTEXT, f"fact {number}", "x")
        await tools.update_profile(CONTEXT, "name", "Robin")
        for number in range(5):
            with pytest.raises(ToolError, match=r"^I have changed 3 things in this call, .* in another call\.$"):
                await tools.remember_detail(CONTEXT, f"more {number}", "x")
        with pytest.raises(ToolError, match=r"^I have changed 3 things"):
            await tools.update_profile(CONTEXT, "name", "Kim")
        assert "forgotten" in await tools.forget_detail(CONTEXT, "fact 0"), "which is nobody's to refuse"
    assert await slot_labels(store) == {"fact_1"}
    assert (await store.users.get(ROBIN)).name == "Robin"
    assert await report(store) == {"changes": 6}


async def test_what_is_invalid_or_no_call_in_a_room_counts_for_nothing(store):
    async with bounded(store, changes=1) as call:
        for content in ("", "my PIN is 4711"):
            with pytest.raises(ToolError):
                await BoundTools(call).remember_detail(CONTEXT, "pin", content)
        call.caller.allowance.is_call = False
        for number in range(3):
            await call.remember(f"fact {number}", "x")
    assert await report(store) is None


async def test_who_has_more_memories_than_new_callers_may_keeps_them_and_gets_no_new_ones(store):
    for number in range(4):
        await store.memories.remember(ROBIN, f"fact {number}", "x")
    async with bounded(store, slots=3) as call:
        assert len(call.facts) == 4
        with pytest.raises(LimitError, match="I remember 4 things about you, and cannot take in more"):
            await call.remember("fact 4", "x")
        await call.remember("fact 0", "another value")
        await call.forget("fact 1")
        await call.forget("fact 2")
        await call.remember("fact 5", "x")
    assert await slot_labels(store) == {"fact_0", "fact_3", "fact_5"}
    assert await report(store) == {"slots": 1}


async def test_the_text_of_a_person_is_bounded_in_bytes(store):
    async with bounded(store, bytes=10_000) as call:
        await call.remember("a", "\u20ac" * 3_000)  # 9,000 bytes
        with pytest.raises(LimitError, match="there is no room for that"):
            await call.remember("b", "x" * 1_500)
        await call.remember("b", "x" * 900)
        with pytest.raises(LimitError):
            await call.remember("b", "x" * 1_500)
        await call.remember("a", "less")
        await call.remember("b", "x" * 1_500)
    assert await report(store) == {"bytes": 2}


async def test_what_is_said_too_fast_is_refused_without_asking_the_model_until_a_minute_is_over(store, monkeypatch):
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(bounds, "time", SimpleNamespace(monotonic=lambda: clock.now))
    async with bounded(store, messages=2) as call:
        model = ScriptedLLM(lambda _: ["Yes."])
        async with talking(call, model, Assistant()) as held:
            answers = [await held.say(f"question {number}") for number in range(4)]
            before = len(model.contexts)
            clock.now += 61
            answers.append(await held.say("question 4"))
    assert answers[0] == answers[1] == answers[4] == "Yes."
    assert answers[3] == TOO_FAST
    assert before <= 1 + 3
    assert len(model.contexts) == before + 1
    assert TOO_FAST in [turn.content for turn in await store.sessions.turns(ROBIN, "console-test")]
    assert (await report(store))["messages"] >= 1


async def test_by_voice_as_well(store):
    async with bounded(store, messages=1) as call, voice_call(call, ScriptedLLM(lambda _: ["Yes."])) as voice:
        await voice.answered(1)
        for number in range(3):
            await voice.hear(f"question number {number}")
            await until(lambda n=number: len(voice.session.history.messages()) >= 3 + 2 * n)
        assert voice.session.history.messages()[-1].text_content == TOO_FAST


# ---------------------------------------------------------------------- a call as a whole


@pytest.fixture
def watched(store, monkeypatch):
    """Watch a call of which the last second is a minute; returns what it was told, and the reason it was ended for."""
    monkeypatch.setattr(bounds, "WARNED_BEFORE", timedelta(seconds=0.2))

    @asynccontextmanager
    async def watch(call, model=None, **limits: Any):
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with talking(call, model or ScriptedLLM(lambda _: ["Hello."]), Assistant()) as held:
            call.recorder.start()
            watching = CallWatch(held.session, store, lambda: call.recorder.lease, Limits(**limits), ended.set_result)
            yield held, ended
            watching.stop()

    return watch


def said(held: Any) -> list[str]:
    return [item.text_content for item in held.session.history.messages() if item.role == "assistant"]


async def test_a_call_that_lasts_too_long_is_warned_and_ended_with_a_sentence(store, watched):
    async with calling(store, ROBIN) as call, watched(call, call_length=timedelta(seconds=0.5)) as (held, ended):
        assert await asyncio.wait_for(ended, 60) == TIME_LIMIT
        assert said(held)[-2:] == [ONE_MINUTE_LEFT, TIME_IS_UP]
    assert TIME_IS_UP in [turn.content for turn in await store.sessions.turns(ROBIN, "console-test")]


async def test_a_call_that_another_agent_continues_is_not_longer_for_that(store, watched):
    async with calling(store, ROBIN) as call:
        call.recorder.lease.backdate(now() - timedelta(minutes=10))
        async with watched(call, call_length=timedelta(minutes=9)) as (_, ended):
            assert await asyncio.wait_for(ended, 60) == TIME_LIMIT


async def other_call(store, scope=ROBIN, *, name: str, ago: float, alive: bool = True, livekit: str | None = "here"):
    record = SessionRecord(name, scope, "room", SessionStatus.ACTIVE, now() - timedelta(seconds=ago), livekit=livekit)
    await store.sessions.open(record, "owner")
    if not alive:
        await store.db.sessions.update_one(
            {"session_id": name}, {"$set": {"lease.until": now() - timedelta(seconds=1)}}
        )


async def test_a_call_too_many_is_ended_and_the_earlier_ones_stay(store, watched, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.CALLS_COUNTED", 0.1)
    await other_call(store, name="first", ago=60)
    await other_call(store, name="second", ago=30)
    async with calling(store, ROBIN) as call, watched(call, calls=2) as (held, ended):
        assert await asyncio.wait_for(ended, 60) == CALL_LIMIT
        assert said(held)[-1] == TOO_MANY_CALLS


async def test_only_the_caller_s_own_calls_that_go_on_and_began_before_count(store):
    began = now()
    await other_call(store, name="died", ago=60, alive=False)
    await other_call(store, name="later", ago=-5)
    await other_call(store, KIM, name="kim", ago=60)
    await other_call(store, UserScope(tenant_id="other", user_id=ROBIN.user_id), name="elsewhere", ago=60)
    await other_call(store, name="console", ago=60, livekit=None)
    await other_call(store, name="this", ago=60)
    within = timedelta(hours=2)
    assert await store.sessions.calls_before(ROBIN, "this", began, within=within) == 0
    await other_call(store, name="another", ago=60)
    assert await store.sessions.calls_before(ROBIN, "this", began, within=within) == 1


async def test_of_calls_that_begin_at_once_the_first_by_their_ids_stay(store):
    began = now()
    for name in "abcde":
        record = SessionRecord(name, ROBIN, "room", SessionStatus.ACTIVE, began, livekit="here")
        await store.sessions.open(record, "owner")
    counts = [await store.sessions.calls_before(ROBIN, each, began, within=timedelta(hours=2)) for each in "abcde"]
    assert counts == [0, 1, 2, 3, 4]


async def test_who_calls_again_after_a_call_that_died_is_not_shut_out_and_nor_is_anybody_without_mongodb(
    store, watched, monkeypatch
):
    monkeypatch.setattr("lkmongo.deadlines.CALLS_COUNTED", 0.1)
    monkeypatch.setattr(bounds, "retry_pause", lambda _: 0.01)
    counted = []
    count = store.sessions.calls_before

    async def counting(*call: Any, **more: Any) -> int:
        if not counted:
            counted.append(None)
            raise DatabaseUnavailableError
        counted.append(await count(*call, **more))
        return counted[-1]

    monkeypatch.setattr(store.sessions, "calls_before", counting)
    await other_call(store, name="died", ago=60, alive=False)
    async with calling(store, ROBIN) as call, watched(call, calls=1) as (held, ended):
        await until(lambda: len(counted) == 2)
        assert await held.say("go on") == "Hello."
        assert not ended.done()
    assert counted == [None, 0]


async def test_the_session_then_closes_with_that_reason_and_the_caller_is_taken_out_of_the_room(store, monkeypatch):
    monkeypatch.setattr("lkmongo.deadlines.CALLS_COUNTED", 0.1)
    await other_call(store, name="first", ago=60)
    async with calling(store, ROBIN) as call:
        call.caller.allowance = Allowance(Limits(calls=1))
        room = create_mock_room.__wrapped__()
        with fake_job_context(room=room) as job:
            removed = AsyncMock()
            monkeypatch.setattr("lkmongo.memory.lifetime.remove_participant", removed)
            Lifetime(call, AsyncExitStack(), job=job, participant_identity="web-1", livekit=CREDENTIALS)
            async with talking(call, ScriptedLLM(lambda _: ["Hello."]), Assistant()) as held:
                assert call.caller.allowance.is_call
                await until(lambda: removed.await_count)
                assert said(held)[-1] == TOO_MANY_CALLS
            assert removed.await_args.args[-1] == "web-1"
        await until(lambda: complete(store))
    record = await store.sessions.get(ROBIN, "console-test")
    assert record.close_reason == CALL_LIMIT


async def complete(store) -> bool:
    record = await store.sessions.get(ROBIN, "console-test")
    return record is not None and record.status is SessionStatus.COMPLETE
