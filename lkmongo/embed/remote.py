"""What embedders over HTTP share: connections, requests within limits, one quick retry in a turn, patience in bulk."""

from __future__ import annotations

import asyncio
import importlib
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lkmongo.embed.base import (
    EmbeddingTimeoutError,
    FusionWeights,
    RateLimitedError,
    RequestTooLargeError,
    Similarity,
    TextKind,
    TextTooLongError,
    TransientEmbeddingError,
    UnknownModelError,
    UnreachableError,
    check_texts,
)
from lkmongo.errors import EmbeddingError, LkmongoError, SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence

    import aiohttp
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
Sleep = Callable[[float], "Awaitable[None]"]
Translate = Callable[[Exception], LkmongoError | None]

REQUEST_SECONDS = 30.0
"""The default deadline of a request."""
_FIRST_TRY_SHARE = 0.6
"""The share of a deadline for the first try, so that a hanging request leaves time for another."""
_RATE_LIMIT_WAIT = 20.0
"""Seconds to wait without a Retry-After: Voyage allows three requests a minute without a payment method."""
_MAX_WAIT = 900.0
"""Seconds without progress after which bulk embedding gives up."""


class Connections:
    """A session of aiohttp, opened when it is first needed; it belongs to the loop that awaits it."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                await asyncio.to_thread(importlib.import_module, "aiohttp")
                import aiohttp

                # Turns are 10 to 60 s apart, and aiohttp drops idle connections after 15.
                self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=75))
            return self._session

    async def warm(self, address: str) -> None:
        """Open a connection that the first request uses; any answer will do. Raises UnreachableError."""
        session = await self.open()
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with session.get(address, timeout=timeout, allow_redirects=False) as response:
                await response.read()  # read completely, so that the connection can be reused
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnreachableError(why=str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close the connections; the next `open` makes new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def within(seconds: float, work: Awaitable[T], service: str, translate: Translate) -> T:
    """One attempt of `work`, with the errors of the client translated.

    Raises:
        EmbeddingTimeoutError: it took longer than `seconds`.
        LkmongoError: as `translate` says.
    """
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise EmbeddingTimeoutError(f"{service} did not answer within {max(seconds, 0):.1f} s") from error
    except LkmongoError:
        raise
    except Exception as error:
        if (known := translate(error)) is None:
            raise
        raise known from error


async def once_more(attempt: Callable[[float], Awaitable[T]], end: float, sleep: Sleep = asyncio.sleep) -> T:
    """Call `attempt` with the seconds it has, and once more if its failure may pass before `end` (monotonic)."""
    left = end - time.monotonic()
    try:
        return await attempt(left * _FIRST_TRY_SHARE)
    except TransientEmbeddingError:
        pause = random.uniform(0.02, 0.08)  # noqa: S311
        if (left := end - time.monotonic() - pause) <= 0:
            raise
    await sleep(pause)
    return await attempt(left)


def no_answer(error: Exception, why: str, address_setting: str) -> EmbeddingError | None:
    """Translate an error of the connection, or of reading the answer; None if it is neither."""
    import aiohttp

    if isinstance(error, TimeoutError):
        return EmbeddingTimeoutError(why=why)
    if isinstance(error, aiohttp.ClientError | OSError):
        return UnreachableError(why=why, hint=f"check the network, and {address_setting} if set")
    if isinstance(error, AttributeError | LookupError | TypeError | ValueError):
        return no_vectors(why, address_setting)
    return None


def no_vectors(why: str, address_setting: str) -> EmbeddingError:
    """An answer with status 200 may be anything, such as a gateway's start page."""
    message = "the embedding service sent something other than vectors"
    return EmbeddingError(message, why=why, hint=f"check {address_setting} if it is set")


def retry_after(value: str | None) -> float | None:
    """The header Retry-After in seconds, None if it is absent or a date."""
    try:
        return max(0.0, float(value or ""))
    except ValueError:
        return None


def unit_rows(
    embeddings: Sequence[Sequence[float]], count: int, dimensions: int, address_setting: str
) -> NDArray[np.float32]:
    """Return a service's vectors as rows of unit length, shape (count, dimensions). Raises EmbeddingError."""
    import numpy as np

    if len(embeddings) != count:
        raise EmbeddingError(f"the embedding service sent {len(embeddings)} vectors for {count} texts")
    try:
        lengths = {len(vector) for vector in embeddings}
        vectors = np.array(embeddings if len(lengths) == 1 else [], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise no_vectors(str(error), address_setting) from error
    if lengths != {dimensions}:
        raise UnknownModelError(
            f"the embedding service sends vectors of {', '.join(map(str, sorted(lengths)))} numbers, not {dimensions}",
            hint=f"check LKMONGO_EMBEDDING_DIMENSIONS, and {address_setting} if it is set",
        )
    with np.errstate(over="ignore"):  # the square of a large number becomes infinite, and is refused as such
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
        raise EmbeddingError("the embedding service sent a vector that is zero or not a number")
    unit: NDArray[np.float32] = (vectors / norms).astype(np.float32)
    return unit


def check_key(api_key: str, setting: str) -> str:
    """Return the key without spaces around it. Raises SettingsError, without the key, if it cannot be one."""
    key = api_key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"{setting} holds a character that no key has", hint="copy the key again")
    return key


@dataclass(slots=True)
class _Pace:
    """How much bulk embedding asks for at once, and how long it has waited since vectors came."""

    texts: int
    tokens: int
    waited: float = 0.0
    failures: int = 0

    def wait_after(self, error: RateLimitedError | TransientEmbeddingError, texts: int, limited_tokens: int) -> float:
        """The seconds to wait after a request of so many texts failed; raises its error if that would be too long."""
        self.failures += 1
        growing = min(2.0 ** (self.failures - 1), 30.0) * random.uniform(0.75, 1.25)  # noqa: S311
        if isinstance(error, RateLimitedError):
            self.tokens = min(self.tokens, limited_tokens)
            growing = _RATE_LIMIT_WAIT
        if isinstance(error, EmbeddingTimeoutError):
            self.texts = max(1, texts // 2)  # a slow server may manage fewer in the time
        seconds = error.retry_after or growing
        if self.waited + seconds > _MAX_WAIT:
            raise error
        self.waited += seconds
        return seconds

    def go_on(self) -> None:
        self.waited, self.failures = 0.0, 0


class RemoteEmbedder(ABC):
    """Embeds over HTTP: fast for a turn, patient for a backfill; belongs to the loop that first awaits it.

    Attributes:
        service: how messages call it.
        together: whether the passages of a document are embedded together.
        request_texts: a request has at most so many; lowered when the service refuses that many.
        request_tokens: a request has at most so many, a token per three bytes of UTF-8, which overestimates.
        limited_tokens: the same after a rate limit was hit.
    """

    weights: FusionWeights
    floor: float
    similarity: Similarity = "cosine"
    service: str
    together = False
    request_texts: int
    request_tokens: int
    limited_tokens: int

    def __init__(self, model: str, dimensions: int, sleep: Sleep) -> None:
        self.model = model
        self.dimensions = dimensions
        self._sleep = sleep

    @abstractmethod
    async def _request(self, documents: list[list[str]], kind: TextKind, seconds: float) -> NDArray[np.float32]:
        """One attempt, limited to `seconds`; returns a row for each text. Raises as `Embedder.embed` does."""

    async def embed(
        self, texts: Sequence[str], *, kind: TextKind, deadline: float | None = None
    ) -> NDArray[np.float32]:
        """Embed, with one quick retry of transient errors within the deadline. See `Embedder.embed`."""
        import numpy as np

        waiting = [[text] for text in check_texts(texts)]
        end = time.monotonic() + (REQUEST_SECONDS if deadline is None else deadline)
        parts = []
        while waiting:
            batch = self._first_request(waiting, self.request_texts, self.request_tokens)
            try:
                parts.append(await once_more(lambda left, now=batch: self._request(now, kind, left), end, self._sleep))  # type: ignore[misc]
            except RequestTooLargeError as error:
                self._ask_for_less(batch, error)
            else:
                waiting = waiting[len(batch) :]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), dtype=np.float32)

    async def embed_many(
        self,
        texts: Sequence[str],
        *,
        documents: Sequence[int] | None = None,
        on_wait: Callable[[float], None] | None = None,
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Embed documents within the service's rate limits. See `Embedder.embed_many`.

        Raises:
            RateLimitedError, TransientEmbeddingError: nothing came for 15 minutes of waiting.
            TextTooLongError: the next text is; the vectors of all before it have been yielded.
        """
        lengths = documents if documents is not None and self.together else [1] * len(texts)
        pace = _Pace(self.request_texts, self.request_tokens)
        waiting = list(_windows(_documents(check_texts(texts), lengths), pace.tokens))
        while waiting:
            batch = self._first_request(waiting, min(pace.texts, self.request_texts), pace.tokens)
            try:
                vectors = await self._request(batch, "document", REQUEST_SECONDS * 2)
            except RequestTooLargeError as error:
                self._ask_for_less(batch, error)
            except TextTooLongError:
                if len(batch) == 1:
                    raise
                pace.texts = sum(map(len, batch)) // 2  # so that the vectors of those before it are made
            except (RateLimitedError, TransientEmbeddingError) as error:
                seconds = pace.wait_after(error, sum(map(len, batch)), self.limited_tokens)
                waiting = list(_windows(waiting, pace.tokens))
                if on_wait is not None:
                    on_wait(seconds)
                await self._sleep(seconds)
            else:
                waiting = waiting[len(batch) :]
                pace.go_on()
                yield vectors

    @staticmethod
    def _first_request(documents: Sequence[list[str]], texts: int, tokens: int) -> list[list[str]]:
        """As many of the documents as fit into one request of so many texts and tokens, at least one."""
        number, length, size = 0, 0, 0
        for document in documents:
            length += len(document)
            size += sum(map(_tokens, document))
            if number and (length > texts or size > tokens):
                break
            number += 1
        return list(documents[:number])

    def _ask_for_less(self, refused: Sequence[Sequence[str]], error: RequestTooLargeError) -> None:
        """Called for a request with too many texts; raises the error if it cannot be made smaller."""
        if len(refused) == 1:
            raise error
        self.request_texts = sum(map(len, refused)) // 2


def _tokens(text: str) -> int:
    return len(text.encode()) // 3 + 1


def _documents(texts: list[str], lengths: Sequence[int]) -> Iterator[list[str]]:
    start = 0
    for length in lengths:
        yield texts[start : start + length]
        start += length


def _windows(documents: Iterable[list[str]], tokens: int) -> Iterator[list[str]]:
    """The documents, those longer than `tokens` cut between their texts into parts of similar length."""
    for document in documents:
        size = sum(map(_tokens, document))
        fair = size / -(-size // tokens)
        part: list[str] = []
        length = 0
        for text in document:
            more = _tokens(text)
            if part and (length >= fair or length + more > tokens):
                yield part
                part, length = [], 0
            part.append(text)
            length += more
        yield part
