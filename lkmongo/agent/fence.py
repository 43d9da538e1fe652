"""How a model gets what callers said and documents say: as data between two tags, wherever it comes from.

Between the tags is one JSON value. In its strings "<" and "[" are escaped, with which tags and the marks of chat
templates begin (`</caller_data>`, `<|im_start|>`, `[INST]`), and what nobody sees is left out: no content can end the
fence, begin another turn, or say something that people who look at it do not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lkmongo.invisible import without_unseen

if TYPE_CHECKING:
    from livekit.agents import llm

CALLER = "caller_data"
"""What is known about the caller."""
TOOL = "tool_data"
"""What a tool has returned."""
CALL = "call_data"
"""A call that is over."""

_FENCE = re.compile(rf"<({CALLER}|{TOOL}|{CALL})>\n(.*)\n</\1>")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MARKS = str.maketrans({"<": "\\u003c", "[": "\\u005b"})
_BREAKS = re.compile("\r\n|[\x0b\x0c\r\x85\u2028\u2029]")
"""What is not seen, but parts words."""


def fenced(tag: str, data: Any) -> str:
    return f"<{tag}>\n{encode(data)}\n</{tag}>"


def encode(data: Any) -> str:
    """The JSON between the tags, on one line."""
    return _without_marks(json.dumps(_cleaned(data), ensure_ascii=False))


def fenced_output(output: str) -> str:
    """What a tool has returned, a sentence or JSON, fenced; nothing stays nothing, and what is fenced is not again."""
    if not output or is_fenced(TOOL, output):
        return output
    try:
        return fenced(TOOL, json.loads(output) if output.lstrip()[:1] in {"{", "["} else output)
    except (ValueError, RecursionError):  # no JSON, or too deep
        return fenced(TOOL, output)


def opened(text: str) -> Any:
    """The data of a text that `fenced` made; any other text is returned as it is."""
    found = _FENCE.fullmatch(text)
    try:
        return json.loads(found[2]) if found else text
    except (ValueError, RecursionError):
        return text


def opened_output(output: str) -> str:
    """What the tool itself has returned."""
    data = opened(output)
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def is_fenced(tag: str, text: str) -> bool:
    """Whether `fenced` could have made the text; looking like it is not enough."""
    found = _FENCE.fullmatch(text)
    try:
        return found is not None and fenced(tag, json.loads(found[2])) == text
    except (ValueError, RecursionError):
        return False


class Fences:
    """Fences the tool calls of one session, each once."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[llm.ChatItem, str, llm.ChatItem]] = {}
        """By the id of the original, which is kept so that no other object gets it: its text then, and the copy."""

    def around(self, items: Sequence[llm.ChatItem]) -> list[llm.ChatItem]:
        """The items, of which those of tools are copies: outputs are fenced, and arguments hold no marks."""
        told = [self._fenced(item) for item in items]
        there = set(map(id, items))
        self._made = {key: made for key, made in self._made.items() if key in there}
        return told

    def _fenced(self, item: llm.ChatItem) -> llm.ChatItem:
        if item.type == "function_call_output":
            name, text = "output", item.output
        elif item.type == "function_call":
            name, text = "arguments", item.arguments
        else:
            return item
        made = self._made.get(id(item))
        if made is None or made[1] != text:
            safe = fenced_output(text) if name == "output" else _without_marks(text)
            copy = item if safe == text else item.model_copy(update={name: safe})
            made = self._made[id(item)] = item, text, copy
        return made[2]


def _cleaned(data: Any) -> Any:
    if isinstance(data, str):
        return without_unseen(_BREAKS.sub(" ", data))
    if isinstance(data, dict):
        return {_cleaned(key): _cleaned(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_cleaned(each) for each in data]
    return data


def _without_marks(text: str) -> str:
    """JSON in which no string holds a character with which a mark begins; it means the same."""
    return _STRING.sub(lambda string: string[0].translate(_MARKS), text)
