"""Making the next vectors while the last ones are stored: neither the embedder nor MongoDB waits for the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


async def ahead(batches: AsyncIterator[NDArray[np.float32]]) -> AsyncGenerator[NDArray[np.float32], None]:
    """Yield what `Embedder.embed_many` yields, while it makes the next one, and no more than that.

    An error of its comes after everything before it was yielded. Use it within `contextlib.aclosing`: left early, it
    stops what is being made.
    """
    task = asyncio.create_task(_next(batches))
    try:
        while (batch := await task) is not None:
            task = asyncio.create_task(_next(batches))
            yield batch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _next(batches: AsyncIterator[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    return await anext(batches, None)
