"""Sessions as operators read them: lists, one session, search, statistics."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, timedelta

import pytest

from lkmongo.errors import InvalidIdError, NotFoundError, UsageError
from lkmongo.model import SessionStatus, UserScope
from lkmongo.store.sessions import listing
from lkmongo.store.sessions import search as session_search
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


async def test_what_something_else_wrote_can_be_read_too(store):
    await store.db.sessions.insert_one({"session_id": "bare", "user_id": "u", "tenant_id": "default", "report": {}})
    await store.db.turns.insert_one({"session_id": "bare", "user_id": "u", "tenant_id": "default", "metrics": "?"})
    record = await listing.find(store.db, SessionFilter(), "bare")
    assert (record.started_at, record.length, record.status, record.totals.turns) == (None, None, None, 1)
    assert [turn.content for turn in await store.sessions.turns(record.scope, "bare")] == [None]
    assert (await SessionStats(store.db, SessionFilter()).read()).total.sessions == 0


async def test_a_session_whose_ids_are_not_valid_hides_no_other(store):
    strange = {"session_id": "strange", "user_id": "", "tenant_id": "a\x1bb", "status": {"a": 1}, "started_at": BEGAN}
    await store.db.sessions.insert_many([strange, session()])
    await store.db.turns.insert_one({"session_id": "strange", "user_id": "", "tenant_id": "a\x1bb", "kind": ["?"]})
    found = {record.session_id: record for record in await listing.newest(store.db, SessionFilter(None))}
    assert set(found) == {"strange", "s-1"}
    assert (found["strange"].scope.tenant_id, found["strange"].totals.turns) == ("a\x1bb", 1)
    assert [turn.kind for turn in await store.sessions.turns(found["strange"].scope, "strange")] == ["message"]


async def test_a_strange_document_keeps_no_lost_session_from_being_ended(store):
    lost = {"status": "active", "agent": "front-desk", "livekit": "host"}
    await store.db.sessions.insert_many([session(ended_at=None, **lost), {"session_id": "strange", **lost}])
    assert {record.session_id for record in await store.sessions.expired("front-desk", "host")} == {"s-1", "strange"}
    assert {session_id for _, session_id in await store.sessions.lost()} == {"s-1", "strange"}
    await store.sessions.interrupt_lost()
    assert (await store.sessions.get(UserScope(tenant_id="default", user_id="u"), "s-1")).status == "interrupted"


async def test_turns_without_an_item_of_their_own_are_told_apart(store):
    record = session()
    await store.db.turns.insert_many([{**said(n, f"turn {n}", of=record), "item_id": None} for n in range(2)])
    turns = await store.sessions.turns(UserScope(tenant_id="default", user_id="u"), "s-1")
    assert len({turn.item_id for turn in turns}) == 2


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


# Search


async def test_a_search_takes_the_text_literally_and_in_whatever_case(store):
    mine, others = session("mine"), session("theirs", tenant="acme")
    await store.db.turns.insert_many(
        [
            said(0, "Where is my ORDER (a.b)?", of=mine),
            said(1, "order aXb", of=mine),
            used(2, "lookup_order", of=mine, arguments='{"order_id": "A-1"}', output="Über den Order"),
            said(3, "order (a.b)", of=others),
        ]
    )
    assert [
        (one.session.session_id, one.turn.seq) for one in await search(store.db, SessionFilter(), "order (A.b)")
    ] == [("mine", 0)]
    (found,) = await search(store.db, SessionFilter(), "über")
    assert (found.text, found.start, found.end, found.snippet) == ("Über den Order", 0, 4, "[[Über]] den Order")
    assert [one.turn.seq for one in await search(store.db, SessionFilter(), "order")] == [2, 1, 0]
    assert [one.turn.seq for one in await search(store.db, SessionFilter(), "order", limit=2)] == [2, 1]
    assert len(await search(store.db, SessionFilter(None), "order")) == 4
    assert await search(store.db, SessionFilter(user_id="nobody"), "order") == []
    assert await search(store.db, SessionFilter(since=BEGAN + timedelta(seconds=2)), "order") != []
    assert [
        one.turn.seq for one in await search(store.db, SessionFilter(until=BEGAN + timedelta(seconds=2)), "order")
    ] == [
        1,
        0,
    ]


async def test_a_search_goes_back_span_after_span_and_misses_none(store, monkeypatch):
    rng = random.Random(1)
    call = session()
    moments = [BEGAN - timedelta(hours=rng.randrange(24 * 60)) for _ in range(200)]
    await store.db.turns.insert_many([said(n, f"needle {n}", of=call, created_at=at) for n, at in enumerate(moments)])
    for width in (timedelta(hours=1), timedelta(days=7)):
        monkeypatch.setattr(session_search, "_FIRST_SPAN", width)
        told = []
        found = await search(store.db, SessionFilter(), "needle", limit=500, on_progress=told.append)
        assert {one.turn.seq for one in found} == set(range(200))
        assert [one.turn.created_at for one in found] == sorted(moments, reverse=True)
        assert told == sorted(told, reverse=True)
        assert len(await search(store.db, SessionFilter(), "needle", limit=50)) == 50


@pytest.mark.parametrize("text", ["", "  ", "x" * 201])
async def test_a_search_for_nothing_or_a_novel_is_refused(store, text):
    with pytest.raises(UsageError):
        await search(store.db, SessionFilter(), text)


# Statistics


def percentile(values: list[float], share: float) -> float:
    """Nearest rank, counted out."""
    ordered = sorted(values)
    return next(value for number, value in enumerate(ordered, 1) if number >= share * len(ordered))


async def test_what_calls_sum_up_to_is_what_counting_by_hand_gives(store):
    rng = random.Random(7)
    answers: dict[date, list[float]] = {}
    tools: list[float] = []
    documents, turns = [], []
    for number in range(60):
        began = BEGAN + timedelta(hours=7 * number)
        cut_off = number % 10 == 0
        call = session(
            f"s-{number}",
            user=f"u-{number % 7}",
            started_at=began,
            ended_at=None if cut_off else began + 2 * MINUTE,
            status="interrupted" if cut_off else "complete",
            report={"errors": {"llm": int(number == 3), "stt": 2 if number == 4 else 0}},
        )
        documents.append(call)
        for seq in range(rng.randrange(1, 9)):
            waited = round(rng.uniform(0.1, 3), 3)
            answers.setdefault((began + timedelta(seconds=seq)).date(), []).append(waited)
            turns.append(
                said(seq, "x", of=call, role="assistant", metrics={"e2e_latency": waited, "llm_node_ttft": 0.1})
            )
        tools.append(round(rng.uniform(0, 1), 3))
        turns.append(used(30, "lookup_order", of=call, is_error=number % 20 == 0, metrics={"seconds": tools[-1]}))
    await store.db.sessions.insert_many([*documents, session("not mine", tenant="acme")])
    await store.db.turns.insert_many([*turns, said(0, "not mine", of=session("not mine", tenant="acme"))])

    stats = await SessionStats(store.db, SessionFilter()).read()
    total = stats.total
    every = [value for day in answers.values() for value in day]
    assert (total.sessions, total.turns, total.tool_calls) == (60, len(turns), 60)
    assert total.minutes == pytest.approx(54 * 2 + 6 * 0.5)  # a call that was cut off is as long as its turns say
    assert (total.answers.p50, total.answers.p95) == (percentile(every, 0.5), percentile(every, 0.95))
    assert total.failures["interrupted_calls"] == 6
    assert total.failures["tool_errors"] == 3
    assert (total.failures["llm_errors"], total.failures["stt_errors"]) == (1, 2)
    (tool,) = stats.tools
    assert (tool.name, tool.calls, tool.errors, tool.latency.p95) == ("lookup_order", 60, 3, percentile(tools, 0.95))
    assert list(stats.latencies) == ["e2e_latency", "llm_node_ttft", "seconds"]
    for day, values in answers.items():
        assert stats.days[day].answers.count == len(values)
        assert stats.days[day].answers.p50 == percentile(values, 0.5)
    assert sum(day.sessions for day in stats.days.values()) == 60
    assert sum(day.failures["tool_errors"] for day in stats.days.values()) == 3


async def test_statistics_are_of_a_time_and_a_person(store):
    first, second = session("a"), session("b", user="v", started_at=BEGAN + timedelta(days=4))
    await store.db.sessions.insert_many([first, second])
    await store.db.turns.insert_many([said(0, "x", of=first), said(0, "y", of=second)])
    both = await SessionStats(store.db, SessionFilter()).read()
    assert [day.isoformat() for day in both.days] == [f"2026-11-0{number}" for number in (1, 2, 3, 4, 5)]
    assert [period.sessions for period in both.days.values()] == [1, 0, 0, 0, 1]
    later = await SessionStats(store.db, SessionFilter(since=BEGAN + timedelta(days=1))).read()
    assert (later.total.sessions, later.total.turns) == (1, 1)
    hers = await SessionStats(store.db, SessionFilter(user_id="v")).read()
    assert (hers.total.sessions, hers.total.turns, len(hers.days)) == (1, 1, 1)


async def test_metrics_that_are_no_times_are_left_out(store):
    wrong = {"e2e_latency": float("nan"), "llm_node_ttft": "soon", "tts_node_ttfb": -1, "transcription_delay": True}
    call = session()
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_one(said(0, "x", of=call, metrics=wrong))
    stats = await SessionStats(store.db, SessionFilter()).read()
    assert stats.latencies == {}
    assert stats.total.answers.count == 0
    assert (await listing.newest(store.db, SessionFilter()))[0].totals.slowest is None


async def test_reading_writes_nothing(store):
    await store.db.sessions.insert_one(session())
    before = (await store.db.command("dbHash"))["md5"]
    await listing.newest(store.db, SessionFilter())
    await search(store.db, SessionFilter(), "x")
    await SessionStats(store.db, SessionFilter()).read()
    assert (await store.db.command("dbHash"))["md5"] == before
    assert listing.MAX_MILLISECONDS < 30_000  # below the socket's timeout, so that the server gives up first
