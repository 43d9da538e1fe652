"""Chooses the search strategy by LKMONGO_SEARCH and the server's features, and falls back from Atlas to exact."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from lkmongo import deadlines
from lkmongo.errors import DatabaseOverloadedError, LkmongoError, NotSupportedError
from lkmongo.model import Fact, Passage, TenantScope, UserScope
from lkmongo.search.atlas import AtlasStrategy
from lkmongo.search.atlas_queries import quantized_floor
from lkmongo.search.rerank import reranked
from lkmongo.search.strategy import (
    ExactStrategy,
    NotForAtlasError,
    QueryEmbedding,
    SearchResult,
    SearchStrategy,
    SearchTimeoutError,
    one_line,
)
from lkmongo.store.indexes.definitions import EMBEDDING
from lkmongo.store.indexes.search_indexes import knowledge_quantization
from lkmongo.store.mongo.capabilities import Capabilities, probe
from lkmongo.store.mongo.encryption import Encryption
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

    from lkmongo.embed.base import Embedder
    from lkmongo.setting_fields import Fusion
    from lkmongo.settings import Settings
    from lkmongo.store.indexes.readiness import IndexState

logger = logging.getLogger(__name__)

T = TypeVar("T", Fact, Passage)
Document = dict[str, Any]

ENCRYPTED = "exact: they are encrypted, and no search index reads them"
PAUSE_AFTER_TIMEOUT = 10.0
"""Seconds without searches on Atlas after a timeout, so that not every turn waits for one."""
_PAUSES = (
    (SearchTimeoutError, PAUSE_AFTER_TIMEOUT, "a search timed out"),
    (DatabaseOverloadedError, deadlines.SEARCH_OVERLOADED, "it refused a search"),
)


def fusion_for(settings: Settings) -> Fusion:
    """LKMONGO_FUSION, else what was measured to be best for the embedder (docs/retrieval.md).

    The constants of fusion by scores were fitted with the local embedder. Of others nothing is known, so theirs is the
    service's own, by ranks.
    """
    return settings.fusion or ("scores" if settings.embedder_kind == "local" else "ranks")


def strategy_for(settings: Settings, db: AsyncDatabase[Document], embedder: Embedder) -> SearchStrategy:
    """Make the strategy that LKMONGO_SEARCH and LKMONGO_RERANK name, without I/O; keep it as long as the client.

    The embedded mongod has no search, so "auto" is exact without MONGODB_URI.

    Raises:
        SettingsError: what reranking needs is not set.
    """
    return reranked(_strategy_for(settings, db, embedder), settings, db)


def _strategy_for(settings: Settings, db: AsyncDatabase[Document], embedder: Embedder) -> SearchStrategy:
    if settings.search == "exact" or (settings.search == "auto" and settings.mongodb_uri is None):
        return ExactStrategy(db, embedder)
    # Where MongoDB makes the query's vector, that is a part of the search.
    deadline = deadlines.SEARCH if embedder.dimensions else deadlines.SEARCH + deadlines.QUERY_EMBEDDING
    required = settings.search == "atlas"
    return AtlasWithFallback(db, embedder, require_atlas=required, fusion=fusion_for(settings), deadline=deadline)


def ways_of(settings: Settings, can: Capabilities, embedder: Embedder, indexes: Sequence[IndexState]) -> dict[str, str]:
    """How memories and knowledge are searched on a server: by which stages, or exact and why."""
    ways = _stages_of(settings, can, embedder, indexes)
    if settings.rerank == "voyage":
        ways[KNOWLEDGE] += "; reranked by Voyage"
    if settings.rerank == "atlas":
        ways[KNOWLEDGE] += "; reranked by $rerank" if can.rerank else "; not reranked, this MongoDB has no $rerank"
    return ways


def _stages_of(
    settings: Settings, can: Capabilities, embedder: Embedder, indexes: Sequence[IndexState]
) -> dict[str, str]:
    encrypted = {MEMORIES: ENCRYPTED} if settings.encryption != "off" else {}
    return _plain_stages(settings, can, embedder, indexes) | encrypted


def _plain_stages(
    settings: Settings, can: Capabilities, embedder: Embedder, indexes: Sequence[IndexState]
) -> dict[str, str]:
    if not can.search:
        why = "this MongoDB has no search"
        way = f"not at all: {why}, and LKMONGO_SEARCH is atlas" if settings.search == "atlas" else f"exact: {why}"
        return {MEMORIES: way, KNOWLEDGE: way}
    if settings.search == "exact":
        return dict.fromkeys((MEMORIES, KNOWLEDGE), "exact: LKMONGO_SEARCH is exact")
    fusion = fusion_for(settings)
    stage = "$scoreFusion" if fusion == "scores" else "$rankFusion"
    ways = {
        MEMORIES: stage if _fuses(can, fusion, embedder) else f"$vectorSearch and $search, fused here by {fusion}",
        KNOWLEDGE: "$vectorSearch",
    }
    for state in indexes:
        if state.index.type != "vectorSearch":
            continue
        if not state.queryable:
            ways[state.index.collection] = f"exact: {state.index.name} is {state.status}"
        elif state.index.collection == KNOWLEDGE and (kind := state.tuned.get(f"{EMBEDDING}.quantization")):
            ways[KNOWLEDGE] += f", {kind} quantization, floor {quantized_floor(embedder, str(kind)):.3f}"
    return ways


def _fuses(can: Capabilities, fusion: Fusion, embedder: Embedder) -> bool:
    """Whether the server has the stage for it; without details, ranks are told from vectors of the embedder."""
    if fusion == "scores":
        return can.score_fusion
    return can.rank_fusion and (can.score_details or embedder.dimensions > 0)


class AtlasWithFallback:
    """The Atlas strategy, with the exact one as the fallback.

    The server's features are probed once. A result of the fallback says why it was used; the log says so when that
    begins and ends, not for each search.
    """

    def __init__(
        self,
        db: AsyncDatabase[Document],
        embedder: Embedder,
        *,
        require_atlas: bool = False,
        fusion: Fusion = "ranks",
        deadline: float = deadlines.SEARCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Search `db`.

        Args:
            db: belongs to the event loop the searches run on.
            embedder: only vectors of its model are compared.
            require_atlas: raise instead of falling back, except for searches that the indexes cannot answer.
            fusion: of memories' words and vectors, by ranks or by scores.
            deadline: seconds for a search on Atlas, and for probing the server.
            clock: the seconds by which Atlas is asked again after a failure; tests pass their own.
        """
        self._db = db
        self._encryption = Encryption.of(db)
        self._embedder = embedder
        self._require_atlas = require_atlas
        self._fusion = fusion
        self._deadline = deadline
        self._exact = ExactStrategy(db, embedder)
        self._atlas: AtlasStrategy | None = None
        self._probed = False
        self._probing = asyncio.Lock()
        self._clock = clock
        self._paused_until = 0.0
        self._pause: tuple[type[LkmongoError], str] | None = None
        self._problems: dict[str, str] = {}

    async def warm(self) -> None:
        """Probe the server, so that no search waits for that; errors are left to the first search."""
        try:
            await self._probe()
        except LkmongoError as error:
            logger.debug("the server could not be probed yet: %s (%s)", error.message, error.why)

    async def close(self) -> None:
        """Nothing."""

    async def memories(self, scope: UserScope, query: str, limit: int = 5) -> SearchResult[Fact]:
        """Search one person's slots. See `SearchStrategy.memories`.

        Raises:
            NotSupportedError, NotReadyError, DriftError: Atlas is required.
        """
        async with QueryEmbedding(query, self._embedder) as query_embedding:
            if self._encryption.is_on:
                return await self._exact.memories(scope, query, limit, query_embedding=query_embedding)
            return await self._search(
                MEMORIES,
                lambda atlas: atlas.memories(scope, query, limit, query_embedding=query_embedding),
                lambda: self._exact.memories(scope, query, limit, query_embedding=query_embedding),
            )

    async def knowledge(self, tenant: TenantScope, query: str, limit: int = 3) -> SearchResult[Passage]:
        """Search one tenant's passages. Raises as `memories` does."""
        async with QueryEmbedding(query, self._embedder) as query_embedding:
            return await self._search(
                KNOWLEDGE,
                lambda atlas: atlas.knowledge(tenant, query, limit, query_embedding=query_embedding),
                lambda: self._exact.knowledge(tenant, query, limit, query_embedding=query_embedding),
            )

    async def _search(
        self,
        what: str,
        by_index: Callable[[AtlasStrategy], Coroutine[Any, Any, SearchResult[T]]],
        exactly: Callable[[], Coroutine[Any, Any, SearchResult[T]]],
    ) -> SearchResult[T]:
        trouble: LkmongoError | None = None
        try:
            atlas = await self._available()
            if atlas is not None:
                result = await by_index(atlas)
                self._log_problem(what, None)
                return result
        except NotForAtlasError as error:
            logger.debug("%s are searched exactly: %s", what, error.why)
        except LkmongoError as error:
            if self._require_atlas:
                raise
            trouble = error
            self._pause_after(error)
            self._log_problem(what, error)
        result = await exactly()
        if trouble is None:
            return result
        note = f"searched exactly: {one_line(trouble)}"
        return replace(result, degraded=f"{note}; {result.degraded}" if result.degraded else note)

    async def _available(self) -> AtlasStrategy | None:
        """The Atlas strategy, or None on a server without search.

        Raises:
            NotSupportedError: likewise, if Atlas is required.
            SearchTimeoutError: a search timed out a moment ago, or probing the server did.
            DatabaseOverloadedError: MongoDB refused a search because it is overloaded, less than a minute ago.
        """
        if self._pause is not None and self._clock() < self._paused_until:
            kind, why = self._pause
            raise kind(why=why)
        try:
            async with asyncio.timeout(self._deadline):
                return await self._probe()
        except TimeoutError as error:
            raise SearchTimeoutError(why="the server did not report its version and features in time") from error

    async def _probe(self) -> AtlasStrategy | None:
        async with self._probing:
            if not self._probed:
                can = await probe(self._db)
                self._probed = True
                if can.search:
                    self._atlas = AtlasStrategy(
                        self._db,
                        self._embedder,
                        fusion=self._fusion,
                        fuses=_fuses(can, self._fusion, self._embedder),
                        details=can.score_details,
                        needs_vectors=not self._require_atlas,
                        deadline=self._deadline,
                        clock=self._clock,
                    )
                    self._atlas.quantization = await self._quantization()
                logger.info(
                    "MongoDB %s: %s",
                    can.release,
                    "searching by its indexes" if can.search else "no search on this server, searching exactly",
                )
        if self._atlas is None and self._require_atlas:
            raise NotSupportedError(
                "this MongoDB has no search",
                why="LKMONGO_SEARCH is atlas",
                hint="connect to Atlas, or unset LKMONGO_SEARCH",
            )
        return self._atlas

    async def _quantization(self) -> str:
        """How the index of knowledge compresses its vectors; "none" if that is not known in time."""
        try:
            async with asyncio.timeout(self._deadline / 4):  # a search may be waiting
                return await knowledge_quantization(self._db)
        except (LkmongoError, TimeoutError) as error:
            logger.debug("the index of knowledge could not be listed: %r", error)
            return "none"

    def _pause_after(self, error: LkmongoError) -> None:
        """Search exactly for a while after an error that waiting for the next search would only repeat."""
        if self._clock() < self._paused_until:
            return
        for kind, seconds, what in _PAUSES:
            if isinstance(error, kind):
                self._paused_until = self._clock() + seconds
                self._pause = kind, f"{what} less than {seconds:g} s ago"

    def _log_problem(self, what: str, trouble: LkmongoError | None) -> None:
        """Log once when a problem with the indexes begins, and when it ends."""
        before = self._problems.pop(what, None)
        if trouble is not None:
            if trouble.message not in {before, *self._problems.values()}:
                logger.warning("searching exactly: %s (%s)", trouble.message, trouble.why)
            self._problems[what] = trouble.message
        elif before is not None and before not in self._problems.values():
            logger.info("searching by the indexes again")
