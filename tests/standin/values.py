"""BSON values as an index sees them: what lies at a path, of which kind, in which order."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import bson
import numpy as np
from bson import Binary, DatetimeMS, ObjectId
from numpy.typing import NDArray

from tests.standin.errors import unsupported

Float32 = NDArray[np.float32]

_FLOAT32, _INT8, _PACKED_BIT = 0x27, 0x03, 0x10


def values_at(document: Any, path: str) -> list[Any]:
    """Every leaf value at a dotted path; arrays on the way and at the end count as their elements."""
    found = [document]
    for part in path.split("."):
        found = [item[part] for item in _spread(found) if isinstance(item, dict) and part in item]
    return _spread(found)


def value_at(document: Any, path: str) -> Any:
    """The one value at a dotted path of documents in documents, or None."""
    for part in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(part)
    return document


def present_at(document: Any, path: str) -> bool:
    """Whether there is anything at a dotted path, be it null or an empty array."""
    *way, last = path.split(".")
    holders = values_at(document, ".".join(way)) if way else [document]
    return any(isinstance(item, dict) and last in item for item in holders)


def _spread(items: list[Any]) -> list[Any]:
    """The elements of arrays, and of arrays in them."""
    return [leaf for item in items for leaf in (_spread(item) if isinstance(item, list) else [item])]


def kind_of(value: Any) -> str:
    """The type bracket of a value, `other` for what no index of the service holds."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, datetime | DatetimeMS):
        return "date"
    if isinstance(value, ObjectId):
        return "objectId"
    if isinstance(value, Binary) and value.subtype == 4:
        return "uuid"
    return "other"


def comparable(value: Any) -> Any:
    """A value of a known kind as something Python compares within that kind."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    if isinstance(value, DatetimeMS):
        return int(value)
    return value


def identity(value: Any) -> bytes:
    """A hashable name for any BSON value."""
    return bson.encode({"v": value})


def vector_of(value: Any, dimensions: int) -> Float32 | None:
    """A stored value as an indexable vector, or None when the service would skip it without a word."""
    if isinstance(value, Binary):
        vector = binary_vector(value)
    elif isinstance(value, list) and all(kind_of(item) == "number" for item in value):
        vector = np.asarray(value, dtype=np.float32)
    else:
        return None
    if vector is None or vector.shape != (dimensions,) or not np.isfinite(vector).all():
        return None
    return vector


def binary_vector(value: Binary) -> Float32 | None:
    """BSON vector of float32 (binary subtype 9), or None if it is no vector at all."""
    if value.subtype != 9 or len(value) < 2:
        return None
    if value[0] in (_INT8, _PACKED_BIT):
        raise unsupported("vectors of int8 or of bits")
    if value[0] != _FLOAT32 or value[1] != 0 or (len(value) - 2) % 4:
        return None
    return np.frombuffer(value, dtype="<f4", offset=2).astype(np.float32)


def whole_number(value: Any) -> int | None:
    """An integer, also one that came as a double, or None."""
    if kind_of(value) != "number" or not math.isfinite(value) or value != int(value):
        return None
    return int(value)
