"""The demo responder as a language model of livekit-agents: `AgentSession(llm=DemoLLM())`."""

from __future__ import annotations

import inspect
import itertools
import json
import re
from typing import Any
from uuid import uuid4

from livekit.agents import llm
from livekit.agents.llm import ChatChunk, ChoiceDelta, CompletionUsage, FunctionToolCall
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from lkmongo.agent.assistant import words_of_greeting
from lkmongo.agent.briefing import DATA_ID
from lkmongo.agent.fence import opened_output
from lkmongo.agent.models import ModelChoice
from lkmongo.demo.intents import understand
from lkmongo.demo.replies import Output, ToolCall, going_on, greeting, next_step, on_consent, read_caller_data, reply
from lkmongo.demo.who import on_who_speaks


class DemoLLM(llm.LLM[str]):
    """Understands a few plain English sentences, calls the agent's tools, and speaks what they answer.

    It keeps nothing between two requests: everything comes from the chat context, so that a session can be handed over
    in the middle.
    """

    def __init__(self) -> None:
        """There is nothing to configure."""
        super().__init__()
        self._prefix = uuid4().hex[:12]
        self._numbers = itertools.count(1)

    @property
    def model(self) -> str:
        """What reports and metrics name as the model."""
        return "demo-responder"

    @property
    def provider(self) -> str:
        """What reports and metrics name as the provider."""
        return "lkmongo"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,  # noqa: ARG002 - there is one call a turn
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,  # noqa: ARG002 - no provider, so nothing to pass on
    ) -> llm.LLMStream:
        """Answer the last item of the context: a greeting, a tool call, or speech."""
        return _Stream(
            self,
            chat_ctx=chat_ctx,
            tools=(tools or []) if tool_choice != "none" else [],
            conn_options=conn_options,
            request_id=f"demo-{self._prefix}-{next(self._numbers)}",
        )


class _Stream(llm.LLMStream):
    def __init__(
        self,
        responder: DemoLLM,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
        request_id: str,
    ) -> None:
        super().__init__(responder, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._request_id = request_id

    async def _run(self) -> None:
        step = _respond(self._chat_ctx, self._tools)
        if isinstance(step, ToolCall):
            call = FunctionToolCall(
                name=step.tool, arguments=json.dumps(dict(step.arguments)), call_id=f"{self._request_id}-call"
            )
            self._send(ChoiceDelta(role="assistant", tool_calls=[call]))
        else:
            for piece in re.findall(r"\S+\s*", step):
                self._send(ChoiceDelta(role="assistant", content=piece))
        usage = CompletionUsage(completion_tokens=0, prompt_tokens=0, total_tokens=0)  # there are no tokens
        self._event_ch.send_nowait(ChatChunk(id=self._request_id, usage=usage))

    def _send(self, delta: ChoiceDelta) -> None:
        self._event_ch.send_nowait(ChatChunk(id=self._request_id, delta=delta))


def demo_model() -> ModelChoice:
    """The demo responder in the place of a language model."""
    return ModelChoice(
        DemoLLM(),
        "the demo responder: fixed rules for a few plain sentences, no language model "
        "(set LKMONGO_LLM_BASE_URL or LiveKit Cloud credentials for one)",
        is_responder=True,
    )


def _respond(context: llm.ChatContext, tools: list[llm.Tool]) -> ToolCall | str:
    items = list(context.items)
    told = [
        item.text_content or ""
        for item in items
        if isinstance(item, llm.ChatMessage) and (item.id == DATA_ID or item.role in {"system", "developer"})
    ]
    caller = read_caller_data(told)
    items = [item for item in items if item.id != DATA_ID]
    names = {tool.id for tool in tools}
    asked = [index for index, item in enumerate(items) if isinstance(item, llm.ChatMessage) and item.role == "user"]
    if not asked:
        has_begun = any(isinstance(item, llm.ChatMessage) and item.role == "assistant" for item in items)
        words = next(filter(None, map(words_of_greeting, reversed(told))), None)
        return going_on(caller) if has_begun else greeting(caller, names, words)
    after = items[asked[-1] + 1 :]
    if after and isinstance(after[-1], llm.ChatMessage) and after[-1].role in {"system", "developer"}:
        # A reply was asked for without the caller having spoken: the session goes on after an interruption.
        return going_on(caller)
    said = _text(items[asked[-1]])
    intent = understand(said)
    if outputs := _outputs(after):
        return " ".join(reply(intent, output) for output in outputs)
    before = _last_words(items[: asked[-1]])
    if answer := on_consent(said, before, names) or on_who_speaks(said, before, caller, names):
        return answer
    return next_step(intent, caller, names, lists_orders=any(map(_lists_orders, tools)))


def _text(item: llm.ChatItem) -> str:
    return (item.text_content if isinstance(item, llm.ChatMessage) else None) or ""


def _last_words(items: list[llm.ChatItem]) -> str:
    """What the agent said last."""
    said = (item for item in reversed(items) if isinstance(item, llm.ChatMessage) and item.role == "assistant")
    return next(map(_text, said), "")


def _outputs(after: list[llm.ChatItem]) -> list[Output]:
    names = {item.call_id: item.name for item in after if isinstance(item, llm.FunctionCall)}
    return [
        Output(names.get(item.call_id, item.name), opened_output(item.output), item.is_error)
        for item in after
        if isinstance(item, llm.FunctionCallOutput)
    ]


def _lists_orders(tool: llm.Tool) -> bool:
    """Whether a tool looks up orders without a number, as the assistant's own does: another agent's may need one."""
    if tool.id != "lookup_order" or not isinstance(tool, llm.FunctionTool):
        return False
    number = inspect.signature(tool).parameters.get("order_id")
    return number is not None and number.default is not number.empty
