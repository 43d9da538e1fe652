"""A database behind the stand-in for a test of search indexes, with a clock that moves when somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pymongo.operations import SearchIndexModel

from lkmongo.backoff import Backoff
from lkmongo.embed.local import LocalEmbedder
from lkmongo.store.indexes.definitions import SearchIndex, search_indexes
from lkmongo.store.mongo.client import create_client
from tests.standin import Standin

EMBEDDER = LocalEmbedder()
WANTED = search_indexes(EMBEDDER.dimensions)
KNOWLEDGE, MEMORIES, TEXT = WANTED


@dataclass
class Rig:
    """What a test works with; `pauses` are the seconds that were waited, one by one."""

    standin: Standin
    db: Any
    pauses: list[float] = field(default_factory=list)

    def backoff(self, seconds: float = 60.0, *meanwhile: Callable[[], Awaitable[None]]) -> Backoff:
        """Waiting that takes no time: the stand-in's clock is moved instead, and `meanwhile` happens, one a pause."""
        happenings = iter(meanwhile)

        async def sleep(pause: float) -> None:
            self.pauses.append(pause)
            if happening := next(happenings, None):
                await happening()
            await asyncio.to_thread(self.standin.advance, pause)

        return Backoff(seconds, sleep=sleep, clock=self.standin.clock.now)

    async def finish_builds(self) -> None:
        await asyncio.to_thread(self.standin.finish_builds)

    async def listed(self, index: SearchIndex) -> dict[str, Any]:
        """What the server says of an index; empty when it has none of that name."""
        cursor = await self.db[index.collection].list_search_indexes(index.name)
        return next(iter(await cursor.to_list()), {})

    async def make(self, index: SearchIndex, definition: dict[str, Any] | None = None, kind: str | None = None) -> None:
        """Create an index by hand, as it should be or otherwise, and let it be built."""
        model = SearchIndexModel(dict(definition or index.definition), name=index.name, type=kind or index.type)
        await self.db[index.collection].create_search_index(model)
        await self.finish_builds()

    def sent(self, *names: str) -> list[Any]:
        """The commands, or aggregates with a stage, of these names that arrived."""
        return [command for name in names for command in self.standin.recorded(name)]


@asynccontextmanager
async def rig(mongodb_uri: str, database: str, *, collections: bool = True, **options: Any) -> AsyncIterator[Rig]:
    """A database with its collections; options are the stand-in's."""
    options = {"clock": "virtual", "build_seconds": 4.0} | options
    async with Standin.before(mongodb_uri, **options) as standin, create_client(standin.uri) as client:
        db = client[database]
        if collections:
            for name in ("knowledge", "memories"):
                await db.create_collection(name)
        yield Rig(standin, db)
        standin.clear_faults()
        await client.drop_database(database)
