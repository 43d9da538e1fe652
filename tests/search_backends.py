"""The backends that the search suite runs against: one database each, with its indexes, for all tests of a run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from lkmongo.backoff import Backoff
from lkmongo.embed.atlas import AtlasEmbedder
from lkmongo.embed.base import Embedder, OverloadedError, TextKind
from lkmongo.embed.local import LocalEmbedder
from lkmongo.embed.vectors import stored
from lkmongo.model import Fact, Passage, TenantScope, UserScope, now, slot_words
from lkmongo.search.atlas import AtlasStrategy
from lkmongo.search.strategy import ExactStrategy
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes import search_indexes as search_provision
from lkmongo.store.indexes.definitions import KNOWLEDGE_VECTOR, MEMORIES_TEXT, MEMORIES_VECTOR, indexes_for
from lkmongo.store.indexes.readiness import wait_ready
from lkmongo.store.mongo.client import create_client
from lkmongo.store.open import Store
from tests.standin import Standin

REAL = "LKMONGO_TEST_ATLAS_URI"
BACKENDS = {
    "exact": None,
    "atlas-fused": "atlas",
    "atlas-8.0": "atlas_8_0",
    "atlas-apart": "atlas_7_0",
    "atlas-scores": "atlas",
    "atlas-embeds": "atlas_embeds",
    "atlas-real": None,
}
"""Name of a backend to the stand-in's profile: with `$rankFusion` and `scoreDetails`, without details, without both;
with `$scoreFusion`; and with automatic embedding."""
PROFILES = BACKENDS | {"atlas-7.0": "atlas_7_0", "atlas-8.1": "atlas_8_1", "atlas-8.3": "atlas_8_3"}
OLD = timedelta(hours=1)
"""The age of documents that every index knows; newer ones are read from the collection too."""
_BUILD_SECONDS = 600.0
_VISIBLE_SECONDS = 120.0


@dataclass(frozen=True)
class Place:
    """Where a backend is."""

    name: str
    uri: str
    database: str
    standin: Standin | None


@contextmanager
def place(name: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Make a database with everything that the backend needs; skip what is not configured."""
    database = f"search_{uuid4().hex[:10]}"
    if name == "atlas-real":
        uri = os.environ.get(REAL)
        if not uri:
            pytest.skip(f"{REAL} is not set")
        made = Place(name, uri, database, None)
    elif profile := PROFILES[name]:
        standin = Standin.before(request.getfixturevalue("mongodb_uri"), profile=profile, build_seconds=0.05)
        standin.start()
        request.addfinalizer(standin.stop)
        made = Place(name, standin.uri, database, standin)
    else:
        made = Place(name, request.getfixturevalue("mongodb_uri"), database, None)
    asyncio.run(_provision(made))
    try:
        yield made
    finally:
        asyncio.run(_drop(made))


async def _provision(where: Place) -> None:
    async with create_client(where.uri) as client:
        db = client[where.database]
        await database_indexes.apply(db)
        if where.name == "exact":
            return
        embedder = _embedder_of(where.name)
        indexes = indexes_for(embedder)
        await search_provision.apply(db, indexes)
        if where.standin is not None:
            await asyncio.to_thread(where.standin.finish_builds)
        await wait_ready(db, indexes, embedder, Backoff(_BUILD_SECONDS))


async def _drop(where: Place) -> None:
    async with create_client(where.uri) as client:
        await client.drop_database(where.database)


class StandinEmbeds(AtlasEmbedder):
    """Automatic embedding with the weights and the floor of the vectors that the stand-in makes."""

    weights = LocalEmbedder.weights
    floor = LocalEmbedder.floor


def _embedder_of(backend: str) -> Embedder:
    return StandinEmbeds() if backend == "atlas-embeds" else LocalEmbedder()


class NoQuestions(LocalEmbedder):
    """Documents can be embedded, questions cannot; `asked` counts how often one was tried."""

    def __init__(self) -> None:
        self.asked = 0

    async def embed(
        self, texts: Sequence[str], *, kind: TextKind, deadline: float | None = None
    ) -> NDArray[np.float32]:
        if kind == "query":
            self.asked += 1
            raise OverloadedError("Voyage answered 503")
        return await super().embed(texts, kind=kind)


class Backend:
    """One backend as a test uses it."""

    def __init__(self, where: Place, store: Store) -> None:
        self.name = where.name
        self.standin = where.standin
        self.store = store
        self.db = store.db
        self.embedder = _embedder_of(where.name)
        self.is_atlas = where.name != "exact"
        self.strategy = self.strategy_with(self.embedder)

    @property
    def answers(self) -> str:
        """The strategy that a result of this backend names."""
        return "atlas" if self.is_atlas else "exact"

    def strategy_with(self, embedder: Embedder, **options: Any) -> AtlasStrategy | ExactStrategy:
        """This backend's strategy with another embedder."""
        if not self.is_atlas:
            return ExactStrategy(self.db, embedder)
        # The stand-in reads whole collections, on a machine that has other things to do: time proves nothing here.
        fusion = "scores" if self.name == "atlas-scores" else "ranks"
        kind = {"fusion": fusion, "fuses": self.name != "atlas-apart", "details": self.name != "atlas-8.0"}
        options = {"deadline": 30.0} | kind | options
        return AtlasStrategy(self.db, embedder, **options)

    async def remember(
        self,
        scope: UserScope,
        slots: Mapping[str, str],
        *,
        age: timedelta = OLD,
        embedder: Embedder | None = None,
        embedded: bool = True,
        created_at: datetime | None = None,
    ) -> None:
        """Write slots of this age, with their vectors; what is old enough is in the indexes after."""
        moment = now() - age
        memories = [Fact(label, content) for label, content in slots.items()]
        vectors = await self._vectors([memory.embedded_text for memory in memories], embedder) if embedded else []
        documents = [
            scope.filter
            | {"memory_type": memory.memory_type, "content": memory.content, "updated_at": moment}
            | {"label_words": slot_words(memory.memory_type), "created_at": created_at or moment}
            | (vectors[place] if embedded else {})
            for place, memory in enumerate(memories)
        ]
        await self.insert("memories", documents, wait=age >= OLD)

    async def add(
        self,
        tenant: TenantScope,
        passages: Sequence[Passage],
        *,
        age: timedelta = OLD,
        embedded: bool = True,
        **fields: Any,
    ) -> None:
        """Write passages of this age, with their vectors."""
        vectors = await self._vectors([passage.embedded_text for passage in passages]) if embedded else []
        documents = [
            tenant.filter
            | {"source": p.source, "chunk": p.chunk, "title": p.title, "content": p.content, "updated_at": now() - age}
            | (vectors[place] if embedded else {})
            | fields
            for place, p in enumerate(passages)
        ]
        await self.insert("knowledge", documents, wait=age >= OLD)

    async def insert(self, collection: str, documents: list[dict[str, Any]], *, wait: bool = True) -> None:
        """Insert documents, and wait until the indexes know them."""
        await self.db[collection].insert_many(documents)
        if self.name == "atlas-real" and wait:
            await self._visible(collection, documents)

    async def _vectors(self, texts: list[str], embedder: Embedder | None = None) -> list[dict[str, Any]]:
        embedder = embedder or self.embedder
        unique = list(dict.fromkeys(texts))
        made = dict(zip(unique, await embedder.embed(unique, kind="document"), strict=True))
        return [{"embedding": stored(text, made[text]), "embedding_model": embedder.model} for text in texts]

    async def _visible(self, collection: str, documents: list[dict[str, Any]]) -> None:
        """Wait until a real index returns what was just inserted, within each scope."""
        names = ("tenant_id", "user_id") if collection == "memories" else ("tenant_id",)
        scopes = {tuple(document[name] for name in names) for document in documents}
        for values in scopes:
            scope = dict(zip(names, values, strict=True))
            ours = [document for document in documents if all(document[name] == scope[name] for name in names)]
            counts = {_by_vector(collection, scope): sum("embedding" in document for document in ours)}
            if collection == "memories":
                counts[_by_token(scope)] = len(ours)
            for stage, expected in counts.items():
                await self._until(collection, stage.stages, expected)

    async def _until(self, collection: str, stages: list[dict[str, Any]], expected: int) -> None:
        end = time.monotonic() + _VISIBLE_SECONDS
        while True:
            cursor = await self.db[collection].aggregate([*stages, {"$count": "n"}])
            found = next(iter(await cursor.to_list()), {"n": 0})["n"]
            if found >= expected:
                return
            assert time.monotonic() < end, f"{found} of {expected} documents are in the index after a long wait"
            await asyncio.sleep(0.5)


@dataclass(frozen=True, eq=False)
class _Stages:
    stages: list[dict[str, Any]]


def _by_vector(collection: str, scope: dict[str, str]) -> _Stages:
    index = MEMORIES_VECTOR if collection == "memories" else KNOWLEDGE_VECTOR
    vector = [1.0] + [0.0] * (LocalEmbedder.dimensions - 1)
    options = {"index": index, "path": "embedding", "queryVector": vector, "limit": 10_000, "exact": True}
    return _Stages([{"$vectorSearch": options | {"filter": scope}}])


def _by_token(scope: dict[str, str]) -> _Stages:
    clauses = [{"equals": {"path": path, "value": value}} for path, value in scope.items()]
    return _Stages([{"$search": {"index": MEMORIES_TEXT, "compound": {"filter": clauses}}}])


@asynccontextmanager
async def open_backend(where: Place) -> AsyncIterator[Backend]:
    """A backend with a client of this test's own, empty, and emptied after."""
    async with create_client(where.uri) as client:
        backend = Backend(where, Store.of(client[where.database]))
        try:
            yield backend
        finally:
            if where.standin is not None:
                where.standin.clear_faults()
                where.standin.set_mongot(up=True)
                where.standin.set_lag(0.0)
            for name in ("memories", "knowledge", "users"):
                await backend.db[name].delete_many({})
