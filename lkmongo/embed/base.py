"""What every embedder can do, so that nothing else needs to know which one is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from lkmongo.errors import InvalidTextError
from lkmongo.model import clean_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.search.fusion import FusionWeights

Kind = Literal["document", "query"]
Similarity = Literal["cosine", "dotProduct"]
"""How an index compares two vectors; of unit length they score (1 + product) / 2 either way."""


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

    async def embed(self, texts: Sequence[str], *, kind: Kind, deadline: float | None = None) -> NDArray[np.float32]:
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
