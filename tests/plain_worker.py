"""A worker as anybody writes it for an agent of their own, with lkmongo's memory and without its command, for tests.

Its jobs meet LiveKit's stand-in for a room, as in `worker_process`; the name of the room says what happens in it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from pathlib import Path

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, get_job_context
from livekit.agents.voice.room_io import RoomOptions

import lkmongo
from tests.fake_llm import ScriptedLLM
from tests.waiting import until

NAME = "plain"
server = AgentServer(setup_fnc=lkmongo.Memory.prewarm, host="127.0.0.1", port=0)


def script(context):
    """Remember what the caller says once; say whether it is known already."""
    last = context.items[-1]
    if last.type == "message" and last.role == "user":
        return [("remember_detail", {"memory_type": "favorite_color", "content": "teal"})]
    return ["You like teal." if "teal" in str(context.items) else "Hello."]


class Plain(Agent):
    """Knows nothing of lkmongo but the tools it is given."""

    async def on_enter(self) -> None:
        self._acting = asyncio.create_task(self._act(get_job_context().job.room.name.partition("-")[0]))

    async def _act(self, what: str) -> None:
        await self.session.generate_reply()
        await self.session.generate_reply(user_input="my favorite color is teal")
        if what == "close":
            await self.session.aclose()
            await until(Path("they-may-end").exists)
            get_job_context().shutdown("done")
        elif what == "shutdown":
            get_job_context().shutdown("done")
        elif what == "kill":
            Path("said").touch()  # noqa: ASYNC240
            await until(Path("kill").exists)
            os.kill(os.getpid(), signal.SIGKILL)


@server.rtc_session(agent_name=NAME)
async def entrypoint(ctx: JobContext) -> None:
    """Return while the conversation goes on, as LiveKit wants it."""
    if ctx.job.room.name.startswith("crash"):
        await lkmongo.Memory.of(ctx).session(ctx)
        raise RuntimeError("this entrypoint fails")
    async with lkmongo.Memory.of(ctx).session(ctx) as caller:  # leaving it ends nothing that is attached
        session = AgentSession(llm=ScriptedLLM(script), vad=None, turn_handling={"turn_detection": None})
        caller.attach(session)
        options = RoomOptions(audio_input=False, audio_output=False)
        agent = Plain(instructions="Be brief.", tools=caller.tools())
        await session.start(agent=agent, room=ctx.room, room_options=options)


async def main() -> None:
    """Serve until SIGTERM."""
    from livekit.agents import worker as sdk

    made = sdk.RunningJobInfo
    sdk.RunningJobInfo = functools.partial(_without_media, made)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = asyncio.create_task(server.run(devmode=True))
    await stop.wait()
    await server.aclose()
    await running


def _without_media(made, **fields):
    return made(**(fields | {"fake_job": True}))


if __name__ == "__main__":
    asyncio.run(main())
