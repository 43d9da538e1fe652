"""The declarations of a project in its database: the collection `declarations`, which outlives the project's module.

What was declared once stays, so that an erasure covers the documents that remain of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.declarations import Collection, DeclarationError, Declarations, ProfileField, declared
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import DECLARATIONS, PERSONAL

logger = logging.getLogger(__name__)

Document = dict[str, Any]

_COLLECTION, _FIELD = "collection/", "profile_field/"
"""The beginnings of `_id`; the name follows."""
_kept: WeakKeyDictionary[AsyncMongoClient[Any], dict[str, Declarations]] = WeakKeyDictionary()
_SET = "keep_seconds"
"""The retention that an operator has set, which counts instead of the declared one; None keeps documents forever."""


async def read(db: AsyncDatabase[Document]) -> Declarations:
    """What is declared in the database and by this process, which prevails. Raises DatabaseError."""
    return declared().over(_declarations(await _stored(db)))


async def keep(db: AsyncDatabase[Document]) -> Declarations:
    """Store what this process declares; returns what `read` does.

    Raises:
        DeclarationError: a collection belongs to somebody else according to the database.
        DatabaseError: MongoDB answered with an error.
    """
    ours, stored = declared(), await _stored(db)
    before = _declarations(stored)
    for name, collection in ours.own.items():
        known = before.own.get(name)
        if known and known.owner != collection.owner:
            raise DeclarationError(
                f"the collection {name} is declared as owner={collection.owner!r}, and this database knows it as "
                f"{known.owner!r}",
                hint="move its documents into a collection of another name",
            )
    wanted = {_COLLECTION + name: each.stored for name, each in ours.own.items()}
    wanted |= {_FIELD + name: each.stored for name, each in ours.fields.items()}
    for key, document in wanted.items():
        if any(stored.get(key, {}).get(name, ...) != value for name, value in document.items()):
            await operations.write(
                lambda key=key, document=document: db[DECLARATIONS].update_one(  # type: ignore[misc]
                    {"_id": key}, {"$set": document}, upsert=True
                )
            )
    return ours.over(before)


async def keep_once(db: AsyncDatabase[Document]) -> None:
    """As `keep`, unless this process has stored the same there already."""
    kept = _kept.setdefault(db.client, {})
    ours = declared()
    if ours and kept.get(db.name) is not ours:
        await keep(db)
        kept[db.name] = ours


async def personal(db: AsyncDatabase[Document]) -> tuple[str, ...]:
    """The names of all collections with documents of people. Raises DatabaseError."""
    return personal_of(await read(db))


def personal_of(known: Declarations) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*PERSONAL, *(each.name for each in known.personal)]))


async def set_limits(db: AsyncDatabase[Document]) -> dict[str, timedelta | None]:
    """The retention that operators have set, by collection. Raises DatabaseError."""
    limits = {name: each[_SET] for name, each in (await _stored(db)).items() if _SET in each}
    return {
        name.removeprefix(_COLLECTION): None if seconds is None else timedelta(seconds=seconds)
        for name, seconds in limits.items()
    }


async def note_limit(db: AsyncDatabase[Document], name: str, limit: timedelta | None) -> None:
    """Note that an operator has set a retention: the declared one does not come back. Raises DatabaseError."""
    await keep(db)
    change = {"$set": {_SET: limit and limit.total_seconds()}}
    await operations.write(lambda: db[DECLARATIONS].update_one({"_id": _COLLECTION + name}, change))


async def _stored(db: AsyncDatabase[Document]) -> dict[str, Document]:
    async def find() -> dict[str, Document]:
        return {str(each["_id"]): each async for each in db[DECLARATIONS].find()}

    return await operations.read(find)


def _declarations(stored: Mapping[str, Document]) -> Declarations:
    collections, fields = [], []
    for key, document in stored.items():
        try:
            if key.startswith(_COLLECTION):
                collections.append(Collection.of_stored(key.removeprefix(_COLLECTION), document))
            elif key.startswith(_FIELD):
                fields.append(ProfileField.of_stored(key.removeprefix(_FIELD), document))
        except (DeclarationError, TypeError, KeyError) as error:
            # Left out, its documents would outlive their person unnoticed.
            raise DeclarationError(
                f"the declaration {key} in the collection {DECLARATIONS} cannot be read",
                why=str(error),
                hint="it may be of a later version of lkmongo: use that",
            ) from error
    return Declarations({each.name: each for each in collections}, {each.name: each for each in fields})
