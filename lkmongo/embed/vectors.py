"""Vectors in MongoDB: `Binary` subtype 9 of 32-bit floats, a third of an array's size; or the text it embeds itself.

A subtype 9 value is a type byte (0x27: float32), a byte of padding, and little-endian numbers (BSON specification,
binary vector). It is packed and unpacked here, because `Binary.from_vector` and `as_vector` use Python lists and take
ten times as long.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from bson.binary import VECTOR_SUBTYPE, Binary

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOAT32 = b"\x27\x00"


def to_bson(vector: NDArray[np.float32]) -> Binary:
    """Pack a vector of shape (d,)."""
    return Binary(_FLOAT32 + np.ascontiguousarray(vector, dtype="<f4").tobytes(), VECTOR_SUBTYPE)


def stored(text: str, vector: NDArray[np.float32]) -> Binary | str:
    """What a document holds as its embedding: the vector of `text`, or the text itself if MongoDB makes the vector.

    Args:
        text: what is embedded.
        vector: of the embedder, shape (dimensions,).
    """
    return to_bson(vector) if vector.size else text


def from_bson(value: object, dimensions: int) -> NDArray[np.float32] | None:
    """Unpack a stored vector, scaled to unit length.

    Args:
        value: a `Binary` of subtype 9 with 32-bit floats, or an array of numbers, as in older documents; or a text.
        dimensions: its required length; of a text it is 0.

    Returns:
        Shape (dimensions,), or None if it has another type or length, is not finite, or is all zeros.
    """
    if isinstance(value, str):
        return np.zeros(0, dtype=np.float32) if dimensions == 0 else None
    vector = _numbers(value, dimensions)
    if vector is None:
        return None
    wide = vector.astype(np.float64)  # the square of a large float32 is not one
    length = math.sqrt(wide @ wide)
    if not math.isfinite(length) or length == 0:
        return None
    return vector if abs(length - 1) < 1e-6 else (wide / length).astype(np.float32)


def _numbers(value: object, dimensions: int) -> NDArray[np.float32] | None:
    if isinstance(value, bytes):
        is_vector = getattr(value, "subtype", None) == VECTOR_SUBTYPE and value[:2] == _FLOAT32
        if not is_vector or len(value) != 2 + 4 * dimensions:
            return None
        return np.frombuffer(value, dtype="<f4", offset=2)
    if isinstance(value, list) and len(value) == dimensions:
        try:
            with np.errstate(over="ignore"):  # too large numbers become infinite, and are refused as such
                numbers = np.array(value, dtype=np.float64).astype(np.float32)
        except (TypeError, ValueError):
            return None
        return numbers if numbers.ndim == 1 else None
    return None
