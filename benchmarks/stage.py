"""What the benchmarks of calls stand on: a mongod, a network before it, and both ways ready to take calls.

lkmongo is made ready as a job's process is, its connections on a loop of their own; the guide's client is connected.
The mongod's files are in memory where there is room, so that no figure is that of a disk that others use, too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.guide import Guide
from benchmarks.network import Network, socket_path
from lkmongo.embed.choose import CachedEmbedder
from lkmongo.embed.local import LocalEmbedder
from lkmongo.local.mongod import EmbeddedMongod
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.open import Store

if TYPE_CHECKING:
    from lkmongo.agent.caller_session import CallerSession
    from lkmongo.embed.base import Embedder
    from lkmongo.worker.prewarm import Prewarm

DATABASE = "lkmongo"
CALLER = UserScope(tenant_id="default", user_id="u-100")
EMBEDDING = 0.090
"""Seconds that a vector takes: what is planned with for a service of vectors, there and back."""
_MEMORY = Path("/dev/shm")
_ENOUGH = 4 * 2**30


class FarEmbedder(LocalEmbedder):
    """The local model, as far away as a service: whatever is asked at once takes `seconds` more."""

    def __init__(self, seconds: float = EMBEDDING) -> None:
        self.seconds = seconds

    async def embed(self, texts: Sequence[str], *, kind: Any, deadline: float | None = None) -> Any:
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return await super().embed(texts, kind=kind, deadline=deadline)


@dataclass(frozen=True)
class Stage:
    """A mongod and the network before it."""

    folder: Path
    mongod: EmbeddedMongod
    network: Network

    def settings(self, uri: str | None = None) -> Settings:
        """Those of a process that reaches the mongod through the network, or at `uri`."""
        address = uri or self.network.uri
        values = {"MONGODB_URI": address, "MONGODB_DB": DATABASE, "LKMONGO_HOME": str(self.folder / "home")}
        return Settings.load(values | {"LKMONGO_MAX_SLOTS": "10000"})


@contextmanager
def staged() -> Iterator[Stage]:
    """Start both, and leave nothing behind."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ENOUGH
    with tempfile.TemporaryDirectory(prefix="lkmongo-benchmark-", dir=_MEMORY if roomy else None) as name:
        folder = Path(name)
        with EmbeddedMongod(folder / "mongod") as mongod, Network(socket_path(mongod.uri)) as network:
            yield Stage(folder, mongod, network)


@dataclass(frozen=True)
class Ways:
    """lkmongo and the guide, both connected through the network, with an embedder as far away."""

    stage: Stage
    settings: Settings
    ready: Prewarm
    store: Store
    embedder: Embedder
    far: FarEmbedder
    guide: Guide

    @asynccontextmanager
    async def call(self, scope: UserScope = CALLER) -> AsyncIterator[CallerSession]:
        """Begin a call of lkmongo as a job does."""
        from lkmongo.agent.beginning import begin_session

        name = f"RM_{uuid.uuid4().hex[:12]}"
        async with begin_session(
            self.settings, self.store, self.embedder, scope, guest=False, session_id=name, room_name=name
        ) as call:
            yield call

    async def quiet(self) -> None:
        """Wait until what goes on in the background of a call is over: vectors, and what the server can do."""
        await asyncio.sleep(0.05 + self.far.seconds + 5 * self.stage.network.rtt_ms / 1000)


async def known(call: CallerSession) -> None:
    """Wait until the caller of a call is known, also where that takes longer than a greeting would wait."""
    while not await call.caller.preload():  # noqa: ASYNC110 - its deadline goes by the machine's clock
        await asyncio.sleep(0.01)


@asynccontextmanager
async def connected(
    stage: Stage, *, embedding: float = EMBEDDING, settings: Settings | None = None
) -> AsyncIterator[Ways]:
    """Make both ways ready, and warm, with their indexes."""
    from lkmongo.worker.prewarm import Prewarm

    far = FarEmbedder(embedding)
    embedder = CachedEmbedder(far)
    await embedder.warm()
    settings = settings or stage.settings()
    ready = Prewarm(settings)
    guide = Guide(stage.network.uri, vectors_of(far))
    try:
        store = await ready.store()
        await database_indexes.apply(store.db)
        await guide.create_indexes()
        await store.warm()
        yield Ways(stage, settings, ready, store, embedder, far, guide)
    finally:
        await guide.close()
        await ready.close()


def encrypted(stage: Stage, database: str = "encrypted") -> Settings:
    """The settings of a database in which what people said is encrypted, with a master key in a file."""
    from lkmongo.store.mongo.master_keys import key_file, make_key_file

    settings = stage.settings().model_copy(update={"mongodb_db": database, "encryption": "local"})
    if not key_file(settings).exists():
        make_key_file(settings)
    return settings


def vectors_of(embedder: LocalEmbedder) -> Any:
    """The guide's function that makes a vector: no cache, a list of floats."""

    async def embed(text: str) -> list[float]:
        vectors = await embedder.embed([text], kind="document")
        return [float(value) for value in vectors[0]]

    return embed


async def give_slots(ways: Ways, scope: UserScope, count: int) -> None:
    """Give a person a name and `count` slots, the same with both ways."""
    local, store, guide = LocalEmbedder(), ways.store, ways.guide
    await store.users.set_field(scope, "name", "Robin")
    await guide.db.users.update_one({"user_id": scope.user_id}, {"$set": {"name": "Robin"}}, upsert=True)
    labels = [f"detail_{number:04d}" for number in range(count)]
    texts = [
        f"what the caller said of thing {number}, in about a hundred and ten characters: {'so' * 15}"
        for number in range(count)
    ]
    memories = [await store.memories.remember(scope, *pair) for pair in zip(labels, texts, strict=True)]
    vectors = await local.embed([memory.embedded_text for memory in memories], kind="document")
    for memory, vector in zip(memories, vectors, strict=True):
        await store.memories.set_vector(scope, memory, vector, local.model)
    await guide.db.memories.insert_many(
        [
            {
                "user_id": scope.user_id,
                "tenant_id": scope.tenant_id,
                "memory_type": memory.memory_type,
                "content": memory.content,
                "embedding": [float(value) for value in vector],
                "created_at": memory.updated_at,
                "updated_at": memory.updated_at,
            }
            for memory, vector in zip(memories, vectors, strict=True)
        ]
    )
