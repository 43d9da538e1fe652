"""What the indexes answer, read without a server: rows become branches, and a silence that cannot be right is noticed."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from lkmongo.errors import LkmongoError
from lkmongo.model import Memory, Passage
from lkmongo.search.merge import Ranked
from lkmongo.search.strategy import memory_of, memory_text, passage_of, passage_text
from lkmongo.store.schema import KNOWLEDGE, MEMORIES
from lkmongo.store.search_schema import KNOWLEDGE_VECTOR, MEMORIES_VECTOR

T = TypeVar("T", Memory, Passage)
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What is searched, and how its documents are read."""

    collection: str
    vector_index: str
    fields: tuple[str, ...]
    key: Callable[[Document], Any]
    item: Callable[[Document], T]
    text: Callable[[T], str]


MEMORY = Kind(
    MEMORIES,
    MEMORIES_VECTOR,
    ("memory_type", "content", "created_at", "updated_at", "embedding_model"),
    lambda document: document["memory_type"],
    memory_of,
    memory_text,
)
PASSAGE = Kind(
    KNOWLEDGE,
    KNOWLEDGE_VECTOR,
    ("source", "chunk", "title", "content", "updated_at", "embedding_model"),
    lambda document: (document["source"], document["chunk"]),
    passage_of,
    passage_text,
)


@dataclass(slots=True)
class Answer:
    """What the indexes said; a branch is None where it was not asked or failed, and `problems` names those that failed."""

    near: Ranked[Any] | None = None
    worded: Ranked[Any] | None = None
    documents: dict[Any, Document] = field(default_factory=dict)
    problems: dict[str, LkmongoError] = field(default_factory=dict)

    def take(self, branch: str, rows: Sequence[Document], kind: Kind[Any]) -> None:
        """Add the rows of one branch, best first, each with its `score`."""
        keyed = [(kind.key(row), row) for row in rows]
        self.documents |= dict(keyed)
        if branch == "vector":
            self.near = [(key, cosine(row["score"])) for key, row in keyed]
        else:
            self.worded = [(key, row["score"]) for key, row in keyed]


def cosine(score: float) -> float:
    """The cosine that a `vectorSearchScore`, (1 + cosine) / 2, was made from."""
    return 2 * score - 1


def of_details(rows: Iterable[Document], kind: Kind[Any]) -> Answer:
    """Both branches out of the `scoreDetails` of a `$rankFusion` whose pipelines are called "vector" and "text".

    Raises:
        KeyError: the details do not hold the scores of the branches.
    """
    branches: dict[str, list[tuple[int, Document]]] = {"vector": [], "text": []}
    for row in rows:
        for detail in row["details"]["details"]:
            rank = detail["rank"]
            if isinstance(rank, int | float) and rank >= 1:  # "NA", or 0 on older servers, where it is not a hit
                branches[detail["inputPipelineName"]].append((int(rank), {**row, "score": detail["value"]}))
    answer = Answer()
    for name, ranked in branches.items():
        answer.take(name, [row for _, row in sorted(ranked, key=lambda entry: entry[0])], kind)
    return answer


def is_silent(answer: Answer, words: Sequence[str], since: datetime, kind: Kind[Any]) -> bool:
    """Whether the text branch found nothing though a document that it must know holds a word of the question.

    A text index that is missing, or that lacks the mapping of a scope, finds nothing and says nothing. What the vector
    branch returned is a sample to catch it by; what was written after `since` it need not know yet.
    """
    if answer.worded != [] or not answer.near:
        return False
    plain = {word for word in words if word.isalpha() and len(word) > 2}
    return any(
        plain & _whole_words(kind.text(kind.item(document)))
        for document in answer.documents.values()
        if (moment := document.get("updated_at")) and moment < since
    )


def _whole_words(text: str) -> set[str]:
    """What any analyzer takes for a word: letters between spaces, punctuation at the ends taken off."""
    return {word.strip(string.punctuation).casefold() for word in text.split()}
