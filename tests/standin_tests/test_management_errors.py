"""Errors of index management, each by its code and its text."""

from __future__ import annotations

import pytest
from pymongo.operations import SearchIndexModel
from pymongo.read_concern import ReadConcern
from pymongo.server_api import ServerApi

from tests.standin_tests.helpers import (
    SEARCH,
    VECTOR,
    VECTOR_FIELD,
    built,
    listed,
    refused,
    rows,
    search_index,
    text_stage,
    vector_index,
    vector_stage,
)

LIST = {"$listSearchIndexes": {}}


async def test_a_server_without_search_knows_no_command(start, collection):
    coll = await collection(start(profile="bare"))
    await refused(coll.create_search_index(search_index()), 59, "no such command: 'createSearchIndexes'")
    await refused(coll.update_search_index("s", SEARCH), 59, "no such command: 'updateSearchIndex'")
    await refused(coll.drop_search_index("s"), 59, "no such command: 'dropSearchIndex'")
    for stage in (LIST, text_stage("x"), vector_stage([1.0, 0.0]), {"$rankFusion": {}}, {"$searchMeta": {}}):
        name = next(iter(stage))
        await refused(rows(coll, stage), 40324, f"Unrecognized pipeline stage name: '{name}'")
    for kind in ("vectorSearchScore", "score", "scoreDetails"):
        await refused(rows(coll, {"$project": {"s": {"$meta": kind}}}), 17308, f"Unsupported argument to $meta: {kind}")


async def test_a_server_without_a_search_process_says_what_it_needs(start, collection):
    coll = await collection(start(profile="nosearch"))
    text = "Using Atlas Search Database Commands and the $listSearchIndexes aggregation stage requires additional"
    await refused(coll.create_search_index(search_index()), 31082, text)
    await refused(coll.update_search_index("s", SEARCH), 31082, text)
    await refused(coll.drop_search_index("s"), 31082, text)
    await refused(listed(coll), 31082, text)
    text = "Using $search and $vectorSearch aggregation stages requires additional configuration."
    await refused(rows(coll, text_stage("x")), 31082, text)
    await refused(rows(coll, vector_stage([1.0, 0.0])), 31082, text)
    fusion = {"$rankFusion": {"input": {"pipelines": {"p": [vector_stage([1.0, 0.0])]}}}}
    await refused(rows(coll, fusion), 31082, text)
    fusion["$rankFusion"]["input"]["pipelines"]["p"] = [{"$sort": {"_id": 1}}]
    assert await rows(coll, fusion) == [], "a fusion of sorts needs no search process"


async def test_the_first_servers_with_the_commands_said_it_otherwise(start, collection):
    coll = await collection(start(profile="nosearch", version="7.0"))
    text = "Search index commands are only supported with Atlas."
    await refused(coll.create_search_index(search_index()), 115, text)
    await refused(listed(coll), 115, text)
    await refused(rows(coll, text_stage("x")), 31082)


async def test_the_management_service_comes_up_later_than_the_server(start, collection):
    standin = start(profile="atlas", management_down_seconds=2.0)
    coll = await collection(standin)
    await refused(coll.create_search_index(search_index()), 125, "Error connecting to Search Index Management service.")
    await refused(listed(coll), 125, "Error connecting to Search Index Management service.")
    standin.advance(2.0)
    assert await coll.create_search_index(search_index()) == "s"


async def test_the_profile_mgmt_down_stays_down_until_told_otherwise(start, collection):
    standin = start(profile="mgmt_down")
    coll = await collection(standin)
    standin.advance(1000)
    await refused(listed(coll), 125)
    standin.set_management(up=True)
    assert await listed(coll) == []


async def test_a_missing_collection_is_an_error_for_commands_and_empty_for_the_list(start, collection):
    coll = await collection(start())
    database, missing = coll.database, coll.database["missing"]
    text = f"Collection '{database.name}.missing' does not exist."
    await refused(missing.create_search_index(search_index()), 26, text)
    await refused(database.command({"updateSearchIndex": "missing", "name": "s", "definition": SEARCH}), 26, text)
    await refused(database.command({"dropSearchIndex": "missing", "name": "s"}), 26, text)
    assert await listed(missing) == []


@pytest.mark.parametrize("definition", [SEARCH, {"mappings": {"dynamic": True}}], ids=["identical", "other"])
async def test_atlas_refuses_any_second_index_of_a_name(start, collection, definition):
    coll = await collection(start())
    await coll.create_search_index(search_index())
    text = 'An index named "s" is already defined for collection c. Index names must be unique for a source collection'
    await refused(coll.create_search_index(search_index(definition=definition)), 68, text)


async def test_community_takes_an_identical_index_as_done_and_names_another_id(start, collection):
    coll = await collection(start(profile="community"))
    spec = {"name": "v", "type": "vectorSearch", "definition": VECTOR}
    command = {"createSearchIndexes": coll.name, "indexes": [spec]}
    first = await coll.database.command(command)
    second = await coll.database.command(command)
    assert first["indexesCreated"][0]["id"] != second["indexesCreated"][0]["id"]
    assert [index["id"] for index in await listed(coll)] == [first["indexesCreated"][0]["id"]]
    other = {"fields": [{**VECTOR_FIELD, "similarity": "euclidean"}]}
    text = "Index v already exists with a different definition. Drop it first if needed."
    await refused(coll.create_search_index(vector_index(definition=other)), 68, text)


async def test_a_batch_is_created_as_a_whole_or_not_at_all(start, collection):
    coll = await collection(start())
    await refused(coll.create_search_indexes([search_index("a"), search_index("b", {"mappings": 1})]), 8)
    assert await listed(coll) == []


async def test_update_and_drop_of_a_missing_index(start, collection):
    coll = await collection(start())
    text = f"No index with name s exists in namespace {coll.database.name}.c"
    await refused(coll.update_search_index("s", SEARCH), 27, text)
    await refused(coll.drop_search_index("s"), 27, text)


async def test_name_and_id_together_are_refused(start, collection):
    coll = await collection(start())
    await coll.create_search_index(search_index())
    (found,) = await listed(coll)
    both = {"name": "s", "id": found["id"]}
    await refused(coll.database.command({"dropSearchIndex": "c", **both}), 72)
    await refused(coll.database.command({"updateSearchIndex": "c", **both, "definition": SEARCH}), 72)
    await refused(rows(coll, {"$listSearchIndexes": both}), 72, "Cannot set both 'name' and 'id'")
    await coll.database.command({"dropSearchIndex": "c", "id": found["id"]})


async def test_the_type_of_an_index_cannot_change(start, collection):
    coll = await collection(start())
    await coll.create_search_index(search_index())
    command = {"updateSearchIndex": "c", "name": "s", "type": "vectorSearch", "definition": VECTOR}
    await refused(coll.database.command(command), 197)
    await refused(coll.update_search_index("s", VECTOR), 2, "Attribute mappings missing")


async def test_the_smallest_cluster_holds_three_indexes_of_all_collections(start, collection):
    standin = start(profile="m0")
    coll = await collection(standin)
    other = coll.database["other"]
    await other.insert_one({})
    await coll.create_search_indexes([search_index(), vector_index()])
    text = "The maximum number of FTS indexes has been reached for this instance size."
    await refused(other.create_search_indexes([search_index("a"), search_index("b")]), 20, text)
    await other.create_search_index(search_index("a"))
    await refused(coll.create_search_index(search_index("b")), 20, text)
    await other.drop()
    await coll.create_search_index(search_index("b"))


async def test_the_smallest_cluster_takes_small_definitions_only(start, collection):
    coll = await collection(start(profile="m0"))
    many = {"mappings": {"fields": {f"f{n}": {"type": "string"} for n in range(301)}}}
    await refused(coll.create_search_index(search_index(definition=many)), 2, "larger than 3 KB")
    large = await collection(start(profile="atlas"))
    assert await large.create_search_index(search_index(definition=many)) == "s"


async def test_an_index_that_is_being_dropped_is_in_the_way(start, collection):
    standin = start(drop_seconds=3.0)
    coll = await collection(standin)
    await built(standin, coll, search_index())
    await coll.drop_search_index("s")
    assert [(index["status"], index["queryable"]) for index in await listed(coll)] == [("DELETING", False)]
    await refused(coll.drop_search_index("s"), 20, "Index already requested to be deleted")
    await refused(coll.create_search_index(search_index()), 68)
    standin.advance(3.0)
    assert await listed(coll) == []
    assert await coll.create_search_index(search_index()) == "s"


async def test_requests_that_management_does_not_take(start, collection, connect):
    standin = start()
    coll = await collection(standin)
    strict = (await connect(standin, server_api=ServerApi("1", strict=True)))[coll.database.name][coll.name]
    await refused(strict.create_search_index(search_index()), 323)
    await refused(listed(strict), 323)
    client = coll.database.client
    async with client.start_session() as session:
        await session.start_transaction()
        await refused(coll.create_search_index(search_index(), session=session), 263)
        await session.abort_transaction()
    majority = coll.with_options(read_concern=ReadConcern("majority"))
    await refused(rows(majority, LIST), 72, "cannot run with a readConcern other than 'local'")
    await refused(rows(coll, {"$match": {}}, LIST), 40602)
    await refused(rows(coll, {"$facet": {"a": [LIST]}}), 40600)
    await refused(rows(coll, {"$listSearchIndexes": {"nome": "s"}}), 40415)
    await refused(coll.create_search_index(search_index(), writeConcern={"w": 1}), 72)
    await refused(coll.create_search_index(search_index(), surprise=1), 40415)


VECTOR_MISTAKES = {
    "no fields": ({}, '"{}fields" is required'),
    "unknown field key": ({"fields": [{**VECTOR_FIELD, "dims": 2}]}, '"{}fields[0]" unrecognized field "dims"'),
    "unknown type": ({"fields": [{**VECTOR_FIELD, "type": "knnVector"}]}, '"{}fields[0].type" must be one of'),
    "no dimensions": (
        {"fields": [{"type": "vector", "path": "e", "similarity": "cosine"}]},
        'numDimensions" is required',
    ),
    "zero dimensions": ({"fields": [{**VECTOR_FIELD, "numDimensions": 0}]}, "must be within bounds [1..8192]"),
    "too many dimensions": ({"fields": [{**VECTOR_FIELD, "numDimensions": 8193}]}, "must be within bounds [1..8192]"),
    "half a dimension": ({"fields": [{**VECTOR_FIELD, "numDimensions": 2.5}]}, 'numDimensions" must be an integer'),
    "similarity": ({"fields": [{**VECTOR_FIELD, "similarity": "dot"}]}, "one of [cosine, dotProduct, euclidean]"),
    "quantization": ({"fields": [{**VECTOR_FIELD, "quantization": "int8"}]}, "one of [binary, none, scalar]"),
    "bits that do not fill bytes": ({"fields": [{**VECTOR_FIELD, "quantization": "binary"}]}, "a multiple of 8"),
    "the same path twice": ({"fields": [VECTOR_FIELD, {"type": "filter", "path": "e"}]}, "should have distinct paths"),
    "the same filter twice": ({"fields": [VECTOR_FIELD, *[{"type": "filter", "path": "u"}] * 2]}, "distinct paths"),
    "a filter with more": (
        {"fields": [{"type": "filter", "path": "u", "k": 1}]},
        '"{}fields[0]" unrecognized field "k"',
    ),
    "partitions": ({"fields": [VECTOR_FIELD], "numPartitions": 3}, "must be of 1, 2, 4, 8, 16, 32, or 64"),
    "method": ({"fields": [{**VECTOR_FIELD, "indexingMethod": "ivf"}]}, "one of [flat, hnsw]"),
    "options with flat": (
        {"fields": [{**VECTOR_FIELD, "indexingMethod": "flat", "hnswOptions": {"maxEdges": 16}}]},
        'hnswOptions is only supported with "indexingMethod: hnsw".',
    ),
    "edges": (
        {"fields": [{**VECTOR_FIELD, "hnswOptions": {"maxEdges": 8}}]},
        'maxEdges" must be within bounds [16..64]',
    ),
    "candidates": ({"fields": [{**VECTOR_FIELD, "hnswOptions": {"numEdgeCandidates": 3201}}]}, "bounds [100..3200]"),
    "everything stored": ({"fields": [VECTOR_FIELD], "storedSource": True}, "not supported for vector indexes"),
    "nothing stored": ({"fields": [VECTOR_FIELD], "storedSource": {"include": []}}, "cannot be empty"),
}
SEARCH_MISTAKES = {
    "dynamic": ({"mappings": {"dynamic": "yes"}}, '"{}mappings.dynamic" must be a boolean or document'),
    "unknown mapping key": ({"mappings": {"field": {}}}, '"{}mappings" unrecognized field "field"'),
    "unknown type": ({"mappings": {"fields": {"u": {"type": "keyword"}}}}, '"{}mappings.fields.u.type" must be one of'),
    "no type": ({"mappings": {"fields": {"u": {}}}}, '"{}mappings.fields.u.type"'),
    "option of another type": (
        {"mappings": {"fields": {"u": {"type": "token", "analyzer": "lucene.standard"}}}},
        '"{}mappings.fields.u" unrecognized field "analyzer"',
    ),
    "normalizer": (
        {"mappings": {"fields": {"u": {"type": "token", "normalizer": "upper"}}}},
        "must be one of [lowercase, none]",
    ),
    "no type sets": ({"mappings": {}, "typeSets": []}, '"{}typeSets" cannot be empty'),
}


@pytest.mark.parametrize(("kind", "good", "mistakes"), [
    ("vectorSearch", VECTOR, VECTOR_MISTAKES), ("search", SEARCH, SEARCH_MISTAKES)
])  # fmt: skip
async def test_definitions_that_are_refused(start, collection, kind, good, mistakes):
    """Without a code when an index is created, which the server makes 8; with 125 when it is updated."""
    coll = await collection(start())
    await coll.create_search_index(SearchIndexModel(good, name="good", type=kind))
    for why, (definition, text) in mistakes.items():
        work = coll.create_search_index(SearchIndexModel(definition, name=why, type=kind))
        await refused(work, 8, text.replace("{}", "userCommand.indexes[0]."))
        await refused(coll.update_search_index("good", definition), 125, text.replace("{}", ""))
    assert [index["name"] for index in await listed(coll)] == ["good"]


async def test_what_can_be_read_and_means_nothing_is_125(start, collection):
    coll = await collection(start(profile="community"))
    unknown = {"mappings": {"fields": {"u": {"type": "string", "analyzer": "nope"}}}}
    await refused(coll.create_search_index(search_index("s", unknown)), 125, "references non-existent analyzers: nope")
    twice = [search_index("s"), search_index("s")]
    await refused(coll.create_search_indexes(twice), 125, "duplicate index names for the same collection")
    nested = {"fields": [VECTOR_FIELD], "nestedRoot": "parts"}
    await refused(coll.create_search_index(vector_index("v", nested)), 125, 'nestedRoot "parts" does not match')
    await coll.create_search_index(search_index("s"))
    await refused(coll.update_search_index("s", unknown), 125, "references non-existent analyzers: nope")
    await refused(
        coll.create_search_index(search_index("s", unknown)), 68, "already exists with a different definition"
    )


async def test_a_creation_drops_what_it_does_not_know_and_an_update_refuses_it(start, collection):
    coll = await collection(start())
    assert await coll.create_search_index(search_index("s", SEARCH | {"bogus": 1})) == "s"
    (found,) = await listed(coll)
    assert found["latestDefinition"] == SEARCH | {"bogus": 1}
    assert "bogus" not in found["statusDetail"][0]["mainIndex"]["definition"]
    await refused(coll.update_search_index("s", SEARCH | {"bogus": 1}), 125, 'unrecognized field "bogus"')
    await refused(coll.update_search_index("s", SEARCH | {"a": 1, "b": 1}), 125, 'unrecognized fields ["a", "b"]')


async def test_a_vector_index_may_hold_filters_alone_or_nothing(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "u": "a", "e": [1.0, 0.0]})
    filters = vector_index("filters", {"fields": [{"type": "filter", "path": "u"}]})
    await built(standin, coll, filters, vector_index("nothing", {"fields": []}))
    for name in ("filters", "nothing"):
        await refused(rows(coll, vector_stage([1.0, 0.0], index=name)), 8, "e is not indexed as vector")


@pytest.mark.parametrize("options", [
    {"fields": [VECTOR_FIELD, {**VECTOR_FIELD, "path": "e2"}]},
    {"fields": [VECTOR_FIELD], "numPartitions": 64},
    {"fields": [{**VECTOR_FIELD, "hnswOptions": {"maxEdges": 64, "numEdgeCandidates": 3200}}]},
    {"fields": [VECTOR_FIELD], "storedSource": {"include": ["text"]}},
])  # fmt: skip
async def test_definitions_that_change_nothing_about_a_search(start, collection, options):
    standin = start()
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "e": [1.0, 0.0]})
    await built(standin, coll, vector_index("v", options))
    assert [row["_id"] for row in await rows(coll, vector_stage([1.0, 0.0]))] == [1]


@pytest.mark.parametrize(("kind", "definition"), [
    ("vectorSearch", {"fields": [{**VECTOR_FIELD, "engine": "custom"}]}),
    ("vectorSearch", {"fields": [{**VECTOR_FIELD, "path": "a.e"}], "nestedRoot": "a"}),
    ("search", {"mappings": {"fields": {"text": {"type": "string", "norms": "omit"}}}}),
        ("search", SEARCH | {"sort": {"u": 1}}),
    ("search", {"mappings": {"dynamic": {"typeSet": "t"}}, "typeSets": [{"name": "t", "types": [{"type": "string"}]}]}),
])  # fmt: skip
async def test_an_index_that_is_accepted_and_not_modelled_cannot_be_searched(start, collection, kind, definition):
    standin = start()
    coll = await collection(standin)
    await built(standin, coll, SearchIndexModel(definition, name="i", type=kind))
    path = "a.e" if "nestedRoot" in definition else "e"
    stage = text_stage("tea", path="text") if kind == "search" else vector_stage([1.0, 0.0], path=path)
    (spec,) = stage.values()
    spec["index"] = "i"
    await refused(rows(coll, stage), 9999, "LKDOUBLE unsupported: a search of an index with")


@pytest.mark.parametrize(
    "definition",
    [
        {"mappings": {"fields": {"u": {"type": "autocomplete"}}}},
        {"mappings": {"dynamic": True}, "analyzer": "lucene.english"},
        {"mappings": {"dynamic": True}, "synonyms": [{"name": "mine"}]},
    ],
)
async def test_what_is_not_modelled_is_refused_by_the_stand_in_itself(start, collection, definition):
    coll = await collection(start())
    await refused(coll.create_search_index(search_index(definition=definition)), 9999, "LKDOUBLE unsupported")
