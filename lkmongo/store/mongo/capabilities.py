"""Probes the features of a MongoDB server by using them once; the version does not tell whether it has search."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import MEMORIES

Document = dict[str, Any]

NO_SEARCH = frozenset({59, 40324, 31082, 115, 323})
"""Error codes of a server without search: CommandNotFound, an unknown stage, SearchNotEnabled, CommandNotSupported, and
APIStrictError, as search is not part of the stable API."""
NO_STAGE = NO_SEARCH | {224}
"""The same for a stage that not every server with search has, with QueryFeatureNotAllowed: it is disabled."""
_SEARCH_FAILED = frozenset({6, 7, 8, 43, 50, 89, 125, 175, 489, 11601})
"""Error codes of a server with search whose search process is unreachable, not ready, too slow or overloaded."""

_MAX_TIME_MS = 2_000
_NO_SUCH_INDEX = "lkmongo_probe"  # searching an index that does not exist finds nothing
_SEARCH: list[Document] = [{"$search": {"index": _NO_SUCH_INDEX, "exists": {"path": "_id"}}}, {"$limit": 1}]
_NOTHING: list[Document] = [{"$match": {"_id": {"$in": []}}}, {"$sort": {"_id": 1}}]
_RANK_FUSION: list[Document] = [{"$rankFusion": {"input": {"pipelines": {"nothing": _NOTHING}}}}, {"$limit": 1}]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features of a server.

    Attributes:
        version: such as (8, 0, 12).
        search: it has `$search` and `$vectorSearch`, whether or not there are indexes.
        rank_fusion: it has search and `$rankFusion`. From 8.1 on, `{$meta: "score"}` is the fused score.
    """

    version: tuple[int, ...]
    search: bool
    rank_fusion: bool

    @property
    def release(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def features(self) -> dict[str, bool]:
        """All features, by the names of their attributes."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, bool)}


async def probe(db: AsyncDatabase[Document]) -> Capabilities:
    """Probe a server in one round trip on two connections, without reading or writing data.

    Raises:
        DatabaseError, AuthenticationError: as `operations.read` does.
    """

    async def version() -> tuple[int, ...]:
        info = await operations.read(lambda: db.command("buildInfo"))
        return tuple(int(part) for part in info["versionArray"][:3])

    number, search, fusion = await asyncio.gather(
        version(), _accepts(db, _SEARCH, NO_SEARCH), _accepts(db, _RANK_FUSION, NO_STAGE)
    )
    return Capabilities(number, search, search and fusion)


def searchable(db: AsyncDatabase[Document], name: str) -> AsyncCollection[Document]:
    """A collection for search stages: they require read concern local, and the URI may set another."""
    return db.get_collection(name, read_concern=ReadConcern("local"))


async def _accepts(db: AsyncDatabase[Document], pipeline: list[Document], refusals: frozenset[int]) -> bool:
    collection = searchable(db, MEMORIES)

    async def ask() -> bool:
        try:
            cursor = await collection.aggregate(pipeline, maxTimeMS=_MAX_TIME_MS)
            await cursor.to_list(1)
        except OperationFailure as error:
            if error.code in refusals:
                return False
            if error.code in _SEARCH_FAILED:
                return True
            raise
        return True

    return await operations.read(ask)
