"""The tools of a call by telephone: with them the model says what it understood of who is speaking.

They raise no level by themselves: `PhoneCaller` looks into the caller's own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkmongo.agent.caller import Caller

if TYPE_CHECKING:
    from livekit.agents import llm

_SAYS_NAME, NOT_THIS_PERSON = "caller_says_name", "not_this_person"
_ALL = frozenset({_SAYS_NAME, NOT_THIS_PERSON})
_ANSWERS = {
    "named": "Thank you. Now I know who I am talking to.",
    "new": "Thank you, I will remember that name.",
    "ambiguous": "Several people with that name are possible: please tell me your full name.",
    "not said": "The caller has not said that name themselves: ask who is speaking.",
    "too late": "It is settled already who this call is with.",
}
GUEST_NOW = "All right, then I know nothing about you, and nothing of this call will go to anybody else."


def offered(caller: Caller, tools: list[llm.Tool]) -> list[llm.Tool]:
    """The tools without those of a call by telephone that do not fit now."""
    phone = caller.phone
    wanted = set()
    if phone and not phone.denied:
        wanted = ({_SAYS_NAME} if caller.guest else set()) | {NOT_THIS_PERSON}
    return [tool for tool in tools if tool.id not in _ALL or tool.id in wanted]


def phone_tools(caller: Caller) -> list[llm.FunctionTool[..., Any] | llm.RawFunctionTool[..., Any]]:
    """The tools; `offered` says which of them fit."""
    from livekit.agents import ToolError, function_tool

    @function_tool
    async def caller_says_name(name: str) -> str:
        """The caller has said who they are, in their own words.

        Args:
            name: the name exactly as they said it
        """
        if caller.phone is None:
            raise ToolError(_ANSWERS["too late"])
        answer = await caller.phone.says_name(name)
        if answer in {"ambiguous", "not said"}:
            raise ToolError(_ANSWERS[answer])
        await caller.preload()
        return _ANSWERS[answer]

    @function_tool
    async def not_this_person() -> str:
        """The caller says that they are not the one they are taken for, or that this is not their number."""
        if caller.phone is None:
            raise ToolError(_ANSWERS["too late"])
        await caller.phone.deny()
        return GUEST_NOW

    return [caller_says_name, not_this_person]
