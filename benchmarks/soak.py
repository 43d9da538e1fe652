"""Hours of calls through a real LiveKit server, with a fault every minute, and whether anything grows or is lost.

    python -m benchmarks.soak [--minutes 120] [--at-once 10] [--seed N] [--fault KIND ...] [--json FILE]

Two workers serve typed calls with the demo responder. One of them is killed and told to end again and again; the other
one lives as long as the run, and its memory, files and sockets are what is looked at. Both reach MongoDB through a
proxy, and so do some callers LiveKit. At the end, and after Ctrl-C, everything that was said is compared with what is
stored. It exits with 1 if anything is missing, there twice, left open, or grows. Everything listens on 127.0.0.1 alone.
docs/scale.md shows the run in benchmarks/soak_results.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, tell
from benchmarks.soak_account import CLOSED_WITHIN, Held, account, counts
from benchmarks.soak_calls import Call, How, Person, die, hold
from benchmarks.soak_faults import KINDS, MARKER, Supervised, World, have_faults, of_run
from benchmarks.soak_memory import MOST_A_HOUR, Idle, Watched, look
from benchmarks.soak_report import summary
from lkmongo.aio import running
from lkmongo.model import UserScope
from lkmongo.outbox import journal
from lkmongo.store.indexes import database_indexes
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from lkmongo.tokens import TokenRequest, mint
from tests.fault_proxy import FaultProxy
from tests.faults.rig import Mongod
from tests.livekit_server import BINARY, LiveKitProcess

AGENT, TENANT, DATABASE = "soak-agent", "soak", "soak"
_HOW: dict[How, float] = {"hangs up": 0.65, "hangs up while answered": 0.1, "dies": 0.12, "reconnects": 0.13}
_SAMPLE = 10.0
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run is, and how many call; `seconds` is the shortest and the longest call."""

    minutes: float
    at_once: int
    seed: int
    seconds: tuple[float, float] = (20.0, 90.0)
    fault_every: float = 60.0
    kinds: tuple[str, ...] = tuple(KINDS)


@dataclass
class Run:
    """A run under way."""

    plan: Plan
    folder: Path
    world: World
    steady: Supervised
    store: Store
    stop: asyncio.Event
    held: Held = field(default_factory=Held)
    watched: Watched = field(default_factory=Watched)
    people: dict[str, Person] = field(default_factory=dict)
    dice: random.Random = field(default_factory=random.Random)
    began: float = field(default_factory=time.monotonic)
    wrong: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------ calls

    async def warm_up(self) -> None:
        """Hold one short call on each line."""
        people = list(self.people.values())[: self.plan.at_once]
        await asyncio.gather(*(self._call(each, "hangs up", (5.0, 8.0)) for each in people))

    async def callers(self, until: float) -> None:
        """Keep as many calls going as are wanted until then; each begins when another one is over."""
        free = list(self.people.values())
        await asyncio.gather(*(self._line(free, until) for _ in range(self.plan.at_once)))

    async def _line(self, free: list[Person], until: float) -> None:
        await asyncio.sleep(self.dice.uniform(0, self.plan.seconds[0] / 2))
        while time.monotonic() < until and not self.stop.is_set():
            person = free.pop(self.dice.randrange(len(free)))
            await self._call(person, self.dice.choices(list(_HOW), list(_HOW.values()))[0], self.plan.seconds)
            free.append(person)

    async def _call(self, person: Person, how: How, seconds: tuple[float, float]) -> None:
        call = person.plan(len(self.held.calls), self.dice, how, seconds)
        self.held.calls.append(call)
        await self._hold(call)
        self.held.questions += [(call, *each) for each in person.learn(call)]

    async def _hold(self, call: Call) -> None:
        wanted = TokenRequest(who=UserScope(tenant_id=TENANT, user_id=call.user_id), agent_name=AGENT)
        token = mint(self.world.livekit.server.key, wanted).text
        url = f"ws://127.0.0.1:{self.world.to_livekit.port}"
        call.room_name = wanted.room or ""
        if call.how == "dies":
            await die(call, url, token, stop=self.stop)
        else:
            await hold(call, url, token, tell=lambda _: None, stop=self.stop)

    # ------------------------------------------------------------------ looking on

    async def look_on(self) -> None:
        """Take a sample every ten seconds, and say every minute how it goes; never returns."""
        number = 0
        while True:
            await asyncio.sleep(_SAMPLE)
            number += 1
            if sample := await self.sample():
                self.watched.samples.append(sample)
            if number % 6 == 0:
                self._tell_how_it_goes()

    async def sample(self) -> Any:
        """One look at the steady worker and at mongod."""
        connections = await self.connections()
        sample = await asyncio.to_thread(look, self.steady.pid, time.monotonic() - self.began)
        return sample and type(sample)(**asdict(sample) | {"connections": connections})

    async def connections(self) -> int:
        """Those of mongod, this program's own not counted; 0 if it does not answer."""
        with suppress(Exception):
            async with asyncio.timeout(2):
                status = await self.store.db.client.admin.command("serverStatus")
                return int(status["connections"]["current"])
        return 0

    def _tell_how_it_goes(self) -> None:
        calls = self.held.calls
        outcomes = Counter(each.outcome for each in calls if each.over)
        last = self.watched.samples[-1] if self.watched.samples else None
        tell(
            f"{time.strftime('%H:%M:%S')}  {len(calls)} calls, {sum(not each.over for each in calls)} now; "
            + ", ".join(f"{count} {what}" for what, count in outcomes.items())
            + (f"; {last.main_mb:.0f} MB, {last.files} files, {last.processes} processes" if last else "")
        )

    async def idle(self) -> Idle | None:
        """What is open, once nobody calls and nothing changes any more."""
        before = None
        for _ in range(30):
            sample = await self.sample()
            now = sample and Idle(sample.files, sample.sockets, sample.processes, sample.connections)
            if now and now == before:
                return now
            before = now
            await asyncio.sleep(4)
        return before

    # ------------------------------------------------------------------ the end

    async def closed(self) -> None:
        """Wait until no session is open and no journal is left, as long as that may take."""
        until = time.monotonic() + CLOSED_WITHIN
        while time.monotonic() < until:
            if not await self.world.jobs() and not self._journals():
                return
            await asyncio.sleep(1)

    def _journals(self) -> list[str]:
        folder = journal.journal_folder(self.folder / "home")
        return [each.name for each in folder.iterdir()] if folder.exists() else []

    async def read(self) -> None:
        """Read what is stored."""
        held, db = self.held, self.store.db
        held.sessions = await db.sessions.find().to_list()
        held.turns = await db.turns.find().to_list()
        held.journals = self._journals()
        for person in self.people.values():
            scope = UserScope(tenant_id=TENANT, user_id=person.user_id)
            held.known[person.user_id] = person.known
            held.acknowledged[person.user_id] = person.acknowledged
            held.memories[person.user_id] = {
                _slot(each.memory_type): each.content for each in await self.store.memories.slots(scope)
            }
            former = held.former.setdefault(person.user_id, {})
            for place in (db.memories.find(scope.filter), db.memory_history.find(scope.filter)):
                async for each in place:
                    values = [each, *each.get("former", [])]
                    former.setdefault(_slot(each["memory_type"]), set()).update(value["content"] for value in values)


def _slot(memory_type: str) -> str:
    return memory_type.removeprefix("favorite_")


async def run(plan: Plan, stop: asyncio.Event) -> tuple[dict[str, Any], list[str]]:
    """Hold it; returns the figures and what is wrong."""
    folder = Path(tempfile.mkdtemp(prefix="lkmongo-soak-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    log = logging.FileHandler(folder / "workers.log")
    logging.getLogger("worker").addHandler(log)
    logging.getLogger("worker").setLevel(logging.INFO)
    kept = False
    try:
        async with _under_way(plan, folder, stop) as it:
            figures, wrong = await _hold(it)
            kept = bool(wrong)
            if kept:
                _keep(it.held, folder / "held.json")
            return figures, wrong
    except BaseException:
        kept = True
        raise
    finally:
        if kept:
            tell(f"the logs are kept in {folder}")
            shutil.rmtree(folder / "db", ignore_errors=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _keep(held: Held, path: Path) -> None:
    """Write down what was said and what is stored, for whoever looks for the reason."""
    told = {"calls": [asdict(each) for each in held.calls], "sessions": held.sessions, "turns": held.turns}
    path.write_text(json.dumps(told, default=str), encoding="utf-8")


@asynccontextmanager
async def _under_way(plan: Plan, folder: Path, stop: asyncio.Event) -> AsyncIterator[Run]:
    marker = secrets.token_hex(8)
    mongod, livekit = Mongod(folder / "db"), LiveKitProcess(folder)
    to_mongod, to_livekit = FaultProxy(mongod.socket_path), FaultProxy(livekit.server.port)
    workers: list[Supervised] = []
    try:
        mongod.start()
        await mongod.ready()
        await asyncio.to_thread(livekit.start)
        await to_mongod.listen()
        await to_livekit.listen()
        environment = livekit.server.environment | {
            "MONGODB_URI": f"mongodb://127.0.0.1:{to_mongod.port}/?directConnection=true",
            "MONGODB_DB": DATABASE,
            "LKMONGO_AGENT_NAME": AGENT,
            "LKMONGO_AGENT": "",
            "LKMONGO_HOME": str(folder / "home"),
            MARKER: marker,
        }
        options = ("--demo", "--port", "0", "--host", "127.0.0.1", "--max-calls", str(plan.at_once))
        workers = [Supervised(name, folder, environment, options) for name in ("steady", "other")]
        async with create_client(mongod.uri) as client:
            store = Store.of(client[DATABASE])
            await database_indexes.apply(store.db)
            world = World(mongod, livekit, to_mongod, to_livekit, workers[1], store)
            it = Run(plan, folder, world, workers[0], store, stop)
            it.dice.seed(plan.seed)
            it.people = {f"u-{number}": Person(f"u-{number}") for number in range(3 * plan.at_once)}
            for each in workers:
                each.keep()
            async with asyncio.timeout(180):
                await asyncio.gather(*(each.ready.wait() for each in workers))
            yield it
            codes = await asyncio.gather(*(each.stop() for each in workers))
            it.wrong += [f"a worker that was told to end exited with {code}" for code in codes if code]
            await asyncio.sleep(1)
            for left in of_run(marker):
                with suppress(Exception):
                    it.wrong.append(f"process {left.pid} is left over: {' '.join(left.cmdline())[:200]}")
    finally:
        for each in workers:
            await each.close()
        await to_mongod.close()
        await to_livekit.close()
        await asyncio.to_thread(livekit.stop)
        await mongod.close()


async def _hold(it: Run) -> tuple[dict[str, Any], list[str]]:
    plan = it.plan
    tell(
        f"seed {plan.seed}: {plan.at_once} calls at once for {plan.minutes:g} minutes; first each line once to warm up"
    )
    await it.warm_up()
    await it.closed()
    before = await it.idle()
    it.began = time.monotonic()
    until = it.began + 60 * plan.minutes
    dice = random.Random(plan.seed + 1)
    over = asyncio.Event()
    async with running(it.look_on()):
        faults = asyncio.create_task(
            have_faults(it.world, dice, plan.fault_every, it.held.faults, over, kinds=plan.kinds)
        )
        await it.callers(until)
        lasted = (time.monotonic() - it.began) / 60
        over.set()
        await faults
    await it.world.other.ready.wait()
    last = time.monotonic()
    await it.closed()
    closed_after = time.monotonic() - last
    after = await it.idle()
    await it.read()
    found = account(it.held)
    slopes = it.watched.slopes()
    wrong = found.wrong + it.wrong
    if before and after:
        wrong += after.more_than(before)
    for name, each in slopes.items():
        if each.verdict == "grows":
            wrong.append(f"the {name} grows by {each.mb_an_hour:.1f} MB an hour, give or take {each.uncertainty:.1f}")
    for worker in (it.steady, it.world.other):
        wrong += [f"the {worker.name} worker ended by itself with {code}" for _, code in worker.unexpected]
    figures = counts(it.held) | {
        "machine": machine((await it.store.db.client.server_info())["version"]),
        "minutes": round(lasted, 1),
        "minutes_wanted": plan.minutes,
        "seed": plan.seed,
        "at_once": plan.at_once,
        "explained": [[what, why, count] for (what, why), count in sorted(found.explained.items())],
        "reasons": found.reasons,
        "wrong": wrong,
        "all_closed_after_s": round(closed_after, 1),
        "open_before": before and asdict(before),
        "open_after": after and asdict(after),
        "slopes": {name: asdict(each) | {"verdict": each.verdict} for name, each in slopes.items()},
        "most_mb_an_hour": MOST_A_HOUR,
        "worker_starts": it.world.other.starts,
        "faults_list": [asdict(each) for each in it.held.faults],
        "samples": [asdict(each) for each in it.watched.samples[:: int(60 / _SAMPLE)]],
    }
    return figures, wrong


async def _until_ctrl_c(plan: Plan) -> tuple[dict[str, Any], list[str]]:
    stop = asyncio.Event()

    def at_once() -> None:
        tell("stopping: the calls hang up, and what they left is looked at; once more to stop at once")
        stop.set()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, at_once)
    return await run(plan, stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--at-once", type=int, default=10, help="calls at the same time")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--fault", action="append", choices=list(KINDS), help="only this fault; may be repeated")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args(arguments)
    if BINARY is None:
        parser.error("livekit-server is not on PATH: there is no LiveKit server to call through")
    plan = Plan(given.minutes, given.at_once, given.seed, kinds=tuple(given.fault or KINDS))
    figures, wrong = asyncio.run(_until_ctrl_c(plan))
    print(summary(figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
