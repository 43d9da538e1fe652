"""Documents of a declared collection, within a scope: whatever a tool asks for, it gets only what is its caller's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from bson.decimal128 import Decimal128
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from lkmongo import deadlines
from lkmongo.declarations import SCOPES
from lkmongo.declarations import declared as of_this_process
from lkmongo.errors import NotFoundError, UsageError
from lkmongo.model import UserScope, clean_text
from lkmongo.store.mongo import declared, operations
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker

T = TypeVar("T")
Document = dict[str, Any]

LIMIT = 100
"""Documents that `find` returns if nothing else is said."""
_BRANCHES = frozenset({"$and", "$or", "$nor"})
_NO_FILTER = frozenset({"$where", "$expr", "$function", "$jsonSchema"})
"""Operators that take whole expressions instead of a field's value."""
_CHANGES = frozenset("$set $unset $inc $min $max $push $pull $addToSet".split())


class OwnDocuments:
    """The documents of one owner in one declared collection; each call begins with the owner's ids.

    Filters are MongoDB's; they, documents and changes must not name somebody else's `tenant_id` or `user_id`. Documents
    come without these ids and without `_id`.
    """

    def __init__(
        self,
        db: AsyncDatabase[Document],
        name: str,
        scope: Callable[[], UserScope],
        *,
        breaker: CircuitBreaker | None = None,
        writing: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    ) -> None:
        """Read and write documents of the collection `name`, which this process has declared.

        Args:
            db: the database.
            name: of the collection.
            scope: returns who is served now: in a session, that changes when a guest is identified.
            breaker: of the session, whose calls fail at once while MongoDB is away.
            writing: what a person's documents are written within: the lease of the session.

        Raises:
            NotFoundError: there is no such declaration.
        """
        known = of_this_process().collections
        if name not in known:
            raise NotFoundError(
                f"no collection {name} is declared",
                why=f"declared are {', '.join(known)}",
                hint="declare an lkmongo.Collection in the module of your agent",
            )
        self._db = db
        self._declared = known[name]
        self._collection = db[name]
        self._scope = scope
        self._breaker = breaker or CircuitBreaker()
        self._writing = writing if self._declared.owner == "person" else nullcontext

    async def find(
        self, where: Mapping[str, Any] | None = None, *, sort: str | Sequence[str] = (), limit: int = LIMIT
    ) -> list[Document]:
        """The owner's documents that match, at most `limit`; `sort` by fields, "-at" for the latest first.

        Raises:
            UsageError: the filter names another owner, or cannot be one.
            DatabaseError: they could not be read within half a second.
        """
        selector = self._selector(where)
        order = [(path.lstrip("-"), -1 if path.startswith("-") else 1) for path in _several(sort)]
        without = dict.fromkeys(["_id", self._declared.seed_mark, *self._ids], 0)

        async def find() -> list[Document]:
            cursor = self._collection.find(selector, without).limit(limit)
            return [each async for each in (cursor.sort(order) if order else cursor)]

        return await self._breaker.read(lambda: operations.read(find))

    async def insert(self, document: Mapping[str, Any]) -> bool:
        """Add a document; False if the owner has one with its key already.

        Raises:
            ShapeError: it does not fit the declaration; the message names the field.
            ErasedError: the person was erased.
            DatabaseError: it could not be stored, or not be known to be stored, within a second.
        """
        made: Document = storable(self._declared.checked(document))

        async def insert() -> bool:
            try:
                await self._collection.insert_one(made | self._owner)
            except DuplicateKeyError:
                return False
            return True

        return await self._write(insert)

    async def update(self, where: Mapping[str, Any], changes: Mapping[str, Any]) -> int:
        """Change the owner's documents that match; returns how many did.

        Args:
            where: which.
            changes: new values by field, or operators as `{"$inc": {"visits": 1}}`.

        Raises:
            UsageError: the filter names another owner, or an operator is not allowed.
            ShapeError: a value does not fit the declaration.
            ErasedError: the person was erased.
            DatabaseError: see `insert`.
        """
        update = self._update(changes)

        async def change(selector: Document) -> int:
            return (await self._collection.update_many(selector, update)).matched_count

        return await self._change(where, change)

    async def delete(self, where: Mapping[str, Any]) -> int:
        """Delete the owner's documents that match; returns how many. Raises as `update` does."""

        async def delete(selector: Document) -> int:
            return (await self._collection.delete_many(selector)).deleted_count

        return await self._change(where, delete)

    @property
    def _ids(self) -> tuple[str, ...]:
        return SCOPES[self._declared.owner]

    @property
    def _owner(self) -> dict[str, str]:
        return {name: value for name, value in self._scope().filter.items() if name in self._ids}

    async def _change(self, where: Mapping[str, Any], work: Callable[[Document], Awaitable[int]]) -> int:
        self._selector(where)  # refused before anything is waited for
        return await self._write(lambda: work(self._selector(where)))

    async def _write(self, work: Callable[[], Awaitable[T]]) -> T:
        async def write() -> T:
            # Nothing of a person without a stored declaration: an erasure would not know of it.
            await declared.keep_once(self._db)
            async with self._writing():
                return await operations.write(work)

        return await self._breaker.read(write, deadlines.MONGODB_WRITE)

    def _selector(self, wanted: Mapping[str, Any] | None) -> Document:
        owner = self._owner
        if wanted is not None and not isinstance(wanted, Mapping):
            raise UsageError(f"a filter must be a mapping, not {wanted!r}", hint='such as {"status": "booked"}')
        self._refuse_others(wanted or {}, owner)
        return {**owner, "$and": [storable(wanted)]} if wanted else dict(owner)

    def _refuse_others(self, wanted: Mapping[str, Any], owner: Mapping[str, str]) -> None:
        for name, value in wanted.items():
            if name in _BRANCHES:
                for branch in value if isinstance(value, list | tuple) else [value]:
                    if not isinstance(branch, Mapping):
                        raise UsageError(f"{name} in a filter takes a list of filters, not {value!r}")
                    self._refuse_others(branch, owner)
            elif name in _NO_FILTER:
                raise UsageError(f"{name} is not possible in the filter of an own collection", hint="compare fields")
            elif str(name).partition(".")[0] in {"tenant_id", "user_id"} and value != owner.get(name):
                raise UsageError(
                    f"a filter of {self._declared.name} names another {name}",
                    hint="leave it out; the ids of the session are used",
                )

    def _update(self, changes: Mapping[str, Any]) -> Document:
        if not changes:
            raise UsageError("there is nothing to change", hint='name fields, such as {"status": "cancelled"}')
        operators = {name for name in changes if str(name).startswith("$")}
        if not operators:
            changes = {"$set": changes}
        elif strange := sorted((changes.keys() - operators) | (operators - _CHANGES)):
            raise UsageError(
                f"{strange[0]} is not possible in a change of an own collection",
                hint=f"fields alone, or {', '.join(sorted(_CHANGES))}",
            )
        update: Document = {}
        for operator, fields in changes.items():
            for path, value in fields.items():
                self._declared.check_names([str(path).partition(".")[0]])
                new = self._declared.checked_field(path, value) if operator == "$set" else value
                update.setdefault(operator, {})[path] = storable(new)
        return update


def storable(value: Any) -> Any:  # noqa: PLR0911 - one answer for each kind of value
    """A tree of values as BSON holds it: strings without lone surrogates, dates as times in UTC."""
    if isinstance(value, Enum):
        return storable(value.value)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [storable(item) for item in value]
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, Decimal):
        return Decimal128(value)
    if isinstance(value, time | UUID):
        return str(value)
    return value


def _several(paths: str | Sequence[str]) -> Sequence[str]:
    return [paths] if isinstance(paths, str) else paths
