"""Rows of the side-by-side table about a call: its start, its tools, its end, and an unreachable MongoDB."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

from livekit.agents import llm
from pymongo.errors import PyMongoError

from benchmarks.guide import Guide
from benchmarks.measure import Result, Way, result, take_turns, tell
from benchmarks.network import Network, socket_path
from benchmarks.stage import CALLER, Ways, give_slots, vectors_of
from lkmongo.agent.beginning import begin_session
from lkmongo.agent.briefing import brief, with_briefing
from lkmongo.agent.tools import BoundTools
from lkmongo.model import Order, OrderItem, UserScope
from lkmongo.store.seed.seeding import seed
from lkmongo.store.seed.seeds import SeedData, default_seed_folder, load_seeds
from lkmongo.worker.prewarm import Prewarm

GROUP = "side by side"
LKMONGO, GUIDE, LIMIT = "lkmongo", "guide", "limit"
ORDER = "A-1001"
MANY = UserScope(tenant_id="default", user_id="u-1000-slots")
CROWD = UserScope(tenant_id="default", user_id="u-100-slots")


async def prepare(ways: Ways) -> None:
    """Write what the rows read: people with 10, 100 and 1,000 slots, and an order; the network is near meanwhile."""
    ways.stage.network.rtt(0)
    for scope, count in ((CALLER, 10), (CROWD, 100), (MANY, 1_000)):
        await give_slots(ways, scope, count)
    order = Order(ORDER, (OrderItem("blanket", 2), OrderItem("lamp")), 84.5, "shipped")
    shop = load_seeds(default_seed_folder())
    await seed(ways.store.db, SeedData(orders=((CROWD, order),), passages=shop.passages), ways.embedder)
    items = [{"name": item.name, "quantity": item.quantity} for item in order.items]
    await ways.guide.db.orders.insert_one(
        {"order_id": ORDER, "user_id": CROWD.user_id, "items": items, "total": order.total, "status": order.status}
    )


async def session_start(ways: Ways, rtt_ms: float, rounds: int) -> list[Result]:
    """The process is warm: until everything is known of a caller with 10 slots, and with 1,000."""
    return [
        row
        for scope, slots in ((CALLER, 10), (MANY, 1_000))
        for row in await _session_start(ways, rtt_ms, rounds, scope, slots)
    ]


async def _session_start(ways: Ways, rtt_ms: float, rounds: int, scope: UserScope, slots: int) -> list[Result]:
    told: dict[str, int] = {}
    trips: dict[str, int] = {}
    network = ways.stage.network

    async def ours() -> float:
        network.reset()
        began = time.perf_counter()
        async with ways.call(scope) as call:
            await call.caller.preload()
            took = (time.perf_counter() - began) * 1000
            trips[LKMONGO] = network.counts().round_trips
            if len(call.caller.slots) != slots:
                raise RuntimeError("the caller is not known")
            told[LKMONGO] = len(brief(call.caller))
            await call.caller.flush(5)
            await ways.quiet()
        return took

    async def theirs() -> float:
        network.reset()
        began = time.perf_counter()
        messages = await ways.guide.preload(scope.user_id)
        took = (time.perf_counter() - began) * 1000
        trips[GUIDE] = network.counts().round_trips
        told[GUIDE] = sum(map(len, messages))
        return took

    work = f"session start, warm, {slots:,} slots"
    results = rows(
        work, await take_turns({LKMONGO: ours, GUIDE: theirs, LIMIT: ping_of(ways)}, rounds), rtt_ms, LIMIT_NOTE
    )
    if rtt_ms:  # without a delay, what the caller does not wait for may be answered by the time it is counted
        results += [one(work, way, count, "round trips", rtt_ms) for way, count in trips.items()]
    else:
        results += [one(f"prompt of {slots:,} slots", way, size, "characters") for way, size in told.items()]
    return results


LIMIT_NOTE = {LIMIT: "one ping over a connection that is open"}


def ping_of(ways: Ways) -> Way:
    async def ping() -> None:
        await ways.guide.db.command("ping")

    return ping


def rows(work: str, times: dict[str, list[float]], rtt_ms: float, notes: dict[str, str] | None = None) -> list[Result]:
    notes = notes or {}
    return [result(GROUP, work, way, values, rtt_ms=rtt_ms, note=notes.get(way, "")) for way, values in times.items()]


def one(work: str, way: str, value: float, unit: str, rtt_ms: float | None = None, note: str = "") -> Result:
    return result(GROUP, work, way, [value], unit=unit, rtt_ms=rtt_ms, note=note)


# ---------------------------------------------------------------------- tools


async def tools(ways: Ways, rtt_ms: float, rounds: int) -> list[Result]:
    """What a caller waits for in each tool, in a call of somebody with 100 slots."""
    guide, user = ways.guide, CROWD.user_id
    results: list[Result] = []
    async with ways.call(CROWD) as call:
        call.recorder.start()
        await call.caller.preload()
        await ways.quiet()
        bound: Any = BoundTools(call)
        context: Any = SimpleNamespace()
        count = 0

        async def remember() -> float:
            nonlocal count
            count += 1
            began = time.perf_counter()
            said = await bound.remember_detail(context, "detail_0001", f"value {count}")
            took = (time.perf_counter() - began) * 1000
            if "I will remember" not in said or "in a moment" in said:
                raise RuntimeError(said)
            await ways.quiet()
            return took

        async def knowledge(query: str) -> float:
            began = time.perf_counter()
            await call.search_knowledge(query)
            return (time.perf_counter() - began) * 1000

        pairs: list[tuple[str, Way, Way, str]] = [
            ("remember", remember, lambda: _none(guide.remember(user, "detail_0001", "value")), ""),
            (
                "recall",
                lambda: _none(bound.recall_detail(context, "detail_0002")),
                lambda: _none(guide.recall(user, "detail_0002")),
                "of what is loaded",
            ),
            (
                "list, 100 slots",
                lambda: _none(bound.list_user_memories(context)),
                lambda: _none(guide.list_memories(user)),
                "of what is loaded",
            ),
            (
                "search memories, by a label",
                lambda: _none(bound.search_memories(context, "detail 0003")),
                lambda: _none(guide.search_memories(user, "detail 0003")),
                "words suffice",
            ),
            (
                "search memories, a new question",
                lambda: _none(bound.search_memories(context, f"what did I say about thing {another()}")),
                lambda: _none(guide.search_memories(user, f"what did I say about thing {another()}")),
                "the question's vector takes 90 ms",
            ),
            (
                "search knowledge, a new question",
                lambda: knowledge(f"how long may I return thing {another()}"),
                lambda: _none(guide.search_knowledge(f"how long may I return thing {another()}")),
                "without speculation",
            ),
            (
                "look up an order",
                lambda: _none(bound.lookup_order(context, ORDER)),
                lambda: _none(guide.lookup_order(ORDER)),
                "",
            ),
        ]
        for work, ours, theirs, note in pairs:
            is_new = work.endswith("a new question")
            limit = (lambda: _none(ways.far.embed(["another"], kind="query"))) if is_new else ping_of(ways)
            times = await take_turns({LKMONGO: ours, GUIDE: theirs, LIMIT: limit}, rounds)
            notes = {LIMIT: "the question's vector"} if is_new else LIMIT_NOTE
            results += rows(work, times, rtt_ms, notes | {LKMONGO: note, GUIDE: _no_search(work)})
        await call.caller.flush(5)
        await ways.quiet()
        await call.recorder.close("hang-up", dict)
    return results


async def _none(work: Awaitable[object]) -> None:
    await work


def _no_search(work: str) -> str:
    return "its server's own work is not in it: this one has no search" if work.startswith("search") else ""


_asked = 0


def another() -> int:
    """Another number each time: no question is asked twice."""
    global _asked  # noqa: PLW0603
    _asked += 1
    return _asked


# ---------------------------------------------------------------------- MongoDB is away


async def away(ways: Ways, rounds: int, *, full: bool) -> list[Result]:
    """Until the model can be asked for a greeting while MongoDB refuses, or swallows what it is sent."""
    results: list[Result] = []
    with Network(socket_path(ways.stage.mongod.uri)) as network:
        for name in ("refuses", "does not answer"):
            network.refuse(name == "refuses")
            network.swallow(name != "refuses")
            work = f"MongoDB {name} at the start, until the greeting"
            ours = await take_turns({LKMONGO: lambda: _greet(ways, network)}, rounds, warm_up=0)
            results += rows(work, ours, 0)
            if full and name == "refuses":
                tell("the guide's 30 s without MongoDB")
                guide = Guide(network.uri, vectors_of(ways.far))
                times = await take_turns({GUIDE: lambda guide=guide: _fail(guide)}, 1, warm_up=0)  # type: ignore[misc]
                await guide.close()
                results += rows(work, times, 0, {GUIDE: "then the call ends with an error"})
    return results


async def _greet(ways: Ways, network: Network) -> float:
    ready = Prewarm(ways.stage.settings(network.uri))
    try:
        store = await ready.store()
        await asyncio.sleep(0.2)  # a job comes some time after its process
        began = time.perf_counter()
        async with begin_session(
            ready.settings, store, ways.embedder, CALLER, guest=False, session_id=f"RM_{another()}", room_name="r"
        ) as call:
            await with_briefing(llm.ChatContext.empty(), call.caller)
            return (time.perf_counter() - began) * 1000
    finally:
        await ready.close()


async def _fail(guide: Guide) -> None:
    try:
        await guide.preload(CALLER.user_id)
    except PyMongoError:
        return
    raise RuntimeError("MongoDB is there")
