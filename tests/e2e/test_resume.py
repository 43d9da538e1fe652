"""Calls whose worker is killed go on with another one's agent, through a real LiveKit server."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import AsyncExitStack

import pytest

from lkmongo.model import TenantScope, UserScope
from tests.e2e.caller import PATIENCE
from tests.e2e.looking import WISH
from tests.e2e.records import completed

pytestmark = pytest.mark.asyncio(loop_scope="session")

logger = logging.getLogger("e2e")
AGENT = "resuming-agent"
QUESTION = "What is my favorite color?"


async def test_when_the_worker_of_a_call_is_killed_another_ones_agent_goes_on(start_worker, records, call):
    person = UserScope(tenant_id="resuming", user_id="u-100")
    async with AsyncExitStack() as stack:
        starting = (stack.enter_async_context(start_worker(AGENT, {}, "--demo")) for _ in range(3))
        workers = list(await asyncio.gather(*starting))
        for who in (person, TenantScope("resuming")):  # a person, and a guest
            async with call(agent_name=AGENT, who=who) as caller:
                await caller.reads("Hello", "Hi")
                await caller.type(WISH)
                await caller.reads("favorite color: teal")
                session_id = await caller.room.sid
                await four_turns(records, session_id)
                (holder,) = (each for each in workers if caller.room.name in each.log)
                workers.remove(holder)
                holder.signal(signal.SIGKILL, group=True)
                await another_speaks(caller)
                assert any("the session resumes after 4 turns" in each.log for each in workers)
                assert not caller.said()[-1].startswith(("Hello", "Hi")), "it greets again"
                if who is person:  # what a guest said is nowhere but in the conversation
                    await caller.type(QUESTION)
                    await caller.reads("favorite color is teal", "Your favorite color")
                await caller.hang_up()
            document = await records.db.sessions.find_one({"session_id": session_id})
            scope = UserScope(tenant_id=document["tenant_id"], user_id=document["user_id"])
            assert scope.is_guest is (who is not person)
            record, turns = await completed(records, scope, session_id)
            assert record.close_reason == "hang-up"
            roles = ["assistant", "user", "remember_detail", "assistant", "assistant"]
            assert [turn.role or turn.name for turn in turns][:5] == roles
            assert len(turns) > 5 or who is not person
            assert [turn.seq for turn in turns] == list(range(len(turns)))
            assert [turn.created_at for turn in turns] == sorted(turn.created_at for turn in turns)
            assert await records.db.sessions.count_documents({"session_id": session_id}) == 1


async def another_speaks(caller):
    """Wait until another agent is there, and has said something."""
    before, said, began = caller.agent.identity, len(caller.said()), time.monotonic()
    await caller.until(lambda: caller.agent and caller.agent.identity != before)
    await caller.until(lambda: len(caller.said()) > said and caller.agent_state == "listening")
    logger.info("another agent has spoken after %.1f s", time.monotonic() - began)


async def four_turns(records, session_id):
    """Wait until the greeting, the wish, the tool and the answer are stored."""
    async with asyncio.timeout(PATIENCE):
        while await records.db.turns.count_documents({"session_id": session_id}) < 4:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)
