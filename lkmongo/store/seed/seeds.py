"""Read a folder of seed data and check it against its schema, which `seeds/README.md` describes.

Whatever is wrong is named with its file, its line and its field. Nothing here touches a database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationInfo, create_model
from yaml.nodes import Node, SequenceNode

from lkmongo.errors import InvalidIdError, SeedError
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
    clean_text,
)
from lkmongo.store.knowledge.document_formats import is_supported
from lkmongo.store.knowledge.passages import split_markdown
from lkmongo.store.people.users import check_profile_value
from lkmongo.store.seed.seed_yaml import (
    Amount,
    Currency,
    Id,
    Quantity,
    YamlFile,
    field,
    line_of_text,
    read_text,
    shown,
)

USERS, ORDERS, KNOWLEDGE = "users.yaml", "orders.yaml", "knowledge"
_PARTS = f"{USERS}, {ORDERS} and {KNOWLEDGE}/"
_BESIDE = re.compile(
    r"\..*|(readme|licen[cs]e|copying|notice|changelog)(\..*)?|.*(~|\.(bak|orig|rej|sw[op]|tmp))|#.*#", re.IGNORECASE
)
"""What lies in a folder and is not meant to be read: hidden files, words about the folder, an editor's copies."""
_MAX_NAME = 200
_LISTED = 20
"""Problems that one error lists besides the first."""


@dataclass(frozen=True, slots=True)
class SeedData:
    """What a seed folder holds, checked; each order and each passage beside whose it is."""

    users: tuple[Profile, ...] = ()
    orders: tuple[tuple[UserScope, Order], ...] = ()
    passages: tuple[tuple[TenantScope, Passage], ...] = ()


def default_seed_folder() -> Path:
    """Return the folder of the sample data: inside the package when installed, beside it in a checkout.

    Raises:
        SeedError: there is neither.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "_seeds", package.parent / "seeds"):
        if folder.is_dir():
            return folder
    raise SeedError("the sample data is not part of this installation", hint="name a folder of your own with --dir")


def load_seeds(folder: Path) -> SeedData:
    """Read `users.yaml`, `orders.yaml` and the Markdown files below `knowledge`; one or two of the three may be missing.

    Raises:
        SeedError: the folder is not there or holds none of the three, a file does not fit the schema, or something lies
            there that would not be read. The first problem is the message (`seeds/orders.yaml:12: ...`), the others are
            in `why`, one a line.
    """
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
        raise SeedError(what, hint=f"name one with {_PARTS}")
    try:
        there = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise SeedError(
            f"{folder} cannot be read", why=error.strerror, hint="name a folder that you may read"
        ) from error
    parts = {USERS, ORDERS, KNOWLEDGE}
    strange = [name for name in there if name not in parts and not _BESIDE.fullmatch(name)]
    if parts.isdisjoint(there) and not any(map(_meant, strange)):
        raise SeedError(f"{folder} holds no seed data", hint=f"put {_PARTS} there; one or two of them will do")
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
        holds = f"a seed folder holds {_PARTS} (a README may lie beside); " if strange else ""
        hint = f"{holds}correct it and run this again; nothing was written"
        raise SeedError(first, why="\n".join(others) or None, hint=hint)
    return data


def _meant(name: str) -> str | None:
    """The part of a seed folder whose name is misspelt so, as in order.yaml or users.yml."""
    stems = {part.partition(".")[0]: part for part in (USERS, ORDERS, KNOWLEDGE)}
    return next((stems[stem] for stem in get_close_matches(name.partition(".")[0].lower(), stems, 1, 0.7)), None)


def _not_read(path: Path) -> str:
    """The problem of a file or folder that is no part of a seed folder."""
    if meant := _meant(path.name):
        what = f"did you mean {meant}?"
    elif path.is_dir() or is_supported(path.name):
        what = f"what is to be known belongs into {KNOWLEDGE}/"
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
    """A file directly in the folder belongs to the default tenant, one in a subfolder to the tenant of that name."""
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
