"""What the demo responder says about who is calling by telephone: it asks, and takes the answer."""

from __future__ import annotations

import re
from collections.abc import Collection

from lkmongo.demo.replies import ASK_WHO, CallerData, ToolCall
from lkmongo.naming import claimed, denies

_NAME = r"[A-Z][\w'-]+(?: [A-Z][\w'-]+){0,2}"
_SAID = re.compile(
    rf"(?:(?i:yes|hi|hello|hey)[,.!]? )?(?i:this is|it's|it is|i'm|i am|my name is|you're talking to) (?P<name>{_NAME})"
    r"(?:,? (?:here|speaking|calling))?[.!]*"
)
_ALONE = re.compile(rf"(?P<name>{_NAME})(?:,? (?:here|speaking|calling))?[.!]*")
_NOT = re.compile(rf"(?i:i'm|i am|this is) (?i:not) (?P<name>{_NAME})")
_HELP = "What can I do for you?"
SOMEBODY_ELSE = f"All right, then I know nothing about you. {_HELP}"


def on_who_speaks(said: str, before: str, caller: CallerData, tools: Collection[str]) -> ToolCall | str | None:
    """What follows from what a caller says of who they are; None if that is nothing.

    Args:
        said: their words.
        before: what they answer.
        caller: the briefing, in which they are known already if code has understood them.
        tools: names of the tools that may be called.
    """
    text = said.replace("\u2019", "'").strip()
    denied = _NOT.search(text)
    if caller.status == "guest" and denies(text, [denied["name"]] if denied else []):
        return SOMEBODY_ELSE
    found = _SAID.fullmatch(text) or (_ALONE.fullmatch(text) if ASK_WHO in before else None)
    if found is None:
        return None
    if "caller_says_name" in tools and caller.status == "recognised":
        return ToolCall("caller_says_name", {"name": found["name"]})
    name = caller.profile.get("name")
    is_named = name and "not_this_person" in tools and claimed(found["name"], [name]) is not None
    return f"Thank you, {name}. {_HELP}" if is_named else None
