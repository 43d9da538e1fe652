"""Chooses the embedder by the settings, and caches the embeddings of recent queries.

Speculation embeds a query before the turn is over, and the tool embeds it again: the second time should cost nothing.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from lkmongo.embed.base import EmbeddingTimeoutError
from lkmongo.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder, TextKind
    from lkmongo.embed.openai import OpenAIEmbedder
    from lkmongo.settings import Settings

_Key = tuple[str, str, str]


class CachedEmbedder:
    """An embedder with a cache for queries; documents pass through."""

    def __init__(self, inner: Embedder, size: int = 512) -> None:
        """Wrap `inner`; at most `size` vectors are kept (2 KB each at 512 dimensions)."""
        self._inner = inner
        self._size = size
        self._known: OrderedDict[_Key, NDArray[np.float32]] = OrderedDict()
        self._underway: dict[_Key, asyncio.Task[NDArray[np.float32]]] = {}
        self.model = inner.model
        self.dimensions = inner.dimensions
        self.weights = inner.weights
        self.similarity = inner.similarity
        self.floor = inner.floor
        self.together = inner.together

    async def warm(self) -> None:
        await self._inner.warm()

    async def embed(
        self, texts: Sequence[str], *, kind: TextKind, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """Embed; a single query is cached. The returned array is shared and read-only."""
        if kind != "query" or len(texts) != 1:
            return await self._inner.embed(texts, kind=kind, deadline=deadline)
        key = (self._inner.model, kind, _normalised(texts[0]))
        if (vector := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return vector
        task = self._underway.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, texts[0], deadline))
            self._underway[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        try:
            # Shielded: the first caller may be cancelled while another waits for the same vector.
            async with asyncio.timeout(deadline):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise EmbeddingTimeoutError from error

    def embed_many(
        self,
        texts: Sequence[str],
        *,
        documents: Sequence[int] | None = None,
        on_wait: Callable[[float], None] | None = None,
    ) -> AsyncIterator[NDArray[np.float32]]:
        return self._inner.embed_many(texts, documents=documents, on_wait=on_wait)

    async def close(self) -> None:
        """Cancel what is under way, and close the wrapped embedder."""
        tasks = list(self._underway.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._inner.close()

    async def _fetch(self, key: _Key, text: str, deadline: float | None) -> NDArray[np.float32]:
        vector = await self._inner.embed([text], kind="query", deadline=deadline)
        vector.flags.writeable = False
        self._known[key] = vector
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return vector

    def _forget(self, key: _Key, task: asyncio.Task[NDArray[np.float32]]) -> None:
        del self._underway[key]
        if not task.cancelled():
            task.exception()  # retrieved, else asyncio would warn if nobody waits any more


def _normalised(text: str) -> str:
    """The cache key of a query: speech recognition varies case and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(" .!?\u3002\uff1f")


def create_embedder(
    kind: Literal["voyage", "local", "atlas"],
    *,
    voyage_key: str | None = None,
    voyage_base_url: str | None = None,
    model: str | None = None,
    dimensions: int | None = None,
) -> Embedder:
    """Make an embedder with a cache for queries, without I/O.

    Args:
        kind: for "local" the other arguments are ignored; for "atlas", where MongoDB embeds, those of the API.
        voyage_key: the API key.
        voyage_base_url: overrides the default address of the key.
        model: the Voyage model, by default `voyage.MODEL`.
        dimensions: of its vectors, by default `voyage.DIMENSIONS`, or those that the model has.

    Raises:
        SettingsError: the key is missing, or the model, the dimensions or the address is invalid.
    """
    if kind == "local":
        from lkmongo.embed.local import LocalEmbedder

        return CachedEmbedder(LocalEmbedder())
    if kind == "atlas":
        from lkmongo.embed.atlas import AtlasEmbedder

        return AtlasEmbedder(model=model, dimensions=dimensions)
    if not voyage_key:
        raise SettingsError(
            "VOYAGE_API_KEY is missing", hint="set it, or set LKMONGO_EMBEDDINGS=local to embed on this machine"
        )
    from lkmongo.embed.voyage import MODEL, VoyageEmbedder

    embedder = VoyageEmbedder(voyage_key, model=model or MODEL, dimensions=dimensions, base_url=voyage_base_url)
    return CachedEmbedder(embedder)


@asynccontextmanager
async def open_embedder(settings: Settings) -> AsyncIterator[Embedder]:
    """Yield the embedder that the settings name, and close it at the end. Raises as `create_embedder` does."""
    embedder = embedder_for(settings)
    try:
        yield embedder
    finally:
        await embedder.close()


def embedder_for(settings: Settings) -> Embedder:
    """Make the embedder that the settings name. Raises as `create_embedder` does."""
    if settings.embedding_api_key and not (settings.embedding_base_url or settings.embeddings):
        raise SettingsError(
            "LKMONGO_EMBEDDING_API_KEY is set, but LKMONGO_EMBEDDING_BASE_URL is not",
            why="which server the key is for is not known, and text would be embedded otherwise",
            hint="set LKMONGO_EMBEDDING_BASE_URL: https://api.openai.com/v1 for OpenAI; or unset the key",
        )
    kind = settings.embedder_kind
    if kind == "openai":
        return CachedEmbedder(openai_embedder(settings))
    return create_embedder(
        kind,
        voyage_key=settings.voyage_api_key.get_secret_value() if settings.voyage_api_key else None,
        voyage_base_url=settings.voyage_base_url,
        model=settings.embedding_model,
        dimensions=settings.embedding_dimensions,
    )


def openai_embedder(settings: Settings, dimensions: int | None = None) -> OpenAIEmbedder:
    """Make the embedder of LKMONGO_EMBEDDING_BASE_URL; `dimensions` where the settings name none.

    Raises:
        SettingsError: the address or the model is missing, or the key cannot be one.
        UnknownDimensionsError: the dimensions are not known.
    """
    from lkmongo.embed.openai import OpenAIEmbedder

    if not settings.embedding_base_url:
        raise SettingsError(
            "LKMONGO_EMBEDDINGS is openai, but LKMONGO_EMBEDDING_BASE_URL is not set",
            hint="set it to the server's address: http://localhost:11434/v1 for Ollama, https://api.openai.com/v1",
        )
    if not settings.embedding_model:
        raise SettingsError(
            "LKMONGO_EMBEDDING_MODEL is not set",
            why=f"the server at {settings.embedding_base_url} may have several models",
            hint="set it to the model's name there, such as nomic-embed-text or text-embedding-3-small",
        )
    key = settings.embedding_api_key
    return OpenAIEmbedder(
        settings.embedding_base_url,
        model=settings.embedding_model,
        dimensions=settings.embedding_dimensions or dimensions,
        api_key=key.get_secret_value() if key else "",
        query_prefix=settings.embedding_query_prefix,
        document_prefix=settings.embedding_document_prefix,
    )
