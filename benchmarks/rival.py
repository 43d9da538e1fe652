"""lkmongo beside recall-livekit, which also remembers callers of LiveKit agents and also keeps them in MongoDB.

    python -m benchmarks.rival [--only mongodb|local] [--quick] [--json FILE]

recall-livekit has an environment of its own, `.bench/recall-livekit`, made when it is missing, and is driven as its
README says by `rival_runner.py` in a process of its own, which takes the times itself. Both take turns, work by work:

- mongodb: on one mongod, behind one delay proxy, 0 and 20 ms away.
- local: what each does with nothing set: lkmongo's embedded mongod with embeddings, recall-livekit's `local_dir` with
  its server and word search.

Session start is what a call waits for before it knows the caller: `Caller.preload` in a process that is ready for a
job, `SubjectMemory.load` of an open `RecallMemory`. Of the caller 1 fact is known, then 10: what recall-livekit
sends grows with them.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from benchmarks.measure import Result, Way, machine, result, table, take_turns, tell, write_json
from benchmarks.network import Network, socket_path
from benchmarks.rival_process import RIVAL, Rival, rival
from lkmongo.agent.beginning import begin_session
from lkmongo.agent.caller_session import CallerSession
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import run_on_client_loop
from lkmongo.worker.prewarm import Prewarm

DATABASE = "lkmongo_benchmark_rival"
DURABLE = {
    "mongodb": "both acknowledge a write when the journal of the majority has it",
    "local": "both acknowledge a write after an fsync: lkmongo of MongoDB's journal, recall-livekit of its write log",
}
Facts = list[tuple[str, str]]
FACTS: Facts = [
    ("callback_number", "555 0100"),
    ("name", "Mia"),
    ("preferred_language", "German"),
    ("email", "mia@example.com"),
    ("timezone", "Berlin"),
    ("account_tier", "gold"),
    ("open_issue", "the parcel of last week is late"),
    ("owns_product", "a sound bar with two speakers"),
    ("owns_product", "a stand for a television"),
    ("uses_technology", "an android phone"),
]
KNOWN = (1, 10)
"""Facts of the caller."""
QUESTIONS = [
    f"what is the callback number, {more}" for more in ("please", "again", "of the caller", "at home", "today")
]


@asynccontextmanager
async def ours(settings: Settings, database: Any, facts: Facts) -> AsyncIterator[tuple[Prewarm, CallerSession]]:
    """A process that is ready for a job, and a call that goes on in it, of somebody of whom the facts are known."""
    ready = Prewarm(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(ready.close)
        store = await ready.store()
        await ready.embedder.warm()
        await store.ping()
        database.memories.delete_many({})
        call = await stack.enter_async_context(_begin(ready, await ready.store(), "a-call"))
        await call.caller.preload()
        call.recorder.start()
        for number, (label, content) in enumerate(facts):
            await call.caller.remember(f"{label} {number}", content)
        async with asyncio.timeout(30):
            while database.memories.count_documents({"embedding": {"$exists": True}}) < len(facts):  # noqa: ASYNC110 - of another loop
                await asyncio.sleep(0.05)
        yield ready, call
        await call.recorder.close("done", dict)


def _begin(ready: Prewarm, store: Any, name: str) -> Any:
    scope = UserScope(tenant_id="default", user_id="caller-1")
    return begin_session(ready.settings, store, ready.embedder, scope, guest=False, session_id=name, room_name="room")


def works(
    ready: Prewarm, store: Any, call: CallerSession, other: Rival, facts: Facts
) -> Iterator[tuple[str, dict[str, Way]]]:
    """Each piece of work, and how either does it. What undoes it afterwards is not in its time."""
    numbers = iter(range(1_000_000))

    async def our_start() -> float:
        began = time.perf_counter()
        async with _begin(ready, store, f"start-{next(numbers)}") as new:
            assert await new.caller.preload(deadline=10)
            took = time.perf_counter() - began
            assert len(new.caller.slots) == len(facts)
            await new.caller.flush(10)
            await new.search.warm()  # cut off in the middle, it would cost the next call a connection
        return took * 1000

    async def their_start() -> float:
        took, found = await other.ask("load")
        assert found == len(facts), f"{RIVAL} found {found}"
        return took

    async def our_remember() -> float:
        label = f"open issue of the time {next(numbers)}"
        began = time.perf_counter()
        await call.caller.remember(label, "the sound bar hums")
        took = time.perf_counter() - began
        assert call.caller.saved == "stored"
        await call.caller.forget(label)
        return took * 1000

    async def their_remember() -> float:
        content = f"the sound bar hums, time {next(numbers)}"
        took, is_new = await other.ask("remember", "open_issue", content)
        assert is_new
        await other.ask("forget", "open_issue", content)
        return took

    async def our_replace() -> float:
        began = time.perf_counter()
        await call.caller.remember("callback_number 0", f"555 {next(numbers)}")
        took = time.perf_counter() - began
        assert call.caller.saved == "stored"
        await asyncio.sleep(0.1)  # the vector's own write is on its way
        return took * 1000

    async def their_replace() -> float:
        took, _ = await other.ask("remember", "callback_number", f"555 {next(numbers)}")
        return took

    async def our_search() -> float:
        words = f"{QUESTIONS[next(numbers) % len(QUESTIONS)]} {next(numbers)}"  # never asked before: its vector is made
        began = time.perf_counter()
        found = await call.search_memories(words)
        took = time.perf_counter() - began
        assert found
        return took * 1000

    async def their_search() -> float:
        took, found = await other.ask("search", f"{QUESTIONS[next(numbers) % len(QUESTIONS)]} {next(numbers)}")
        assert found
        return took

    yield "session start", {"lkmongo": our_start, RIVAL: their_start}
    yield "remember", {"lkmongo": our_remember, RIVAL: their_remember}
    yield "replace", {"lkmongo": our_replace, RIVAL: their_replace}
    yield "search", {"lkmongo": our_search, RIVAL: their_search}


@dataclass(frozen=True, slots=True)
class Place:
    """Where both store memories: lkmongo by its settings, recall-livekit by options that include the number of facts.

    It also reads its history, so each number of facts begins with an empty database.
    """

    name: str
    settings: Settings
    options: Callable[[int], Mapping[str, object]]
    network: Network | None = None

    @property
    def rtt_ms(self) -> float | None:
        """How far away it is; None for this machine."""
        return self.network.rtt_ms if self.network else None


async def compare(place: Place, uri: str, folder: Path, rounds: int) -> list[Result]:
    """Do each work in turns, of a caller of whom little and of one of whom more is known; `uri` reaches the mongod."""
    results: list[Result] = []
    with MongoClient[dict[str, Any]](uri) as client:
        for known in KNOWN:
            facts = FACTS[:known]
            database = client[place.settings.mongodb_db]
            async with (
                ours(place.settings, database, facts) as (ready, call),
                rival(place.options(known), folder) as other,
            ):
                for kind, value in facts:
                    await other.ask("remember", kind, value)
                for work, ways in works(ready, await ready.store(), call, other, facts):
                    times = await take_turns(ways, rounds, warm_up=2)
                    for way, values in times.items():
                        name, note = f"{place.name}: {work}", DURABLE[place.name]
                        results.append(result("rival", name, way, values, rtt_ms=place.rtt_ms, n=known, note=note))
                        tell(f"  {name}, {place.rtt_ms} ms away, {known} facts: {way} {results[-1].median:.1f} ms")
                if place.network and place.rtt_ms:
                    results += [each async for each in _round_trips(place.network, other, known)]
    return results


async def _round_trips(network: Network, other: Rival, known: int) -> AsyncIterator[Result]:
    """How often recall-livekit goes to the database and back: why it takes as long as it does."""
    for work, *given in (
        ("load",),
        ("remember", "open_issue", "it rings"),
        ("remember", "callback_number", "555 0101"),
        ("search", QUESTIONS[0]),
    ):
        network.reset()
        await other.ask(work, *given)
        trips = network.counts().round_trips
        if given[0:1] == ["open_issue"]:
            await other.ask("forget", *given)
        name = "mongodb: " + {"load": "session start"}.get(work, "replace" if "callback_number" in given else work)
        yield result("rival", name, RIVAL, [trips], unit="round trips", rtt_ms=network.rtt_ms, n=known)


@contextmanager
def a_mongod() -> Iterator[tuple[Path, str]]:
    """An embedded mongod of the benchmark's own, with the indexes; its folder and its address."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-")))
        mongod = stack.enter_context(EmbeddedMongod(folder / "home"))
        yield folder, mongod.uri


async def run(*, only: str | None = None, quick: bool = False) -> list[Result]:
    """Measure all, or one of "mongodb" and "local"; `quick` takes few samples."""
    results: list[Result] = []
    with a_mongod() as (folder, uri):
        home = {"MONGODB_DB": DATABASE, "LKMONGO_HOME": str(folder / "home"), "LKMONGO_EMBEDDINGS": "local"}
        here = Settings.load(home)
        await _provision(here)
        if only != "local":
            with Network(socket_path(uri)) as network:
                away = Settings.load(home | {"MONGODB_URI": network.uri})
                for rtt_ms, rounds in ((0.0, 30), (20.0, 12)):
                    network.rtt(rtt_ms)
                    theirs = network.uri.replace("/?", f"/{DATABASE}_{rtt_ms:g}_%d?")
                    place = Place("mongodb", away, _mongodb(theirs), network)
                    results += await compare(place, uri, folder, 3 if quick else rounds)
        if only != "mongodb":
            place = Place("local", here, lambda known: {"local_dir": str(folder / f"{RIVAL}-{known}")})
            results += await compare(place, uri, folder, 6 if quick else 30)
    return results


def _mongodb(uri: str) -> Callable[[int], Mapping[str, object]]:
    return lambda known: {"backend": "mongodb", "backend_url": uri % known}


async def _provision(settings: Settings) -> None:
    ready = Prewarm(settings)
    try:
        store = await ready.store()
        await run_on_client_loop(lambda: database_indexes.apply(store.db))
    finally:
        await ready.close()


def main() -> None:
    """Print a table, and write the results where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["mongodb", "local"])
    parser.add_argument("--quick", action="store_true", help="few samples")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    results = asyncio.run(run(only=options.only, quick=options.quick))
    print(table(results))
    if options.json:
        write_json(options.json, results, machine())


if __name__ == "__main__":
    main()
