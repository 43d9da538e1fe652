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
_SWITCHED_OFF = 224  # QueryFeatureNotAllowed: of the stage or an option
NO_STAGE = NO_SEARCH | {_SWITCHED_OFF}
"""The same for a stage that not every server with search has, with QueryFeatureNotAllowed: it is disabled."""
_SEARCH_FAILED = frozenset({6, 7, 8, 43, 50, 89, 125, 175, 489, 11601})
"""Error codes of a server with search whose search process is unreachable, not ready, too slow or overloaded."""

_UNAUTHORIZED = 13

_MAX_TIME_MS = 2_000
_NO_SUCH_INDEX = "lkmongo_probe"  # searching an index that does not exist finds nothing
_SEARCH: list[Document] = [{"$search": {"index": _NO_SUCH_INDEX, "exists": {"path": "_id"}}}, {"$limit": 1}]
_NOTHING: list[Document] = [{"$match": {"_id": {"$in": []}}}, {"$sort": {"_id": 1}}]
_RANK_FUSION: Document = {"input": {"pipelines": {"nothing": _NOTHING}}}
_SCORE_FUSION: Document = {"input": {"pipelines": {"nothing": _SEARCH}, "normalization": "none"}, "scoreDetails": True}
_RERANK: Document = {"query": {"text": "lkmongo"}, "path": "content", "numDocsToRerank": 1, "model": "rerank-2.5-lite"}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features of a server.

    Attributes:
        version: such as (8, 0, 12).
        search: it has `$search` and `$vectorSearch`, whether or not there are indexes.
        rank_fusion: it has search and `$rankFusion` (8.0). From 8.1 on, `{$meta: "score"}` is the fused score.
        score_details: its `$rankFusion` tells ranks and scores of each branch (8.1).
        score_fusion: it has search and `$scoreFusion`, which tells them too (8.2).
        rerank: it has search and `$rerank` (8.3, on Atlas only, if switched on for the project).
    """

    version: tuple[int, ...]
    search: bool
    rank_fusion: bool
    score_details: bool = False
    score_fusion: bool = False
    rerank: bool = False

    @property
    def release(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def features(self) -> dict[str, bool]:
        """All features, by the names of their attributes."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, bool)}


async def probe(db: AsyncDatabase[Document]) -> Capabilities:
    """Probe a server, without reading or writing data; where there is no search, nothing more is asked.

    Raises:
        DatabaseError, AuthenticationError: as `operations.read` does.
    """

    async def version() -> tuple[int, ...]:
        info = await operations.read(lambda: db.command("buildInfo"))
        return tuple(int(part) for part in info["versionArray"][:3])

    number, search = await asyncio.gather(version(), _accepts(db, _SEARCH, NO_SEARCH))
    if not search:
        return Capabilities(number, search=False, rank_fusion=False)
    (fusion, details), scores, rerank = await asyncio.gather(
        _rank_fusion(db),
        _accepts(db, [{"$scoreFusion": _SCORE_FUSION}, {"$limit": 1}], NO_STAGE),
        # Its refusals are not documented: whatever is refused is not there.
        _accepts(db, [*_NOTHING, {"$rerank": _RERANK}], None),
    )
    return Capabilities(number, search, fusion, details, scores, rerank)


async def _rank_fusion(db: AsyncDatabase[Document]) -> tuple[bool, bool]:
    """Whether there is `$rankFusion`, and whether it takes `scoreDetails`, which 8.0 refuses."""
    refusal = await _refusal(db, [{"$rankFusion": _RANK_FUSION | {"scoreDetails": True}}, {"$limit": 1}], NO_STAGE)
    if refusal == _SWITCHED_OFF:
        return await _accepts(db, [{"$rankFusion": _RANK_FUSION}, {"$limit": 1}], NO_STAGE), False
    return refusal is None, refusal is None


def searchable(db: AsyncDatabase[Document], name: str) -> AsyncCollection[Document]:
    """A collection for search stages: they require read concern local, and the URI may set another."""
    return db.get_collection(name, read_concern=ReadConcern("local"))


async def _accepts(db: AsyncDatabase[Document], pipeline: list[Document], refusals: frozenset[int] | None) -> bool:
    return await _refusal(db, pipeline, refusals) is None


async def _refusal(
    db: AsyncDatabase[Document], pipeline: list[Document], refusals: frozenset[int] | None
) -> int | None:
    """The code by which the server refuses a pipeline, None if it runs it.

    Args:
        db: of any collection.
        pipeline: what to run.
        refusals: codes that are one, None for all but that of a user who may not read; the others are raised.
    """
    collection = searchable(db, MEMORIES)

    async def ask() -> int | None:
        try:
            cursor = await collection.aggregate(pipeline, maxTimeMS=_MAX_TIME_MS)
            await cursor.to_list(1)
        except OperationFailure as error:
            if error.code in _SEARCH_FAILED:
                return None
            if error.code != _UNAUTHORIZED if refusals is None else error.code in refusals:
                return error.code or 0
            raise
        return None

    return await operations.read(ask)
