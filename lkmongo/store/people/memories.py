"""Memory slots: one value per label, the newest wins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import DatabaseError, NewerVersionError
from lkmongo.model import MAX_SLOTS, DateMention, Fact, Source, UserScope, check_memory, now, slot_name
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import MEMORIES, NEWER
from lkmongo.store.people.history import History, dates_of, replacing, source_of, utc
from lkmongo.store.people.users import Users

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CONTENTS = {"_id": 0, "memory_type": 1, "content": 1, "updated_at": 1, "valid_from": 1, "dates": 1}
_SHOWN = _CONTENTS | {"created_at": 1, "source": 1}


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
        self._users = Users(db)
        self._history = History(db)

    async def slots(self, scope: UserScope, *, limit: int = MAX_SLOTS) -> list[Fact]:
        """The slots, newest first, with secrets withheld."""
        return [memory.told for memory in await self._newest(scope, _SHOWN, limit)]

    async def contents(self, scope: UserScope) -> list[Fact]:
        """Every slot, newest first, as stored; without `created_at`, which makes reading very many a fifth faster."""
        return await self._newest(scope, _CONTENTS, MAX_SLOTS)

    async def _newest(self, scope: UserScope, shown: dict[str, int], limit: int) -> list[Fact]:
        async def find() -> list[Fact]:
            cursor = self._memories.find(scope.filter, shown, batch_size=MAX_SLOTS)
            return [_memory(document) for document in await cursor.sort("updated_at", -1).limit(limit).to_list()]

        try:
            return await operations.read(find)
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
        document = await operations.read(
            lambda: self._memories.find_one(scope.filter | {"memory_type": memory_type}, _SHOWN)
        )
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
        update = replacing(memory, stated=valid_from is not None)
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
        update = replacing(memory, stated=valid_from is not None)

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

        result = await operations.write(
            lambda: self._memories.update_one(
                scope.filter | {"memory_type": memory.memory_type, "updated_at": memory.updated_at},
                {"$set": {"embedding": stored(memory.embedded_text, vector), "embedding_model": model}},
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
