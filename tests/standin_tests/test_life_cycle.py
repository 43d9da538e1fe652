"""From accepted to gone: what the list says and what a query meets in each phase."""

from __future__ import annotations

import pytest

from tests.standin_tests.helpers import (
    SEARCH,
    VECTOR,
    VECTOR_FIELD,
    built,
    ids,
    listed,
    refused,
    rows,
    search_index,
    state,
    text_stage,
    vector_index,
    vector_stage,
)

NEAR = vector_stage([1.0, 0.0])
DOCUMENT = {"_id": 1, "u": "a", "e": [1.0, 0.0], "text": "tea"}


@pytest.mark.parametrize(
    ("kind", "model", "stage"),
    [("vector", vector_index("x"), vector_stage([1.0, 0.0], index="x")), ("search", search_index("x"), None)],
)
async def test_a_new_index_is_unknown_then_refuses_then_serves(start, collection, kind, model, stage):
    standin = start(unseen_seconds=1, start_seconds=2, build_seconds=4)
    coll = await collection(standin)
    stage = stage or {"$search": {"index": "x", "text": {"query": "tea", "path": "text"}}}
    await coll.insert_one(DOCUMENT)
    await coll.create_search_index(model)

    assert await state(coll, "x") == ("PENDING", False)
    assert await ids(coll, stage) == [], "an index that the search process has not heard of finds nothing"

    standin.advance(1)
    assert await state(coll, "x") == ("PENDING", False)
    await refused(rows(coll, stage), 8, f"cannot query {kind} index x while in state NOT_STARTED")

    standin.advance(1)
    assert await state(coll, "x") == ("BUILDING", False)
    error = await refused(rows(coll, stage), 8, f"cannot query {kind} index x while in state INITIAL_SYNC")
    assert f"Executor error during aggregate command on namespace: {coll.full_name}" in str(error)

    standin.advance(2)
    assert await state(coll, "x") == ("READY", True)
    assert await ids(coll, stage) == [1]


async def test_older_servers_put_other_words_before_an_error(start, collection):
    standin = start(version="8.0", unseen_seconds=0)
    coll = await collection(standin)
    await coll.create_search_index(vector_index())
    await refused(rows(coll, NEAR), 8, "PlanExecutor error during aggregation :: caused by :: cannot query")


async def test_an_update_serves_the_old_definition_until_the_new_one_is_built(start, collection):
    standin = start(build_seconds=4)
    coll = await collection(standin)
    await coll.insert_one({**DOCUMENT, "kind": "drink"})
    await built(standin, coll, vector_index())
    wider = {"fields": [*VECTOR["fields"], {"type": "filter", "path": "kind"}]}
    filtered = vector_stage([1.0, 0.0], filter={"kind": "drink"})
    await coll.update_search_index("v", wider)

    (found,) = await listed(coll, "v")
    assert (found["status"], found["queryable"]) == ("BUILDING", True), "queryable alone does not mean the update"
    assert found["latestDefinition"] == wider
    assert found["latestDefinitionVersion"]["version"] == 1
    detail = found["statusDetail"][0]
    assert detail["mainIndex"]["definitionVersion"]["version"] == 0
    assert detail["stagedIndex"]["definitionVersion"]["version"] == 1
    await refused(rows(coll, filtered), 8, "Path 'kind' needs to be indexed as filter")

    standin.advance(4)
    (found,) = await listed(coll, "v")
    assert (found["status"], found["queryable"]) == ("READY", True)
    assert "stagedIndex" not in found["statusDetail"][0]
    assert await ids(coll, filtered) == [1]


async def test_a_second_update_replaces_one_that_was_not_finished(start, collection):
    standin = start(build_seconds=4)
    coll = await collection(standin)
    await built(standin, coll, search_index())
    await coll.update_search_index("s", {"mappings": {"dynamic": True}})
    standin.advance(2)
    await coll.update_search_index("s", SEARCH)
    standin.advance(2)
    assert await state(coll, "s") == ("BUILDING", True)
    standin.advance(2)
    (found,) = await listed(coll, "s")
    assert found["status"] == "READY"
    assert found["statusDetail"][0]["mainIndex"]["definitionVersion"]["version"] == 2


async def test_a_failed_update_goes_on_serving_the_old_definition(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(DOCUMENT)
    await built(standin, coll, vector_index())
    standin.plan_build("v", failure="out of disk")
    await coll.update_search_index("v", {"fields": [{**VECTOR_FIELD, "numDimensions": 3}]})
    standin.finish_builds()
    (found,) = await listed(coll, "v")
    assert (found["status"], found["queryable"]) == ("FAILED", True)
    assert found["statusDetail"][0]["stagedIndex"]["message"] == "out of disk"
    assert await ids(coll, NEAR) == [1]


async def test_a_failed_build_serves_nothing(start, collection):
    standin = start()
    coll = await collection(standin)
    standin.plan_build("v", failure="out of disk")
    await built(standin, coll, vector_index())
    (found,) = await listed(coll, "v")
    assert (found["status"], found["queryable"]) == ("FAILED", False)
    assert found["statusDetail"][0]["mainIndex"]["message"] == "out of disk"
    await refused(rows(coll, NEAR), 8, "cannot query vector index v while in state FAILED")


async def test_one_index_of_several_can_be_made_to_fail(start, collection):
    standin = start()
    coll = await collection(standin)
    await built(standin, coll, vector_index(), search_index())
    standin.set_status(coll.database.name, "c", "s", "FAILED", "gone wrong")
    assert await state(coll, "s") == ("FAILED", False)
    assert await state(coll, "v") == ("READY", True)
    standin.set_status(coll.database.name, "c", "s", None)
    assert await state(coll, "s") == ("READY", True)


async def test_an_update_under_way_can_be_failed_or_held(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(DOCUMENT)
    await built(standin, coll, vector_index())
    await coll.update_search_index("v", VECTOR)
    standin.set_status(coll.database.name, "c", "v", "BUILDING")
    standin.advance(1000)
    assert await state(coll, "v") == ("BUILDING", True)
    standin.set_status(coll.database.name, "c", "v", "FAILED")
    assert await state(coll, "v") == ("FAILED", True)
    assert await ids(coll, NEAR) == [1]


async def test_a_stale_index_serves_what_it_had(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(DOCUMENT)
    await built(standin, coll, vector_index())
    standin.set_status(coll.database.name, "c", "v", "STALE")
    await coll.insert_one({"_id": 2, "e": [1.0, 0.0]})
    standin.advance(1000)
    assert await state(coll, "v") == ("STALE", True)
    assert await ids(coll, NEAR) == [1]
    standin.set_status(coll.database.name, "c", "v", None)
    assert sorted(await ids(coll, NEAR)) == [1, 2]


async def test_a_build_can_take_its_own_time_or_none_that_ends(start, collection):
    standin = start(build_seconds=4)
    coll = await collection(standin)
    standin.plan_build("v", seconds=50)
    await coll.create_search_index(vector_index())
    standin.advance(49)
    assert await state(coll, "v") == ("BUILDING", False)
    standin.advance(1)
    assert await state(coll, "v") == ("READY", True)
    standin.set_status(coll.database.name, "c", "v", "BUILDING")
    standin.advance(1000)
    assert await state(coll, "v") == ("BUILDING", False)


async def test_a_dropped_index_finds_nothing_at_once(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(DOCUMENT)
    await built(standin, coll, vector_index())
    await coll.drop_search_index("v")
    assert await state(coll, "v") == ("DELETING", False)
    assert await ids(coll, NEAR) == []


async def test_community_drops_at_once(start, collection):
    standin = start(profile="community")
    coll = await collection(standin)
    await built(standin, coll, vector_index())
    await coll.drop_search_index("v")
    assert await listed(coll) == []


async def test_a_collection_that_is_dropped_and_made_again_has_no_index(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(DOCUMENT)
    await built(standin, coll, vector_index())
    assert await ids(coll, NEAR) == [1]
    await coll.drop()
    assert await listed(coll) == []
    assert await ids(coll, NEAR) == []
    await coll.insert_one(DOCUMENT)
    assert await listed(coll) == []
    assert await ids(coll, NEAR) == []


async def test_indexes_follow_a_collection_that_is_renamed(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(DOCUMENT)
    await built(standin, coll, vector_index())
    await coll.rename("d")
    renamed = coll.database["d"]
    assert await state(renamed, "v") == ("READY", True)
    assert await ids(renamed, NEAR) == [1]
    assert await listed(coll) == []


async def test_the_list_shows_the_worst_of_two_hosts_and_queries_meet_both(start, collection):
    standin = start(hosts=2, host_lag_seconds=10, unseen_seconds=0, start_seconds=0, build_seconds=4)
    coll = await collection(standin)
    await coll.insert_one(DOCUMENT)
    await coll.create_search_index(vector_index())
    standin.advance(5)
    (found,) = await listed(coll, "v")
    assert (found["status"], found["queryable"]) == ("PENDING", False)
    assert [host["status"] for host in found["statusDetail"]] == ["READY", "PENDING"]
    assert [await ids(coll, NEAR) for _ in range(4)] == [[1], [], [1], []]
    standin.advance(9)
    assert await state(coll, "v") == ("READY", True)
    await coll.insert_one({"_id": 2, "e": [1.0, 0.0]})
    assert [len(await ids(coll, NEAR)) for _ in range(2)] == [2, 1], "the second host trails in its documents too"


async def test_the_order_of_the_list_is_settled_by_the_seed_alone(start, collection):
    orders = set()
    for seed in range(5):
        standin = start(profile="community", seed=seed)
        coll = await collection(standin)
        await coll.create_search_indexes([search_index(name) for name in "abcd"])
        once, again = [[index["name"] for index in await listed(coll)] for _ in range(2)]
        assert once == again
        orders.add(tuple(once))
    assert len(orders) > 1


async def test_the_list_can_be_narrowed_and_worked_on_like_any_pipeline(start, collection):
    coll = await collection(start())
    await coll.create_search_indexes([search_index(name) for name in "abc"])
    assert [index["name"] for index in await listed(coll, "b")] == ["b"]
    assert await listed(coll, "z") == []
    stages = [{"$listSearchIndexes": {}}, {"$match": {"name": {"$ne": "b"}}}, {"$sort": {"name": 1}}]
    found = await rows(coll, *stages, {"$project": {"name": 1, "_id": 0}})
    assert found == [{"name": "a"}, {"name": "c"}]
    assert len(await rows(coll, {"$listSearchIndexes": {}}, batchSize=1)) == 3


async def test_definitions_come_back_verbatim_at_the_top_and_normalised_in_the_detail(start, collection):
    coll = await collection(start())
    spelled_out = {"fields": [{**VECTOR_FIELD, "quantization": "none", "indexingMethod": "hnsw"}]}
    await coll.create_search_indexes([vector_index(definition=spelled_out), search_index("s", {"mappings": {}})])
    (vectors,), (text,) = await listed(coll, "v"), await listed(coll, "s")
    assert vectors["latestDefinition"] == spelled_out
    assert vectors["statusDetail"][0]["mainIndex"]["definition"] == {"fields": [VECTOR_FIELD]}
    assert text["latestDefinition"] == {"mappings": {}}
    detail = text["statusDetail"][0]["mainIndex"]["definition"]
    assert detail == {"mappings": {"dynamic": False, "fields": {}}}


async def test_a_query_of_an_index_that_is_built_can_hang_until_its_time_is_over(start, collection):
    standin = start(unseen_seconds=0, start_seconds=0, building="hang")
    coll = await collection(standin)
    await coll.create_search_index(search_index())
    await refused(rows(coll, text_stage("tea"), maxTimeMS=30), 50, "operation exceeded time limit")
