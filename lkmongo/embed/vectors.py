"""Vectors as they lie in MongoDB: `Binary` subtype 9 of 32-bit floats, a third of an array's size.

A subtype 9 value is a byte for the number's type (0x27: float32), a byte of padding, and the numbers, lowest byte
first. (BSON specification, binary vector.) It is written and read raw here: `Binary.from_vector` and `as_vector`
go through Python lists and take ten times as long.
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
    """Pack a vector of shape (d,) for storing."""
    return Binary(_FLOAT32 + np.ascontiguousarray(vector, dtype="<f4").tobytes(), VECTOR_SUBTYPE)


def from_bson(value: object, dimensions: int) -> NDArray[np.float32] | None:
    """Read a stored vector of either form, as unit length.

    Args:
        value: a `Binary` of subtype 9 with 32-bit floats, or an array of numbers as older documents have it.
        dimensions: the length it must have.

    Returns:
        Shape (dimensions,), or None for what cannot be compared: another form, type or length, a number that is
        not finite, or all zeros.
    """
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
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
                numbers = np.array(value, dtype=np.float64).astype(np.float32)
        except (TypeError, ValueError):
            return None
        return numbers if numbers.ndim == 1 else None
    return None
