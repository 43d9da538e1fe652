"""The assistant: eight tools over the caller's own data, each with a deadline, and a briefing in every request."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

from livekit.agents import (
    NOT_GIVEN,
    Agent,
    FlushSentinel,
    ModelSettings,
    RunContext,
    StopResponse,
    ToolError,
    function_tool,
    llm,
)
from livekit.agents.llm import FunctionTool, RawFunctionTool

from lkmongo import deadlines
from lkmongo.agent.briefing import with_briefing
from lkmongo.agent.caller import Caller
from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.status_line import status_line
from lkmongo.confidential import REFUSAL
from lkmongo.errors import InvalidIdError, InvalidTextError, LkmongoError, NotFoundError, SecretError, SettingsError
from lkmongo.imports import import_string
from lkmongo.model import PROFILE_FIELDS, Order, profile_words, slot_name, slot_words
from lkmongo.outbox.outbox import Saved
from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


async def with_deadline(deadline: float, work: Awaitable[T], doing: str) -> T:
    """Wait `deadline` seconds for `work`; failures are logged and become a sentence that can be read out.

    The model and the report get the text of a tool's exception, so internal messages must not leave here.

    Raises:
        ToolError: it took too long or failed.
    """
    try:
        async with asyncio.timeout(deadline):
            return await work
    except TimeoutError as error:
        logger.warning("a tool could not %s within %g s", doing, deadline)
        raise ToolError(f"I could not {doing} just now; it took too long.") from error
    except (ToolError, StopResponse):
        raise
    except SecretError as error:
        raise ToolError(REFUSAL) from error
    except (InvalidTextError, InvalidIdError, NotFoundError) as error:
        raise ToolError(as_sentence(error)) from error
    except LkmongoError as error:
        logger.warning("a tool could not %s: %s (%s)", doing, error.message, error.why)
        raise ToolError(f"I could not {doing} just now.") from error
    except Exception as error:
        logger.exception("a tool could not %s", doing)
        raise ToolError(f"I could not {doing} just now.") from error


def or_tool_error(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a synchronous function; invalid arguments raise ToolError, as in `with_deadline`."""
    try:
        return function(*arguments, **named)
    except (InvalidTextError, InvalidIdError) as error:
        raise ToolError(as_sentence(error)) from error


def as_sentence(error: LkmongoError) -> str:
    return f"{error.message[:1].upper()}{error.message[1:]}."


def finish_despite_interruption(context: RunContext[Any]) -> None:
    """Keep the caller from interrupting a change halfway."""
    try:
        context.disallow_interruptions()
    except RuntimeError:
        logger.debug("the caller has already interrupted; the change is made anyway")


Context = RunContext[CallerSession]

_MAX_LATEST_ORDERS = 3
"""Orders read out when the caller names none: as many as one can follow by ear."""

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
Confirm in a few words what you have stored or deleted. When a tool reports an error, tell the caller in your own words
and offer what is possible.
"""

GREETING = (
    "Greet the caller in one or two short sentences. If their name is known, use it. If there was a last call, mention "
    "briefly what it was about. Do not recite what you remember about them. If they are new, introduce yourself."
)

TAKEOVER = (
    "You have just taken over this call from a colleague. Do not greet the caller again: say in one short sentence "
    "what you can do for them, and continue with what they asked for."
)

RESUMPTION = (
    "You were cut off from the caller for a moment. Do not greet them again: say in one short sentence that you are "
    "back, and continue where the conversation stopped."
)


class Assistant(Agent):
    """The agent that callers talk to.

    To customize it, write a subclass: set `instructions_text`, add `@function_tool` methods that use
    `context.userdata` (a `CallerSession`: the caller, the store, the search), and name the class in LKMONGO_AGENT.
    """

    instructions_text: ClassVar[str] = DEFAULT_INSTRUCTIONS
    greeting: ClassVar[str] = GREETING
    takeover: ClassVar[str] = TAKEOVER
    resumption: ClassVar[str] = RESUMPTION

    def __init__(self, *, instructions: str | None = None, **options: Any) -> None:
        """Create the agent; `instructions` replace the class's, `options` go to `livekit.agents.Agent`."""
        super().__init__(instructions=instructions or self.instructions_text, **options)

    @property
    def caller_session(self) -> CallerSession:
        """The `CallerSession` of this agent; available while its AgentSession runs."""
        caller_session: CallerSession = self.session.userdata
        return caller_session

    async def on_enter(self) -> None:
        """Greet the caller, or continue after a handoff or after the death of an earlier worker."""
        if self.caller_session.resumed:
            self.caller_session.resumed = False
            items = [item for item in self.chat_ctx.items if item.type == "message"]
            is_unanswered = bool(items) and items[-1].role == "user"
            self.session.generate_reply(instructions=NOT_GIVEN if is_unanswered else self.resumption)
            return
        handed_over = any(item.type == "agent_handoff" and item.old_agent_id for item in self.session.history.items)
        self.session.generate_reply(instructions=self.takeover if handed_over else self.greeting)

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterable[llm.ChatChunk | str | FlushSentinel]:
        """Ask the model, with the briefing inserted before the last user message.

        The briefing goes into a copy, so it is in no history and no report, and preemptive generation stays valid. This
        hook is the only one that runs for every request, including the greeting and replies to tools. The first request
        of a session waits until the caller is loaded, up to a deadline.
        """
        context = await with_briefing(chat_ctx, lambda: self.caller_session.caller)
        async for chunk in Agent.default.llm_node(self, context, tools, model_settings):
            yield chunk

    @function_tool
    async def search_knowledge(self, context: Context, query: str) -> str:
        """Search the knowledge base for facts about the business, its products and its rules.

        Args:
            query: what to find out, in a few words
        """
        caller_session = context.userdata
        async with status_line(context, caller_session.status_lines, caller_session.caller.profile.preferred_language):
            result = await with_deadline(deadlines.TOOL_SEARCH, caller_session.search_knowledge(query), "search")
        if not result.hits:
            return "Nothing about that was found in the knowledge base."
        return json.dumps(
            {
                "results": [
                    {"title": found.item.title, "content": found.item.content, "source": found.item.source}
                    for found in result.hits
                ]
            },
            ensure_ascii=False,
        )

    @function_tool
    async def lookup_order(self, context: Context, order_id: str | None = None) -> str:
        """Look up one of the caller's own orders by its number, or their latest ones: items, total and status.

        Args:
            order_id: the order number; leave it out when the caller names none
        """
        caller_session = context.userdata
        if order_id is None:
            orders = await with_deadline(
                deadlines.TOOL_READ, caller_session.latest_orders(_MAX_LATEST_ORDERS + 1), "look that up"
            )
            if not orders:
                raise ToolError("You have no orders.")
            more = ["For another one, tell me its number."] if len(orders) > _MAX_LATEST_ORDERS else []
            return " ".join([*map(_order_sentence, orders[:_MAX_LATEST_ORDERS]), *more])
        number = order_id.strip().lstrip("#").strip()
        order = await with_deadline(deadlines.TOOL_READ, caller_session.order(number), "look that up")
        if order is None:
            raise ToolError(f"You have no order {number}.")
        return _order_sentence(order)

    @function_tool
    async def remember_detail(self, context: Context, memory_type: str, content: str) -> str:
        """Remember a fact that the caller tells about themselves; an existing label gets the new value.

        Args:
            memory_type: short label in snake_case, such as favorite_color
            content: the fact
        """
        finish_despite_interruption(context)
        caller = context.userdata.caller
        memory = await with_deadline(deadlines.TOOL_CHANGE, caller.remember(memory_type, content), "save that")
        slot = slot_words(memory.memory_type)
        if caller.guest:
            return f"For this call I will remember your {slot}: {memory.content}."
        if caller.saved == "not saved":
            raise ToolError(f"I will keep your {slot} in mind for this call, but I could not save it for the next one.")
        return f"I will remember your {slot}: {memory.content}.{_stored_later(caller.saved, 'saved')}"

    @function_tool
    async def recall_detail(self, context: Context, memory_type: str) -> str:
        """Recall one remembered fact by its label.

        Args:
            memory_type: the label it was stored under, such as favorite_color
        """
        caller = context.userdata.caller
        memory = or_tool_error(caller.recall, memory_type)
        if memory is None:
            if not caller.loaded:
                raise _not_loaded(caller)
            raise ToolError(f"I have nothing stored about your {slot_words(or_tool_error(slot_name, memory_type))}.")
        return f"Your {slot_words(memory.memory_type)}: {memory.content}."

    @function_tool
    async def forget_detail(self, context: Context, memory_type: str) -> str:
        """Forget one remembered fact for good.

        Args:
            memory_type: the label it was stored under, such as favorite_color
        """
        finish_despite_interruption(context)
        caller = context.userdata.caller
        slot = slot_words(await with_deadline(deadlines.TOOL_CHANGE, caller.forget(memory_type), "delete that"))
        if caller.saved == "not saved":
            raise ToolError(f"I will not use your {slot} in this call, but I could not delete it for good.")
        return f"I have forgotten your {slot}.{_stored_later(caller.saved, 'deleted for good')}"

    @function_tool
    async def search_memories(self, context: Context, query: str) -> str:
        """Search what you remember about the caller when you do not know the label.

        Args:
            query: what to look for, in a few words
        """
        caller = context.userdata.caller
        found = await with_deadline(
            deadlines.TOOL_READ, context.userdata.search_memories(query), "search what I remember"
        )
        if not found:
            if not caller.loaded:
                raise _not_loaded(caller)
            return "I remember nothing about that."
        return " ".join(f"Your {slot_words(memory.memory_type)}: {memory.content}." for memory in found)

    @function_tool
    async def list_user_memories(self, context: Context) -> str:
        """List everything known about the caller: profile and remembered facts."""
        caller = context.userdata.caller
        values = {field: getattr(caller.profile, field) for field in PROFILE_FIELDS}
        known = [f"Your {profile_words(field)} is {value}." for field, value in values.items() if value]
        memories = (memory.told for memory in caller.slots.values())
        known += [f"Your {slot_words(memory.memory_type)}: {memory.content}." for memory in memories]
        if known:
            return " ".join(known)
        if not caller.loaded:
            raise _not_loaded(caller)
        return "I know nothing about you yet."

    @function_tool
    async def update_profile(self, context: Context, field: str, value: str) -> str:
        """Store the caller's name, e-mail address, preferred language or time zone.

        Args:
            field: one of name, email, preferred_language, timezone
            value: the new value; a time zone as an IANA name such as Europe/Berlin
        """
        finish_despite_interruption(context)
        caller = context.userdata.caller
        words = profile_words(field)
        text = await with_deadline(deadlines.TOOL_CHANGE, caller.set_profile(field, value), "save that")
        if caller.guest:
            return f"Your {words} is {text}."
        if caller.saved == "not saved":
            raise ToolError(f"I will use your {words} in this call, but I could not save it for the next one.")
        saved = "Saved. " if caller.saved == "stored" else ""
        return f"{saved}Your {words} is {text}.{_stored_later(caller.saved, 'saved')}"


def _not_loaded(caller: Caller) -> ToolError:
    error = caller.load_error
    why = f"{error.message} ({error.why})" if error else "it is still being loaded"
    logger.warning("the caller's memory is not available: %s", why)
    return ToolError("I cannot look up what I remember right now; please ask me again in a moment.")


def _stored_later(saved: Saved, done: str) -> str:
    """What to add about a change that is journaled but not yet in MongoDB."""
    return "" if saved == "stored" else f" It will be {done} in a moment."


def _order_sentence(order: Order) -> str:
    """The order in words; fields may be missing, because another program wrote it."""
    head = f"Order {order.order_id}" + (f" is {order.status}" if order.status else "")
    items = [f"{item.quantity} {item.name}" if item.quantity != 1 else item.name for item in order.items]
    told = [f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)]
    if order.total is not None:
        told.append(f"{order.total:.2f} {order.currency} in total")
    if listed := ", ".join(filter(None, told)):
        return f"{head}: {listed}."
    return f"{head}." if order.status else f"{head} exists, but I have no details about it."


def create_assistant(settings: Settings) -> Assistant:
    """Create the agent that the settings name, by default the `Assistant`.

    Raises:
        SettingsError: the class cannot be imported or is no `Assistant`, or the file cannot be read.
    """
    return _agent_class(settings.agent)(instructions=_instructions(settings.instructions))


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
    if path is None:
        return None
    try:
        text = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"LKMONGO_INSTRUCTIONS names {path}, which cannot be read",
            why=error.strerror if isinstance(error, OSError) else "it is not UTF-8 text",
            hint="name a text file with the agent's instructions, or unset it",
        ) from error
    if not text:
        raise SettingsError(
            f"LKMONGO_INSTRUCTIONS names {path}, which is empty",
            hint="write the agent's instructions into it, or unset it",
        )
    return text
