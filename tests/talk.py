"""Hold a call in a test: a real AgentSession, a real MongoDB, and a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from livekit.agents import AgentSession
from livekit.agents.testing import fake_job_context

from lkmongo.agent.assistant import Assistant
from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.recorder import Recorder
from lkmongo.embed.choose import create_embedder
from lkmongo.model import Turn, UserScope
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.open import Store
from tests.fake_llm import Script, ScriptedLLM
from tests.overlaps import outbox_of


@dataclass
class Talk:
    """A call that is going on."""

    session: AgentSession[CallerSession]
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


@asynccontextmanager
async def talk(
    store: Store,
    scope: UserScope,
    script: Script,
    *,
    agent: Assistant | None = None,
    guest: bool = False,
    session_id: str = "console-test",
    resumed: Sequence[Turn] = (),
    model: Any = None,
) -> AsyncIterator[Talk]:
    """Hold a call with `scope`, greeting included; the record is closed after.

    `resumed` are the turns of a call that is gone on with, `model` one to take instead of the script.
    """
    embedder = create_embedder("local")
    outbox = outbox_of(store, scope, session_id, "console")
    recorder, caller = Recorder(outbox), Caller(store, embedder, outbox, guest=guest)
    call = CallerSession(session_id, "console", caller, store, ExactStrategy(store.db, embedder), recorder)
    await caller.preload()
    if resumed:
        call.resume_after(resumed)
    model = model or ScriptedLLM(script)
    with fake_job_context(job_id=session_id) as job:
        async with AgentSession(llm=model, userdata=call, vad=None, turn_handling={"turn_detection": None}) as session:
            call.attach(session)
            await session.start(agent or Assistant(), capture_run=True, record=False)
            yield Talk(session, call, model, job)
        await caller.flush(2)
        await recorder.close(
            "hang-up",
            lambda: job.make_session_report(session).to_dict(include_chat_history=False, include_events=False),
        )
        await recorder.lease.release()
    await embedder.close()
