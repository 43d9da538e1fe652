"""What the benchmarks stand on: the network counts what passes, and the statistics are right."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import AutoReconnect, NetworkTimeout

from benchmarks.measure import Result, machine, percentile, ratio, result, take_turns, write_json
from benchmarks.network import Network, socket_path
from benchmarks.patience import Loop, Patience
from benchmarks.quick import compare
from lkmongo import deadlines
from lkmongo.store.mongo import client as client_loop
from lkmongo.store.mongo.circuit_breaker import CircuitBreaker

# A monitor that streams opens one more connection when it likes, and the connections are what is counted here.
POLL = {"serverMonitoringMode": "poll"}


@pytest.fixture
def network(mongodb_uri: str) -> Iterator[Network]:
    with Network(socket_path(mongodb_uri)) as network:
        yield network


def test_requests_one_after_the_other_are_as_many_round_trips(network):
    with MongoClient(network.uri, **POLL) as client:
        client.admin.command("ping")
        network.reset()
        for _ in range(3):
            client.admin.command("ping")
        counts = network.counts()
    assert (counts.round_trips, counts.requests, counts.connections, counts.handshakes) == (3, 3, 0, 0)
    assert counts.commands == {"ping": 3}


async def test_requests_at_the_same_time_are_one_round_trip(network):
    async with AsyncMongoClient(network.uri, **POLL) as client:
        await asyncio.gather(*(client.admin.command({"ping": 1}) for _ in range(4)))
        network.rtt(500)  # long enough that all four leave before an answer comes
        network.reset()
        await asyncio.gather(*(client.admin.command({"ping": 1}) for _ in range(2)))
        counts = network.counts()
    assert (counts.round_trips, counts.requests, counts.connections) == (1, 2, 0)


async def test_what_was_asked_before_is_not_counted(network):
    async with AsyncMongoClient(network.uri, **POLL) as client:
        await asyncio.gather(*(client.admin.command("ping") for _ in range(2)))
        network.rtt(600)
        before = asyncio.create_task(client.admin.command("ping"))
        await asyncio.sleep(0.2)
        network.reset()
        await before
        nothing = network.counts()
        await client.admin.command("ping")
        counts = network.counts()
    assert (nothing.round_trips, nothing.requests) == (0, 0)
    assert (counts.round_trips, counts.requests) == (1, 1)


def test_the_first_request_of_a_process_pays_for_connecting(network):
    with MongoClient(network.uri, **POLL) as client:
        client.admin.command("ping")
        counts = network.counts()
    # The monitor connects and says hello, then the pool does, then the request is sent.
    assert (counts.round_trips, counts.requests, counts.connections, counts.handshakes) == (5, 1, 2, 2)


def test_bytes_are_those_of_the_messages(network):
    with MongoClient(network.uri, **POLL) as client:
        things = client.lkmongo_test_network.things
        things.drop()
        things.insert_one({"_id": 1, "text": ""})
        things.find_one({"_id": 1})
        network.reset()
        things.find_one({"_id": 1})
        empty = network.counts()
        things.replace_one({"_id": 1}, {"text": "x" * 1000})
        network.reset()
        things.find_one({"_id": 1})
        full = network.counts()
        client.drop_database("lkmongo_test_network")
    assert full.received == empty.received + 1000
    assert full.sent == empty.sent


def test_monitoring_is_counted_apart(network):
    with MongoClient(network.uri, heartbeatFrequencyMS=500, **POLL) as client:
        client.admin.command("ping")
        network.reset()
        deadline = time.monotonic() + 30
        while not network.counts().monitoring and time.monotonic() < deadline:
            time.sleep(0.05)
        counts = network.counts()
    assert counts.monitoring > 0
    assert (counts.round_trips, counts.requests, counts.sent, counts.received) == (0, 0, 0, 0)


def test_a_network_that_refuses_or_swallows_is_as_before_afterwards(network):
    with MongoClient(network.uri, retryReads=False, **POLL) as client:
        client.admin.command("ping")
        network.refuse(True)
        with pytest.raises(AutoReconnect):  # reset, or then nobody there
            client.admin.command("ping")
        network.refuse(False)
    with MongoClient(network.uri, socketTimeoutMS=2000, retryReads=False, **POLL) as client:
        client.admin.command("ping")
        network.swallow(True)
        with pytest.raises(NetworkTimeout):
            client.admin.command("ping")
        network.swallow(False)
        assert client.admin.command("ping")["ok"] == 1


def test_a_network_that_holds_answers_lets_them_arrive_when_told(network):
    with MongoClient(network.uri, **POLL) as client, ThreadPoolExecutor() as threads:
        client.admin.command("ping")
        network.hold(True)
        network.reset()
        first, second = (threads.submit(client.admin.command, "ping") for _ in range(2))  # one on a new connection
        network.release(2)
        assert first.result()["ok"] == second.result()["ok"] == 1
        held = threads.submit(client.admin.command, "ping")
        network.hold(False)
        assert held.result()["ok"] == 1
        assert network.counts().requests == 3


@pytest.fixture
def patiently(network):
    """Run some work, given a function that asks MongoDB, and return what was counted when it was done."""
    patience = Patience()
    client_loop.start_client_loop()
    network.rtt(20)

    async def counted(work):
        client = AsyncMongoClient(network.uri, event_listeners=[patience], maxPoolSize=2, **POLL)

        async def ask():
            await client_loop.run_on_client_loop(lambda: client.admin.command("ping"))

        try:
            async with patience.of(network):
                await asyncio.gather(ask(), ask())  # both connections are there then
                network.reset()
                await work(ask)
                return network.counts()
        finally:
            await client_loop.run_on_client_loop(client.close)

    def run(work):
        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(counted(work))

    yield run
    client_loop._abandon()


def test_no_deadline_passes_while_a_slow_machine_works(patiently):
    async def search_knowledge(ask):
        async def search():
            await ask()
            await asyncio.to_thread(time.sleep, deadlines.PING_AFTER + 0.05)  # the index is built
            await ask()

        await CircuitBreaker().watch(search, ask)

    counts = patiently(search_knowledge)
    assert (counts.round_trips, counts.requests) == (2, 2), "nobody has asked whether MongoDB is there at all"


def test_what_is_asked_side_by_side_is_one_round_trip_however_late_it_is_sent(patiently):
    async def late(ask):
        time.sleep(0.1)  # noqa: ASYNC251 - the process stands still
        await ask()

    counts = patiently(lambda ask: asyncio.gather(ask(), late(ask)))
    assert (counts.round_trips, counts.requests) == (1, 2)


def test_what_goes_on_in_the_background_is_not_waited_for_however_late_it_is_looked_at(patiently):
    behind = []

    async def work(ask):
        await ask()
        behind.append(asyncio.create_task(ask()))
        await asyncio.to_thread(time.sleep, 0.1)

    counts = patiently(work)
    assert (counts.round_trips, counts.requests) == (1, 1)


async def test_ways_take_turns_and_each_begins_a_round_in_its_turn():
    ran = []

    async def run(name: str, own: float | None) -> float | None:
        ran.append(name)
        return own

    times = await take_turns({"a": lambda: run("a", None), "b": lambda: run("b", 7.0)}, 4, warm_up=1)
    assert ran == ["b", "a", *"abba" * 2]
    assert times["b"] == [7.0] * 4
    assert len(times["a"]) == 4
    assert all(0 <= took < 10_000 for took in times["a"])


def test_percentiles_lie_between_the_samples():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0, 25, 50, 95, 100)] == pytest.approx([1, 2, 3, 4.8, 5])
    assert percentile([1.0, 2.0], 50) == statistics.median([1.0, 2.0])


def test_a_slow_while_that_meets_both_ways_does_not_change_their_ratio():
    one, other = [2.0] * 40, [1.0] * 40
    for number in range(15, 40):
        one[number] *= 10
        other[number] *= 10
    found = ratio(one, other)
    assert (found.median, found.low, found.high) == pytest.approx((2, 2, 2))
    with pytest.raises(ValueError, match="40 samples cannot be compared with 39"):
        ratio(one, other[1:])


def test_results_are_written_with_the_machine(tmp_path):
    row = result("side by side", "recall", "lkmongo", [1.0, 2.0, 3.0, 4.0], rtt_ms=20, note="loaded")
    assert row == Result("side by side", "recall", "lkmongo", 20, None, "ms", 2.5, 3.85, 1.5, 4, "loaded")
    write_json(tmp_path / "results.json", [row], machine("6.0.5"))
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert data["machine"]["mongodb"] == "6.0.5"
    assert data["results"][0]["p95"] == 3.85


def test_a_figure_beyond_its_budget_is_named():
    budget = {"remember: round trips": 1, "a slot: bytes": 4_000, "recall: round trips": 0}
    assert compare({"remember: round trips": 1, "a slot: bytes": 4_060, "recall: round trips": 0}, budget) == []
    assert compare({"remember: round trips": 2, "a slot: bytes": 4_100, "list: requests": 0}, budget) == [
        "remember: round trips is 2, and 1 is what is allowed",
        "a slot: bytes is 4100, and 4000 is what is allowed",
        "list: requests is 0, and has no budget",
        "recall: round trips has a budget, and was not measured",
    ]
