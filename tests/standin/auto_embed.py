"""Automated embedding: `autoEmbed` fields, text queries, and the vectors that the search process makes for both.

The words of errors are those of MongoDB's search engine (mongot: `VectorAutoEmbedFieldSpecification`,
`AutoEmbeddingIndexValidator`, `VectorSearchCommand`); options and models are those of the documentation and of the
schema of its definitions. The real vectors are Voyage's; here they are the local embedder's, filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lkmongo.embed import local
from tests.standin.errors import CommandError, MongotError, bad_definition, unsupported
from tests.standin.values import Float32, value_at

if TYPE_CHECKING:
    from tests.standin.definitions import VectorField

FAMILY = ("voyage-4", "voyage-4-large", "voyage-4-lite")
"""Models that share one space: a question may be embedded by another one than the documents."""
MODELS = (*FAMILY, "voyage-code-3")
DIMENSIONS = (256, 512, 1024, 2048)
DEFAULTS = {"numDimensions": 1024, "similarity": "dotProduct", "quantization": "float"}
"""The quantization is the engine's; the documentation of Atlas says `scalar`."""
_REQUIRED = ("model", "modality")


def check_field(item: dict[str, Any], where: str) -> None:
    """Check the keys that only an `autoEmbed` field has.

    Raises:
        CommandError: what the service refuses.
    """
    for key in _REQUIRED:
        if not isinstance(item.get(key), str):
            raise bad_definition(f'"{where}.{key}" is required')
    if item["modality"] != "text":
        raise bad_definition(f"\"{where}.modality\" must be 'text'")
    if item.get("numDimensions", DIMENSIONS[0]) not in DIMENSIONS:
        raise bad_definition(f'"{where}.numDimensions" must be one of {list(DIMENSIONS)}')
    if item.get("quantization", "float") not in ("float", "scalar", "binary", "binaryNoRescore"):
        raise bad_definition(f'"{where}.quantization" must be one of [float, scalar, binary, binaryNoRescore]')


def unmodelled(item: dict[str, Any]) -> str | None:
    """What of a field is accepted, and cannot be searched here."""
    return None if item.get("quantization", "float") == "float" else "quantized automatic embedding"


def check_creation(vectors: Iterable[VectorField], *, embeds: bool) -> None:
    """Refuse models that the search process does not know, which are all if no embedding service is set up.

    Raises:
        CommandError: without a code where it looks for what is not spelled out, which the server makes 8.
    """
    vectors = list(vectors)
    known = MODELS if embeds else ()
    for vector in vectors:
        if vector.model and vector.model not in known and not vector.spelled_out:
            text = f"CanonicalModel: {vector.model} not registered yet, supported models are: [{', '.join(known)}]"
            raise CommandError(8, text)
    models = {vector.model for vector in vectors}
    if unknown := sorted(model for model in models if model and model not in known):
        text = f"The following embedding model(s) are not supported: {', '.join(unknown)}"
        supported = ", ".join(known) or "none (embedding service not configured)"
        raise CommandError(2, f"{text}. Supported models: {supported}.")
    if None in models and len(models) > 1:
        raise CommandError(
            2,
            "Index cannot mix regular vector fields with auto-embedding fields. Please use either pre-computed "
            "embeddings or auto-embedding, but not both in the same index.",
        )


def check_update(old: dict[str, Any], new: dict[str, Any], name: str) -> None:
    """Refuse an update of what is embedded; from vectors to automatic embedding nothing is documented."""
    before, after = _fields(old), _fields(new)
    if before and not after:
        raise CommandError(
            125, "For a vector search index definition, you cannot convert a type:autoEmbed to a type:vector"
        )
    if after and not before:
        raise unsupported("an update from type 'vector' to type 'autoEmbed'")
    if before != after:
        raise CommandError(
            125,
            f"Index: {name} cannot update type:autoEmbed fields. To modify an index containing Automated Embedding "
            "fields, please delete the index and create a new one instead",
        )


def _fields(definition: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in definition.get("fields", []) if item.get("type") == "autoEmbed"]


def query_text(spec: dict[str, Any]) -> tuple[str, str | None]:
    """The text of a query, and the model to embed it with if that is named."""
    query, model = spec["query"], spec.get("model")
    if model is not None and (not isinstance(model, str) or not model):
        raise MongotError(8, '"model" must be a non-empty string')
    if isinstance(query, dict):
        for key in query:
            if key != "text":
                raise MongotError(8, f'unrecognized field "{key}"')
        query = query.get("text", "")
        if not isinstance(query, str):
            raise MongotError(8, '"query.text" must be a string')
    elif not isinstance(query, str):
        raise MongotError(8, "query must be a string or document")
    return query, model


def query_vector(text: str, model: str | None, index_model: str, dimensions: int) -> Float32:
    """The vector of a question to an index of `index_model`."""
    if not text:
        raise MongotError(8, "'query' field cannot be empty when querying Automated Embedding index")
    if model is not None and model not in MODELS:
        raise MongotError(8, f"model '{model}' is not allowed. Allowed models are: [{', '.join(MODELS)}]")
    if model is not None and model != index_model and not {model, index_model} <= set(FAMILY):
        raise MongotError(8, f"query model '{model}' is not compatible with the index model '{index_model}'")
    return _vector(text, dimensions)


def document_vector(document: dict[str, Any], path: str, dimensions: int) -> Float32 | None:
    """The vector of a document; None without a text, which is no error."""
    text = value_at(document, path)
    if isinstance(text, list) and any(isinstance(each, str) for each in text):
        raise unsupported("automatic embedding of arrays")
    return _vector(text, dimensions) if isinstance(text, str) and text.strip() else None


@cache
def _vector(text: str, dimensions: int) -> Float32:
    (found,) = local.load().embed([text])
    return np.pad(found, (0, dimensions - len(found)))
