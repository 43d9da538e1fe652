"""Vectors survive MongoDB's format, and what cannot be compared is not."""

from __future__ import annotations

import numpy as np
import pytest
from bson import decode, encode
from bson.binary import Binary, BinaryVectorDtype
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lkmongo.embed.vectors import from_bson, to_bson

UNIT = np.array([0.6, 0.8], dtype=np.float32)


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(0.125, 8, width=32)))
def test_what_is_stored_comes_back_as_unit_length(vector):
    stored = decode(encode({"v": to_bson(vector)}))["v"]
    back = from_bson(stored, len(vector))
    assert back.dtype == np.float32
    assert np.linalg.norm(back) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(back * np.linalg.norm(vector), vector, rtol=1e-4)


def test_the_form_is_the_drivers_own():
    assert to_bson(UNIT) == Binary.from_vector(UNIT.tolist(), BinaryVectorDtype.FLOAT32)
    assert to_bson(UNIT).as_vector().data == UNIT.tolist()


def test_a_unit_vector_comes_back_to_the_bit():
    assert from_bson(to_bson(UNIT), 2).tobytes() == UNIT.tobytes()


def test_a_vector_of_another_type_or_layout_is_stored_as_float32():
    assert to_bson(np.array([[0.6, 1], [0.8, 1]])[:, 0]) == to_bson(UNIT)


def test_large_numbers_do_not_overflow():
    np.testing.assert_allclose(from_bson(to_bson(UNIT * np.float32(3e38)), 2), UNIT, rtol=1e-6)


def test_old_arrays_of_numbers_are_read():
    np.testing.assert_allclose(from_bson([3, 4.0], 2), UNIT)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        3.0,
        [],
        [0.6],
        [0.6, 0.8, 0.0],
        [0.0, 0.0],
        [0.6, None],
        [0.6, "x"],
        [float("nan"), 1.0],
        [float("inf"), 1.0],
        [1e300, 1.0],
        [[0.6], [0.8]],
        Binary(b"", 9),
        Binary(b"\x27\x00", 9),
        Binary(to_bson(UNIT)[:-1], 9),
        Binary(bytes(to_bson(UNIT)), 0),
        Binary(bytes(to_bson(UNIT))),
        bytes(to_bson(UNIT)),
        to_bson(np.zeros(2, dtype=np.float32)),
        to_bson(np.array([np.nan, 1], dtype=np.float32)),
        to_bson(np.array([np.inf, 1], dtype=np.float32)),
        to_bson(np.ones(3, dtype=np.float32)),
        Binary.from_vector([1, 2, 3, 4, 5, 6, 7, 8], BinaryVectorDtype.INT8),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_none(value):
    assert from_bson(value, 2) is None
