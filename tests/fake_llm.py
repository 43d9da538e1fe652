"""A language model that follows a script, for tests: replies and tool calls come from a function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from livekit.agents import llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

from lkmongo.agent.fence import opened_output

Part = str | tuple[str, dict[str, Any]]
Script = Callable[[llm.ChatContext], Sequence[Part]]


class ScriptedLLM(llm.LLM):
    """Answers with what the script makes of the context; keeps every context that it was given."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.delay = 0.0
        """Seconds before the first token."""
        self.contexts: list[llm.ChatContext] = []

    @property
    def model(self) -> str:
        return "scripted"

    @property
    def provider(self) -> str:
        return "tests"

    def chat(
        self,
        *,
        chat_ctx,
        tools=None,
        conn_options=DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls=NOT_GIVEN,
        tool_choice=NOT_GIVEN,
        extra_kwargs=NOT_GIVEN,
    ):
        self.contexts.append(chat_ctx.copy())
        return _Stream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Stream(llm.LLMStream):
    async def _run(self) -> None:
        request = f"request-{len(self._llm.contexts)}"
        if self._llm.delay:
            await asyncio.sleep(self._llm.delay)
        for number, part in enumerate(self._llm.script(self._chat_ctx)):
            if isinstance(part, str):
                delta = llm.ChoiceDelta(role="assistant", content=part)
            else:
                name, arguments = part
                call = llm.FunctionToolCall(name=name, arguments=json.dumps(arguments), call_id=f"{request}-{number}")
                delta = llm.ChoiceDelta(role="assistant", tool_calls=[call])
            self._event_ch.send_nowait(llm.ChatChunk(id=request, delta=delta))
        usage = llm.CompletionUsage(completion_tokens=1, prompt_tokens=1, total_tokens=2)
        self._event_ch.send_nowait(llm.ChatChunk(id=request, usage=usage))


def calls(*tools: tuple[str, dict[str, Any]], greeting: str = "Hello.") -> Script:
    """A script that greets, calls the tools in answer to whatever is said, and reads out what they return."""

    def script(context: llm.ChatContext) -> Sequence[Part]:
        since_user = []
        for item in reversed(context.items):
            if item.type == "message" and item.role == "user":
                break
            since_user.append(item)
        else:
            return [greeting]
        outputs = [opened_output(item.output) for item in reversed(since_user) if item.type == "function_call_output"]
        return [" ".join(outputs)] if outputs else list(tools) or ["Nothing to do."]

    return script
