"""Reads the part of Terraform's language that lkmongo prints and its examples use, and refuses everything else.

Blocks, attributes and expressions: strings, templates as they are, numbers, true, false and null, lists and objects,
references with indexes, calls and `!`. (HCL native syntax specification.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\#[^\n]*)|(?P<line>\n)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?(?:e-?\d+)?)
    |(?P<name>[A-Za-z_][\w-]*)|(?P<sign>>=|<=|==|[{}()\[\]=,.!:])""",
    re.VERBOSE,
)


class HclError(ValueError):
    """The text is not of that part of the language."""


@dataclass
class Block:
    """A block: its attributes as values, `Reference`, `Call` or `Template`, and its blocks in order."""

    kind: str
    labels: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def named(self, kind: str, *labels: str) -> Block:
        """The one block of that kind with labels that begin so."""
        (found,) = [each for each in self.blocks if each.kind == kind and each.labels[: len(labels)] == labels]
        return found


@dataclass(frozen=True)
class Reference:
    """What is named elsewhere, such as `var.project_id`; an index stands in brackets."""

    path: tuple[Any, ...]


@dataclass(frozen=True)
class Call:
    """A function with its arguments."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Template:
    """A string with expressions in it, as it is written."""

    text: str


def parse(text: str) -> Block:
    """The blocks of a file. Raises HclError."""
    return _Reader(text).file()


def evaluate(value: Any, scope: Mapping[tuple[Any, ...], Any]) -> Any:
    """The value of an expression, with that of each reference in it.

    Raises:
        KeyError: an unknown reference or function.
        HclError: there is a template in it.
    """
    if isinstance(value, Template):
        raise HclError(f"{value.text} is a template")
    if isinstance(value, Reference):
        return evaluate(scope[value.path], scope)
    if isinstance(value, Call):
        return _FUNCTIONS[value.function](*(evaluate(each, scope) for each in value.arguments))
    if isinstance(value, dict):
        return {name: evaluate(each, scope) for name, each in value.items()}
    if isinstance(value, list):
        return [evaluate(each, scope) for each in value]
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "concat": lambda *lists: [each for one in lists for each in one],
    "jsonencode": json.dumps,
}


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise HclError(f"{text[place : place + 40]!r} is not understood")
            kind = str(found.lastgroup)
            if kind != "space":
                self._tokens.append((kind, found[0]))
            place = found.end()
        self._tokens.append(("end", ""))
        self._place = 0

    def file(self) -> Block:
        block = Block("file")
        self._body(block, "end")
        return block

    def _peek(self, ahead: int = 0) -> tuple[str, str]:
        return self._tokens[self._place + ahead]

    def _take(self, *wanted: str) -> tuple[str, str]:
        kind, text = self._tokens[self._place]
        if wanted and kind not in wanted and text not in wanted:
            raise HclError(f"{text!r} instead of {' or '.join(wanted)}")
        self._place += 1
        return kind, text

    def _lines(self) -> None:
        while self._peek()[0] == "line":
            self._take()

    def _body(self, block: Block, end: str) -> None:
        self._lines()
        while end not in self._peek():
            _, name = self._take("name")
            if self._peek()[1] == "=":
                self._take("=")
                if name in block.attributes:
                    raise HclError(f"{name} is assigned twice")
                block.attributes[name] = self._expression()
            else:
                labels = []
                while self._peek()[0] == "string":
                    labels.append(self._string(self._take()[1]))
                inner = Block(name, tuple(labels))
                self._take("{")
                self._body(inner, "}")
                self._take("}")
                block.blocks.append(inner)
            if end not in self._peek():
                self._take("line")
            self._lines()

    def _expression(self) -> Any:
        kind, text = self._take()
        match kind, text:
            case "string", _:
                return self._string(text)
            case "number", _:
                return json.loads(text)
            case "name", "true" | "false" | "null":
                return json.loads(text)
            case "name", _:
                return self._named(text)
            case "sign", "!":
                return Call("!", (self._expression(),))
            case "sign", "[":
                return self._items("]")
            case "sign", "{":
                return self._object()
        raise HclError(f"{text!r} begins no expression")

    def _named(self, name: str) -> Reference | Call:
        if self._peek()[1] == "(":
            self._take()
            return Call(name, tuple(self._items(")")))
        path: list[Any] = [name]
        while self._peek()[1] in {".", "["}:
            if self._take()[1] == ".":
                path.append(self._take("name")[1])
            else:
                path.append(self._expression())
                self._take("]")
        return Reference(tuple(path))

    def _items(self, end: str) -> list[Any]:
        found = []
        self._lines()
        while self._peek()[1] != end:
            found.append(self._expression())
            self._lines()
            if self._peek()[1] != end:
                self._take(",")
                self._lines()
        self._take(end)
        return found

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._lines()
        while self._peek()[1] != "}":
            kind, name = self._take("name", "string")
            key = self._string(name) if kind == "string" else name
            self._take("=")
            if key in found:
                raise HclError(f"{key} is assigned twice")
            found[key] = self._expression()
            if self._peek()[1] != "}":
                self._take(",", "line")
            self._lines()
        self._take("}")
        return found

    @staticmethod
    def _string(quoted: str) -> Any:
        inside = quoted[1:-1]
        if re.search(r"(?<!\$)\$\{|(?<!%)%\{", inside):
            return Template(inside)
        wide = re.sub(r"\\U([0-9a-f]{8})", lambda found: json.dumps(chr(int(found[1], 16)))[1:-1], inside)
        try:
            text = json.loads(f'"{wide}"')
        except ValueError as error:
            raise HclError(f"{quoted} is no string") from error
        if re.search(r"\\[bf/]", re.sub(r"\\\\", "", inside)):
            raise HclError(f"{quoted} has an escape that only JSON knows")
        return str(text).replace("$${", "${").replace("%%{", "%{")
