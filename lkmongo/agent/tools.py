"""The tools over the caller's own data, each with a deadline, for `CallerSession.tools()` and `MemoryAgent` alike.

What a tool returns or raises is a sentence that can be read out.
"""

from __future__ import annotations

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar

from livekit.agents import RunContext, StopResponse, ToolError, function_tool
from livekit.agents.llm import FunctionTool

from lkmongo import deadlines
from lkmongo.agent.caller import Caller
from lkmongo.agent.former import by_label, in_words
from lkmongo.agent.status_line import StatusLines, status_line
from lkmongo.confidential import REFUSAL
from lkmongo.dates import is_stated, show_since, with_days, zone_of
from lkmongo.declarations import ProfileField, declared
from lkmongo.errors import InvalidIdError, InvalidTextError, LkmongoError, NotFoundError, SecretError
from lkmongo.model import PROFILE_FIELDS, Fact, Order, Passage, profile_words, slot_name, slot_words
from lkmongo.outbox.outbox import Saved
from lkmongo.search.past_calls import bounds, sentence
from lkmongo.search.strategy import SearchResult
from lkmongo.speech.heard import as_data, ways_to_write
from lkmongo.summary import PastCall
from lkmongo.trust import NotTrustedError

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


async def with_deadline(deadline: float, work: Awaitable[T], doing: str) -> T:
    """Wait for the work of a tool; failures are logged and become a sentence that can be read out.

    The model and the report get the text of a tool's exception, so internal messages must not leave here.

    Args:
        deadline: in seconds.
        work: what the tool does.
        doing: what it does in words that follow "I could not", such as "look that up".

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
    except (InvalidTextError, InvalidIdError, NotFoundError, NotTrustedError) as error:
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
    except (InvalidTextError, InvalidIdError, NotTrustedError) as error:
        raise ToolError(as_sentence(error)) from error


def as_sentence(error: LkmongoError) -> str:
    return f"{error.message[:1].upper()}{error.message[1:]}."


_MOST_LISTED = 12_000
"""Characters of facts in a list; of the others it says how many there are."""
_MAX_LATEST_ORDERS = 3
"""Orders read out when the caller names none: as many as one can follow by ear."""


class ToolSession(Protocol):
    """What the tools need of a `CallerSession`."""

    caller: Caller
    status_lines: StatusLines

    async def search_knowledge(self, query: str) -> SearchResult[Passage]: ...
    async def search_memories(self, query: str) -> list[Fact]: ...
    async def search_past_calls(
        self, query: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[PastCall]: ...
    async def order(self, order_id: str) -> Order | None: ...
    async def latest_orders(self, limit: int) -> list[Order]: ...


class MemoryTools(ABC):
    """The tools. Whose data it is comes from the session, never from the model."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Pass everything on to the next class, such as an `Agent`."""
        if own := declared().fields:
            # Found by the SDK instead of the class's: what the model may set is known when the agent is created.
            self.update_profile = with_profile_fields(self.update_profile, own)
        super().__init__(*arguments, **options)

    @abstractmethod
    def session_of(self, context: RunContext[Any]) -> ToolSession:
        """The session whose caller a tool serves."""

    @function_tool
    async def search_knowledge(self, context: RunContext[Any], query: str) -> str:
        """Search the knowledge base for facts about the business, its products and its rules.

        Args:
            query: what to find out, in a few words
        """
        session = self.session_of(context)
        language = session.caller.profile.preferred_language or session.caller.policy.language
        async with status_line(context, session.status_lines, language):
            result = await with_deadline(deadlines.TOOL_SEARCH, session.search_knowledge(query), "search")
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
    async def lookup_order(self, context: RunContext[Any], order_id: str | None = None) -> str:
        """Look up one of the caller's own orders by its number, or their latest ones: items, total and status.

        Args:
            order_id: the order number; leave it out when the caller names none
        """
        session = self.session_of(context)
        if order_id is None:
            orders = await with_deadline(
                deadlines.TOOL_READ, session.latest_orders(_MAX_LATEST_ORDERS + 1), "look that up"
            )
            if not orders:
                raise ToolError("You have no orders.")
            more = ["For another one, tell me its number."] if len(orders) > _MAX_LATEST_ORDERS else []
            return " ".join([*map(_order_sentence, orders[:_MAX_LATEST_ORDERS]), *more])
        number, *others = ways_to_write(order_id)
        order = await with_deadline(deadlines.TOOL_READ, _any_order(session, number, *others), "look that up")
        if order is None:
            raise ToolError(f"You have no order {number}.")
        return _order_sentence(order)

    @function_tool
    async def remember_detail(
        self, context: RunContext[Any], memory_type: str, content: str, since: str | None = None
    ) -> str:
        """Remember a fact that the caller tells about themselves; an existing label gets the new value.

        The old value stays known as what was before.

        Args:
            memory_type: short label in snake_case, such as favorite_color
            content: the fact
            since: since when it is true, such as 2026-05 or last week; leave it out when the caller does not say
        """
        caller = self.session_of(context).caller
        memory = await with_deadline(
            deadlines.TOOL_CHANGE, caller.remember(memory_type, content, since=since), "save that"
        )
        slot, told = slot_words(memory.memory_type), with_days(memory.content, memory.dates)
        if memory.valid_from and is_stated(memory.valid_from):
            told += f", since {show_since(memory.valid_from, caller.profile.timezone)}"
        if caller.for_this_call:
            return f"For this call I will remember your {slot}: {told}."
        if caller.saved == "not saved":
            raise ToolError(f"I will keep your {slot} in mind for this call, but I could not save it for the next one.")
        return f"I will remember your {slot}: {told}.{_stored_later(caller.saved, 'saved')}"

    @function_tool
    async def recall_detail(self, context: RunContext[Any], memory_type: str) -> str:
        """Recall one remembered fact by its label, with since when it is true and what was before.

        Args:
            memory_type: the label it was stored under, such as favorite_color
        """
        caller = self.session_of(context).caller
        memory = await with_deadline(deadlines.TOOL_READ, caller.read(memory_type), "look that up")
        await caller.history_ready()
        former = or_tool_error(caller.former, memory_type)
        if memory is None and not former:
            if not caller.loaded or or_tool_error(caller.recall, memory_type):
                raise _not_loaded(caller)
            name = or_tool_error(slot_name, memory_type)
            or_tool_error(caller.gate.check, name)
            raise ToolError(f"I have nothing stored about your {slot_words(name)}.")
        return in_words(memory, former, caller.profile.timezone)

    @function_tool
    async def forget_detail(self, context: RunContext[Any], memory_type: str) -> str:
        """Forget one remembered fact for good.

        Args:
            memory_type: the label it was stored under, such as favorite_color
        """
        caller = self.session_of(context).caller
        slot = slot_words(await with_deadline(deadlines.TOOL_CHANGE, caller.forget(memory_type), "delete that"))
        if caller.for_this_call:
            return f"I have forgotten your {slot}."
        if caller.saved == "not saved":
            raise ToolError(f"I will not use your {slot} in this call, but I could not delete it for good.")
        return f"I have forgotten your {slot}.{_stored_later(caller.saved, 'deleted for good')}"

    @function_tool
    async def search_memories(self, context: RunContext[Any], query: str) -> str:
        """Search what you remember about the caller, also what was once true, when you do not know the label.

        Args:
            query: what to look for, in a few words
        """
        session = self.session_of(context)
        caller = session.caller
        found = await with_deadline(deadlines.TOOL_READ, session.search_memories(query), "search what I remember")
        await caller.history_ready()
        matching = by_label(await caller.search_former(query))
        if not found and not matching:
            if not caller.loaded:
                raise _not_loaded(caller)
            or_tool_error(caller.gate.check_everything)
            return "I remember nothing about that."
        zone, told = caller.profile.timezone, []
        for memory in found:
            former = matching.pop(memory.memory_type, None) or caller.former(memory.memory_type)[:1]
            told.append(in_words(memory, former, zone))
        told += [in_words(await caller.read(label), former, zone) for label, former in matching.items()]
        return " ".join(told)

    @function_tool
    async def search_past_calls(
        self, context: RunContext[Any], query: str = "", since: str | None = None, until: str | None = None
    ) -> str:
        """Search the caller's earlier calls: what they were about, what was agreed, and what is still to be done.

        Args:
            query: what it was about, in a few words; leave it empty for all calls of a time
            since: the first day, such as 2026-10-01; leave it out for any
            until: the last day, such as 2026-10-31; leave it out for any
        """
        session = self.session_of(context)
        zone = zone_of(session.caller.profile.timezone)
        start, end = or_tool_error(bounds, since, until, zone)
        if not (query.strip() or start or end):
            raise ToolError("Tell me what the call was about, or when it was.")
        found = await with_deadline(
            deadlines.TOOL_READ, session.search_past_calls(query, since=start, until=end), "look that up"
        )
        if not found:
            return "I remember no earlier call like that."
        return " ".join(sentence(call, zone) for call in found)

    @function_tool
    async def list_user_memories(self, context: RunContext[Any]) -> str:
        """List everything known about the caller: profile and remembered facts, newest first."""
        caller = self.session_of(context).caller
        known = [f"Your {profile_words(field)} is {value}." for field, value in caller.profile.values.items()]
        zone, room, more = caller.profile.timezone, _MOST_LISTED, 0
        for memory in caller.slots.values():
            if memory.is_unread or len(memory.content) > room:
                more += 1
                continue
            known.append(in_words(memory.told, [], zone))
            room -= len(known[-1])
        if more:
            known.append(f"I remember {more:,} more: ask me about what you want to know.")
        if known:
            return " ".join(known)
        if not caller.loaded:
            raise _not_loaded(caller)
        or_tool_error(caller.gate.check_everything)
        return "I know nothing about you yet."

    @function_tool
    async def update_profile(self, context: RunContext[Any], field: str, value: str) -> str:
        """Store the caller's name, e-mail address, preferred language or time zone.

        Args:
            field: one of name, email, preferred_language, timezone
            value: the new value; a time zone as an IANA name such as Europe/Berlin
        """
        caller = self.session_of(context).caller
        words = profile_words(field)
        if field == "name" and caller.phone:
            if caller.phone.candidates:
                await caller.phone.says_name(value)
            if caller.phone.is_called(value):  # whoever says "Robin" is not renamed from "Robin Fletcher"
                return f"Your {words} is {value}."
        if field == "email":
            value = as_data(f"e-mail {value}").removeprefix("e-mail ")
        text = await with_deadline(deadlines.TOOL_CHANGE, caller.set_profile(field, value), "save that")
        if caller.for_this_call:
            return f"Your {words} is {text}."
        if caller.saved == "not saved":
            raise ToolError(f"I will use your {words} in this call, but I could not save it for the next one.")
        saved = "Saved. " if caller.saved == "stored" else ""
        return f"{saved}Your {words} is {text}.{_stored_later(caller.saved, 'saved')}"


async def _any_order(session: ToolSession, *numbers: str) -> Order | None:
    for number in numbers:
        if order := await session.order(number):
            return order
    return None


class BoundTools(MemoryTools):
    """The tools of one session, for any agent."""

    def __init__(self, session: ToolSession) -> None:
        super().__init__()
        self._session = session

    def session_of(self, _context: RunContext[Any]) -> ToolSession:
        """The session."""
        return self._session


def with_profile_fields(tool: Callable[..., Awaitable[str]], own: Mapping[str, ProfileField]) -> FunctionTool[Any, Any]:
    """The tool `update_profile` with a description that names the declared fields, too."""

    async def update_profile(context: RunContext[Any], field: str, value: str) -> str:
        return await tool(context, field, value)

    words = [f"{each.words} ({', '.join(each.choices)})" if each.choices else each.words for each in own.values()]
    update_profile.__doc__ = f"""Store the caller's {", ".join([*map(profile_words, PROFILE_FIELDS), *words])}.

        Args:
            field: one of {", ".join([*PROFILE_FIELDS, *own])}
            value: the new value; a time zone as an IANA name such as Europe/Berlin
        """
    return function_tool(update_profile)


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
    more = "".join(f" {slot_words(name).capitalize()}: {text}." for name, text in order.more.items())
    if listed := ", ".join(filter(None, told)):
        return f"{head}: {listed}.{more}"
    return f"{head}.{more}" if order.status or more else f"{head} exists, but I have no details about it."
