"""The built-in responder: an `llm.LLM` of livekit-agents with rules instead of a language model behind it."""

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

from lkmongo.agent.responder import say
from lkmongo.agent.responder.caller_data import read_caller_data
from lkmongo.agent.responder.outcome import Output
from lkmongo.agent.responder.plan import Situation, Step, next_step
from lkmongo.agent.responder.understand import Before, understand

_CALL_ID = re.compile(r"lkr-[0-9a-f]+-\d+-(?P<intent>\d+)-(?P<rung>\d+)-\d+$")


class Responder(llm.LLM[str]):
    """Understands plain English requests, calls the agent's tools, and speaks what they answer.

    It keeps nothing between two requests: everything comes from the chat context, so that a conversation can be
    handed over in the middle. Used like any other model: `AgentSession(llm=Responder())`.
    """

    def __init__(self) -> None:
        """There is nothing to configure."""
        super().__init__()
        self._prefix = uuid4().hex[:12]
        self._numbers = itertools.count(1)

    @property
    def model(self) -> str:
        """What reports and metrics name as the model."""
        return "built-in-responder"

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
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,  # noqa: ARG002 - calls of one step are always parallel
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,  # noqa: ARG002 - no provider, so nothing to pass on
    ) -> llm.LLMStream:
        """Answer the last item of the context: a greeting, tool calls, or speech."""
        return _Stream(
            self,
            chat_ctx=chat_ctx,
            tools=tools or [],
            conn_options=conn_options,
            request_id=f"lkr-{self._prefix}-{next(self._numbers)}",
            may_call=tool_choice != "none",
        )


class _Stream(llm.LLMStream):
    def __init__(
        self,
        responder: Responder,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
        request_id: str,
        may_call: bool,
    ) -> None:
        super().__init__(responder, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._request_id = request_id
        self._may_call = may_call

    async def _run(self) -> None:
        step = _respond(
            self._chat_ctx,
            {tool.id for tool in self._tools},
            may_call=self._may_call,
            lists_orders=any(map(_lists_orders, self._tools)),
        )
        if step.calls:
            calls = [
                FunctionToolCall(
                    name=call.tool,
                    arguments=json.dumps(dict(call.arguments)),
                    call_id=f"{self._request_id}-{call.intent}-{call.rung}-{number}",
                )
                for number, call in enumerate(step.calls)
            ]
            self._send(ChoiceDelta(role="assistant", tool_calls=calls))
        for piece in re.findall(r"\S+\s*", step.text):
            self._send(ChoiceDelta(role="assistant", content=piece))
        usage = CompletionUsage(completion_tokens=0, prompt_tokens=0, total_tokens=0)  # there are no tokens
        self._event_ch.send_nowait(ChatChunk(id=self._request_id, usage=usage))

    def _send(self, delta: ChoiceDelta) -> None:
        self._event_ch.send_nowait(ChatChunk(id=self._request_id, delta=delta))


def _lists_orders(tool: llm.Tool) -> bool:
    """Whether a tool looks up orders without a number, as the assistant's own does: another agent's may need one."""
    if tool.id != "lookup_order" or not isinstance(tool, llm.FunctionTool):
        return False
    number = inspect.signature(tool).parameters.get("order_id")
    return number is not None and number.default is not number.empty


def _respond(context: llm.ChatContext, tools: set[str], *, may_call: bool, lists_orders: bool) -> Step:
    items = list(context.items)
    caller = read_caller_data(
        item.text_content or ""
        for item in items
        if isinstance(item, llm.ChatMessage) and item.role in {"system", "developer"}
    )
    asked = [index for index, item in enumerate(items) if isinstance(item, llm.ChatMessage) and item.role == "user"]
    if not asked:
        begun = any(isinstance(item, llm.ChatMessage) and item.role == "assistant" for item in items)
        return Step(text=say.going_on(caller) if begun else say.greeting(caller, tools))
    last = asked[-1]
    after = items[last + 1 :]
    if after and isinstance(after[-1], llm.ChatMessage) and after[-1].role in {"system", "developer"}:
        # A reply was asked for without the caller having spoken: the conversation goes on after an interruption.
        return Step(text=say.going_on(caller))
    message = items[last]
    text = (message.text_content if isinstance(message, llm.ChatMessage) else None) or ""
    turn_before = items[asked[-2] + 1 if len(asked) > 1 else 0 : last]
    done, others = _outputs(after)
    situation = Situation(caller, tools, done, may_call, _last_said(turn_before), lists_orders)
    if others and not done:
        return Step(text=" ".join(others))  # another model called these tools and was replaced in between
    return next_step(understand(text, _before(turn_before)), situation)


def _outputs(after: list[llm.ChatItem]) -> tuple[dict[int, dict[int, list[Output]]], list[str]]:
    done: dict[int, dict[int, list[Output]]] = {}
    others: list[str] = []
    tools = {item.call_id: item.name for item in after if isinstance(item, llm.FunctionCall)}
    for item in after:
        if not isinstance(item, llm.FunctionCallOutput):
            continue
        if match := _CALL_ID.match(item.call_id):
            rungs = done.setdefault(int(match["intent"]), {})
            rungs.setdefault(int(match["rung"]), []).append(
                Output(tools.get(item.call_id, item.name), item.output, item.is_error)
            )
        else:
            others.append(item.output)
    return done, others


def _last_said(items: list[llm.ChatItem]) -> str:
    said = [item.text_content or "" for item in items if isinstance(item, llm.ChatMessage) and item.role == "assistant"]
    return said[-1] if said else ""


def _before(items: list[llm.ChatItem]) -> Before:
    said = _last_said(items)
    remembered = [item for item in items if isinstance(item, llm.FunctionCall) and item.name == "remember_detail"]
    labels = [_argument(item.arguments, "memory_type") for item in remembered]
    return Before(
        asked_for="order" if say.ORDER_MARK in said else say.asked_field(said),
        order=any(isinstance(item, llm.FunctionCall) and item.name == "lookup_order" for item in items),
        labels=tuple(filter(None, labels)),
    )


def _argument(arguments: str, name: str) -> str:
    try:
        value = json.loads(arguments).get(name)
    except (ValueError, AttributeError):
        return ""
    return value if isinstance(value, str) else ""
