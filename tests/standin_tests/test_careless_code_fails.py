"""Mistakes that the real service punishes must not go well here: each is made once, beside the right way."""

from __future__ import annotations

import asyncio

import pytest
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from tests.standin_tests.helpers import (
    VECTOR,
    VECTOR_FIELD,
    built,
    ids,
    listed,
    refused,
    rows,
    search_index,
    vector_index,
    vector_stage,
)

SCOPE = {"u": "b"}
NEAR = vector_stage([1.0, 0.0], 5, filter=SCOPE)


def scoped_text(index: str = "s") -> dict:
    text = {"text": {"path": "text", "query": "tea"}}
    clauses = {"filter": [{"equals": {"path": "u", "value": "b"}}], "should": [text], "minimumShouldMatch": 1}
    return {"$search": {"index": index, "compound": clauses}}


@pytest.fixture
async def crowd(start, collection):
    """Fifty documents of which ten are of `b`, spread evenly."""
    standin = start()
    coll = await collection(standin)
    people = [{"_id": n, "u": "ab"[n % 5 == 0], "e": [1.0, n / 100], "text": "tea"} for n in range(50)]
    await coll.insert_many(people)
    await built(standin, coll, vector_index(), search_index())
    return standin, coll


async def test_the_right_way(crowd):
    _, coll = crowd
    for stage in (NEAR, scoped_text()):
        assert len(await ids(coll, stage, {"$match": SCOPE}, {"$limit": 5})) == 5


async def test_limit_before_the_scope(crowd):
    _, coll = crowd
    assert len(await ids(coll, vector_stage([1.0, 0.0], 5), {"$match": SCOPE})) < 5
    unscoped = {"$search": {"index": "s", "text": {"path": "text", "query": "tea"}}}
    assert len(await ids(coll, unscoped, {"$limit": 5}, {"$match": SCOPE})) < 5


async def test_a_scope_on_a_path_that_is_no_token(crowd):
    standin, coll = crowd
    await built(standin, coll, search_index("dynamic", {"mappings": {"dynamic": True}}))
    assert await ids(coll, scoped_text("dynamic")) == []


async def test_a_scope_that_is_not_declared_as_filter(crowd):
    standin, coll = crowd
    await built(standin, coll, vector_index("bare", {"fields": [VECTOR_FIELD]}))
    stage = vector_stage([1.0, 0.0], 5, index="bare", filter=SCOPE)
    await refused(rows(coll, stage), 8, "Path 'u' needs to be indexed as filter")


async def test_a_client_that_reads_with_majority(crowd):
    _, coll = crowd
    await refused(rows(coll.with_options(read_concern=ReadConcern("majority")), NEAR), 72)


async def test_a_misspelt_index(crowd):
    _, coll = crowd
    assert await ids(coll, NEAR | {"$vectorSearch": {**NEAR["$vectorSearch"], "index": "vectors"}}) == []


async def test_waiting_for_queryable_after_an_update(crowd):
    standin, coll = crowd
    wider = {"fields": [*VECTOR["fields"], {"type": "filter", "path": "tenant"}]}
    await coll.update_search_index("v", wider)
    (found,) = await listed(coll, "v")
    assert found["queryable"]
    stage = vector_stage([1.0, 0.0], 5, filter={"tenant": "t"})
    await refused(rows(coll, stage), 8, "Path 'tenant' needs to be indexed as filter")
    standin.finish_builds()
    assert await ids(coll, stage) == []


async def test_asking_right_after_creation(crowd):
    standin, coll = crowd
    await coll.create_search_index(vector_index("late"))
    stage = vector_stage([1.0, 0.0], 5, index="late")
    assert await ids(coll, stage) == []
    standin.advance(standin.catalog.timing.started)
    await refused(rows(coll, stage), 8, "INITIAL_SYNC")


async def test_a_filter_behind_should_that_is_not_required(crowd):
    _, coll = crowd
    stage = scoped_text()
    clauses = stage["$search"]["compound"]
    clauses["should"] = [{"text": {"path": "text", "query": "coffee"}}]
    assert await ids(coll, stage) == []
    del clauses["minimumShouldMatch"]
    assert len(await ids(coll, stage)) == 10, "without it every document of the scope is a hit"


async def test_dropping_and_creating_without_waiting(crowd):
    _, coll = crowd
    await coll.drop_search_index("v")
    with pytest.raises(OperationFailure) as caught:
        await coll.create_search_index(vector_index())
    assert caught.value.code == 68


async def test_vectors_of_another_model(crowd):
    _, coll = crowd
    await refused(rows(coll, vector_stage([1.0, 0.0, 0.0], 5, filter=SCOPE)), 8, "queried with 3")
    await coll.update_many(SCOPE, {"$set": {"e": [1.0, 0.0, 0.0]}})
    assert await ids(coll, NEAR) == [], "and documents of the wrong length are just not there"


async def test_two_creators_at_once(start, collection):
    coll = await collection(start())
    work = [coll.create_search_index(vector_index()) for _ in range(5)]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert results.count("v") == 1
    assert {result.code for result in results if isinstance(result, OperationFailure)} == {68}
