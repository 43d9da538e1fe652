"""Read a folder of seed data and check it against the schema in `seeds/README.md`.

Every problem is reported with its file, line and field.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError, ValidationInfo, create_model
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lkmongo.errors import InvalidIdError, InvalidTextError, SeedError
from lkmongo.model import (
    DEFAULT_TENANT,
    MAX_LABEL,
    PROFILE_FIELDS,
    Order,
    OrderItem,
    Passage,
    Profile,
    TenantScope,
    UserScope,
    check_id,
    clean_text,
)
from lkmongo.store.knowledge.formats import is_supported
from lkmongo.store.knowledge.passages import split_markdown
from lkmongo.store.people.users import check_profile_value

_TEXT, _INT, _FLOAT, _BOOL, _DATE, _NULL = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "timestamp", "null")
)
_KINDS = {_BOOL: "the boolean", _DATE: "the date", _INT: "the number", _FLOAT: "the number"}


def read_text(path: Path, problems: list[str]) -> str | None:
    """The text of a UTF-8 file; None, and a problem is added, if it cannot be read."""
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
    """A file with a list of records; errors are added to `problems`."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self._path = path
        self._problems = problems
        self._found: list[tuple[bool, int, str]] = []

    def records(self, model: type[BaseModel], *, unique: str) -> Iterator[dict[str, Any]]:
        """Yield the fields of valid records; the field `unique` is their key within the tenant."""
        root, name = self._compose(), self._path.stem
        if root is None:
            return
        if not isinstance(root, SequenceNode):
            self._say(root.start_mark.line, f"must be a list of {name}, each starting with a dash, not {shown(root)}")
            return
        first: dict[tuple[str, str], int] = {}
        for index, node in enumerate(root.value):
            values, line = self.record(node, f"{name}[{index}]", model), node.start_mark.line
            found, self._found = sorted(self._found), []
            for _, at, text in found:
                self._say(at, text)
            if found:
                continue
            tenant, key = values["tenant_id"], values[unique]
            if (tenant, key) in first:
                before = first[tenant, key] + 1
                self._say(line, f'{name}[{index}]: the {unique} "{key}" of tenant {tenant} is used on line {before}')
            else:
                first[tenant, key] = line
                yield values

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

    def _find(self, line: int, text: str, *, missing: bool = False) -> None:
        """Add a problem of the current record; they are reported by line, missing fields last."""
        self._found.append((missing, line, text))

    def _compose(self) -> Node | None:
        """The root node. PyYAML's C loader is ten times as fast, but crashes the process on deep nesting."""
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


USERS, ORDERS, KNOWLEDGE = "users.yaml", "orders.yaml", "knowledge"
_PARTS = f"{USERS}, {ORDERS} and {KNOWLEDGE}/"
_BESIDE = re.compile(
    r"\..*|(readme|licen[cs]e|copying|notice|changelog)(\..*)?|.*(~|\.(bak|orig|rej|sw[op]|tmp))|#.*#", re.IGNORECASE
)
"""Files that are ignored without a problem: hidden files, notes about the folder, editors' backups."""
_MAX_NAME = 200
_LISTED = 20
"""Problems that an error lists besides the first."""


@dataclass(frozen=True, slots=True)
class SeedData:
    """The checked contents of a seed folder; orders and passages with their owners."""

    users: tuple[Profile, ...] = ()
    orders: tuple[tuple[UserScope, Order], ...] = ()
    passages: tuple[tuple[TenantScope, Passage], ...] = ()


def default_seed_folder() -> Path:
    """The folder of the sample data, inside the package when installed, beside it in a checkout; raises SeedError."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "_seeds", package.parent / "seeds"):
        if folder.is_dir():
            return folder
    raise SeedError("the sample data is not part of this installation", hint="name your own folder with --dir")


def load_seeds(folder: Path) -> SeedData:
    """Read `users.yaml`, `orders.yaml` and the Markdown files below `knowledge`, of which one or two may be missing.

    Raises:
        SeedError: the folder does not exist or has none of the three, a file violates the schema, or would not be read.
            The message is the first problem (`seeds/orders.yaml:12: ...`); `why` has the others, one per line.
    """
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
        raise SeedError(what, hint=f"name one with {_PARTS}")
    try:
        there = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise SeedError(f"{folder} cannot be read", why=error.strerror, hint="name a readable folder") from error
    parts = {USERS, ORDERS, KNOWLEDGE}
    strange = [name for name in there if name not in parts and not _BESIDE.fullmatch(name)]
    if parts.isdisjoint(there) and not any(map(_meant, strange)):
        raise SeedError(f"{folder} contains no seed data", hint=f"put {_PARTS} there; one or two of them are enough")
    problems = [_not_read(folder / name) for name in strange]
    data = SeedData(
        tuple(_users(folder / USERS, problems)) if USERS in there else (),
        tuple(_orders(folder / ORDERS, problems)) if ORDERS in there else (),
        tuple(_passages(folder / KNOWLEDGE, problems)) if KNOWLEDGE in there else (),
    )
    if problems:
        first, *others = problems
        if len(others) > _LISTED:
            others = [*others[:_LISTED], f"and {len(others) - _LISTED} more"]
        holds = f"a seed folder contains {_PARTS} (and may contain a README); " if strange else ""
        hint = f"{holds}correct it and run this again; nothing was written"
        raise SeedError(first, why="\n".join(others) or None, hint=hint)
    return data


def _meant(name: str) -> str | None:
    """The part of a seed folder whose name this is a misspelling of, as order.yaml or users.yml."""
    stems = {part.partition(".")[0]: part for part in (USERS, ORDERS, KNOWLEDGE)}
    return next((stems[stem] for stem in get_close_matches(name.partition(".")[0].lower(), stems, 1, 0.7)), None)


def _not_read(path: Path) -> str:
    """The problem of a file or folder that does not belong in a seed folder."""
    if meant := _meant(path.name):
        what = f"did you mean {meant}?"
    elif path.is_dir() or is_supported(path.name):
        what = f"knowledge files belong in {KNOWLEDGE}/"
    else:
        what = f"only {_PARTS} are"
    return clean_text(f"{path}: is not read; {what}")


def _users(path: Path, problems: list[str]) -> Iterator[Profile]:
    for values in YamlFile(path, problems).records(_User, unique="user_id"):
        yield Profile(UserScope(tenant_id=values.pop("tenant_id"), user_id=values.pop("user_id")), **values)


def _orders(path: Path, problems: list[str]) -> Iterator[tuple[UserScope, Order]]:
    for values in YamlFile(path, problems).records(_Order, unique="order_id"):
        yield UserScope(tenant_id=values.pop("tenant_id"), user_id=values.pop("user_id")), Order(**values)


def _passages(folder: Path, problems: list[str]) -> Iterator[tuple[TenantScope, Passage]]:
    """A file in a subfolder belongs to the tenant of that name, others to the default tenant."""
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [file for file in files if is_supported(file.name) and not any(part.startswith(".") for part in file.parts)]
    others = [file for file in files if file.suffix.lower() != ".md"]
    problems += [
        clean_text(f"{folder / file}: is not read, only .md files are; lkmongo knowledge add reads it")
        for file in others
        if not _BESIDE.fullmatch(file.name)
    ]
    files = [file for file in files if file not in others]
    if not files:
        problems.append(f"{folder}: holds no .md files")
    for file in files:
        source, name = file.as_posix(), clean_text(str(folder / file))
        if source != clean_text(source):
            problems.append(f"{name}: its name is not UTF-8")
            continue
        try:
            tenant = TenantScope(file.parts[0] if len(file.parts) > 1 else DEFAULT_TENANT)
        except InvalidIdError as error:
            problems.append(f"{name}: its folder names the tenant, but {error.message}")
            continue
        text = read_text(folder / file, problems)
        if text is None:
            continue
        passages = split_markdown(text, source)
        if not passages:
            problems.append(f"{name}: holds no text" + (" besides headings" if text.strip() else ""))
        yield from ((tenant, passage) for passage in passages)


def _items(node: Node, info: ValidationInfo[tuple[YamlFile, str]]) -> tuple[OrderItem, ...]:
    file, path = info.context
    if not isinstance(node, SequenceNode) or not node.value:
        raise ValueError(f" must be a list of at least one item, not {shown(node)}")
    items = [file.record(item, f"{path}.items[{index}]", _Item) for index, item in enumerate(node.value)]
    return tuple(OrderItem(**values) for values in items if values)


class _Item(BaseModel):
    name: Annotated[str, field(lambda node, _name: line_of_text(node, _MAX_NAME))]
    quantity: Quantity = 1


class _Order(BaseModel):
    order_id: Id
    user_id: Id
    tenant_id: Id = DEFAULT_TENANT
    status: Annotated[str, field(lambda node, _name: line_of_text(node, MAX_LABEL))]
    total: Amount
    currency: Currency = "USD"
    items: Annotated[tuple[OrderItem, ...], BeforeValidator(_items)]


_ProfileValue = Annotated[str, field(lambda node, name: check_profile_value(name, line_of_text(node, _MAX_NAME)))]
_profile: dict[str, Any] = dict.fromkeys(PROFILE_FIELDS, (_ProfileValue, None))
_User = create_model("_User", user_id=Id, tenant_id=(Id, DEFAULT_TENANT), **_profile)
