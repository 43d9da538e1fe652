"""Kill consoles with SIGKILL while people talk, and see what the next process can still store of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from lkmongo.model import SessionStatus, UserScope
from lkmongo.outbox.journal import database_of, journal_folder
from lkmongo.outbox.recovery import recover
from tests.cli.started import Zygote
from tests.conftest import clean_environment
from tests.fault_proxy import Fault, FaultProxy
from tests.faults.held import Rig
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 6
"""Consoles that talk at the same time."""
NOTED = 0.1
"""Seconds after which nothing that was shown may be lost: a note of it is made beside its being shown."""
When = Literal["start", "answering", "waiting", "hang-up"]
WHEN: tuple[When, ...] = ("start", "answering", "waiting", "hang-up")
FAULTS: tuple[Fault, ...] = ("none", "refuse", "stall")


@dataclass(frozen=True, slots=True)
class Shown:
    """A message that the console has written."""

    at: float
    role: str
    text: str


@dataclass(slots=True)
class Killed:
    """A console that was killed, and what came of its call."""

    number: int
    when: When
    fault: Fault
    shown: list[Shown] = field(default_factory=list)
    must_be_remembered: dict[str, str] = field(default_factory=dict)
    died: float = 0.0
    outcome: str = ""
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def scope(self) -> UserScope:
        """Who talks; nobody else does."""
        return UserScope(tenant_id="default", user_id=f"killed-{self.number}")


def plan(count: int, first: int = 0) -> list[Killed]:
    """So many consoles, killed at each point of a call and with each fault equally often."""
    every = [(when, fault) for fault in FAULTS for when in WHEN]
    return [Killed(number, *every[number % len(every)]) for number in range(first, first + count)]


async def kill_all(rig: Rig, zygote: Zygote, some: list[Killed], seed: int) -> None:
    """Have consoles talk, a few at a time, kill each, and recover their calls."""
    for start in range(0, len(some), AT_ONCE):
        group = some[start : start + AT_ONCE]
        proxies = [FaultProxy(rig.socket_path) for _ in group]
        for proxy in proxies:
            await proxy.listen()
        try:
            await _kill(rig, zygote, group, proxies, seed)
        finally:
            for proxy in proxies:
                await proxy.end()
        await asyncio.gather(*(_judge(rig, each, proxy.port) for each, proxy in zip(group, proxies, strict=True)))
        for proxy in proxies:
            await proxy.close()


async def _kill(rig: Rig, zygote: Zygote, group: list[Killed], proxies: list[FaultProxy], seed: int) -> None:
    started = [
        await asyncio.to_thread(_start, rig, zygote, each, proxy.port)  # the imports come first
        for each, proxy in zip(group, proxies, strict=True)
    ]
    await asyncio.gather(
        *(
            _talk(each, proxy, *process, random.Random(f"{seed}-{each.number}"))
            for each, proxy, process in zip(group, proxies, started, strict=True)
        )
    )
    for each, (pid, *_) in zip(group, started, strict=True):
        code = await asyncio.to_thread(zygote.wait, pid)
        if code != -signal.SIGKILL and each.when != "hang-up":
            each.wrong.append(f"the console ended by itself, with {code}")


def _start(rig: Rig, zygote: Zygote, each: Killed, port: int) -> tuple[int, int, Path]:
    """Start a console; returns its process number, where one speaks to it, and where it writes."""
    home = rig.folder / f"killed-{each.number}"
    home.mkdir(parents=True)
    files = [home / name for name in ("in", "out", "err")]
    os.mkfifo(files[0])
    ear = os.open(files[0], os.O_RDWR)  # only to write, it would wait for the other side
    environment = clean_environment() | {
        "MONGODB_URI": f"mongodb://127.0.0.1:{port}/?directConnection=true",
        "MONGODB_DB": rig.store.db.name,
        "LKMONGO_HOME": str(home),
        "LKMONGO_EMBEDDINGS": "local",
        "HOME": str(home),
    }
    arguments = ["agent", "console", "--user", each.scope.user_id, "-o", "jsonl"]
    return zygote.start(arguments, env=environment, folder=home, files=files), ear, files[1]


async def _talk(each: Killed, proxy: FaultProxy, pid: int, ear: int, out: Path, chance: random.Random) -> None:
    """Say things at a person's pace, and kill the console when it is time."""
    last = chance.randrange(1, 6)
    faulty_from = chance.randrange(last + 1)

    def look() -> None:
        if not out.exists():
            return
        events = [json.loads(line) for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        messages = [event for event in events if event.get("type") == "message"]
        each.shown += [Shown(time.monotonic(), one["role"], one["text"]) for one in messages[len(each.shown) :]]

    async def until(count: int) -> None:
        end = time.monotonic() + PATIENCE
        while len(each.shown) < count and time.monotonic() < end and psutil.pid_exists(pid):
            await asyncio.sleep(0.02)
            look()

    try:
        if each.when == "start":
            if each.fault != "none":
                proxy.begin(each.fault)
            await asyncio.sleep(chance.uniform(0, 2.5))
        else:
            await until(1)
            for number in range(last):
                if number == faulty_from and each.fault != "none":
                    proxy.begin(each.fault)
                colour = f"teal {each.number} {number}"
                os.write(ear, f"please remember that my favorite color is {colour}\n".encode())
                if number == last - 1 and each.when == "answering":
                    await asyncio.sleep(chance.uniform(0, 0.6))
                    break
                await until(3 + 2 * number)
                each.must_be_remembered[str(time.monotonic())] = colour
                await asyncio.sleep(chance.uniform(0.2, 1.0))
            if each.when == "waiting":
                await asyncio.sleep(chance.uniform(0, 3.0))
            if each.when == "hang-up":
                os.close(ear)
                ear = -1
                await asyncio.sleep(chance.uniform(0, 1.0))
    finally:
        look()
        each.died = time.monotonic()
        with suppress(ProcessLookupError):  # it has hung up before
            os.kill(pid, signal.SIGKILL)
        if ear >= 0:
            os.close(ear)
    look()


async def _judge(rig: Rig, each: Killed, port: int) -> None:
    """Recover the call, and compare what MongoDB holds with what was shown."""
    wrong, store = each.wrong, rig.store
    folder = journal_folder(rig.folder / f"killed-{each.number}")
    uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    found = await recover(
        store, folder, database_of(uri, store.db.name), on_error=lambda error: wrong.append(error.message)
    )
    if folder.exists() and (left := list(folder.iterdir())):
        wrong.append(f"files are left: {left}")
    calls = await store.sessions.recent(each.scope)
    if len(calls) > 1:
        wrong.append(f"one call became {len(calls)}")
    if not calls:
        each.outcome = "no call yet"
        if each.shown:
            wrong.append("the call is lost")
        return
    own = [one for one in found if one.scope == each.scope]
    each.outcome = str(calls[0].status)
    if calls[0].status is SessionStatus.ACTIVE:
        wrong.append(f"the call is active still, recovered: {own}")
    turns = await store.sessions.turns(each.scope, calls[0].session_id)
    said = [turn.content for turn in turns if turn.role]
    shown = [one.text for one in each.shown]
    common = min(len(said), len(shown))
    if said[:common] != shown[:common]:
        wrong.append(f"turns: {said} instead of {shown}")
    each.lost = max(0, len(shown) - len(said))
    # What the caller said last may not have reached the agent yet, and what was shown last not the disk.
    is_complete = [one.role == "assistant" and one.at < each.died - NOTED for one in each.shown]
    complete = max((number for number, it_is in enumerate(is_complete, 1) if it_is), default=0)
    if len(said) < complete or each.lost > 2:
        wrong.append(f"{each.lost} messages are lost, {complete} were complete: {said} of {shown}")
    must = [colour for at, colour in each.must_be_remembered.items() if float(at) < each.died]
    may = [f"teal {each.number} {number}" for number in range(len(must), 10)]
    slots = {memory.memory_type: memory.content for memory in await store.memories.slots(each.scope)}
    colour = slots.get("favorite_color")
    if must and colour not in {must[-1], *may}:
        wrong.append(f"remembered: {slots} instead of {must[-1]}")


def table(some: list[Killed]) -> str:
    """Fault x when it was killed x outcome."""
    rows = [("MongoDB", "killed while", "consoles", "outcomes", "messages lost", "wrong")]
    for fault in FAULTS:
        for when in WHEN:
            group = [each for each in some if (each.fault, each.when) == (fault, when)]
            outcomes = sorted({each.outcome for each in group})
            told = ", ".join(f"{sum(each.outcome == outcome for each in group)} {outcome}" for outcome in outcomes)
            lost = f"{sum(each.lost for each in group)}, {max((each.lost for each in group), default=0)} in one"
            row = (fault, when, str(len(group)), told, lost, str(sum(bool(each.wrong) for each in group)))
            rows += [row] if group else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
