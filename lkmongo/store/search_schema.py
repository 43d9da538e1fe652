"""The search indexes, as data: what they are called, what they index, and whose documents they can tell apart.

`$vectorSearch` filters only on paths that its index declares. `$search` compares a path by `equals` only where the
index has it as a token, and finds nothing, without an error, where it has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.store.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    from lkmongo.embed.base import Similarity

KNOWLEDGE_VECTOR = "knowledge_embedding_index"
MEMORIES_VECTOR = "memories_embedding_index"
MEMORIES_TEXT = "memories_text_index"

EMBEDDING = "embedding"
"""The path of the vector in every collection that has one."""
LABEL_WORDS = "label_words"
"""The path of a memory's label with its words apart: the standard analyzer keeps favorite_color as one word."""

IndexType = Literal["vectorSearch", "search"]


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """A search index; its definition is what the server is given, word for word."""

    collection: str
    name: str
    type: IndexType
    definition: Mapping[str, Any] = field(hash=False)
    scope: tuple[str, ...]
    """The paths by which a search is kept within its tenant, or its person."""


def search_indexes(dimensions: int, similarity: Similarity = "cosine") -> tuple[SearchIndex, ...]:
    """Every search index, for the vectors of one embedder.

    Args:
        dimensions: the length of the embedder's vectors.
        similarity: how the embedder wants two of them to be compared.
    """
    person = ("user_id", "tenant_id")
    return (
        _vector(KNOWLEDGE, KNOWLEDGE_VECTOR, dimensions, similarity, ("tenant_id",)),
        _vector(MEMORIES, MEMORIES_VECTOR, dimensions, similarity, person),
        SearchIndex(
            MEMORIES,
            MEMORIES_TEXT,
            "search",
            {
                "mappings": {
                    "dynamic": False,
                    "fields": {
                        LABEL_WORDS: {"type": "string"},
                        "content": {"type": "string"},
                        **{path: {"type": "token"} for path in person},
                    },
                }
            },
            person,
        ),
    )


def _vector(collection: str, name: str, dimensions: int, similarity: Similarity, scope: tuple[str, ...]) -> SearchIndex:
    vector = {"type": "vector", "path": EMBEDDING, "numDimensions": dimensions, "similarity": similarity}
    filters = [{"type": "filter", "path": path} for path in scope]
    return SearchIndex(collection, name, "vectorSearch", {"fields": [vector, *filters]}, scope)
