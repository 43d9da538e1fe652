"""Faults, and what the driver makes of them."""

from __future__ import annotations

import asyncio

import pymongo
import pytest
from pymongo.errors import AutoReconnect, ExecutionTimeout, NotPrimaryError, PyMongoError

from tests.standin_tests.helpers import (
    built,
    ids,
    listed,
    refused,
    rows,
    search_index,
    text_stage,
    vector_index,
    vector_stage,
)

NEAR = vector_stage([1.0, 0.0])


@pytest.fixture
async def ready(start, collection, connect):
    """A stand-in with one document in two indexes, and a way to see the collection with other client options."""
    standin = start()
    coll = await collection(standin)
    await coll.insert_one({"_id": 1, "e": [1.0, 0.0], "text": "tea"})
    await built(standin, coll, vector_index(), search_index())
    standin.commands.clear()

    async def seen_with(**options):
        return (await connect(standin, **options))[coll.database.name]["c"]

    return standin, coll, seen_with


async def test_an_unreachable_search_process_is_asked_twice_by_default(ready):
    standin, coll, _ = ready
    standin.fail("$vectorSearch", code=6, times=None)
    await refused(rows(coll, NEAR), 6, "caused by :: Error connecting to localhost:28000")
    assert [command.code for command in standin.recorded("$vectorSearch")] == [6, 6]
    standin.clear_faults()
    assert await ids(coll, NEAR) == [1]


async def test_without_retries_it_is_asked_once(ready):
    standin, _, seen_with = ready
    coll = await seen_with(retryReads=False)
    standin.fail("$vectorSearch", code=6)
    await refused(rows(coll, NEAR), 6)
    assert len(standin.recorded("$vectorSearch")) == 1


async def test_under_a_client_side_timeout_it_is_asked_over_and_over(ready):
    standin, _, seen_with = ready
    coll = await seen_with(timeoutMS=60_000)
    standin.fail("$vectorSearch", code=6, times=3)
    assert len(await rows(coll, NEAR)) == 1
    assert len(standin.recorded("$vectorSearch")) == 4


@pytest.mark.parametrize("code", [8, 43, 50, 175, 11601])
async def test_codes_that_are_not_retried(ready, code):
    standin, coll, _ = ready
    standin.fail("$search", code=code)
    await refused(rows(coll, text_stage("tea")), code)
    assert len(standin.recorded("$search")) == 1


@pytest.mark.parametrize("code", [89, 91, 189, 262])
async def test_codes_that_are_retried(ready, code):
    standin, coll, _ = ready
    standin.fail("$search", code=code)
    assert await ids(coll, text_stage("tea")) == [1]
    assert [command.code for command in standin.recorded("$search")] == [code, None]


@pytest.mark.parametrize(("code", "text"), [(462, "overloaded"), (489, "caused by :: Query rejected: search server")])
async def test_an_overloaded_server_is_asked_again(ready, code, text):
    standin, coll, _ = ready
    standin.fail("$search", code=code)
    assert await ids(coll, text_stage("tea")) == [1]
    standin.fail("$search", code=code, times=None)
    error = await refused(rows(coll, text_stage("tea")), code, text)
    assert error.has_error_label("SystemOverloadedError")
    assert error.has_error_label("RetryableError")


@pytest.mark.parametrize("code", [13, 18, 20, 125, 396])
async def test_management_errors_on_demand(ready, code):
    standin, coll, _ = ready
    standin.fail("createSearchIndexes", code=code)
    await refused(coll.create_search_index(search_index("t")), code)
    assert await coll.create_search_index(search_index("t")) == "t"


async def test_a_node_that_is_not_the_primary(ready):
    standin, coll, _ = ready
    standin.fail("createSearchIndexes", code=10107)
    with pytest.raises(NotPrimaryError):
        await coll.create_search_index(search_index("t"))
    assert {index["name"] for index in await listed(coll)} == {"v", "s"}


async def test_the_text_of_an_error_can_be_chosen(ready):
    standin, coll, _ = ready
    standin.fail("createSearchIndexes", code=8, message="Too many concurrent requests.", labels=("Odd",))
    error = await refused(coll.create_search_index(search_index("t")), 8, "Too many concurrent requests.")
    assert error.has_error_label("Odd")


async def test_a_connection_that_is_cut_before_the_command_runs(ready):
    standin, coll, _ = ready
    standin.drop_connection("createSearchIndexes")
    with pytest.raises(AutoReconnect):
        await coll.create_search_index(search_index("t"))
    assert [command.code for command in standin.recorded("createSearchIndexes")] == [0]
    assert {index["name"] for index in await listed(coll)} == {"v", "s"}


@pytest.mark.parametrize("half", [False, True])
async def test_a_connection_that_is_cut_after_the_command_ran(ready, half):
    standin, coll, _ = ready
    standin.drop_connection("createSearchIndexes", after=True, half=half)
    with pytest.raises(AutoReconnect):
        await coll.create_search_index(search_index("t"))
    assert {index["name"] for index in await listed(coll)} == {"v", "s", "t"}, "the reply is lost, the work is done"


async def test_ordinary_commands_can_fail_too(ready):
    standin, coll, seen_with = ready
    standin.fail("find", code=91)
    assert await coll.find_one() is not None, "retried"
    once = await seen_with(retryWrites=False, retryReads=False)
    standin.fail("insert", code=189, after=True)
    with pytest.raises(PyMongoError):
        await once.insert_one({"_id": 2})
    assert await coll.count_documents({"_id": 2}) == 1
    standin.drop_connection("find")
    with pytest.raises(AutoReconnect):
        await once.find_one()


async def test_a_slow_search_ends_at_its_time_limit(ready):
    standin, coll, _ = ready
    standin.delay("$vectorSearch", 60)
    with pytest.raises(ExecutionTimeout) as caught:
        await rows(coll, NEAR, maxTimeMS=20)
    assert caught.value.code == 50
    assert standin.commands[-1].max_time_ms == 20
    standin.delay("$vectorSearch", 0.001)
    assert await ids(coll, NEAR) == [1]


async def test_a_slow_network_knows_no_time_limit(ready):
    standin, coll, _ = ready
    standin.delay("$vectorSearch", 0.05, network=True)
    assert len(await rows(coll, NEAR, maxTimeMS=20)) == 1
    standin.delay("find", 0.01, after=True)
    assert await coll.find_one() is not None


async def test_a_caller_that_gives_up_leaves_the_stand_in_in_order(ready):
    standin, coll, _ = ready
    standin.delay("$vectorSearch", 60)
    task = asyncio.create_task(rows(coll, NEAR))
    while not standin.recorded("$vectorSearch"):  # noqa: ASYNC110  nothing announces the arrival
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ids(coll, NEAR) == [1]


async def test_a_matcher_can_be_a_function(ready):
    standin, coll, _ = ready
    standin.fail(lambda command: command.collection == "d", times=None)
    assert await coll.find_one() is not None
    await refused(coll.database["d"].insert_one({}), 6)


async def test_a_slow_first_handshake(start, connect, name):
    standin = start()
    standin.delay("hello", 0.05)
    client = await connect(standin)
    assert await client[name].command("ping")
    assert standin.seen["hello"] >= 1


async def test_what_a_client_asked_for_is_recorded(ready):
    standin, coll, _ = ready
    await rows(coll, NEAR, maxTimeMS=5000, comment="why")
    with pymongo.timeout(5):
        await rows(coll, text_stage("tea"))
    await rows(coll, {"$match": {}})
    first, second = standin.commands
    assert (first.name, first.database, first.collection) == ("aggregate", coll.database.name, "c")
    assert (first.pipeline, first.max_time_ms, first.comment, first.code) == ([NEAR], 5000, "why", None)
    assert first.read_concern is None
    assert not first.in_transaction
    assert second.stages == ["$search"]
    assert second.max_time_ms is not None
