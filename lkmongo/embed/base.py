"""The interface of embedders, their errors, and prefetching for bulk embedding."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from lkmongo.errors import EmbeddingError, InvalidTextError, SettingsError
from lkmongo.model import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray


class NotInstalledError(EmbeddingError):
    """What the embedder needs is not installed."""

    code: ClassVar[str] = "embedding_not_installed"


class UnknownDimensionsError(SettingsError):
    """How long the vectors of a model are is neither set nor known."""


class UnknownModelError(EmbeddingError):
    """The service does not have that model, or not with these dimensions."""

    code: ClassVar[str] = "embedding_model"


class WrongAddressError(EmbeddingError):
    """There is no embeddings service at this address."""

    code: ClassVar[str] = "embedding_address"


class TextTooLongError(EmbeddingError):
    """A text is longer than the model can read."""

    code: ClassVar[str] = "embedding_text_too_long"


class RequestTooLargeError(EmbeddingError):
    """The embedding service refuses so many texts in one request."""

    code: ClassVar[str] = "embedding_request_too_large"


class RateLimitedError(EmbeddingError):
    """The embedding service refuses more requests for now."""

    code: ClassVar[str] = "embedding_rate_limited"

    retry_after: float | None = None
    """Seconds, from the Retry-After header."""


class TransientEmbeddingError(EmbeddingError):
    """The embedding service did not answer this time."""

    retry_after: float | None = None
    """Seconds, from the Retry-After header."""


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
"""How an index compares vectors; those of unit length score (1 + product) / 2 either way."""


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """The weights of the branches; only their ratio matters for the order. Raises ValueError."""

    vector: float
    text: float

    def __post_init__(self) -> None:
        check_weights({"vector": self.vector, "text": self.text})
        if not self.vector + self.text > 0:
            raise ValueError("one of the two weights must be above 0")

    def by_branch(self) -> dict[str, float]:
        return {"vector": self.vector, "text": self.text}


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise ValueError for weights that the server would refuse."""
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of {name!r} must be a number from 0 up, not {weight!r}")


class Embedder(Protocol):
    """Turns text into vectors of unit length, so that the product of two is their cosine."""

    @property
    def model(self) -> str:
        """Stored with every vector; only vectors of the same model may be compared."""

    @property
    def dimensions(self) -> int:
        """Numbers of a vector; 0 if MongoDB makes the vectors, of the text that is stored in their place (`stored`).

        Such an embedder's vectors have shape (0,), and count as none where vectors are compared.
        """

    @property
    def weights(self) -> FusionWeights:
        """The weight of this model's vectors relative to words: by scores in exact search, by ranks in Atlas."""

    @property
    def similarity(self) -> Similarity:
        """How an index compares this model's vectors."""

    @property
    def floor(self) -> float:
        """The cosine below which two texts are unrelated."""

    @property
    def together(self) -> bool:
        """Whether a passage's vector depends on the other passages of its document."""

    async def warm(self) -> None:
        """Load what the first call needs, so that no turn waits for it. Raises EmbeddingError."""

    async def embed(
        self, texts: Sequence[str], *, kind: TextKind, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """Embed a few texts during a turn, within a deadline.

        Args:
            texts: none of them empty.
            kind: documents to store, or queries.
            deadline: seconds; None for the embedder's default.

        Returns:
            Shape (len(texts), dimensions), rows of unit length, in the order of the texts.

        Raises:
            InvalidTextError: a text is empty.
            EmbeddingError: see its subclasses for the causes.
            AuthenticationError: the key was refused.
        """

    def embed_many(
        self,
        texts: Sequence[str],
        *,
        documents: Sequence[int] | None = None,
        on_wait: Callable[[float], None] | None = None,
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Embed documents in bulk; waits for rate limits and retries transient errors.

        Args:
            texts: none of them empty.
            documents: how many of the texts are each document's passages, in their order; each text is a document of
                its own by default. It only matters to an embedder that embeds them `together`.
            on_wait: called with the seconds before each wait.

        Yields:
            The vectors of the next m texts, shape (m, dimensions), as soon as they are made.

        Raises:
            InvalidTextError, EmbeddingError, AuthenticationError: as `embed` does; TextTooLongError after the vectors
                of all texts before the one that is.
        """

    async def close(self) -> None:
        """Let go of connections."""


def check_texts(texts: Sequence[str]) -> list[str]:
    """Replace lone surrogates. Raises InvalidTextError if a text is empty; its position counts from 0."""
    cleaned = [clean_text(text) for text in texts]
    for place, text in enumerate(cleaned):
        if not text.strip():
            raise InvalidTextError(f"there is nothing to embed: text {place} of {len(texts)} is empty")
    return cleaned


async def in_batches(embedder: Embedder, texts: Sequence[str], size: int) -> AsyncGenerator[NDArray[np.float32], None]:
    """`Embedder.embed_many` by `Embedder.embed`, for an embedder that takes any number of texts at once."""
    texts = check_texts(texts)
    for start in range(0, len(texts), size):
        yield await embedder.embed(texts[start : start + size], kind="document")


async def prefetch(batches: AsyncIterator[NDArray[np.float32]]) -> AsyncGenerator[NDArray[np.float32], None]:
    """Yield the batches of `Embedder.embed_many` while the next one is being made.

    An error is raised after all batches before it were yielded. Use it within `contextlib.aclosing`, so that leaving
    early cancels the next batch.
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
