"""Embedding by MongoDB itself: the search index makes vectors of the text that is stored, and of the text searched for.

What stands where other embedders store a vector is the text to embed, `embedding: "favorite_color: teal"`, and the
index that covers that path is of type `autoEmbed`. Nothing here has a vector: what compares vectors in this process, or
without a search index, compares words.

The form of the index field, its options and models are from the documentation of MongoDB Vector Search, "Automated
Embedding", and from the schema and the parser of MongoDB's search engine (mongot).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lkmongo.embed.base import TextKind, check_texts, in_batches
from lkmongo.embed.voyage import MODEL, VoyageEmbedder, check_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

_BATCH = 500


class AtlasEmbedder:
    """Vectors of no numbers, for texts that MongoDB embeds with a Voyage model.

    Vectors are searched with the weights and the floor of the same models when they are asked directly.
    """

    model = "atlas"
    """Whatever the model of the index, since all of them embed the same text."""
    dimensions = 0
    weights = VoyageEmbedder.weights
    floor = VoyageEmbedder.floor
    similarity = VoyageEmbedder.similarity
    together = False

    def __init__(self, *, model: str | None = None, dimensions: int | None = None) -> None:
        """Name the model that MongoDB uses, and the dimensions of its vectors there; by default as for Voyage.

        Raises:
            SettingsError: Voyage has no such model, or not with these dimensions.
        """
        chosen = check_model(model or MODEL, dimensions)
        self.server_model = chosen.name
        self.server_dimensions = dimensions or chosen.default

    @property
    def description(self) -> str:
        """What makes the vectors, for display."""
        return f"MongoDB embeds by itself: {self.server_model}, {self.server_dimensions} numbers a vector"

    @property
    def index_field(self) -> dict[str, Any]:
        """The field of a search index, without its path."""
        return {
            "type": "autoEmbed",
            "modality": "text",
            "model": self.server_model,
            "numDimensions": self.server_dimensions,
            "similarity": self.similarity,
        }

    async def warm(self) -> None:
        """Nothing: there is no model here."""

    async def embed(
        self,
        texts: Sequence[str],
        *,
        kind: TextKind,  # noqa: ARG002
        deadline: float | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Rows without numbers, shape (len(texts), 0). See `Embedder.embed`."""
        import numpy as np

        return np.zeros((len(check_texts(texts)), 0), dtype=np.float32)

    def embed_many(
        self,
        texts: Sequence[str],
        *,
        documents: Sequence[int] | None = None,  # noqa: ARG002
        on_wait: Callable[[float], None] | None = None,  # noqa: ARG002
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Rows without numbers, 500 at a time. See `Embedder.embed_many`."""
        return in_batches(self, texts, _BATCH)

    async def close(self) -> None:
        """Nothing is open."""
