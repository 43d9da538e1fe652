"""Who turns text into vectors, and whether that works."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from lkmongo.doctor.check import Finding, ok, skip, warn
from lkmongo.doctor.http import PATIENCE

if TYPE_CHECKING:
    from lkmongo.settings import Settings


async def embedder(settings: Settings) -> Finding:
    """Who turns text into vectors; the local model is loaded and used once.

    Raises:
        SettingsError: the key, the model, its dimensions or the address cannot be right.
        EmbeddingError: the local model is not installed.
    """
    from lkmongo.embed.choose import embedder_for

    chosen = embedder_for(settings)
    try:
        if settings.embedder_kind == "voyage":
            return ok(f"Voyage's {settings.embedding_model}, {chosen.dimensions} numbers a vector")
        await chosen.embed(["hello"], kind="query")
        return ok(f"on this machine: {chosen.model}, {chosen.dimensions} numbers a vector")
    finally:
        await chosen.close()


async def voyage(settings: Settings) -> Finding:
    """Whether Voyage takes the key and has the model: one word is embedded.

    Raises:
        AuthenticationError: the key was refused.
        EmbeddingError: anything else that Voyage answers, or that it does not answer.
    """
    from lkmongo.embed.choose import embedder_for
    from lkmongo.embed.errors import RateLimitedError

    if settings.embedder_kind == "local":
        unused = " is set, and LKMONGO_EMBEDDINGS=local" if settings.voyage_api_key else " is not set"
        return skip(f"VOYAGE_API_KEY{unused}: text is embedded on this machine")
    # The client takes up to 2 s to import: that is not the service's time.
    await asyncio.to_thread(importlib.import_module, "lkmongo.embed.voyage_answers")
    chosen = embedder_for(settings)
    try:
        await chosen.embed(["hello"], kind="query", deadline=PATIENCE)
    except RateLimitedError as error:
        return warn(f"the key is valid, and {error.message}", error.hint or "wait a minute", [error.why or ""])
    finally:
        await chosen.close()
    return ok(f"the key is valid for {settings.embedding_model}")
