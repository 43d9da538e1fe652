"""The worker that `benchmarks.rooms` compares with: an agent as LiveKit's documentation begins, without any memory.

    python -m benchmarks.rooms_bare

It has one tool that keeps nothing, and all settings are the SDK's own but one: the load that it tells is always none,
so that no caller is turned away. It talks where LIVEKIT_INFERENCE_URL names a gateway, and reads and writes elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, function_tool, llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.voice.room_io import RoomOptions
from livekit.agents.voice.turn import EndpointingOptions

from lkmongo.settings import Settings

GREETING = "Hello, what can I do for you?"
server = AgentServer(host="127.0.0.1", port=0, load_fnc=lambda: 0.0)


class AtOnce(llm.LLM[str]):
    """A language model that takes no time: it greets, has remembered whatever is said, and says so."""

    def chat(self, *, chat_ctx: llm.ChatContext, tools: list[llm.Tool] | None = None, **_: Any) -> llm.LLMStream:
        """Answer the last item of the context."""
        return _Stream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=DEFAULT_API_CONNECT_OPTIONS)


class _Stream(llm.LLMStream):
    async def _run(self) -> None:
        last = self._chat_ctx.items[-1] if self._chat_ctx.items else None
        if isinstance(last, llm.FunctionCallOutput):
            self._send(content=last.output)
        elif isinstance(last, llm.ChatMessage) and last.role == "user":
            arguments = json.dumps({"content": (last.text_content or "").partition(" is ")[2]})
            call = llm.FunctionToolCall(name="remember_detail", arguments=arguments, call_id=last.id)
            self._send(tool_calls=[call])
        else:
            self._send(content=GREETING)

    def _send(self, **content: Any) -> None:
        delta = llm.ChoiceDelta(role="assistant", **content)
        self._event_ch.send_nowait(llm.ChatChunk(id="at-once", delta=delta))


class Forgetful(Agent):
    """Says that it remembers."""

    async def on_enter(self) -> None:
        """Greet."""
        self.session.generate_reply()

    @function_tool
    async def remember_detail(self, content: str, memory_type: str = "favorite_color") -> str:
        """Remember a detail about the caller."""
        return f"I will remember your {memory_type.replace('_', ' ')}: {content}."


def agent_session() -> AgentSession[None]:
    """With speech and a language model from the gateway, or in text with one that takes no time."""
    if "LIVEKIT_INFERENCE_URL" not in os.environ:
        return AgentSession(llm=AtOnce(), vad=None, turn_handling={"turn_detection": None})
    settings = Settings.load()
    shortest, longest = settings.endpointing
    delays: EndpointingOptions = {"min_delay": shortest, "max_delay": longest}
    return AgentSession(llm=settings.llm, stt=settings.stt, tts=settings.tts, turn_handling={"endpointing": delays})


@server.rtc_session(agent_name=os.environ.get("LKMONGO_AGENT_NAME", "bare"))
async def entrypoint(ctx: JobContext) -> None:
    """Return while the conversation goes on."""
    session = agent_session()
    aloud = session.stt is not None
    options = RoomOptions(audio_input=aloud, audio_output=aloud)
    await ctx.connect()  # before it greets: the SDK tells the room, and without speech nothing else waits for it
    await session.start(agent=Forgetful(instructions="Be brief."), room=ctx.room, room_options=options)


async def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running = asyncio.create_task(server.run())
    await stop.wait()
    await server.aclose()
    await running


if __name__ == "__main__":
    asyncio.run(main())
