"""Read lists of records from YAML, and name whatever does not fit with its file, its line and its field.

Records are read from nodes, not from values: nodes know their lines, and text is taken as it is written, so that a
person may be called No and an order 0042.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lkmongo.errors import InvalidIdError, InvalidTextError
from lkmongo.model import check_id, clean_text

_TEXT, _INT, _FLOAT, _BOOL, _DATE, _NULL = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "timestamp", "null")
)
_KINDS = {_BOOL: "the boolean", _DATE: "the date", _INT: "the number", _FLOAT: "the number"}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record.

    `read` takes the file, the value's node and the path to it, such as `orders[3].total`. It returns the value, or
    raises ValueError with what follows the path in the message: "must be a number, not ...".
    """

    read: Callable[[YamlFile, Node, str], Any]
    required: bool = True
    default: Any = None


def read_text(path: Path, problems: list[str]) -> str | None:
    """Return the text of a UTF-8 file; None, and one problem more, when it cannot be read."""
    name = clean_text(str(path))
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        problems.append(f"{name}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(f"{name}:{line}: is not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8")
    return None


class YamlFile:
    """One file that holds a list of records; what does not fit is added to `problems`."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        """Read `path` when the records are asked for."""
        self._path = path
        self._problems = problems

    def records(self, fields: dict[str, Field], *, unique: str) -> Iterator[dict[str, Any]]:
        """Yield the records that have no problem; `unique` is the field that is their key within the tenant."""
        root, name = self._compose(), self._path.stem
        if root is None:
            return
        if not isinstance(root, SequenceNode):
            self._say(root.start_mark.line, f"must be a list of {name}, each begun with a dash, not {shown(root)}")
            return
        first: dict[tuple[str, str], int] = {}
        for index, node in enumerate(root.value):
            values, line = self.record(node, f"{name}[{index}]", fields), node.start_mark.line
            if values is None:
                continue
            tenant, key = values["tenant_id"], values[unique]
            if (tenant, key) in first:
                before = first[tenant, key] + 1
                self._say(line, f'{name}[{index}]: the {unique} "{key}" of tenant {tenant} is used on line {before}')
            else:
                first[tenant, key] = line
                yield values

    def record(self, node: Node, path: str, fields: dict[str, Field]) -> dict[str, Any] | None:
        """Return the values of a mapping, defaults filled in; None when there was a problem."""
        if not isinstance(node, MappingNode):
            self._say(
                node.start_mark.line, f"{path} must have fields such as {next(iter(fields))}, not be {shown(node)}"
            )
            return None
        before = len(self._problems)
        values = {name: field.default for name, field in fields.items()}
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = key.value if isinstance(key, ScalarNode) else shown(key), key.start_mark.line
            if name not in fields:
                self._say(line, f"{path} has no field {name}; accepted are {', '.join(fields)}")
            elif name in lines:
                self._say(line, f"{path}.{name} is given twice, first on line {lines[name] + 1}")
            elif _tag(value) != _NULL or fields[name].required:
                values[name] = self._value(value, f"{path}.{name}", fields[name])
            lines.setdefault(name, line)
        for name, field in fields.items():
            if field.required and name not in lines:
                self._say(node.start_mark.line, f"{path} has no {name}")
        return values if len(self._problems) == before else None

    def _value(self, node: Node, path: str, field: Field) -> Any:
        try:
            return field.read(self, node, path)
        except ValueError as error:
            self._say(node.start_mark.line, f"{path} {error}")
        except (InvalidIdError, InvalidTextError) as error:
            self._say(node.start_mark.line, f"{path}: {error.message}")

    def _compose(self) -> Node | None:
        """The root node. PyYAML's loader in C is ten times as fast, but deep nesting crashes the process with it."""
        text = read_text(self._path, self._problems)
        if text is None:
            return None
        try:
            root: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark, begun = error.problem_mark or error.context_mark, error.context_mark
            context = f"{error.context} that begins on line {begun.line + 1}" if begun else error.context
            self._say(mark.line if mark else 0, f"is not YAML: {', '.join(filter(None, (context, error.problem)))}")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position)
            self._say(line, f"is not YAML: it holds the character U+{ord(text[error.position]):04X}")
        except RecursionError:
            self._say(0, "is nested too deeply")
        except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF" that is no character
            self._say(0, f"is not YAML: {error}")
        else:
            if root is None:
                self._say(0, "is empty; fill it or remove it")
            return root
        return None

    def _say(self, line: int, text: str) -> None:
        """Note a problem; `line` counts from 0, as PyYAML does."""
        self._problems.append(clean_text(f"{self._path}:{line + 1}: {text}"))


def _tag(node: Node) -> str | None:
    """The type of a single value; None for a list or a mapping, whatever type it claims: `!!str [1]` is YAML too."""
    return node.tag if isinstance(node, ScalarNode) else None


def shown(node: Node) -> str:
    """Return a node's value as whoever wrote the file knows it."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list" if node.value else "an empty list"
    if node.tag == _NULL:
        return "nothing"
    value = node.value if len(node.value) <= 60 else node.value[:59] + "…"
    return f"{_KINDS[node.tag]} {value}" if node.tag in _KINDS else json.dumps(value, ensure_ascii=False)


def id_of(kind: str) -> Callable[[YamlFile, Node, str], str]:
    """Make the reader of an id, as it is written: 1001 without quotes is the text "1001"."""

    def read(_file: YamlFile, node: Node, _path: str) -> str:
        if _tag(node) not in {_TEXT, _INT}:
            raise ValueError(f"must be text, not {shown(node)}" + ("; put it in quotes" if node.tag in _KINDS else ""))
        return check_id(kind, node.value)

    return read


def line_of_text(node: Node, limit: int) -> str:
    """Return one line of at most `limit` characters, as it is written."""
    if _tag(node) not in {_TEXT, *_KINDS}:
        raise ValueError(f"must be text, not {shown(node)}")
    text = clean_text(node.value).strip()
    if not text:
        raise ValueError("is empty")
    if len(text) > limit:
        raise ValueError(f"has {len(text)} characters; {limit} are allowed")
    if any(unicodedata.category(char) in {"Cc", "Zl", "Zp"} for char in text):
        raise ValueError("must be one line without control characters")
    return text


def amount(_file: YamlFile, node: Node, _path: str) -> float:
    """Return a number of a currency's units, such as 42.50."""
    if _tag(node) not in {_INT, _FLOAT}:
        raise ValueError(f"must be a number, not {shown(node)}")
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", node.value):
        raise ValueError(f"must be a number from 0 to 999999999, such as 42.50, not {node.value[:60]}")
    return float(node.value)


def quantity(_file: YamlFile, node: Node, _path: str) -> int:
    """Return a whole number of things, at least one."""
    if _tag(node) != _INT or not re.fullmatch(r"[1-9][0-9]{0,5}", node.value):
        raise ValueError(f"must be a whole number from 1 to 999999, not {shown(node)}")
    return int(node.value)


def currency(_file: YamlFile, node: Node, _path: str) -> str:
    """Return the three letters of a currency (ISO 4217)."""
    if _tag(node) != _TEXT or not re.fullmatch(r"[A-Z]{3}", node.value):
        raise ValueError(f"must be three capital letters such as USD, not {shown(node)}")
    return str(node.value)
