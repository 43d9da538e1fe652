"""`$vectorSearch`: options as strict as the service's, scores by its formulas, on a copy of the documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from bson import Binary

from tests.standin import auto_embed
from tests.standin.definitions import VectorDefinition, VectorField
from tests.standin.errors import CommandError, MongotError, unsupported
from tests.standin.hits import Hit, draw, ranked
from tests.standin.snapshots import Snapshot
from tests.standin.values import Float32, binary_vector, kind_of, value_at, vector_of, whole_number
from tests.standin.vector_filter import compile_filter

MAX_CANDIDATES = 10_000

_OPTIONS = {"index", "path", "queryVector", "query", "model", "limit", "numCandidates", "exact", "filter"}
_NOT_MODELLED = {
    "parentFilter",
    "nestedOptions",
    "returnStoredSource",
    "explainOptions",
    "searchNodePreference",
}


@dataclass(frozen=True)
class VectorQuery:
    """The options of one stage, checked; with a vector, or a text and perhaps the model to embed it with."""

    index: str
    path: str
    vector: Float32 | None
    limit: int
    candidates: int | None
    filter: Any
    text: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class _Vectors:
    """The indexable vectors of a snapshot: positions of their documents, one row each."""

    positions: list[int]
    rows: Float32
    skipped: int


def parse_query(spec: Any) -> VectorQuery:
    """Check the options.

    Raises:
        CommandError: what the server or the search process refuses.
    """
    _check_in_server(spec)
    for key in spec:
        if key in _NOT_MODELLED:
            raise unsupported(f"the option {key!r} of $vectorSearch")
        if key not in _OPTIONS:
            raise MongotError(8, f'unrecognized field "{key}"')
    for key in ("index", "path"):
        if not isinstance(spec.get(key), str) or not spec[key]:
            raise MongotError(8, f'"{key}" is required')
    if ("query" in spec) == ("queryVector" in spec):
        raise MongotError(8, "Exactly one and only one of query and queryVector can be present")
    if "model" in spec and "query" not in spec:
        raise MongotError(
            8, "model can only be specified when using 'query' for auto-embedding, not with 'queryVector'"
        )
    limit = whole_number(spec.get("limit"))
    if limit is None:
        raise MongotError(8, '"limit" is required')
    if spec.get("filter") is not None:
        compile_filter(spec["filter"], None)  # it is read before the index is looked for
    options = spec["index"], spec["path"]
    more = limit, _candidates(spec, limit), spec.get("filter")
    if "query" in spec:
        return VectorQuery(*options, None, *more, *auto_embed.query_text(spec))
    return VectorQuery(*options, _query_vector(spec["queryVector"]), *more)


def _check_in_server(spec: Any) -> None:
    """What the server looks at before it asks the search process."""
    if not isinstance(spec, dict):
        raise CommandError(9, "$vectorSearch value must be an object.")
    if "limit" not in spec:
        return
    if kind_of(spec["limit"]) != "number":
        raise CommandError(8575100, "Expected limit field to be a number in $vectorSearch")
    if spec["limit"] <= 0:
        raise CommandError(7912700, "Expected limit to be positive")


def _candidates(spec: dict[str, Any], limit: int) -> int | None:
    exact = spec.get("exact", False)
    if not isinstance(exact, bool):
        raise MongotError(8, '"exact" must be a boolean')
    if exact:
        if "numCandidates" in spec:
            raise MongotError(8, '"numCandidates" must be omitted when "exact" is set to true')
        return None
    if "numCandidates" not in spec:
        raise MongotError(8, "numCandidates is required for approximate vector search")
    candidates = whole_number(spec["numCandidates"])
    if candidates is None or not 1 <= candidates <= MAX_CANDIDATES:
        raise MongotError(8, f'"numCandidates" must be within bounds [1..{MAX_CANDIDATES}]')
    if limit > candidates:
        raise MongotError(8, "limit should be less than or equal to numCandidates")
    return candidates


def _query_vector(value: Any) -> Float32:
    vector: Float32 | None = None
    if isinstance(value, Binary):
        vector = binary_vector(value)
    elif isinstance(value, list) and all(kind_of(item) == "number" for item in value):
        vector = np.asarray(value, dtype=np.float32)
    if vector is None or not vector.size:
        raise MongotError(8, '"queryVector" must be a non-empty array of numbers or a vector')
    if not np.isfinite(vector).all():
        position = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise MongotError(8, f"'queryVector' contains a non-finite value (Infinity or NaN) at position [{position}].")
    return vector


def check_against_index(query: VectorQuery, definition: VectorDefinition) -> None:
    """Check what depends on the index.

    Raises:
        MongotError: path, dimensions or filter do not fit the index.
    """
    field = definition.vectors.get(query.path)
    embeds = any(each.model for each in definition.vectors.values())
    if query.vector is None and not embeds:
        raise MongotError(8, "queryVector must be present")
    if query.vector is None and field is None:
        raise MongotError(8, f"Path '{query.path}' is not defined in Automated Embedding index '{query.index}'")
    if field is None:
        raise MongotError(8, f"{query.path} is not indexed as vector")
    if query.vector is not None and field.model is not None:
        raise unsupported("a query vector for an autoEmbed index")
    vector = _asked(query, field)
    if vector.size != field.dimensions:
        raise MongotError(
            8, f"vector field is indexed with {field.dimensions} dimensions but queried with {vector.size}"
        )
    if field.similarity == "cosine" and not vector.any():
        raise MongotError(8, "Cosine similarity cannot be calculated against a zero vector.")
    if query.filter is not None:
        compile_filter(query.filter, definition.filters)


def search(
    query: VectorQuery, definition: VectorDefinition, snapshot: Snapshot, *, seed: int = 0, recall: float = 1.0
) -> list[Hit]:
    """The hits of a checked query, best first.

    Args:
        recall: below 1, an approximate search with fewer candidates than documents misses this share of them.
    """
    field = definition.vectors[query.path]
    vectors = indexed(snapshot, field)
    keep = list(range(len(vectors.positions)))
    if query.filter is not None:
        matches = compile_filter(query.filter, definition.filters)
        keep = [row for row in keep if matches(snapshot.documents[vectors.positions[row]])]
    if query.candidates is not None and query.candidates < len(keep) and recall < 1 and not field.flat:
        ids = {row: snapshot.documents[vectors.positions[row]]["_id"] for row in keep}
        keep = [row for row in keep if draw(seed + 1, ids[row]) < recall * 2**32]
    if not keep:
        return []
    scores = score(_asked(query, field), vectors.rows[keep], field.similarity)
    hits = [
        Hit(snapshot.documents[vectors.positions[row]]["_id"], float(value))
        for row, value in zip(keep, scores, strict=True)
    ]
    return ranked(hits, seed)[: query.limit]


def _asked(query: VectorQuery, field: VectorField) -> Float32:
    if query.vector is None:
        return auto_embed.query_vector(query.text or "", query.model, str(field.model), field.dimensions)
    return query.vector


def score(query: Float32, rows: Float32, similarity: str) -> Float32:
    """Scores of rows for a query: (1 + similarity) / 2, or 1 / (1 + squared distance)."""
    if similarity == "euclidean":
        return np.asarray(1.0 / (1.0 + ((rows - query) ** 2).sum(axis=1)), dtype=np.float32)
    products = rows @ query
    if similarity == "cosine":
        products = products / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
    return np.asarray(np.maximum((1.0 + products) / 2.0, 0.0), dtype=np.float32)


def indexed(snapshot: Snapshot, field: VectorField) -> _Vectors:
    """The vectors of a snapshot that fit the index; all others are left out without a word."""
    if field not in snapshot.cache:
        positions, rows, skipped = [], [], 0
        for position, document in enumerate(snapshot.documents):
            value = value_at(document, field.path)
            if field.model is None:
                vector = vector_of(value, field.dimensions)
            else:
                vector = auto_embed.document_vector(document, field.path, field.dimensions)
            if vector is not None and (field.similarity != "cosine" or vector.any()):
                positions.append(position)
                rows.append(vector)
            elif value is not None:
                skipped += 1
        matrix = np.vstack(rows) if rows else np.empty((0, field.dimensions), dtype=np.float32)
        snapshot.cache[field] = _Vectors(positions, matrix, skipped)
    found: _Vectors = snapshot.cache[field]
    return found
