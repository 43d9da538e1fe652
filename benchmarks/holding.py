"""How long the work of one caller keeps the event loop from everybody else's, where as much is kept of them as may be.

    python -m benchmarks.holding [--quick] [--json FILE]

The caller has 10,000 memories of 4,000 characters without vectors, as another program may have left them, and a
thousand former values. A heartbeat of a millisecond runs beside each piece of work: the figure is the longest time that
the loop's thread computed between two beats, which another program on the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from livekit.agents import llm

from benchmarks.call_data import WORDS
from benchmarks.growth import bench
from benchmarks.growth_bench import Bench
from benchmarks.growth_data import insert
from benchmarks.measure import Result, figure, machine, result, tell, write_json
from lkmongo.agent.briefing import with_briefing
from lkmongo.agent.ending import end_session
from lkmongo.agent.tools import BoundTools
from lkmongo.model import MAX_CONTENT, UserScope, now
from lkmongo.store.people.person import memory_lines

GROUP = "holding"
MOST_MS = 50.0
"""How long the loop may be held."""
SLOTS, FORMER = 10_000, 1_000
_SCOPE = UserScope(tenant_id="default", user_id="u-most")
_PAGE = 50


class Heart:
    """Beats on the loop that it is started on."""

    def __init__(self) -> None:
        self.held = 0.0
        """Seconds of the longest time between two beats so far."""

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            self.held = max(self.held, time.thread_time() - began)


async def run(*, quick: bool = False) -> list[Result]:
    """Measure each piece of work of a call once, and of as many calls as the samples that are wanted."""
    samples: dict[str, list[float]] = {}
    async with bench(quick=True) as ready:
        write(ready, SLOTS // 10 if quick else SLOTS)
        for number in range(1 if quick else 3):
            async for work, held in _call(ready, f"call-{number}"):
                samples.setdefault(work, []).append(1e3 * held)
                tell(f"  {work}: {1e3 * held:.1f} ms")
    return [result(GROUP, work, "lkmongo", values, n=SLOTS) for work, values in samples.items()]


def write(ready: Bench, slots: int) -> None:
    """Give the caller so many memories, and a tenth of it as former values."""
    rng, end = random.Random(1), now() - timedelta(hours=1)
    words = " ".join(rng.choices(WORDS, k=400_000))

    def content() -> str:
        start = rng.randrange(len(words) - MAX_CONTENT)
        return words[start : start + MAX_CONTENT]

    def slot(number: int) -> dict[str, Any]:
        return _SCOPE.filter | {
            "memory_type": f"topic_{number:05d}",
            "content": content(),
            "updated_at": end - timedelta(seconds=number),
        }

    ready.database.users.insert_one(_SCOPE.filter | {"created_at": end, "memory_version": slots})
    insert(ready.database.memories, map(slot, range(slots)))
    gone = (slot(number) | {"valid_from": end - timedelta(days=number + 2)} for number in range(FORMER))
    insert(
        ready.database.memory_history,
        (each | {"valid_to": each["valid_from"] + timedelta(days=1)} for each in gone),
    )


async def _call(ready: Bench, name: str) -> AsyncIterator[tuple[str, float]]:
    async with ready.call(_SCOPE, name) as call, _beating() as held:
        caller = call.caller
        tools: Any = BoundTools(call)

        def briefing(words: str) -> Callable[[], Awaitable[object]]:
            asked = llm.ChatContext.empty()
            asked.add_message(role="user", content=words)
            return lambda: with_briefing(asked, caller)

        async def end() -> None:
            await end_session(call, "hang-up", dict, ended_at=now())

        any_context = SimpleNamespace()
        for work, do in {
            "session start": lambda: caller.preload(deadline=60),
            "first briefing": briefing("where is the parcel with the lamp"),
            "vectors and former values, in the background": lambda: asyncio.sleep(20),
            "briefing": briefing("how long may I return a blanket"),
            "search_memories": lambda: call.search_memories("what did I say of the parcel"),
            "remember_detail": lambda: tools.remember_detail(any_context, "topic_00003", f"as of {name}"),
            "briefing after a change": briefing("where is the blanket"),
            "recall_detail": lambda: tools.recall_detail(any_context, "topic_00999"),
            "list_user_memories": lambda: tools.list_user_memories(any_context),
            "a page of /api/memories": lambda: memory_lines(ready.store, _SCOPE, limit=_PAGE),
            "hang-up": end,
        }.items():
            yield work, await held(do)


@asynccontextmanager
async def _beating() -> AsyncIterator[Callable[[Callable[[], Awaitable[object]]], Awaitable[float]]]:
    heart = Heart()
    beating = asyncio.create_task(heart.beat())

    async def held(work: Callable[[], Awaitable[object]]) -> float:
        await asyncio.sleep(0.01)
        heart.held = 0.0
        await work()
        await asyncio.sleep(0.01)
        return heart.held

    try:
        yield held
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def table(results: list[Result]) -> str:
    """One row for each piece of work, as Markdown."""
    rows = ["| work | the loop is held | at most |", "|---|---|---|"]
    rows += [f"| {each.work} | {figure(each.median)} ms | {MOST_MS:g} |" for each in results if each.group == GROUP]
    return "\n".join(rows)


def main() -> None:
    """Print the table, and write the results where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the memories, once")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    results = asyncio.run(run(quick=options.quick))
    print(table(results))
    if options.json:
        write_json(options.json, results, machine())


if __name__ == "__main__":
    main()
