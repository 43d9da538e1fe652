"""`$search`: operators, analysis, scores, and what is silently not there."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from bson import ObjectId
from pymongo.read_concern import ReadConcern

from tests.standin_tests.helpers import (
    built,
    ids,
    refused,
    rows,
    search_index,
    text_stage,
    vector_index,
)

SCORE = {"$project": {"score": {"$meta": "searchScore"}}}


def search(**operator) -> dict:
    return {"$search": {"index": "s", **operator}}


def equals(path: str, value) -> dict:
    return {"equals": {"path": path, "value": value}}


async def test_words_not_substrings_are_found(start, collection):
    standin = start()
    coll = await collection(standin)
    texts = ["Green tea, please", "favorite_color is green", "favorite color", "can't do", "see example.com", "teapot"]
    await coll.insert_many([{"_id": number, "text": text} for number, text in enumerate(texts)])
    await built(standin, coll, search_index())
    assert set(await ids(coll, text_stage("GREEN"))) == {0, 1}
    assert set(await ids(coll, text_stage("tea"))) == {0}
    assert set(await ids(coll, text_stage("color"))) == {2}, "an underscore holds a word together"
    assert set(await ids(coll, text_stage("favorite_color"))) == {1}
    assert set(await ids(coll, text_stage("example"))) == set()
    assert set(await ids(coll, text_stage("tea favorite"))) == {0, 2}, "any word will do"
    assert set(await ids(coll, text_stage("green please", matchCriteria="all"))) == {0}
    assert set(await ids(coll, text_stage(["teapot", "color"]))) == {2, 5}


async def test_scores_are_those_of_bm25(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([{"_id": 1, "text": "tea tea milk"}, {"_id": 2, "text": "tea"}, {"_id": 3, "text": "milk"}])
    await built(standin, coll, search_index())
    rarity = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    average = 5 / 3
    expected = {
        1: rarity * 2 / (2 + 1.2 * (0.25 + 0.75 * 3 / average)),
        2: rarity * 1 / (1 + 1.2 * (0.25 + 0.75 * 1 / average)),
    }
    found = await rows(coll, text_stage("tea"), SCORE)
    assert {row["_id"]: row["score"] for row in found} == pytest.approx(expected)
    boosted = await rows(coll, text_stage("tea", score={"boost": {"value": 3}}), SCORE)
    assert boosted[0]["score"] == pytest.approx(3 * found[0]["score"])
    constant = await rows(coll, text_stage("tea", score={"constant": {"value": 3}}), SCORE)
    assert [row["score"] for row in constant] == [3, 3]


async def test_misspelt_words_are_found_within_the_edits_allowed(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([{"_id": word, "text": word} for word in ("green", "greet", "grene", "gren", "blue", "a")])
    await built(standin, coll, search_index())
    assert set(await ids(coll, text_stage("green"))) == {"green"}
    assert set(await ids(coll, text_stage("green", fuzzy={"maxEdits": 1}))) == {"green", "greet", "grene", "gren"}
    assert set(await ids(coll, text_stage("xreen", fuzzy={"maxEdits": 1, "prefixLength": 1}))) == set()
    assert set(await ids(coll, text_stage("green", fuzzy={"maxEdits": 1, "maxExpansions": 1}))) == {"green"}
    assert (await ids(coll, text_stage("green", fuzzy={})))[0] == "green", "the word itself is worth most"


async def test_expansions_are_drawn_from_everybody_s_words(start, collection):
    standin = start()
    coll = await collection(standin)
    others = [{"_id": n, "u": "b", "text": f"gree{chr(97 + n)}"} for n in range(10)]
    await coll.insert_many([*others, {"_id": "mine", "u": "a", "text": "greez"}])
    await built(standin, coll, search_index())
    mine = {"filter": [equals("u", "a")]}
    for cap, expected in ((11, {"mine"}), (10, set())):
        fuzzy = {"text": {"path": "text", "query": "greek", "fuzzy": {"maxEdits": 1, "maxExpansions": cap}}}
        stage = search(compound={**mine, "should": [fuzzy], "minimumShouldMatch": 1})
        assert set(await ids(coll, stage)) == expected


async def test_a_path_that_is_not_mapped_finds_nothing_and_says_nothing(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "u": "a", "text": "tea", "other": "tea"})
    await built(standin, coll, search_index("s"), search_index("dynamic", {"mappings": {"dynamic": True}}))
    assert await ids(coll, text_stage("tea")) == [1]
    assert await ids(coll, text_stage("tea", path="other")) == []
    assert await ids(coll, search(**equals("u", "a"))) == [1]
    assert await ids(coll, search(**equals("text", "tea"))) == [], "a string is no token"
    await refused(rows(coll, search(**equals("text", "green tea"))), 8, "Path 'text' needs to be indexed as token")
    typo = {"$search": {"index": "typo", **equals("text", "green tea")}}
    assert await ids(coll, typo) == [], "an index that does not exist knows no paths"
    assert await ids(coll, text_stage("a", path="u")) == [], "a token is no string"
    dynamic = {"index": "dynamic"}
    assert await ids(coll, {"$search": dynamic | {"text": {"query": "tea", "path": "other"}}}) == [1]
    assert await ids(coll, {"$search": dynamic | equals("u", "a")}) == [], "dynamic makes strings, never tokens"


async def test_an_unknown_index_and_a_missing_collection_find_nothing(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "text": "tea"})
    await built(standin, coll, search_index())
    assert await ids(coll, {"$search": {"text": {"query": "tea", "path": "text"}}}) == [], "the name is then default"
    assert await ids(coll, {"$search": {"index": "ss", "text": {"query": "tea", "path": "text"}}}) == []
    assert await ids(coll.database["missing"], text_stage("tea")) == []
    await built(standin, coll, search_index("default"))
    assert await ids(coll, {"$search": {"text": {"query": "tea", "path": "text"}}}) == [1]


TYPED = {
    "mappings": {
        "fields": {
            "u": {"type": "token", "normalizer": "lowercase"},
            "text": [{"type": "string"}, {"type": "token"}],
            "n": {"type": "number"},
            "d": {"type": "date"},
            "f": {"type": "boolean"},
            "o": {"type": "objectId"},
            "in": {"type": "document", "fields": {"text": {"type": "string"}}},
            "more": {"type": "document", "dynamic": True},
        }
    }
}
ID, MOMENT = ObjectId(), datetime(2026, 1, 2, tzinfo=UTC)
ROWS = [
    {"_id": 1, "u": "Ann", "text": "green tea", "n": 1, "d": MOMENT, "f": True, "o": ID, "in": {"text": "deep"}},
    {"_id": 2, "u": "bob", "text": ["black tea", "no milk"], "n": 2.5, "f": False, "more": {"text": "deep"}},
    {"_id": 3, "text": "tea green", "n": 7, "in": [{"text": "deep"}, {"text": "down"}]},
    {"_id": 4, "n": None, "unmapped": None},
]
OPERATORS = [
    ({"phrase": {"query": "green tea", "path": "text"}}, {1}),
    ({"phrase": {"query": "tea no", "path": "text"}}, {2}),  # from one value into the next
    ({"phrase": {"query": "milk black", "path": "text"}}, set()),
    ({"phrase": {"query": "no milk", "path": ["text", "other"]}}, {2}),
    (equals("u", "ANN"), {1}),
    (equals("text", "green tea"), {1}),
    (equals("text", "Green tea"), set()),
    (equals("n", 2.5), {2}),
    (equals("f", False), {2}),
    (equals("o", ID), {1}),
    (equals("d", MOMENT), {1}),
    ({"in": {"path": "n", "value": [1, 7]}}, {1, 3}),
    ({"in": {"path": "u", "value": ["ann", "bob"]}}, {1, 2}),
    ({"range": {"path": "n", "gt": 1, "lte": 7}}, {2, 3}),
    ({"range": {"path": "u", "gte": "b"}}, {2}),
    ({"range": {"path": "d", "gte": MOMENT}}, {1}),
    ({"range": {"path": "u", "gte": "B"}}, {2}),
    ({"exists": {"path": "u"}}, {1, 2}),
    ({"exists": {"path": "in"}}, {1, 3}),
    ({"exists": {"path": "n"}}, {1, 2, 3, 4}),
    ({"exists": {"path": "unmapped"}}, set()),
    (equals("n", None), {4}),
    (equals("unmapped", None), set()),
    (equals("n", "word"), set()),
    ({"exists": {"path": "missing"}}, set()),
    ({"text": {"path": "in.text", "query": "deep"}}, {1, 3}),
    ({"text": {"path": "more.text", "query": "deep"}}, {2}),
    ({"text": {"path": "in.other", "query": "deep"}}, set()),
]
TEA = {"text": {"path": "text", "query": "tea"}}
GREEN = {"text": {"path": "text", "query": "green"}}
COMPOUNDS = [
    ({"must": [TEA, GREEN]}, {1, 3}),
    ({"must": TEA, "mustNot": GREEN}, {2}),
    ({"should": [GREEN, equals("u", "bob")]}, {1, 2, 3}),
    ({"should": [GREEN, equals("u", "ann")], "minimumShouldMatch": 2}, {1}),
    ({"filter": [equals("u", "bob")]}, {2}),
    ({"filter": [equals("u", "bob")], "should": [GREEN]}, {2}),
    ({"filter": [equals("u", "bob")], "should": [GREEN], "minimumShouldMatch": 1}, set()),
    ({"must": [{"compound": {"should": [GREEN]}}]}, {1, 3}),
    ({"mustNot": [TEA]}, {4}),
]


async def test_operators(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many(ROWS)
    await built(standin, coll, search_index(definition=TYPED))
    for operator, expected in OPERATORS:
        assert set(await ids(coll, search(**operator))) == expected, operator
    for clauses, expected in COMPOUNDS:
        assert set(await ids(coll, search(compound=clauses))) == expected, clauses
    scored = await rows(coll, search(compound={"filter": [equals("u", "ann")]}), SCORE)
    assert [row["score"] for row in scored] == [0.0], "a filter does not score"


MISTAKES = [
    ({}, "Query should contain either an operator"),
    ({"text": {"query": "x", "path": "text"}, "exists": {"path": "u"}}, "at most one of"),
    ({"txt": {}}, "Query should contain either an operator"),
    ({**TEA, "limit": 5}, 'unrecognized field "limit"'),
    ({"text": {"query": "x"}}, '"text.path" is required'),
    ({"text": {"path": "text"}}, '"text.query"'),
    ({"text": {"path": "text", "query": ""}}, '"text.query"'),
    ({"text": {"path": "text", "query": "x", "fuzz": {}}}, 'unrecognized field "fuzz"'),
    ({"text": {"path": "text", "query": "x", "fuzzy": {"maxEdits": 3}}}, '"text.fuzzy.maxEdits"'),
    ({"text": {"path": "text", "query": "x", "fuzzy": {"maxExpansions": 0}}}, '"text.fuzzy.maxExpansions"'),
    ({"text": {"path": "text", "query": "x", "matchCriteria": "some"}}, '"text.matchCriteria"'),
    ({"compound": {}}, '"compound" at least one of [filter, must, mustNot, should] must be present'),
    ({"compound": {"should": [], "filter": []}}, '"compound" must have at least one clause'),
    ({"compound": {"should": [TEA], "minimumShouldMatch": 2}}, "minimumShouldMatch"),
    ({"compound": {"all": [TEA]}}, 'unrecognized field "all"'),
    ({"compound": {"must": [{"txt": {}}]}}, 'unrecognized field "txt"'),
    ({"equals": {"path": "u", "value": {"a": 1}}}, '"equals.value"'),
    ({"in": {"path": "u", "value": ["a", 1]}}, '"in.value"'),
    ({"range": {"path": "n"}}, '"range"'),
    ({"range": {"path": "n", "gt": 1, "gte": 1}}, '"range"'),
    ({"range": {"path": "n", "gt": 2, "lt": 1}}, '"range" gt/gte must not be greater than lt/lte'),
    ({"range": {"path": "n", "gt": 1, "lte": 1}}, '"range" bounds must both be inclusive if they are equal'),
]
NOT_MODELLED = [
    {"autocomplete": {"query": "x", "path": "text"}},
    {"text": {"query": "x", "path": {"wildcard": "*"}}},
    {"text": {"query": "x", "path": "text", "synonyms": "mine"}},
    {"text": {"query": "x", "path": "text", "score": {"function": {}}}},
    {"phrase": {"query": "x y", "path": "text", "slop": 2}},
    {"text": {"query": "x y", "path": "text", "fuzzy": {}, "matchCriteria": "all"}},
    {**TEA, "highlight": {"path": "text"}},
    {**TEA, "count": {"type": "total"}},
    {**TEA, "scoreDetails": True},
]


async def test_options_that_are_refused(start, collection):
    standin = start()
    coll = await collection(standin)
    await built(standin, coll, search_index(), vector_index())
    for spec, text in MISTAKES:
        await refused(rows(coll, {"$search": {"index": "s", **spec}}), 8, text)
        await refused(rows(coll, {"$search": {"index": "typo", **spec}}), 8, text)
    for spec in NOT_MODELLED:
        await refused(rows(coll, {"$search": {"index": "s", **spec}}), 9999, "LKDOUBLE unsupported")
    await refused(rows(coll, {"$search": {"index": "v", **TEA}}), 8, "Cannot execute $search over vectorSearch index")
    await refused(rows(coll, {"$searchMeta": {"index": "s", **TEA}}), 9999)


async def test_places_and_requests_where_the_stage_must_not_be(start, collection):
    standin = start()
    coll = await collection(standin)
    await built(standin, coll, search_index())
    stage = text_stage("tea")
    await refused(rows(coll, {"$match": {}}, stage), 40602, "$search is only valid as the first stage in a pipeline")
    await refused(rows(coll, {"$facet": {"a": [stage]}}), 40600, "$search is not allowed to be used within a $facet")
    majority = coll.with_options(read_concern=ReadConcern("majority"))
    await refused(rows(majority, stage), 72, "Current readConcern: majority")
