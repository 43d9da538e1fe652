"""Questions that were embedded lately are not sent again, and the same question twice at once is sent once.

Speculation asks before the turn is over and the tool asks again; the second should cost nothing.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections import OrderedDict
from typing import TYPE_CHECKING

from lkmongo.embed.errors import EmbeddingTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder, Kind, Similarity
    from lkmongo.search.fusion import FusionWeights

_Key = tuple[str, str, str]


class CachedEmbedder:
    """An embedder that remembers the vectors of the last questions; documents pass through."""

    def __init__(self, inner: Embedder, size: int = 512) -> None:
        """Wrap `inner`; at most `size` vectors are kept (2 KB each at 512 dimensions)."""
        self._inner = inner
        self._size = size
        self._known: OrderedDict[_Key, NDArray[np.float32]] = OrderedDict()
        self._underway: dict[_Key, asyncio.Task[NDArray[np.float32]]] = {}

    @property
    def model(self) -> str:
        """The wrapped embedder's."""
        return self._inner.model

    @property
    def dimensions(self) -> int:
        """The wrapped embedder's."""
        return self._inner.dimensions

    @property
    def weights(self) -> FusionWeights:
        """The wrapped embedder's."""
        return self._inner.weights

    @property
    def similarity(self) -> Similarity:
        """The wrapped embedder's."""
        return self._inner.similarity

    @property
    def floor(self) -> float:
        """The wrapped embedder's."""
        return self._inner.floor

    async def warm(self) -> None:
        """Warm the wrapped embedder."""
        await self._inner.warm()

    async def embed(self, texts: Sequence[str], *, kind: Kind, deadline: float | None = None) -> NDArray[np.float32]:
        """Embed; a single question is looked up first. The array is shared: it cannot be written to."""
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
            # Shielded: whoever asked first may be cancelled while another waits for the same answer.
            async with asyncio.timeout(deadline):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise EmbeddingTimeoutError from error

    def embed_many(
        self, texts: Sequence[str], *, on_wait: Callable[[float], None] | None = None
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Pass documents through."""
        return self._inner.embed_many(texts, on_wait=on_wait)

    async def close(self) -> None:
        """End what is underway and close the wrapped embedder."""
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
            task.exception()  # looked at, lest asyncio complain when everybody who asked has gone


def _normalised(text: str) -> str:
    """The same question however it was written: recognisers change their mind on case and punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(" .!?\u3002\uff1f")
