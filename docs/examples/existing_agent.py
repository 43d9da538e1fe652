"""LiveKit's starter agent with memory: five lines are new, and nothing else knows of lkmongo.

python -m livekit.agents start existing_agent.py
"""

from __future__ import annotations

from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, inference

import lkmongo

server = AgentServer(setup_fnc=lkmongo.Memory.prewarm)


class Florist(Agent):
    """An agent as anybody writes one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(instructions="You are a friendly florist. Answer in one or two short sentences.", **options)

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.generate_reply(instructions="Greet the caller, by name if it is known, and offer your help.")


@server.rtc_session(agent_name="florist")
async def answer(ctx: JobContext) -> None:
    """Take a call; it goes on when this has returned."""
    session = AgentSession(
        stt=inference.STT("deepgram/nova-3", language="multi"),
        llm=inference.LLM("openai/gpt-5.3-chat-latest"),
        tts=inference.TTS("cartesia/sonic-3"),
    )
    caller = await lkmongo.Memory.of(ctx).session(ctx)
    caller.attach(session)
    await session.start(agent=Florist(tools=caller.tools()), room=ctx.room)
