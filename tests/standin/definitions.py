"""Search index definitions: what the service accepts, parsed for the engine. All else is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bson import json_util

from tests.standin import auto_embed
from tests.standin.custom_analyzers import parse_analyzers
from tests.standin.errors import CommandError, bad_definition, unsupported, wrong_definition
from tests.standin.mappings import Mapping, count_fields, parse_mapping, parse_type_sets
from tests.standin.values import whole_number

TYPES = ("search", "vectorSearch")
MAX_DIMENSIONS = 8192
SMALL_BYTES, SMALL_FIELDS = 3 * 1024, 300
PARTITIONS = (1, 2, 4, 8, 16, 32, 64)
HNSW = {"maxEdges": (16, 64), "numEdgeCandidates": (100, 3200)}
"""The least, which is the default, and the most."""

_SIMILARITIES = ("cosine", "dotProduct", "euclidean")
_QUANTIZATIONS = ("binary", "none", "scalar")
_VECTOR_KEYS = {
    "type", "path", "numDimensions", "similarity", "quantization", "hnswOptions", "indexingMethod", "engine"
}  # fmt: skip
_TOP_KEYS = {
    "vectorSearch": {"fields", "numPartitions", "storedSource", "nestedRoot"},
    "search": {
        "mappings", "analyzer", "searchAnalyzer", "analyzers", "numPartitions", "storedSource", "synonyms", "typeSets",
        "sort",
    },
}  # fmt: skip


@dataclass(frozen=True)
class VectorField:
    """One indexed vector path."""

    path: str
    dimensions: int
    similarity: str
    flat: bool = False
    model: str | None = None
    """Of an `autoEmbed` field: the search process makes the vectors of the text at the path."""
    spelled_out: bool = True
    """No option is left to what the model has by default."""


@dataclass(frozen=True)
class VectorDefinition:
    """A `vectorSearch` index.

    Attributes:
        unmodelled: what the service accepts and the stand-in cannot search.
    """

    vectors: dict[str, VectorField]
    filters: frozenset[str] = field(default_factory=frozenset)
    unmodelled: str | None = None


@dataclass(frozen=True)
class SearchDefinition:
    """A `search` index; `unmodelled` as above."""

    mapping: Mapping
    unmodelled: str | None = None


Definition = VectorDefinition | SearchDefinition


def parse_definition(kind: str, definition: Any, *, small: bool = False, update: bool = False) -> Definition:
    """Check a definition as the service does.

    Args:
        kind: `search` or `vectorSearch`.
        definition: the document of the command.
        small: apply the limits of the smallest clusters.
        update: an update knows every key; the creation of an index lets unknown ones of the top pass, and drops them.

    Raises:
        DefinitionError: for what the service refuses.
        CommandError: code 9999 for what is not modelled, 2 for what is too large for a small cluster.
    """
    if not isinstance(definition, dict):
        raise bad_definition('"definition" must be a document')
    if small and len(json_util.dumps(definition)) > SMALL_BYTES:
        raise CommandError(2, "the definition is larger than 3 KB, the limit of this instance size")
    parsed = _parse_vector(definition) if kind == "vectorSearch" else _parse_search(definition, small=small)
    partitions = whole_number(definition.get("numPartitions", 1))
    if partitions not in PARTITIONS:
        raise bad_definition(f'"numPartitions" numPartitions {partitions} must be of 1, 2, 4, 8, 16, 32, or 64.')
    unknown = [key for key in definition if key not in _TOP_KEYS[kind]]
    if update and len(unknown) == 1:
        raise bad_definition(f'unrecognized field "{unknown[0]}"')
    if update and unknown:
        raise bad_definition("unrecognized fields [{}]".format(", ".join(f'"{key}"' for key in unknown)))
    _check_stored(definition.get("storedSource", False), vector=kind == "vectorSearch")
    return parsed


def _parse_search(definition: dict[str, Any], *, small: bool) -> SearchDefinition:
    if "mappings" not in definition:
        raise bad_definition('"mappings" is required')
    if not isinstance(definition.get("synonyms", []), list):
        raise bad_definition('"synonyms" must be a array')
    if definition.get("synonyms"):
        raise unsupported("'synonyms' in an index definition")
    parse_type_sets(definition.get("typeSets"))
    mapping = parse_mapping(
        definition["mappings"],
        definition.get("analyzer"),
        definition.get("searchAnalyzer"),
        "mappings",
        parse_analyzers(definition.get("analyzers")),
    )
    if small and count_fields(definition["mappings"]) > SMALL_FIELDS:
        raise CommandError(2, "more than 300 fields, the limit of this instance size")
    # The published engine reads and shows a sort order, and cannot build an index with one.
    return SearchDefinition(mapping, "a sort order" if definition.get("sort") is not None else mapping.unmodelled)


def _parse_vector(definition: dict[str, Any]) -> VectorDefinition:
    fields = definition.get("fields")
    if fields is None:
        raise bad_definition('"fields" is required')
    if not isinstance(fields, list):
        raise bad_definition('"fields" must be a array')
    vectors: dict[str, VectorField] = {}
    paths: list[str] = []
    filters: list[str] = []
    root = definition.get("nestedRoot")
    unmodelled = "a nested root" if root is not None else None
    for number, item in enumerate(fields):
        where = f"fields[{number}]"
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "vector":
            vector = _vector_field(item, where)
            vectors[vector.path] = vector
            unmodelled = "a custom engine" if item.get("engine") == "custom" else unmodelled
        elif kind == "filter":
            _known(item, {"type", "path"}, where)
            filters.append(_path(item, where))
        elif kind == "embeddedDocuments":
            _known(item, {"type", "path", "fields"}, where)
            if item.get("fields"):
                raise unsupported("fields of embedded documents in a vectorSearch index")
            unmodelled = "embedded documents"
        elif kind == "text":
            _known(item, {"type", "path", "model", "similarity", "quantization"}, where)
            unmodelled = "fields of type 'text'"
        elif kind == "autoEmbed":
            vector = _auto_embed_field(item, where)
            vectors[vector.path] = vector
            unmodelled = auto_embed.unmodelled(item) or unmodelled
        else:
            raise bad_definition(f'"{where}.type" must be one of [autoEmbed, embeddedDocuments, filter, text, vector]')
        paths.append(_path(item, where))
    if len(set(paths)) != len(paths):
        raise bad_definition('"fields" Vector and filter fields should have distinct paths')
    if root is not None and not any(path.startswith(f"{root}.") for path in vectors):
        raise wrong_definition(f'nestedRoot "{root}" does not match any vector field path in the index definition')
    return VectorDefinition(vectors, frozenset(filters), unmodelled)


def _vector_field(item: dict[str, Any], where: str) -> VectorField:
    _known(item, _VECTOR_KEYS, where)
    path = _path(item, where)
    dimensions = _number(item, "numDimensions", 1, MAX_DIMENSIONS, where)
    _one_of(item, "similarity", _SIMILARITIES, where)
    if _one_of(item, "quantization", _QUANTIZATIONS, where, "none") == "binary" and dimensions % 8:
        raise bad_definition(f'"{where}" numDimensions {dimensions} must be a multiple of 8 for binary quantization')
    flat = _one_of(item, "indexingMethod", ("flat", "hnsw"), where, "hnsw") == "flat"
    _one_of(item, "engine", ("custom", "lucene"), where, "lucene")
    options = item.get("hnswOptions")
    if options is not None and not isinstance(options, dict):
        raise bad_definition(f'"{where}.hnswOptions" must be a document')
    _known(options or {}, set(HNSW), f"{where}.hnswOptions")
    for key in options or {}:
        _number(options or {}, key, *HNSW[key], f"{where}.hnswOptions")
    if flat and options is not None:
        raise bad_definition(f'"{where}" hnswOptions is only supported with "indexingMethod: hnsw".')
    return VectorField(path, dimensions, item["similarity"], flat=flat)


def _auto_embed_field(item: dict[str, Any], where: str) -> VectorField:
    auto_embed.check_field(item, where)
    own = {"model", "modality", "quantization"}
    rest = {key: value for key, value in (auto_embed.DEFAULTS | item).items() if key not in own}
    spelled_out = auto_embed.DEFAULTS.keys() <= item.keys()
    return replace(_vector_field(rest, where), model=item["model"], spelled_out=spelled_out)


def _check_stored(stored: Any, *, vector: bool) -> None:
    if stored is True and vector:
        text = "storedSource: true is not supported for vector indexes. Accepted values are include, exclude, or false."
        raise bad_definition(text)
    if isinstance(stored, bool):
        return
    if not isinstance(stored, dict):
        raise bad_definition('"storedSource" must be a boolean or document')
    if len(stored) != 1 or not stored.keys() <= {"include", "exclude"}:
        raise bad_definition('"storedSource" exactly one of [include, exclude] must be present')
    ((key, paths),) = stored.items()
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path.strip() for path in paths):
        raise bad_definition(f'"storedSource.{key}" cannot be empty')


def _number(document: dict[str, Any], key: str, low: int, high: int, where: str) -> int:
    if document.get(key) is None:
        raise bad_definition(f'"{where}.{key}" is required')
    found = whole_number(document[key])
    if found is None:
        raise bad_definition(f'"{where}.{key}" must be an integer')
    if not low <= found <= high:
        raise bad_definition(f'"{where}.{key}" must be within bounds [{low}..{high}]')
    return found


def _one_of(item: dict[str, Any], key: str, choice: tuple[str, ...], where: str, default: str | None = None) -> Any:
    found = item.get(key, default)
    if found is None:
        raise bad_definition(f'"{where}.{key}" is required')
    if found not in choice:
        raise bad_definition(f'"{where}.{key}" must be one of [{", ".join(choice)}]')
    return found


def _path(item: dict[str, Any], where: str) -> str:
    path = item.get("path")
    if path is None:
        raise bad_definition(f'"{where}.path" is required')
    if not isinstance(path, str) or not path or not all(path.split(".")):
        raise bad_definition(f'"{where}.path" cannot be empty')
    return path


def _known(document: dict[str, Any], keys: set[str], where: str) -> None:
    for key in document:
        if key not in keys:
            raise bad_definition(f'"{where}" unrecognized field "{key}"')
