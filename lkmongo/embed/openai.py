"""Embeddings from any server with OpenAI's embeddings API: Ollama, vLLM, TEI, LM Studio, OpenAI itself and others.

`POST {base}/embeddings` with `model` and `input`. What the servers have in common ends there, so every answer is
checked: the number of vectors, their order, length and numbers; and a refusal is told by its words, as the servers
share no codes. (OpenAI API reference, embeddings; the messages are those of vLLM, TEI, Ollama and llama.cpp.)
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from lkmongo.embed.base import (
    FusionWeights,
    OverloadedError,
    RateLimitedError,
    RequestTooLargeError,
    TextKind,
    TextTooLongError,
    UnknownDimensionsError,
    UnknownModelError,
    WrongAddressError,
)
from lkmongo.embed.remote import (
    REQUEST_SECONDS,
    Connections,
    RemoteEmbedder,
    Sleep,
    check_key,
    no_answer,
    retry_after,
    unit_rows,
    within,
)
from lkmongo.errors import AuthenticationError, EmbeddingError, LkmongoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_ADDRESS = "LKMONGO_EMBEDDING_BASE_URL"


@dataclass(frozen=True, slots=True)
class Family:
    """Models with the same convention, by their makers' model cards.

    Attributes:
        name: part of the model's name, in lower case and with hyphens for other marks, however the server calls it.
        dimensions: of its vectors; None where the name does not say.
        query: what the text of a query begins with.
        document: what the text of a document begins with.
        floor: as in `Embedder`, of the models that were measured (docs/knowledge.md): it hides less than one answer in
            two hundred.
    """

    name: str
    dimensions: int | None = None
    query: str = ""
    document: str = ""
    floor: float = 0.0


_RETRIEVE = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
_REPRESENT = "Represent this sentence for searching relevant passages: "
FAMILIES = (
    Family("nomic-embed-text", 768, "search_query: ", "search_document: "),
    Family("e5-large-instruct", 1024, f"{_RETRIEVE} "),
    Family("e5-mistral-7b-instruct", 4096, f"{_RETRIEVE} "),
    Family("e5-small", 384, "query: ", "passage: ", floor=0.76),
    Family("e5-base", 768, "query: ", "passage: "),
    Family("e5-large", 1024, "query: ", "passage: "),
    Family("bge-small-en", 384, _REPRESENT, floor=0.49),
    Family("bge-base-en", 768, _REPRESENT),
    Family("bge-large-en", 1024, _REPRESENT),
    Family("bge-m3", 1024),
    Family("mxbai-embed-large", 1024, _REPRESENT),
    Family("arctic-embed2", 1024, "query: "),
    Family("arctic-embed-l-v2", 1024, "query: "),
    Family("arctic-embed-m-v2", 768, "query: "),
    Family("arctic-embed", None, _REPRESENT),
    Family("embeddinggemma", 768, "task: search result | query: ", "title: none | text: "),
    Family("qwen3-embedding-0.6b", 1024, _RETRIEVE),
    Family("qwen3-embedding-4b", 2560, _RETRIEVE),
    Family("qwen3-embedding-8b", 4096, _RETRIEVE),
    Family("qwen3-embedding", None, _RETRIEVE),
    Family("all-minilm", 384, floor=0.12),
    Family("text-embedding-3-small", 1536),
    Family("text-embedding-ada-002", 1536),
    Family("text-embedding-3-large", 3072),
)
"""The first one that fits counts."""


def family_of(model: str) -> Family:
    """What is known of a model by its name; of an unknown one nothing, and no prefixes."""
    name = re.sub(r"[^a-z0-9.]+", "-", model.lower())
    return next((family for family in FAMILIES if family.name in name), Family(""))


class OpenAIEmbedder(RemoteEmbedder):
    """Embeds with a model on an OpenAI-compatible server.

    How far apart texts of different subjects are differs by model: with some, every cosine is above 0.7, with
    others most are below 0.2. Of one that was not measured, or is not used as its family is, the floor hides only what
    points the other way, which no model means by kinship. Equal weights were within 0.01 of the best ones for the three
    models that were measured.
    """

    weights = FusionWeights(vector=0.5, text=0.5)
    request_texts = 32  # what TEI allows unless told otherwise; others take more, and some less
    request_tokens = limited_tokens = 30_000

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        dimensions: int | None = None,
        api_key: str = "",
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Make an embedder, without I/O.

        Args:
            base_url: where `/embeddings` is, such as http://localhost:11434/v1.
            model: as the server calls it.
            dimensions: the length of its vectors, which the server is asked for; by default what `FAMILIES` says, and
                the server is not asked.
            api_key: if the server needs one.
            query_prefix: what the text of a query begins with, by default what `FAMILIES` says.
            document_prefix: the same of a document.
            sleep: for tests.

        Raises:
            SettingsError: the key cannot be one.
            UnknownDimensionsError: the dimensions are neither given nor known.
        """
        family = family_of(model)
        known = dimensions or family.dimensions
        if known is None:
            raise UnknownDimensionsError(
                f"LKMONGO_EMBEDDING_DIMENSIONS is not set, and the length of {model}'s vectors is not known here",
                why="search indexes and stored vectors depend on it, also while the server is away",
                hint="lkmongo doctor --only embedder asks the server and names the number",
            )
        prefixes = {
            "query": family.query if query_prefix is None else query_prefix,
            "document": family.document if document_prefix is None else document_prefix,
        }
        self._name = model
        self.prefixes = prefixes
        as_measured = known == family.dimensions and prefixes == {"query": family.query, "document": family.document}
        self.floor = family.floor if as_measured else 0.0
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._api_key = check_key(api_key, "LKMONGO_EMBEDDING_API_KEY")
        self._asks_for_dimensions = dimensions is not None
        self._connections = Connections()
        self.service = f"the embedding server {base_url}"
        # The prefix of a query changes no vector that is stored.
        shown = f" {json.dumps(prefixes['document'])}" if prefixes["document"] else ""
        super().__init__(f"openai:{model}@{known}{shown}", known, sleep)

    async def warm(self) -> None:
        """Embed a word: it opens a connection, and a server that unloads idle models loads this one."""
        await self.embed(["hello"], kind="query")

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._connections.close()

    async def measure(self) -> int:
        """How long the vectors are that the server sends. Raises as `Embedder.embed` does."""
        (vector,) = await self._within(REQUEST_SECONDS, ["hello"], sends_dimensions=False)
        return len(vector)

    async def _request(self, documents: list[list[str]], kind: TextKind, seconds: float) -> NDArray[np.float32]:
        texts = [self.prefixes[kind] + text for text in chain.from_iterable(documents)]
        try:
            vectors = await self._within(seconds, texts, sends_dimensions=self._asks_for_dimensions)
        except _DimensionsRefusedError:
            # It may send vectors of this length all the same.
            self._asks_for_dimensions = False
            vectors = await self._within(seconds, texts, sends_dimensions=False)
        return unit_rows(vectors, len(texts), self.dimensions, _ADDRESS)

    async def _within(self, seconds: float, texts: Sequence[str], *, sends_dimensions: bool) -> list[Any]:
        def translated(error: Exception) -> LkmongoError | None:
            return no_answer(error, self._masked(str(error) or type(error).__name__), _ADDRESS)

        return await within(seconds, self._ask(texts, sends_dimensions), self.service, translated)

    async def _ask(self, texts: Sequence[str], sends_dimensions: bool) -> list[Any]:
        body: dict[str, Any] = {"model": self._name, "input": list(texts), "encoding_format": "float"}
        if sends_dimensions:
            body["dimensions"] = self.dimensions
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        session = await self._connections.open()
        async with session.post(self._url, json=body, headers=headers, allow_redirects=False) as response:
            if response.status == 200:
                return _in_order((await response.json(content_type=None))["data"])
            why = self._masked(_message(await response.text(errors="replace")))
            raise self._refusal(response.status, response.headers.get("Retry-After"), why, len(texts), sends_dimensions)

    def _refusal(self, status: int, pause: str | None, why: str, texts: int, sent_dimensions: bool) -> LkmongoError:
        says = why.lower()
        if status in {401, 403}:
            return AuthenticationError(
                f"{self.service} refused the API key" if self._api_key else f"{self.service} wants an API key",
                why=why,
                hint="set LKMONGO_EMBEDDING_API_KEY to a key of that server",
            )
        if _TOO_LONG.search(says) or (status == 413 and texts == 1):
            return TextTooLongError(
                f"a text is too long for {self._name}",
                why=why,
                hint="cut it into shorter passages, give the model a larger context, or use another one",
            )
        if status < 500 and (status == 413 or _TOO_MANY.search(says)):
            return RequestTooLargeError(why=why)
        if status in {400, 422} and _DIMENSIONS.search(says):
            refusal = _DimensionsRefusedError if sent_dimensions else UnknownModelError
            return refusal(
                f"{self.service} refuses {self.dimensions} dimensions for {self._name}",
                why=why,
                hint="set LKMONGO_EMBEDDING_DIMENSIONS to what the model has",
            )
        if status < 500 and "model" in says and _MISSING.search(says):
            return UnknownModelError(
                f"{self.service} does not have the model {self._name}",
                why=why,
                hint="set LKMONGO_EMBEDDING_MODEL to one that it has, or load it there (Ollama: ollama pull)",
            )
        return self._other(status, retry_after(pause), why)

    def _other(self, status: int, pause: float | None, why: str) -> EmbeddingError:
        if status == 501 or "not support embeddings" in why:
            return UnknownModelError(
                f"{self.service} does not embed with {self._name}",
                why=why,
                hint="set LKMONGO_EMBEDDING_MODEL to an embedding model, and start the server for it "
                "(llama.cpp: --embeddings)",
            )
        if status == 429 and "quota" in why.lower():
            return EmbeddingError(f"{self.service} has no quota left for this key", why=why, hint="pay, and try again")
        if status == 429:
            limited = RateLimitedError(f"{self.service} refuses more requests for now", why=why, hint="wait a minute")
            limited.retry_after = pause
            return limited
        if status >= 500 or status in {408, 424}:  # TEI answers 424 when its model failed
            overloaded = OverloadedError(f"{self.service} answered {status}: it is overloaded or down", why=why)
            overloaded.retry_after = pause
            return overloaded
        if status in {404, 405} or 300 <= status < 400:
            return WrongAddressError(
                f"there is no embeddings service at {self._url}",
                why=why,
                hint=f"check {_ADDRESS}; it often ends in /v1",
            )
        return EmbeddingError(f"{self.service} answered {status}", why=why)

    def _masked(self, text: str) -> str:
        return (text.replace(self._api_key, "***") if self._api_key else text)[:300]


class _DimensionsRefusedError(UnknownModelError):
    """The server does not take the parameter, or not for this model."""


_TOO_LONG = re.compile(
    r"context length|context window|context size|must have less than|input is too long|too large to process"
)
_TOO_MANY = re.compile(r"batch|tokens per request|array too long|too many (inputs|texts)")
_DIMENSIONS = re.compile(r"dimension|matryoshka")
_MISSING = re.compile(r"not found|not exist|no such|not loaded|unknown|not available|not supported|no models?\b")


def _message(text: str) -> str:
    """The words of a refusal, which is JSON in one of several shapes, or anything."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        return " ".join(text.split()) or "it gives no reason"
    while isinstance(found, dict) and (inner := found.get("error") or found.get("message") or found.get("detail")):
        found = inner
    return found if isinstance(found, str) else json.dumps(found)


def _in_order(data: list[dict[str, Any]]) -> list[Any]:
    """The vectors in the order of the texts; a server that numbers none sends them so."""
    indices = [each.get("index") for each in data]
    if set(indices) not in ({None}, set(range(len(data)))):
        why = f"their indices are {indices}"[:300]
        raise EmbeddingError("the embedding service numbers its vectors wrongly", why=why)
    ordered = data if None in indices else sorted(data, key=lambda each: each["index"])
    return [_vector(each["embedding"]) for each in ordered]


def _vector(value: Any) -> Any:
    """A list of numbers, or base64 of little-endian float32. Raises TypeError, ValueError."""
    import numpy as np

    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    return np.array(value, dtype=np.float64)
