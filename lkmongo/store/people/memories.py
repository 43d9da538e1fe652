"""Memory slots: one value a label, the newest wins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import MAX_SLOTS, Memory, UserScope, check_memory, now, slot_name, slot_words
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import MEMORIES
from lkmongo.store.people.users import Users

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CONTENTS = {"_id": 0, "memory_type": 1, "content": 1, "updated_at": 1}
_SHOWN = _CONTENTS | {"created_at": 1}


_combine = datetime.combine


def _memory(document: dict[str, Any]) -> Memory:
    return Memory(
        document["memory_type"], document["content"], _utc(document, "created_at"), _utc(document, "updated_at")
    )


def _utc(document: dict[str, Any], name: str) -> datetime | None:
    moment: datetime | None = document.get(name)
    return _combine(moment, moment.time(), UTC) if moment else None  # five times as fast as `replace`


def _update(memory: Memory) -> dict[str, Any]:
    return {
        "$set": {
            "content": memory.content,
            "label_words": slot_words(memory.memory_type),
            "updated_at": memory.updated_at,
        },
        "$unset": {"embedding": "", "embedding_model": ""},
        "$setOnInsert": {"created_at": memory.updated_at},
    }


class Memories:
    """The collection `memories`, one person at a time."""

    def __init__(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Work on `db`."""
        # Times come without a zone and get one here: the driver takes longer for that than for all else it decodes.
        self._memories = db.get_collection(MEMORIES, db.codec_options.with_options(tz_aware=False))
        self._users = Users(db)

    async def slots(self, scope: UserScope, *, limit: int = MAX_SLOTS) -> list[Memory]:
        """Every slot, newest first, as it may be shown."""
        return [memory.told for memory in await self._newest(scope, _SHOWN, limit)]

    async def contents(self, scope: UserScope) -> list[Memory]:
        """Every slot, newest first, as it is stored, and without when it was made: of very many, that is a fifth of the time."""
        return await self._newest(scope, _CONTENTS, MAX_SLOTS)

    async def _newest(self, scope: UserScope, shown: dict[str, int], limit: int) -> list[Memory]:
        async def find() -> list[Memory]:
            cursor = self._memories.find(scope.filter, shown, batch_size=MAX_SLOTS)
            return [_memory(document) for document in await cursor.sort("updated_at", -1).limit(limit).to_list()]

        return await operations.read(find)

    async def recall(self, scope: UserScope, label: str) -> Memory | None:
        """The slot with this label as it may be shown, or None.

        Raises:
            InvalidTextError: the label cannot be one.
        """
        memory_type = slot_name(label)
        document = await operations.read(
            lambda: self._memories.find_one(scope.filter | {"memory_type": memory_type}, _SHOWN)
        )
        return _memory(document).told if document else None

    async def remember(self, scope: UserScope, label: str, content: str, *, at: datetime | None = None) -> Memory:
        """Write a slot, replacing what it held; its vector follows by `set_vector`.

        The old vector goes with the old content: it would find the slot by what it no longer says.

        Args:
            scope: whose slot it is.
            label: which.
            content: what it holds from now on.
            at: when it was said; by default now.

        Raises:
            InvalidTextError: the label or the content cannot be one, or is a secret.
        """
        memory = Memory(*check_memory(label, content), updated_at=at or now())
        selector = scope.filter | {"memory_type": memory.memory_type}
        await asyncio.gather(
            operations.write(lambda: self._memories.update_one(selector, _update(memory), upsert=True)),
            self._users.touch_memories(scope),
        )
        return memory

    async def remember_if_newer(self, scope: UserScope, label: str, content: str, at: datetime) -> bool:
        """Write a slot as it was said at the time `at`, unless it was written, or anything was forgotten, since.

        What a person asked to be forgotten must not come back because it was kept somewhere meanwhile.

        Raises:
            InvalidTextError: the label or the content cannot be one, or is a secret.
        """
        memory = Memory(*check_memory(label, content), updated_at=at)
        selector = scope.filter | {
            "memory_type": memory.memory_type,
            "$or": [{"updated_at": {"$exists": False}}, {"updated_at": {"$lte": at}}],
        }
        if await self._users.forgot_after(scope, at):
            return False

        async def write() -> bool:
            await self._memories.update_one(selector, _update(memory), upsert=True)
            return True

        if not await operations.upsert(write):  # the slot is there, and newer
            return False
        await self._users.touch_memories(scope)
        return True

    async def forget_if_older(self, scope: UserScope, label: str, at: datetime) -> bool:
        """Delete a slot unless it was written after the time `at`; returns whether it was there.

        Raises:
            InvalidTextError: the label cannot be one.
        """
        selector = scope.filter | {"memory_type": slot_name(label), "updated_at": {"$lte": at}}
        await self._users.note_forgotten(scope, at)
        result = await operations.write(lambda: self._memories.delete_one(selector))
        return result.deleted_count == 1

    async def set_vector(self, scope: UserScope, memory: Memory, vector: NDArray[np.float32], model: str) -> bool:
        """Store the vector of `memory` unless the slot has changed since.

        Args:
            scope: whose slot it is.
            memory: the slot as `remember` returned it.
            vector: float32, shape (dimensions,).
            model: the name of the embedder that made it.

        Returns:
            Whether it was stored.
        """
        from lkmongo.embed.vectors import to_bson

        result = await operations.write(
            lambda: self._memories.update_one(
                scope.filter | {"memory_type": memory.memory_type, "updated_at": memory.updated_at},
                {"$set": {"embedding": to_bson(vector), "embedding_model": model}},
            )
        )
        return result.matched_count == 1

    async def vectors(self, scope: UserScope, model: str) -> dict[str, tuple[datetime | None, Any]]:
        """The slots' vectors made by `model`: label to (updated_at, BSON value)."""

        async def find() -> dict[str, tuple[datetime | None, Any]]:
            cursor = self._memories.find(
                scope.filter | {"embedding_model": model},
                {"_id": 0, "memory_type": 1, "updated_at": 1, "embedding": 1},
                batch_size=2_000,
            )
            return {
                doc["memory_type"]: (_utc(doc, "updated_at"), doc.get("embedding")) for doc in await cursor.to_list()
            }

        return await operations.read(find)

    async def vector_model(self, scope: UserScope, label: str) -> str | None:
        """The name of the embedder that made the slot's vector; None without a vector or a slot.

        Raises:
            InvalidTextError: the label cannot be one.
        """
        selector = scope.filter | {"memory_type": slot_name(label), "embedding": {"$exists": True}}
        document = await operations.read(lambda: self._memories.find_one(selector, {"_id": 0, "embedding_model": 1}))
        return str(document.get("embedding_model", "unknown")) if document else None

    async def count(self, scope: UserScope, labels: Sequence[str] | None = None) -> int:
        """How many slots there are, of these labels or of all."""
        selector = self._selector(scope, labels)
        return await operations.read(lambda: self._memories.count_documents(selector))

    async def forget(self, scope: UserScope, labels: Sequence[str] | None = None, *, at: datetime | None = None) -> int:
        """Delete the slots of these labels, or all, and what the next call would know of the last one.

        Args:
            scope: whose slots.
            labels: which; None for all.
            at: when that was asked for; by default now. What was said after it stays to be remembered.

        Returns:
            How many slots were deleted.
        """
        selector = self._selector(scope, labels)
        # First the gist: were this to fail halfway, nothing forgotten could come back through it.
        await self._users.note_forgotten(scope, at or now())
        result = await operations.write(lambda: self._memories.delete_many(selector))
        return result.deleted_count

    @staticmethod
    def _selector(scope: UserScope, labels: Sequence[str] | None) -> dict[str, Any]:
        if labels is None:
            return dict(scope.filter)
        names = [slot_name(label) for label in labels]
        return scope.filter | {"memory_type": names[0] if len(names) == 1 else {"$in": names}}
