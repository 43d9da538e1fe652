"""The search indexes as data: names, fields and scope; and the comparison of definitions by meaning.

`$vectorSearch` can only filter on paths that its index declares. `$search` can only compare a path with `equals` if its
index maps it as a token; otherwise a value of several words is refused, and a single word finds nothing, silently. The
server lists a definition as it was given, or in its own form, so the comparison ignores the order of fields, explicit
defaults, and what the server adds.

How an index keeps what it has (quantization, the graph, partitions, stored fields) is tuned in Atlas by hand, and only
changes how accurate an approximate search is. It is left as it is there unless a setting decides it: changing it back
would rebuild the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from lkmongo.embed.atlas import AtlasEmbedder
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder, Similarity
    from lkmongo.settings import Settings

KNOWLEDGE_VECTOR = "knowledge_embedding_index"
MEMORIES_VECTOR = "memories_embedding_index"
MEMORIES_TEXT = "memories_text_index"

EMBEDDING = "embedding"
"""The path of the vector in every collection that has one, or of the text of which MongoDB makes it."""
LABEL_WORDS = "label_words"
"""The path of a memory's label as separate words: the standard analyzer keeps favorite_color as one."""

JOINED = "joined"
"""The `multi` of a text's pairs of neighbouring words, written as one: "sound bar" is soundbar, Wi-Fi is wifi."""
LANGUAGES = {
    "en": "english",
    "nl": "dutch",
    "fr": "french",
    "de": "german",
    "it": "italian",
    "pt": "portuguese",
    "ru": "russian",
    "es": "spanish",
}
"""The languages whose words are stemmed, by their two-letter codes; English, the first one, everywhere. Every other is
a `multi` of the text index, as all tenants share one."""
GERMAN_ENDINGS = r"(?<=.{3}[^aeiou])t$|(?<=.[aoy])s$"
"""What the stemmer leaves: kauft, Autos. For Java and Python alike."""
_BEFORE_STEMMING = {
    # The stemmers of Lucene are older than ours, which also take off these.
    "de": (r"(?<=er)in(nen)?$|(?<=l)ns?$|(?<=[dnt])et(e[nt]?)?$", ""),
    "es": ("cion$", "ci\u00f3n"),
}

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


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the settings decide of how indexes keep their vectors; None leaves it as it is in Atlas.

    Attributes:
        quantization: of knowledge, which is searched approximately: `none`, `scalar` or `binary`. Memories are searched
            exactly, for which the service reads the full vectors.
        indexing_method: of memories: `hnsw` or `flat`. An exact search within one person needs no graph.
    """

    quantization: str | None = None
    indexing_method: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.quantization, settings.indexing_method)

    def apply(self, indexes: tuple[SearchIndex, ...]) -> tuple[SearchIndex, ...]:
        """The indexes with what is decided, written out even where it is the default."""
        decided = {
            KNOWLEDGE_VECTOR: ("quantization", self.quantization),
            MEMORIES_VECTOR: ("indexingMethod", self.indexing_method),
        }
        return tuple(_with_vector(index, *decided.get(index.name, ("", None))) for index in indexes)


def _with_vector(index: SearchIndex, name: str, value: str | None) -> SearchIndex:
    if value is None:
        return index
    vector, *filters = index.definition["fields"]
    if value == "none" and embeds(index.definition):
        value = "float"  # the same by another name
    return replace(index, definition={**index.definition, "fields": [{**vector, name: value}, *filters]})


def indexes_for(embedder: Embedder, tuning: Tuning | None = None) -> tuple[SearchIndex, ...]:
    """All search indexes, for what an embedder stores."""
    if isinstance(embedder, AtlasEmbedder):
        return _indexes(embedder.index_field, tuning)
    return search_indexes(embedder.dimensions, embedder.similarity, tuning)


def search_indexes(
    dimensions: int, similarity: Similarity = "cosine", tuning: Tuning | None = None
) -> tuple[SearchIndex, ...]:
    """All search indexes, for vectors of these dimensions and this similarity."""
    return _indexes({"type": "vector", "numDimensions": dimensions, "similarity": similarity}, tuning)


def _indexes(embedding: Mapping[str, Any], tuning: Tuning | None) -> tuple[SearchIndex, ...]:
    """All search indexes, for a field without its path."""
    person = ("user_id", "tenant_id")
    indexes = (
        _vector(KNOWLEDGE, KNOWLEDGE_VECTOR, embedding, ("tenant_id",)),
        _vector(MEMORIES, MEMORIES_VECTOR, embedding, person),
        SearchIndex(
            MEMORIES,
            MEMORIES_TEXT,
            "search",
            _text((LABEL_WORDS, "content"), person),
            person,
        ),
    )
    return tuning.apply(indexes) if tuning else indexes


def _text(paths: tuple[str, ...], scope: tuple[str, ...]) -> dict[str, Any]:
    """The definition of a text index: at most 3 KB of JSON, the limit of small clusters.

    Its words are those of `lkmongo.search.words`: without case and accents, stemmed. Accents go first, because callers
    and speech recognition leave them out.
    """
    english, *others = LANGUAGES
    said = [{"type": "englishPossessive"}, {"type": "icuFolding"}]
    pairs = [{"type": "shingle", "minShingleSize": 2, "maxShingleSize": 2}, _replacing(" ", "")]
    analyzers = {english: [*said, _stemming(english)], JOINED: [*said, *pairs, _stemming(english)]}
    for code in others:
        before = [_replacing(*_BEFORE_STEMMING[code])] if code in _BEFORE_STEMMING else []
        after = [_replacing(GERMAN_ENDINGS, "")] if code == "de" else []
        analyzers[code] = [{"type": "icuFolding"}, *before, _stemming(code), *after]
    field = {"type": "string", "analyzer": english}
    ways = {JOINED: {"type": "string", "analyzer": JOINED, "searchAnalyzer": english}}
    ways |= {code: {"type": "string", "analyzer": code} for code in others}
    return {
        "mappings": {
            "dynamic": False,
            "fields": {path: field | {"multi": ways} for path in paths} | {path: {"type": "token"} for path in scope},
        },
        "analyzers": [
            {"name": name, "tokenizer": {"type": "standard"}, "tokenFilters": filters}
            for name, filters in analyzers.items()
        ],
    }


def _stemming(code: str) -> dict[str, Any]:
    return {"type": "snowballStemming", "stemmerName": LANGUAGES[code]}


def _replacing(pattern: str, replacement: str) -> dict[str, Any]:
    return {"type": "regex", "pattern": pattern, "replacement": replacement, "matches": "first"}


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
    "engine": "lucene",
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
_SCORED_BY = "bm25"
"""The default of a string field, `similarity: {type: "bm25"}`."""
_NO_DEFAULT = object()
_TUNED = frozenset({"numPartitions", "storedSource", "sort"})
_TUNED_OF_FIELD = frozenset({"quantization", "indexingMethod", "hnswOptions", "engine"})
"""Settings of an index, and of a field of it, that are left as they are in Atlas unless a definition names them."""
_MEANT = _TUNED | {
    *("fields", "nestedRoot"),
    *("mappings", "analyzer", "searchAnalyzer", "analyzers", "synonyms", "typeSets"),
}
"""What of a definition counts. The service ignores other keys when an index is created, and has its own in the form
that it keeps: the names and ids of the index and its collection, versions. (Source of MongoDB's search engine.)"""


def keep_tuned(index: SearchIndex, found: Mapping[str, Any]) -> SearchIndex:
    """The index with what was tuned in Atlas and no setting decides, so that a new definition does not undo it."""
    wanted = index.definition
    kept = {key: found[key] for key in found if key in _TUNED and key not in wanted}
    fields = wanted.get("fields")
    if fields is not None:
        there = {each.get("path"): each for each in found.get("fields", ())}
        fields = [_keep_tuned_field(each, there.get(each["path"], {})) for each in fields]
        kept |= {"fields": fields} if fields != wanted["fields"] else {}
    return replace(index, definition={**wanted, **kept}) if kept else index


def _keep_tuned_field(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Mapping[str, Any]:
    if wanted["type"] != found.get("type"):
        return wanted
    kept = {key: found[key] for key in found if key in _TUNED_OF_FIELD and key not in wanted}
    if wanted.get("indexingMethod") == "flat":
        kept.pop("hnswOptions", None)  # which the service refuses together
    return {**wanted, **kept}


def tuned(definition: Mapping[str, Any]) -> dict[str, Any]:
    """What was tuned, other than the defaults, by its path, such as `embedding.quantization`."""
    parts = {key: value for key, value in definition.items() if key in _TUNED}
    found = dict(_leaves(parts, ""))
    for each in definition.get("fields", ()):
        found |= _leaves({key: each[key] for key in each if key in _TUNED_OF_FIELD}, str(each.get("path")))
    return found


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Describe how `found` differs from `wanted`; empty if they mean the same.

    What can be tuned in Atlas only differs if `wanted` names it.
    """
    found = _comparable(wanted, found)
    should, there = dict(_leaves(_comparable(wanted, wanted), "")), dict(_leaves(found, ""))
    without = [path for path in should if path.startswith("analyzers.") and path not in there]
    changes = [f"the analyzers {', '.join(path.partition('.')[2] for path in without)} are missing"] if without else []
    for path in dict.fromkeys([*should, *there]):
        if path in without:
            continue
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


def _comparable(wanted: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, Any]:
    """What of a definition counts, without what was tuned and `wanted` does not name."""
    meant = _MEANT - (_TUNED - wanted.keys())
    counts = {key: value for key, value in definition.items() if key in meant}
    if "sort" in counts:
        counts["sort"] = {
            path: {"noData": "lowest", **(order if isinstance(order, Mapping) else {"order": order})}
            for path, order in counts["sort"].items()
        }
    if isinstance(fields := definition.get("fields"), list):
        named = {each.get("path"): each.keys() for each in wanted.get("fields", ())}
        counts["fields"] = [
            {key: each[key] for key in each if key not in _TUNED_OF_FIELD or key in named.get(each.get("path"), ())}
            for each in fields
        ]
    return counts


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
        if path == "analyzers":
            yield from ((f"{path}.{item.get('name')}", _steps(item)) for item in value)
            return
        for number, item in enumerate(value):
            named = item.get("path") or item.get("name") if isinstance(item, Mapping) else None
            rest = {key: part for key, part in item.items() if key not in {"path", "name"}} if named else item
            yield from _leaves(rest, f"{path}.{named or number}")
    elif value != (_SCORED_BY if path.endswith(".similarity.type") else _DEFAULTS.get(name, _NO_DEFAULT)):
        yield path, value


def _mapped(item: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The mappings of one path: one, or a list in any order."""
    ways = item if isinstance(item, list) else [item]
    for way in ways:
        if multi := way.get("multi"):
            yield f"{path}.multi", ", ".join(sorted(_way(name, each) for name, each in multi.items()))
    ways = [{key: part for key, part in way.items() if key != "multi"} for way in ways]
    if len(ways) == 1:
        yield from _leaves(ways[0], path)
        return
    yield f"{path}.type", " and ".join(sorted(str(way.get("type")) for way in ways))
    for way in ways:
        yield from _leaves({key: part for key, part in way.items() if key != "type"}, f"{path}.{way.get('type')}")


def _way(name: str, item: Mapping[str, Any]) -> str:
    """A `multi` on one line: its name and, if that is not its analyzer and all, what is not the default."""
    given = ((path.partition(".")[2], value) for path, value in sorted(_leaves(item, name)))
    settings = [f"{setting} {value}" for setting, value in given if setting != "type"]
    return name if settings == [f"analyzer {name}"] else f"{name} ({', '.join(settings)})"


def _steps(analyzer: Mapping[str, Any]) -> str:
    """What an analyzer does, on one line."""
    steps = [*analyzer.get("charFilters", ()), analyzer.get("tokenizer", {}), *analyzer.get("tokenFilters", ())]
    return ", ".join(
        " ".join(str(step[key]) for key in sorted(step, key=lambda key: (key != "type", key))) for step in steps
    )
