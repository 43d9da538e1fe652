"""Embeddings from Voyage over HTTP.

The `voyageai` package implements the protocol, with three workarounds: it opens a TLS connection for every request
unless its context variable holds a session, so that is set around each call (tasks do not share it); it retries after
1 to 16 s and ignores Retry-After, so retries are made here; and it logs texts at level DEBUG, so its logger is kept at
WARNING.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import TYPE_CHECKING, Any

from lkmongo.embed.base import (
    EmbeddingTimeoutError,
    FusionWeights,
    OverloadedError,
    RateLimitedError,
    TextKind,
    TextTooLongError,
    UnknownModelError,
    UnreachableError,
    WrongAddressError,
)
from lkmongo.embed.remote import (
    Connections,
    RemoteEmbedder,
    Sleep,
    check_key,
    no_answer,
    retry_after,
    unit_rows,
    within,
)
from lkmongo.errors import AuthenticationError, EmbeddingError, LkmongoError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy as np
    from numpy.typing import NDArray

MODEL, DIMENSIONS = "voyage-4-lite", 512
"""By default; 512 numbers are half of Voyage's own default, and of what is stored."""
_ANY_DIMENSIONS = (256, 512, 1024, 2048)
_MILLION, _MEDIUM, _SMALL = 1_000_000, 320_000, 120_000
_WINDOW = 32_000
"""What a document, and a request, of a model with context may have: the documentation names 32,000 tokens for passages
that are cut by the client, beside 120,000 in another place. (Voyage documentation, contextualized chunk embeddings.)"""


@dataclass(frozen=True, slots=True)
class VoyageModel:
    """A model: its possible dimensions, the tokens per request, and the embedding space of its vectors.

    One with context embeds the passages of a document together, within as many tokens, and not by the endpoint of the
    others.
    """

    name: str
    dimensions: tuple[int, ...]
    request_tokens: int
    space: str
    context: bool = False

    @property
    def has_choice(self) -> bool:
        """Whether the dimensions can be chosen; older models refuse the parameter."""
        return len(self.dimensions) > 1

    @property
    def default(self) -> int:
        return DIMENSIONS if DIMENSIONS in self.dimensions else self.dimensions[0]


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
        VoyageModel("voyage-context-4", _ANY_DIMENSIONS, _WINDOW, "voyage-context-4", context=True),
        VoyageModel("voyage-context-3", _ANY_DIMENSIONS, _WINDOW, "voyage-context-3", context=True),
    )
}


def check_model(name: str, dimensions: int | None) -> VoyageModel:
    """Return the model. Raises SettingsError if it is unknown or does not have these dimensions."""
    model = VOYAGE_MODELS.get(name)
    if model is None:
        near = get_close_matches(name, VOYAGE_MODELS, n=1)
        raise SettingsError(
            f"LKMONGO_EMBEDDING_MODEL: there is no Voyage model {name!r}",
            hint=(f"did you mean {near[0]}? " if near else "") + "known models: " + ", ".join(VOYAGE_MODELS),
        )
    if dimensions is not None and dimensions not in model.dimensions:
        allowed = ", ".join(map(str, model.dimensions))
        raise SettingsError(
            f"LKMONGO_EMBEDDING_DIMENSIONS: {name} does not have {dimensions} dimensions", hint=f"it has {allowed}"
        )
    return model


_FREE_TIER_TOKENS = 7_500
"""The size of requests after hitting a rate limit: without a payment method only 10,000 tokens a minute are allowed,
and a larger request would never succeed. (Voyage documentation, rate limits.)"""


class VoyageApi:
    """Voyage's HTTP API for one key; belongs to the event loop that first awaits it, like its connections."""

    def __init__(self, api_key: str, base_url: str | None = None) -> None:
        """Connect to nothing yet.

        Args:
            api_key: a key of Voyage, or of Atlas (begins with "al-"), which has another default address.
            base_url: overrides the default address, for example with a gateway's, including "/v1".

        Raises:
            SettingsError: the key or the address is invalid.
        """
        self._api_key = check_key(api_key, "VOYAGE_API_KEY")
        if not self._api_key:
            raise SettingsError("VOYAGE_API_KEY is missing", hint="set it, or set LKMONGO_EMBEDDINGS=local")
        self._base_url = _check_address(base_url)
        self._client: Any = None
        self._making = asyncio.Lock()
        self._connections = Connections()

    async def warm(self) -> None:
        """Import the client (up to 2 s), and open a connection. Raises UnreachableError."""
        await self._made()
        await self._connections.warm(self._address())

    async def call(self, ask: Callable[[Any], Awaitable[Any]], model: str, seconds: float) -> Any:
        """One attempt, limited to `seconds`.

        Args:
            ask: what to ask the `voyageai.AsyncClient` for.
            model: whose name errors give.
            seconds: at most.

        Raises:
            EmbeddingError: see its subclasses for the causes.
            AuthenticationError: the key was refused.
        """

        def translated(error: Exception) -> LkmongoError | None:
            return _translate(error, model, self._api_key)

        return await within(seconds, self._ask(ask), "Voyage", translated)

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._connections.close()

    async def _ask(self, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        client = await self._made()
        session = await self._connections.open()
        import voyageai

        token = voyageai.aiosession.set(session)
        try:
            return await ask(client)
        finally:
            voyageai.aiosession.reset(token)

    async def _made(self) -> Any:
        async with self._making:
            if self._client is None:
                self._client = await asyncio.to_thread(_make_client, self._api_key, self._base_url)
            return self._client

    def _address(self) -> str:
        if self._base_url is not None:
            return self._base_url
        from voyageai.util import get_default_base_url

        return str(get_default_base_url(self._api_key))


class VoyageEmbedder(RemoteEmbedder):
    """Embeds with a Voyage model.

    The floor is a guess, not measured against the service, and deliberately low: the language model can ignore a weak
    hit, but never sees a hidden one.
    """

    weights = FusionWeights(vector=0.7, text=0.3)
    floor = 0.3
    service = "Voyage"
    request_texts = 1000
    limited_tokens = _FREE_TIER_TOKENS

    def __init__(
        self,
        api_key: str,
        *,
        model: str = MODEL,
        dimensions: int | None = None,
        base_url: str | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Make an embedder, without I/O.

        Args:
            api_key: as `VoyageApi` takes it.
            model: one of `VOYAGE_MODELS`.
            dimensions: of the vectors; by default `DIMENSIONS`, or those that the model has.
            base_url: as `VoyageApi` takes it.
            sleep: for tests.

        Raises:
            SettingsError: the model, the dimensions, the key or the address is invalid.
        """
        self._model = check_model(model, dimensions)
        self._api = VoyageApi(api_key, base_url)
        chosen = dimensions or self._model.default
        super().__init__(f"{self._model.space}@{chosen}", chosen, sleep)
        self.request_tokens = self._model.request_tokens
        self.together = self._model.context

    async def warm(self) -> None:
        """Import the client (up to 2 s), and open a connection. See `Embedder.warm`."""
        await self._api.warm()

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._api.close()

    async def _request(self, documents: list[list[str]], kind: TextKind, seconds: float) -> NDArray[np.float32]:
        options: dict[str, Any] = {"model": self._model.name, "input_type": kind}
        if self._model.has_choice:
            options["output_dimension"] = self.dimensions

        async def ask(client: Any) -> Any:
            if self._model.context:
                answer = await client.contextualized_embed(documents, **options)
                return _of_documents(documents, [each.embeddings for each in answer.results])
            texts = list(chain.from_iterable(documents))
            # A silently truncated text would go unnoticed.
            return (await client.embed(texts, truncation=False, **options)).embeddings

        vectors = await self._api.call(ask, self._model.name, seconds)
        return unit_rows(vectors, sum(map(len, documents)), self.dimensions, "VOYAGE_BASE_URL")


def _of_documents(documents: list[list[str]], vectors: list[list[Any]]) -> list[Any]:
    """The vectors of all passages, one after the other. Raises EmbeddingError if a document has fewer or more."""
    if [len(each) for each in vectors] != [len(each) for each in documents]:
        raise EmbeddingError("the embedding service sent other numbers of vectors than the documents have passages")
    return list(chain.from_iterable(vectors))


def _make_client(api_key: str, base_url: str | None) -> Any:
    """Import and build the client; in a thread, as that takes up to 2 s."""
    import voyageai

    logging.getLogger("voyage").setLevel(logging.WARNING)
    return voyageai.AsyncClient(  # type: ignore[attr-defined]  # re-exported without saying so
        api_key=api_key, base_url=base_url
    )


def _check_address(base_url: str | None) -> str | None:
    if not base_url:
        return None
    if not base_url.startswith(("http://", "https://")):
        raise SettingsError(
            "VOYAGE_BASE_URL must begin with https:// or http://", hint="for example https://ai.mongodb.com/v1"
        )
    return base_url.rstrip("/")


_KEY_HINT = (
    "check VOYAGE_API_KEY; a key made in Atlas begins with al- and is for https://ai.mongodb.com/v1, "
    "any other for https://api.voyageai.com/v1"
)


def _translate(error: Exception, model: str, api_key: str) -> LkmongoError | None:
    """Translate the client's error, or return None if it is not about the service.

    The service's message becomes the `why`, without the key in case it is echoed.
    """
    from voyageai.error import VoyageError

    why = str(error).replace(api_key, "***")[:300] or type(error).__name__
    if isinstance(error, VoyageError):
        return _translate_answer(error, model, why)
    return no_answer(error, why, "VOYAGE_BASE_URL")


def _translate_answer(error: Any, model: str, why: str) -> LkmongoError:
    from voyageai import error as voyage_error

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
