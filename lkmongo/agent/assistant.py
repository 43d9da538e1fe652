"""The agents: one with memory, to build on, and the assistant that callers talk to unless another one is named."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from livekit.agents import NOT_GIVEN, Agent, ModelSettings, RunContext, llm
from livekit.agents.llm import FunctionTool, RawFunctionTool

from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.tools import MemoryTools
from lkmongo.errors import SettingsError
from lkmongo.files import instructions_in
from lkmongo.imports import import_string
from lkmongo.settings import Settings
from lkmongo.speech.heard import as_data
from lkmongo.speech.local import is_english
from lkmongo.speech.spoken import speakable_stream
from lkmongo.tenants import TenantPolicy

if TYPE_CHECKING:
    from livekit import rtc
    from livekit.agents import stt

DEFAULT_INSTRUCTIONS = """\
You are a friendly voice assistant who remembers the people you talk to. Your answers are spoken: answer in one to three
short plain sentences, without lists, symbols or formatting.

Questions about the business, its products or its rules: call search_knowledge and answer from what it returns. If it
returns nothing relevant, say that you do not know.
Orders: call lookup_order with the number that the caller gives, or without one for their latest orders.
Facts that the caller tells you about themselves and that are worth knowing next time: call remember_detail with a short
label in snake_case, such as favorite_color. Never store passwords, card numbers or anything else that is secret.
Name, e-mail address, preferred language and time zone: call update_profile instead.
What you already know is in the caller_data of your briefing: when the answer is there, give it without a tool.
Otherwise use recall_detail when you know the label, search_memories when you do not, list_user_memories when they ask
for everything. When they want something forgotten, call forget_detail.
What was said or agreed in earlier calls: call search_past_calls, with dates when they name a time.
Confirm in a few words what you have stored or deleted. When a tool reports an error, tell the caller in your own words
and offer what is possible.
"""

GREETING = (
    "Greet the caller in one or two short sentences. If their name is known, use it. If there was a last call, mention "
    "briefly what it was about. Do not recite what you remember about them. If they are new, introduce yourself."
)

_IN_WORDS = "Greet the caller with exactly these words, and add only what you are told to ask: "

TAKEOVER = (
    "You have just taken over this call from a colleague. Do not greet the caller again: say in one short sentence "
    "what you can do for them, and continue with what they asked for."
)

CALLING = (
    "You have placed this call yourself, and somebody has answered. Say in one or two short sentences that you are an "
    "automated assistant, and ask with whom you are speaking. Name nobody, and say nothing about whom you want to "
    "reach or why, until you know who is speaking."
)

VOICEMAIL = "Hello. This is an automated call. We will try to reach you again. Goodbye."
"""What a machine is told: who hears it, and when, is not known, so there is nothing personal in it."""

RESUMPTION = (
    "You were cut off from the caller for a moment. Do not greet them again: say in one short sentence that you are "
    "back, and continue where the conversation stopped."
)


class MemoryAgent(MemoryTools, Agent):
    """An `Agent` with the memory's tools, in an AgentSession that a `CallerSession` is attached to.

    The attachment also briefs its model. To give memory to an agent class that exists, mix it in:
    `class Mine(MemoryAgent, Desk)`. A `@function_tool` method with the name of a tool overrides it.

    What is said aloud is spelled for the voice, and what is heard as words becomes data: see `lkmongo.speech`. What is
    written, in the record and the transcript, is the text as the model wrote it.
    """

    _language_heard: str | None = None
    _heard_before = ("", "")
    """The turn that was the last when the last final transcript came, and that transcript."""

    @property
    def caller_session(self) -> CallerSession:
        """The `CallerSession` attached to this agent's AgentSession; available while it runs.

        Raises:
            AttachmentError: none is attached.
        """
        return CallerSession.of(self.session)

    def session_of(self, context: RunContext[Any]) -> CallerSession:
        """The `CallerSession` whose caller a tool serves.

        Raises:
            AttachmentError: none is attached.
        """
        return CallerSession.of(context.session)

    def llm_node(self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings) -> Any:
        """Ask the model, which has its briefing by then.

        Raises:
            AttachmentError: no `CallerSession` is attached, so the model would know nothing of the caller.
        """
        CallerSession.of(self.session)
        return super().llm_node(chat_ctx, tools, model_settings)

    async def stt_node(self, audio: AsyncIterable[rtc.AudioFrame], model_settings: ModelSettings) -> AsyncIterator[Any]:
        """What is heard, with order numbers, addresses and the like as data; interim transcripts, too."""
        heard: Any = super().stt_node(audio, model_settings)
        if inspect.isawaitable(heard):
            heard = await heard
        if heard is not None:
            async for event in heard:
                yield event if isinstance(event, str) else self._as_data(event)

    def _as_data(self, event: stt.SpeechEvent) -> stt.SpeechEvent:
        if not event.alternatives or not event.alternatives[0].text:
            return event
        first, *others = event.alternatives
        is_final = event.type == "final_transcript"
        if is_final:
            self._language_heard = str(first.language or "") or None
        if not self._is_in_english:
            return event
        turn = next((item.id for item in reversed(self.chat_ctx.items)), "")
        before = self._heard_before[1] if self._heard_before[0] == turn else ""
        if is_final:
            self._heard_before = turn, first.text
        return replace(event, alternatives=[replace(first, text=as_data(first.text, before=before)), *others])

    def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> Any:
        """What is said, spelled so that a voice reads it rightly."""
        return super().tts_node(speakable_stream(text, english=self._is_in_english), model_settings)

    @property
    def _is_in_english(self) -> bool:
        """Whether nothing says that another language is spoken: the tenant, the caller's profile, what was heard."""
        caller = CallerSession.of(self.session).caller
        known = (caller.policy.language, caller.profile.preferred_language, self._language_heard)
        return all(map(is_english, known))


class Assistant(MemoryAgent):
    """The agent that callers talk to.

    To customize it, write a subclass: set `instructions_text`, add `@function_tool` methods that use
    `self.caller_session` (the caller, the store, the search), and name the class in LKMONGO_AGENT. In our worker and
    console, `context.userdata` is that `CallerSession` too.
    """

    instructions_text: ClassVar[str] = DEFAULT_INSTRUCTIONS
    greeting: ClassVar[str] = GREETING
    takeover: ClassVar[str] = TAKEOVER
    resumption: ClassVar[str] = RESUMPTION
    calling: ClassVar[str] = CALLING
    voicemail: ClassVar[str] = VOICEMAIL
    """The sentence itself; empty to leave no message."""

    def __init__(self, *, instructions: str | None = None, **options: Any) -> None:
        """Create the agent; `instructions` replace the class's, `options` go to `livekit.agents.Agent`."""
        super().__init__(instructions=instructions or self.instructions_text, **options)

    async def on_enter(self) -> None:
        """Greet the caller, or continue after a handoff or after the death of an earlier worker."""
        if self.caller_session.resumed:
            self.caller_session.resumed = False
            items = [item for item in self.chat_ctx.items if item.type == "message"]
            is_unanswered = bool(items) and items[-1].role == "user"
            self.session.generate_reply(instructions=NOT_GIVEN if is_unanswered else self.resumption)
            return
        handed_over = any(item.type == "agent_handoff" and item.old_agent_id for item in self.session.history.items)
        words = self.caller_session.tenant_policy.greeting
        greeting = greeting_in(words) if words else self.greeting
        self.session.generate_reply(instructions=self.takeover if handed_over else greeting)


def greeting_in(words: str) -> str:
    """Instructions to greet in a tenant's own words."""
    return f"{_IN_WORDS}{words}"


def words_of_greeting(instructions: str) -> str | None:
    """The words in instructions of `greeting_in`, which may stand behind others."""
    _, found, words = instructions.rpartition(_IN_WORDS)
    return words.partition("\n")[0].strip() if found else None


def create_assistant(settings: Settings, policy: TenantPolicy | None = None) -> Assistant:
    """Create the agent that the settings name, by default the `Assistant`; with the instructions of a tenant.

    Raises:
        SettingsError: the class cannot be imported or is no `Assistant`, or the file cannot be read.
    """
    agent = _agent_class(settings.agent)
    return agent(instructions=(policy and policy.instructions) or _instructions(settings.instructions))


def unused_tools_warning(agent: type[Assistant]) -> str:
    """A sentence about a subclass's own tools, which the demo responder never calls; empty if it has none."""
    tools = {
        tool.id
        for name in dir(agent)
        if isinstance(tool := getattr(agent, name, None), FunctionTool | RawFunctionTool)
        and not hasattr(Assistant, name)
    }
    if not tools:
        return ""
    return (
        f"The tools that {agent.__name__} adds ({', '.join(sorted(tools))}) are not called: they need a language model."
    )


def check_assistant(settings: Settings) -> type[Assistant]:
    """Check the class and the instructions without creating an agent, which may need a session.

    Raises:
        SettingsError: as in `create_assistant`.
    """
    agent = _agent_class(settings.agent)
    _instructions(settings.instructions)
    return agent


def _agent_class(path: str | None) -> type[Assistant]:
    if path is None:
        return Assistant
    found = import_string("LKMONGO_AGENT", path, "Class")
    if not (isinstance(found, type) and issubclass(found, Assistant)):
        raise SettingsError(
            f"LKMONGO_AGENT names {path}, which is not an agent",
            hint="make it a subclass of lkmongo.agent.assistant.Assistant",
        )
    return found


def _instructions(path: Path | None) -> str | None:
    return instructions_in(path.expanduser(), "LKMONGO_INSTRUCTIONS") if path else None
