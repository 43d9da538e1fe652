"""How many calls a worker takes, and who is served when no worker took them at first."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from types import SimpleNamespace

import pytest
from livekit import api
from livekit.agents import AgentServer
from prometheus_client import REGISTRY

from lkmongo import livekit_api
from lkmongo.settings import Settings
from lkmongo.worker import runner
from lkmongo.worker.agent_server import create_server
from lkmongo.worker.capacity import MAX_WAIT, SETTLING, Capacity, WaitingCallers, calls_per_core
from lkmongo.worker.runner import Options
from tests.livekit_api import Rooms, credentials_of

AGENT = "our-agent"


def with_calls(*rooms: str, draining: bool = False) -> SimpleNamespace:
    """A worker with a call in each of these rooms."""
    jobs = [SimpleNamespace(job=SimpleNamespace(room=SimpleNamespace(sid=f"RM_{room}"))) for room in rooms]
    return SimpleNamespace(active_jobs=jobs, draining=draining)


@pytest.mark.parametrize("threshold", [0.7, 0.3])
@pytest.mark.parametrize("most", [1, 2, 5, 20])
async def test_the_sdk_takes_as_many_calls_as_were_said_whatever_the_processor_does(monkeypatch, most, threshold):
    server = create_server(Settings.load({}), capacity=Capacity(most, threshold))
    server._devmode, server._reserved_slots = False, 0
    took = []
    for active in range(most + 2):
        monkeypatch.setattr(AgentServer, "active_jobs", property(lambda _, active=active: [None] * active))
        await server._refresh_worker_load()
        assert 0 <= server._worker_load <= threshold
        took.append(server._is_available())
    assert took == [True] * most + [False] * 2


@pytest.mark.parametrize(("asked", "listens"), [(None, "127.0.0.1"), ("0.0.0.0", "0.0.0.0")])
async def test_health_and_metrics_are_on_this_machine_alone_unless_asked(asked, listens):
    server = create_server(Settings.load({}), capacity=Capacity(1), host=asked, metrics_port=0)
    assert server._host == listens


@pytest.mark.parametrize(
    ("options", "source", "shared", "calls"),
    [
        (Options(), "off", True, 80),
        (Options(), "off", False, 40),
        (Options(), "inference", True, 12),
        (Options(), "server", False, 12),
        (Options(), "local", True, 6),
        (Options(max_calls=7), "inference", True, 7),
        (Options(dev=True), "local", True, float("inf")),
        (Options(dev=True, max_calls=2), "local", True, 2),
    ],
)
def test_by_default_a_worker_takes_what_its_processor_carries(monkeypatch, options, source, shared, calls):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    capacity = runner._capacity(options, calls_per_core(source, shared=shared))
    assert capacity.max_calls == calls
    assert capacity.has_room(with_calls("a"))
    assert not capacity.has_room(with_calls("a", draining=True))


@pytest.mark.parametrize(
    ("speech", "dev", "calls", "waiting"),
    [
        ("off", False, 40, 12),
        ("off", False, 4, 4),
        ("off", True, math.inf, 0),
        ("local", False, 40, 3),
        ("local", False, 1, 1),
        ("local", True, math.inf, 1),
    ],
)
def test_fewer_processes_wait_for_a_call_where_each_has_engines_for_speech(monkeypatch, speech, dev, calls, waiting):
    monkeypatch.setattr("lkmongo.speech.choose.why_not_local", lambda: None)
    settings = Settings.load({"LKMONGO_SPEECH": speech})
    server = create_server(settings, capacity=Capacity(calls), dev=dev)
    assert server._num_idle_processes == waiting


# ---------------------------------------------------------------------- callers whom nobody took


@pytest.fixture
async def rooms():
    return Rooms()


@pytest.fixture
async def credentials(rooms):
    async with credentials_of(rooms) as found:
        yield found


def dispatch(
    rooms: Rooms, room: str, *, age: float = 2 * SETTLING, agent: str = AGENT, jobs: int = 0, number: int = 0
) -> None:
    """A dispatch of some seconds ago, in a room that was made then."""
    rooms.names.add(room)
    rooms.created[room] = time.time() - age
    made = api.AgentDispatch(id=f"AD_{room}{number or ''}", agent_name=agent, room=room, metadata=f"who is in {room}")
    made.state.created_at = int(1e9 * (time.time() - age))
    for job in range(jobs):
        made.state.jobs.add(id=f"AJ_{job}")
    rooms.under_way.append(made)


def again(rooms: Rooms) -> list[tuple[str, str]]:
    """The rooms that were dispatched to, and what was said of the caller."""
    return [(each.room, each.metadata) for each in rooms.dispatches]


async def test_a_dispatch_that_no_worker_took_is_made_again_with_its_metadata(rooms, credentials):
    dispatch(rooms, "refused")
    dispatch(rooms, "taken", jobs=1)
    dispatch(rooms, "just-now", age=SETTLING / 2)
    dispatch(rooms, "given-up", age=MAX_WAIT + 1)
    dispatch(rooms, "of-another-agent", agent="another-agent")
    dispatch(rooms, "ours")
    rooms.names.add("without-any")
    waiting = WaitingCallers(credentials, AGENT, with_calls("ours"), Capacity(9))
    assert await waiting.look() == 0
    assert again(rooms) == [("refused", "who is in refused")]
    assert "AD_refused" not in {each.id for each in rooms.under_way}
    assert await waiting.look() == 0
    assert len(rooms.dispatches) == 1


async def test_who_came_first_is_served_first_and_the_others_as_soon_as_there_is_room(rooms, credentials, caplog):
    for age, room in enumerate(["third", "second", "first"]):
        dispatch(rooms, room, age=2 * SETTLING + age)
    server = with_calls("a", "b")
    waiting = WaitingCallers(credentials, AGENT, server, Capacity(3))
    with caplog.at_level(logging.INFO):
        assert await waiting.look() == 2
        assert [room for room, _ in again(rooms)] == ["first"]
        server.active_jobs.append(server.active_jobs[0])
        assert await waiting.look() == await waiting.look() == 2
        del server.active_jobs[1:]
        assert await waiting.look() == 0
    assert [room for room, _ in again(rooms)] == ["first", "second", "third"]
    told = [record.getMessage() for record in caplog.records if record.name == "lkmongo.worker.capacity"]
    assert sum("callers who wait: 2" in text for text in told) == 1
    assert told[-1] == "no caller waits any more"


@pytest.mark.parametrize(
    ("agents", "callers", "times"),
    [
        ([AGENT], 1, 0),  # it came back after a restart of the LiveKit server
        (["another-agent"], 1, 1),
        ([AGENT], 2, 1),
        ([], 0, 0),  # they have left, and the room is there for a while
        ([AGENT], 0, 0),
    ],
)
async def test_who_has_an_agent_or_has_left_does_not_wait(rooms, credentials, agents, callers, times):
    dispatch(rooms, "refused")
    rooms.present = [api.ParticipantInfo(identity=f"caller-{number}") for number in range(callers)]
    for name in agents:
        rooms.present.append(
            api.ParticipantInfo(
                identity=f"agent-{name}", kind=api.ParticipantInfo.Kind.AGENT, attributes={"lk.agent_name": name}
            )
        )
    assert await WaitingCallers(credentials, AGENT, with_calls(), Capacity(9)).look() == 0
    assert len(rooms.dispatches) == times


async def test_of_several_workers_that_look_at_once_one_dispatches(rooms, credentials):
    for number in range(5):
        dispatch(rooms, f"room-{number}")
    workers = [WaitingCallers(credentials, AGENT, with_calls(), Capacity(9)) for _ in range(4)]
    assert set(await asyncio.gather(*(worker.look() for worker in workers))) == {0}
    assert sorted(room for room, _ in again(rooms)) == [f"room-{number}" for number in range(5)]


async def test_for_a_caller_with_several_dispatches_that_no_worker_took_one_is_made(rooms, credentials):
    for number in range(3):  # as when workers that are full were asked to continue the call
        dispatch(rooms, "room", age=SETTLING * (4 - number), number=number)
    workers = [WaitingCallers(credentials, AGENT, with_calls(), Capacity(9)) for _ in range(4)]
    assert set(await asyncio.gather(*(worker.look() for worker in workers))) == {0}
    assert len(rooms.dispatches) == 1
    assert "AD_room" not in {each.id for each in rooms.under_way}, "the oldest"


@pytest.mark.parametrize("jobs", [0, 1])
async def test_nobody_is_sent_to_a_caller_to_whom_an_agent_is_on_its_way(rooms, credentials, jobs):
    dispatch(rooms, "room")
    dispatch(rooms, "room", age=SETTLING / 2, jobs=jobs, number=1)
    assert await WaitingCallers(credentials, AGENT, with_calls(), Capacity(9)).look() == 0
    assert rooms.dispatches == []


async def test_rooms_that_are_settled_are_not_asked_about_again(rooms, credentials, monkeypatch):
    for number in range(3):
        dispatch(rooms, f"room-{number}", jobs=1)
    asked = []
    found = api.agent_dispatch_service.AgentDispatchService.list_dispatch

    async def counted(self, room):
        asked.append(room)
        return await found(self, room)

    monkeypatch.setattr(api.agent_dispatch_service.AgentDispatchService, "list_dispatch", counted)
    waiting = WaitingCallers(credentials, AGENT, with_calls(), Capacity(9))
    for _ in range(3):
        await waiting.look()
    assert sorted(asked) == ["room-0", "room-1", "room-2"]


@pytest.mark.parametrize("after", [0.0, 60.0])
async def test_a_room_that_closes_meanwhile_holds_up_nobody_else(rooms, credentials, monkeypatch, after):
    monkeypatch.setattr(livekit_api, "PATIENCE", 5.0 if not after else 0.2)
    for room in ("closes", "waits"):
        dispatch(rooms, room)
    rooms.closing["closes"] = after
    assert await WaitingCallers(credentials, AGENT, with_calls(), Capacity(9)).look() == 0
    assert [room for room, _ in again(rooms)] == ["waits"]


async def test_callers_who_leave_before_a_worker_comes_or_wait_for_too_long_are_counted(rooms, credentials):
    def count():
        return REGISTRY.get_sample_value("lkmongo_callers_gave_up_total")

    for room in ("leaves", "waits", "is-taken", "ages"):
        dispatch(rooms, room)
    server, before = with_calls("a", "b"), count()
    waiting = WaitingCallers(credentials, AGENT, server, Capacity(2))
    assert await waiting.look() == 4
    rooms.empty.add("leaves")
    next(each for each in rooms.under_way if each.room == "is-taken").state.jobs.add(id="AJ_1")
    rooms.created["ages"] -= MAX_WAIT
    assert await waiting.look() == 1
    assert count() == before + 2
    server.active_jobs.clear()
    assert await waiting.look() == 0, "it has room for who waits"
    rooms.names.clear()
    assert await waiting.look() == 0
    assert count() == before + 2
