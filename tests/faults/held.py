"""Hold a whole call in this process while MongoDB has a fault: a real AgentSession, a real mongod, a scripted model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from livekit.agents import AgentSession, llm
from livekit.agents.testing import fake_job_context

from lkmongo.agent.assistant import Assistant
from lkmongo.agent.beginning import begin_session
from lkmongo.agent.ending import end_session
from lkmongo.embed.base import Embedder
from lkmongo.model import SessionStatus, UserScope, now
from lkmongo.outbox.journal import database_of, journal_folder
from lkmongo.outbox.recovery import recover
from lkmongo.settings import Settings
from lkmongo.store.open import Store, open_store
from tests.fake_llm import Part, ScriptedLLM
from tests.fault_proxy import FaultProxy

Phase = Literal["before", "greeting", "tool", "between", "hang-up"]
Kind = Literal["refuse", "stall", "cut", "slow", "restart", "step down"]

PHASES: tuple[Phase, ...] = ("before", "greeting", "tool", "between", "hang-up")
KINDS: tuple[Kind, ...] = ("refuse", "stall", "cut", "slow", "restart", "step down")
OF_ALL: tuple[Kind, ...] = ("restart", "step down")
"""What happens to mongod itself, and so to every call at the time."""

BUDGETS = {"greeting": 1.5, "turn": 2.0, "hang_up": 10.0}
"""Seconds: preload and greeting; a turn with two reads or writes of 0.5 s and the model; what a hang-up stores."""
SLACK = 1.0
"""Seconds that a busy machine may take longer, beside those in which the event loop stood still."""
_BEAT = 0.02


@dataclass(frozen=True, slots=True)
class Case:
    """One call: which fault, when it begins, and whether it is over while the call goes on."""

    number: int
    kind: Kind
    phase: Phase
    is_brief: bool

    @property
    def scope(self) -> UserScope:
        """Who calls; nobody else does."""
        return UserScope(tenant_id="default", user_id=f"caller-{self.number}")

    @property
    def session_id(self) -> str:
        """The call's id."""
        return f"call-{self.number}"


class Pulse:
    """How long this process has stood still, for a few dozen calls share it, and it the machine.

    A beat that comes late is a wait that the machine imposes on everybody, and no operation of anybody.
    """

    def __init__(self) -> None:
        self._stood_still = 0.0
        self._due = 0.0

    @property
    def stood_still(self) -> float:
        """Seconds in all, the beat included that is late now."""
        return self._stood_still + (max(0.0, time.monotonic() - self._due) if self._due else 0.0)

    async def beat(self) -> None:
        """Go on beating; meant to be cancelled."""
        try:
            while True:
                self._due = time.monotonic() + _BEAT
                await asyncio.sleep(_BEAT)
                self._stood_still += max(0.0, time.monotonic() - self._due)
        finally:
            self._due = 0.0


@dataclass(frozen=True, slots=True)
class Since:
    """When somebody began to wait, and how long the process had stood still by then."""

    moment: float
    stood_still: float


@dataclass(slots=True)
class Held:
    """What came of a call.

    Attributes:
        waits: how long the caller waited at most for each kind of thing, without the time in which the process stood
            still.
        slowest: what that was.
        stood_still: the longest time in one of the waits in which the process stood still.
    """

    case: Case
    waits: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BUDGETS, 0.0))
    slowest: dict[str, str] = field(default_factory=dict)
    stood_still: float = 0.0
    items: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, tuple[str, bool]] = field(default_factory=dict)
    stored: bool = False
    kept: bool = False
    outcome: str = ""
    wrong: list[str] = field(default_factory=list)

    def took(self, kind: str, what: str, since: Since, pulse: Pulse) -> None:
        """Note how long the caller waited."""
        stood_still = pulse.stood_still - since.stood_still
        wait = time.monotonic() - since.moment - stood_still
        self.stood_still = max(self.stood_still, stood_still)
        if wait > self.waits[kind]:
            self.waits[kind], self.slowest[kind] = wait, what


class Trouble:
    """Begins a call's fault when it is due, and ends it."""

    def __init__(self, case: Case, proxy: FaultProxy, disturb: Callable[[Kind], None], chance: random.Random) -> None:
        self._case = case
        self._proxy = proxy
        self._disturb = disturb
        self._chance = chance
        self._healing: asyncio.Task[None] | None = None
        self.begun = False

    def at(self, phase: Phase) -> None:
        """Begin the fault if this is its phase."""
        if phase != self._case.phase or self.begun:
            return
        self.begun = True
        if self._case.kind == "restart" or self._case.kind == "step down":
            self._disturb(self._case.kind)
            return
        self._proxy.begin(self._case.kind)
        if self._case.is_brief:
            self._healing = asyncio.create_task(self._heal(self._chance.uniform(0.3, 2.5)))

    async def _heal(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._proxy.end()

    async def end(self) -> None:
        """End it now."""
        if self._healing:
            self._healing.cancel()
            await asyncio.gather(self._healing, return_exceptions=True)
        await self._proxy.end()


@dataclass(frozen=True, slots=True)
class Rig:
    """What calls share.

    Attributes:
        store: MongoDB without a fault.
        socket_path: where it listens.
        embedder: makes vectors.
        folder: each call has its home in it.
        disturb: does something of `OF_ALL` to mongod; once for calls that ask for it at the same time.
        pause: seconds between two things that are said, at most.
        pulse: tells how long the process stands still.
        budgets: what somebody may wait for, by its kind; a machine that has other work may exceed any.
        environ: further settings of each call.
    """

    store: Store
    socket_path: str
    embedder: Embedder
    folder: Path
    disturb: Callable[[Kind], None]
    pause: float = 0.6
    pulse: Pulse = field(default_factory=Pulse)
    budgets: Mapping[str, float] = field(default_factory=lambda: BUDGETS)
    environ: Mapping[str, str] = field(default_factory=dict)

    def now(self) -> Since:
        """The beginning of a wait."""
        return Since(time.monotonic(), self.pulse.stood_still)

    def settings(self, case: Case, port: int) -> Settings:
        """The settings of a call whose MongoDB is at `port`."""
        return Settings.load(
            {
                "MONGODB_URI": f"mongodb://127.0.0.1:{port}/?directConnection=true",
                "MONGODB_DB": self.store.db.name,
                "LKMONGO_HOME": str(self.folder / case.session_id),
                "LKMONGO_EMBEDDINGS": "local",
                **self.environ,
            }
        )


async def prepare(rig: Rig, case: Case) -> None:
    """Let the caller be known already."""
    await rig.store.memories.remember(case.scope, "shoe size", "42")


async def hold(rig: Rig, case: Case, seed: int) -> Held:
    """Hold a call whose caller `prepare` has made; its fault is over after, and what it left on disk is recovered."""
    held = Held(case)
    chance = random.Random(f"{seed}-{case.number}")
    proxy = FaultProxy(rig.socket_path)
    await proxy.listen()
    trouble = Trouble(case, proxy, rig.disturb, chance)
    try:
        await _hold(rig.settings(case, proxy.port), rig, held, trouble, chance)
    finally:
        await trouble.end()
        if chance.random() < 0.5:  # what was held back may arrive before what was kept is recovered, or meanwhile
            await asyncio.sleep(0.3)
        held.outcome = await _recover(rig, held, proxy.port)
        await asyncio.sleep(0.3)
        await proxy.close()
    return held


async def _hold(settings: Settings, rig: Rig, held: Held, trouble: Trouble, chance: random.Random) -> None:
    case = held.case
    forgets = case.number % 2 == 0
    talk = [
        "hello",
        ("remember_detail", {"memory_type": "colour", "content": f"teal {case.number}"}),
        "how are you?",
        ("update_profile", {"field": "name", "value": f"Robin {case.number}"}),
        ("search_knowledge", {"query": "delivery time"}),
        ("remember_detail", {"memory_type": "colour", "content": f"green {case.number}"}),
        *([("forget_detail", {"memory_type": "shoe size"})] if forgets else []),
        ("list_user_memories", {}),
        "goodbye",
    ]
    in_tool = chance.choice([index for index, each in enumerate(talk) if not isinstance(each, str)])
    between = chance.randrange(1, len(talk))

    def script(context: llm.ChatContext) -> Sequence[Part]:
        since_user = []
        for item in reversed(context.items):
            if item.type == "message" and item.role == "user":
                break
            since_user.append(item)
        else:
            trouble.at("greeting")
            return ["Hello there."]
        outputs = [each.output for each in reversed(since_user) if each.type == "function_call_output"]
        if outputs:
            return [f"It says: {outputs[-1]}"]
        index, _, said = (item.text_content or "").partition(" ")
        if not said.startswith("["):
            return [f"You said {said}"]
        if int(index) == in_tool:
            trouble.at("tool")
        name, arguments = json.loads(said)
        return [(name, arguments)]

    began = rig.now()
    trouble.at("before")
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings))
        call = await stack.enter_async_context(
            begin_session(
                settings,
                store,
                rig.embedder,
                case.scope,
                guest=False,
                session_id=case.session_id,
                room_name="a room",
            )
        )
        job = stack.enter_context(fake_job_context(job_id=case.session_id))
        session: AgentSession[Any] = AgentSession(
            llm=ScriptedLLM(script), userdata=call, vad=None, turn_handling={"turn_detection": None}
        )
        await call.caller.preload()
        call.attach(session)
        await session.start(Assistant(), capture_run=True, record=False)
        held.took("greeting", "the greeting", began, rig.pulse)
        for index, each in enumerate(talk):
            if index == between:
                trouble.at("between")
            await asyncio.sleep(chance.uniform(0, rig.pause))
            asked = rig.now()
            words = f"{index} {each if isinstance(each, str) else json.dumps(each)}"
            result = await session.run(user_input=words)
            held.took("turn", words, asked, rig.pulse)
            for event in result.events:
                if event.type == "function_call_output":
                    held.outputs[f"{index} {event.item.name}"] = (event.item.output, event.item.is_error)
        await asyncio.sleep(chance.uniform(0, rig.pause))
        for item in session.history.items:
            if item.type == "function_call" or (item.type == "message" and item.role in {"user", "assistant"}):
                held.items.append(item.id)
                held.said[item.id] = item.name if item.type == "function_call" else item.text_content or ""
        trouble.at("hang-up")
        ended = rig.now()
        await session.aclose()
        held.stored = await end_session(
            call,
            "hang-up",
            lambda: job.make_session_report(session).to_dict(include_chat_history=False, include_events=False),
            ended_at=now(),
        )
        held.kept = call.recorder.is_journaled
        held.took("hang_up", "the hang-up", ended, rig.pulse)
        if not trouble.begun:
            held.wrong.append("the fault never began")


async def _recover(rig: Rig, held: Held, port: int) -> str:
    """Store what the call left, as the next process would; returns how the call came into MongoDB."""
    settings = rig.settings(held.case, port)
    assert settings.mongodb_uri is not None
    folder = journal_folder(settings.data_home)
    database = database_of(settings.mongodb_uri.get_secret_value(), settings.mongodb_db)
    mine = []
    for _ in range(20):  # mongod may be on its way still
        try:
            found = await recover(rig.store, folder, database, on_error=lambda error: held.wrong.append(error.message))
        except Exception as error:
            mine.append(error)
            await asyncio.sleep(0.5)
            continue
        left = list(folder.iterdir()) if folder.exists() else []
        if left:
            held.wrong.append(f"files are left: {left}")
        own = [each for each in found if each.session_id == held.case.session_id]
        return f"recovered, {own[0].outcome}" if own else "stored by the call"
    held.wrong.append(f"it cannot be recovered: {mine[-1]}")
    return "lost"


async def judge(rig: Rig, held: Held) -> None:
    """Compare what MongoDB holds with what was said, and what is remembered with what was asked for."""
    case, wrong, store = held.case, held.wrong, rig.store
    turns = await store.sessions.turns(case.scope, case.session_id)
    there = [turn.item_id for turn in turns]
    if there != held.items:
        names = {item: f"{number}:{held.said[item][:20]}" for number, item in enumerate(held.items)}
        wrong.append(f"turns: {[names.get(item, item) for item in there]} instead of {list(names.values())}")
    if [turn.seq for turn in turns] != sorted({turn.seq for turn in turns}):
        wrong.append("two turns have one number")
    record = await store.sessions.get(case.scope, case.session_id)
    if record is None:
        wrong.append("there is no session")
    elif (record.status, record.close_reason) != (SessionStatus.COMPLETE, "hang-up"):
        wrong.append(f"the call is {record.status}, {record.close_reason}")
    slots = {memory.memory_type: memory.content for memory in await store.memories.slots(case.scope)}
    expected = {"colour": f"green {case.number}"} | ({} if case.number % 2 == 0 else {"shoe_size": "42"})
    if slots != expected:
        wrong.append(f"remembered: {slots} instead of {expected}; told: {held.outputs}")
    profile = await store.users.get(case.scope)
    if profile is None or profile.name != f"Robin {case.number}":
        wrong.append(f"the name is {profile and profile.name}; told: {held.outputs}")
    has_gist = bool(profile and profile.last_session)
    if has_gist is (case.number % 2 == 0):
        wrong.append("there is a gist of what was forgotten" if has_gist else "there is no gist")
    if held.outcome == "stored by the call" and not held.stored:
        wrong.append("the call said that it is not stored")
    for what, budget in rig.budgets.items():
        if held.waits[what] > budget + SLACK:
            wrong.append(f"{what}: {held.waits[what]:.1f} s for {held.slowest[what]}")
