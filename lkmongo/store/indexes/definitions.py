"""The search indexes as data: names, fields and scope; and the comparison of definitions by meaning.

`$vectorSearch` can only filter on paths that its index declares. `$search` can only compare a path with `equals` if its
index maps it as a token, and silently finds nothing otherwise. The server keeps a definition as it was given, so the
comparison ignores the order of fields and explicit defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.embed.atlas import AtlasEmbedder
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder, Similarity

KNOWLEDGE_VECTOR = "knowledge_embedding_index"
MEMORIES_VECTOR = "memories_embedding_index"
MEMORIES_TEXT = "memories_text_index"

EMBEDDING = "embedding"
"""The path of the vector in every collection that has one, or of the text of which MongoDB makes it."""
LABEL_WORDS = "label_words"
"""The path of a memory's label as separate words: the standard analyzer keeps favorite_color as one."""

IndexType = Literal["vectorSearch", "search"]


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """A search index; `definition` is sent to the server as it is."""

    collection: str
    name: str
    type: IndexType
    definition: Mapping[str, Any] = field(hash=False)
    scope: tuple[str, ...]
    """The paths that restrict a search to its tenant or person."""


def indexes_for(embedder: Embedder) -> tuple[SearchIndex, ...]:
    """All search indexes, for what an embedder stores."""
    if isinstance(embedder, AtlasEmbedder):
        return _indexes(embedder.index_field)
    return search_indexes(embedder.dimensions, embedder.similarity)


def search_indexes(dimensions: int, similarity: Similarity = "cosine") -> tuple[SearchIndex, ...]:
    """All search indexes, for vectors of these dimensions and this similarity."""
    return _indexes({"type": "vector", "numDimensions": dimensions, "similarity": similarity})


def _indexes(embedding: Mapping[str, Any]) -> tuple[SearchIndex, ...]:
    """All search indexes, for a field without its path."""
    person = ("user_id", "tenant_id")
    return (
        _vector(KNOWLEDGE, KNOWLEDGE_VECTOR, embedding, ("tenant_id",)),
        _vector(MEMORIES, MEMORIES_VECTOR, embedding, person),
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


def _vector(collection: str, name: str, embedding: Mapping[str, Any], scope: tuple[str, ...]) -> SearchIndex:
    filters = [{"type": "filter", "path": path} for path in scope]
    fields = [{**embedding, "path": EMBEDDING}, *filters]
    return SearchIndex(collection, name, "vectorSearch", {"fields": fields}, scope)


def embeds(definition: Mapping[str, Any]) -> bool:
    """Whether MongoDB makes the vectors of this index."""
    return any(field.get("type") == "autoEmbed" for field in definition.get("fields", ()))


def needs_rebuild(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether an update of `found` cannot lead to `wanted`: what MongoDB embeds by itself is fixed with the index.

    Its search engine refuses to update `autoEmbed` fields, and to turn them into vectors; the way from vectors to them
    is not documented.
    """
    if not (embeds(wanted) or embeds(found)):
        return False
    parts = [[field for field in each.get("fields", ()) if field.get("type") != "filter"] for each in (wanted, found)]
    return bool(differences({"fields": parts[0]}, {"fields": parts[1]}))


_DEFAULTS: dict[str, Any] = {
    # vectorSearch
    "quantization": "none",
    "indexingMethod": "hnsw",
    "maxEdges": 16,
    "numEdgeCandidates": 100,
    # search
    "analyzer": "lucene.standard",
    "searchAnalyzer": "lucene.standard",
    "dynamic": False,
    "indexOptions": "offsets",
    "norms": "include",
    "normalizer": "none",
    "store": True,
    # both
    "numPartitions": 1,
    "storedSource": False,
}
"""The defaults of the service (MongoDB Search documentation, index definitions)."""


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Describe how `found` differs from `wanted`; empty if they mean the same."""
    should, there = dict(_leaves(wanted, "")), dict(_leaves(found, ""))
    changes = []
    for path in dict.fromkeys([*should, *there]):
        if path not in there:
            changes.append(f"{path} is missing, should be {should[path]}")
        elif path not in should:
            default = _DEFAULTS.get(path.rpartition(".")[2])
            changes.append(
                f"{path} is {there[path]}, should " + (f"be {default}" if default is not None else "not be there")
            )
        elif should[path] != there[path]:
            changes.append(f"{path} is {there[path]}, should be {should[path]}")
    return changes


def type_of(definition: Mapping[str, Any]) -> IndexType:
    """The index type of a definition; self-managed search does not list it."""
    return "vectorSearch" if "fields" in definition else "search"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every setting that is not the default, by its path."""
    name = path.rpartition(".")[2]
    if isinstance(value, Mapping):
        for key, item in value.items():
            inner = f"{path}.{key}" if path else key
            if name == "fields" and path != "fields":  # the mapping of one path
                yield from _mapped(item, inner)
            else:
                yield from _leaves(item, inner)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            named = item.get("path") or item.get("name") if isinstance(item, Mapping) else None
            rest = {key: part for key, part in item.items() if key not in {"path", "name"}} if named else item
            yield from _leaves(rest, f"{path}.{named or number}")
    elif name not in _DEFAULTS or value != _DEFAULTS[name]:
        yield path, value


def _mapped(item: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The mappings of one path: one, or a list in any order."""
    ways = item if isinstance(item, list) else [item]
    if len(ways) == 1:
        yield from _leaves(ways[0], path)
        return
    yield f"{path}.type", " and ".join(sorted(str(way.get("type")) for way in ways))
    for way in ways:
        yield from _leaves({key: part for key, part in way.items() if key != "type"}, f"{path}.{way.get('type')}")
