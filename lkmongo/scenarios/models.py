"""The models of a scenario: one that does what the scenario says, and one that notes what another is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from livekit.agents import llm
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr

from lkmongo.agent.fence import opened, opened_output
from lkmongo.agent.models import ModelChoice
from lkmongo.scenarios.days import filled

if TYPE_CHECKING:
    from lkmongo.scenarios.scenario import Learned, Step

GREETING = "Hello."
ALL_RIGHT = "All right."
"""What a scripted model says when neither the scenario nor a tool has an answer."""


class ScriptedModel(llm.LLM[str]):
    """Takes one step of the turn each time it is asked; without a step left, it reads out what the tools returned."""

    def __init__(self, warn: Callable[[str], None], learned: Learned | None = None) -> None:
        """Take no step yet.

        Args:
            warn: called when the agent does not have a tool: the SDK drops such a call without a word.
            learned: the answer when it is asked what the call teaches.
        """
        super().__init__()
        self._warn = warn
        self._learned = learned
        self._steps: list[Step] = []

    @property
    def model(self) -> str:
        """What reports and metrics name as the model."""
        return "scripted"

    @property
    def provider(self) -> str:
        """What reports and metrics name as the provider."""
        return "lkmongo"

    def begin_turn(self, steps: Sequence[Step]) -> None:
        self._steps = list(steps)

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,  # noqa: ARG002 - each step is one call
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,  # noqa: ARG002 - the scenario chooses
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,  # noqa: ARG002 - no provider, so nothing to pass on
    ) -> llm.LLMStream:
        """Take the next step, or say what the call teaches."""
        asked = _asked_to_learn(chat_ctx) if self._learned else None
        step = self._steps.pop(0) if self._steps and not asked else None
        delta = llm.ChoiceDelta(role="assistant")
        if asked and self._learned:
            delta.content = _taught(self._learned, asked)
        elif step and step.tool is not None:
            if step.tool not in (names := {tool.id for tool in tools or []}):
                self._warn(f"the agent has no tool {step.tool}; it has {', '.join(sorted(names)) or 'none'}")
            arguments = json.dumps(filled(step.arguments))
            delta.tool_calls = [llm.FunctionToolCall(name=step.tool, arguments=arguments, call_id=f"call-{uuid4()}")]
        else:
            delta.content = filled(step.answer) if step else _read_out(chat_ctx)
        return _Stream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options, delta=delta)


class _Stream(llm.LLMStream):
    def __init__(self, model: ScriptedModel, *, delta: llm.ChoiceDelta, **options: Any) -> None:
        super().__init__(model, **options)
        self._delta = delta

    async def _run(self) -> None:
        request = str(uuid4())
        self._event_ch.send_nowait(llm.ChatChunk(id=request, delta=self._delta))
        usage = llm.CompletionUsage(completion_tokens=0, prompt_tokens=0, total_tokens=0)  # there are no tokens
        self._event_ch.send_nowait(llm.ChatChunk(id=request, usage=usage))


def _read_out(context: llm.ChatContext) -> str:
    """What the tools have returned since the caller spoke, else something to say."""
    outputs: list[str] = []
    for item in reversed(context.items):
        if isinstance(item, llm.FunctionCallOutput):
            outputs.insert(0, opened_output(item.output))
        elif isinstance(item, llm.ChatMessage) and item.role == "user":
            return " ".join(outputs) or ALL_RIGHT
    return " ".join(outputs) or GREETING


def _asked_to_learn(context: llm.ChatContext) -> dict[str, Any] | None:
    """The call that a request is about which asks what it teaches; None if it asks for an answer to the caller."""
    last = context.items[-1] if context.items else None
    if not isinstance(last, llm.ChatMessage) or not isinstance(text := last.text_content, str):
        return None
    data = opened(text)
    return data if isinstance(data, dict) and {"began", "known", "turns"} <= data.keys() else None


def _taught(learned: Learned, asked: dict[str, Any]) -> str:
    """The answer, with the turns' ids instead of numbers, and those of commitments instead of their texts."""
    ids = [turn["id"] for turn in asked["turns"] if turn["who"] == "caller"]
    quoting = [
        [filled(each) | {"quote": ids[each["quote"] - 1]} for each in some]
        for some in (learned.facts, learned.commitments)
    ]
    closed = [each["id"] for each in asked["open_commitments"] if each["text"] in learned.closed]
    facts, commitments = quoting
    answer = {"summary": learned.summary, "topics": list(learned.topics), "facts": facts, "commitments": commitments}
    return json.dumps(filled(answer) | {"closed": closed})


class WatchedModel(llm.LLM[str]):
    """Asks another model, and notes the context of each request."""

    def __init__(self, inner: llm.LLM[Any], note: Callable[[llm.ChatContext], None]) -> None:
        super().__init__()
        self._inner = inner
        self._note = note
        inner.on("metrics_collected", partial(self.emit, "metrics_collected"))
        inner.on("error", partial(self.emit, "error"))

    @property
    def model(self) -> str:
        """The name of the model that is asked."""
        return self._inner.model

    @property
    def provider(self) -> str:
        """The provider of the model that is asked."""
        return self._inner.provider

    def chat(self, *, chat_ctx: llm.ChatContext, **options: Any) -> llm.LLMStream:
        """Note what the model is told in the call, and ask it."""
        if not _asked_to_learn(chat_ctx):
            self._note(chat_ctx)
        return self._inner.chat(chat_ctx=chat_ctx, **options)

    def prewarm(self, **options: Any) -> None:
        """Prewarm the model that is asked."""
        self._inner.prewarm(**options)

    async def aclose(self) -> None:
        """Close the model that is asked."""
        await self._inner.aclose()


def scripted_model(
    warn: Callable[[str], None], learned: Learned | None = None
) -> tuple[ModelChoice, Callable[[Sequence[Step]], None]]:
    """A scripted model, and the function that begins a turn of it; it is asked what the call teaches if it can tell."""
    model = ScriptedModel(warn, learned)
    return ModelChoice(model, "what the scenario says", is_responder=learned is None), model.begin_turn


def watched(choice: ModelChoice, note: Callable[[llm.ChatContext], None]) -> ModelChoice:
    """The same model; `note` gets the context of each request."""
    return replace(choice, llm=WatchedModel(choice.llm, note))
