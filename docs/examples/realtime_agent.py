"""A speech-to-speech agent with memory, and with a tool of its own that keeps what the caller chooses.

python -m livekit.agents start realtime_agent.py
"""

from __future__ import annotations

from livekit.agents import AgentServer, AgentSession, JobContext, function_tool, inference

import lkmongo

server = AgentServer(setup_fnc=lkmongo.Memory.prewarm)


class Florist(lkmongo.MemoryAgent):
    """Has the memory's tools; what is known of the caller is added to its instructions."""

    def __init__(self) -> None:
        super().__init__(instructions="You are a friendly florist. Answer in one or two short sentences.")

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.generate_reply(instructions="Greet the caller, by name if it is known, and offer your help.")

    @function_tool
    async def choose_flower(self, flower: str) -> str:
        """Note which flower the caller has chosen.

        Args:
            flower: its name
        """
        await self.caller_session.remember("chosen_flower", flower)
        return f"{flower} it is."


@server.rtc_session(agent_name="florist")
async def answer(ctx: JobContext) -> None:
    """Take a call; it goes on when this has returned."""
    session = AgentSession(llm=inference.RealtimeModel("openai/gpt-realtime", voice="marin"))
    caller = await lkmongo.Memory.of(ctx).session(ctx)
    caller.attach(session)
    await session.start(agent=Florist(), room=ctx.room)
