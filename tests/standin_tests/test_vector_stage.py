"""`$vectorSearch`: options, filters, scores, and what is silently not there."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime

import pytest
from bson import Binary, Decimal128, ObjectId
from bson.binary import BinaryVectorDtype
from pymongo.read_concern import ReadConcern
from pymongo.server_api import ServerApi

from tests.standin_tests.helpers import (
    VECTOR_FIELD,
    built,
    ids,
    refused,
    rows,
    search_index,
    vector_index,
    vector_stage,
)

SCORE = {"$project": {"score": {"$meta": "vectorSearchScore"}}}
NAN, INFINITY = float("nan"), float("inf")


def float32(*numbers: float) -> Binary:
    return Binary.from_vector(list(numbers), BinaryVectorDtype.FLOAT32)


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        ("cosine", {1: 1.0, 2: (1 + math.sqrt(0.5)) / 2, 3: 0.5, 4: 0.0}),
        ("dotProduct", {1: 1.5, 2: 1.0, 3: 0.5, 4: 0.0}),
        ("euclidean", {1: 0.5, 2: 0.5, 3: 1 / 3, 4: 0.2}),
    ],
)
async def test_scores_follow_the_formulas(start, collection, similarity, expected):
    standin = start()
    coll = await collection(standin)
    vectors = {1: [2.0, 0.0], 2: [1.0, 1.0], 3: [0.0, 1.0], 4: [-1.0, 0.0]}
    await coll.insert_many([{"_id": key, "e": value} for key, value in vectors.items()])
    await built(standin, coll, vector_index(definition={"fields": [{**VECTOR_FIELD, "similarity": similarity}]}))
    found = await rows(coll, vector_stage([1.0, 0.0]), SCORE)
    assert {row["_id"]: row["score"] for row in found} == pytest.approx(expected, abs=1e-6)
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)


async def test_equal_scores_have_no_order_that_can_be_relied_on(start, collection):
    orders = set()
    for seed in range(6):
        standin = start(profile="community", seed=seed)
        coll = await collection(standin)
        if not await coll.count_documents({}):
            await coll.insert_many([{"_id": n, "e": [1.0, 0.0]} for n in range(8)])
        await built(standin, coll, vector_index())
        orders.add(tuple(await ids(coll, vector_stage([1.0, 0.0], 8))))
    assert len(orders) > 1
    assert all(sorted(order) == list(range(8)) for order in orders)


async def test_vectors_that_do_not_fit_are_left_out_without_a_word(start, collection):
    standin = start()
    coll = await collection(standin)
    wrong = [
        [1.0],
        [1.0, 0.0, 0.0],
        [0.0, 0.0],
        [NAN, 1.0],
        [INFINITY, 1.0],
        ["1", "2"],
        "text",
        float32(1.0),
        [True, 1],
    ]
    wrong += [Binary(b"\x27\x01\x00\x00\x80\x3f\x00\x00\x80\x3f", 9), Binary(b"12345678", 0)]
    good = [[1.0, 0.0], [1, 0], float32(1.0, 0.0)]
    await coll.insert_many([{"_id": f"bad{n}", "e": value} for n, value in enumerate(wrong)])
    await coll.insert_many([{"_id": f"good{n}", "e": value} for n, value in enumerate(good)])
    await coll.insert_one({"_id": "none"})
    await built(standin, coll, vector_index())
    assert sorted(await ids(coll, vector_stage([1.0, 0.0], 50))) == ["good0", "good1", "good2"]
    assert standin.skipped(coll.database.name, "c", "v") == len(wrong)


async def test_a_query_vector_may_be_binary_too(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([{"_id": 1, "e": [0.0, 1.0]}, {"_id": 2, "e": float32(1.0, 0.1)}])
    await built(standin, coll, vector_index())
    assert await ids(coll, vector_stage(float32(1.0, 0.0))) == [2, 1]
    assert await ids(coll, vector_stage(float32(1.0, 0.0), exact=True)) == [2, 1]


async def test_a_vector_in_a_nested_document(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "a": {"e": [1.0, 0.0]}})
    await built(standin, coll, vector_index(definition={"fields": [{**VECTOR_FIELD, "path": "a.e"}]}))
    assert await ids(coll, vector_stage([1.0, 0.0], path="a.e")) == [1]


async def test_an_unknown_index_and_a_missing_collection_find_nothing(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "e": [1.0, 0.0]})
    await built(standin, coll, vector_index())
    assert await ids(coll, vector_stage([1.0, 0.0])) == [1]
    assert await ids(coll, vector_stage([1.0, 0.0], index="vv")) == []
    assert await ids(coll.database["missing"], vector_stage([1.0, 0.0])) == []


QUERY_MISTAKES = [
    ({"numCandidates": None}, 8, "numCandidates is required for approximate vector search"),
    ({"numCandidates": 4}, 8, "limit should be less than or equal to numCandidates"),
    ({"numCandidates": 10_001}, 8, "numCandidates"),
    ({"exact": True}, 8, '"numCandidates" must be omitted when "exact" is set to true'),
    ({"query": "tea"}, 8, "Exactly one and only one of query and queryVector can be present"),
    ({"queryVector": None}, 8, "Exactly one and only one of query and queryVector can be present"),
    ({"path": "f"}, 8, "f is not indexed as vector"),
    ({"queryVector": [1.0, 0.0, 0.0]}, 8, "vector field is indexed with 2 dimensions but queried with 3"),
    ({"queryVector": float32(1.0)}, 8, "vector field is indexed with 2 dimensions but queried with 1"),
    ({"queryVector": [0.0, 0.0]}, 8, "Cosine similarity cannot be calculated against a zero vector."),
    ({"queryVector": [1.0, NAN]}, 8, "'queryVector' contains a non-finite value"),
    ({"queryVector": ["1", "2"]}, 8, '"queryVector" must be'),
    ({"filter": {"kind": "x"}}, 8, "Path 'kind' needs to be indexed as filter"),
    ({"limit": "5"}, 8575100, "Expected limit field to be a number in $vectorSearch"),
    ({"limit": 0}, 7912700, "Expected limit to be positive"),
    ({"limit": None}, 8, '"limit" is required'),
    ({"index": None}, 8, '"index" is required'),
    ({"k": 5}, 8, 'unrecognized field "k"'),
    ({"returnStoredSource": True}, 9999, "LKDOUBLE unsupported"),
    ({"queryVector": Binary.from_vector([1, 2], BinaryVectorDtype.INT8)}, 9999, "LKDOUBLE unsupported"),
]


async def test_options_that_are_refused(start, collection):
    standin = start()
    coll = await collection(standin)
    await built(standin, coll, vector_index(), search_index())
    for change, code, text in QUERY_MISTAKES:
        stage = vector_stage([1.0, 0.0])["$vectorSearch"] | change
        stage = {key: value for key, value in stage.items() if value is not None}
        await refused(rows(coll, {"$vectorSearch": stage}), code, text)
    await refused(rows(coll, vector_stage([1.0, 0.0], index="s")), 8, "$vectorSearch over search index 's'")


async def test_places_and_requests_where_the_stage_must_not_be(start, collection, connect):
    standin = start()
    coll = await collection(standin)
    await built(standin, coll, vector_index())
    stage = vector_stage([1.0, 0.0])
    text = "$vectorSearch is only valid as the first stage in a pipeline"
    await refused(rows(coll, {"$match": {}}, stage), 40602, text)
    text = "$vectorSearch is not allowed to be used within a $facet stage"
    await refused(rows(coll, {"$facet": {"a": [stage]}}), 40600, text)
    majority = coll.with_options(read_concern=ReadConcern("majority"))
    text = "Aggregation stage $vectorSearch cannot run with a readConcern other than 'local'."
    await refused(rows(majority, stage), 72, text)
    assert await ids(coll.with_options(read_concern=ReadConcern("local")), stage) == []
    strict = (await connect(standin, server_api=ServerApi("1", strict=True)))[coll.database.name]["c"]
    text = "$vectorSearch is not allowed with 'apiStrict: true' in API Version 1"
    await refused(rows(strict, stage), 323, text)
    loose = (await connect(standin, server_api=ServerApi("1")))[coll.database.name]["c"]
    assert await ids(loose, stage) == []
    async with coll.database.client.start_session() as session:
        await session.start_transaction()
        text = "Stage not supported inside of a multi-document transaction: $vectorSearch"
        await refused(rows(coll, stage, session=session), 263, text)
        await session.abort_transaction()
    await refused(rows(coll, {"$lookup": {"from": "c", "as": "x", "pipeline": [stage]}}), 9999)
    await refused(coll.database.command({"explain": {"aggregate": "c", "pipeline": [stage], "cursor": {}}}), 9999)
    await refused(coll.database.create_collection("view", viewOn="c", pipeline=[stage]), 9999)
    await refused(coll.database.aggregate([stage]), 73)


ID, MOMENT, UUID = ObjectId(), datetime(2026, 1, 2, tzinfo=UTC), Binary.from_uuid(uuid.uuid4())
PEOPLE = [
    {"_id": 1, "u": "a", "n": 1, "f": True, "o": ID, "d": MOMENT, "g": UUID, "tags": ["x", "y"]},
    {"_id": 2, "u": "b", "n": 2.5, "f": False, "tags": ["y"]},
    {"_id": 3, "u": None, "n": "2"},
    {"_id": 4},
]
FILTERS = [
    ({"u": "a"}, {1}),
    ({"u": {"$eq": "a"}}, {1}),
    ({"u": {"$ne": "a"}}, {2, 3, 4}),
    ({"u": None}, {3}),
    ({"u": {"$in": ["a", "b"]}}, {1, 2}),
    ({"u": {"$nin": ["a"]}}, {2, 3, 4}),
    ({"u": {"$exists": True}}, {1, 2, 3}),
    ({"u": {"$exists": False}}, {4}),
    ({"u": {"$not": {"$eq": "a"}}}, {2, 3, 4}),
    ({"u": {"$gte": "b"}}, {2}),
    ({"n": {"$gt": 1}}, {2}),
    ({"n": {"$gte": 1, "$lt": 2.5}}, {1}),
    ({"n": 1.0}, {1}),
    ({"f": True}, {1}),
    ({"f": {"$ne": True}}, {2, 3, 4}),
    ({"o": ID}, {1}),
    ({"d": MOMENT}, {1}),
    ({"d": {"$lte": MOMENT}}, {1}),
    ({"g": UUID}, {1}),
    ({"tags": "y"}, {1, 2}),
    ({"tags": {"$ne": "x"}}, {2, 3, 4}),
    ({"$or": [{"u": "a"}, {"n": 2.5}]}, {1, 2}),
    ({"$and": [{"u": "a"}, {"n": 2.5}]}, set()),
    ({"$nor": [{"u": "a"}, {"u": "b"}]}, {3, 4}),
    ({"u": "a", "n": 1}, {1}),
    ({}, {1, 2, 3, 4}),
]
NAN = {"n": {"$lt": float("nan")}}
FILTER_MISTAKES = [
    {"u": {"$regex": "a"}},
    {"u": {"$in": []}},
    {"u": {"$in": ["a", 1]}},
    {"u": {"$in": ["a", None]}},
    {"u": {"$gt": None}},
    {"u": {"$gt": {"x": True}}},
    NAN,
    {"u": {}},
    {"u": {"x": 1}},
    {"u": ["a"]},
    {"u": Decimal128("1")},
    {"n": {"$elemMatch": {"$gt": 1}}},
    {"$expr": {"$eq": ["$u", "a"]}},
    {"$or": []},
    {"other": "a"},
    {"$and": [{"u": "a"}, {"other": 1}]},
]


async def test_filters(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([{**person, "e": [1.0, 0.0]} for person in PEOPLE])
    paths = [{"type": "filter", "path": path} for path in ("u", "n", "f", "o", "d", "g", "tags")]
    await built(standin, coll, vector_index(definition={"fields": [VECTOR_FIELD, *paths]}))
    for spec, expected in FILTERS:
        assert set(await ids(coll, vector_stage([1.0, 0.0], filter=spec))) == expected, spec
    for spec in FILTER_MISTAKES:
        code = 9999 if spec == NAN else 8
        await refused(rows(coll, vector_stage([1.0, 0.0], filter=spec)), code, "")
    typo = vector_stage([1.0, 0.0], index="typo", filter={"u": {"$regex": "a"}})
    await refused(rows(coll, typo), 8, '"filter.u" at least one of')
    assert await ids(coll, vector_stage([1.0, 0.0], index="typo", filter={"other": "a"})) == []


async def test_an_approximate_search_can_miss_what_an_exact_one_finds(start, collection):
    standin = start(recall=0.5)
    coll = await collection(standin)
    await coll.insert_many([{"_id": n, "e": [1.0, n / 100]} for n in range(100)])
    await built(standin, coll, vector_index())
    exact = await ids(coll, vector_stage([1.0, 0.0], 20, exact=True))
    assert exact == list(range(20))
    few = await ids(coll, vector_stage([1.0, 0.0], 20, numCandidates=20))
    assert set(few) != set(exact)
    assert few == await ids(coll, vector_stage([1.0, 0.0], 20, numCandidates=20)), "and misses the same every time"
    assert await ids(coll, vector_stage([1.0, 0.0], 20, numCandidates=100)) == exact
