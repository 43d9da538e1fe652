"""Read YAML files of records, and report every problem with its file, line and field."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError, ValidationInfo
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lkmongo.declarations import Collection, Owner, Place, ShapeError, place_text
from lkmongo.errors import InvalidIdError, InvalidTextError
from lkmongo.model import DEFAULT_TENANT, check_id, clean_text
from lkmongo.regular_files import open_regular
from lkmongo.store.people.own import storable

_TEXT, _INT, _FLOAT, _BOOL, _DATE, _NULL = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "timestamp", "null")
)
_KINDS = {_BOOL: "the boolean", _DATE: "the date", _INT: "the number", _FLOAT: "the number"}


def read_text(path: Path, problems: list[str], *, follow_links: bool = False, below: Path | None = None) -> str | None:
    """The text of a UTF-8 file, opened as `open_regular` does; None, and a problem is added, if it cannot be read."""
    name = clean_text(str(path))
    try:
        with open_regular(path, follow_links=follow_links, below=below) as stream:
            data = stream.read()
        return data.decode("utf-8-sig")
    except OSError as error:
        problems.append(f"{name}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(f"{name}:{line}: is not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8")
    return None


class YamlFile:
    """A file with a list of records; errors are added to `problems`."""

    def __init__(self, path: Path, problems: list[str], *, follow_links: bool = False) -> None:
        self._path = path
        self._problems = problems
        self._follow_links = follow_links
        self._found: list[tuple[bool, int, str]] = []
        self._first: dict[tuple[Any, ...], int] = {}

    def records(self, model: type[BaseModel], *, unique: str) -> Iterator[dict[str, Any]]:
        """Yield the fields of valid records; the field `unique` is their key within the tenant."""
        name = self._path.stem
        for index, node, line in self._nodes(name):
            path = f"{name}[{index}]"
            yield from self._new(self.record(node, path, model), path, line, ["tenant_id", unique])

    def _nodes(self, name: str) -> Iterator[tuple[int, Node, int]]:
        """The records with their places and lines."""
        root = self._compose()
        if root is None:
            return
        if not isinstance(root, SequenceNode):
            self._say(root.start_mark.line, f"must be a list of {name}, each starting with a dash, not {shown(root)}")
            return
        for index, node in enumerate(root.value):
            yield index, node, node.start_mark.line

    def _new(self, values: dict[str, Any], path: str, line: int, key: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield a record unless it has problems, which are reported by line, or the key of an earlier one."""
        found, self._found = sorted(self._found), []
        for _, at, text in found:
            self._say(at, text)
        if found:
            return
        ids = tuple(values[name] for name in key)
        if (before := self._first.get(ids)) is None:
            self._first[ids] = line
            yield values
            return
        whose = [f'the {name} "{values[name]}"' for name in reversed(key) if name != "tenant_id"] or ["the only one"]
        whose += [f"tenant {values['tenant_id']}"] if "tenant_id" in key else []
        self._say(line, f"{path}: {' of '.join(whose)} is used on line {before + 1}")

    def record(self, node: Node, path: str, model: type[BaseModel]) -> dict[str, Any]:
        """The fields of a mapping, which may be nested; empty, and a problem is added, if it is invalid."""
        names, line = model.model_fields, node.start_mark.line
        if not isinstance(node, MappingNode):
            self._find(line, f"{path} must have fields such as {next(iter(names))}, not be {shown(node)}")
            return {}
        lines: dict[str, int] = {}
        values: dict[str, Node] = {}
        for key, value in node.value:
            name, at = key.value if isinstance(key, ScalarNode) else shown(key), key.start_mark.line
            if name not in names:
                self._find(at, f"{path} has no field {name}; accepted are {', '.join(names)}")
            elif name in lines:
                self._find(at, f"{path}.{name} is given twice, first on line {lines[name] + 1}")
            elif _tag(value) != _NULL or names[name].is_required():
                values[name] = value
            lines.setdefault(name, at)
        try:
            return dict(model.model_validate(values, context=(self, path)))
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_input=False):
                name = str(error["loc"][0])
                if error["type"] == "missing":
                    self._find(line, f"{path} has no {name}", missing=True)
                else:
                    self._find(values[name].start_mark.line, f"{path}.{name}{error['ctx']['error']}")
        return {}

    def own_records(self, collection: Collection) -> Iterator[dict[str, Any]]:
        """Yield the valid documents of a declared collection, with their owner's ids, ready to be stored."""
        for index, node, line in self._nodes(collection.name):
            path = f"{collection.name}[{index}]"
            yield from self._new(self._own_record(node, path, collection), path, line, collection.identity)

    def _own_record(self, node: Node, path: str, collection: Collection) -> dict[str, Any]:
        ids = _OWNERS[collection.owner]
        if not isinstance(node, MappingNode):
            names = [*ids.model_fields, *(collection.fields or collection.key)]
            self._find(node.start_mark.line, f"{path} must have fields such as {names[0]}, not be {shown(node)}")
            return {}
        pairs: list[tuple[Node, Node]] = node.value
        about_owner = [(key, value) for key, value in pairs if _tag(key) and key.value in ids.model_fields]
        rest = MappingNode(node.tag, [pair for pair in pairs if pair not in about_owner], node.start_mark)
        owner = self.record(MappingNode(node.tag, about_owner, node.start_mark), path, ids)
        names = [key.value for key, _ in rest.value if isinstance(key, ScalarNode)]
        for key, _ in rest.value:
            if isinstance(key, ScalarNode) and names.count(key.value) > 1:
                self._find(key.start_mark.line, f"{path}.{key.value} is given twice")
                return {}
        document: dict[str, Any] = {}
        try:
            document = yaml.SafeLoader("").construct_document(rest)
            return {**storable(collection.checked(document)), **owner}
        except ShapeError as error:
            for place, text in error.problems:
                at = _at(rest, place)
                value = f", not {shown(at)}" if isinstance(at, ScalarNode) and text.startswith(" must ") else ""
                self._find(at.start_mark.line, f"{place_text(path, place)}{text}{value}", missing=" has no " in text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or rest.start_mark
            self._find(mark.line, f"{path}: {error.problem}")
        except (ValueError, OverflowError) as error:  # a date such as 2026-02-30
            self._find(_at_fault(rest).start_mark.line, f"{path}: {error}")
        except RecursionError:
            self._find(rest.start_mark.line, f"{path} contains itself")
        return {}

    def _find(self, line: int, text: str, *, missing: bool = False) -> None:
        """Add a problem of the current record; they are reported by line, missing fields last."""
        self._found.append((missing, line, text))

    def _compose(self) -> Node | None:
        """The root node. PyYAML's C loader is ten times as fast, but crashes the process on deep nesting."""
        text = read_text(self._path, self._problems, follow_links=self._follow_links)
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
            self._say(line, f"is not YAML: it contains the character U+{ord(text[error.position]):04X}")
        except RecursionError:
            self._say(0, "is nested too deeply")
        except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF", which is not a character
            self._say(0, f"is not YAML: {error}")
        else:
            if root is None:
                self._say(0, "is empty; fill it or remove it")
            return root
        return None

    def _say(self, line: int, text: str) -> None:
        """Add a problem; `line` is zero-based, as in PyYAML."""
        self._problems.append(clean_text(f"{self._path}:{line + 1}: {text}"))


def _tag(node: Node) -> str | None:
    """The type of a scalar; None for lists and mappings, whatever tag they have: `!!str [1]` is valid YAML."""
    return node.tag if isinstance(node, ScalarNode) else None


def shown(node: Node) -> str:
    """A node's value as the author of the file knows it."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list" if node.value else "an empty list"
    if node.tag == _NULL:
        return "nothing"
    value = node.value if len(node.value) <= 60 else node.value[:59] + "…"
    return f"{_KINDS[node.tag]} {value}" if node.tag in _KINDS else json.dumps(value, ensure_ascii=False)


def field(read: Callable[[Node, str], str]) -> BeforeValidator:
    """A validator from a function of a value's node and its field's name."""

    def validate(node: Node, info: ValidationInfo) -> str:
        try:
            return read(node, str(info.field_name))
        except ValueError as error:
            raise ValueError(clean_text(f" {error}")) from error  # pydantic encodes it as UTF-8
        except (InvalidIdError, InvalidTextError) as error:
            raise ValueError(clean_text(f": {error.message}")) from error

    return BeforeValidator(validate)


def _id(node: Node, name: str) -> str:
    if _tag(node) not in {_TEXT, _INT}:
        raise ValueError(f"must be text, not {shown(node)}" + ("; put it in quotes" if node.tag in _KINDS else ""))
    return check_id(name.removesuffix("_id"), node.value)


def line_of_text(node: Node, limit: int) -> str:
    """One line of at most `limit` characters, as written."""
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


def _written(tags: str, pattern: str, what: str, more: str = "") -> BeforeValidator:
    """A scalar of one of the YAML types `tags` that matches `pattern`; the model's field converts it."""

    def read(node: Node, _name: str) -> str:
        if (_tag(node) or "").rpartition(":")[2] not in tags.split():
            raise ValueError(f"must be {what}, not {shown(node)}")
        if not re.fullmatch(pattern, node.value):
            raise ValueError(f"must be {what}{more}, not {shown(node).removeprefix('the number ')}")
        return str(node.value)

    return field(read)


Id = Annotated[str, field(_id)]
"""An id as written: 1001 without quotes is the text "1001"."""
Amount = Annotated[
    float, _written("int float", r"[0-9]{1,9}(\.[0-9]{1,6})?", "a number", " from 0 to 999999999, such as 42.50")
]
"""In units of the currency."""
Quantity = Annotated[int, _written("int", "[1-9][0-9]{0,5}", "a whole number from 1 to 999999")]
Currency = Annotated[str, _written("str", "[A-Z]{3}", "three capital letters such as USD")]
"""ISO 4217."""


class _Shared(BaseModel):
    pass


class _OfTenant(BaseModel):
    tenant_id: Id = DEFAULT_TENANT


class _OfPerson(BaseModel):
    user_id: Id
    tenant_id: Id = DEFAULT_TENANT


_OWNERS: Mapping[Owner, type[BaseModel]] = {"person": _OfPerson, "tenant": _OfTenant, "shared": _Shared}


def _at(node: Node, place: Place) -> Node:
    """The node of a place in a document, or the last one on the way to it that there is."""
    for step in place:
        if isinstance(node, MappingNode):
            inner = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            inner = node.value[step]
        else:
            inner = None
        if inner is None:
            break
        node = inner
    return node


def _at_fault(node: MappingNode) -> Node:
    """The value of which no Python value can be made."""
    for _, value in node.value:
        try:
            yaml.SafeLoader("").construct_document(value)
        except (ValueError, OverflowError):
            return _at_fault(value) if isinstance(value, MappingNode) else value
    return node
