"""Validates Voyage's answers, and translates its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
from voyageai import error as voyage_error

from lkmongo.embed.base import (
    EmbeddingTimeoutError,
    OverloadedError,
    RateLimitedError,
    TextTooLongError,
    UnknownModelError,
    UnreachableError,
    WrongAddressError,
)
from lkmongo.errors import AuthenticationError, EmbeddingError, LkmongoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_KEY_HINT = (
    "check VOYAGE_API_KEY; a key made in Atlas begins with al- and is for https://ai.mongodb.com/v1, "
    "any other for https://api.voyageai.com/v1"
)


def read_answer(embeddings: Sequence[Sequence[float]], count: int, dimensions: int) -> NDArray[np.float32]:
    """Return the vectors as rows of unit length, shape (count, dimensions). Raises EmbeddingError."""
    if len(embeddings) != count:
        raise EmbeddingError(f"the embedding service sent {len(embeddings)} vectors for {count} texts")
    lengths = {len(vector) for vector in embeddings}
    if lengths != {dimensions}:
        raise UnknownModelError(
            f"the embedding service sends vectors of {', '.join(map(str, sorted(lengths)))} numbers, not {dimensions}",
            hint="check LKMONGO_EMBEDDING_DIMENSIONS, and VOYAGE_BASE_URL if it is set",
        )
    vectors = np.array(embeddings, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
        raise EmbeddingError("the embedding service sent a vector that is zero or not a number")
    unit: NDArray[np.float32] = vectors / norms
    return unit


def translate(error: Exception, model: str, api_key: str) -> LkmongoError | None:
    """Translate the client's error, or return None if it is not about the service.

    The service's message becomes the `why`, without the key in case it is echoed.
    """
    why = str(error).replace(api_key, "***")[:300] or type(error).__name__
    if isinstance(error, voyage_error.VoyageError):
        return _translate_answer(error, model, why)
    if isinstance(error, TimeoutError):
        return EmbeddingTimeoutError(why=why)
    if isinstance(error, aiohttp.ClientError | OSError):
        return UnreachableError(why=why)
    if isinstance(error, AttributeError | LookupError | TypeError | ValueError):
        # The client does not validate an answer with status 200, such as a gateway's start page.
        return EmbeddingError(
            "the embedding service sent something other than vectors",
            why=why,
            hint="check VOYAGE_BASE_URL if it is set",
        )
    return None


def _translate_answer(error: Any, model: str, why: str) -> LkmongoError:
    status = error.http_status
    if status in {401, 403} or isinstance(error, voyage_error.AuthenticationError):
        return AuthenticationError("Voyage refused the API key", why=why, hint=_KEY_HINT)
    if status == 429:
        limited = RateLimitedError(
            "Voyage refuses more requests for now",
            why=why,
            hint="without a payment method an account has 3 requests and 10,000 tokens a minute; wait, or add one",
        )
        limited.retry_after = _seconds(error.headers)
        return limited
    if isinstance(error, voyage_error.Timeout):
        return EmbeddingTimeoutError(why=why)
    if isinstance(error, voyage_error.APIConnectionError):
        return UnreachableError(why=str(error.__cause__ or error), hint="check the network, and VOYAGE_BASE_URL if set")
    if status is not None and status >= 500:
        return OverloadedError(f"Voyage answered {status}: it is overloaded or down", why=why)
    return _translate_refusal(status, model, why)


def _translate_refusal(status: int | None, model: str, why: str) -> EmbeddingError:
    sentence = why.lower()
    if status == 410 or (status == 400 and "model" in sentence and ("support" in sentence or "retired" in sentence)):
        return UnknownModelError(
            f"Voyage does not have the model {model} (any more)", why=why, hint="set LKMONGO_EMBEDDING_MODEL"
        )
    if status == 400 and "dimension" in sentence:
        return UnknownModelError(
            f"Voyage refuses this number of dimensions for {model}", why=why, hint="set LKMONGO_EMBEDDING_DIMENSIONS"
        )
    if status == 400 and "token" in sentence:
        return TextTooLongError(f"a text is too long for {model}", why=why, hint="cut it into shorter passages")
    if status == 404:
        return WrongAddressError(why=why, hint="check VOYAGE_BASE_URL; it ends in /v1")
    return EmbeddingError(f"Voyage answered {status if status is not None else 'nonsense'}", why=why)


def _seconds(headers: Any) -> float | None:
    """Retry-After in seconds, None if it is absent or a date."""
    try:
        return max(0.0, float(headers.get("retry-after")))
    except (TypeError, ValueError):
        return None
