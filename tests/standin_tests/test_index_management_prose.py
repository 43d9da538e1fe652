"""The drivers' specification tests for search index helpers (index-management, prose cases 1 to 8)."""

from __future__ import annotations

import asyncio

import pytest
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.operations import SearchIndexModel
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from tests.standin_tests.helpers import listed

DEFINITION = {"mappings": {"dynamic": False}}
VECTORS = {
    "fields": [{"type": "vector", "path": "plot_embedding", "numDimensions": 1536, "similarity": "euclidean"}],
}


@pytest.fixture(params=["atlas", "community"])
async def coll(request, start, collection) -> AsyncCollection:
    """A new collection of a deployment whose clock runs."""
    return await collection(start(profile=request.param, clock="real", build_seconds=0.08))


async def until_queryable(coll: AsyncCollection, *names: str) -> dict[str, dict]:
    while True:
        found = {index["name"]: index for index in await listed(coll)}
        if set(names) == set(found) and all(index["queryable"] for index in found.values()):
            return found
        await asyncio.sleep(0.01)


async def test_case_1_create_and_list_one_index(coll):
    assert await coll.create_search_index(SearchIndexModel(DEFINITION, name="one")) == "one"
    found = await until_queryable(coll, "one")
    assert found["one"]["latestDefinition"] == DEFINITION


async def test_case_2_create_several_indexes(coll):
    models = [SearchIndexModel(DEFINITION, name=name) for name in ("first", "second")]
    assert await coll.create_search_indexes(models) == ["first", "second"]
    found = await until_queryable(coll, "first", "second")
    assert all(index["latestDefinition"] == DEFINITION for index in found.values())


async def test_case_3_drop_an_index(coll):
    await coll.create_search_index(SearchIndexModel(DEFINITION, name="one"))
    await until_queryable(coll, "one")
    await coll.drop_search_index("one")
    await until_queryable(coll)


async def test_case_4_update_an_index(coll):
    await coll.create_search_index(SearchIndexModel(DEFINITION, name="one"))
    await until_queryable(coll, "one")
    await coll.update_search_index("one", {"mappings": {"dynamic": True}})
    while True:
        (found,) = await listed(coll)
        if found["queryable"] and found["status"] == "READY":
            break
        await asyncio.sleep(0.01)
    assert found["latestDefinition"] == {"mappings": {"dynamic": True}}


async def test_case_5_drop_says_nothing_of_a_missing_collection(coll):
    missing = coll.database["missing"]
    await missing.drop_search_index("one")
    await missing.update_search_index("one", DEFINITION)
    with pytest.raises(OperationFailure):
        await missing.create_search_index(SearchIndexModel(DEFINITION, name="one"))


async def test_case_6_concerns_of_the_collection_are_not_sent(coll):
    strict = coll.with_options(write_concern=WriteConcern(1), read_concern=ReadConcern("majority"))
    await strict.create_search_index(SearchIndexModel(DEFINITION, name="one"))
    await until_queryable(strict, "one")
    for concern in ({"writeConcern": {"w": 1}}, {"readConcern": {"level": "majority"}}):
        with pytest.raises(OperationFailure) as caught:
            await coll.database.command({"dropSearchIndex": coll.name, "name": "one", **concern})
        assert caught.value.code == 72


async def test_case_7_types_of_indexes(coll):
    models = [
        SearchIndexModel(DEFINITION, name="implicit"),
        SearchIndexModel(DEFINITION, name="explicit", type="search"),
        SearchIndexModel(VECTORS, name="vectors", type="vectorSearch"),
    ]
    await coll.create_search_indexes(models)
    found = await until_queryable(coll, "implicit", "explicit", "vectors")
    names = {"implicit": "search", "explicit": "search", "vectors": "vectorSearch"}
    if "type" in found["implicit"]:
        assert {name: index["type"] for name, index in found.items()} == names
    else:
        assert not any("type" in index for index in found.values()), "the self-managed service names no type at all"


async def test_case_8_a_vector_definition_needs_its_type(coll):
    with pytest.raises(OperationFailure, match=r'[mM]appings(" is required| missing)'):
        await coll.create_search_index(SearchIndexModel(VECTORS, name="vectors"))
    assert await listed(coll) == []
