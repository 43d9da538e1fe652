"""Translates the errors of Voyage's client."""

from __future__ import annotations

from typing import Any

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
from lkmongo.embed.remote import no_answer, retry_after
from lkmongo.errors import AuthenticationError, EmbeddingError, LkmongoError

_KEY_HINT = (
    "check VOYAGE_API_KEY; a key made in Atlas begins with al- and is for https://ai.mongodb.com/v1, "
    "any other for https://api.voyageai.com/v1"
)


def translate(error: Exception, model: str, api_key: str) -> LkmongoError | None:
    """Translate the client's error, or return None if it is not about the service.

    The service's message becomes the `why`, without the key in case it is echoed.
    """
    why = str(error).replace(api_key, "***")[:300] or type(error).__name__
    if isinstance(error, voyage_error.VoyageError):
        return _translate_answer(error, model, why)
    return no_answer(error, why, "VOYAGE_BASE_URL")


def _translate_answer(error: Any, model: str, why: str) -> LkmongoError:
    status = error.http_status
    pause = retry_after(error.headers.get("retry-after"))
    if status in {401, 403} or isinstance(error, voyage_error.AuthenticationError):
        return AuthenticationError("Voyage refused the API key", why=why, hint=_KEY_HINT)
    if status == 429:
        limited = RateLimitedError(
            "Voyage refuses more requests for now",
            why=why,
            hint="without a payment method an account has 3 requests and 10,000 tokens a minute; wait, or add one",
        )
        limited.retry_after = pause
        return limited
    if isinstance(error, voyage_error.Timeout):
        return EmbeddingTimeoutError(why=why)
    if isinstance(error, voyage_error.APIConnectionError):
        return UnreachableError(why=str(error.__cause__ or error), hint="check the network, and VOYAGE_BASE_URL if set")
    if status is not None and status >= 500:
        overloaded = OverloadedError(f"Voyage answered {status}: it is overloaded or down", why=why)
        overloaded.retry_after = pause
        return overloaded
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
