"""Callers who come with a seal: what they are told, and what becomes of their session when it does not hold."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from aiohttp import web
from livekit import api, rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.testing import fake_job_context
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

import lkmongo
from lkmongo.agent.recorder import Recorder
from lkmongo.dispatch import CALLER_ATTRIBUTE, Room, plain_metadata, seal, sealed_metadata, unseal
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.memory import lifetime, presence
from lkmongo.model import UserScope, now
from lkmongo.outbox.lease import Lease
from lkmongo.outbox.recovery import recover
from lkmongo.store.open import Store
from lkmongo.store.people.admission import Admission
from lkmongo.store.people.erase import erase
from lkmongo.store.people.users import Users, Visitors
from tests.fake_llm import ScriptedLLM, calls
from tests.livekit_api import KEY, SECRET, Rooms, create_app
from tests.overlaps import DATABASE, away, die, kinds, outbox_of, said, say
from tests.waiting import until

KIM = UserScope(tenant_id="acme", user_id="web-1")
VISITOR = "the-browser-of-kim"
CALLING = "mock_user"


@pytest.fixture
async def livekit():
    rooms = Rooms(names={"room"}, present=[api.ParticipantInfo(identity=CALLING)])
    server = web.AppRunner(create_app(rooms=rooms))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    rooms.url = f"ws://127.0.0.1:{server.addresses[0][1]}"
    yield rooms
    await server.cleanup()


@pytest.fixture
async def memory(store, mongodb_uri, database_name, home, livekit):
    keys = {"livekit_url": livekit.url, "livekit_api_key": KEY, "livekit_api_secret": SECRET}
    await store.users.set_field(KIM, "name", "Kim")
    await store.memories.remember(KIM, "city", "Lisbon")
    await Visitors(store.db).add(VISITOR, KIM)
    async with lkmongo.Memory(mongodb_uri=mongodb_uri, mongodb_db=database_name, home=home, **keys) as memory:
        yield memory


def sealed(**changes):
    return sealed_metadata(
        KIM, **({"room": "room", "participant_identity": CALLING, "secret": SECRET, "visitor": VISITOR} | changes)
    )


@asynccontextmanager
async def a_session(memory, metadata, sid="RM_1", *, attributes=None):
    """The session of a job, with an agent that talks; yields both and the room."""
    room = create_mock_room.__wrapped__()
    room.name = "room"
    room.remote_participants["PA_mock_user"].attributes = attributes or {}
    with fake_job_context(room=room, job_id=f"job-{sid}", job_metadata=metadata) as job:
        job.job.room.sid = sid
        caller = await memory.session(job)
        await caller.caller.preload()
        session = AgentSession(llm=ScriptedLLM(calls()), vad=None, turn_handling={"turn_detection": None})
        caller.attach(session)
        await session.start(agent=Agent(instructions=""), record=False, room=room)
        await until(lambda: session.room_io.linked_participant)
        try:
            yield caller, session
        finally:
            await session.aclose()
            await asyncio.gather(*(callback("") for callback in job._shutdown_callbacks))


async def is_known(memory, metadata, sid) -> bool:
    async with a_session(memory, metadata, sid) as (caller, _):
        await until(lambda: caller.caller.loaded)
        await caller.recorder.lease.confirm()
        assert (caller.caller.status == "known") is ("Lisbon" in caller.briefing()) is (caller.scope == KIM)
        return caller.scope == KIM


async def rooms_of(store, scope=KIM):
    return [record.session_id for record in await store.sessions.recent(scope)]


# ---------------------------------------------------------------- when it begins


async def test_a_seal_is_good_in_one_room_and_there_for_each_agent_that_is_sent(store, memory, caplog):
    metadata = sealed()
    assert await is_known(memory, metadata, "RM_1")
    assert await is_known(memory, metadata, "RM_1")
    assert not await is_known(memory, metadata, "RM_2")
    assert "the caller is a guest: the sealed caller was used in another room before" in caplog.text
    assert await rooms_of(store) == ["RM_1"]
    assert await store.db.sessions.count_documents({"session_id": "RM_2"}) == 0
    assert not await is_known(memory, sealed(room=Room("room", "RM_3")), "RM_4")
    assert await is_known(memory, sealed(room=Room("room", "RM_3")), "RM_3")


async def test_one_that_writes_nothing_binds_its_seal_too(store, memory):
    metadata = sealed()
    with fake_job_context(room=create_mock_room.__wrapped__(), job_metadata=metadata) as job:
        job.job.room.name, job.job.room.sid = "room", "RM_1"
        async with memory.session(job) as caller:
            await until(lambda: caller.facts)
            await until(lambda: store.db.used_seals.find_one({"room": "RM_1"}))
    assert not await is_known(memory, metadata, "RM_2")


@pytest.mark.parametrize(
    ("who", "before", "after"),
    [
        ("web-2", "nothing", [("web-2", False)]),
        ("web-2", "erased", []),
        ("web-2", "logged out", [("web-2", True)]),
        ("robin@example.com", "nothing", []),
    ],
)
async def test_a_web_visitor_is_registered_when_a_session_of_theirs_begins(store, memory, who, before, after):
    scope = UserScope(tenant_id="acme", user_id=who)
    metadata = sealed_metadata(scope, room="room", participant_identity=CALLING, secret=SECRET, visitor="browser-2")
    if before == "erased":
        await store.users.seen(scope)
        await erase(store.db, scope, by="Sam")
    if before == "logged out":
        await Visitors(store.db).end("browser-2", scope)
    assert before == "logged out" or not await store.db.visitors.find_one({"_id": "browser-2"})
    async with a_session(memory, metadata) as (caller, _):
        await until(lambda: caller.caller.loaded)
        if before != "logged out":
            await until(lambda: store.db.users.find_one(scope.filter))
    found = await store.db.visitors.find({"_id": "browser-2"}).to_list()
    assert [(each["user_id"], "ended_at" in each) for each in found] == after


async def test_a_seal_from_before_the_logout_is_a_guests(store, memory):
    metadata = sealed()
    await Visitors(store.db).end(VISITOR, KIM)
    assert not await is_known(memory, metadata, "RM_1")
    assert await rooms_of(store) == []


async def test_nothing_is_shown_or_stored_before_it_is_known_that_the_seal_holds(store, memory):
    metadata = sealed()
    await Visitors(store.db).end(VISITOR, KIM)
    with away((Users, "get_admitted"), (Admission, "confirm")):
        async with a_session(memory, metadata) as (caller, _):
            await until(lambda: caller.caller.load_error)
            assert caller.caller.status == "loading"
            assert "Lisbon" not in caller.briefing()
            assert await caller.remember("city", "Berlin")
            for ask in (lambda: caller.order("o-1"), lambda: caller.latest_orders(3), caller.search_past_calls):
                with pytest.raises(DatabaseUnavailableError, match="cannot be reached"):
                    await ask()
            assert await rooms_of(store) == []
    assert [slot.content for slot in await store.memories.slots(KIM)] == ["Lisbon"]


class Commands(CommandListener):
    def __init__(self) -> None:
        self.sent: list[str] = []

    def started(self, event):
        self.sent.append(event.command_name)

    def succeeded(self, event): ...
    def failed(self, event): ...


async def test_the_preload_of_a_sealed_caller_is_as_many_reads_side_by_side_as_that_of_another(
    store, mongodb_uri, database_name
):
    commands = Commands()
    async with AsyncMongoClient(mongodb_uri, event_listeners=[commands], tz_aware=True) as client:
        counted = Store.of(client[database_name])
        await counted.ping()
        found = []
        for admission in (None, Admission(counted.db, _ticket(), now())):
            commands.sent.clear()
            await asyncio.gather(counted.memories.contents(KIM), counted.users.get_admitted(KIM, admission))
            found.append(len(commands.sent))
    assert found == [2, 2]


def _ticket():
    return unseal(
        seal(KIM, room="room", participant_identity=CALLING, secret=SECRET, visitor=VISITOR),
        room=Room("room", "RM_1"),
        secret=SECRET,
    ).ticket


# ---------------------------------------------------------------- while it goes on


@pytest.mark.parametrize("how", ["metadata", "attribute"])
async def test_who_logs_out_is_removed_and_what_they_said_is_kept(store, memory, livekit, how):
    attribute = seal(KIM, room="room", participant_identity=CALLING, secret=SECRET, visitor=VISITOR)
    by_attribute = {"attributes": {CALLER_ATTRIBUTE: attribute}} if how == "attribute" else {}
    async with a_session(memory, "" if by_attribute else sealed(), **by_attribute) as (caller, session):
        await until(lambda: caller.scope == KIM and caller.caller.loaded)
        await session.run(user_input="hello")
        await until(lambda: store.db.turns.find_one({"session_id": "RM_1", "user_id": KIM.user_id}))
        await Visitors(store.db).end(VISITOR, KIM)
        await caller.recorder.lease.check()
        await until(lambda: store.db.sessions.find_one({"session_id": "RM_1", "status": "complete"}))
    record = await store.sessions.get(KIM, "RM_1")
    assert record.close_reason == "logged out"
    assert "hello" in [turn.content for turn in await store.sessions.turns(KIM, "RM_1")]
    assert livekit.present == []


@pytest.mark.parametrize(
    ("reason", "silent", "ends"),
    [
        (None, False, True),
        (rtc.DisconnectReason.DUPLICATE_IDENTITY, False, True),
        (rtc.DisconnectReason.DUPLICATE_IDENTITY, True, False),
        (None, True, False),
        (rtc.DisconnectReason.STATE_MISMATCH, False, False),
        (rtc.DisconnectReason.SIGNAL_CLOSE, False, False),
    ],
)
async def test_a_second_participant_with_the_same_token_ends_it_unless_the_first_had_fallen_silent(
    store, memory, livekit, reason, silent, ends
):
    async with a_session(memory, plain_metadata(KIM, CALLING)) as (caller, session):
        await session.run(user_input="hello")
        first, second = (
            SimpleNamespace(identity=CALLING, kind=0, disconnect_reason=reason, attributes={}) for _ in range(2)
        )
        if silent:
            caller.lifetime._on_quality(first, rtc.ConnectionQuality.QUALITY_LOST)
        caller.lifetime._on_left(first)
        caller.lifetime._on_participant(second)
        assert caller.lifetime._reason == (lifetime.REUSED if ends else None)
        if ends:
            await until(lambda: store.db.sessions.find_one({"session_id": "RM_1", "status": "complete"}))
            assert livekit.present == []
    record = await store.sessions.get(KIM, "RM_1")
    assert (record.close_reason == "token used twice") is ends


async def test_who_comes_back_after_a_while_goes_on(memory, monkeypatch):
    async with a_session(memory, plain_metadata(KIM, CALLING)) as (caller, _):
        gone = SimpleNamespace(identity=CALLING, kind=0, disconnect_reason=None, attributes={})
        caller.lifetime._on_left(gone)
        monkeypatch.setattr(presence, "_AT_ONCE", 0.0)
        caller.lifetime._on_participant(gone)
        assert caller.lifetime._reason is None


# ---------------------------------------------------------------- after its process has died


@pytest.mark.parametrize(
    ("refused_by", "outcome"),
    [(None, "interrupted"), ("room", "refused"), ("logout", "refused"), ("later", "interrupted")],
)
async def test_the_journal_of_a_session_whose_seal_did_not_hold_is_not_stored(store, tmp_path, refused_by, outcome):
    """MongoDB was away all the time: nobody could know."""
    await Visitors(store.db).add(VISITOR, KIM)
    if refused_by == "logout":
        await Visitors(store.db).end(VISITOR, KIM)
    outbox = outbox_of(store, KIM, folder=tmp_path)
    outbox.record = replace(outbox.record, ticket=_ticket())
    outbox._use(Lease(store, outbox.record))
    recorder = Recorder(outbox)
    with away((Admission, "confirm")):
        say(recorder, "remember Berlin", 100.0)
        await until(lambda: kinds(tmp_path))
        await outbox._journal.sync()
        await die(recorder)
    if refused_by == "room":
        await Admission(store.db, replace(outbox.record.ticket, room="RM_0"), now()).confirm()
    if refused_by == "later":
        await Visitors(store.db).end(VISITOR, KIM)
    (found,) = await recover(store, tmp_path, DATABASE)
    assert found.outcome == outcome
    assert await said(store, KIM) == (["remember Berlin"] if outcome == "interrupted" else [])
    assert kinds(tmp_path) == []
