"""Search index definitions: what the service accepts, parsed for the engine. All else is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bson import json_util

from tests.standin import auto_embed
from tests.standin.errors import CommandError, bad_definition, unsupported
from tests.standin.mappings import Mapping, count_fields, parse_mapping
from tests.standin.values import whole_number

TYPES = ("search", "vectorSearch")
MAX_DIMENSIONS = 8192
SMALL_BYTES, SMALL_FIELDS = 3 * 1024, 300

_SIMILARITIES = ("cosine", "dotProduct", "euclidean")
_QUANTIZATIONS = ("none", "scalar", "binary")
_VECTOR_KEYS = {"type", "path", "numDimensions", "similarity", "quantization", "hnswOptions", "indexingMethod"}
_HNSW_LIMITS = {"maxEdges": (16, 64), "numEdgeCandidates": (100, 3200)}
_NOT_MODELLED = {"storedSource", "nestedRoot", "analyzers", "synonyms", "typeSets"}


@dataclass(frozen=True)
class VectorField:
    """One indexed vector path."""

    path: str
    dimensions: int
    similarity: str
    flat: bool = False
    model: str | None = None
    """Of an `autoEmbed` field: the search process makes the vectors of the text at the path."""


@dataclass(frozen=True)
class VectorDefinition:
    """A `vectorSearch` index."""

    vector: VectorField
    filters: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class SearchDefinition:
    """A `search` index."""

    mapping: Mapping


Definition = VectorDefinition | SearchDefinition


def parse_definition(kind: str, definition: Any, *, small: bool = False) -> Definition:
    """Check a definition as the service does.

    Args:
        kind: `search` or `vectorSearch`.
        definition: the document of the command.
        small: apply the limits of the smallest clusters.

    Raises:
        CommandError: code 2 for what the service refuses, 9999 for what is not modelled.
    """
    if not isinstance(definition, dict):
        raise bad_definition('"definition" must be a document')
    if small and len(json_util.dumps(definition)) > SMALL_BYTES:
        raise bad_definition("the definition is larger than 3 KB, the limit of this instance size")
    for key in _NOT_MODELLED & definition.keys():
        raise unsupported(f"{key!r} in an index definition")
    if definition.get("numPartitions", 1) not in (1, 2, 4):
        raise bad_definition('"numPartitions" must be one of 1, 2, 4')
    return _parse_vector(definition) if kind == "vectorSearch" else _parse_search(definition, small=small)


def _parse_search(definition: dict[str, Any], *, small: bool) -> SearchDefinition:
    if "mappings" not in definition:
        raise bad_definition("Attribute mappings missing.")
    _known(definition, {"mappings", "analyzer", "searchAnalyzer", "numPartitions"}, "definition")
    mapping = parse_mapping(
        definition["mappings"], definition.get("analyzer"), definition.get("searchAnalyzer"), "mappings"
    )
    if small and count_fields(definition["mappings"]) > SMALL_FIELDS:
        raise bad_definition("more than 300 fields, the limit of this instance size")
    return SearchDefinition(mapping)


def _parse_vector(definition: dict[str, Any]) -> VectorDefinition:
    _known(definition, {"fields", "numPartitions"}, "definition")
    fields = definition.get("fields")
    if not isinstance(fields, list) or not fields:
        raise bad_definition('"fields" is required and must be a non-empty array')
    vectors: list[VectorField] = []
    filters: list[str] = []
    for number, item in enumerate(fields):
        where = f"fields[{number}]"
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "vector":
            vectors.append(_vector_field(item, where))
        elif kind == "filter":
            _known(item, {"type", "path"}, where)
            filters.append(_path(item, where))
        elif kind == "autoEmbed":
            vectors.append(_auto_embed_field(item, where))
        elif kind == "text":
            raise unsupported(f"fields of type {kind!r}")
        else:
            raise bad_definition(f'"{where}.type" must be one of [vector, filter]')
    paths = [vector.path for vector in vectors] + filters
    if len(set(paths)) != len(paths):
        raise bad_definition("every path may be indexed once only, as vector or as filter")
    if not vectors:
        raise bad_definition("at least one field of type vector is required")
    if len({vector.model is None for vector in vectors}) > 1:
        raise CommandError(
            2,
            "Index cannot mix regular vector fields with auto-embedding fields. Please use either pre-computed "
            "embeddings or auto-embedding, but not both in the same index.",
        )
    if len(vectors) > 1:
        raise unsupported("several vector fields in one index")
    return VectorDefinition(vectors[0], frozenset(filters))


def _vector_field(item: dict[str, Any], where: str) -> VectorField:
    _known(item, _VECTOR_KEYS, where)
    dimensions = whole_number(item.get("numDimensions"))
    if dimensions is None or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise bad_definition(f'"{where}.numDimensions" must be an integer from 1 to {MAX_DIMENSIONS}')
    if item.get("similarity") not in _SIMILARITIES:
        raise bad_definition(f'"{where}.similarity" must be one of {list(_SIMILARITIES)}')
    if item.get("quantization", "none") not in _QUANTIZATIONS:
        raise bad_definition(f'"{where}.quantization" must be one of {list(_QUANTIZATIONS)}')
    if item.get("quantization") == "binary" and dimensions % 8:
        raise bad_definition(f'"{where}.numDimensions" must be a multiple of 8 for binary quantization')
    method = item.get("indexingMethod", "hnsw")
    if method not in ("hnsw", "flat"):
        raise bad_definition(f'"{where}.indexingMethod" must be one of [hnsw, flat]')
    if method == "flat" and "hnswOptions" in item:
        raise bad_definition(f'"{where}.hnswOptions" cannot be given with the indexing method flat')
    _check_hnsw(item.get("hnswOptions", {}), f"{where}.hnswOptions")
    return VectorField(_path(item, where), dimensions, item["similarity"], flat=method == "flat")


def _auto_embed_field(item: dict[str, Any], where: str) -> VectorField:
    auto_embed.check_field(item, where)
    own = {"model", "modality", "quantization"}
    vector = _vector_field({key: value for key, value in item.items() if key not in own}, where)
    return replace(vector, model=item["model"])


def _check_hnsw(options: Any, where: str) -> None:
    if not isinstance(options, dict):
        raise bad_definition(f'"{where}" must be a document')
    _known(options, set(_HNSW_LIMITS), where)
    for key, value in options.items():
        low, high = _HNSW_LIMITS[key]
        number = whole_number(value)
        if number is None or not low <= number <= high:
            raise bad_definition(f'"{where}.{key}" must be an integer from {low} to {high}')


def _path(item: dict[str, Any], where: str) -> str:
    path = item.get("path")
    if not isinstance(path, str) or not path or not all(path.split(".")):
        raise bad_definition(f'"{where}.path" must be a non-empty string')
    return path


def _known(document: dict[str, Any], keys: set[str], where: str) -> None:
    for key in document:
        if key not in keys:
            raise bad_definition(f'"{where}" unrecognized field "{key}"')


def equivalent(kind: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the lenient service takes `other` for the same index as `one`."""
    keys = ("fields",) if kind == "vectorSearch" else ("analyzer", "mappings", "searchAnalyzer")
    if one.get("numPartitions", 1) != other.get("numPartitions", 1):
        return False
    return all(one.get(key) == other.get(key) for key in keys)


def normalised(kind: str, definition: dict[str, Any]) -> dict[str, Any]:
    """A definition as `statusDetail` shows it: not the customer's words but with defaults in or out."""
    if kind == "vectorSearch":
        drop = {"quantization": "none", "indexingMethod": "hnsw"}
        fields = [{k: v for k, v in item.items() if drop.get(k) != v} for item in definition["fields"]]
        return {"fields": fields}
    mappings = {"dynamic": False, "fields": {}} | definition["mappings"]
    return {**definition, "mappings": mappings}
