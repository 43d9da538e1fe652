"""Who wants more than one caller may, through a real LiveKit server: they are told, and nothing accepted is lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from lkmongo.agent.limits import CALL_LIMIT, TOO_MANY_CALLS
from lkmongo.agent.typed_text import TOO_MANY
from lkmongo.model import UserScope
from tests.e2e.conftest import TEXT
from tests.e2e.looking import WISH
from tests.e2e.records import completed
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_thousand_messages_in_four_seconds_are_refused_in_a_sentence_and_the_record_is_complete(
    text_worker, records, call
):
    who = UserScope(tenant_id="text", user_id="u-flood")
    async with call(who=who, agent_name=TEXT) as caller:
        await caller.reads("Hello", "Hi")
        for _ in range(40):
            await asyncio.gather(*(caller.type("What is my name?") for _ in range(50)), asyncio.sleep(0.1))
        await caller.reads(TOO_MANY)
        session_id = await caller.room.sid
        await caller.hang_up()
    record, turns = await completed(records, who, session_id)
    assert record.close_reason == "hang-up"
    assert record.report["limits"] == {"messages": 1_970}
    assert sum(turn.role == "user" for turn in turns) == 30


async def test_of_five_calls_of_one_person_at_once_three_go_on_and_the_others_are_told(text_worker, records, call):
    who = UserScope(tenant_id="text", user_id="u-five")
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(call(who=who, agent_name=TEXT)) for _ in range(5)]
        for caller in callers:
            await caller.reads("Hello", "Hi")
        ids = [await caller.room.sid for caller in callers]
        await until(lambda: sum(caller.dropped.is_set() for caller in callers) == 2)
        ended = [caller.dropped.is_set() for caller in callers]
        for caller, is_ended in zip(callers, ended, strict=True):
            if is_ended:
                assert TOO_MANY_CALLS in caller.said()
            else:
                await caller.type(WISH)
                await caller.reads("favorite color: teal")
                await caller.hang_up()
    reasons = [(await completed(records, who, each))[0].close_reason for each in ids]
    assert sorted(reasons) == ["hang-up"] * 3 + [CALL_LIMIT] * 2
    assert [reason == CALL_LIMIT for reason in reasons] == ended
