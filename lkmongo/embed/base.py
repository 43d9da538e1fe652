"""What every embedder can do, why text could not be embedded, and a pipeline that embeds while storing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from lkmongo.errors import EmbeddingError, InvalidTextError
from lkmongo.model import clean_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray


class NotInstalledError(EmbeddingError):
    """What the chosen embedder needs is not installed."""

    code: ClassVar[str] = "embedding_not_installed"


class UnknownModelError(EmbeddingError):
    """The service does not have that model, or not with these dimensions."""

    code: ClassVar[str] = "embedding_model"


class WrongAddressError(EmbeddingError):
    """There is no embeddings service at this address."""

    code: ClassVar[str] = "embedding_address"


class TextTooLongError(EmbeddingError):
    """A text is longer than the model can read."""

    code: ClassVar[str] = "embedding_text_too_long"


class RateLimitedError(EmbeddingError):
    """The embedding service refuses more requests for now."""

    code: ClassVar[str] = "embedding_rate_limited"

    retry_after: float | None = None
    """Seconds, when the service said so."""


class TransientEmbeddingError(EmbeddingError):
    """The embedding service did not answer this time."""


class EmbeddingTimeoutError(TransientEmbeddingError):
    """The embedding service did not answer in time."""

    code: ClassVar[str] = "embedding_timeout"


class UnreachableError(TransientEmbeddingError):
    """The embedding service cannot be reached."""

    code: ClassVar[str] = "embedding_unreachable"


class OverloadedError(TransientEmbeddingError):
    """The embedding service is overloaded or down."""

    code: ClassVar[str] = "embedding_overloaded"


TextKind = Literal["document", "query"]
Similarity = Literal["cosine", "dotProduct"]
"""How an index compares two vectors; of unit length they score (1 + product) / 2 either way."""


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """How much each branch counts; only their ratio matters for the order.

    Raises:
        ValueError: a weight is negative or not a number, or both are zero.
    """

    vector: float
    text: float

    def __post_init__(self) -> None:
        """Refuse what the server would refuse."""
        check_weights({"vector": self.vector, "text": self.text})
        if not self.vector + self.text > 0:
            raise ValueError("one of the two weights must be above 0")

    def by_branch(self) -> dict[str, float]:
        """The weights under the names of the branches, as `fuse` and `$rankFusion` take them."""
        return {"vector": self.vector, "text": self.text}


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that the server would refuse, with a ValueError."""
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of {name!r} must be a number from 0 up, not {weight!r}")


class Embedder(Protocol):
    """Turns text into vectors of unit length, so that a product of two is their cosine."""

    @property
    def model(self) -> str:
        """Recorded with every vector; two vectors may be compared only when it is the same."""
        ...

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        ...

    @property
    def weights(self) -> FusionWeights:
        """How much this model's vectors count beside words."""
        ...

    @property
    def similarity(self) -> Similarity:
        """How an index shall compare this model's vectors."""
        ...

    @property
    def floor(self) -> float:
        """The cosine below which two texts have nothing to do with each other."""
        ...

    async def warm(self) -> None:
        """Load what the first call needs, so that no turn waits for it.

        Raises:
            EmbeddingError: it is not installed or cannot be reached.
        """
        ...

    async def embed(
        self, texts: Sequence[str], *, kind: TextKind, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """Embed a few texts while somebody waits; fails rather than keeps them waiting.

        Args:
            texts: none of them empty.
            kind: what the texts are: what is stored, or what is asked.
            deadline: seconds from now within which the answer or an error comes; None for the embedder's own.

        Returns:
            Shape (len(texts), dimensions), rows of unit length, in the order of the texts.

        Raises:
            InvalidTextError: a text is empty.
            EmbeddingError: with a subclass for each cause that calls for something else to be done.
            AuthenticationError: the key was refused.
        """
        ...

    def embed_many(
        self, texts: Sequence[str], *, on_wait: Callable[[float], None] | None = None
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Embed documents in bulk, patiently: a rate limit is waited for, a passing failure tried again.

        Args:
            texts: none of them empty.
            on_wait: called with the seconds before each wait.

        Yields:
            The vectors of the next texts, shape (m, dimensions), until every text had its turn: what has been
            yielded can be stored before the rest is done.

        Raises:
            InvalidTextError, EmbeddingError, AuthenticationError: as `embed` does.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return texts that can be embedded: lone surrogates replaced, none empty.

    Raises:
        InvalidTextError: a text is empty; the place is named from 0.
    """
    cleaned = [clean_text(text) for text in texts]
    for place, text in enumerate(cleaned):
        if not text.strip():
            raise InvalidTextError(f"there is nothing to embed: text {place} of {len(texts)} is empty")
    return cleaned


async def prefetch(batches: AsyncIterator[NDArray[np.float32]]) -> AsyncGenerator[NDArray[np.float32], None]:
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
