"""Found by an index of the past, read as of now: what lag, updates and deletions do to results."""

from __future__ import annotations

import pytest

from tests.standin_tests.helpers import (
    built,
    ids,
    refused,
    rows,
    search_index,
    text_stage,
    vector_index,
    vector_stage,
)
from tests.waiting import until

NEAR = vector_stage([1.0, 0.0], 5)
MINE = vector_stage([1.0, 0.0], 5, filter={"u": "a"})


def person(number: int, user: str, **more) -> dict:
    return {"_id": number, "u": user, "e": [1.0, number / 100], "text": f"tea {number}"} | more


async def test_new_documents_are_found_after_the_lag(start, collection):
    standin = start(lag_seconds=2.0)
    coll = await collection(standin)
    await built(standin, coll, vector_index(), search_index())
    await coll.insert_one(person(1, "a"))
    standin.advance(1.9)
    assert await ids(coll, NEAR) == []
    assert await ids(coll, text_stage("tea")) == []
    standin.advance(0.1)
    assert await ids(coll, NEAR) == [1]
    assert await ids(coll, text_stage("tea")) == [1]


async def test_ready_does_not_mean_that_later_documents_are_visible(start, collection):
    standin = start(build_seconds=1.0, lag_seconds=5.0)
    coll = await collection(standin)
    await coll.insert_one(person(1, "a"))
    await coll.create_search_index(vector_index())
    standin.advance(0.5)
    await coll.insert_one(person(2, "a"))
    standin.advance(0.5)
    assert standin.index(coll.database.name, "c", "v")["status"] == "READY"
    assert await ids(coll, NEAR) == [1]


async def test_an_update_shows_at_once_though_the_index_still_has_the_old_state(start, collection):
    standin = start(lag_seconds=2.0)
    coll = await collection(standin)
    await coll.insert_many([person(1, "a"), person(2, "a")])
    await built(standin, coll, vector_index(), search_index())
    standin.advance(2)
    await coll.update_one({"_id": 1}, {"$set": {"u": "b", "text": "milk"}})
    found = await rows(coll, MINE, {"$project": {"u": 1}})
    assert found == [{"_id": 1, "u": "b"}, {"_id": 2, "u": "a"}], "the filter is of the past, the document is not"
    assert set(await ids(coll, text_stage("tea"))) == {1, 2}
    assert await ids(coll, MINE, {"$match": {"u": "a"}}) == [2], "so the scope is checked once more"
    standin.advance(2)
    assert await ids(coll, MINE) == [2]
    assert await ids(coll, text_stage("tea")) == [2]


async def test_a_deleted_document_vanishes_and_nothing_takes_its_place(start, collection):
    standin = start(lag_seconds=2.0)
    coll = await collection(standin)
    await coll.insert_many([person(number, "a") for number in range(1, 8)])
    await built(standin, coll, vector_index())
    standin.advance(2)
    await coll.delete_one({"_id": 3})
    assert await ids(coll, NEAR) == [1, 2, 4, 5]
    standin.advance(2)
    assert await ids(coll, NEAR) == [1, 2, 4, 5, 6]


async def test_writes_that_pass_the_stand_in_by_are_seen_too(start, collection, connect, mongodb_uri):
    standin = start(lag_seconds=2.0)
    coll = await collection(standin)
    await built(standin, coll, vector_index())
    direct = (await connect(mongodb_uri))[coll.database.name]["c"]
    await direct.insert_one(person(1, "a"))
    standin.advance(2)
    assert await ids(coll, NEAR) == [1]
    async with direct.database.client.start_session() as session, await session.start_transaction():
        await direct.insert_one(person(2, "a"), session=session)
        await direct.delete_one({"_id": 1}, session=session)
    standin.advance(2)
    assert await ids(coll, NEAR) == [2]


async def test_nothing_is_copied_again_while_nothing_changes(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(person(1, "a"))
    await built(standin, coll, vector_index())
    await ids(coll, NEAR)
    before = standin.snapshots.scans
    await coll.database["other"].insert_one({})
    for _ in range(5):
        assert await ids(coll, NEAR) == [1]
    assert standin.snapshots.scans == before
    await coll.insert_one(person(2, "a"))
    assert await ids(coll, NEAR) == [1, 2]
    assert standin.snapshots.scans == before + 1


async def test_a_frozen_index_says_ready_and_learns_nothing(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(person(1, "a"))
    await built(standin, coll, vector_index())
    standin.freeze(coll.database.name, "c", "v")
    await coll.insert_one(person(2, "a"))
    standin.advance(1000)
    assert standin.index(coll.database.name, "c", "v")["status"] == "READY"
    assert await ids(coll, NEAR) == [1]


async def test_the_lag_can_grow(start, collection):
    standin = start()
    coll = await collection(standin)
    await built(standin, coll, vector_index())
    await coll.insert_one(person(1, "a"))
    standin.set_lag(3.0)
    await coll.insert_one(person(2, "a"))
    standin.advance(1)
    await coll.insert_one(person(3, "a"))
    standin.advance(2)
    assert await ids(coll, NEAR) == [1, 2]
    standin.advance(1)
    assert await ids(coll, NEAR) == [1, 2, 3]


async def test_with_a_running_clock_the_past_is_kept_as_it_was(start, collection):
    standin = start(clock="real", build_seconds=0.05, lag_seconds=60.0)
    coll = await collection(standin)
    await coll.insert_one(person(1, "a"))
    await built(standin, coll, vector_index())
    standin.advance(61)
    assert await ids(coll, MINE) == [1]
    await coll.update_one({"_id": 1}, {"$set": {"u": "b"}})
    assert await ids(coll, MINE) == [1]
    standin.advance(61)
    assert await ids(coll, MINE) == []


async def test_with_a_running_clock_changes_are_noticed_unasked(start, collection):
    standin = start(clock="real", build_seconds=0.05, lag_seconds=0.1)
    coll = await collection(standin)
    await coll.create_search_index(vector_index())
    before = standin.snapshots.scans
    await coll.insert_one(person(1, "a"))
    await until(lambda: standin.snapshots.scans > before)


async def test_limit_before_match_starves(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([person(number, "ab"[number % 5 == 0]) for number in range(1, 51)])
    await built(standin, coll, vector_index(), search_index())
    starved = await ids(coll, NEAR, {"$match": {"u": "b"}})
    assert starved == [5], "the limit was reached by other people's documents"
    assert len(await ids(coll, vector_stage([1.0, 0.0], 5, filter={"u": "b"}))) == 5
    text = text_stage("tea")
    assert len(await ids(coll, text, {"$limit": 5}, {"$match": {"u": "b"}})) < 5
    assert len(await ids(coll, text, {"$match": {"u": "b"}}, {"$limit": 5})) == 5


async def test_scores_can_be_read_until_the_documents_are_made_anew(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([person(1, "a"), person(2, "b")])
    await built(standin, coll, vector_index(), search_index())
    score = {"$meta": "vectorSearchScore"}
    (first, _) = await rows(coll, NEAR, {"$set": {"score": score}}, {"$unset": "e"})
    assert set(first) == {"_id", "u", "text", "score"}
    assert first["score"] > 0.9
    (first, _) = await rows(coll, NEAR, {"$project": {"e": 0}}, {"$addFields": {"x": {"score": score}}})
    assert set(first) == {"_id", "u", "text", "x"}
    (first, _) = await rows(coll, NEAR, {"$project": {"u": 1}}, {"$match": {"$expr": {"$gt": [score, 0.5]}}})
    assert first == {"_id": 1, "u": "a"}
    grouped = await rows(coll, NEAR, {"$group": {"_id": None, "best": {"$max": score}, "all": {"$push": "$$ROOT"}}})
    assert set(grouped[0]["all"][0]) == {"_id", "u", "e", "text"}, "nothing hidden shows"
    (first, _) = await rows(coll, NEAR, {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"score": score}]}})
    assert set(first) == {"_id", "u", "e", "text", "score"}
    (facets,) = await rows(coll, NEAR, {"$facet": {"one": [{"$limit": 1}, {"$set": {"s": score}}]}})
    assert set(facets["one"][0]) == {"_id", "u", "e", "text", "s"}
    literal = await rows(coll, NEAR, {"$limit": 1}, {"$project": {"_id": 0, "x": {"$literal": {"$meta": "nonsense"}}}})
    assert literal == [{"x": {"$meta": "nonsense"}}]

    text = "query requires vectorSearchScore metadata, but it is not available"
    await refused(rows(coll, NEAR, {"$group": {"_id": "$u"}}, {"$set": {"s": score}}), 40218, text)
    await refused(rows(coll, text_stage("tea"), {"$set": {"s": score}}), 40218, text)
    await refused(rows(coll, {"$match": {}}, {"$set": {"s": score}}), 40218, text)
    for kind in ("searchScore", "score", "scoreDetails"):
        await refused(rows(coll, NEAR, {"$set": {"s": {"$meta": kind}}}), 40218)
    await refused(rows(coll, NEAR, {"$set": {"s": {"$meta": "vectorScore"}}}), 17308)
    await refused(rows(coll, NEAR, {"$sort": {"s": score}}), 9999)
    await refused(rows(coll, NEAR, {"$bucketAuto": {"groupBy": "$u", "buckets": 2}}), 9999)


async def test_ids_of_any_type_keep_their_order(start, collection):
    standin = start()
    coll = await collection(standin)
    keys = [7, "seven", {"a": 1, "b": [2]}, 2**40, 3.5, True, None]
    await coll.insert_many([{"_id": key, "e": [1.0, n / 10]} for n, key in enumerate(keys)])
    await built(standin, coll, vector_index())
    assert await ids(coll, vector_stage([1.0, 0.0], 20)) == keys


async def test_a_search_joined_to_another_by_union(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([person(1, "a"), person(2, "b")])
    await built(standin, coll, vector_index(), search_index())
    inner = [text_stage("2"), {"$project": {"score": {"$meta": "searchScore"}}}]
    union = {"$unionWith": {"coll": "c", "pipeline": inner}}
    found = await rows(coll, NEAR, {"$project": {"score": {"$meta": "vectorSearchScore"}}}, union)
    assert [row["_id"] for row in found] == [1, 2, 2]
    assert all(set(row) == {"_id", "score"} for row in found)
    assert len(await rows(coll, {"$match": {"_id": 1}}, union)) == 2
    misplaced = {"$unionWith": {"coll": "c", "pipeline": [{"$match": {}}, text_stage("2")]}}
    await refused(rows(coll, NEAR, misplaced), 40602)


async def test_results_larger_than_a_batch(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([person(number, "a") for number in range(250)])
    await built(standin, coll, vector_index())
    cursor = await coll.aggregate([vector_stage([1.0, 0.0], 250)], batchSize=20)
    assert [row["_id"] async for row in cursor] == list(range(250))


async def test_results_can_be_written_out(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(person(1, "a"))
    await built(standin, coll, vector_index())
    await rows(coll, NEAR, {"$out": "copy"})
    assert await coll.database["copy"].find({}).to_list() == [person(1, "a")]


@pytest.mark.parametrize("stage", [NEAR, text_stage("tea")])
async def test_without_the_search_process_only_the_list_answers(start, collection, stage):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one(person(1, "a"))
    await built(standin, coll, vector_index(), search_index())
    standin.set_mongot(up=False)
    await refused(rows(coll, stage), 6, "Error connecting to localhost:28000")
    assert standin.index(coll.database.name, "c", "v")["queryable"]
    assert [row["_id"] for row in await rows(coll)] == [1], "ordinary reads go on"
    standin.set_mongot(up=True)
    assert await ids(coll, stage) == [1]
