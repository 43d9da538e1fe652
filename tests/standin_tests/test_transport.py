"""The proxy itself: discovery, relay, versions, and running it as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import bson
import pytest
from pymongo import MongoClient, ReadPreference, UpdateOne
from pymongo.errors import OperationFailure
from pymongo.monitoring import ServerHeartbeatListener

from tests.standin import PROFILES, Standin
from tests.standin.wire import Message
from tests.standin_tests.helpers import (
    built,
    ids,
    refused,
    rows,
    search_index,
    state,
    text_stage,
    vector_index,
    vector_stage,
)
from tests.waiting import until

ROOT = Path(__file__).parents[2]


async def test_discovery_of_the_replica_set_stays_on_the_stand_in(start, connect, name):
    standin = start()
    client = await connect(standin.replica_set_uri)
    await client[name]["c"].insert_one({"_id": 1})
    assert client.nodes == {("127.0.0.1", standin.port)}
    assert await client.primary == ("127.0.0.1", standin.port)
    hello = await client.admin.command("hello")
    assert hello["hosts"] == [standin.address]
    assert hello["me"] == hello["primary"] == standin.address
    assert hello["maxWireVersion"] == 17
    assert standin.seen["insert"] == 1


async def test_compression_is_never_agreed_on(start, connect, name):
    standin = start()
    client = await connect(standin, compressors="zlib")
    await client[name]["c"].insert_one({"_id": 1, "text": "x" * 10_000})
    assert (await client[name]["c"].find_one())["_id"] == 1
    hello = await client.admin.command({"hello": 1, "compression": ["zlib"]})
    assert "compression" not in hello


class Heartbeats(ServerHeartbeatListener):
    """Counts what a client's monitor hears, unasked or asked."""

    def __init__(self) -> None:
        self.heard: dict[bool, int] = {True: 0, False: 0}
        self.hosts: set[str] = set()

    def started(self, event) -> None:
        pass

    def succeeded(self, event) -> None:
        self.heard[event.awaited] += 1
        self.hosts |= {f"{host}:{port}" for host, port in event.reply.all_hosts}

    def failed(self, event) -> None:
        pass


@pytest.mark.parametrize(("mode", "unasked"), [("poll", False), ("stream", True)])
async def test_monitoring_stays_on_the_stand_in_in_both_modes(start, connect, mode, unasked):
    standin, listener = start(), Heartbeats()
    client = await connect(
        standin.replica_set_uri, serverMonitoringMode=mode, heartbeatFrequencyMS=500, event_listeners=[listener]
    )
    await client.admin.command("ping")
    await until(lambda: listener.heard[unasked] >= 3)
    assert listener.hosts == {standin.address}
    assert client.nodes == {("127.0.0.1", standin.port)}


@pytest.mark.parametrize(("version", "release"), [("7.0", "7.0."), ("8.0", "8.0."), ("8.2", "8.2."), (None, "8.2.")])
async def test_the_server_says_the_version_it_stands_in_for(start, connect, version, release):
    client = await connect(start(version=version))
    info = await client.server_info()
    assert info["version"].startswith(release)
    assert ".".join(str(part) for part in info["versionArray"][:3]) == info["version"]


async def test_a_server_without_search_says_its_own_version(start, connect, mongodb_uri):
    client, direct = await connect(start(profile="bare")), await connect(mongodb_uri)
    assert (await client.server_info())["version"] == (await direct.server_info())["version"]


async def test_ordinary_work_passes_through(start, connect, name):
    client = await connect(start())
    coll = client[name]["c"]
    await coll.insert_many([{"_id": n, "blob": b"x" * 20_000} for n in range(200)])
    assert [row["_id"] async for row in coll.find({}, batch_size=7).sort("_id", 1)] == list(range(200))
    await coll.bulk_write([UpdateOne({"_id": n}, {"$set": {"seen": True}}) for n in range(50)])
    assert await coll.count_documents({"seen": True}) == 50
    async with client.start_session() as session, await session.start_transaction():
        await coll.insert_one({"_id": "t"}, session=session)
    assert await coll.with_options(read_preference=ReadPreference.NEAREST).find_one({"_id": "t"})
    async with await coll.watch() as stream:
        await coll.insert_one({"_id": "w"})
        assert (await stream.next())["documentKey"] == {"_id": "w"}
    with pytest.raises(OperationFailure):
        await coll.insert_one({"_id": "t"})


async def test_people_can_log_in_through_it(start, connect, mongodb_uri, name):
    admin = await connect(mongodb_uri)
    await admin[name].command("createUser", "ann", pwd="p:@ss", roles=["readWrite"])
    standin = start()
    client = await connect(standin, username="ann", password="p:@ss", authSource=name)
    status = await client[name].command("connectionStatus")
    assert status["authInfo"]["authenticatedUsers"] == [{"user": "ann", "db": name}]
    wrong = await connect(standin, username="ann", password="wrong", authSource=name)
    await refused(wrong[name].command("ping"), 18, "Authentication failed")


async def test_an_error_of_the_stand_in_itself_is_told_as_such(start, collection, monkeypatch, caplog):
    standin = start()
    coll = await collection(standin)

    async def broken(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(standin.engine, "_aggregate", broken)
    await refused(rows(coll, text_stage("tea")), 9999, "on purpose")
    assert "a command failed in the stand-in" in caplog.text


async def test_many_clients_at_once(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.insert_many([{"_id": n, "e": [1.0, n / 10], "text": "tea"} for n in range(5)])
    await built(standin, coll, vector_index(), search_index())
    work = [ids(coll, vector_stage([1.0, 0.0])) for _ in range(20)] + [ids(coll, text_stage("tea")) for _ in range(20)]
    results = await asyncio.gather(*work)
    assert all(sorted(found) == list(range(5)) for found in results)


async def test_a_stand_in_can_stand_before_another_over_tcp(start, collection):
    inner = start(profile="bare")
    with Standin("127.0.0.1", inner.port, clock="virtual") as outer:
        coll = await collection(outer)
        await coll.insert_one({"_id": 1, "e": [1.0, 0.0]})
        await built(outer, coll, vector_index())
        assert await ids(coll, vector_stage([1.0, 0.0])) == [1]


def test_synchronous_code_can_use_it(mongodb_uri, name):
    with Standin.before(mongodb_uri, clock="virtual") as standin, MongoClient(standin.uri) as client:
        coll = client[name]["c"]
        coll.insert_one({"_id": 1, "e": [1.0, 0.0]})
        coll.create_search_index(vector_index())
        standin.finish_builds()
        assert [row["_id"] for row in coll.aggregate([vector_stage([1.0, 0.0])])] == [1]


async def test_nobody_answers_after_it_was_stopped(start, connect):
    standin = start()
    client = await connect(standin, serverSelectionTimeoutMS=300)
    await client.admin.command("ping")
    standin.stop()
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", standin.port)


async def test_a_server_that_is_not_there_is_said_at_once():
    with pytest.raises(Exception, match="No such file or directory"):
        Standin("/nowhere/mongod.sock", select_seconds=0.1).start()


async def test_search_on_a_view_or_with_a_collation_is_not_modelled(start, collection):
    standin = start()
    coll = await collection(standin)
    await coll.database.create_collection("view", viewOn="c", pipeline=[])
    await refused(rows(coll.database["view"], text_stage("tea")), 9999)
    await refused(coll.database["view"].create_search_index(search_index()), 9999)
    await coll.database.create_collection("folded", collation={"locale": "en", "strength": 2})
    await refused(rows(coll.database["folded"], text_stage("tea")), 9999)
    await refused(rows(coll, text_stage("tea"), collation={"locale": "en"}), 9999)


def test_profiles_and_versions_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="no profile"):
        Standin(profile="cosmos")
    with pytest.raises(ValueError, match="no version"):
        Standin(version="5.0")
    assert {"bare", "nosearch", "mgmt_down", "community", "atlas", "m0", "mongot_down"} <= PROFILES.keys()


def test_document_sequences_are_part_of_the_command():
    command, first = bson.encode({"insert": "c", "$db": "d"}), bson.encode({"_id": 1})
    name = b"documents\0"
    sequence = (4 + len(name) + len(first)).to_bytes(4, "little") + name + first
    for payload in (b"\x01" + sequence + b"\x00" + command, b"\x00" + command + b"\x01" + sequence):
        body = b"\0\0\0\0" + payload
        head = b"".join(number.to_bytes(4, "little") for number in (16 + len(body), 7, 0, 2013))
        message = Message(head + body)
        assert message.command == "insert"
        assert message.body == {"insert": "c", "$db": "d", "documents": [{"_id": 1}]}


async def test_it_runs_as_a_process(mongodb_uri, connect, name):
    command = [sys.executable, "-m", "tests.standin", "--mongod-uri", mongodb_uri, "--profile", "community"]
    process = await asyncio.create_subprocess_exec(
        *command, "--build-seconds", "0.05", "--lag-seconds", "0", stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        addresses = json.loads(await process.stdout.readline())
        client = await connect(addresses["uri"])
        coll = client[name]["c"]
        await coll.insert_one({"_id": 1, "e": [1.0, 0.0]})
        await coll.create_search_index(vector_index())
        while await state(coll, "v") != ("READY", True):  # noqa: ASYNC110  the build announces nothing
            await asyncio.sleep(0.02)
        assert await ids(coll, vector_stage([1.0, 0.0])) == [1]
        await client.close()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
