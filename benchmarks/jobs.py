"""As many calls at once as this machine has memory for, each in a job's process of its own, as a worker holds them.

    python -m benchmarks.jobs [--calls 200] [--pause 10] [--json FILE]

A real worker is sent calls by a stand-in of LiveKit's dispatch; there is no media server, so each meets the SDK's own
stand-in for a room and is talked to in text. Once all are connected and each has had a few more turns, they hang up
within half a minute. It prints memory, connections and times, and exits with 1 if a call or a turn is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
from livekit import rtc
from livekit.agents import get_job_context

from benchmarks.measure import percentile, tell
from benchmarks.timings import Timings
from lkmongo.agent.assistant import Assistant
from lkmongo.dispatch import plain_metadata
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import UserScope
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.people.memories import Memories
from lkmongo.store.people.users import Users
from lkmongo.store.sessions.sessions import Sessions

DATABASE = "lkmongo_benchmark_jobs"
_PAUSE, _OVER = "BENCHMARK_PAUSE", "BENCHMARK_OVER"
_MORE = 3
"""So many times each caller says something when all are on the line."""
_HANGING_UP = 30.0


class Talker(Assistant):
    """Whoever calls it says something every few seconds, until a file says that it is over."""

    async def on_enter(self) -> None:
        """Greet, and be talked to."""
        await super().on_enter()
        self._talking = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        timings = Timings()
        for part in (Users, Memories, Sessions):
            timings.watch(part)
        turns: list[float] = []
        self.caller_session.recorder.facts["benchmark"] = lambda: {"turns": turns, "store": dict(timings.took)}
        pause, over = float(os.environ[_PAUSE]), Path(os.environ[_OVER])
        await asyncio.sleep(random.uniform(0, pause))
        while not over.exists():  # noqa: ASYNC240 - of a file in memory
            began = time.perf_counter()
            colour = f"shade {len(turns)}"
            await self.session.generate_reply(user_input=f"please remember that my favorite color is {colour}")
            turns.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(pause)
        await asyncio.sleep(random.uniform(0, _HANGING_UP))
        _hang_up()


def _hang_up() -> None:
    room: Any = get_job_context().room
    participant_identity = next(iter(room.remote_participants.values()))
    participant_identity.disconnect_reason = rtc.DisconnectReason.CLIENT_INITIATED
    for call in room.on.call_args_list:
        if call.args[0] == "participant_disconnected":
            call.args[1](participant_identity)


def main() -> None:
    """Hold the calls, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--pause", type=float, default=10.0, help="seconds between two turns of a caller")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        uri = stack.enter_context(EmbeddedMongod(folder / "mongod")).uri
        figures = asyncio.run(_hold(folder, uri, options.calls, options.pause))
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if figures["complete"] < figures["calls"] or figures["missing_turns"]:
        sys.exit(1)


async def _hold(folder: Path, uri: str, calls: int, pause: float) -> dict[str, Any]:
    from tests.livekit_dispatch import dispatch_server
    from tests.worker_process import worker

    over = folder / "over"
    async with create_client(uri) as client, dispatch_server() as livekit:
        db = client[DATABASE]
        await database_indexes.apply(db)
        environment = {
            "MONGODB_URI": uri,
            "MONGODB_DB": DATABASE,
            "LKMONGO_HOME": str(folder / "home"),
            "LKMONGO_AGENT": "benchmarks.jobs:Talker",
            _PAUSE: str(pause),
            _OVER: str(over),
        }
        async with worker(folder, livekit.environment | environment, "--demo", "--port", "0") as process:
            await livekit.registered()
            began = time.perf_counter()
            for number in range(calls):
                metadata = plain_metadata(UserScope(tenant_id="default", user_id=f"u-{number}"))
                await livekit.send(f"job-{number}", room=f"room-{number}", metadata=metadata)
                if not (number + 1) % 25:
                    tell(f"{number + 1} calls after {time.perf_counter() - began:.0f} s")
            joined = time.perf_counter() - began
            await asyncio.sleep(_MORE * pause)
            memory, processes = await asyncio.to_thread(_memory, process.process.pid)
            status = await client.admin.command("serverStatus")
            over.touch()
            for number in range(calls):
                await livekit.ended(f"job-{number}")
            process.signal(signal.SIGTERM)
            await process.ended()
        return await _figures(db, calls) | {
            "seconds_until_all_talk": round(joined),
            "processes": processes,
            "memory_mb": round(memory),
            "mb_a_call": round(memory / calls, 1),
            "connections": status["connections"]["current"],
        }


def _memory(worker: int) -> tuple[float, int]:
    """Megabytes that the worker and its processes have, shared pages counted once, and how many they are."""
    total, count = 0.0, 0
    for each in [psutil.Process(worker), *psutil.Process(worker).children(recursive=True)]:
        with suppress(psutil.Error):
            total += each.memory_full_info().pss / 2**20
            count += 1
    return total, count


async def _figures(db: Any, calls: int) -> dict[str, Any]:
    complete, missing = 0, 0
    turns: list[float] = []
    store: dict[str, list[float]] = {}
    async for session in db.sessions.find():
        complete += session["status"] == "complete"
        seen = session.get("report", {}).get("benchmark", {"turns": [], "store": {}})
        turns += seen["turns"]
        for name, times in seen["store"].items():
            store.setdefault(name, []).extend(times)
        said = await db.turns.count_documents({"session_id": session["session_id"], "role": "user"})
        missing += max(0, len(seen["turns"]) - said)
    named = {f"{name}_p95_ms": round(percentile(times, 95), 1) for name, times in sorted(store.items())}
    return {
        "calls": calls,
        "complete": complete,
        "turns": len(turns),
        "missing_turns": missing,
        "turn_p50_ms": round(statistics.median(turns), 1),
        "turn_p95_ms": round(percentile(turns, 95), 1),
    } | named


if __name__ == "__main__":
    main()
