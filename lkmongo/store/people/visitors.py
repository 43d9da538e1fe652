"""Web visitors: which browser is whose. A browser is known by the hash of a secret that only its cookie holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import UserScope, now
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import VISITORS


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose browser it is; `ended` when its cookie is good no more."""

    scope: UserScope
    ended: bool


class Visitors:
    """The collection `visitors`, one browser at a time; `key` is the hash of its secret."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        self._visitors = db[VISITORS]

    async def get(self, key: str) -> Visitor | None:
        """Return whose browser it is, or None when it is not known."""
        return _visitor(await operations.read(lambda: self._visitors.find_one({"_id": key})))

    async def seen(self, key: str) -> Visitor | None:
        """Note that the browser is here, and return whose it is; None, and nothing noted, when it is not known."""
        change = {"$set": {"last_seen_at": now()}}
        return _visitor(
            await operations.write(
                lambda: self._visitors.find_one_and_update({"_id": key}, change, return_document=ReturnDocument.AFTER)
            )
        )

    async def add(self, key: str, scope: UserScope) -> None:
        """Make the browser known as this person's, unless it is known already."""
        moment = now()
        fields = dict(scope.filter) | {"created_at": moment, "last_seen_at": moment}
        await operations.write(lambda: self._visitors.update_one({"_id": key}, {"$setOnInsert": fields}, upsert=True))

    async def end(self, key: str) -> None:
        """Let the browser's cookie be good no more, also where it was copied."""
        change = {"$set": {"ended_at": now()}}
        await operations.write(lambda: self._visitors.update_one({"_id": key}, change))


def _visitor(document: dict[str, Any] | None) -> Visitor | None:
    if document is None:
        return None
    return Visitor(
        UserScope(tenant_id=document["tenant_id"], user_id=document["user_id"]), document.get("ended_at") is not None
    )
