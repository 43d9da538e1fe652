"""Why text could not be embedded, one class for each cause that calls for something else to be done."""

from __future__ import annotations

from typing import ClassVar

from lkmongo.errors import EmbeddingError


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


class PassingError(EmbeddingError):
    """The embedding service did not answer this time."""


class EmbeddingTimeoutError(PassingError):
    """The embedding service did not answer in time."""

    code: ClassVar[str] = "embedding_timeout"


class UnreachableError(PassingError):
    """The embedding service cannot be reached."""

    code: ClassVar[str] = "embedding_unreachable"


class OverloadedError(PassingError):
    """The embedding service is overloaded or down."""

    code: ClassVar[str] = "embedding_overloaded"
