"""A realtime model that follows a script, for tests: what it is told and what it answers, without audio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

from livekit.agents import llm
from livekit.agents.types import NOT_GIVEN

from tests.fake_llm import Part

T = TypeVar("T")
Script = Callable[[llm.ChatContext], Sequence[Part]]


class ScriptedRealtime(llm.RealtimeModel):
    """Answers with what the script makes of the context; keeps its sessions."""

    def __init__(self, script: Script, *, mutable_instructions: bool = True, session_class: Any = None) -> None:
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=False,
                turn_detection=False,
                user_transcription=True,
                auto_tool_reply_generation=False,
                audio_output=False,
                manual_function_calls=True,
                mutable_chat_context=True,
                mutable_instructions=mutable_instructions,
                mutable_tools=True,
                per_response_tool_choice=True,
            )
        )
        self.script = script
        self.session_class = session_class or Connected
        self.sessions: list[Connected] = []

    def session(self, *, turn_detection_disabled: bool = False) -> Connected:
        self.sessions.append(self.session_class(self))
        return self.sessions[-1]

    async def aclose(self) -> None: ...

    @property
    def told(self) -> str:
        """The instructions that the newest session has now."""
        return self.sessions[-1].told[-1]


class Connected(llm.RealtimeSession[Any]):
    """One session with the model."""

    def __init__(self, model: ScriptedRealtime) -> None:
        super().__init__(model)
        self.told: list[str] = []
        """All instructions, in order."""
        self.refuses = False
        self._model = model
        self._chat_ctx = llm.ChatContext.empty()
        self._tools = llm.ToolContext.empty()
        self._count = 0

    @property
    def chat_ctx(self) -> llm.ChatContext:
        return self._chat_ctx.copy()

    @property
    def tools(self) -> llm.ToolContext:
        return self._tools

    async def update_instructions(self, instructions: str) -> None:
        if self.refuses:
            raise llm.RealtimeError("the model refuses the instructions")
        self.told.append(instructions)

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        self._chat_ctx = chat_ctx.copy()

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        self._tools = llm.ToolContext(tools)

    def update_options(self, *, tool_choice: Any = NOT_GIVEN) -> None: ...
    def push_audio(self, frame: Any) -> None: ...
    def push_video(self, frame: Any) -> None: ...
    def commit_audio(self) -> None: ...
    def clear_audio(self) -> None: ...
    def interrupt(self) -> None: ...
    def truncate(self, **_: Any) -> None: ...
    async def aclose(self) -> None: ...

    def generate_reply(self, **_: Any) -> asyncio.Future[llm.GenerationCreatedEvent]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(self._generation(by_agent=True))
        return future

    def hear(self, text: str) -> None:
        """Say something to the model, which transcribes it and answers."""
        self._count += 1
        item_id = f"heard-{self._count}"
        self._chat_ctx.items.append(llm.ChatMessage(id=item_id, role="user", content=[text]))
        self.emit(
            "input_audio_transcription_completed",
            llm.InputTranscriptionCompleted(item_id=item_id, transcript=text, is_final=True),
        )
        self.emit("generation_created", self._generation(by_agent=False))

    def _generation(self, *, by_agent: bool) -> llm.GenerationCreatedEvent:
        self._count += 1
        response = f"response-{id(self)}-{self._count}"
        parts = list(self._model.script(self._chat_ctx))
        modalities = asyncio.get_running_loop().create_future()
        modalities.set_result(["text"])
        messages = [
            llm.MessageGeneration(f"{response}-said", _stream([part]), _stream([]), modalities)
            for part in parts
            if isinstance(part, str)
        ]
        functions = [
            llm.FunctionCall(call_id=f"{response}-{number}", name=part[0], arguments=json.dumps(part[1]))
            for number, part in enumerate(parts)
            if not isinstance(part, str)
        ]
        return llm.GenerationCreatedEvent(_stream(messages), _stream(functions), by_agent, response)


async def _stream(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item
