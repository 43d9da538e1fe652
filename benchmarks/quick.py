"""Round trips and bytes of each piece of work, compared with what is allowed: figures that no machine changes.

    python -m benchmarks.quick [--accept] [--json FILE]

It exits with 1 when one has grown beyond `budget.json`; `--accept` writes the figures there. Round trips are those that
somebody waits for; requests and bytes also those that go on in the background after. Time passes and answers come only
when the process has nothing else to do (`benchmarks.patience`), so that no deadline passes on a slow machine; what goes
by the clock of the machine itself, the lease's renewals and the age of a change, is kept from coming. The owner of a
lease, which names machine and process, is one of the usual length.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pymongo import monitoring

from benchmarks.encryption import fill
from benchmarks.measure import tell
from benchmarks.network import socket_path
from benchmarks.patience import Loop, Patience
from benchmarks.stage import CALLER, DATABASE, Stage, Ways, connected, encrypted, give_slots, known, staged
from lkmongo.model import Order, OrderItem, Turn, TurnKind, UserScope, now

BUDGET = Path(__file__).with_name("budget.json")
ACCEPT = "make bench-quick ARGS=--accept"
SLACK = 0.02
"""What bytes may be over: another version of MongoDB answers with other fields beside the data."""
RTT_MS = 20.0
_AN_HOUR = 3_600.0
_OWNER = "worker-1/01234567-89ab-cdef-0123-456789abcdef-4026531836/12345/01234567"
MANY = UserScope(tenant_id="default", user_id="u-1000-slots")
ORDER = "A-1001"

Figures = dict[str, float]


async def measure(patience: Patience) -> Figures:
    """All figures, by what they are of."""
    from lkmongo import deadlines
    from lkmongo.outbox import lease, outbox

    deadlines.LEASE_RENEWAL_EVERY = deadlines.LEASE_TRUSTED = _AN_HOUR
    lease.lease_owner = lambda: _OWNER  # type: ignore[attr-defined]
    outbox._FRESH = timedelta(seconds=_AN_HOUR)  # noqa: SLF001
    figures: Figures = {}
    with staged() as stage:
        async with connected(stage, embedding=0) as ways:
            await _prepare(ways)
            stage.network.rtt(RTT_MS)
            async with patience.of(stage.network):
                await _beginnings(ways, figures)
                await _tools(ways, figures)
                await _hang_up(ways, figures)
            await _processes(stage, figures)
        stage.network.rtt(0)
        async with connected(stage, embedding=0, settings=encrypted(stage)) as ways:
            await _encrypted(ways, patience, figures)
        async with connected(stage, embedding=0) as ways:
            stage.network.rtt(0)
            await _bytes(ways, figures)
    return figures


async def _prepare(ways: Ways) -> None:
    from lkmongo.store.seed.seeding import seed
    from lkmongo.store.seed.seeds import SeedData, default_seed_folder, load_seeds

    await give_slots(ways, CALLER, 10)
    await give_slots(ways, MANY, 1)
    documents = ways.guide.db.client[DATABASE].memories
    one = await documents.find_one(MANY.filter)
    assert one is not None
    one.pop("_id")
    await documents.insert_many([one | {"memory_type": f"detail_{number:04d}"} for number in range(1, 1_000)])
    order = Order(ORDER, (OrderItem("blanket", 2), OrderItem("lamp")), 84.5, "shipped")
    passages = load_seeds(default_seed_folder()).passages
    await seed(ways.store.db, SeedData(orders=((CALLER, order),), passages=passages), ways.embedder)


@asynccontextmanager
async def _counted(ways: Ways, figures: Figures, work: str, *, has_bytes: bool = True) -> Any:
    """Count what the block waits for, and then what goes on behind it."""
    network = ways.stage.network
    await ways.quiet()
    network.reset()
    yield
    figures[f"{work}: round trips"] = network.counts().round_trips
    await ways.quiet()
    counts = network.counts()
    figures[f"{work}: requests"] = counts.requests
    if has_bytes:
        figures[f"{work}: bytes sent"] = counts.sent
        figures[f"{work}: bytes received"] = counts.received


async def _beginnings(ways: Ways, figures: Figures) -> None:
    from lkmongo.agent.briefing import brief

    for scope, slots in ((CALLER, 10), (MANY, 1_000)):
        async with ways.call(scope) as call:
            # Not with `_counted`: what comes behind, vectors and what the server can do, is counted by itself.
            ways.stage.network.reset()
            await known(call)
            counts = ways.stage.network.counts()
            assert len(call.caller.slots) == slots
            work = f"session start, {slots:,} slots"
            figures[f"{work}: round trips"] = counts.round_trips
            figures[f"{work}: bytes received"] = counts.received
            figures[f"briefing of {slots:,} slots: characters"] = len(brief(call.caller))
            await ways.quiet()
            figures[f"{work}, with vectors: requests"] = ways.stage.network.counts().requests
            figures[f"{work}, with vectors: bytes received"] = ways.stage.network.counts().received


async def _encrypted(ways: Ways, patience: Patience, figures: Figures) -> None:
    """The key of a person is fetched beside what it opens, so nobody waits for it."""
    from lkmongo.agent.tools import BoundTools

    await fill(ways)
    ways.stage.network.rtt(RTT_MS)
    async with patience.of(ways.stage.network), ways.call() as call:
        ways.stage.network.reset()
        await known(call)
        assert len(call.caller.slots) == 500
        figures["session start, 500 slots, encrypted: round trips"] = ways.stage.network.counts().round_trips
        await ways.quiet()
        call.recorder.start()
        await ways.quiet()
        bound: Any = BoundTools(call)
        async with _counted(ways, figures, "remember, encrypted", has_bytes=False):
            await bound.remember_detail(SimpleNamespace(), "favorite_color", "teal")
        await call.recorder.close("hang-up", dict)
    ways.stage.network.rtt(0)


async def _tools(ways: Ways, figures: Figures) -> None:
    from lkmongo.agent.tools import BoundTools

    async with ways.call() as call:
        await known(call)
        async with _counted(ways, figures, "open the record of a call", has_bytes=False):
            call.recorder.start()
            await ways.quiet()
        async with _counted(ways, figures, "renew the lease"):
            await call.recorder.lease.check()
        bound: Any = BoundTools(call)
        context: Any = SimpleNamespace()
        tools: dict[str, Callable[[], Awaitable[object]]] = {
            "remember": lambda: bound.remember_detail(context, "favorite_color", "teal, most of the time"),
            "remember again": lambda: bound.remember_detail(context, "favorite_color", "teal, most of the year"),
            "recall": lambda: bound.recall_detail(context, "favorite_color"),
            "list": lambda: bound.list_user_memories(context),
            "search memories": lambda: bound.search_memories(context, "what did I say of thing 3?"),
            "set a profile field": lambda: bound.update_profile(context, "name", "Robin"),
            "forget": lambda: bound.forget_detail(context, "favorite_color"),
            "look up an order": lambda: bound.lookup_order(context, ORDER),
            "search knowledge, the first time": lambda: call.search_knowledge("how long may I return a lamp?"),
            "search knowledge": lambda: call.search_knowledge("when are you open on Saturdays?"),
        }
        for work, run in tools.items():
            async with _counted(ways, figures, work):
                await run()
        turn = Turn(0, "item_0123456789ab", TurnKind.MESSAGE, now(), role="user", content="w" * 100)
        async with _counted(ways, figures, "write a turn of 100 characters"):
            await ways.store.sessions.append(CALLER, "RM_0123456789ab", [turn])
        await call.recorder.close("hang-up", dict)


async def _hang_up(ways: Ways, figures: Figures) -> None:
    from benchmarks.rows_endings import conversation, record_written
    from lkmongo.agent.ending import end_session

    async with conversation(ways) as (call, report):
        await asyncio.sleep(1)  # by then the last turn is written; before, it may or may not be on its way
        ways.stage.network.reset()
        with record_written(ways) as last:
            assert await end_session(call, "hang-up", report, ended_at=now())
        counts = ways.stage.network.counts()
        figures["hang-up, until the record is complete: round trips"] = last["round_trips"]
        figures["hang-up: round trips"] = counts.round_trips
        figures["hang-up: requests"] = counts.requests


async def _processes(stage: Stage, figures: Figures) -> None:
    count = [sys.executable, "-m", "benchmarks.first_call", "count", socket_path(stage.mongod.uri)]
    figures["first call of a process: round trips"] = int(await _output(count, cwd=BUDGET.parents[1]))
    stage.network.reset()
    variables = {"MONGODB_URI": stage.network.uri, "MONGODB_DB": DATABASE, "LKMONGO_HOME": str(stage.folder / "cli")}
    await _output([sys.executable, "-m", "lkmongo", "memory", "list", CALLER.user_id], cwd=stage.folder, **variables)
    counts = stage.network.counts()
    figures["lkmongo memory list: round trips"] = counts.round_trips
    figures["lkmongo memory list: requests"] = counts.requests
    figures["lkmongo memory list: connections"] = counts.connections


async def _output(command: list[str], *, cwd: Path, **variables: str) -> str:
    """What a program prints; one that fails has said why on standard error."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=os.environ | variables, cwd=cwd
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return printed.decode()


async def _bytes(ways: Ways, figures: Figures) -> None:
    from benchmarks.rows_data import slot_bytes

    for each in await slot_bytes(ways):
        if each.way == "lkmongo":
            figures[f"{each.work}: bytes"] = each.median


def compare(figures: Figures, budget: Figures) -> list[str]:
    """What is beyond the budget, a sentence each; none when nothing is."""
    problems = []
    for name, value in figures.items():
        allowed = budget.get(name)
        if allowed is None:
            problems.append(f"{name} is {value:g}, and has no budget")
        elif value > allowed * (1 + SLACK if "bytes" in name else 1):
            problems.append(f"{name} is {value:g}, and {allowed:g} is what is allowed")
    problems += [f"{name} has a budget, and was not measured" for name in budget if name not in figures]
    return problems


def main() -> int:
    """Measure, compare, and say what has grown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="take the figures for what is allowed from now on")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    patience = Patience()
    monitoring.register(patience)
    with asyncio.Runner(loop_factory=Loop) as runner:
        figures = runner.run(measure(patience))
    text = json.dumps(figures, indent=1) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    if options.accept:
        BUDGET.write_text(text, encoding="utf-8")
        tell(f"{len(figures)} figures are the budget now: {BUDGET}")
        return 0
    budget: Figures = json.loads(BUDGET.read_text(encoding="utf-8"))
    problems = compare(figures, budget)
    for problem in problems:
        tell(f"error: {problem}")
    if problems:
        tell(f"  try: make it less, or, if it has to be so, {ACCEPT}")
        return 1
    less = [name for name, value in figures.items() if value < budget[name]]
    tell(f"{len(figures)} figures are within their budget" + (f"; less than it: {', '.join(less)}" if less else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
