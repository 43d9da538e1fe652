"""The way of the published design guide to do each piece of work: what lkmongo is measured against.

Written from the guide's description: one client for the process, made when it is first needed and with the driver's
defaults; two reads one after the other; text is embedded before anything is written or searched; vectors are arrays of
doubles; the whole report goes into one document when the caller has hung up; nothing has a deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from bson import json_util
from pymongo import AsyncMongoClient, MongoClient, ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

Document = dict[str, Any]
Embed = Callable[[str], Awaitable[Sequence[float]]]
"""Text to a vector, as a list of Python's floats."""

DATABASE = "guide"


class Guide:
    """Everything for one tenant and one MongoDB; people are named by their ids."""

    def __init__(self, uri: str, embed: Embed, *, tenant_id: str = "default", database: str = DATABASE) -> None:
        """Nothing is connected yet."""
        self._uri = uri
        self._embed = embed
        self._tenant_id = tenant_id
        self._database = database
        self._client: AsyncMongoClient[Document] | None = None

    @property
    def db(self) -> AsyncDatabase[Document]:
        """The database; the first use makes the client."""
        if self._client is None:
            self._client = AsyncMongoClient(self._uri)
        return self._client[self._database]

    async def create_indexes(self) -> None:
        """The unique indexes that the guide names."""
        await self.db.users.create_index("user_id", unique=True)
        await self.db.memories.create_index([("user_id", 1), ("tenant_id", 1), ("memory_type", 1)], unique=True)
        await self.db.orders.create_index("order_id", unique=True)
        await self.db.sessions.create_index("session_id", unique=True)

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def preload(self, user_id: str) -> list[str]:
        """What the model is told of the caller before it speaks: the profile, then every slot."""
        moment = datetime.now(UTC)
        user: Document | None = await self.db.users.find_one_and_update(
            {"user_id": user_id},
            {"$set": {"last_seen_at": moment}, "$setOnInsert": {"created_at": moment}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        assert user is not None  # it was made if it was not there
        fields = {name: user[name] for name in ("name", "email", "preferences") if user and user.get(name)}
        told = [f"Profile of the user: {fields}." if fields else f"Nothing is stored of {user_id}: greet a new user."]
        if slots := await self.list_memories(user_id):
            lines = [f"- {slot['memory_type']}: {slot['content']}" for slot in slots]
            told.append("What earlier sessions left:\n" + "\n".join(lines))
        return told

    async def remember(self, user_id: str, memory_type: str, content: str) -> str:
        """Embed, then write."""
        vector = await self._embed(f"{memory_type}: {content}")
        moment = datetime.now(UTC)
        await self.db.memories.update_one(
            self._scope(user_id) | {"memory_type": memory_type},
            {
                "$set": {"content": content, "embedding": list(vector), "updated_at": moment},
                "$setOnInsert": {"created_at": moment},
            },
            upsert=True,
        )
        return f"Remembered {memory_type}: {content}"

    async def recall(self, user_id: str, memory_type: str) -> Document | None:
        """One slot, with everything that is in it."""
        return await self.db.memories.find_one(self._scope(user_id) | {"memory_type": memory_type})

    async def forget(self, user_id: str, memory_type: str) -> bool:
        """Delete one slot."""
        result = await self.db.memories.delete_one(self._scope(user_id) | {"memory_type": memory_type})
        return result.deleted_count == 1

    async def list_memories(self, user_id: str) -> list[Document]:
        """Every slot, newest first, without its vector."""
        shown = {"_id": 0, "memory_type": 1, "content": 1}
        return await self.db.memories.find(self._scope(user_id), shown).sort("updated_at", -1).to_list()

    async def set_profile(self, user_id: str, field: str, value: str) -> None:
        """Write one field of the profile."""
        await self.db.users.update_one({"user_id": user_id}, {"$set": {field: value}})

    async def search_memories(self, user_id: str, query: str, limit: int = 5) -> list[Document]:
        """Embed, then ask the server's search."""
        return await self._search("memories", query, limit, {"filter": self._scope(user_id)})

    async def search_knowledge(self, query: str, limit: int = 3) -> list[Document]:
        """Embed, then ask the server's search."""
        return await self._search("knowledge", query, limit, {})

    async def _search(self, name: str, query: str, limit: int, scope: Document) -> list[Document]:
        """A server without search refuses at once: the round trip is measured, and no searching."""
        stage = {
            "index": f"{name}_vectors",
            "path": "embedding",
            "queryVector": list(await self._embed(query)),
            "numCandidates": 100,
            "limit": limit,
        }
        try:
            cursor = await self.db[name].aggregate([{"$vectorSearch": stage | scope}])
            return await cursor.to_list(limit)
        except OperationFailure:
            return []

    async def lookup_order(self, order_id: str) -> Document | None:
        """One order, whosever it is."""
        return await self.db.orders.find_one({"order_id": order_id})

    async def end_session(self, user_id: str, session_id: str, report: Callable[[], Document]) -> None:
        """Write the report of the whole call, once, at its end."""
        await self.db.sessions.insert_one(
            {"session_id": session_id, "room_name": session_id, **self._scope(user_id), "report": report()}
        )

    async def seed(self, passages: Iterable[tuple[str, str]]) -> None:
        """Embed and write titles with their contents, one after the other."""
        for title, content in passages:
            vector = await self._embed(content)
            await self.db.knowledge.insert_one({"title": title, "content": content, "embedding": list(vector)})

    def _scope(self, user_id: str) -> dict[str, str]:
        return {"user_id": user_id, "tenant_id": self._tenant_id}


def export(client: MongoClient[Document], database: str, names: Sequence[str], file: BinaryIO) -> int:
    """Write each document of the collections as a line of JSON; returns how many."""
    count = 0
    for name in names:
        for document in client[database][name].find():
            file.write(json_util.dumps(document).encode() + b"\n")
            count += 1
    return count
