"""What this MongoDB can do: found out by asking for it once, and judged by the code of the answer.

Versions alone do not say it: the same server has search on Atlas and none elsewhere.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import MEMORIES

Document = dict[str, Any]

NO_SEARCH = frozenset({59, 40324, 31082, 115, 323})
"""Codes of a server that has no search: CommandNotFound, an unknown stage, SearchNotEnabled, CommandNotSupported,
and APIStrictError, for search is not part of the stable API."""
_NO_FUSION = NO_SEARCH | {224}  # QueryFeatureNotAllowed: the server has the stage, switched off
_THERE_BUT_TROUBLED = frozenset({6, 7, 8, 50, 89, 125})
"""Codes that only a server with search gives: its search process cannot be reached, is not ready or too slow."""

_MAX_TIME_MS = 2_000
_NO_SUCH_INDEX = "lkmongo_probe"  # what searches an index that is not there finds nothing
_SEARCH: list[Document] = [{"$search": {"index": _NO_SUCH_INDEX, "exists": {"path": "_id"}}}, {"$limit": 1}]
_NOTHING: list[Document] = [{"$match": {"_id": {"$in": []}}}, {"$sort": {"_id": 1}}]
_RANK_FUSION: list[Document] = [{"$rankFusion": {"input": {"pipelines": {"nothing": _NOTHING}}}}, {"$limit": 1}]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can do.

    Attributes:
        version: such as (8, 0, 12).
        search: it has `$search` and `$vectorSearch`, whether or not an index is there.
        rank_fusion: it has search and `$rankFusion`. From 8.1 on `{$meta: "score"}` gives the fused score.
    """

    version: tuple[int, ...]
    search: bool
    rank_fusion: bool

    @property
    def release(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


async def probe(db: AsyncDatabase[Document]) -> Capabilities:
    """Ask what the server can do: one round trip on two connections; nothing is read and nothing written.

    Raises:
        DatabaseUnavailableError: MongoDB cannot be reached.
        AuthenticationError: the credentials were refused or do not allow it.
        DatabaseError: any other answer that is an error.
    """

    async def version() -> tuple[int, ...]:
        info = await operations.read(lambda: db.command("buildInfo"))
        return tuple(int(part) for part in info["versionArray"][:3])

    number, search, fusion = await asyncio.gather(
        version(), _accepts(db, _SEARCH, NO_SEARCH), _accepts(db, _RANK_FUSION, _NO_FUSION)
    )
    return Capabilities(number, search, search and fusion)


async def _accepts(db: AsyncDatabase[Document], pipeline: list[Document], refusals: frozenset[int]) -> bool:
    # Search refuses every read concern but local, and the address of the database may ask for another.
    collection = db[MEMORIES].with_options(read_concern=ReadConcern("local"))

    async def ask() -> bool:
        try:
            cursor = await collection.aggregate(pipeline, maxTimeMS=_MAX_TIME_MS)
            await cursor.to_list(1)
        except OperationFailure as error:
            if error.code in refusals:
                return False
            if error.code in _THERE_BUT_TROUBLED:
                return True
            raise
        return True

    return await operations.read(ask)
