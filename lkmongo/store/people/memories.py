"""Memory slots: one value per label, the newest wins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.aio import aside
from lkmongo.errors import DatabaseError, NewerVersionError
from lkmongo.model import MAX_CONTENT, MAX_SLOTS, DateMention, Fact, Source, UserScope, check_memory, now, slot_name
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.client import run_on_client_loop
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import MEMORIES, NEWER
from lkmongo.store.people.history import History, dates_of, replacing, source_of, utc
from lkmongo.store.people.users import Users

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CONTENTS = {"_id": 0, "memory_type": 1, "content": 1, "updated_at": 1, "valid_from": 1, "dates": 1}
_SHOWN = _CONTENTS | {"created_at": 1, "source": 1}
_WHOLE = 1_000
"""Slots that a call reads with their texts, however long these are; it takes one round trip."""
_SHORT = 200
"""Bytes of a text that is read of any slot."""
LOADED = 1_000_000
"""Characters of texts that a call holds; of what is older only the `_SHORT` ones."""
_TYPE = {"$type": "$content"}
_SIZE = {
    "$switch": {
        "branches": [
            {"case": {"$eq": [_TYPE, "string"]}, "then": {"$strLenBytes": "$content"}},
            {"case": {"$eq": [_TYPE, "binData"]}, "then": {"$binarySize": "$content"}},  # encrypted
        ],
        "default": 0,
    }
}
_BRIEFLY = _CONTENTS | {"content": {"$cond": [{"$lte": [_SIZE, _SHORT]}, "$content", ""]}}


def _memory(document: dict[str, Any]) -> Fact:
    label, content = document.get("memory_type"), document.get("content")
    if type(label) is not str or type(content) is not str:
        raise _UnreadableError
    created_at, updated_at, valid_from = (utc(document.get(name)) for name in _TIMES)
    if "dates" in document or "source" in document:
        source, dates = source_of(document.get("source")), dates_of(document.get("dates"))
        return Fact(label, content, created_at, updated_at, valid_from, source, dates)
    return Fact(label, content, created_at, updated_at, valid_from)


_TIMES = ("created_at", "updated_at", "valid_from")


class _UnreadableError(Exception):
    """A slot without a label or a content."""


class Memories:
    """The collection `memories`."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        # `utc` adds the time zone: the driver takes longer for it than for everything else it decodes.
        self._memories = db.get_collection(MEMORIES, db.codec_options.with_options(tz_aware=False))
        self._encryption = Encryption.of(db)
        self._users = Users(db)
        self._history = History(db)

    async def slots(
        self,
        scope: UserScope,
        *,
        limit: int = MAX_SLOTS,
        after: tuple[datetime | None, int] | None = None,
        labels: Sequence[str] | None = None,
    ) -> list[Fact]:
        """The slots, newest first, with secrets withheld.

        Args:
            scope: the person.
            limit: how many at most.
            after: begin with those written at this time, or at none, without so many of them.
            labels: only these, as they are stored.
        """
        until, skip = after or (None, 0)
        where: dict[str, Any] = {"updated_at": {"$not": {"$gt": until}} if until else None} if after else {}
        where |= {"memory_type": {"$in": list(labels)}} if labels is not None else {}
        found = await self._newest(scope, _SHOWN, limit, skip=skip, where=where)
        return await aside(sum(len(each.content) for each in found), lambda: [each.told for each in found])

    async def contents(self, scope: UserScope) -> list[Fact]:
        """Every slot, newest first, as stored; without `created_at`, which makes reading very many a fifth faster.

        A call holds at most `LOADED` characters of texts: beyond them, and beyond the newest thousand slots, a text of
        more than 200 bytes is empty, which `Fact.is_unread` tells; `text` reads it.
        """
        found = await self._newest(scope, _CONTENTS, _WHOLE + 1)  # one more tells whether there are others
        if len(found) > _WHOLE:
            older = await self._newest(scope, _BRIEFLY, MAX_SLOTS - len(found), skip=len(found))
            known = {each.memory_type for each in found}  # one that was written meanwhile has moved the others on
            found += [each for each in older if each.memory_type not in known]
        left = LOADED
        for place, each in enumerate(found):
            left -= len(each.content)
            if left < 0 and len(each.content) > _SHORT:
                found[place] = each._replace(content="", dates=())
        return found

    async def text(self, scope: UserScope, fact: Fact) -> Fact | None:
        """A slot of `contents` with its text as it is now; None if it is gone."""
        selector = scope.filter | {"memory_type": fact.memory_type}
        document = await self._encryption.read_one(
            MEMORIES, lambda: self._memories.find_one(selector, _CONTENTS), scope
        )
        return _memory(document) if document else None

    async def _newest(
        self,
        scope: UserScope,
        shown: dict[str, Any],
        limit: int,
        *,
        skip: int = 0,
        where: dict[str, Any] | None = None,
    ) -> list[Fact]:
        async def find() -> list[dict[str, Any]]:
            cursor = self._memories.find(scope.filter | (where or {}), shown, batch_size=MAX_SLOTS)
            return await cursor.sort("updated_at", -1).skip(skip).limit(limit).to_list()

        async def facts() -> list[Fact]:
            return [_memory(document) for document in await self._encryption.read(MEMORIES, find, scope)]

        try:
            return await run_on_client_loop(facts)  # there may be many, and a session does not wait
        except _UnreadableError:
            raise await self._explain(scope) from None

    async def _explain(self, scope: UserScope) -> DatabaseError:
        """Why a slot of the person cannot be read; asked only then, so that no slot is read with its version."""
        newer = await operations.read(lambda: self._memories.find_one(scope.filter | NEWER, {"_id": 1}))
        if newer:
            return NewerVersionError()
        return DatabaseError("a memory cannot be read", why="another program wrote it without a label or a content")

    async def recall(self, scope: UserScope, label: str) -> Fact | None:
        """The slot with this label, with secrets withheld.

        Raises:
            InvalidTextError: not a valid label.
        """
        memory_type = slot_name(label)
        selector = scope.filter | {"memory_type": memory_type}
        document = await self._encryption.read_one(MEMORIES, lambda: self._memories.find_one(selector, _SHOWN), scope)
        try:
            return _memory(document).told if document else None
        except _UnreadableError:
            raise await self._explain(scope) from None

    async def remember(
        self,
        scope: UserScope,
        label: str,
        content: str,
        *,
        at: datetime | None = None,
        valid_from: datetime | None = None,
        source: Source | None = None,
        dates: Sequence[DateMention] = (),
    ) -> Fact:
        """Write a slot, in one round trip; another content becomes a former value, see `History`.

        Args:
            scope: the person.
            label: of the slot.
            content: the new content; `set_vector` adds its vector.
            at: when it was said; by default now.
            valid_from: since when it is true, if that was said; not later than `at`.
            source: where it comes from.
            dates: relative dates in the content, resolved.

        Returns:
            The slot; its `valid_from` is later if that would overlap with a former value.

        Raises:
            InvalidTextError: the label or the content is invalid, or is a secret.
        """
        at = at or now()
        memory = Fact(*check_memory(label, content), None, at, min(valid_from or at, at), source, tuple(dates))
        selector = scope.filter | {"memory_type": memory.memory_type}
        update = replacing(memory, await self._encryption.cipher(scope), stated=valid_from is not None)
        await asyncio.gather(
            operations.write(lambda: self._memories.update_one(selector, update, upsert=True)),
            self._users.touch_memories(scope),
        )
        return memory

    async def remember_if_newer(
        self,
        scope: UserScope,
        label: str,
        content: str,
        at: datetime,
        *,
        valid_from: datetime | None = None,
        source: Source | None = None,
        dates: Sequence[DateMention] = (),
    ) -> bool:
        """As `remember`, as said at `at`, unless it was written or has ended, or anything was forgotten, since.

        What a person asked to be forgotten must not come back because it waited somewhere.

        Raises:
            InvalidTextError: the label or the content is invalid, or is a secret.
        """
        memory = Fact(*check_memory(label, content), None, at, min(valid_from or at, at), source, tuple(dates))
        selector = scope.filter | {
            "memory_type": memory.memory_type,
            "$or": [{"updated_at": {"$exists": False}}, {"updated_at": {"$lte": at}}],
        }
        gone = self._users.forgot_after(scope, at), self._history.ended_after(scope, memory.memory_type, at)
        if any(await asyncio.gather(*gone)):
            return False
        update = replacing(memory, await self._encryption.cipher(scope), stated=valid_from is not None)

        async def write() -> bool:
            await self._memories.update_one(selector, update, upsert=True)
            return True

        if not await operations.upsert(write):  # the slot is there, and newer
            return False
        await self._users.touch_memories(scope)
        return True

    async def set_vector(self, scope: UserScope, memory: Fact, vector: NDArray[np.float32], model: str) -> bool:
        """Store the vector of `memory` unless the slot has changed since.

        Args:
            scope: the person.
            memory: the slot as `remember` returned it.
            vector: float32, shape (dimensions,).
            model: name of the embedding model.

        Returns:
            Whether it was stored.
        """
        from lkmongo.embed.vectors import stored

        # The text, if it is not what is stored, need not be looked through for a secret once more.
        embedding = stored("" if vector.size else memory.embedded_text, vector)
        result = await operations.write(
            lambda: self._memories.update_one(
                scope.filter | {"memory_type": memory.memory_type, "updated_at": memory.updated_at},
                {"$set": {"embedding": embedding, "embedding_model": model}},
            )
        )
        return result.matched_count == 1

    async def vectors(self, scope: UserScope, model: str) -> dict[str, tuple[datetime | None, Any]]:
        """The slots' vectors of this embedding model: label to (updated_at, BSON value)."""

        async def find() -> dict[str, tuple[datetime | None, Any]]:
            cursor = self._memories.find(
                scope.filter | {"embedding_model": model},
                {"_id": 0, "memory_type": 1, "updated_at": 1, "embedding": 1},
                batch_size=2_000,
            )
            return {
                doc["memory_type"]: (utc(doc.get("updated_at")), doc.get("embedding")) for doc in await cursor.to_list()
            }

        return await operations.read(find)

    async def vector_model(self, scope: UserScope, label: str) -> str | None:
        """The embedding model of the slot's vector; None without a vector or a slot.

        Raises:
            InvalidTextError: not a valid label.
        """
        selector = scope.filter | {"memory_type": slot_name(label), "embedding": {"$exists": True}}
        document = await operations.read(lambda: self._memories.find_one(selector, {"_id": 0, "embedding_model": 1}))
        return str(document.get("embedding_model", "unknown")) if document else None

    async def count(self, scope: UserScope, labels: Sequence[str] | None = None) -> int:
        selector = self._selector(scope, labels)
        return await operations.read(lambda: self._memories.count_documents(selector))

    async def delete(
        self, scope: UserScope, labels: Sequence[str] | None = None, *, not_after: datetime | None = None
    ) -> int:
        """Delete slots; `lkmongo.store.people.forget` also keeps what they held from coming back.

        Args:
            scope: the person.
            labels: which slots; None for all.
            not_after: keep what was written after this time.

        Returns:
            How many slots were deleted.
        """
        selector = self._selector(scope, labels) | ({"updated_at": {"$lte": not_after}} if not_after else {})
        return (await operations.write(lambda: self._memories.delete_many(selector))).deleted_count

    @staticmethod
    def _selector(scope: UserScope, labels: Sequence[str] | None) -> dict[str, Any]:
        if labels is None:
            return dict(scope.filter)
        names = [slot_name(label) for label in labels]
        return scope.filter | {"memory_type": names[0] if len(names) == 1 else {"$in": names}}


def bytes_of(memory: Fact) -> int:
    """Of a slot's label and text, in UTF-8; of a text that is not loaded, the most that it may have."""
    return len(memory.memory_type.encode()) + (MAX_CONTENT if memory.is_unread else len(memory.content.encode()))
