"""The row of the side-by-side table that is about a call's end: until its record is in MongoDB."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from livekit.agents import AgentSession
from livekit.agents.testing import fake_job_context

from benchmarks.measure import Result, take_turns
from benchmarks.rows_calls import GUIDE, LIMIT, LIMIT_NOTE, LKMONGO, another, one, ping_of, rows
from benchmarks.stage import CALLER, Ways
from lkmongo.agent.assistant import Assistant
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.ending import end_session
from lkmongo.model import now
from tests.fake_llm import ScriptedLLM


async def hang_up(ways: Ways, rtt_ms: float, rounds: int) -> list[Result]:
    """From the session's end to the record in MongoDB: a second after the last turn, and right after it."""
    trips: dict[str, int] = {}
    network = ways.stage.network

    async def ours(name: str, pause: float) -> float:
        async with conversation(ways) as (call, report):
            await asyncio.sleep(pause)
            network.reset()
            with record_written(ways) as last:
                began = time.perf_counter()
                stored = await end_session(call, "hang-up", report, ended_at=now())
            trips[name] = max(trips.get(name, 0), last["round_trips"])
            if not stored or not await _is_complete(ways, call):
                raise RuntimeError("the record is not complete")
            return (float(last["at"]) - began) * 1000

    async def theirs() -> float:
        report = await _guides_session()
        network.reset()
        began = time.perf_counter()
        await ways.guide.end_session(CALLER.user_id, f"room-{another()}", report.to_dict)
        took = (time.perf_counter() - began) * 1000
        trips[GUIDE] = network.counts().round_trips
        return took

    times = await take_turns(
        {
            LKMONGO: lambda: ours(LKMONGO, 1 + 4 * rtt_ms / 1000),
            AT_ONCE: lambda: ours(AT_ONCE, 0),
            GUIDE: theirs,
            LIMIT: ping_of(ways),
        },
        rounds,
    )
    results = rows("hang-up until the record is complete", times, rtt_ms, LIMIT_NOTE)
    if rtt_ms:
        results += [
            one("hang-up until the record is complete", way, count, "round trips", rtt_ms)
            for way, count in trips.items()
        ]
    return results


AT_ONCE = "lkmongo, right after the last turn"


@asynccontextmanager
async def conversation(ways: Ways) -> AsyncIterator[tuple[CallerSession, Callable[[], dict[str, Any]]]]:
    """A greeting and one exchange through a real session that is closed now; the call, and what makes its report."""
    async with ways.call() as call:
        with fake_job_context(job_id=call.session_id) as job:
            session: AgentSession[CallerSession] = AgentSession(
                llm=ScriptedLLM(lambda _: ["All right."]),
                userdata=call,
                vad=None,
                turn_handling={"turn_detection": None},
            )
            call.attach(session)
            await session.start(Assistant(), capture_run=True, record=False)
            await ways.quiet()
            await session.run(user_input="Please send the lamp to my new address.")
            await session.aclose()
            report = job.make_session_report(session)
            yield call, lambda: report.to_dict(include_chat_history=False, include_events=False)


@contextmanager
def record_written(ways: Ways) -> Iterator[dict[str, Any]]:
    """Note when the last turns and the end are acknowledged, and after how many round trips."""
    sessions: Any = ways.store.sessions
    last: dict[str, Any] = {}

    def noting(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def noted(*arguments: Any, **named: Any) -> Any:
            done = await method(*arguments, **named)
            last.update(at=time.perf_counter(), round_trips=ways.stage.network.counts().round_trips)
            return done

        return noted

    for name in ("save", "append"):
        setattr(sessions, name, noting(getattr(sessions, name)))
    try:
        yield last
    finally:
        for name in ("save", "append"):
            delattr(sessions, name)


async def _guides_session() -> Any:
    """The report of the same exchange, without lkmongo."""
    from livekit.agents import Agent

    with fake_job_context(job_id=f"guide-{another()}") as job:
        session: AgentSession[None] = AgentSession(
            llm=ScriptedLLM(lambda _: ["All right."]), vad=None, turn_handling={"turn_detection": None}
        )
        await session.start(Agent(instructions="Be kind."), capture_run=True, record=False)
        await session.run(user_input="Please send the lamp to my new address.")
        await session.aclose()
        return job.make_session_report(session)


async def _is_complete(ways: Ways, call: CallerSession) -> bool:
    record = await ways.store.sessions.get(call.scope, call.session_id)
    turns = await ways.store.sessions.turns(call.scope, call.session_id)
    return record is not None and record.status == "complete" and len(turns) == len(call.recorder.turns) == 3
