"""Read a folder of seed data and check it against its schema, which `seeds/README.md` describes.

Whatever is wrong is named with its file, its line and its field. Nothing here touches a database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from yaml.nodes import Node, SequenceNode

from lkmongo.errors import InvalidIdError, SeedError
from lkmongo.model import (
    DEFAULT_TENANT,
    MAX_LABEL,
    PROFILE_FIELDS,
    Identity,
    Order,
    OrderItem,
    Passage,
    Profile,
    Tenant,
    clean_text,
)
from lkmongo.store.passages import split_markdown
from lkmongo.store.seed_yaml import Field, YamlFile, amount, currency, id_of, line_of_text, quantity, read_text, shown
from lkmongo.store.users import check_profile_value

_MAX_NAME = 200
_LISTED = 20
"""Problems that one error lists besides the first."""


@dataclass(frozen=True, slots=True)
class SeedData:
    """What a seed folder holds, checked; each order and each passage beside whose it is."""

    users: tuple[Profile, ...] = ()
    orders: tuple[tuple[Identity, Order], ...] = ()
    passages: tuple[tuple[Tenant, Passage], ...] = ()


def default_seed_folder() -> Path:
    """Return the folder of the sample data: inside the package when installed, beside it in a checkout.

    Raises:
        SeedError: there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_seeds", package.parent / "seeds"):
        if folder.is_dir():
            return folder
    raise SeedError("the sample data is not part of this installation", hint="name a folder of your own with --dir")


def load_seeds(folder: Path) -> SeedData:
    """Read `users.yaml`, `orders.yaml` and the Markdown files below `knowledge`; one or two of the three may be missing.

    Raises:
        SeedError: the folder is not there or holds none of the three, or a file does not fit the schema. The first
            problem is the message (`seeds/orders.yaml:12: ...`), the others are in `why`, one a line.
    """
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
        raise SeedError(what, hint="name one with users.yaml, orders.yaml or knowledge/*.md")
    users, orders, knowledge = folder / "users.yaml", folder / "orders.yaml", folder / "knowledge"
    misnamed = [path.with_suffix(".yml") for path in (users, orders) if path.with_suffix(".yml").exists()]
    problems = [f"{path}: is not read; name it {path.stem}.yaml" for path in misnamed]
    if not problems and not any(path.exists() for path in (users, orders, knowledge)):
        raise SeedError(f"{folder} holds no seed data", hint="put users.yaml, orders.yaml or knowledge/*.md there")
    data = SeedData(
        tuple(_users(users, problems)) if users.exists() else (),
        tuple(_orders(orders, problems)) if orders.exists() else (),
        tuple(_passages(knowledge, problems)) if knowledge.exists() else (),
    )
    if problems:
        first, *others = problems
        if len(others) > _LISTED:
            others = [*others[:_LISTED], f"and {len(others) - _LISTED} more"]
        raise SeedError(first, why="\n".join(others) or None, hint="correct it and run this again; nothing was written")
    return data


def _users(path: Path, problems: list[str]) -> Iterator[Profile]:
    for values in YamlFile(path, problems).records(_USER, unique="user_id"):
        yield Profile(Identity(values.pop("tenant_id"), values.pop("user_id")), **values)


def _orders(path: Path, problems: list[str]) -> Iterator[tuple[Identity, Order]]:
    for values in YamlFile(path, problems).records(_ORDER, unique="order_id"):
        yield Identity(values.pop("tenant_id"), values.pop("user_id")), Order(**values)


def _passages(folder: Path, problems: list[str]) -> Iterator[tuple[Tenant, Passage]]:
    """A file directly in the folder belongs to the default tenant, one in a subfolder to the tenant of that name."""
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*.[mM][dD]")) if path.is_file()]
    files = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    if not files:
        problems.append(f"{folder}: holds no .md files")
    for file in files:
        source, name = file.as_posix(), clean_text(str(folder / file))
        if source != clean_text(source):
            problems.append(f"{name}: its name is not UTF-8")
            continue
        try:
            tenant = Tenant(file.parts[0] if len(file.parts) > 1 else DEFAULT_TENANT)
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


def _name(_file: YamlFile, node: Node, _path: str) -> str:
    return line_of_text(node, _MAX_NAME)


def _status(_file: YamlFile, node: Node, _path: str) -> str:
    return line_of_text(node, MAX_LABEL)


def _profile_value(_file: YamlFile, node: Node, path: str) -> str:
    return check_profile_value(path.rpartition(".")[2], line_of_text(node, _MAX_NAME))


def _items(file: YamlFile, node: Node, path: str) -> tuple[OrderItem, ...]:
    if not isinstance(node, SequenceNode) or not node.value:
        raise ValueError(f"must be a list of at least one item, not {shown(node)}")
    records = [file.record(item, f"{path}[{index}]", _ITEM) for index, item in enumerate(node.value)]
    return tuple(OrderItem(**values) for values in records if values)


_TENANT = Field(id_of("tenant"), required=False, default=DEFAULT_TENANT)
_USER = {
    "user_id": Field(id_of("user")),
    "tenant_id": _TENANT,
    **{name: Field(_profile_value, required=False) for name in PROFILE_FIELDS},
}
_ITEM = {"name": Field(_name), "quantity": Field(quantity, required=False, default=1)}
_ORDER = {
    "order_id": Field(id_of("order")),
    "user_id": Field(id_of("user")),
    "tenant_id": _TENANT,
    "status": Field(_status),
    "total": Field(amount),
    "currency": Field(currency, required=False, default="USD"),
    "items": Field(_items),
}
