"""How the briefing reaches the model of an agent, whoever wrote the agent.

Each agent that takes over a session gets an `llm_node` of ours around its own, which hands it the chat context with the
briefing in it. Of all hooks, this is the only one that runs for every request, including the greeting and replies to
tools, and leaves a preemptive reply valid; the agent's class, its model and its own node stay what they are.

What tools return is fenced in the same copy of the context: the history, the record and the report have it as it was.

A realtime model has no such requests: the briefing is at the end of its instructions, and is replaced when it changes.
The instructions are given to the SDK's session with the model and not to the agent, whose instructions are recorded.
What tools return is fenced on the way there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from weakref import ref

from lkmongo.agent.briefing import attend, brief_aside, expect, with_briefing, without_briefing
from lkmongo.agent.caller import Caller
from lkmongo.agent.fence import Fences
from lkmongo.agent.limits import TOO_FAST
from lkmongo.aio import Repeat

if TYPE_CHECKING:
    from livekit.agents import (
        Agent,
        AgentSession,
        ConversationItemAddedEvent,
        ModelSettings,
        UserInputTranscribedEvent,
        llm,
    )

logger = logging.getLogger(__name__)


class Attachment:
    """Briefs whichever agents run in an AgentSession about one caller."""

    def __init__(self, session: AgentSession[Any], caller: Caller, is_there: Callable[[], Awaitable[None]]) -> None:
        """Begin with the agent that runs already, if any; its first words wait for `is_there`."""
        self._session = ref(session)
        self.caller = caller
        self._is_there: Callable[[], Awaitable[None]] | None = is_there
        self.fences = Fences()
        self._fitting: list[Callable[[list[llm.Tool]], list[llm.Tool]]] = []
        self._refreshing = Repeat(self._refresh, asyncio.create_task)
        self._following: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        caller.on_change = self._refresh_soon
        self._heard = ""
        session.on("conversation_item_added", self._on_item)
        session.on("user_input_transcribed", self._on_transcribed)
        try:
            agent = session.current_agent
        except RuntimeError:  # the session has not started
            return
        self._brief(agent)
        self._brief_running(agent)

    def offer(self, tools: Sequence[llm.Tool], fitting: Callable[[list[llm.Tool]], list[llm.Tool]]) -> None:
        """Give tools to all agents of the session; those that `fitting` leaves out do not fit now."""
        if session := self._session():
            session._tools = [*session._tools, *tools]  # noqa: SLF001 - of all agents
        self._fitting.append(fitting)

    def offered(self, tools: list[llm.Tool]) -> list[llm.Tool]:
        """The tools of a request, without those that do not fit now."""
        for fitting in self._fitting:
            tools = fitting(tools)
        return tools

    async def until_there(self) -> None:
        """Wait before the first request of the session until the caller is there."""
        is_there, self._is_there = self._is_there, None
        if is_there:
            await is_there()

    def serves(self, agent: Agent) -> bool:
        """Whether an agent runs in this session: it may be used again, in one that this caller has no part in."""
        return agent.session is self._session()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if item.type == "agent_handoff" and (session := self._session()):
            self._brief(session.current_agent)
            self._brief_next_session(session.current_agent)
        elif item.type == "message" and item.role == "user":
            self._heard = ""
            self.caller.allowance.heard()
            if self.caller.phone:  # also where nobody of ours is asked before the answer, as with a realtime model
                self._hearing = asyncio.create_task(self.caller.phone.hear(item.text_content or ""))
            if self._instructions:
                self.caller.refresh_in_background()
                self._following = asyncio.create_task(self._follow(item.text_content or ""))

    def _on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        """Let the vector of what is said be made while the turn ends."""
        if event.is_final and event.transcript.strip():
            self._heard = f"{self._heard} {event.transcript.strip()}".strip()
            expect(self.caller, self._heard)

    async def _follow(self, words: str) -> None:
        """Let the instructions of a realtime model follow what the caller says, as the briefing of another does."""
        try:
            await attend(self.caller, words)
            if self.caller.attention.words == words:
                self._refresh_soon()
        except Exception:
            logger.exception("the realtime model could not be told what the caller's words are about")

    def _brief(self, agent: Agent) -> None:
        """Brief an agent in each request from now on."""
        node = agent.llm_node
        if not (isinstance(node, _BriefedNode) and node.attachment is self):
            own = node.own if isinstance(node, _BriefedNode) else node
            vars(agent)["llm_node"] = _BriefedNode(agent, own, self)

    def _brief_next_session(self, agent: Agent) -> None:
        """Brief the realtime model of an agent, if it has one, to which the running task is about to connect."""
        from livekit.agents import llm

        if isinstance(model := self._model(agent), llm.RealtimeModel):
            _brief_sessions(model)
            setattr(asyncio.current_task(), _NEXT_CALLER, self.caller)

    def _brief_running(self, agent: Agent) -> None:
        from livekit.agents import llm
        from livekit.agents.llm.chat_context import Instructions

        model = self._model(agent)
        try:
            connected = agent.realtime_llm_session
        except RuntimeError:  # not a realtime model, or not connected yet
            return
        given: str | Instructions = agent.instructions
        if isinstance(given, Instructions) and isinstance(model, llm.RealtimeModel):
            given = given.render(modality="audio" if model.capabilities.audio_output else "text")
        _BriefedInstructions(connected, self.caller).given = str(given)
        self._refresh_soon()

    def _model(self, agent: Agent) -> llm.LLM[Any] | llm.RealtimeModel | None:
        from livekit.agents.utils import is_given

        session = self._session()
        return agent.llm if is_given(agent.llm) else session.llm if session else None

    @property
    def _instructions(self) -> _BriefedInstructions | None:
        """The instructions of the realtime model that is talking now, if it is one."""
        session = self._session()
        try:
            update = session and session.current_agent.realtime_llm_session.update_instructions
        except RuntimeError:  # no agent runs, or not on a realtime model
            return None
        return update if isinstance(update, _BriefedInstructions) else None

    def _refresh_soon(self) -> None:
        if self._instructions is not None:
            self._refreshing.begin()

    async def _refresh(self) -> None:
        try:
            if instructions := self._instructions:
                await instructions.refresh()
        except Exception:
            logger.exception("the realtime model could not be told what has changed in the caller's memory")


class _BriefedNode:
    """Stands in for the `llm_node` of one agent."""

    def __init__(self, agent: Agent, own: Any, attachment: Attachment) -> None:
        self.own = own
        self.attachment = attachment
        self._agent = agent

    async def __call__(self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings) -> Any:
        is_ours = self.attachment.serves(self._agent)
        if is_ours and self.attachment.caller.allowance.is_flooded:
            return TOO_FAST
        context = chat_ctx
        if is_ours:
            await self.attachment.until_there()
            context = await with_briefing(chat_ctx, self.attachment.caller)
            context.items = self.attachment.fences.around(context.items)
            tools = self.attachment.offered(tools)
        before = without_briefing(context)
        answer = self.own(context, tools, model_settings)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if not is_ours or not isinstance(answer, AsyncIterable):
            return answer

        async def with_edits() -> AsyncIterator[Any]:
            """Pass on the answer; what the node changed in its copy of the context holds for the rest of the turn."""
            async with AsyncExitStack() as stack:
                if close := getattr(answer, "aclose", None):
                    stack.push_async_callback(close)
                async for chunk in answer:
                    yield chunk
            after = without_briefing(context)
            if list(map(id, after)) != list(map(id, before)):
                chat_ctx.items[:] = after

        return with_edits()


_NEXT_CALLER = "_lkmongo_next_caller"
"""The attribute of a task that is about to connect to a realtime model: models may be shared between sessions."""


def _brief_sessions(model: llm.RealtimeModel) -> None:
    """Brief a realtime model from the first instructions of each session on: some accept no others later."""
    begin = model.session
    if getattr(begin, "is_briefed", False):
        return

    def session(**options: Any) -> llm.RealtimeSession[Any]:
        task = asyncio.current_task()
        caller: Caller | None = getattr(task, _NEXT_CALLER, None)
        if caller is None:
            return begin(**options)
        setattr(task, _NEXT_CALLER, None)
        begun = begin(**options)
        _BriefedInstructions(begun, caller)
        return begun

    session.is_briefed = True  # type: ignore[attr-defined]
    vars(model)["session"] = session


class _BriefedInstructions:
    """Stands in for `update_instructions` of one session with a realtime model, and fences what its tools return."""

    def __init__(self, connected: llm.RealtimeSession[Any], caller: Caller) -> None:
        from livekit.agents import llm

        self.given: str | None = None
        """The agent's own instructions."""
        self._sent: str | None = None
        self._caller = caller
        self._connected = connected
        self._update = connected.update_instructions
        self._lock = asyncio.Lock()
        vars(connected)["update_instructions"] = self
        self._fences = Fences()
        self._update_chat_ctx = connected.update_chat_ctx
        vars(connected)["update_chat_ctx"] = self._tell
        # A full-duplex model takes its first instructions with everything else, at once.
        if type(connected)._update_session is not llm.RealtimeSession._update_session:  # noqa: SLF001
            self._update_session = connected._update_session  # noqa: SLF001
            vars(connected)["_update_session"] = self._configure

    async def __call__(self, instructions: str) -> None:
        self.given = instructions
        async with self._lock:
            await self._send(await self._briefed())

    async def _tell(self, chat_ctx: llm.ChatContext, *arguments: Any, **options: Any) -> None:
        await self._update_chat_ctx(self._fenced(chat_ctx), *arguments, **options)

    def _fenced(self, chat_ctx: llm.ChatContext) -> llm.ChatContext:
        context = chat_ctx.copy()
        context.items = self._fences.around(context.items)
        return context

    async def _configure(self, **configuration: Any) -> None:
        from livekit.agents import llm

        if isinstance(told := configuration.get("chat_ctx"), llm.ChatContext):
            configuration["chat_ctx"] = self._fenced(told)
        async with self._lock:
            if isinstance(instructions := configuration.get("instructions"), str):
                self.given = instructions
                configuration["instructions"] = self._sent = await self._briefed()
            await self._update_session(**configuration)

    async def refresh(self) -> None:
        """Tell the model again what is known about the caller, if that has changed."""
        if not self._connected.capabilities.mutable_instructions:
            return
        async with self._lock:
            if self.given is not None and (text := await self._briefed()) != self._sent:
                await self._send(text)

    async def _send(self, text: str) -> None:
        self._sent = None
        await self._update(text)
        self._sent = text

    async def _briefed(self) -> str:
        """The agent's instructions and the briefing; without it if it fails, which is logged."""
        try:
            await self._caller.preload()
            return f"{self.given}\n\n{await brief_aside(self._caller, self._caller.attention.words)}".strip()
        except Exception:
            logger.exception("the realtime model is not briefed")
            return self.given or ""
