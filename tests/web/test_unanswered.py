"""Callers to whom no agent came: recorded once, as far as they may be, and replaced by the session of one that does."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import pytest
from livekit import api
from pydantic import SecretStr

from lkmongo.consent import Consent
from lkmongo.errors import DatabaseUnavailableError, UnreachableError
from lkmongo.model import SessionRecord, SessionStatus, TenantScope, Turn, TurnKind, UserScope, now
from lkmongo.settings import LiveKitCredentials
from lkmongo.store.people.erase import erase
from lkmongo.store.people.users import Visitors
from lkmongo.store.sessions.own_calls import past_calls
from lkmongo.store.sessions.sessions import Sessions
from lkmongo.tokens import SigningKey, TokenRequest
from lkmongo.web import unanswered
from lkmongo.web.unanswered import Unanswered
from tests.livekit_api import KEY, SECRET, Rooms, credentials_of
from tests.web_server import claims, token, web_server

AGENT = "our-agent"
ROBIN = UserScope(tenant_id="default", user_id="u-100")


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A machine that is busy is no LiveKit that is away."""
    monkeypatch.setattr(unanswered, "PATIENCE", 90.0)


@pytest.fixture
async def rooms():
    return Rooms()


@pytest.fixture
async def credentials(rooms):
    async with credentials_of(rooms) as found:
        yield found


@pytest.fixture
def a_server(store, credentials):
    """Make a server that has run for an hour, or one that was started just now."""

    def make(*, tenant: str = "default", asks: bool = False, fresh: bool = False) -> Unanswered:
        server = Unanswered(store, credentials, AGENT, tenant, asks=asks)
        if not fresh:
            server._earlier_until = now()
        return server

    return make


def a_token(who: UserScope | TenantScope = ROBIN, **more) -> TokenRequest:
    sealed = isinstance(who, UserScope)
    return TokenRequest(who=who, agent_name=AGENT, sealed=sealed, **({"visitor": "a-browser"} if sealed else {}) | more)


def enters(rooms: Rooms, wanted: TokenRequest, *, jobs: int = 0, age: float = 30, agent: str = AGENT) -> str:
    """Somebody joins with this token, some seconds ago; returns the id of the room."""
    rooms.names.add(wanted.room)
    rooms.created[wanted.room] = time.time() - age
    metadata = wanted.dispatch_metadata(SigningKey(KEY, SecretStr(SECRET)))
    made = api.AgentDispatch(id=f"AD_{wanted.room}", agent_name=agent, room=wanted.room, metadata=metadata)
    for number in range(jobs):
        made.state.jobs.add(id=f"AJ_{number}")
    rooms.under_way.append(made)
    return f"RM_{wanted.room}"


async def all_of(store) -> list[dict]:
    return await store.db.sessions.find().to_list()


async def test_who_has_left_without_an_agent_is_recorded_with_the_time_they_waited(store, rooms, a_server):
    wanted, server, before = a_token(), a_server(), now()
    server.given(wanted)
    session_id = enters(rooms, wanted)
    await server.look()
    rooms.empty.add(wanted.room)
    await server.look()
    assert await all_of(store) == [], "LiveKit has not closed the room: an agent may still come"
    rooms.names.clear()
    await server.look()
    record = await store.sessions.get(ROBIN, session_id)
    assert (record.status, record.close_reason) == (SessionStatus.NO_AGENT, "no agent")
    assert (record.room_name, record.participant_identity) == (wanted.room, wanted.participant_identity)
    assert record.agent == AGENT
    assert before - timedelta(seconds=61) < record.started_at < before
    assert before - timedelta(seconds=1) < record.ended_at <= now()
    await server.look()
    assert len(await all_of(store)) == 1
    assert await past_calls(store.db, ROBIN, limit=9) == ([], None), "a call without a word is no past call"


async def test_nothing_is_recorded_of_tokens_that_nobody_used_or_whose_dispatch_a_worker_took(store, rooms, a_server):
    unused, taken, server = a_token(), a_token(), a_server()
    server.given(unused)
    server.given(taken)
    enters(rooms, taken, jobs=1)
    await server.look()
    rooms.names.clear()
    await server.look()
    assert await all_of(store) == []


async def test_who_is_taken_late_is_the_worker_s(store, rooms, a_server):
    wanted, server = a_token(), a_server()
    server.given(wanted)
    enters(rooms, wanted)
    await server.look()
    rooms.under_way[0].state.jobs.add(id="AJ_1")
    await server.look()
    rooms.names.clear()
    await server.look()
    assert await all_of(store) == []


async def test_a_dispatch_that_a_worker_makes_again_is_waited_for(store, rooms, a_server):
    wanted, server = a_token(), a_server()
    server.given(wanted)
    session_id = enters(rooms, wanted)
    dispatch = rooms.under_way.pop()
    await server.look()
    rooms.under_way.append(dispatch)
    await server.look()
    rooms.names.clear()
    await server.look()
    assert (await store.sessions.get(ROBIN, session_id)).status == SessionStatus.NO_AGENT


async def test_several_servers_record_one_room_once_and_one_that_was_restarted_finds_who_waits(store, rooms, a_server):
    wanted, of_command, elsewhere = a_token(), a_token(visitor=None), a_token(UserScope(tenant_id="x", user_id="u"))
    servers = [a_server(fresh=True) for _ in range(3)]
    session_id = enters(rooms, wanted)
    enters(rooms, of_command)
    enters(rooms, elsewhere)
    enters(rooms, a_token(), agent="another-agent")
    enters(rooms, a_token(), age=3_600)  # nobody waits for so long
    for server in servers:
        await server.look()
    rooms.names.clear()
    await asyncio.gather(*(server.look() for server in servers))
    assert [each["session_id"] for each in await all_of(store)] == [session_id]


async def test_a_guest_of_one_call_is_recorded_once_too(store, rooms, a_server):
    wanted, server = a_token(TenantScope("default")), a_server()
    server.given(wanted)
    enters(rooms, wanted)
    await server.look()
    rooms.names.clear()
    await server.look()
    (record,) = await all_of(store)
    assert UserScope(tenant_id="default", user_id=record["user_id"]).is_guest


@pytest.mark.parametrize("answer", [None, "declined", "withdrawn", "agreed"])
async def test_of_who_has_not_agreed_nobody_can_tell_who_it_was(store, rooms, a_server, answer):
    wanted = a_token()
    if answer:
        await store.users.set_consent(ROBIN, Consent(answer, now(), "page"))
    session_id = enters(rooms, wanted)
    servers = [a_server(asks=True, fresh=True) for _ in range(2)]
    for server in servers:
        await server.look()
    rooms.names.clear()
    await asyncio.gather(*(server.look() for server in servers))
    (record,) = await all_of(store)
    assert (record["session_id"], record["status"]) == (session_id, "no agent")
    if answer == "agreed":
        assert record["user_id"] == ROBIN.user_id
    else:
        assert not {"room_name", "participant"} & record.keys()
        assert UserScope(tenant_id="default", user_id=record["user_id"]).is_guest


async def test_who_has_logged_out_meanwhile_is_not_named(store, rooms, a_server):
    wanted, server = a_token(), a_server()
    await Visitors(store.db).add("a-browser", ROBIN)
    enters(rooms, wanted)
    server.given(wanted)
    await server.look()
    await Visitors(store.db).end("a-browser", ROBIN)
    rooms.names.clear()
    await server.look()
    (record,) = await all_of(store)
    assert record["user_id"] != ROBIN.user_id


@pytest.mark.parametrize("when", ["before", "between"])
async def test_of_who_was_erased_meanwhile_nothing_is_recorded(store, rooms, a_server, monkeypatch, when):
    wanted, server = a_token(), a_server()
    await store.users.seen(ROBIN)
    enters(rooms, wanted)
    server.given(wanted)
    await server.look()
    add = Sessions.add_unanswered

    async def erased_between(self, record):
        await erase(store.db, ROBIN, by="themselves")
        return await add(self, record)

    if when == "before":
        await erase(store.db, ROBIN, by="themselves")
    else:
        monkeypatch.setattr(Sessions, "add_unanswered", erased_between)
    rooms.names.clear()
    await server.look()
    assert await all_of(store) == []


async def test_while_mongodb_is_away_the_record_waits(store, rooms, a_server, monkeypatch):
    wanted, server = a_token(), a_server()
    server.given(wanted)
    session_id = enters(rooms, wanted)
    await server.look()
    rooms.names.clear()

    async def away(*_, **__):
        raise DatabaseUnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(unanswered, "record_unanswered", away)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailableError):
                await server.look()
    await server.look()
    assert (await store.sessions.get(ROBIN, session_id)).status == SessionStatus.NO_AGENT


async def test_while_livekit_is_away_nobody_has_left(store, rooms, a_server, credentials):
    wanted, server = a_token(), a_server()
    server.given(wanted)
    enters(rooms, wanted)
    await server.look()
    server._credentials = LiveKitCredentials("ws://127.0.0.1:9", KEY, SecretStr(SECRET))
    with pytest.raises(UnreachableError):
        await server.look()
    server._credentials = credentials
    await server.look()
    assert await all_of(store) == []


async def test_a_room_that_closes_meanwhile_is_one_that_was_left(store, rooms, a_server):
    wanted, server = a_token(), a_server()
    server.given(wanted)
    session_id = enters(rooms, wanted)
    await server.look()
    rooms.closing[wanted.room] = 0.0
    await server.look()
    assert await all_of(store) == []
    rooms.names.clear()
    await server.look()
    assert (await store.sessions.get(ROBIN, session_id)).status == SessionStatus.NO_AGENT


async def test_livekit_is_not_asked_while_no_token_could_be_used(rooms, a_server, monkeypatch):
    server = a_server()
    server._credentials = LiveKitCredentials("ws://127.0.0.1:9", KEY, SecretStr(SECRET))
    await server.look()
    server.given(a_token())
    with pytest.raises(UnreachableError):
        await server.look()
    monkeypatch.setattr(unanswered, "now", lambda: now() + timedelta(hours=1))
    await server.look()


async def test_the_log_says_once_that_callers_wait(rooms, a_server, caplog):
    server = a_server()
    for number in range(2):
        wanted = a_token(UserScope(tenant_id="default", user_id=f"u-{number}"))
        server.given(wanted)
        enters(rooms, wanted)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await server.look()
    (told,) = (each.getMessage() for each in caplog.records if each.name == "lkmongo.web.unanswered")
    assert "callers to whom no agent has come: 2;" in told
    assert AGENT in told


async def test_the_server_tells_of_each_token_that_it_gives(store):
    given = []
    async with web_server(store, on_token=given.append) as server:
        answer = await token(server.browser(), server)
    assert [each.room for each in given] == [claims(answer)["video"]["room"]]


# ---------------------------------------------------------------------- an agent comes all the same


async def _unanswered(store) -> SessionRecord:
    began = now() - timedelta(minutes=2)
    waited = SessionRecord("RM_1", ROBIN, "room-1", SessionStatus.NO_AGENT, began, now(), "no agent", agent=AGENT)
    assert await store.sessions.add_unanswered(waited)
    return SessionRecord("RM_1", ROBIN, "room-1", SessionStatus.ACTIVE, now())


async def test_the_session_of_an_agent_that_comes_late_replaces_the_record(store):
    late = await _unanswered(store)
    assert await store.sessions.open(late, "a-worker"), "it is a new session"
    record = await store.sessions.get(ROBIN, "RM_1")
    assert (record.status, record.ended_at, record.close_reason) == (SessionStatus.ACTIVE, None, None)
    assert record.started_at == late.started_at
    assert not await store.sessions.open(late, "another-worker")
    assert len(await all_of(store)) == 1
    assert not await store.sessions.add_unanswered(record)


async def test_what_a_worker_has_left_on_its_disk_replaces_the_record(store):
    late = await _unanswered(store)
    assert await store.sessions.claim(late, "recovery", instead_of="a-worker")
    await store.sessions.append(ROBIN, "RM_1", [Turn(0, "i-1", TurnKind.MESSAGE, now(), "user", "hello")])
    assert await store.sessions.interrupt(ROBIN, "RM_1", "killed")
    record = await store.sessions.get(ROBIN, "RM_1")
    assert (record.status, record.close_reason) == (SessionStatus.INTERRUPTED, "killed")
    assert record.started_at == late.started_at
    assert record.ended_at > late.started_at
