"""`$scoreFusion`: its grammar, its numbers, and the versions that have it."""

from __future__ import annotations

import math

import pytest

from tests.standin_tests.helpers import built, refused, rows, search_index, text_stage, vector_index, vector_stage

SCORE, DETAILS = {"$meta": "score"}, {"$meta": "scoreDetails"}


def fusion(normalization="none", *, details=True, **combination) -> dict:
    pipelines = {"vector": [vector_stage([1.0, 0.2], 3)], "text": [text_stage("black tea"), {"$limit": 2}]}
    given = {"pipelines": pipelines, "normalization": normalization}
    return {"$scoreFusion": {"input": given, "combination": combination, "scoreDetails": details}}


@pytest.fixture
async def coll(start, collection):
    standin = start()
    made = await collection(standin)
    texts = ["green tea", "black tea", "milk", "green"]
    await made.insert_many([{"_id": n, "u": "a", "e": [1.0, n / 10], "text": text} for n, text in enumerate(texts)])
    await built(standin, made, vector_index(), search_index())
    return made


async def branch(coll, stage, kind) -> dict:
    return {row["_id"]: row["s"] for row in await rows(coll, stage, {"$project": {"s": {"$meta": kind}}})}


async def test_the_score_is_the_average_of_weighted_scores_and_what_is_not_there_counts_as_none(coll):
    near = await branch(coll, vector_stage([1.0, 0.2], 3), "vectorSearchScore")
    worded = await branch(coll, text_stage("black tea"), "searchScore")
    found = await rows(coll, fusion(weights={"vector": 0.7, "text": 0.3}), {"$project": {"s": SCORE, "d": DETAILS}})
    expected = {key: (0.7 * near.get(key, 0) + 0.3 * worded.get(key, 0)) / 2 for key in {*near, *worded}}
    assert {row["_id"]: row["s"] for row in found} == pytest.approx(expected)
    assert [row["_id"] for row in found] == sorted(expected, key=lambda key: (-expected[key], key))
    by_id = {row["_id"]: row["d"] for row in found}
    text, vector = by_id[2]["details"]
    assert text == {"inputPipelineName": "text", "inputPipelineRawScore": 0, "weight": 0.3, "value": 0}
    assert vector["inputPipelineRawScore"] == pytest.approx(near[2])
    assert (vector["value"], vector["details"]) == (pytest.approx(0.7 * near[2]), [])
    assert (by_id[2]["normalization"], by_id[2]["combination"]) == ("none", {"method": "average"})


async def test_scores_may_be_squeezed_before_they_are_weighted(coll):
    near = await branch(coll, vector_stage([1.0, 0.2], 3), "vectorSearchScore")
    found = {row["_id"]: row["s"] for row in await rows(coll, fusion("sigmoid"), {"$project": {"s": SCORE}})}
    assert found[2] == pytest.approx(1 / (1 + math.exp(-near[2])) / 2)


async def test_raw_scores_can_be_read_out_of_the_details_by_an_expression(coll):
    told = {"$let": {"vars": {"d": DETAILS}, "in": "$$d.details.inputPipelineRawScore"}}
    (row, *_) = await rows(coll, fusion(), {"$project": {"raw": told}})
    assert [type(score) for score in row["raw"]] == [float, float]


async def test_versions_before_8_2_do_not_know_the_stage(start, collection):
    for version in ("7.0", "8.0", "8.1"):
        await refused(rows(await collection(start(version=version)), fusion()), 40324, "'$scoreFusion'")


async def test_without_details_there_are_none(coll):
    await refused(rows(coll, fusion(details=False), {"$project": {"d": DETAILS}}), 40218, "scoreDetails")


TEXT = [{"$search": {"index": "s", "text": {"query": "x", "path": "text"}}}]
PIPELINES = [
    ({"p": []}, 9402503),
    ({"p": [{"$match": {}}]}, 9402500),
    ({"p": [{"$sort": {"a": 1}}]}, 9402500),
    ({"p": [*TEXT, {"$project": {"a": 1}}]}, 9402502),
    ({"p": [{"$rankFusion": {}}]}, 10473003),
    ({"p": [{"$match": {}}, {"$score": {}}]}, 9999),
    ({"p": "x"}, 14),
    ({"p.q": TEXT}, 16412),
    ({}, 9),
]
SPECS = [
    ({"combination": {"weights": {"p": -1}}}, 9460300),
    ({"combination": {"weights": {"p": 1, "q": 1}}}, 9460301),
    ({"combination": {"weights": {"pp": 1}}}, 9967500),
    ({"combination": {"method": "sum"}}, 2),
    ({"combination": {"method": "expression"}}, 10017300),
    ({"combination": {"method": "avg", "expression": 1}}, 10017300),
    ({"combination": {"method": "expression", "expression": 1, "weights": {}}}, 10017301),
    ({"combination": {"method": "expression", "expression": 1}}, 9999),
    ({"input": {"pipelines": {"p": TEXT}}}, 40414),
    ({"input": {"pipelines": {"p": TEXT}, "normalization": "max"}}, 2),
    ({"input": {"pipelines": {"p": TEXT}, "normalization": 1}}, 14),
    ({"input": {"pipelines": {"p": TEXT}, "normalization": "minMaxScaler"}}, 9999),
    ({"scoreDetails": 1}, 14),
    ({"k": 60}, 40415),
]


async def test_grammar(start, collection):
    coll = await collection(start())
    for pipelines, code in PIPELINES:
        await refused(rows(coll, {"$scoreFusion": {"input": {"pipelines": pipelines, "normalization": "none"}}}), code)
    for change, code in SPECS:
        spec = {"input": {"pipelines": {"p": TEXT}, "normalization": "none"}} | change
        await refused(rows(coll, {"$scoreFusion": spec}), code)
    await refused(rows(coll, {"$match": {}}, fusion()), 10170100)
