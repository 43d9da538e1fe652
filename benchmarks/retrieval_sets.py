"""The questions of the retrieval benchmark: read, embedded, and split into the half that is fitted on and the other.

The data is the project's own: what made-up people asked to be remembered, and the sample data in `seeds/`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from lkmongo.model import Fact
from lkmongo.search.exact import ExactIndex
from lkmongo.search.strategy import memory_index, passage_index
from lkmongo.store.seed.seeds import default_seed_folder, load_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder

DATA = Path(__file__).with_name("retrieval_data")
Kind = Literal["memories", "knowledge"]
Answers = dict[str, set[Hashable]]


@dataclass(frozen=True, slots=True)
class QueryEmbedding:
    """A question, its vector, and the keys of the documents that answer it: none for one that nothing answers."""

    text: str
    answers: frozenset[Hashable]
    vector: NDArray[np.float32]
    for_fitting: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """What one search looks through, a person's slots or a tenant's passages, with questions on it."""

    name: str
    kind: Kind
    build: Callable[[], ExactIndex[Any]]
    index: ExactIndex[Any]
    questions: tuple[QueryEmbedding, ...]
    off_topic: tuple[QueryEmbedding, ...]


async def load(embedder: Embedder) -> list[Scope]:
    """Read and embed everything.

    Raises:
        ValueError: a question names a label or a title that is not there.
    """
    off_topic = _yaml("off_topic.yaml")
    off_vectors = await _embed(embedder, off_topic, "query")
    nothing = tuple(
        QueryEmbedding(text, frozenset(), vector, for_fitting=False)
        for text, vector in zip(off_topic, off_vectors, strict=True)
    )
    scopes = []
    for name, kind, texts, index, asked in _scopes():
        vectors = list(await _embed(embedder, texts, "document"))
        questions = list(asked)
        asked_vectors = await _embed(embedder, questions, "query")
        scopes.append(
            Scope(
                name,
                kind,
                partial(index, vectors),
                index(vectors),
                tuple(
                    QueryEmbedding(text, frozenset(asked[text]), vector, for_fitting=_for_fitting(name, text))
                    for text, vector in zip(questions, asked_vectors, strict=True)
                ),
                nothing,
            )
        )
    return scopes


def _for_fitting(scope: str, question: str) -> bool:
    """Which half a question belongs to: fixed by its hash, so that none ever changes sides."""
    return sha256(f"{scope}\0{question}".encode()).digest()[0] % 2 == 0


def _scopes() -> Iterator[tuple[str, Kind, list[str], Any, Answers]]:
    yield from _people()
    yield from _tenants()


def _people() -> Iterator[tuple[str, Kind, list[str], Any, Answers]]:
    for person in _yaml("people.yaml"):
        name, slots = person["person"], {label: str(content) for label, content in person["memories"].items()}
        memories = [Fact(label, content) for label, content in slots.items()]
        answers: Answers = {
            text: {right} if isinstance(right, str) else set(right) for text, right in person["questions"].items()
        }
        _check(name, answers, set(slots))
        texts = [memory.embedded_text for memory in memories]
        yield name, "memories", texts, lambda vectors, own=memories: memory_index(own, vectors), answers


def _tenants() -> Iterator[tuple[str, Kind, list[str], Any, Answers]]:
    passages = load_seeds(default_seed_folder()).passages
    for name, by_title in _yaml("shop.yaml").items():
        own = [passage for tenant, passage in passages if tenant.tenant_id == name]
        keys = {passage.title: (passage.source, passage.chunk) for passage in own}
        _check(name, {"a title": set(by_title)}, set(keys))
        answers: Answers = {}
        for title, questions in by_title.items():
            for text in questions:
                answers.setdefault(text, set()).add(keys[title])
        texts = [passage.embedded_text for passage in own]
        yield name, "knowledge", texts, lambda vectors, own=own: passage_index(own, vectors), answers


def _check(scope: str, answers: Mapping[str, set[Any]], known: set[str]) -> None:
    for text, right in answers.items():
        if unknown := right - known:
            raise ValueError(f"{scope}: {text!r} is answered by {min(unknown)!r}, which is not there")


async def _embed(embedder: Embedder, texts: list[str], kind: Literal["document", "query"]) -> NDArray[np.float32]:
    if kind == "document":
        return np.concatenate([vectors async for vectors in embedder.embed_many(texts)])
    # A question at a time would be one request each; the bulk way of a service embeds as documents.
    return await embedder.embed(texts, kind=kind, deadline=60)


def _yaml(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
