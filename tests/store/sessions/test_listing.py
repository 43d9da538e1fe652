"""Sessions as operators list them, and what their turns add up to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from lkmongo.errors import InvalidIdError, NotFoundError, UsageError
from lkmongo.model import SessionStatus, UserScope
from lkmongo.store.sessions import listing
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.store.sessions.search import search
from lkmongo.store.sessions.stats import SessionStats
from tests.fake_llm import calls as scripted
from tests.session_documents import BEGAN, said, session, used
from tests.talk import talk

MINUTE = timedelta(minutes=1)


async def ids(store, **wanted) -> list[str]:
    return [record.session_id for record in await listing.newest(store.db, SessionFilter(**wanted))]


async def test_a_list_is_newest_first_and_of_one_tenant(store):
    await store.db.sessions.insert_many(
        [session(f"s-{number}", started_at=BEGAN + number * MINUTE) for number in (1, 3, 2)]
        + [session("other", tenant="acme")]
    )
    assert await ids(store) == ["s-3", "s-2", "s-1"]
    assert await ids(store, tenant_id="acme") == ["other"]
    assert set(await ids(store, tenant_id=None)) == {"s-1", "s-2", "s-3", "other"}


async def test_a_list_is_narrowed_by_person_time_status_and_length(store):
    await store.db.sessions.insert_many(
        [
            session("early", started_at=BEGAN - timedelta(days=1), ended_at=BEGAN - timedelta(days=1) + 9 * MINUTE),
            session("now", user="v"),
            session("cut off", status="interrupted", ended_at=BEGAN + 3 * MINUTE),
            session("open", status="active", ended_at=None),
        ]
    )
    assert await ids(store, user_id="v") == ["now"]
    assert await ids(store, since=BEGAN) == ["now", "cut off", "open"]
    assert await ids(store, until=BEGAN) == ["early"]
    assert await ids(store, status=SessionStatus.INTERRUPTED) == ["cut off"]
    assert await ids(store, min_length=3 * MINUTE) == ["cut off", "early"]
    assert await ids(store, min_length=MINUTE, max_length=3 * MINUTE) == ["now", "cut off"]
    assert await listing.count(store.db, SessionFilter(max_length=3 * MINUTE)) == 2


async def test_a_call_tells_what_its_turns_sum_up_to(store):
    open_session = session("open", status="active", ended_at=None)
    mine, others = session("same"), session("same", user="v")
    await store.db.sessions.insert_many([open_session, mine, others])
    await store.db.turns.insert_many(
        [
            said(0, "hi", of=mine, metrics={"llm_node_ttft": 0.5}),
            said(9, "hello", of=mine, role="assistant", metrics={"e2e_latency": 2.5, "llm_node_ttft": 9}),
            used(10, "lookup_order", of=mine, is_error=True),
            said(70, "still there?", of=open_session),
        ]
    )
    found = {(each.session_id, each.scope.user_id): each for each in await listing.newest(store.db, SessionFilter())}
    record, none = found["same", "u"], found["same", "v"].totals
    assert (record.totals.turns, record.totals.tool_errors, record.totals.slowest) == (3, 1, 2.5)
    assert record.length == MINUTE
    assert (none.turns, none.slowest) == (0, None)
    assert found["open", "u"].length == timedelta(seconds=70)


async def test_one_call_is_found_in_its_tenant_alone(store):
    await store.db.sessions.insert_many([session("a"), session("b"), session("b", user="v")])
    assert (await listing.find(store.db, SessionFilter(), "a")).scope.user_id == "u"
    with pytest.raises(NotFoundError, match="no session a in tenant acme"):
        await listing.find(store.db, SessionFilter("acme"), "a")
    with pytest.raises(UsageError, match="more than one session b"):
        await listing.find(store.db, SessionFilter(), "b")
    assert (await listing.find(store.db, SessionFilter(user_id="v"), "b")).scope.user_id == "v"


@pytest.mark.parametrize("wrong", ["", " ", "a\x1b", "x" * 129])
def test_ids_are_checked(wrong):
    with pytest.raises(InvalidIdError):
        SessionFilter(wrong)
    with pytest.raises(InvalidIdError):
        SessionFilter(user_id=wrong)


async def test_a_call_that_the_agent_held_is_read_as_it_was(store):
    scope = UserScope(tenant_id="default", user_id="u-100")
    script = scripted(("remember_detail", {"memory_type": "color", "content": "teal"}), greeting="Hello there.")
    async with talk(store, scope, script) as call:
        await call.say("remember that my color is teal")
    (listed,) = await listing.newest(store.db, SessionFilter())
    assert (listed.session_id, listed.totals.turns, listed.status) == ("console-test", 4, "complete")
    assert listed.scope == scope
    assert listed == replace(await store.sessions.get(scope, "console-test"), report={}, totals=listed.totals)
    assert [turn.seq for turn in await store.sessions.turns(scope, "console-test")] == [0, 1, 2, 3]


async def test_reading_writes_nothing(store):
    await store.db.sessions.insert_one(session())
    before = (await store.db.command("dbHash"))["md5"]
    await listing.newest(store.db, SessionFilter())
    await search(store.db, SessionFilter(), "x")
    await SessionStats(store.db, SessionFilter()).read()
    assert (await store.db.command("dbHash"))["md5"] == before
    assert listing.MAX_MILLISECONDS < 30_000  # below the socket's timeout, so that the server gives up first
