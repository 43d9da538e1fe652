"""More callers than a worker is ready for, or takes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from livekit import rtc

from lkmongo.model import UserScope

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT


def _who(number: int) -> UserScope:
    return UserScope(tenant_id="capacity", user_id=f"u-{number}")


async def test_twelve_callers_within_six_seconds_all_get_an_agent(start_worker, records, call):
    async with start_worker("burst", {}, "--demo", "--max-calls", "20"), AsyncExitStack() as stack:
        callers = []
        for number in range(12):
            callers.append(await stack.enter_async_context(call(who=_who(number), agent_name="burst")))
            await asyncio.sleep(0.5)
        for caller in callers:
            await caller.reads("Hello", "Hi")


async def test_who_comes_when_the_worker_is_full_is_served_when_another_caller_leaves(start_worker, records, call):
    async with start_worker("small", {}, "--demo", "--max-calls", "1") as worker, AsyncExitStack() as stack:
        first = await stack.enter_async_context(call(who=_who(1), agent_name="small"))
        await first.reads("Hello", "Hi")
        second = await stack.enter_async_context(call(who=_who(2), agent_name="small"))
        await worker.logs("callers who wait: 1")
        assert not second.agent
        await first.hang_up()
        await second.reads("Hello", "Hi")
        assert "dispatched again" in worker.log
        assert sum(each.kind == AGENT for each in second.room.remote_participants.values()) == 1


async def test_who_came_before_any_worker_is_served_by_the_first_that_starts(start_worker, records, call):
    async with call(who=_who(3), agent_name="late") as caller:
        await asyncio.sleep(1)
        assert not caller.agent
        async with start_worker("late", {}, "--demo"):
            await caller.reads("Hello", "Hi")
