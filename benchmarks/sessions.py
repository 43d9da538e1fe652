"""Many conversations at once in one process: is anything lost, and what does it take?

    python -m benchmarks.sessions [--sessions 200] [--turns 10] [--pause 10] [--uri mongodb://...] [--json FILE]

Each conversation is a real AgentSession in text whose model follows a script, with its own caller, record and lease;
they share one client, as the calls of one process do. Every fourth turn remembers something, every fourth looks up an
order. What MongoDB did not take in time is on disk, and recovered after. It prints memory, sockets to MongoDB and how
long the store's calls took, and exits with 1 when a turn or a memory is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from livekit.agents import AgentSession, llm
from livekit.agents.testing import fake_job_context

from benchmarks.measure import percentile
from benchmarks.timings import Timings
from lkmongo.agent.assistant import Assistant
from lkmongo.agent.beginning import begin_session
from lkmongo.agent.ending import end_session
from lkmongo.embed.base import Embedder
from lkmongo.embed.choose import create_embedder
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.recovery import recover
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.open import Store, open_store
from tests.fake_llm import Part, ScriptedLLM

DATABASE = "lkmongo_benchmark_sessions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--turns", type=int, default=10, help="what each caller says")
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between two turns of a caller")
    parser.add_argument("--uri", help="a MongoDB; by default an embedded one in a temporary folder")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        uri = options.uri or stack.enter_context(EmbeddedMongod(folder / "mongod")).uri
        settings = Settings.load({"MONGODB_URI": uri, "MONGODB_DB": DATABASE, "LKMONGO_HOME": str(folder / "home")})
        result = asyncio.run(_hold_all(settings, options.sessions, options.turns, options.pause))
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if result["missing_turns"] or result["missing_memories"] or result["left_on_disk"]:
        sys.exit(1)


async def _hold_all(settings: Settings, sessions: int, turns: int, pause: float) -> dict[str, Any]:
    embedder = create_embedder("local")
    await embedder.warm()
    timings = Timings()
    async with open_store(settings) as store:
        await store.db.client.drop_database(DATABASE)
        await database_indexes.apply(store.db)
        for part in (store.users, store.memories, store.orders, store.sessions):
            timings.watch(part)
        before, began, used = _memory(), time.perf_counter(), time.process_time()
        answered: list[float] = []
        sockets = [0]
        counting = asyncio.create_task(_count_sockets(store, sockets))
        numbers = range(sessions)
        await asyncio.gather(*(_hold(settings, store, embedder, n, turns, pause, answered) for n in numbers))
        took, used = time.perf_counter() - began, time.process_time() - used
        counting.cancel()
        memory = _memory()
        # The greeting, then what is said, what is answered, and of every second turn what a tool gave.
        turns_of_a_call = 1 + sum(3 if number % 2 else 2 for number in range(turns))
        folder = journal.journal_folder(settings.data_home)
        kept = len(journal.files(folder))
        await recover(store, folder, journal.database_id(settings))
        complete = await store.db.sessions.count_documents({"status": "complete"})
        in_order = 0
        async for each in await store.db.turns.aggregate(
            [{"$group": {"_id": "$session_id", "n": {"$sum": 1}, "last": {"$max": "$seq"}}}]
        ):
            in_order += each["n"] == turns_of_a_call and each["last"] == each["n"] - 1
        return {
            "sessions": sessions,
            "turns_each": turns,
            "seconds": round(took, 1),
            "cpu_seconds": round(used, 1),
            "complete": complete,
            "whole": in_order,
            "missing_turns": sessions * turns_of_a_call - await store.db.turns.count_documents({}),
            "missing_memories": sessions
            - await store.db.memories.count_documents({"content": f"value {(turns + 2) // 4}"}),
            "kept_on_disk_at_first": kept,
            "left_on_disk": len(journal.files(folder)),
            "memory_mb_before": round(before, 1),
            "memory_mb_after": round(memory, 1),
            "kb_a_session": round(1024 * (memory - before) / sessions),
            "sockets_to_mongodb": sockets[0],
            "turn_p50_ms": round(1e3 * statistics.median(answered), 1),
            "turn_p95_ms": round(1e3 * percentile(answered, 95), 1),
            "store": timings.table(),
        }


async def _hold(
    settings: Settings,
    store: Store,
    embedder: Embedder,
    number: int,
    turns: int,
    pause: float,
    answered: list[float],
) -> None:
    """Hold one conversation."""
    scope, name = UserScope(tenant_id="default", user_id=f"u-{number}"), f"call-{number}"
    await asyncio.sleep(number / 10)  # ten callers a second
    beginning = begin_session(settings, store, embedder, scope, guest=False, session_id=name, room_name="room")
    with fake_job_context(job_id=name):
        async with beginning as call:
            session: AgentSession[Any] = AgentSession(
                llm=ScriptedLLM(_script), userdata=call, vad=None, turn_handling={"turn_detection": None}
            )
            call.attach(session)
            await session.start(Assistant(), capture_run=True, record=False)
            for turn in range(turns):
                await asyncio.sleep(pause)
                began = time.perf_counter()
                await session.run(user_input=f"turn {turn}")
                answered.append(time.perf_counter() - began)
            await session.aclose()
            await end_session(call, "hang-up", dict, ended_at=now())


def _script(context: llm.ChatContext) -> Sequence[Part]:
    last = next((item for item in reversed(context.items) if item.type != "message" or item.role != "system"), None)
    if last is None or last.type != "message" or last.role != "user":
        return ["All right." if last else "Hello."]
    number = int((last.text_content or "turn 0").split()[-1])
    if number % 4 == 1:
        return [("remember_detail", {"memory_type": "favorite color", "content": f"value {number // 4 + 1}"})]
    if number % 4 == 3:
        return [("lookup_order", {"order_id": "A-1"})]
    return ["That is what I think, too."]


async def _count_sockets(store: Store, most: list[int]) -> None:
    """Keep how many connections the server has had at most; nobody else uses it."""
    while True:
        status = await store.db.client.admin.command("serverStatus")
        most[0] = max(most[0], status["connections"]["current"])
        await asyncio.sleep(0.5)


def _memory() -> float:
    """Megabytes that this process alone has."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
