"""Making the embedder that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lkmongo.embed.cache import CachedEmbedder
from lkmongo.errors import SettingsError

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder
    from lkmongo.settings import Settings


def create_embedder(
    kind: Literal["voyage", "local"],
    *,
    voyage_key: str | None = None,
    voyage_base_url: str | None = None,
    model: str = "voyage-4-lite",
    dimensions: int = 512,
) -> Embedder:
    """Make an embedder with a cache for questions; nothing is loaded or sent yet.

    Args:
        kind: whose model; for "local" the other arguments mean nothing.
        voyage_key: the API key.
        voyage_base_url: another address than the key's own.
        model: the Voyage model.
        dimensions: how long its vectors shall be.

    Raises:
        SettingsError: the key is missing, or the model, the dimensions or the address cannot be right.
    """
    if kind == "local":
        from lkmongo.embed.local import LocalEmbedder

        return CachedEmbedder(LocalEmbedder())
    if not voyage_key:
        raise SettingsError(
            "VOYAGE_API_KEY is missing", hint="set it, or set LKMONGO_EMBEDDINGS=local to embed on this machine"
        )
    from lkmongo.embed.voyage import VoyageEmbedder

    return CachedEmbedder(VoyageEmbedder(voyage_key, model=model, dimensions=dimensions, base_url=voyage_base_url))


def embedder_for(settings: Settings) -> Embedder:
    """Make the embedder that the settings name. Raises as `create_embedder` does."""
    return create_embedder(
        settings.embedder_kind,
        voyage_key=settings.voyage_api_key.get_secret_value() if settings.voyage_api_key else None,
        voyage_base_url=settings.voyage_base_url,
        model=settings.embedding_model,
        dimensions=settings.embedding_dimensions,
    )
