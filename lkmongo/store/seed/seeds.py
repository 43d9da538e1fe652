"""Read a folder of seed data and check it against the schema in `seeds/README.md`.

Every problem is reported with its file, line and field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationInfo, create_model
from yaml.nodes import Node, SequenceNode

from lkmongo.declarations import ORDERS as OUR_ORDERS
from lkmongo.declarations import Collection, Declarations, ProfileField, declared
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
from lkmongo.regular_files import LINK, refuse_link, walk
from lkmongo.store.knowledge.formats import DocumentError, NoTextError, is_supported
from lkmongo.store.knowledge.passages import split_markdown
from lkmongo.store.people.users import check_profile_value
from lkmongo.store.seed.yaml_file import Amount, Currency, Id, Quantity, YamlFile, field, line_of_text, read_text, shown

Split = Callable[[str, str], Sequence[Passage]]
USERS, ORDERS, KNOWLEDGE = "users.yaml", "orders.yaml", "knowledge"
_BESIDE = re.compile(
    r"\..*|(readme|licen[cs]e|copying|notice|changelog)(\..*)?|.*(~|\.(bak|orig|rej|sw[op]|tmp))|#.*#", re.IGNORECASE
)
"""Files that are ignored without a problem: hidden files, notes about the folder, editors' backups."""
_RECORDS = (".yaml", ".yml")
_MAX_NAME = 200
_LISTED = 20
"""Problems that an error lists besides the first."""


@dataclass(frozen=True, slots=True)
class SeedData:
    """The checked contents of a seed folder; orders and passages with their owners, `own` of declared collections."""

    users: tuple[Profile, ...] = ()
    orders: tuple[tuple[UserScope, Order], ...] = ()
    passages: tuple[tuple[TenantScope, Passage], ...] = ()
    own: tuple[tuple[Collection, tuple[dict[str, Any], ...]], ...] = ()


def default_seed_folder() -> Path:
    """The folder of the sample data, inside the package when installed, beside it in a checkout; raises SeedError."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "_seeds", package.parent / "seeds"):
        if folder.is_dir():
            return folder
    raise SeedError("the sample data is not part of this installation", hint="name your own folder with --dir")


def load_seeds(
    folder: Path,
    known: Declarations | None = None,
    *,
    follow_links: bool = False,
    split: Split = split_markdown,
) -> SeedData:
    """Read `users.yaml`, the seeds of collections, such as `orders.yaml`, and the Markdown files below `knowledge`.

    Args:
        folder: where they are; not all of them have to be there.
        known: collections and profile fields, by default those that this process declares.
        follow_links: whether to follow symbolic links; without it they are problems.
        split: makes passages of a Markdown document and its source, in another process if the folder may be anybody's.

    Raises:
        UsageError: the folder is a symbolic link that is not to be followed.
        SeedError: the folder does not exist or has none of them, a file violates the schema, or would not be read.
            The message is the first problem (`seeds/orders.yaml:12: ...`); `why` has the others, one per line.
    """
    refuse_link(folder, follow_links=follow_links)
    known = declared() if known is None else known
    files = {each.seed: each for each in known.collections.values() if each.seed}
    names = [USERS, *files]
    belongs = f"{', '.join(names)} and {KNOWLEDGE}/"
    if not folder.is_dir():
        what = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
        raise SeedError(what, hint=f"name one with {belongs}")
    try:
        there = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise SeedError(f"{folder} cannot be read", why=error.strerror, hint="name a readable folder") from error
    parts = [*names, KNOWLEDGE]
    strange = [name for name in there if name not in parts and not _BESIDE.fullmatch(name)]
    if set(parts).isdisjoint(there) and not any(_meant(name, parts) or name.endswith(_RECORDS) for name in strange):
        raise SeedError(f"{folder} contains no seed data", hint=f"put {belongs} there; one of them is enough")
    problems = [_not_read(folder / name, parts, belongs) for name in strange]
    own = {name: each for name, each in files.items() if each is not OUR_ORDERS and name in there}

    def records(name: str) -> YamlFile:
        return YamlFile(folder / name, problems, follow_links=follow_links)

    data = SeedData(
        tuple(_users(records(USERS), known.fields)) if USERS in there else (),
        tuple(_orders(records(ORDERS))) if files.get(ORDERS) is OUR_ORDERS and ORDERS in there else (),
        tuple(_passages(folder / KNOWLEDGE, problems, split, follow_links=follow_links)) if KNOWLEDGE in there else (),
        tuple((each, tuple(records(name).own_records(each))) for name, each in own.items()),
    )
    if problems:
        first, *others = problems
        if len(others) > _LISTED:
            others = [*others[:_LISTED], f"and {len(others) - _LISTED} more"]
        holds = f"a seed folder contains {belongs} (and may contain a README); " if strange else ""
        unknown = [name for name in strange if name.endswith(_RECORDS) and not _meant(name, parts)]
        holds += "a collection of your own has the file that its declaration names; " if unknown else ""
        hint = f"{holds}correct it and run this again; nothing was written"
        raise SeedError(first, why="\n".join(others) or None, hint=hint)
    return data


def _meant(name: str, parts: Sequence[str]) -> str | None:
    """The part of a seed folder whose name this is a misspelling of, as order.yaml or users.yml."""
    stems = {part.partition(".")[0]: part for part in parts}
    return next((stems[stem] for stem in get_close_matches(name.partition(".")[0].lower(), stems, 1, 0.7)), None)


def _not_read(path: Path, parts: Sequence[str], belongs: str) -> str:
    """The problem of a file or folder that does not belong in a seed folder."""
    if meant := _meant(path.name, parts):
        what = f"did you mean {meant}?"
    elif path.is_dir() or is_supported(path.name):
        what = f"knowledge files belong in {KNOWLEDGE}/"
    else:
        what = f"only {belongs} are"
    return clean_text(f"{path}: is not read; {what}")


def _users(file: YamlFile, own: Mapping[str, ProfileField]) -> Iterator[Profile]:
    def read(node: Node, name: str) -> str:
        return check_profile_value(name, line_of_text(node, _MAX_NAME), own)

    fields: dict[str, Any] = dict.fromkeys([*PROFILE_FIELDS, *own], (Annotated[str, field(read)], None))
    user = create_model("_User", user_id=Id, tenant_id=(Id, DEFAULT_TENANT), **fields)
    for values in file.records(user, unique="user_id"):
        ours = {name: value for name, value in values.items() if name not in own}
        of_own = {name: values[name] for name in own if values[name] is not None}
        yield Profile(UserScope(tenant_id=ours.pop("tenant_id"), user_id=ours.pop("user_id")), **ours, own=of_own)


def _orders(file: YamlFile) -> Iterator[tuple[UserScope, Order]]:
    for values in file.records(_Order, unique="order_id"):
        yield UserScope(tenant_id=values.pop("tenant_id"), user_id=values.pop("user_id")), Order(**values)


def _passages(
    folder: Path, problems: list[str], split: Split, *, follow_links: bool
) -> Iterator[tuple[TenantScope, Passage]]:
    """A file in a subfolder belongs to the tenant of that name, others to the default tenant."""
    files = _files(folder, problems, follow_links=follow_links)
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
        text = read_text(folder / file, problems, follow_links=follow_links, below=folder)
        if text is None:
            continue
        try:
            passages = split(text, source)
        except NoTextError:
            passages = []
        except DocumentError as error:
            problems.append(f"{name}: {error.message}")
            continue
        if not passages:
            problems.append(f"{name}: holds no text" + (" besides headings" if text.strip() else ""))
        yield from ((tenant, passage) for passage in passages)


def _files(folder: Path, problems: list[str], *, follow_links: bool) -> list[Path]:
    """The documents below a folder, relative to it; links that are not followed, and folders, become problems."""
    if folder.is_symlink() and not follow_links:
        problems.append(clean_text(f"{folder}: is not read, it is {LINK}"))
        return []

    def unreadable(path: Path, error: OSError) -> None:
        problems.append(clean_text(f"{path}: cannot be read: {error.strerror}"))

    files = []
    for entry in walk(folder, unreadable, follow_links=follow_links):
        if entry.obstacle == LINK and not _BESIDE.fullmatch(entry.path.name):
            problems.append(clean_text(f"{entry.path}: is not read, it is {LINK}"))
        elif entry.obstacle is None and is_supported(entry.path.name):
            files.append(entry.path.relative_to(folder))
    return sorted(files)


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
