"""Reranking: a model that reads question and passage together puts the found passages into a better order.

It is one more request after a search, by Voyage's API or MongoDB's `$rerank`, which asks the same models. `$rerank` is
a query of its own rather than a stage of the search, so that its failure costs no search, and so that passages that the
index does not know yet take part. Whatever fails, the order that there is stays, and the result says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from pymongo.errors import OperationFailure, PyMongoError

from lkmongo import deadlines
from lkmongo.embed.base import (
    EmbeddingTimeoutError,
    OverloadedError,
    RateLimitedError,
    UnknownModelError,
    UnreachableError,
    WrongAddressError,
)
from lkmongo.embed.voyage import VoyageApi
from lkmongo.errors import (
    AuthenticationError,
    DatabaseOverloadedError,
    DatabaseUnavailableError,
    LkmongoError,
    SettingsError,
)
from lkmongo.model import Fact, Passage, TenantScope, UserScope
from lkmongo.search.strategy import (
    DegradationLog,
    SearchResult,
    SearchStrategy,
    SearchTimeoutError,
    explain,
    passage_text,
)
from lkmongo.store.mongo.capabilities import NO_STAGE, searchable
from lkmongo.store.mongo.client import run_on_client_loop
from lkmongo.store.mongo.schema import KNOWLEDGE

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

    from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

Document = dict[str, Any]

MODEL = "rerank-2.5-lite"
CANDIDATES = 20
"""Passages that are read by the model; docs/retrieval.md has what they hold and cost."""
PASSING = (
    *(DatabaseOverloadedError, DatabaseUnavailableError, EmbeddingTimeoutError, OverloadedError, RateLimitedError),
    *(SearchTimeoutError, UnreachableError),
)
PAUSE = 10.0
"""Seconds without reranking after a failure that may pass, so that not every turn waits for one."""
REFUSED_PAUSE = 600.0
"""The same after a refusal, which somebody has to do something about."""
_SERVER_SHARE = 0.8


class RerankError(LkmongoError):
    """Passages could not be reranked."""

    code = "rerank"


class Reranker(Protocol):
    """Tells how relevant passages are."""

    async def relevance(
        self, tenant: TenantScope, query: str, passages: Sequence[Passage], seconds: float
    ) -> list[float]:
        """The relevance of each of a tenant's passages, within a deadline. Raises LkmongoError."""

    async def warm(self) -> None:
        """Load what the first request needs. Raises LkmongoError."""

    async def close(self) -> None:
        """Let go of connections."""


class VoyageReranker:
    """Asks Voyage's API; belongs to the event loop that first awaits it."""

    def __init__(self, api_key: str, base_url: str | None = None) -> None:
        """Connect to nothing yet. Raises SettingsError as `VoyageApi` does."""
        self._api = VoyageApi(api_key, base_url)

    async def warm(self) -> None:
        await self._api.warm()

    async def relevance(
        self, _tenant: TenantScope, query: str, passages: Sequence[Passage], seconds: float
    ) -> list[float]:
        """One request, without a retry: a caller waits."""
        texts = [passage_text(passage) for passage in passages]

        async def ask(client: Any) -> list[float]:
            answer = await client.rerank(query, texts, model=MODEL, truncation=True)
            by_place = {result.index: float(result.relevance_score) for result in answer.results}
            return [by_place[place] for place in range(len(texts))]

        try:
            found: list[float] = await self._api.call(ask, MODEL, seconds)
        except (AuthenticationError, EmbeddingTimeoutError, OverloadedError, RateLimitedError, WrongAddressError):
            raise
        except UnreachableError as error:
            raise UnreachableError("Voyage cannot be reached", why=error.why, hint=error.hint) from error
        except UnknownModelError as error:
            raise RerankError(error.message, why=error.why, hint="unset LKMONGO_RERANK") from error
        except LkmongoError as error:
            hint = "check VOYAGE_BASE_URL if it is set"
            raise RerankError("Voyage sent no order of the passages", why=error.why, hint=hint) from error
        return found

    async def close(self) -> None:
        await self._api.close()


class AtlasReranker:
    """Asks MongoDB, which asks Voyage: `$rerank`, of 8.3 on Atlas, if it is switched on in the project's settings."""

    def __init__(self, db: AsyncDatabase[Document]) -> None:
        """Read the collection `knowledge` of `db`."""
        self._db = db

    async def warm(self) -> None:
        """Nothing: the connections are warm."""

    async def close(self) -> None:
        """Nothing."""

    async def relevance(
        self, tenant: TenantScope, query: str, passages: Sequence[Passage], seconds: float
    ) -> list[float]:
        keys = [(passage.source, passage.chunk) for passage in passages]
        stages: list[Document] = [
            {"$match": tenant.filter | {"$or": [{"source": source, "chunk": chunk} for source, chunk in keys]}},
            {
                "$rerank": {
                    "query": {"text": query},
                    "path": ["title", "content"],
                    "numDocsToRerank": len(keys),
                    "model": MODEL,
                }
            },
            {"$project": {"_id": 0, "source": 1, "chunk": 1, "score": {"$meta": "score"}}},
        ]

        async def ask() -> list[Document]:
            limit = max(1, int(seconds * _SERVER_SHARE * 1_000))
            return await (await searchable(self._db, KNOWLEDGE).aggregate(stages, maxTimeMS=limit)).to_list()

        try:
            async with asyncio.timeout(seconds):
                rows = await run_on_client_loop(ask)
        except (PyMongoError, TimeoutError) as error:
            raise self._explain(error) from error
        found = {(row["source"], row["chunk"]): float(row["score"]) for row in rows}
        if len(found) > 1 and len(set(found.values())) == 1:
            raise RerankError(
                "MongoDB finds all passages equally relevant",
                why="so it does when reranking is not set up for the project",
                hint="switch on Native Reranking in the project's settings, with a model API key",
            )
        return [found.get(key, -1.0) for key in keys]  # one that was removed meanwhile comes last

    @staticmethod
    def _explain(error: PyMongoError | TimeoutError) -> LkmongoError:
        if isinstance(error, OperationFailure) and error.code in NO_STAGE:
            hint = "unset LKMONGO_RERANK, or set it to voyage"
            return RerankError(
                "this MongoDB has no $rerank", why="it is in MongoDB 8.3 or later, on Atlas alone", hint=hint
            )
        return explain(error)


class RerankedSearch:
    """A strategy whose passages a model puts into a better order; memories are as they are found."""

    def __init__(
        self,
        inner: SearchStrategy,
        reranker: Reranker,
        *,
        deadline: float = deadlines.RERANK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Search with `inner`.

        Args:
            inner: finds the passages.
            reranker: tells how relevant they are.
            deadline: seconds for that.
            clock: the seconds by which it is asked again after a failure; tests pass their own.
        """
        self._inner = inner
        self._reranker = reranker
        self._deadline = deadline
        self._clock = clock
        self._paused_until = 0.0
        self._trouble = ""
        self._degradation_log = DegradationLog()

    async def warm(self) -> None:
        await self._inner.warm()
        with suppress(LkmongoError):  # it is reported when it is needed
            await self._reranker.warm()

    async def close(self) -> None:
        await self._inner.close()
        await self._reranker.close()

    async def memories(self, scope: UserScope, query: str, limit: int = 5) -> SearchResult[Fact]:
        """Search one person's slots. See `SearchStrategy.memories`."""
        return await self._inner.memories(scope, query, limit)

    async def knowledge(self, tenant: TenantScope, query: str, limit: int = 3) -> SearchResult[Passage]:
        """Search one tenant's passages, the most relevant first. See `SearchStrategy.knowledge`."""
        result = await self._inner.knowledge(tenant, query, max(limit, CANDIDATES))
        if len(result.hits) < 2:
            return result
        if self._clock() >= self._paused_until:
            self._trouble = ""
            try:
                result = await self._reranked(tenant, query, result)
            except LkmongoError as error:
                self._trouble = f"passages are in the order of the search: {error.message}"
                self._paused_until = self._clock() + (PAUSE if isinstance(error, PASSING) else REFUSED_PAUSE)
                logger.debug("not reranked: %s (%s)", error.message, error.why)
        self._degradation_log.note(KNOWLEDGE, self._trouble or None)
        notes = [note for note in (result.degraded, self._trouble) if note]
        return replace(result, hits=result.hits[:limit], degraded="; ".join(notes) or None)

    async def _reranked(self, tenant: TenantScope, query: str, result: SearchResult[Passage]) -> SearchResult[Passage]:
        scores = await self._reranker.relevance(tenant, query, [hit.item for hit in result.hits], self._deadline)
        hits = [replace(hit, score=score) for hit, score in zip(result.hits, scores, strict=True)]
        return replace(result, hits=sorted(hits, key=lambda hit: -hit.score))


def check_reranker(settings: Settings) -> None:
    """Raise SettingsError if what LKMONGO_RERANK needs is not set."""
    if settings.rerank == "voyage" and not settings.voyage_api_key:
        raise SettingsError(
            "LKMONGO_RERANK is voyage, but VOYAGE_API_KEY is not set",
            hint="set VOYAGE_API_KEY, or unset LKMONGO_RERANK",
        )
    if settings.rerank == "atlas" and not settings.mongodb_uri:
        raise SettingsError(
            "LKMONGO_RERANK is atlas, but MONGODB_URI is not set",
            why="the embedded MongoDB has no $rerank",
            hint="set MONGODB_URI, or unset LKMONGO_RERANK",
        )


def reranked(inner: SearchStrategy, settings: Settings, db: AsyncDatabase[Document]) -> SearchStrategy:
    """The strategy with the reranker that LKMONGO_RERANK names, or as it is. Raises as `check_reranker` does."""
    check_reranker(settings)
    if settings.rerank == "atlas":
        return RerankedSearch(inner, AtlasReranker(db))
    if settings.rerank == "voyage" and settings.voyage_api_key:
        key = settings.voyage_api_key.get_secret_value()
        return RerankedSearch(inner, VoyageReranker(key, settings.voyage_base_url))
    return inner
