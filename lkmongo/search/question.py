"""What is asked, and its vector: made once, in the background, for every strategy that tries to answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from lkmongo.errors import LkmongoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder

EMBED_DEADLINE = 1.0
"""Seconds a search waits for the question's vector before it goes by words alone."""


class Question:
    """A query whose embedding is under way; use it as an async context manager, which ends what is left of it."""

    def __init__(self, text: str, embedder: Embedder, deadline: float = EMBED_DEADLINE) -> None:
        """Begin to embed `text`; give up `deadline` seconds from now. Needs a running event loop."""
        self.text = text
        self._embedder = embedder
        self._deadline = deadline
        self._task = asyncio.create_task(self._embed())

    async def __aenter__(self) -> Self:
        """Nothing: it began already."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop embedding; nobody waits for it any more."""
        if not self._task.cancel() and not self._task.cancelled():
            self._task.exception()  # looked at, lest asyncio complain of one that nobody was left to hear

    async def vector(self) -> tuple[NDArray[np.float32] | None, str | None]:
        """The vector, of unit length and shape (d,), or None and why there is none. Ask as often as you like."""
        return await asyncio.shield(self._task)

    async def _embed(self) -> tuple[NDArray[np.float32] | None, str | None]:
        try:
            async with asyncio.timeout(self._deadline):
                vectors = await self._embedder.embed([self.text], kind="query", deadline=self._deadline)
        except TimeoutError:
            return None, f"searched by words alone: no vector within {self._deadline:g} s"
        except LkmongoError as error:
            return None, f"searched by words alone: {error.message}"
        return vectors[0], None
