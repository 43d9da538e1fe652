"""Hold a call in a test: a real AgentSession, a real MongoDB, and a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from livekit.agents import Agent, AgentSession
from livekit.agents.llm import LLM
from livekit.agents.testing import fake_job_context

from lkmongo.agent.assistant import Assistant
from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.ending import end_session, tell_end
from lkmongo.agent.learning import Learner
from lkmongo.agent.recorder import Recorder
from lkmongo.embed.choose import create_embedder
from lkmongo.model import Turn, UserScope, now
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.open import Store
from lkmongo.tenants import Tenants
from tests.fake_llm import Script, ScriptedLLM
from tests.overlaps import outbox_of

OURS = object()
"""As `userdata`: the session of the caller, as our own worker and console have it."""


@dataclass
class Talk:
    """A call that is going on."""

    session: AgentSession[Any]
    call: CallerSession
    llm: ScriptedLLM
    job: Any

    async def say(self, text: str) -> str:
        """Say something and return what the agent answers."""
        return said(await self.session.run(user_input=text))

    async def tool(self, name: str, **arguments: Any) -> tuple[str, bool]:
        """Let the model call a tool; returns its output and whether it is an error."""
        from tests.fake_llm import calls

        self.llm.script = calls((name, arguments))
        result = await self.session.run(user_input=f"call {name}")
        (output,) = [event.item for event in result.events if event.type == "function_call_output"]
        return output.output, output.is_error


def said(result: Any) -> str:
    """What the agent said in a run."""
    return " ".join(
        event.item.text_content or ""
        for event in result.events
        if event.type == "message" and event.item.role == "assistant"
    )


async def hang_up(call: Talk, model: LLM[Any] | None = None) -> None:
    """End a call as a room or the console does, and learn from it by this model."""
    learner = model and Learner(call.call.store, create_embedder("local"), model, "on")
    ended_at = now()
    stored = await end_session(call.call, "hang-up", dict, ended_at=ended_at, learns=model is not None)
    await tell_end(call.call, "hang-up", ended_at, stored=stored, learner=learner)


@asynccontextmanager
async def talk(
    store: Store,
    scope: UserScope,
    script: Script,
    *,
    agent: Agent | None = None,
    guest: bool = False,
    session_id: str = "console-test",
    resumed: Sequence[Turn] = (),
    model: Any = None,
    userdata: Any = OURS,
    tenants: Tenants | None = None,
) -> AsyncIterator[Talk]:
    """Hold a call with `scope`, greeting included; the record is closed after.

    `resumed` are the turns of a call that is gone on with, `model` one to take instead of the script.
    """
    async with calling(store, scope, guest=guest, session_id=session_id, tenants=tenants) as call:
        await call.caller.preload()
        if resumed:
            call.resume_after(resumed)
        async with talking(call, model or ScriptedLLM(script), agent or Assistant(), userdata=userdata) as begun:
            yield begun


@asynccontextmanager
async def calling(
    store: Store,
    scope: UserScope,
    *,
    guest: bool = False,
    session_id: str = "console-test",
    tenants: Tenants | None = None,
) -> AsyncIterator[CallerSession]:
    """A session of `scope` that is attached to nothing yet; its record is closed after."""
    embedder = create_embedder("local")
    outbox = outbox_of(store, scope, session_id, "console")
    recorder, caller = Recorder(outbox), Caller(store, embedder, outbox, guest=guest, tenants=tenants)
    call = CallerSession(session_id, "console", caller, store, ExactStrategy(store.db, embedder), recorder)
    yield call
    await caller.flush(2)
    await recorder.close("hang-up", dict)
    await recorder.lease.release()
    await embedder.close()


@asynccontextmanager
async def talking(call: CallerSession, model: Any, agent: Agent, *, userdata: Any = OURS) -> AsyncIterator[Talk]:
    """Attach `call` to a session in text and begin it; `userdata` is the session itself unless it is given."""
    with fake_job_context(job_id=call.session_id) as job:
        userdata = call if userdata is OURS else userdata
        async with AgentSession(
            llm=model, userdata=userdata, vad=None, turn_handling={"turn_detection": None}
        ) as session:
            call.attach(session)
            await session.start(agent, capture_run=True, record=False)
            yield Talk(session, call, model, job)
        report = job.make_session_report(session).to_dict(include_chat_history=False, include_events=False)
        call.recorder.facts |= {name: lambda value=value: value for name, value in report.items()}
