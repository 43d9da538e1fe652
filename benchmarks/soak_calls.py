"""The calls of `benchmarks.soak`: who calls, what they say, and what they are answered.

    python -m benchmarks.soak_calls

as a program holds one call that dies, as `Caller`s in the same process cannot: it reads the plan on standard input,
writes what has happened as a line of JSON each time something has, and kills itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from livekit import rtc

from tests.e2e.caller import Caller
from tests.fault_proxy import FaultProxy

How = Literal["hangs up", "hangs up while answered", "dies", "reconnects"]
"""How a call ends, or what its caller's network does meanwhile."""
Kind = Literal["tells", "corrects", "asks"]
Outcome = Literal["served", "cut off", "not greeted", "not connected"]
"""What became of a call: greeted and ended by the caller; ended by something else; nobody came; no room to come to."""

SLOTS = ("color", "city", "animal", "drink", "song", "flower", "book", "dish")
_FIRST = """amber azure bold bright calm clever coral crimson daring distant eager early emerald fancy gentle golden
    grand hidden humble icy ivory jolly keen lively lucky mellow mighty misty noble olive pale proud quiet rapid rosy
    royal rustic silent silver simple sunny swift tender velvet violet vivid warm wild young""".split()
_SECOND = """anchor arrow basin beacon birch bridge canyon cedar cliff cloud comet creek desert ember falcon fern forest
    garden glacier harbor heron island jasmine lagoon lantern maple meadow mirror moon mountain ocean orchard otter
    pebble pine prairie raven reef river saddle shadow sparrow spring summit temple thunder tulip valley willow
    window""".split()

GREETING, ANSWER, ROOM = 60.0, 30.0, 15.0
"""Seconds that a caller waits: for the greeting, for an answer, to be let into the room."""


@dataclass
class Line:
    """What a caller typed, and what they read after it; times are those of the clock on the wall.

    Attributes:
        value: what was told, or for a question one of what may be answered; empty for what was never told.
    """

    kind: Kind
    slot: str
    value: str
    typed: float = 0.0
    answer: str = ""
    answered: float = 0.0

    @property
    def text(self) -> str:
        """The words."""
        match self.kind:
            case "tells":
                return f"Please remember that my favorite {self.slot} is {self.value}."
            case "corrects":
                return f"Change my favorite {self.slot} to {self.value}."
            case "asks":
                return f"What is my favorite {self.slot}?"


@dataclass
class Call:
    """One call: what was planned, and what happened.

    Attributes:
        pauses: seconds before each line, and before the end.
        room: the id of its room, and so of its session.
        agents: the identities of the agents that were in the room, in their order.
        greeted: the first words of an agent, and when.
        over: when the caller left, or noticed that they are alone.
    """

    number: int
    user_id: str
    how: How
    lines: list[Line]
    pauses: list[float]
    began: float = 0.0
    room: str = ""
    room_name: str = ""
    agents: list[str] = field(default_factory=list)
    greeting: str = ""
    greeted: float = 0.0
    over: float = 0.0
    outcome: Outcome = "not connected"
    why: str = ""
    extra: list[str] = field(default_factory=list)

    def dumps(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Call:
        """What `dumps` wrote."""
        found = json.loads(text)
        return cls(**found | {"lines": [Line(**each) for each in found["lines"]]})


@dataclass
class Person:
    """Somebody who calls again and again, one call at a time.

    Attributes:
        known: what may be stored of them under each slot: one value, or several where the last telling of a new one was
            not acknowledged; an empty one if it may be that nothing is.
        acknowledged: every slot and value whose saving was acknowledged.
    """

    user_id: str
    known: dict[str, list[str]] = field(default_factory=dict)
    acknowledged: list[tuple[str, str]] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    def plan(self, number: int, dice: random.Random, how: How, seconds: tuple[float, float]) -> Call:
        """A call of theirs, of so many seconds if all goes well: something new, something changed, questions."""
        count = dice.randint(2, 5)
        lasts = dice.uniform(*seconds)
        shares = [dice.uniform(0.5, 1.5) for _ in range(count + 1)]
        known = list(self.known)
        slots = dice.sample(SLOTS, count)
        if known and not set(known) & set(slots):
            slots[0] = dice.choice(known)
        lines = []
        for place, slot in enumerate(slots):
            if slot not in self.known:
                lines.append(Line("tells", slot, self._new(dice)))
            elif place and dice.random() < 0.4:
                lines.append(Line("corrects", slot, self._new(dice)))
            else:
                lines.append(Line("asks", slot, ""))
        if lines[-1].kind != "asks":
            lines.append(Line("asks", lines[0].slot, ""))
            shares.append(1.0)
        return Call(number, self.user_id, how, lines, [lasts * each / sum(shares) for each in shares])

    def _new(self, dice: random.Random) -> str:
        while (value := f"{dice.choice(_FIRST)} {dice.choice(_SECOND)}") in self._told:
            pass
        self._told.add(value)
        return value

    def learn(self, call: Call) -> list[tuple[Line, list[str]]]:
        """Take note of what they have said; returns the questions, each with what may be answered."""
        questions = []
        for line in call.lines:
            if not line.typed:
                continue
            may_be = self.known.get(line.slot, [""])
            if line.kind == "asks":
                questions.append((line, may_be))
            elif is_acknowledged(line):
                self.known[line.slot] = [line.value]
                self.acknowledged.append((line.slot, line.value))
            else:
                self.known[line.slot] = [*may_be, line.value]
        return questions


def is_acknowledged(line: Line) -> bool:
    """Whether the agent said that it will remember it, be it a moment later."""
    return line.kind != "asks" and "I will remember" in line.answer and line.value in line.answer


async def hold(call: Call, url: str, token: str, *, tell: Callable[[Call], None], stop: asyncio.Event) -> None:
    """Hold it; what happens is put into it, and told each time.

    Args:
        call: as planned.
        url: the LiveKit server.
        token: for a room of its own.
        tell: called after each thing that has happened.
        stop: the caller hangs up early when it is set.
    """
    call.began = time.time()
    caller = Caller()
    caller.room.on("participant_connected", lambda *_: _note_agent(call, caller))
    caller.room.on("participant_disconnected", lambda *_: _note_agent(call, caller))
    proxy = FaultProxy(int(url.rpartition(":")[2])) if call.how == "reconnects" else None
    try:
        if proxy:
            await proxy.listen()
            url = f"ws://127.0.0.1:{proxy.port}"
        try:
            async with asyncio.timeout(ROOM):
                await caller.enter(url, token, microphone=False)
        except (TimeoutError, rtc.ConnectError) as error:
            call.why = f"{type(error).__name__}: {error}"[:200]
            return
        call.outcome, call.room_name = "not greeted", caller.room.name
        with suppress(TimeoutError):
            call.room = await asyncio.wait_for(caller.room.sid, ROOM)
        _note_agent(call, caller)
        tell(call)
        await _talk(call, caller, proxy, tell, stop)
    finally:
        call.over = call.over or time.time()
        call.extra = caller.said()
        tell(call)
        with suppress(TimeoutError):  # a server that is away keeps it waiting
            await asyncio.wait_for(caller.close(), ROOM)
        if proxy:
            await proxy.close()


async def _talk(
    call: Call, caller: Caller, proxy: FaultProxy | None, tell: Callable[[Call], None], stop: asyncio.Event
) -> None:
    if not await _soon(caller, lambda: caller.said() and caller.agent_state == "listening", GREETING, stop):
        call.why = _state(caller)
        return
    call.outcome, call.greeting, call.greeted = "served", caller.said()[0], time.time()
    tell(call)
    cut = len(call.lines) // 2 if proxy else -1
    for place, (line, pause) in enumerate(zip(call.lines, call.pauses, strict=False)):
        await _soon(caller, lambda: False, pause, stop)
        if stop.is_set():
            return
        # With nobody there for a moment they wait: somebody else comes and goes on.
        if not await _soon(caller, lambda: caller.agent_state == "listening", GREETING, stop):
            call.outcome, call.why = "cut off", _state(caller)
            return
        if place == cut and proxy:
            proxy.reset()
        if call.how == "hangs up while answered" and place == len(call.lines) - 1:
            await _type(line, caller)
            return
        await _say(line, caller, stop)
        tell(call)
    await _soon(caller, lambda: False, call.pauses[-1], stop)
    call.over = time.time()


async def _type(line: Line, caller: Caller) -> bool:
    line.typed = time.time()
    try:
        await asyncio.wait_for(caller.type(line.text), ROOM)
    except Exception as error:  # noqa: BLE001 - the room may be gone in many ways
        line.answer = f"({type(error).__name__}: {error})"[:200]
        return False
    return True


async def _say(line: Line, caller: Caller, stop: asyncio.Event) -> None:
    before = len(caller.said())
    if not await _type(line, caller):
        return

    def answer() -> str:
        """Words about it, and none of a greeting of an agent that came meanwhile: it may tell what was said before."""
        said = (text for text in caller.said()[before:] if not text.startswith("Hello"))
        return next((text for text in said if f"favorite {line.slot}" in text), "")

    if await _soon(caller, lambda: answer() and caller.agent_state == "listening", ANSWER, stop):
        line.answer, line.answered = answer(), time.time()
    elif not line.answer:
        line.answer = answer()  # nobody listened after it: it may have been half said


async def _soon(caller: Caller, fact: Callable[[], object], seconds: float, stop: asyncio.Event) -> bool:
    """Whether it becomes true before so many seconds, the end of the connection, or the end of everything."""
    until = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > until or stop.is_set() or caller.dropped.is_set():
            return False
        await asyncio.sleep(0.05)
    return True


def _note_agent(call: Call, caller: Caller) -> None:
    if (agent := caller.agent) and agent.identity not in call.agents:
        call.agents.append(agent.identity)


def _state(caller: Caller) -> str:
    """Why nothing goes on, as far as a caller can see."""
    if caller.dropped.is_set():
        return "the room dropped the caller"
    if caller.agent is None:
        return "nobody is there" if not caller.left else "the agent has left"
    return f"the agent is there and {caller.agent_state or 'does nothing'}"


# ---------------------------------------------------------------------- a call that dies


async def die(call: Call, url: str, token: str, *, stop: asyncio.Event) -> None:
    """Hold a call in a process of its own, which is killed at the end of the plan, or when it is to stop."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.soak_calls"),
        cwd=Path(__file__).parents[1],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=2**20,
    )
    assert process.stdin
    assert process.stdout

    async def kill() -> None:
        await stop.wait()
        with suppress(ProcessLookupError):
            process.kill()

    killing = asyncio.create_task(kill())
    try:
        process.stdin.write(json.dumps({"call": call.dumps(), "url": url, "token": token}).encode() + b"\n")
        process.stdin.close()
        while line := await process.stdout.readline():
            call.__dict__.update(Call.loads(line.decode()).__dict__)
        await process.wait()
    finally:
        killing.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    call.began, call.over = call.began or time.time(), call.over or time.time()


def _as_a_program() -> None:
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    call = Call.loads(asked["call"])

    def tell(call: Call) -> None:
        print(call.dumps(), flush=True)
        if call.over:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(hold(call, asked["url"], asked["token"], tell=tell, stop=asyncio.Event()))


if __name__ == "__main__":
    _as_a_program()
