"""Search indexes: made once, brought up to date, named when something stands in the way, never dropped unasked."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from pymongo.operations import SearchIndexModel

from lkmongo.errors import AuthenticationError, DatabaseError, ExitCode, NotReadyError, NotSupportedError
from lkmongo.store.indexes import database_indexes
from lkmongo.store.indexes import search_indexes as search_provision
from lkmongo.store.indexes.database_indexes import Action
from lkmongo.store.indexes.definitions import SearchIndex, Tuning, differences, search_indexes
from lkmongo.store.indexes.readiness import states
from lkmongo.store.indexes.search_indexes import QuotaError, RefusedDefinitionError
from lkmongo.store.mongo.client import create_client
from tests.search_rig import EMBEDDER, KNOWLEDGE, MEMORIES, TEXT, WANTED, rig

ALL = [index.name for index in WANTED]
WRITES = ("createSearchIndexes", "updateSearchIndex", "dropSearchIndex")
NARROW = {"fields": [field for field in MEMORIES.definition["fields"] if field.get("path") != "user_id"]}


@pytest.fixture
async def start(mongodb_uri, database_name):
    async with AsyncExitStack() as stack:

        async def run(**options):
            return await stack.enter_async_context(rig(mongodb_uri, database_name, **options))

        yield run


async def apply(it, indexes=WANTED, *, meanwhile=None, **options):
    backoff = it.backoff(30.0, *([meanwhile] if meanwhile else []))
    return await search_provision.apply(it.db, indexes, backoff=backoff, **options)


async def actions(it, indexes=WANTED):
    return [change.action for change in await search_provision.plan(it.db, indexes)]


async def right(it, *indexes):
    """Whether these indexes have the definition that they should have."""
    found = [(index, await it.listed(index)) for index in indexes]
    return all(row and differences(index.definition, row["latestDefinition"]) == [] for index, row in found)


@pytest.mark.parametrize("profile", ["atlas", "atlas_7_0", "m0", "community"])
async def test_a_second_run_changes_nothing(start, profile):
    it = await start(profile=profile)
    assert [change.action for change in await apply(it)] == [Action.CREATE] * 3
    written = len(it.sent(*WRITES))
    for _ in range(2):
        assert [change.action for change in await apply(it)] == [Action.UNCHANGED] * 3
        await it.finish_builds()
    assert len(it.sent(*WRITES)) == written == 3
    assert await right(it, *WANTED)


async def test_collections_come_first(start):
    it = await start(collections=False)
    await apply(it)
    assert await right(it, *WANTED)


async def test_an_address_that_asks_for_majority_is_no_hindrance(start):
    it = await start()
    await it.make(MEMORIES, NARROW)
    async with create_client(f"{it.standin.uri}&readConcernLevel=majority&w=majority") as client:
        await search_provision.apply(client[it.db.name], WANTED)
    assert await right(it, *WANTED)


async def test_a_plan_writes_nothing(start):
    it = await start(collections=False)
    assert await actions(it) == [Action.CREATE] * 3
    assert it.sent(*WRITES) == []
    assert await it.db.list_collection_names() == []


async def test_a_definition_that_says_the_same_in_other_words_is_left_alone(start):
    it = await start()
    vector, *filters = MEMORIES.definition["fields"]
    await it.make(MEMORIES, {"fields": [*reversed(filters), {"quantization": "none", **vector}]})
    assert await actions(it, [MEMORIES]) == [Action.UNCHANGED]


async def test_a_definition_that_was_changed_by_hand_is_named_and_put_right(start):
    it = await start()
    await it.make(MEMORIES, NARROW)
    (change,) = await apply(it, [MEMORIES])
    assert (change.action, change.detail) == (Action.UPDATE, "fields.user_id.type is missing, should be filter")
    assert await right(it, MEMORIES)
    assert await actions(it, [MEMORIES]) == [Action.UNCHANGED], "while the update is built, too"
    assert it.sent("dropSearchIndex") == []


async def test_another_embedder_needs_other_indexes(start):
    it = await start()
    await apply(it)
    await it.finish_builds()
    changes = await apply(it, search_indexes(512))
    assert [change.action for change in changes] == [Action.UPDATE, Action.UPDATE, Action.UNCHANGED]
    assert changes[0].detail == "fields.embedding.numDimensions is 256, should be 512"


async def test_indexes_of_others_are_left_alone(start):
    it = await start()
    await it.db.memories.create_search_index(SearchIndexModel({"mappings": {"dynamic": True}}, name="mine"))
    await apply(it, replace=ALL)
    (mine,) = await (await it.db.memories.list_search_indexes("mine")).to_list()
    assert mine["latestDefinition"] == {"mappings": {"dynamic": True}}


# -- what only --replace may do


@pytest.mark.parametrize("profile", ["atlas", "community"])
async def test_an_index_of_the_wrong_type_is_dropped_only_when_asked(start, profile):
    it = await start(profile=profile)
    await it.make(MEMORIES, {"mappings": {"dynamic": True}}, "search")
    (change,) = await apply(it, [MEMORIES])
    assert change.action is Action.BLOCKED
    assert "type search, should be vectorSearch" in change.detail
    assert "--replace" in change.hint
    assert it.sent("dropSearchIndex") == []
    (change,) = await apply(it, [MEMORIES], replace=ALL)
    assert change.action is Action.REPLACE
    assert await right(it, MEMORIES)


async def test_what_broke_while_somebody_was_asked_of_another_is_not_dropped(start):
    it = await start()
    for index in (MEMORIES, TEXT):
        await it.make(index)
        it.standin.set_status(it.db.name, "memories", index.name, "FAILED")
    changes = await apply(it, [MEMORIES, TEXT], replace=[TEXT.name])
    assert [(change.action, change.broken) for change in changes] == [(Action.UNCHANGED, True), (Action.REPLACE, True)]
    assert len(it.sent("dropSearchIndex")) == 1


@pytest.mark.parametrize("status", ["FAILED", "STALE", "DOES_NOT_EXIST"])
async def test_a_broken_index_is_named_and_made_again_only_when_asked(start, status):
    it = await start()
    await it.make(TEXT)
    it.standin.set_status(it.db.name, "memories", TEXT.name, status, "out of disk")
    (change,) = await apply(it, [TEXT])
    assert (change.action, change.broken, change.pending) == (Action.UNCHANGED, True, False)
    assert status in change.detail
    assert ("out of disk" in change.detail) is (status == "FAILED"), "the server says it of those alone"
    assert "--replace" in change.hint
    assert len(it.sent(*WRITES)) == 1
    (change,) = await apply(it, [TEXT], replace=ALL)
    assert change.action is Action.REPLACE
    await it.finish_builds()
    assert (await it.listed(TEXT))["status"] == "READY"


async def test_an_update_that_failed_is_broken_while_the_definition_before_serves(start):
    it = await start()
    await it.make(MEMORIES, NARROW)
    await apply(it, [MEMORIES])
    (change,) = await search_provision.plan(it.db, [MEMORIES])
    assert (change.action, change.broken, change.pending) == (Action.UNCHANGED, False, True)
    assert change.detail == "it is BUILDING, and the previous definition serves"
    it.standin.set_status(it.db.name, "memories", MEMORIES.name, "FAILED", "out of disk")
    (change,) = await search_provision.plan(it.db, [MEMORIES])
    assert (change.action, change.broken, change.pending) == (Action.UNCHANGED, True, False)
    assert change.detail == "it is FAILED, and the previous definition serves: out of disk"


async def test_a_broken_index_of_another_definition_is_updated_and_named(start):
    it = await start()
    await it.make(MEMORIES, NARROW)
    it.standin.set_status(it.db.name, "memories", MEMORIES.name, "FAILED", "out of disk")
    (change,) = await search_provision.plan(it.db, [MEMORIES])
    assert (change.action, change.broken) == (Action.UPDATE, True)
    assert change.detail.startswith("fields.user_id.type is missing, should be filter; it is FAILED")


@pytest.mark.parametrize("profile", ["atlas", "community"])
async def test_an_index_is_late_until_it_serves(start, profile):
    it = await start(profile=profile, unseen_seconds=0)
    await apply(it, [TEXT])
    said = []
    while True:
        (change,) = await search_provision.plan(it.db, [TEXT])
        if not change.pending:
            break
        said.append(change.detail)
        await asyncio.to_thread(it.standin.advance, 1)
    assert list(dict.fromkeys(said)) == [
        "it is PENDING, and not queryable",
        "it is BUILDING, and not queryable",
    ]
    assert (change.action, change.detail) == (Action.UNCHANGED, "")


async def test_replacing_leaves_what_is_right(start):
    it = await start()
    await apply(it)
    await it.finish_builds()
    assert [change.action for change in await apply(it, replace=ALL)] == [Action.UNCHANGED] * 3
    assert it.sent("dropSearchIndex") == []


@pytest.mark.parametrize("code", [20, 27], ids=["going", "gone"])
async def test_an_index_that_somebody_else_is_dropping_is_replaced(start, code):
    it = await start()
    await it.make(MEMORIES, {"mappings": {"dynamic": True}}, "search")
    it.standin.fail("dropSearchIndex", code=code, after=True)
    (change,) = await apply(it, [MEMORIES], replace=ALL)
    assert change.action is Action.REPLACE
    assert await right(it, MEMORIES)


async def test_replacing_goes_on_when_the_answer_to_the_drop_is_lost(start):
    it = await start()
    await it.make(MEMORIES, {"mappings": {"dynamic": True}}, "search")
    it.standin.drop_connection("dropSearchIndex", after=True)
    (change,) = await apply(it, [MEMORIES], replace=ALL)
    assert change.action is Action.REPLACE
    assert await right(it, MEMORIES)


async def test_a_new_index_waits_until_the_one_before_is_gone(start):
    it = await start(drop_seconds=7.0)
    await it.make(TEXT)
    await it.db.memories.drop_search_index(TEXT.name)
    (change,) = await search_provision.plan(it.db, [TEXT])
    assert (change.action, change.detail) == (Action.CREATE, "the previous one is still being deleted")
    await apply(it, [TEXT])
    assert (await it.listed(TEXT))["status"] == "PENDING"
    assert sum(it.pauses) >= 7.0


async def test_an_index_that_does_not_go_away_ends_the_wait(start):
    it = await start(drop_seconds=1000.0)
    await it.make(TEXT)
    await it.db.memories.drop_search_index(TEXT.name)
    with pytest.raises(NotReadyError, match="memories_text_index is still being deleted") as caught:
        await apply(it, [TEXT])
    assert caught.value.exit_code == ExitCode.NOT_READY


# -- what comes in between


async def test_five_at_once_make_each_index_once(start):
    it = await start()
    results = await asyncio.gather(*(apply(it) for _ in range(5)))
    assert all(change.action in {Action.CREATE, Action.UNCHANGED} for changes in results for change in changes)
    assert await right(it, *WANTED)
    assert len([sent for sent in it.sent("createSearchIndexes") if sent.code is None]) == 3


@pytest.mark.parametrize("after", [True, False], ids=["the answer is lost", "the command is lost"])
@pytest.mark.parametrize("profile", ["atlas", "community"])
async def test_a_connection_that_breaks_is_no_failure(start, profile, after):
    it = await start(profile=profile)
    await it.make(MEMORIES, NARROW)
    for command in ("createSearchIndexes", "updateSearchIndex"):
        it.standin.drop_connection(command, after=after)
    changes = await apply(it)
    assert [change.action for change in changes] == [Action.CREATE, Action.UPDATE, Action.CREATE]
    assert await right(it, *WANTED)


async def test_an_index_that_another_process_makes_differently_meanwhile_is_put_right(start):
    it = await start()
    it.standin.fail("createSearchIndexes", code=68)
    await apply(it, [MEMORIES], meanwhile=lambda: it.make(MEMORIES, NARROW))
    assert await right(it, MEMORIES)
    assert len(it.sent("updateSearchIndex")) == 1


async def test_a_collection_that_is_not_there_is_made(start):
    it = await start(collections=False)
    await apply(it, [TEXT])
    assert [sent.code for sent in it.sent("createSearchIndexes")] == [26, None]
    assert await right(it, TEXT)


async def test_a_collection_that_is_dropped_before_an_update_is_made_again(start):
    it = await start()
    await it.make(MEMORIES, NARROW)
    it.standin.fail("updateSearchIndex", code=26)
    await apply(it, [MEMORIES], meanwhile=it.db.memories.drop)
    assert await right(it, MEMORIES)


async def test_an_index_that_is_dropped_before_its_update_is_made_again(start):
    it = await start(profile="community")
    await it.make(MEMORIES, NARROW)
    it.standin.drop_connection("updateSearchIndex")
    await apply(it, [MEMORIES], meanwhile=lambda: it.db.memories.drop_search_index(MEMORIES.name))
    assert await right(it, MEMORIES)
    assert len(it.sent("createSearchIndexes")) == 2


@pytest.mark.parametrize("code", [27, 20], ids=["gone", "going"])
async def test_an_update_of_an_index_that_is_dropped_creates_it(start, code):
    it = await start()
    await it.make(MEMORIES, NARROW)
    it.standin.fail("updateSearchIndex", code=code)
    await apply(it, [MEMORIES], meanwhile=lambda: it.db.memories.drop_search_index(MEMORIES.name))
    assert await right(it, MEMORIES)
    assert [sent.code for sent in it.sent("createSearchIndexes")] == [None, None]


# -- codes


async def test_the_management_service_is_waited_for(start):
    it = await start(management_down_seconds=5.0)
    await apply(it)
    assert await right(it, *WANTED)
    assert sum(it.pauses) >= 5.0


async def test_a_management_service_that_stays_away_ends_in_not_ready(start):
    it = await start(profile="mgmt_down")
    with pytest.raises(NotReadyError) as caught:
        await apply(it)
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert "code 125" in caught.value.why
    assert sum(it.pauses) >= 30.0


async def test_a_full_m0_cluster_names_the_index_without_a_place_and_what_m0_allows(start):
    it = await start(profile="m0")
    await it.db.create_collection("orders")
    await it.db.orders.create_search_index(SearchIndexModel({"mappings": {"dynamic": True}}, name="mine"))
    await it.make(MEMORIES, NARROW)
    with pytest.raises(QuotaError, match="no room for memories_text_index") as caught:
        await apply(it)
    actions = {change.index.name: change.action for change in caught.value.changes}
    assert actions == {KNOWLEDGE.name: Action.CREATE, MEMORIES.name: Action.UPDATE, TEXT.name: Action.BLOCKED}
    assert "M0 cluster can have 3 search indexes" in caught.value.hint
    assert "code 20" in caught.value.why
    assert caught.value.exit_code == ExitCode.FAILED
    assert await right(it, KNOWLEDGE, MEMORIES), "what needs no place is made right nevertheless"


@pytest.mark.parametrize(("code", "said"), [(13, "not allowed"), (18, "rejected the credentials")])
@pytest.mark.parametrize("command", ["$listSearchIndexes", "createSearchIndexes"])
async def test_a_user_who_may_not_is_told(start, command, code, said):
    it = await start()
    it.standin.fail(command, code=code, times=None)
    with pytest.raises(AuthenticationError, match=said) as caught:
        await apply(it)
    assert f"code {code}" in caught.value.why
    assert caught.value.exit_code == ExitCode.AUTHENTICATION


UNKNOWN_ANALYZER = SearchIndex(
    "memories",
    TEXT.name,
    "search",
    {"mappings": {"fields": {"content": {"type": "string", "analyzer": "nope"}}}},
    TEXT.scope,
)


@pytest.mark.parametrize("made", [False, True], ids=["create", "update"])
async def test_a_definition_that_is_refused_is_said_at_once_and_the_other_indexes_are_made(start, made):
    it = await start()
    if made:
        await it.make(TEXT)
    with pytest.raises(RefusedDefinitionError, match=r"refuses the definition of memories_text_index$") as caught:
        await apply(it, [KNOWLEDGE, UNKNOWN_ANALYZER, MEMORIES])
    assert "nope" in caught.value.why
    assert caught.value.exit_code == ExitCode.FAILED
    assert "--dry-run" in caught.value.hint
    assert it.pauses == []
    assert await right(it, KNOWLEDGE, MEMORIES)
    actions = {change.index.name: change.action for change in caught.value.changes}
    assert actions == {KNOWLEDGE.name: Action.CREATE, MEMORIES.name: Action.CREATE, TEXT.name: Action.BLOCKED}
    assert len(it.sent("updateSearchIndex" if made else "createSearchIndexes")) == (1 if made else 3)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (125, "duplicate index names for the same collection: 6b0b8b0bad2abd789cca4f8a"),
        (8, '"userCommand.indexes[0].fields[0]" unrecognized field "indexingMethod"'),
        (2, "Invalid index definition"),
        (396, "the search indexes of this collection are too large to list"),
    ],
)
@pytest.mark.parametrize("command", ["createSearchIndexes", "updateSearchIndex"])
async def test_every_way_to_refuse_a_definition_is_one(start, command, code, words):
    it = await start()
    await it.make(MEMORIES, NARROW)
    it.standin.fail(command, code=code, message=words, times=None)
    with pytest.raises(RefusedDefinitionError) as caught:
        await apply(it, [TEXT, MEMORIES])
    assert caught.value.why == f"{words} (code {code})"
    assert (it.pauses, len(it.sent(command))) == ([], 2 if command == "createSearchIndexes" else 1)


async def test_a_list_that_fails_otherwise_is_an_error_at_once(start):
    it = await start()
    it.standin.fail("$listSearchIndexes", code=125, message="Error processing request.")
    with pytest.raises(DatabaseError) as caught:
        await apply(it)
    assert (type(caught.value), caught.value.why) == (DatabaseError, "Error processing request. (code 125)")
    assert it.pauses == []


@pytest.mark.parametrize(
    ("code", "labels"), [(462, ("SystemOverloadedError",)), (20, ()), (9_999_999, ("SystemOverloadedError",))]
)
@pytest.mark.parametrize("command", ["$listSearchIndexes", "createSearchIndexes"])
async def test_an_overloaded_service_is_waited_for(start, command, code, labels):
    it = await start()
    it.standin.fail(command, code=code, labels=labels, times=3)
    await apply(it, [TEXT])
    assert await right(it, TEXT)
    assert len(it.pauses) == 3
    it.standin.fail("$listSearchIndexes", code=code, labels=labels, times=None)
    with pytest.raises(NotReadyError, match="overloaded") as caught:
        await apply(it, [TEXT])
    assert f"code {code}" in caught.value.why


# -- what was tuned by hand


async def test_what_was_tuned_by_hand_stays_through_every_change(start):
    it = await start()
    vector, *filters = MEMORIES.definition["fields"]
    by_hand = {"quantization": "scalar", "hnswOptions": {"maxEdges": 32}}
    await it.make(MEMORIES, {"fields": [vector | by_hand, *filters], "numPartitions": 2})
    assert await actions(it, [MEMORIES]) == [Action.UNCHANGED]
    (state,) = await states(it.db, [MEMORIES])
    assert (state.ready, state.tuned) == (
        True,
        {"numPartitions": 2, "embedding.quantization": "scalar", "embedding.hnswOptions.maxEdges": 32},
    )

    await apply(it, [search_indexes(512)[1]])
    await it.finish_builds()
    updated = (await it.listed(MEMORIES))["latestDefinition"]
    assert updated["fields"][0] == vector | by_hand | {"numDimensions": 512}
    assert updated["numPartitions"] == 2
    it.standin.set_status(it.db.name, "memories", MEMORIES.name, "FAILED", "out of disk")
    (change,) = await apply(it, [MEMORIES], replace=ALL)
    assert change.action is Action.REPLACE
    replaced = (await it.listed(MEMORIES))["latestDefinition"]
    assert replaced["fields"][0] == vector | by_hand


async def test_what_a_setting_decides_is_put_right_once(start):
    it = await start()
    await apply(it)
    await it.finish_builds()
    decided = search_indexes(EMBEDDER.dimensions, "cosine", Tuning("scalar", "flat"))
    assert [change.action for change in await apply(it, decided)] == [Action.UPDATE, Action.UPDATE, Action.UNCHANGED]
    await it.finish_builds()
    assert [change.action for change in await apply(it, decided)] == [Action.UNCHANGED] * 3
    assert await actions(it) == [Action.UNCHANGED] * 3, "without the settings it stays as it is"


async def test_what_a_rebuild_costs_is_told(start):
    it = await start()
    await it.make(MEMORIES, {"mappings": {"dynamic": True}}, "search")
    await it.make(TEXT)
    it.standin.set_status(it.db.name, "memories", TEXT.name, "FAILED")
    await it.db.memories.insert_many([{"n": n} for n in range(1_234)])
    planned = await search_provision.plan(it.db, [MEMORIES, TEXT], replace=ALL)
    costs = "about 1,234 documents of memories (by its metadata) are indexed again, and searches of memories"
    assert await search_provision.rebuild_costs(it.db, planned) == [
        f"memories_embedding_index answers, and is dropped first: {costs} run exact until it is ready",
        f"memories_text_index does not answer now: {costs} only compare words among what is near until it is ready",
    ]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"profile": "bare"}, 40324),
        ({"profile": "nosearch"}, 31082),
        ({"profile": "nosearch", "version": "7.0"}, 115),
    ],
)
async def test_a_server_without_search_is_told_by_its_code(start, options, code):
    it = await start(**options)
    for work in (search_provision.plan, search_provision.apply):
        with pytest.raises(NotSupportedError) as caught:
            await work(it.db, WANTED)
        assert f"code {code}" in caught.value.why
        assert caught.value.exit_code == ExitCode.NOT_SUPPORTED


async def test_a_mongod_without_the_commands_is_told_too(mongodb_uri, database_name):
    """The commands themselves answer 59 there, should the list ever get past."""
    from lkmongo.backoff import Backoff
    from lkmongo.store.indexes.search_indexes import retry_management

    async with create_client(mongodb_uri) as client:
        with pytest.raises(NotSupportedError, match="no search") as caught:
            await retry_management(
                lambda: client[database_name].memories.create_search_index({"definition": {}}), Backoff(0)
            )
        assert "code 59" in caught.value.why


async def test_ordinary_indexes_do_not_need_search(mongodb_uri, database_name):
    async with create_client(mongodb_uri) as client:
        await database_indexes.apply(client[database_name])
        assert {change.action for change in await database_indexes.plan(client[database_name])} == {Action.UNCHANGED}
        await client.drop_database(database_name)
