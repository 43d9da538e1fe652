"""What a project declares of its own: collections, and fields of the profile; plain data without I/O.

A process declares what its agent's module or `Memory` names; `store/mongo/declared.py` stores it in the database, so
that whoever exports or erases a person without that module covers it all the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.errors import InvalidTextError, UsageError
from lkmongo.imports import import_string

if TYPE_CHECKING:
    from pydantic import BaseModel

Owner = Literal["person", "tenant", "shared"]
Place = tuple[str | int, ...]
"""The way to a value of a document: names of fields and positions in lists."""

SCOPES: Mapping[Owner, tuple[str, ...]] = {"person": ("tenant_id", "user_id"), "tenant": ("tenant_id",), "shared": ()}
"""The ids that every document of an owner has; lkmongo adds them."""
_IDS = {"_id", "tenant_id", "user_id"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.ya?ml")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED = frozenset(
    "users memories knowledge sessions turns visitors receipts tombstones keys declarations "
    "memory_history used_seals audit audit_checkpoints phones pins phone_attempts "  # collections of lkmongo
    "profile profiles calls browsers exported_at tenant_id user_id in_a_call name email preferred_language timezone "
    "created_at last_seen_at last_call last_call_at".split()  # names in exports and commands
)
_RESERVED_FIELDS = frozenset(
    "name email preferred_language timezone created_at last_seen_at last_session last_call last_call_at fields "
    "preferences memory_version forgotten_at memories orders turns scope phones pin_set_at pin_set_by "
    "pin_locked_until".split()
)
_SHORTEST = timedelta(hours=1)
MAX_FIELD = 200
"""Characters in a profile field."""


class DeclarationError(UsageError):
    """A declaration is wrong."""

    code = "bad_declaration"


class ShapeError(InvalidTextError):
    """A document does not fit its declaration; `problems` are the places in it and what is wrong there."""

    code = "bad_shape"

    def __init__(self, name: str, problems: Sequence[tuple[Place, str]]) -> None:
        """Name the first problem of a document of the collection `name`."""
        self.problems = problems
        place, text = problems[0]
        super().__init__(f"{place_text(name, place)}{text}")


def place_text(name: str, place: Place) -> str:
    """A place as people write it: `appointments.guests[0].name`."""
    return name + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)


@dataclass(frozen=True)
class Collection:
    """A collection of your own.

    Attributes:
        name: its name in MongoDB.
        owner: whose a document is. One of a "person" has their `tenant_id` and `user_id`, and is exported, merged and
            erased with them; one of the "tenant" has a `tenant_id`; what is "shared" has neither. lkmongo adds the ids.
        key: the fields that identify a document among those of its owner; none: an owner has one document.
        indexes: further paths to look documents up by, each one path or several, "-at" for the latest first. The
            owner's ids are put in front.
        document: a pydantic model of a document without the owner's ids, for seeds and writes; None accepts any fields.
        seed: the file of its documents in a seed folder, such as "appointments.yaml".
        retention: a field with a date, and for how long after it a document is kept; None for that: until
            `lkmongo db retention` says so.
        exported: whether `lkmongo memory export` includes a person's documents.
        erased: whether `lkmongo users erase` deletes a person's documents; else they stay, and it says so.
        unique_within: "tenant" if no two people of a tenant have documents with one key, as with an order's number.

    Raises:
        DeclarationError: something of it cannot be.
    """

    name: str
    _: KW_ONLY
    owner: Owner
    key: Sequence[str]
    indexes: Sequence[str | Sequence[str]] = ()
    document: type[BaseModel] | None = None
    seed: str | None = None
    retention: tuple[str, timedelta | None] | None = None
    exported: bool = True
    erased: bool = True
    unique_within: Literal["person", "tenant"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise DeclarationError(
                f"{self.name!r} cannot be the name of a collection",
                hint="use letters, digits, - and _, beginning with a letter",
            )
        if self.name.lower() in _RESERVED:
            raise self._wrong("is a name of lkmongo's own", "choose another one; only orders can be replaced")
        if self.owner not in SCOPES:
            raise self._wrong(f"cannot belong to {self.owner!r}", f"owner is one of {', '.join(SCOPES)}")
        object.__setattr__(self, "key", self._paths("key", self.key))
        if isinstance(self.indexes, str):
            raise self._wrong("has indexes that are text", f"write indexes=[{self.indexes!r}]")
        wanted = [(each,) if isinstance(each, str) else tuple(each) for each in self.indexes]
        object.__setattr__(self, "indexes", tuple(self._paths("indexes", each, minus=True) for each in wanted))
        if self.owner == "shared" and not self.key:
            raise self._wrong("is shared and has no key", "name the fields that identify a document")
        if self.unique_within and self.owner != "person":
            raise self._wrong("has unique_within, which is for the documents of people", "leave it out")
        if self.unique_within and not self.key:
            raise self._wrong("has unique_within, but no key", "name the fields that identify a document")
        if self.seed is not None and (not _FILE.fullmatch(self.seed) or self.seed == "users.yaml"):
            raise self._wrong(f"cannot have the seed {self.seed!r}", "name a file such as appointments.yaml")
        self._check_retention()
        self._check_fields()

    def _wrong(self, what: str, hint: str) -> DeclarationError:
        return DeclarationError(f"the collection {self.name} {what}", hint=hint)

    def _paths(self, what: str, paths: Sequence[str], *, minus: bool = False) -> tuple[str, ...]:
        if isinstance(paths, str) or not all(isinstance(path, str) for path in paths):
            raise self._wrong(f"has the {what} {paths!r}", f"write field names in parentheses, such as ({paths!r},)")
        for path in paths:
            name = path.removeprefix("-") if minus else path
            if not _PATH.fullmatch(name) or (not minus and "." in name):
                raise self._wrong(f"cannot have {path!r} in its {what}", "name a field")
            if name in _IDS:
                raise self._wrong(f"has {name} in its {what}", "leave it out; lkmongo adds the owner's ids")
        return tuple(paths)

    def _check_retention(self) -> None:
        if self.retention is None:
            return
        try:
            path, keep = self.retention
        except (TypeError, ValueError):
            path, keep = "", None
        if not isinstance(path, str) or not _PATH.fullmatch(path) or not isinstance(keep, timedelta | None):
            raise self._wrong(
                f"has the retention {self.retention!r}", 'name a field and a time, such as ("at", timedelta(days=90))'
            )
        if keep is not None and keep < _SHORTEST:
            raise self._wrong("has a retention of less than an hour", "keep documents for 1 hour or longer")

    def _check_fields(self) -> None:
        if self.document is None:
            return
        if not (isinstance(self.document, type) and hasattr(self.document, "model_fields")):
            raise self._wrong(f"has the document {self.document!r}", "give a subclass of pydantic.BaseModel")
        names = self.fields
        if added := sorted(_IDS.intersection(names)):
            raise self._wrong(f"has a document with {added[0]}", "leave it out; lkmongo adds the owner's ids")
        used = [*self.key, *(path.removeprefix("-") for paths in self.indexes for path in paths)]
        used += [self.retention[0]] if self.retention else []
        unknown = [path for path in used if path.partition(".")[0] not in names]
        if unknown and not self._takes_any:
            raise self._wrong(f"has no field {unknown[0]}", f"its document has {', '.join(names)}")

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields that `document` has, as they are stored."""
        if self.document is None:
            return ()
        return tuple(info.alias or name for name, info in self.document.model_fields.items())

    @property
    def identity(self) -> tuple[str, ...]:
        """The fields that identify a document in the whole collection: ids of its owner, and the key."""
        ids = SCOPES[self.owner]
        return (*(ids[:1] if self.unique_within == "tenant" else ids), *self.key)

    @property
    def seed_mark(self) -> str:
        """The field by which `db seed` knows the documents that it wrote."""
        return "origin" if self.name == "orders" else "_origin"

    @property
    def _takes_any(self) -> bool:
        return self.document is None or self.document.model_config.get("extra") == "allow"

    def checked(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The document as it is stored, without its owner's ids; defaults are filled in, None is left out.

        Raises:
            ShapeError: it does not fit; it names the field.
        """
        self.check_names(document)
        if self.document is None:
            found = {name: value for name, value in document.items() if value is not None}
        else:
            from pydantic import ValidationError

            try:
                made = self.document.model_validate(document)
            except ValidationError as error:
                raise self._misfit(error, ()) from error
            if dropped := list(_dropped(document, made.model_dump(by_alias=True), ())):
                raise ShapeError(self.name, dropped)
            found = made.model_dump(by_alias=True, exclude_none=True)
        wrong = [name for name in self.key if isinstance(found.get(name), dict | list | bool | None)]
        if wrong:
            at: Place = (wrong[0],) if wrong[0] in found else ()
            what = " must be text, a number or a date" if at else f" has no {wrong[0]}"
            raise ShapeError(self.name, [(at, what)])
        return found

    def checked_field(self, path: str, value: Any) -> Any:
        """The new value of one field, as it is stored. Raises ShapeError."""
        name = path.partition(".")[0]
        self.check_names([name])
        if self.document is None or name != path:
            return value
        info = next((i for key, i in self.document.model_fields.items() if (i.alias or key) == name), None)
        if info is None:
            return value
        from pydantic import TypeAdapter, ValidationError

        try:
            adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
            return adapter.dump_python(adapter.validate_python(value))
        except ValidationError as error:
            raise self._misfit(error, (name,)) from error

    def check_names(self, names: Iterable[object]) -> None:
        """Check the names of a document's fields; raises ShapeError."""
        for name in names:
            if not isinstance(name, str) or name.startswith("$") or "." in name or "\0" in name or not name:
                raise ShapeError(self.name, [((), f" has a field named {name!r}, which MongoDB does not take")])
            if name in _IDS:
                whose = "lkmongo adds the owner's ids" if name in SCOPES[self.owner] else f"its owner is {self.owner}"
                raise ShapeError(self.name, [((name,), f" cannot be given; {whose}")])
            if name not in self.fields and not self._takes_any:
                fields = ", ".join(self.fields)
                raise ShapeError(self.name, [((name,), f" is not one of its fields; these are {fields}")])

    def _misfit(self, error: Any, at: Place) -> ShapeError:
        found = []
        for each in error.errors(include_url=False, include_input=False):
            place, text = (*at, *each["loc"]), each["msg"]
            if each["type"] == "missing":
                place, text = place[:-1], f" has no {place[-1]}"
            elif text.startswith("Input should "):
                text = f" must {text.removeprefix('Input should ')}"
            else:
                text = f": {text.removeprefix('Value error, ')}"
            found.append((place, text))
        return ShapeError(self.name, found)

    @property
    def stored(self) -> dict[str, Any]:
        """The declaration as a document; the model of its documents stays behind."""
        keep = self.retention and self.retention[1]
        return {
            "owner": self.owner,
            "key": list(self.key),
            "indexes": [list(paths) for paths in self.indexes],
            "seed": self.seed,
            "retention": {"field": self.retention[0], "seconds": keep and keep.total_seconds()}
            if self.retention
            else None,
            "exported": self.exported,
            "erased": self.erased,
            "unique_within": self.unique_within,
        }

    @classmethod
    def of_stored(cls, name: str, document: Mapping[str, Any]) -> Collection:
        """A declaration as `stored` wrote it. Raises DeclarationError."""
        known = {each: document[each] for each in cls.__dataclass_fields__ if each in document and each != "name"}
        if limit := document.get("retention"):
            seconds = limit["seconds"]
            known["retention"] = (limit["field"], None if seconds is None else timedelta(seconds=seconds))
        return cls(name, **known)


def _dropped(given: Any, made: Any, at: Place) -> Iterator[tuple[Place, str]]:
    """The fields that a model has ignored, as pydantic's do by default: they may be misspelt."""
    if isinstance(given, Mapping) and isinstance(made, Mapping):
        for name, value in given.items():
            if name in made:
                yield from _dropped(value, made[name], (*at, name))
            else:
                yield (*at, name), f" is not one of its fields; these are {', '.join(map(str, made))}"
    elif isinstance(given, list | tuple) and isinstance(made, list | tuple) and len(given) == len(made):
        for index, value in enumerate(given):
            yield from _dropped(value, made[index], (*at, index))


@dataclass(frozen=True)
class ProfileField:
    """A field of your own in the profile, beside name, e-mail address, language and time zone.

    Attributes:
        name: as the language model names it, such as loyalty_tier.
        words: as it is read out; by default the name with spaces.
        choices: the values it can have; none: any text.
        max_length: the most characters of a value, up to 200.
        check: returns a value as it is stored, and raises ValueError with a sentence for one that cannot be.

    Raises:
        DeclarationError: something of it cannot be.
    """

    name: str
    _: KW_ONLY
    words: str = ""
    choices: Sequence[str] = ()
    max_length: int = MAX_FIELD
    check: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _FIELD.fullmatch(self.name):
            raise DeclarationError(
                f"{self.name!r} cannot be the name of a profile field", hint="write it in snake_case: loyalty_tier"
            )
        if self.name in _RESERVED_FIELDS | _RESERVED:
            raise DeclarationError(f"the profile has a {self.name} of lkmongo's own", hint="choose another name")
        if isinstance(self.choices, str) or not all(isinstance(each, str) and each for each in self.choices):
            raise DeclarationError(
                f"the choices of the profile field {self.name} are {self.choices!r}",
                hint='give texts, such as ("gold", "silver")',
            )
        if not 1 <= self.max_length <= MAX_FIELD:
            raise DeclarationError(
                f"the profile field {self.name} cannot have {self.max_length} characters", hint="1 to 200 are possible"
            )
        object.__setattr__(self, "choices", tuple(self.choices))
        object.__setattr__(self, "words", self.words or self.name.replace("_", " "))

    def accept(self, text: str) -> str:
        """The value as it is stored; raises InvalidTextError with a sentence that can be read out."""
        if len(text) > self.max_length:
            raise InvalidTextError(f"the {self.words} has {len(text)} characters; {self.max_length} are allowed")
        if self.choices:
            choice = next((each for each in self.choices if each.casefold() == text.casefold()), None)
            if choice is None:
                raise InvalidTextError(f"the {self.words} is one of {', '.join(self.choices)}, not {text}")
            return choice
        if self.check is None:
            return text
        try:
            return str(self.check(text))
        except ValueError as error:
            raise InvalidTextError(str(error).rstrip(".") or f"{text} cannot be a {self.words}") from error

    @property
    def stored(self) -> dict[str, Any]:
        """The declaration as a document; `check` stays behind."""
        return {"words": self.words, "choices": list(self.choices), "max_length": self.max_length}

    @classmethod
    def of_stored(cls, name: str, document: Mapping[str, Any]) -> ProfileField:
        """A declaration as `stored` wrote it. Raises DeclarationError."""
        return cls(name, **{each: document[each] for each in ("words", "choices", "max_length") if each in document})


ORDERS = Collection(
    "orders", owner="person", key=("order_id",), seed="orders.yaml", erased=False, unique_within="tenant"
)
"""The orders of the sample shop; a declaration of your own by that name replaces it."""


@dataclass(frozen=True, slots=True)
class Declarations:
    """Declared collections and profile fields, by name; `orders` is always among the collections."""

    own: Mapping[str, Collection] = field(default_factory=dict)
    fields: Mapping[str, ProfileField] = field(default_factory=dict)

    @classmethod
    def of(cls, declared: Iterable[Collection | ProfileField]) -> Declarations:
        """What is declared; of two by one name the last. Raises DeclarationError if two share a seed file."""
        everything = list(declared)
        found = cls(
            {each.name: each for each in everything if isinstance(each, Collection)},
            {each.name: each for each in everything if isinstance(each, ProfileField)},
        )
        seeds: dict[str, str] = {}
        for each in found.collections.values():
            if each.seed and seeds.setdefault(each.seed, each.name) != each.name:
                raise DeclarationError(
                    f"the collections {seeds[each.seed]} and {each.name} have one seed, {each.seed}",
                    hint="give each a file of its own",
                )
        return found

    @property
    def collections(self) -> dict[str, Collection]:
        return {ORDERS.name: ORDERS} | dict(self.own)

    @property
    def personal(self) -> list[Collection]:
        """The collections whose documents belong to people."""
        return [each for each in self.collections.values() if each.owner == "person"]

    def over(self, others: Declarations) -> Declarations:
        """These and `others`; of two by one name, the one of these."""
        return Declarations({**others.own, **self.own}, {**others.fields, **self.fields})

    def __bool__(self) -> bool:
        return bool(self.own or self.fields)


_declared = Declarations()


def declared() -> Declarations:
    """What this process has declared."""
    return _declared


def declare(*declarations: Collection | ProfileField) -> None:
    """Declare collections and profile fields for this process; one of the same name is replaced.

    Raises:
        DeclarationError: one of them is neither, or two of them have one seed file.
    """
    global _declared  # noqa: PLW0603 - what a program consists of, like its modules
    for each in declarations:
        if not isinstance(each, Collection | ProfileField):
            raise DeclarationError(
                f"{each!r} is not a declaration", hint="declare lkmongo.Collection and lkmongo.ProfileField"
            )
    known: list[Collection | ProfileField] = [*_declared.own.values(), *_declared.fields.values()]
    _declared = Declarations.of([*known, *declarations])


def declare_agent(path: str | None) -> None:
    """Declare what the module that LKMONGO_AGENT names has at its top level, by itself or in lists.

    Args:
        path: the setting `agent`, `package.module:Class`; None declares nothing.

    Raises:
        SettingsError: the module cannot be imported.
        DeclarationError: see `declare`.
    """
    if path is None:
        return
    import_string("LKMONGO_AGENT", path, "Class")
    found: list[Collection | ProfileField] = []
    for value in vars(sys.modules[path.partition(":")[0]]).values():
        several: list[object] = list(value) if isinstance(value, list | tuple) else [value]
        found += [each for each in several if isinstance(each, Collection | ProfileField) and each is not ORDERS]
    declare(*found)
