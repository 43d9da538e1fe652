"""Statistics of sessions, compared with what counting by hand gives."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest

from lkmongo.model import SessionStatus
from lkmongo.store.sessions import listing
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.store.sessions.stats import Latency, SessionStats
from tests.session_documents import BEGAN, said, session, used

MINUTE = timedelta(minutes=1)


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


async def test_answers_to_typing_and_to_speech_are_counted_apart_by_what_callers_waited(store):
    call = session()
    first, typed, spoken = {"llm_node_ttft": 0.013}, (0.5, 2.0, 5.0), (1.25, 1.5)
    waits = [
        first,  # the greeting, or an answer that an earlier version recorded
        *(first | {"typed_latency": each} for each in typed),
        *(first | {"e2e_latency": each} for each in spoken),
        first | {"typed_latency": 4.0, "e2e_latency": 9.0},  # typed after something that was said and not answered
    ]
    await store.db.sessions.insert_one(call)
    await store.db.turns.insert_many(
        [said(seq, "x", of=call, role="assistant", metrics=each) for seq, each in enumerate(waits)]
    )
    stats = await SessionStats(store.db, SessionFilter()).read()
    total = stats.total
    assert total.typed == Latency(4, 2.0, 5.0)
    assert total.spoken == Latency(2, 1.25, 1.5)
    assert total.answers == Latency(6, 1.5, 5.0)
    assert total.first_words == Latency(1, 0.013, 0.013)
    assert stats.latencies["llm_node_ttft"].count == len(waits)
    assert (await listing.newest(store.db, SessionFilter()))[0].totals.slowest == 5.0


async def test_callers_to_whom_no_agent_came_are_no_sessions_but_failures(store):
    waited = session("b", status="no agent", started_at=BEGAN, ended_at=BEGAN + 5 * MINUTE, close_reason="no agent")
    await store.db.sessions.insert_many([session("a", started_at=BEGAN, ended_at=BEGAN + MINUTE), waited])
    stats = await SessionStats(store.db, SessionFilter()).read()
    assert (stats.total.sessions, stats.total.minutes) == (1, 1.0)
    assert stats.total.failures["calls_without_agent"] == 1
    assert sum(stats.total.failures.values()) == 1
    found = await listing.newest(store.db, SessionFilter(status=SessionStatus.NO_AGENT))
    assert [(each.session_id, each.length) for each in found] == [("b", 5 * MINUTE)]
