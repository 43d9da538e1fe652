"""`$rankFusion`: the numbers of the server, its grammar, and what each server version makes of it."""

from __future__ import annotations

import pytest
from bson import SON

from tests.standin.rank_fusion import Ranked, fuse
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

SCORE = {"$meta": "score"}
CHECKS = [
    ((1, 2, 1), (), 0.048915917503966164),
    ((1, 1, 3), (), 0.04865990111891751),
    ((1, 2), (), 0.03252247488101534),
    ((3, 1), (), 0.032266458495966696),
    ((1,), (), 0.01639344262295082),
    ((2,), (), 0.016129032258064516),
    ((1, 1), (0.7, 0.3), 0.01639344262295082),
    ((9,), (3,), 0.043478260869565216),
]


@pytest.mark.parametrize(("ranks", "weights", "expected"), CHECKS)
async def test_scores_match_the_server_s_own_tests(start, collection, ranks, weights, expected):
    """The document `x` stands at these ranks among fillers, in pipelines that a sort ranks."""
    coll = await collection(start())
    rest = {f"p{number}": rank for number, rank in enumerate(ranks)}
    fillers = [{"_id": n, **{name: n if n < rank else n + 1 for name, rank in rest.items()}} for n in range(1, 10)]
    await coll.insert_many([{"_id": "x", **rest}, *fillers])
    pipelines = {name: [{"$sort": {name: 1}}] for name in rest}
    combination = {"weights": dict(zip(rest, weights, strict=False))}
    stage = {"$rankFusion": {"input": {"pipelines": pipelines}, "combination": combination}}
    (found,) = await rows(coll, stage, {"$match": {"_id": "x"}}, {"$project": {"score": SCORE}})
    assert found["score"] == pytest.approx(expected, abs=1e-12)


def test_equals_share_a_rank_and_the_next_one_skips():
    ranked = {"p": [Ranked("a", 3, None), Ranked("b", 2, None), Ranked("c", 2, None), Ranked("d", 1, None)]}
    scores = {item.id: item.score for item in fuse(ranked, {})}
    assert scores == pytest.approx({"a": 1 / 61, "b": 1 / 62, "c": 1 / 62, "d": 1 / 64})


async def test_fusion_agrees_with_window_functions_of_the_real_server(start, collection):
    coll = await collection(start())
    await coll.insert_many([{"_id": n, "a": n * 7 % 10, "b": n * n % 6} for n in range(30)])
    pipelines = {"a": [{"$sort": {"a": 1}}], "b": [{"$match": {"_id": {"$lt": 20}}}, {"$sort": {"b": -1}}]}
    fusion = {"$rankFusion": {"input": {"pipelines": pipelines}, "combination": {"weights": {"b": 2}}}}
    found = await rows(coll, fusion, {"$project": {"score": SCORE}})

    def branch(field: str, order: int, weight: int, low: dict) -> list[dict]:
        ranked = {"sortBy": {field: order}, "output": {"rank": {"$rank": {}}}}
        term = {"$multiply": [weight, {"$divide": [1, {"$add": [60, "$rank"]}]}]}
        return [{"$match": low}, {"$setWindowFields": ranked}, {"$project": {"term": term}}]

    union = {"$unionWith": {"coll": "c", "pipeline": branch("b", -1, 2, {"_id": {"$lt": 20}})}}
    group = {"$group": {"_id": "$_id", "score": {"$sum": "$term"}}}
    expected = await rows(coll, *branch("a", 1, 1, {}), union, group)
    by_id = {row["_id"]: row["score"] for row in expected}
    assert {row["_id"]: row["score"] for row in found} == pytest.approx(by_id, abs=1e-15)
    order = sorted(found, key=lambda row: (-row["score"], row["_id"]))
    assert [row["_id"] for row in found] == [row["_id"] for row in order]


async def searchable(standin, collection):
    coll = await collection(standin)
    texts = ["green tea", "black tea", "milk", "green"]
    await coll.insert_many([{"_id": n, "u": "a", "e": [1.0, n / 10], "text": text} for n, text in enumerate(texts)])
    await built(standin, coll, vector_index(), search_index())
    return coll


def fusion(**more) -> dict:
    pipelines = {"vector": [vector_stage([1.0, 0.2], 3)], "text": [text_stage("black tea"), {"$limit": 2}]}
    weights = {"weights": {"vector": 0.7, "text": 0.3}}
    return {"$rankFusion": {"input": {"pipelines": pipelines}, "combination": weights} | more}


async def test_the_two_branches_of_a_hybrid_search(start, collection):
    coll = await searchable(start(), collection)
    found = await rows(coll, fusion(), {"$set": {"score": SCORE}})
    expected = {2: 0.7 / 61, 1: 0.7 / 62 + 0.3 / 61, 3: 0.7 / 62, 0: 0.3 / 62}
    assert {row["_id"]: row["score"] for row in found} == pytest.approx(expected, rel=0.05)
    assert set(found[0]) == {"_id", "u", "e", "text", "score"}, "documents are whole, their vectors included"


async def test_score_details_tell_of_every_branch(start, collection):
    coll = await searchable(start(), collection)
    found = await rows(coll, fusion(scoreDetails=True), {"$project": {"s": SCORE, "d": {"$meta": "scoreDetails"}}})
    by_id = {row["_id"]: row for row in found}
    detail = by_id[2]["d"]
    assert detail["value"] == by_id[2]["s"]
    assert detail["description"].startswith("value output by reciprocal rank fusion algorithm")
    text, vector = detail["details"]
    assert text == {"inputPipelineName": "text", "rank": "NA", "details": []}
    assert (vector["inputPipelineName"], vector["rank"], vector["weight"]) == ("vector", 1, 0.7)
    assert vector["value"] > 0.9
    text_of_details = "query requires scoreDetails metadata"
    await refused(rows(coll, fusion(), {"$set": {"d": {"$meta": "scoreDetails"}}}), 40218, text_of_details)
    await refused(rows(coll, fusion(), {"$set": {"d": {"$meta": "vectorSearchScore"}}}), 40218)


async def test_a_branch_that_finds_nothing_contributes_nothing(start, collection):
    coll = await searchable(start(), collection)
    stage = fusion()
    stage["$rankFusion"]["input"]["pipelines"]["text"] = [text_stage("nothing")]
    assert len(await ids(coll, stage)) == 3


async def test_a_branch_that_fails_fails_the_whole(start, collection):
    standin = start()
    coll = await searchable(standin, collection)
    standin.set_status(coll.database.name, "c", "s", "FAILED")
    await refused(rows(coll, fusion()), 8, "cannot query search index s while in state FAILED")
    standin.set_status(coll.database.name, "c", "s", None)
    standin.set_mongot(up=False)
    await refused(rows(coll, fusion()), 6)


async def test_stages_of_a_branch_work_on_documents_as_they_are_now(start, collection):
    standin = start(lag_seconds=10.0)
    coll = await searchable(standin, collection)
    standin.advance(10)
    await coll.update_one({"_id": 2}, {"$set": {"u": "b"}})
    await coll.delete_one({"_id": 3})
    stage = fusion()
    stage["$rankFusion"]["input"]["pipelines"]["vector"].append({"$match": {"u": "a"}})
    found = await rows(coll, stage, {"$set": {"score": SCORE}})
    assert {row["_id"] for row in found} == {0, 1}
    by_id = {row["_id"]: row["score"] for row in found}
    assert by_id[1] == pytest.approx(0.7 / 61 + 0.3 / 61), "what is gone gives its rank to the next"


async def test_versions_before_8_do_not_know_the_stage(start, collection):
    for options in ({"version": "7.0"}, {"profile": "atlas_7_0"}):
        coll = await collection(start(**options))
        await refused(rows(coll, fusion()), 40324, "Unrecognized pipeline stage name: '$rankFusion'")


async def test_version_8_0_writes_the_score_into_the_document(start, collection):
    coll = await searchable(start(version="8.0"), collection)
    await coll.update_many({}, {"$set": {"score": "mine"}})
    found = await rows(coll, fusion())
    assert found[0]["score"] == pytest.approx(0.7 / 62 + 0.3 / 61, rel=0.02)
    await refused(rows(coll, fusion(), {"$set": {"s": SCORE}}), 17308)
    await refused(rows(coll, fusion(scoreDetails=True)), 224, "must be enabled to use scoreDetails")


RANKED = [{"$sort": {"a": 1}}]
PIPELINES = [
    ({"p": []}, 9834300),
    ({"p": [{"$match": {}}]}, 9191100),
    ({"p": [*RANKED, {"$project": {"a": 1}}]}, 9191103),
    ({"p": [*RANKED, {"$set": {"a": 1}}]}, 9191103),
    ({"p": [{"$search": {"returnStoredSource": True}}]}, 9191103),
    ({"p": [{"$rankFusion": {}}]}, 10473002),
    ({"p": [{"$score": {}}, *RANKED]}, 10614800),
    ({"p": "x"}, 14),
    ({"": RANKED}, 15998),
    ({"$p": RANKED}, 16410),
    ({"p.q": RANKED}, 16412),
    ({}, 9),
]
SPECS = [
    ({"combination": {"weights": {"p": -1}}}, 9460300, "must be non-negative"),
    ({"combination": {"weights": {"p": 1, "q": 1}}}, 9460301, "more weights (2) than pipelines (1)"),
    ({"combination": {"weights": {"pp": 1}}}, 9967500, "(provided: 'pp' -> suggested: 'p')"),
    ({"combination": {"weights": {"p": "1"}}}, 14, ""),
    ({"combination": {"method": "avg"}}, 40415, ""),
    ({"input": {}}, 40414, ""),
    ({"input": {"pipelines": {"p": RANKED}, "normalization": "none"}}, 40415, ""),
    ({"scoreDetails": 1}, 14, ""),
    ({"k": 60}, 40415, ""),
]


async def test_grammar(start, collection):
    coll = await collection(start())
    for pipelines, code in PIPELINES:
        await refused(rows(coll, {"$rankFusion": {"input": {"pipelines": pipelines}}}), code)
    for change, code, text in SPECS:
        spec = {"input": {"pipelines": {"p": RANKED}}} | change
        await refused(rows(coll, {"$rankFusion": spec}), code, text)
    valid = {"$rankFusion": {"input": {"pipelines": {"p": RANKED}}}}
    assert await rows(coll, valid) == []
    await refused(rows(coll, {"$match": {}}, valid), 10170100)
    misplaced = {"$rankFusion": {"input": {"pipelines": {"p": [{"$match": {}}, text_stage("x"), *RANKED]}}}}
    await refused(rows(coll, misplaced), 40602)


async def test_pipelines_run_in_the_order_of_their_names(start, collection):
    coll = await searchable(start(), collection)
    wrong_both = SON([("z", [vector_stage([1.0], 3)]), ("a", [text_stage("x", fuzz={})])])
    await refused(rows(coll, {"$rankFusion": {"input": {"pipelines": wrong_both}}}), 8, 'unrecognized field "fuzz"')
