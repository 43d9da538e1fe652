"""Make the indexes what they should be: plan, then apply. Unknown indexes are left alone; nothing is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, OperationFailure

from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import COLLECTIONS, INDEXES, Index

T = TypeVar("T")


class Action(StrEnum):
    """What an index needs."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    UNCHANGED = "unchanged"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One index and what is to be done, or was done, about it; `hint` says what to do where `db indexes` alone does not."""

    index: T
    action: Action
    detail: str = ""
    hint: str = ""


async def plan(db: AsyncDatabase[dict[str, Any]]) -> list[Change[Index]]:
    """Compare the indexes that are there with those that should be; writes nothing."""

    async def existing(collection: str) -> Mapping[str, Any]:
        async def information() -> Mapping[str, Any]:
            try:
                return await db[collection].index_information()
            except OperationFailure as error:
                if error.code == 26:  # NamespaceNotFound: the collection is not there yet
                    return {}
                raise

        return await operations.read(information)

    there = {name: await existing(name) for name in dict.fromkeys(index.collection for index in INDEXES)}
    return [_compare(index, there[index.collection]) for index in INDEXES]


def _compare(index: Index, there: Mapping[str, Any]) -> Change[Index]:
    for name, found in there.items():
        same_keys = [tuple(key) for key in found["key"]] == list(index.keys)
        if same_keys and bool(found.get("unique")) == index.unique:
            return Change(index, Action.UNCHANGED, "" if name == index.name else f"there as {name}")
        if same_keys or name == index.name:
            what = "is not unique" if same_keys and index.unique else "has other keys or options"
            return Change(
                index, Action.BLOCKED, f"an index {name} is there and {what}", "drop it first, then lkmongo db indexes"
            )
    return Change(index, Action.CREATE)


async def apply(db: AsyncDatabase[dict[str, Any]]) -> list[Change[Index]]:
    """Create what is missing, collections first; run it as often as you like.

    Raises:
        DatabaseError: MongoDB refuses, for instance because duplicates stand in the way of a unique index.
    """
    changes = await plan(db)
    names = set(await operations.read(db.list_collection_names))
    for collection in COLLECTIONS:
        if collection not in names:
            await operations.write(lambda name=collection: create_collection(db, name))  # type: ignore[misc]
    for change in changes:
        if change.action is Action.CREATE:
            index = change.index
            await operations.write(
                lambda index=index: db[index.collection].create_index(  # type: ignore[misc]
                    list(index.keys), name=index.name, unique=index.unique
                )
            )
    return changes


async def create_collection(db: AsyncDatabase[dict[str, Any]], name: str) -> None:
    """Create a collection unless it is there; raises the driver's errors."""
    try:
        await db.create_collection(name)
    except CollectionInvalid:
        return  # another process made it meanwhile
    except OperationFailure as error:
        if error.code != 48:  # NamespaceExists: likewise
            raise
