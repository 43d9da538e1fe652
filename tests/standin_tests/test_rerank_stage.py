"""`$rerank`: its grammar, what it hands on, and where there is none."""

from __future__ import annotations

import pytest

from tests.standin_tests.helpers import refused, rows

SCORE = {"$set": {"s": {"$meta": "score"}}}


def stage(text="black tea", count=10, **more) -> dict:
    return {"$rerank": {"query": {"text": text}, "path": "t", "numDocsToRerank": count, "model": "rerank-2.5"} | more}


@pytest.fixture
async def coll(start, collection):
    made = await collection(start(profile="atlas_8_3"))
    await made.insert_many([{"_id": n, "t": text} for n, text in enumerate(["milk", "green tea", "a black tea"])])
    return made


async def test_the_first_documents_are_handed_on_the_most_relevant_first(coll):
    found = await rows(coll, {"$sort": {"_id": 1}}, {"$set": {"n": "$_id"}}, stage(), SCORE)
    assert [row["_id"] for row in found] == [2, 1, 0]
    assert found[0] == {"_id": 2, "t": "a black tea", "n": 2, "s": pytest.approx(1, abs=0.01)}
    assert [row["_id"] for row in await rows(coll, {"$sort": {"_id": 1}}, stage(count=2), SCORE)] == [1, 0]
    assert await rows(coll, {"$match": {"_id": {"$in": []}}}, stage()) == []


async def test_several_fields_are_read_as_one_text(coll):
    await coll.update_many({}, {"$set": {"title": "tea"}})
    (first, *_) = await rows(coll, {"$match": {"_id": 0}}, stage("milk tea", path=["title", "t"]), SCORE)
    assert first["s"] > 0.9


async def test_other_servers_have_none(start, collection):
    await refused(rows(await collection(start(version="8.2")), stage()), 40324, "'$rerank'")
    await refused(rows(await collection(start(version="8.3")), stage()), 9999, "not switched on")


async def test_grammar(coll):
    wrong = [
        ({"query": "tea"}, 14),
        ({"query": {"text": ""}}, 14),
        ({"query": {"txt": "tea"}}, 40415),
        ({"path": []}, 14),
        ({"path": "missing"}, 2),
        ({"numDocsToRerank": 0}, 2),
        ({"numDocsToRerank": 1001}, 2),
        ({"numDocsToRerank": "1"}, 14),
        ({"model": "rerank-9"}, 2),
        ({"topK": 3}, 40415),
    ]
    for change, code in wrong:
        await refused(rows(coll, stage(**change)), code)
    spec = stage()["$rerank"]
    for missing in spec:
        left = {key: value for key, value in spec.items() if key != missing}
        await refused(rows(coll, {"$rerank": left}), 40414)
    await refused(rows(coll, stage(), stage()), 9999)
