"""Embeddings from Voyage over HTTP: fast for a turn, patient for a backfill.

The `voyageai` package implements the protocol, with three workarounds: it opens a TLS connection for every request
unless its context variable holds a session, so that is set around each call (tasks do not share it); it retries after
1 to 16 s and ignores Retry-After, so retries are made here; and it logs texts at level DEBUG, so its logger is kept at
WARNING.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from lkmongo.embed.base import (
    EmbeddingTimeoutError,
    FusionWeights,
    RateLimitedError,
    Similarity,
    TextKind,
    TransientEmbeddingError,
    UnreachableError,
    check_texts,
)
from lkmongo.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    import aiohttp
    import numpy as np
    from numpy.typing import NDArray

_ANY_DIMENSIONS = (256, 512, 1024, 2048)
_MILLION, _MEDIUM, _SMALL = 1_000_000, 320_000, 120_000


@dataclass(frozen=True, slots=True)
class VoyageModel:
    """A model: its possible dimensions, the tokens per request, and the embedding space of its vectors."""

    name: str
    dimensions: tuple[int, ...]
    request_tokens: int
    space: str

    @property
    def has_choice(self) -> bool:
        """Whether the dimensions can be chosen; older models refuse the parameter."""
        return len(self.dimensions) > 1


def _model(name: str, dimensions: tuple[int, ...], request_tokens: int, space: str | None = None) -> VoyageModel:
    return VoyageModel(name, dimensions, request_tokens, space or name)


_VOYAGE_4 = "voyage-4-family"
"""The three general models of the fourth generation share one embedding space, so that switching between them needs no
new vectors. (Voyage documentation, text embeddings.)"""

VOYAGE_MODELS = {
    model.name: model
    for model in (
        _model("voyage-4-large", _ANY_DIMENSIONS, _SMALL, _VOYAGE_4),
        _model("voyage-4", _ANY_DIMENSIONS, _MEDIUM, _VOYAGE_4),
        _model("voyage-4-lite", _ANY_DIMENSIONS, _MILLION, _VOYAGE_4),
        _model("voyage-code-4", _ANY_DIMENSIONS, _SMALL),
        _model("voyage-3.5", _ANY_DIMENSIONS, _MEDIUM),
        _model("voyage-3.5-lite", _ANY_DIMENSIONS, _MILLION),
        _model("voyage-3-large", _ANY_DIMENSIONS, _SMALL),
        _model("voyage-code-3", _ANY_DIMENSIONS, _SMALL),
        _model("voyage-3", (1024,), _SMALL),
        _model("voyage-3-lite", (512,), _SMALL),
        _model("voyage-multilingual-2", (1024,), _SMALL),
        _model("voyage-finance-2", (1024,), _SMALL),
        _model("voyage-law-2", (1024,), _SMALL),
    )
}


def check_model(name: str, dimensions: int) -> VoyageModel:
    """Return the model. Raises SettingsError if it is unknown or does not have these dimensions."""
    model = VOYAGE_MODELS.get(name)
    if model is None:
        near = get_close_matches(name, VOYAGE_MODELS, n=1)
        raise SettingsError(
            f"LKMONGO_EMBEDDING_MODEL: there is no Voyage model {name!r}",
            hint=(f"did you mean {near[0]}? " if near else "") + "known models: " + ", ".join(VOYAGE_MODELS),
        )
    if dimensions not in model.dimensions:
        allowed = ", ".join(map(str, model.dimensions))
        raise SettingsError(
            f"LKMONGO_EMBEDDING_DIMENSIONS: {name} does not have {dimensions} dimensions", hint=f"it has {allowed}"
        )
    return model


_REQUEST_TEXTS = 1000
_REQUEST_SECONDS = 30.0
"""The default deadline of a request."""
_FIRST_TRY_SHARE = 0.6
"""The share of a deadline for the first try, so that a hanging request leaves time for another."""
_FREE_TIER_TOKENS = 7_500
"""The size of requests after hitting a rate limit: without a payment method only 10,000 tokens a minute are allowed,
and a larger request would never succeed. (Voyage documentation, rate limits.)"""
_RATE_LIMIT_WAIT = 20.0
"""Seconds to wait without a Retry-After: three requests a minute are allowed without a payment method."""
_MAX_WAIT = 900.0
"""Seconds without progress after which bulk embedding gives up."""


class VoyageEmbedder:
    """Embeds with a Voyage model; belongs to the event loop that first awaits it, like its connections.

    The floor is a guess, not measured against the service, and deliberately low: the language model can ignore a weak
    hit, but never sees a hidden one.
    """

    weights = FusionWeights(vector=0.7, text=0.3)
    floor = 0.3
    similarity: Similarity = "cosine"

    def __init__(
        self,
        api_key: str,
        *,
        model: str = "voyage-4-lite",
        dimensions: int = 512,
        base_url: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make an embedder, without I/O.

        Args:
            api_key: a key of Voyage, or of Atlas (begins with "al-"), which has another default address.
            model: one of `VOYAGE_MODELS`.
            dimensions: of the vectors.
            base_url: overrides the default address, for example with a gateway's, including "/v1".
            sleep: for tests.

        Raises:
            SettingsError: the model, the dimensions, the key or the address is invalid.
        """
        self._model = check_model(model, dimensions)
        self._api_key = _check_key(api_key)
        self._base_url = _check_address(base_url)
        self._sleep = sleep
        self._client: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self.dimensions = dimensions
        self.model = f"{self._model.space}@{dimensions}"

    async def warm(self) -> None:
        """Import the client (up to 2 s), and open a connection. See `Embedder.warm`."""
        session = await self._open()
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        try:
            async with session.get(self._address(), timeout=timeout, allow_redirects=False) as response:
                await response.read()  # any answer will do; read completely, so that the connection can be reused
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnreachableError(why=str(error) or type(error).__name__) from error

    async def embed(
        self, texts: Sequence[str], *, kind: TextKind, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """Embed, with one quick retry of transient errors within the deadline. See `Embedder.embed`."""
        texts = check_texts(texts)
        end = time.monotonic() + (_REQUEST_SECONDS if deadline is None else deadline)
        parts = [await self._embed_with_retry(batch, kind, end) for batch in self._batches(texts)]
        import numpy as np

        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), dtype=np.float32)

    async def embed_many(
        self, texts: Sequence[str], *, on_wait: Callable[[float], None] | None = None
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Embed documents within the service's rate limits. See `Embedder.embed_many`.

        Raises:
            RateLimitedError, PassingError: nothing came for 15 minutes of waiting.
        """
        texts = check_texts(texts)
        done, waited, failures, tokens = 0, 0.0, 0, self._model.request_tokens
        while done < len(texts):
            batch = next(self._batches(texts[done:], tokens))
            try:
                vectors = await self._request(batch, "document", _REQUEST_SECONDS * 2)
            except (RateLimitedError, TransientEmbeddingError) as error:
                failures += 1
                if isinstance(error, RateLimitedError):
                    tokens = min(tokens, _FREE_TIER_TOKENS)
                    seconds = error.retry_after or _RATE_LIMIT_WAIT
                else:
                    seconds = min(2.0 ** (failures - 1), 30.0) * random.uniform(0.75, 1.25)  # noqa: S311
                if waited + seconds > _MAX_WAIT:
                    raise
                waited += seconds
                if on_wait is not None:
                    on_wait(seconds)
                await self._sleep(seconds)
            else:
                done, waited, failures = done + len(batch), 0.0, 0
                yield vectors

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _embed_with_retry(self, texts: list[str], kind: TextKind, end: float) -> NDArray[np.float32]:
        left = end - time.monotonic()
        try:
            return await self._request(texts, kind, left * _FIRST_TRY_SHARE)
        except TransientEmbeddingError:
            pause = random.uniform(0.02, 0.08)  # noqa: S311
            if (left := end - time.monotonic() - pause) <= 0:
                raise
        await self._sleep(pause)
        return await self._request(texts, kind, left)

    async def _request(self, texts: list[str], kind: TextKind, seconds: float) -> NDArray[np.float32]:
        """One attempt, limited to `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                session = await self._open()
                answer = await self._send(session, texts, kind)
        except TimeoutError as error:
            raise EmbeddingTimeoutError(f"Voyage did not answer within {max(seconds, 0):.1f} s") from error
        except Exception as error:
            from lkmongo.embed.voyage_answers import translate

            if (known := translate(error, self._model.name, self._api_key)) is None:
                raise
            raise known from error
        from lkmongo.embed.voyage_answers import read_answer

        return read_answer(answer.embeddings, len(texts), self.dimensions)

    async def _send(self, session: aiohttp.ClientSession, texts: list[str], kind: TextKind) -> Any:
        import voyageai

        token = voyageai.aiosession.set(session)
        try:
            return await self._client.embed(
                texts,
                model=self._model.name,
                input_type=kind,
                truncation=False,  # a silently truncated text would go unnoticed
                output_dimension=self.dimensions if self._model.has_choice else None,
            )
        finally:
            voyageai.aiosession.reset(token)

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(_make_client, self._api_key, self._base_url)
            if self._session is None:
                import aiohttp

                # Turns are 10 to 60 s apart, and aiohttp drops idle connections after 15.
                self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=75))
            return self._session

    def _address(self) -> str:
        if self._base_url is not None:
            return self._base_url
        from voyageai.util import get_default_base_url

        return str(get_default_base_url(self._api_key))

    def _batches(self, texts: Sequence[str], tokens: int | None = None) -> Iterator[list[str]]:
        """Split into requests; counts a token per three bytes of UTF-8, which overestimates."""
        budget = self._model.request_tokens if tokens is None else tokens
        batch: list[str] = []
        size = 0
        for text in texts:
            length = len(text.encode()) // 3 + 1
            if batch and (len(batch) == _REQUEST_TEXTS or size + length > budget):
                yield batch
                batch, size = [], 0
            batch.append(text)
            size += length
        if batch:
            yield batch


def _make_client(api_key: str, base_url: str | None) -> Any:
    """Import and build the client; in a thread, as that takes up to 2 s."""
    import voyageai

    import lkmongo.embed.voyage_answers  # noqa: F401 - else its import would block the loop

    logging.getLogger("voyage").setLevel(logging.WARNING)
    return voyageai.AsyncClient(  # type: ignore[attr-defined]  # re-exported without saying so
        api_key=api_key, base_url=base_url
    )


def _check_key(api_key: str) -> str:
    key = api_key.strip()
    if not key:
        raise SettingsError("VOYAGE_API_KEY is missing", hint="set it, or set LKMONGO_EMBEDDINGS=local")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError("VOYAGE_API_KEY holds a character that no key has", hint="copy the key again")
    return key


def _check_address(base_url: str | None) -> str | None:
    if not base_url:
        return None
    if not base_url.startswith(("http://", "https://")):
        raise SettingsError(
            "VOYAGE_BASE_URL must begin with https:// or http://", hint="for example https://ai.mongodb.com/v1"
        )
    return base_url.rstrip("/")
