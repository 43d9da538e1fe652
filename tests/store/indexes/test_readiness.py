"""Ready means that searches go by the definition that was asked for, and find what is there."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from lkmongo.backoff import Backoff
from lkmongo.embed.vectors import to_bson
from lkmongo.errors import (
    DatabaseUnavailableError,
    DriftError,
    ExitCode,
    NotFoundError,
    NotReadyError,
    NotSupportedError,
)
from lkmongo.model import now
from lkmongo.store.indexes import search_indexes
from lkmongo.store.indexes.backfill import Coverage
from lkmongo.store.indexes.canary import RESERVED_TENANT, Outcome, check_canary
from lkmongo.store.indexes.readiness import SETTLING, IndexFailedError, database_status, states, wait_ready
from lkmongo.store.indexes.search_indexes import read_listing
from lkmongo.store.mongo.client import create_client
from tests.search_rig import EMBEDDER, KNOWLEDGE, MEMORIES, TEXT, WANTED, rig

OLD = {
    KNOWLEDGE: {"fields": KNOWLEDGE.definition["fields"][:1]},
    MEMORIES: {"fields": MEMORIES.definition["fields"][:2]},
    TEXT: {**TEXT.definition, "mappings": TEXT.definition["mappings"] | {"dynamic": True}},
}
"""Definitions as they may have been before; that of the text index finds as much as the new one."""


@pytest.fixture
async def start(mongodb_uri, database_name):
    async with AsyncExitStack() as stack:

        async def run(**options):
            return await stack.enter_async_context(rig(mongodb_uri, database_name, **options))

        yield run


async def wait(it, indexes=WANTED, seconds=60.0, *meanwhile, told=lambda *_: None):
    return await wait_ready(it.db, indexes, EMBEDDER, it.backoff(seconds, *meanwhile), told)


def vector_of(seed):
    vector = np.random.default_rng(seed).standard_normal(EMBEDDER.dimensions).astype(np.float32)
    return vector / np.linalg.norm(vector)


async def add(it, index, **fields):
    """A document as the store writes it, of tenant t and user u."""
    document = {"tenant_id": "t", "embedding": to_bson(vector_of(1)), "embedding_model": EMBEDDER.model}
    if index is not KNOWLEDGE:
        document |= {"user_id": "u", "memory_type": "favorite_color", "label_words": "favorite color"}
    return (await it.db[index.collection].insert_one(document | {"content": "red"} | fields)).inserted_id


# -- waiting


@pytest.mark.parametrize("profile", ["atlas", "community", "atlas_7_0", "m0"])
async def test_every_change_of_state_is_told_until_all_are_ready(start, profile):
    it = await start(profile=profile, unseen_seconds=0)
    await search_indexes.apply(it.db, WANTED)
    told = []
    found = await wait(it, told=lambda state, before, _: told.append((state.index.name, state.label, before)))
    assert [(state.status, state.ready, state.canary.outcome) for state in found] == [("READY", True, "found")] * 3
    for index in WANTED:
        assert [label for name, label, _ in told if name == index.name][:3] == ["PENDING", "BUILDING", "READY"]
    assert all(before is None for _, label, before in told[:3])


async def test_two_hosts_are_waited_for(start):
    it = await start(hosts=2, host_lag_seconds=20)
    await search_indexes.apply(it.db, WANTED)
    await wait(it)
    assert sum(it.pauses) >= 24


@pytest.mark.parametrize("index", WANTED, ids=lambda index: index.name)
async def test_after_an_update_the_new_definition_is_waited_for(start, index):
    it = await start()
    await it.make(index, OLD[index])
    await search_indexes.apply(it.db, [index])
    (state,) = await states(it.db, [index])
    assert state.queryable, "the previous definition serves"
    assert not state.ready
    assert state.label == "BUILDING (the previous definition serves)"
    asked = []

    def told(state, before, seconds):
        asked.append(len(it.sent("$vectorSearch", "$search")))

    (found,) = await wait(it, [index], told=told)
    listed = await it.listed(index)
    assert (found.status, listed["status"], found.canary.outcome) == ("READY", "READY", "found")
    assert "stagedIndex" not in listed["statusDetail"][0]
    assert asked == [0, 0, 1], "nothing is searched before the definition is there"
    assert sum(it.pauses) >= 4


async def test_an_update_that_is_still_listed_by_its_old_definition_is_not_taken_for_done(start):
    it = await start()
    await it.make(MEMORIES, OLD[MEMORIES])
    (found,) = await wait(it, [MEMORIES], 60.0, lambda: search_indexes.apply(it.db, [MEMORIES]))
    assert found.ready
    assert sum(it.pauses) >= 4


async def test_an_index_that_is_made_a_moment_later_is_waited_for(start):
    it = await start()
    found = await wait(it, WANTED, 60.0, lambda: search_indexes.apply(it.db, WANTED))
    assert all(state.ready for state in found)


async def test_pauses_grow_and_end_with_the_time(start):
    it = await start()
    it.standin.plan_build(TEXT.name, seconds=1000)
    await search_indexes.apply(it.db, WANTED)
    with pytest.raises(NotReadyError, match="1 of 3 search indexes are not ready after 30 s") as caught:
        await wait(it, seconds=30.0)
    assert caught.value.exit_code == ExitCode.NOT_READY
    assert caught.value.why == "memories_text_index is BUILDING"
    assert it.pauses[0] == 0.5
    assert sorted(it.pauses[:-1]) == it.pauses[:-1]
    assert max(it.pauses) == 5.0
    assert sum(it.pauses) == pytest.approx(30.0)


# -- what waiting cannot mend


@pytest.mark.parametrize("status", ["FAILED", "STALE", "DOES_NOT_EXIST"])
async def test_what_waiting_cannot_mend_ends_it_at_once(start, status):
    it = await start()
    it.standin.plan_build(MEMORIES.name, seconds=1000)
    await search_indexes.apply(it.db, WANTED)
    it.standin.set_status(it.db.name, "memories", TEXT.name, status, "out of disk")
    with pytest.raises(IndexFailedError, match=f"memories_text_index is {status}") as caught:
        await wait(it)
    assert caught.value.exit_code == ExitCode.FAILED
    assert it.pauses == []
    assert "--replace" in caught.value.hint


@pytest.mark.parametrize("after_update", [False, True], ids=["first build", "update"])
async def test_a_build_that_fails_ends_the_wait_with_its_cause(start, after_update):
    it = await start()
    if after_update:
        await it.make(TEXT, OLD[TEXT])
    it.standin.plan_build(TEXT.name, failure="out of disk")
    it.standin.plan_build(MEMORIES.name, seconds=1000)
    await search_indexes.apply(it.db, WANTED)
    with pytest.raises(IndexFailedError, match="memories_text_index is FAILED") as caught:
        await wait(it, seconds=900)
    assert caught.value.why == "out of disk"
    assert sum(it.pauses) < 12, "soon after the build's four seconds"


async def test_an_index_that_nobody_made_is_named(start):
    it = await start()
    await search_indexes.apply(it.db, [KNOWLEDGE, MEMORIES])
    with pytest.raises(NotFoundError, match="no search index memories_text_index") as caught:
        await wait(it)
    assert caught.value.hint == "lkmongo db indexes"
    assert SETTLING <= sum(it.pauses) < SETTLING + 6


async def test_another_definition_is_named(start):
    it = await start()
    await it.make(MEMORIES, OLD[MEMORIES])
    with pytest.raises(DriftError) as caught:
        await wait(it, [MEMORIES])
    assert caught.value.why == "fields.tenant_id.type is missing, should be filter"
    assert caught.value.exit_code == ExitCode.DRIFT


async def test_an_index_of_another_type_is_named(start):
    it = await start(profile="community")
    await it.make(MEMORIES, {"mappings": {"dynamic": True}}, "search")
    with pytest.raises(DriftError) as caught:
        await wait(it, [MEMORIES])
    assert caught.value.why == "it is an index of type search, should be vectorSearch"


# -- the way to the server


async def test_an_election_while_waiting_is_lived_through(start):
    it = await start()
    await search_indexes.apply(it.db, WANTED)

    async def lose():
        it.standin.drop_connection("$listSearchIndexes", times=2)

    found = await wait(it, WANTED, 60.0, lose)
    assert all(state.ready for state in found)


async def test_a_server_that_is_not_there_is_told_at_once():
    async with create_client("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=50") as client:
        with pytest.raises(DatabaseUnavailableError):
            await wait_ready(client["d"], WANTED, EMBEDDER, Backoff(600))


async def test_a_management_service_that_wakes_late_is_waited_for(start):
    it = await start()
    await search_indexes.apply(it.db, WANTED)
    it.standin.fail("$listSearchIndexes", code=125, times=3)
    assert all(state.ready for state in await wait(it))


async def test_without_search_there_is_nothing_to_wait_for(start):
    it = await start(profile="bare")
    with pytest.raises(NotSupportedError):
        await wait(it)


# -- canaries


@pytest.mark.parametrize("index", WANTED, ids=lambda index: index.name)
async def test_a_document_that_is_there_finds_itself_and_nothing_is_written(start, index):
    it = await start()
    await it.make(index)
    await add(it, index)
    await add(it, index, tenant_id="other")
    (found,) = await wait(it, [index])
    assert found.canary.outcome is Outcome.FOUND
    assert it.standin.seen["insert"] == 2
    assert "delete" not in it.standin.seen
    (sent,) = it.sent("$vectorSearch", "$search")
    assert sent.max_time_ms
    assert "'other'" in str(sent.pipeline), "the newest, in its own scope"
    assert "'t'" not in str(sent.pipeline)


@pytest.mark.parametrize("index", WANTED, ids=lambda index: index.name)
async def test_a_new_document_is_waited_for_until_the_index_has_it(start, index):
    it = await start(lag_seconds=6.0)
    await it.make(index)
    await add(it, index)
    await asyncio.to_thread(it.standin.advance, 20)
    await add(it, index, user_id="new")
    (found,) = await wait(it, [index])
    assert found.canary.outcome is Outcome.FOUND
    assert sum(it.pauses) >= 6


@pytest.mark.parametrize("index", WANTED, ids=lambda index: index.name)
async def test_an_index_that_says_ready_and_learns_nothing_is_found_out(start, index):
    it = await start()
    await it.make(index)
    it.standin.freeze(it.db.name, index.collection, index.name)
    scope = await add(it, index)
    with pytest.raises(NotReadyError, match=f"{index.name} is READY, but misses existing documents") as caught:
        await wait(it, [index], seconds=20)
    assert str(scope) in caught.value.why
    assert sum(it.pauses) == pytest.approx(20)


@pytest.mark.parametrize("index", WANTED, ids=lambda index: index.name)
@pytest.mark.parametrize("works", [True, False])
async def test_where_no_document_is_one_is_made_and_removed(start, index, works):
    it = await start()
    await it.make(index)
    if not works:
        it.standin.freeze(it.db.name, index.collection, index.name)
        with pytest.raises(NotReadyError):
            await wait(it, [index], seconds=5)
    else:
        (found,) = await wait(it, [index])
        assert found.canary.outcome is Outcome.FOUND
    assert it.standin.seen["insert"] == 1
    assert await it.db[index.collection].count_documents({}) == 0


async def test_a_document_that_was_made_is_removed_when_the_wait_is_cut_short(start):
    it = await start()
    await it.make(MEMORIES)
    it.standin.freeze(it.db.name, "memories", MEMORIES.name)
    made = asyncio.Event()

    async def happens():
        assert await it.db.memories.count_documents({"tenant_id": RESERVED_TENANT}) == 1
        made.set()
        await asyncio.sleep(60)

    work = asyncio.create_task(wait(it, [MEMORIES], 60.0, happens))
    await made.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await it.db.memories.count_documents({}) == 0


async def test_what_a_killed_process_left_behind_is_removed_and_that_of_a_running_one_is_not(start):
    it = await start()
    await it.make(MEMORIES)
    old = {"tenant_id": RESERVED_TENANT, "user_id": "killed", "updated_at": now() - timedelta(hours=2)}
    await it.db.memories.insert_many([old, old | {"_id": 1, "user_id": "running", "updated_at": now()}])
    await wait(it, [MEMORIES])
    assert [doc["user_id"] async for doc in it.db.memories.find()] == ["running"]


@pytest.mark.parametrize("code", [13, 8000])
async def test_a_user_who_may_only_read_is_told_that_it_was_not_tried(start, code):
    it = await start()
    await it.make(MEMORIES)
    it.standin.fail("insert", code=code)
    (found,) = await wait(it, [MEMORIES])
    assert found.ready
    assert found.canary.outcome is Outcome.READ_ONLY
    assert "may not insert" in found.canary.detail


async def test_only_documents_that_the_index_must_have_are_looked_for(start):
    it = await start()
    await it.make(MEMORIES)
    await add(it, MEMORIES, user_id="old", embedding=vector_of(2).tolist())
    for number, misfit in enumerate(
        (
            {"embedding_model": "another"},
            {"embedding": to_bson(vector_of(3)[:8])},
            {"embedding": to_bson(np.zeros(EMBEDDER.dimensions, np.float32))},
            {"tenant_id": None},
            {"tenant_id": RESERVED_TENANT},
        )
    ):
        await add(it, MEMORIES, **{"user_id": f"misfit {number}"} | misfit)
    (found,) = await wait(it, [MEMORIES])
    assert found.canary.outcome is Outcome.FOUND
    (sent,) = it.sent("$vectorSearch")
    assert sent.pipeline[0]["$vectorSearch"]["filter"] == {"user_id": "old", "tenant_id": "t"}


async def test_an_address_that_asks_for_majority_reads_is_no_hindrance(start):
    it = await start()
    await it.make(MEMORIES)
    async with create_client(f"{it.standin.uri}&readConcernLevel=majority&w=majority") as client:
        (found,) = await wait_ready(client[it.db.name], [MEMORIES], EMBEDDER, it.backoff())
    assert found.canary.outcome is Outcome.FOUND


async def test_a_search_process_that_is_down_is_not_ready(start):
    it = await start(profile="mongot_down")
    await it.make(TEXT)
    with pytest.raises(NotReadyError) as caught:
        await wait(it, [TEXT], seconds=5)
    assert "code 6" in caught.value.why


# -- status


async def test_status_tells_all_without_waiting_and_without_writing(start):
    it = await start()
    await it.make(KNOWLEDGE)
    await it.make(MEMORIES, OLD[MEMORIES])
    await search_indexes.apply(it.db, [MEMORIES])
    await add(it, KNOWLEDGE)
    await add(it, KNOWLEDGE, embedding=None)
    for fields in ({"embedding_model": "another"}, {"embedding": None}, {"tenant_id": RESERVED_TENANT}):
        await add(it, MEMORIES, **fields)
    await it.db.memories.insert_one({"tenant_id": "t", "user_id": "bare"})
    before = dict(it.standin.seen)
    found = await database_status(it.db, EMBEDDER)
    assert {name for name, count in it.standin.seen.items() if count != before.get(name)} <= {
        "aggregate", "buildInfo", "find", "hello", "listIndexes", "getMore", "ping",
    }  # fmt: skip
    assert found.capabilities.search
    assert [(each.status, each.ready) for each in found.search] == [
        ("READY", True),
        ("BUILDING", False),
        ("MISSING", False),
    ]
    assert [each.canary and each.canary.outcome for each in found.search] == [Outcome.FOUND, None, None]
    assert found.documents == [Coverage("knowledge", 2, 1, 0), Coverage("memories", 3, 2, 1)]
    assert it.pauses == []


async def test_status_goes_on_where_the_management_service_is_away(start):
    it = await start(profile="mgmt_down")
    found = await database_status(it.db, EMBEDDER)
    assert found.search == []
    assert "code 125" in found.trouble


async def test_status_of_a_server_without_search(start):
    it = await start(profile="bare")
    found = await database_status(it.db, EMBEDDER)
    assert (found.capabilities.search, found.search, found.trouble) == (False, [], "")


async def test_words_that_the_index_does_not_have_are_missed(start):
    it = await start()
    fields = {path: way for path, way in TEXT.definition["mappings"]["fields"].items() if path != "label_words"}
    await it.make(TEXT, {**TEXT.definition, "mappings": {"fields": fields}})
    await add(it, TEXT)
    assert (await check_canary(it.db, TEXT, EMBEDDER)).outcome is Outcome.MISSED


async def test_a_document_among_many_is_not_missed_for_want_of_candidates(start):
    it = await start(recall=0.01)
    await it.make(MEMORIES)
    for number in range(150):
        await add(it, MEMORIES, memory_type=f"slot {number}", embedding=to_bson(vector_of(number)))
    assert (await check_canary(it.db, MEMORIES, EMBEDDER)).outcome is Outcome.FOUND


async def test_looking_without_a_document_writes_none(start):
    it = await start()
    await it.make(MEMORIES)
    assert (await check_canary(it.db, MEMORIES, EMBEDDER)).outcome is Outcome.NO_DOCUMENT
    assert "insert" not in it.standin.seen


# -- what the list says


def listing(status="READY", *, queryable=True, version=0, serving=(0,)):
    stamp = {"version": version} if version is not None else None
    return read_listing(
        {
            "name": "i",
            "status": status,
            "queryable": queryable,
            "latestDefinition": {"fields": []},
            "latestDefinitionVersion": stamp,
            "statusDetail": [{"mainIndex": {"definitionVersion": {"version": number}}} for number in serving],
        }
    )


@pytest.mark.parametrize(
    ("listed", "ready"),
    [
        (listing(), True),
        (listing("BUILDING"), True),  # just made: what is queryable is what was asked for
        (listing("BUILDING", queryable=False), False),
        (listing(version=1, serving=(1,)), True),
        (listing("BUILDING", version=1, serving=(1,)), False),
        (listing(version=1, serving=(1, 0)), False),
        (listing(version=1, serving=()), True),
        (listing(version=None, serving=()), True),
        (listing("BUILDING", version=None, serving=()), False),
    ],
)
def test_when_the_list_means_ready(listed, ready):
    assert listed.ready is ready


MAIN = {"status": "FAILED", "definitionVersion": {"version": 0}, "message": "out of disk"}


@pytest.mark.parametrize(
    "details",
    [
        {"statusDetail": [{"hostname": "a", "mainIndex": MAIN}]},
        {"statusDetail": [{"hostname": "a", "mainIndex": {}, "stagedIndex": MAIN}]},
        {"statusDetail": {"hostname": "a", "mainIndex": MAIN}},
        {"statusDetail": {"a": {"mainIndex": MAIN}, "b": {}}},
        {"statusDetail": [{"hostname": "a", "message": "out of disk"}]},
        {"statusDetail": [], "message": "out of disk"},
        {"message": "out of disk", "statusDetail": ["not ours"]},
    ],
    ids=str,
)
def test_why_an_index_failed_is_read_wherever_it_stands(details):
    found = read_listing({"name": "i", "status": "FAILED", "queryable": False, "latestDefinition": {}} | details)
    assert (found.status, found.message) == ("FAILED", "out of disk")


def test_every_real_listing_is_read():
    packed = (Path(__file__).parents[2] / "data" / "mongot.json.gz").read_bytes()
    replies = [case["reply"] for case in json.loads(gzip.decompress(packed))["management"]]
    listings = [document for reply in replies for document in reply.get("cursor", {}).get("firstBatch", [])]
    found = [read_listing(document) for document in listings]
    assert [(each.type, each.status, each.ready) for each in found] == [
        ("vectorSearch", "PENDING", False),
        ("vectorSearch", "PENDING", False),
        ("search", "PENDING", False),
    ]
