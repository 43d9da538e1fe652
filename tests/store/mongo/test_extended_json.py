"""Extended JSON: whatever BSON holds comes back as it was, to the byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import bson
import pytest
from bson import json_util
from bson.binary import Binary, BinaryVectorDtype
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from lkmongo.store.mongo.extended_json import OPTIONS, READ, dumps, loads

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
    lambda name: not name.startswith("$")
)
MOMENTS = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.integers(-5, 5).map(Int64),
    st.floats(allow_nan=False),
    st.just(float("nan")),
    TEXT,
    MOMENTS,
    st.integers(-(2**63), 2**63 - 1).map(DatetimeMS),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.binary(),
    st.builds(Binary, st.binary(), st.integers(0, 255)),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1e9, max_value=1e9).map(Decimal128),
)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=12),
    max_size=6,
)


def round_trip(document: dict[str, object]) -> bytes:
    raw = bson.encode(document)
    line = dumps(bson.decode(raw, READ))
    assert b"\n" not in line
    json.loads(line)  # it is JSON
    return bson.encode(loads(line))


@settings(max_examples=50)
@given(DOCUMENTS)
def test_whatever_bson_holds_comes_back_as_it_was(document):
    assert round_trip(document) == bson.encode(document)


@pytest.mark.parametrize(
    "value",
    [
        Regex("a+[b]", "im"),
        Code("return 1"),
        Code("return a", {"a": 1}),
        DBRef("users", ObjectId("6b03c1c4f60b5c9171c81891")),
        MinKey(),
        MaxKey(),
        Decimal128("NaN"),
        Decimal128("1E+6144"),
        float("inf"),
        [float("-inf"), {"deep": [float("nan"), "null"]}],
        Binary(b"\x00" * 16, 4),
        Binary.from_vector([0.5, -1.0], BinaryVectorDtype.FLOAT32),
        -0.0,
        5e-324,
        2**53 + 1,
        Int64(7),
        datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ],
    ids=repr,
)
def test_the_rarer_types(value):
    assert round_trip({"value": value}) == bson.encode({"value": value})


def test_what_other_programs_read():
    moment = datetime(2026, 11, 1, 9, 30, 0, 250_000, tzinfo=UTC)
    document = {"_id": ObjectId("6b03ae499ce4010f5de23d3b"), "at": moment, "n": 3, "x": 0.1, "none": None, "t": "ü\x1b"}
    assert json.loads(dumps(document)) == {
        "_id": {"$oid": "6b03ae499ce4010f5de23d3b"},
        "at": {"$date": "2026-11-01T09:30:00.250Z"},
        "n": 3,
        "x": 0.1,
        "none": None,
        "t": "ü\x1b",
    }
    old = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert json.loads(dumps({"old": old})) == {"old": {"$date": {"$numberLong": "-1"}}}
    assert json.loads(dumps({"big": Int64(2**62)})) == {"big": {"$numberLong": str(2**62)}}
    assert json.loads(dumps({"epoch_ms": Int64(1_790_000_000_000)})) == {"epoch_ms": 1_790_000_000_000}


def test_it_is_what_json_util_writes_where_nothing_would_change():
    document = {
        "_id": ObjectId("6b03c1c4f60b5c9171c81891"),
        "at": datetime(2026, 11, 1, tzinfo=UTC),
        "list": [1, 0.5, None, "a", {"b": True}],
    }
    assert json.loads(dumps(document)) == json.loads(json_util.dumps(document, json_options=OPTIONS))


def test_times_in_a_zone_are_the_same_moment():
    zone = timezone(timedelta(hours=5, minutes=30))
    assert loads(dumps({"at": datetime(2026, 11, 1, 5, 30, tzinfo=zone)})) == {"at": datetime(2026, 11, 1, tzinfo=UTC)}


def test_text_that_is_not_utf8_does_not_end_an_export():
    raw = bson.encode({"text": "abc"}).replace(b"abc", b"a\xffc")
    assert loads(dumps(bson.decode(raw, READ))) == {"text": "a\ufffdc"}


def test_several_documents_are_an_array():
    assert json.loads(dumps([{"a": 1}, {"a": float("nan")}])) == [{"a": 1}, {"a": {"$numberDouble": "NaN"}}]
