"""A job in this process, in LiveKit's mock room: who is served, and what others in the room learn."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
from livekit import rtc
from livekit.agents import JobContext, utils
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.testing import fake_job_context

from lkmongo import deadlines
from lkmongo.dispatch import CALLER_ATTRIBUTE, UNKNOWN_TENANT, plain_metadata, seal
from lkmongo.model import TenantScope, UserScope
from lkmongo.phone_numbers import DIALLED, NUMBER
from lkmongo.settings import Settings
from lkmongo.store.mongo import client
from lkmongo.worker.job import JobSession
from lkmongo.worker.prewarm import Prewarm, load_shared
from tests.livekit_api import KEY, SECRET
from tests.telephone import participant
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
CALLING = "mock_user"


@pytest.fixture
async def hold(mongodb_uri, database_name, store):
    """Take a job; yields its call and the room."""
    settings = Settings.load(
        {
            "MONGODB_URI": mongodb_uri,
            "MONGODB_DB": database_name,
            "LIVEKIT_URL": "ws://127.0.0.1:1",
            "LIVEKIT_API_KEY": KEY,
            "LIVEKIT_API_SECRET": SECRET,
            "LKMONGO_SPEECH": "off",
        }
    )

    @asynccontextmanager
    async def hold(metadata="", *, dev=False, agent=None, tenants=None, dialled=None, **attributes):
        room = create_mock_room.__wrapped__()
        room.name = "room"
        if dialled:
            (caller,) = room.remote_participants.values()
            caller.kind = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
            caller.attributes = {DIALLED: dialled} | attributes
        wanted = settings.model_copy(update={"agent": agent, "tenants": tenants})
        load_shared(wanted)
        ready = Prewarm(wanted, dev=dev)
        try:
            async with utils.http_context.open():
                with fake_job_context(room=room, job_metadata=metadata) as job:
                    job_session = JobSession(job, ready)
                    await job_session.begin()
                    try:
                        yield job_session, room
                    finally:
                        await job_session._agent_session.aclose()
                        await job_session.end()
        finally:
            client._abandon()

    return hold


async def test_a_waiting_process_stores_what_its_agents_module_declares(store, hold, monkeypatch, tmp_path):
    (tmp_path / "clinic.py").write_text(
        "from lkmongo.agent.assistant import Assistant\n"
        "from lkmongo.declarations import Collection\n"
        "VISITS = Collection('visits', owner='person', key=('nr',))\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    async with hold(plain_metadata(ROBIN, CALLING), agent="clinic:Assistant"):
        await until(lambda: store.db.declarations.find_one({"_id": "collection/visits"}))


def listened_to(room):
    """The topics on which the agent takes something from the room."""
    registered = (room.register_text_stream_handler, room.register_byte_stream_handler)
    return {call.args[0] for each in registered for call in each.call_args_list}


async def test_nobody_in_the_room_can_ask_the_session_for_history_tools_or_settings(hold):
    async with hold(plain_metadata(ROBIN, CALLING)) as (job_session, room):
        assert listened_to(room) == {"lk.chat"}
        assert job_session._agent_session._session_host is None
        assert not room.local_participant.register_rpc_method.called
    async with hold(plain_metadata(ROBIN, CALLING), dev=True) as (job_session, room):
        assert listened_to(room) > {"lk.chat"}  # what the check above would show
        assert job_session._agent_session._session_host is not None


async def test_the_agent_serves_the_participant_it_was_dispatched_for_and_no_other(hold):
    async with hold(plain_metadata(ROBIN, "somebody who comes later")) as (job_session, _):
        await asyncio.sleep(0.1)
        assert job_session._agent_session.room_io.linked_participant is None  # another one is in the room already
        assert job_session._lifetime.caller.scope == ROBIN
    async with hold() as (job_session, _):
        await until(lambda: job_session._agent_session.room_io.linked_participant)
        assert job_session._agent_session.room_io.linked_participant.identity == CALLING
        assert job_session._lifetime.caller.caller.guest


async def test_what_the_participant_who_is_served_types_and_presses_goes_into_one_queue(hold):
    async with hold(plain_metadata(ROBIN, CALLING)) as (job_session, room):
        lifetime = job_session._lifetime
        (typed,) = [call.args[1] for call in room.register_text_stream_handler.call_args_list]
        pressed = [call.args[1] for call in room.on.call_args_list if call.args[0] == "sip_dtmf_received"]
        for who in ("somebody else", CALLING):
            for listener in pressed:
                for key in "2#":
                    listener(rtc.SipDTMF(code=2, digit=key, participant=participant(who)))
        turns = lifetime.caller.recorder
        await until(lambda: [turn.content for turn in turns.turns if turn.role == "user"])
        for who in ("somebody else", CALLING):
            typed(SimpleNamespace(info=SimpleNamespace(timestamp=1), read_all=AsyncMock(return_value=who)), who)
        await until(lambda: len([turn for turn in turns.turns if turn.role == "user"]) > 1)
        assert [turn.content for turn in turns.turns if turn.role == "user"] == ["pressed 2", CALLING]
        asking = asyncio.create_task(lifetime.caller.keypad_digits(2))
        await asyncio.sleep(0)
        for listener in pressed:
            for key in "47":
                listener(rtc.SipDTMF(code=4, digit=key, participant=participant(CALLING)))
        assert await asking == "47"


def sealed(*, room="room", participant_identity=CALLING, secret=SECRET):
    return seal(ROBIN, room=room, participant_identity=participant_identity, secret=secret)


@pytest.mark.parametrize(
    ("value", "shown_by", "becomes"),
    [
        (sealed(), CALLING, True),
        (sealed(), "another participant", False),
        (sealed(participant_identity="another participant"), CALLING, False),
        (sealed(participant_identity="another participant"), "another participant", False),
        (sealed(room="another room"), CALLING, False),
        (sealed(secret="another secret, as long as they should be"), CALLING, False),
        ("u-100", CALLING, False),
        ('{"user_id": "u-100"}', CALLING, False),
    ],
)
async def test_only_a_seal_for_the_served_participant_in_this_room_makes_a_guest_a_person(
    hold, value, shown_by, becomes
):
    async with hold() as (job_session, _):
        await until(lambda: job_session._agent_session.room_io.linked_participant)
        shown = SimpleNamespace(identity=shown_by, kind=rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD)
        job_session._lifetime._on_attributes({CALLER_ATTRIBUTE: value}, shown)
        for task in list(job_session._lifetime._identifying):
            await task
        assert (job_session._lifetime.caller.scope == ROBIN) is becomes
        assert job_session._lifetime.caller.caller.guest is not becomes


SHOPS = """\
default: {language: en, phone: {region: DE}}
tenants:
  shop:
    phone: {numbers: [030 1234567]}
    instructions: shop.txt
    greeting: Guten Tag, hier ist der Laden.
    language: de
  clinic: {language: fr}
"""


@pytest.fixture
def tenants(tmp_path):
    (tmp_path / "shop.txt").write_text("You sell hats.")
    (tmp_path / "tenants.yaml").write_text(SHOPS)
    return tmp_path / "tenants.yaml"


async def first_words(job_session):
    history = job_session._agent_session.history
    await until(lambda: any(item.type == "message" for item in history.items))
    return next(item.text_content for item in history.items if item.type == "message")


async def test_who_dials_a_number_of_a_tenant_is_its_caller_from_the_first_word(hold, tenants):
    async with hold(tenants=tenants, dialled="+4930 1234567") as (job_session, _):
        call = job_session._lifetime.caller
        assert (call.scope.tenant_id, call.scope.is_guest) == ("shop", True)
        assert call.tenant_policy.language == "de"
        assert job_session._agent_session.current_agent.instructions == "You sell hats."
        assert await first_words(job_session) == "Guten Tag, hier ist der Laden."


@pytest.mark.parametrize(
    ("metadata", "dialled", "tenant"),
    [
        ("", "+12015550123", "default"),
        ("", None, "default"),
        ("made by another program", "+49301234567", "shop"),
        (plain_metadata(TenantScope("clinic")), "+49301234567", "clinic"),
        (plain_metadata(UserScope(tenant_id="clinic", user_id="u-100"), CALLING), "+49301234567", "clinic"),
        ('{"user_id": "u-100"}', "+49301234567", "default"),
        ('{"caller": "a seal that does not open"}', "+49301234567", UNKNOWN_TENANT),
    ],
)
async def test_the_number_decides_for_those_whom_the_metadata_does_not_name(hold, tenants, metadata, dialled, tenant):
    async with hold(metadata, tenants=tenants, dialled=dialled, **{NUMBER: "+4930999999"}) as (job_session, _):
        call = job_session._lifetime.caller
        assert call.scope.tenant_id == tenant
        if dialled and call.caller.guest:
            await until(lambda: call.caller.phone and call.caller.phone.number)
        assert call.scope.tenant_id == tenant
        assert job_session._agent_session.current_agent.instructions.startswith(
            "You sell hats." if tenant == "shop" else "You are a friendly voice assistant"
        )


async def test_a_number_that_is_said_late_changes_whose_caller_it_is_and_who_answers(hold, tenants, monkeypatch):
    monkeypatch.setattr(deadlines, "DIALLED", 0.01)
    async with hold(tenants=tenants, dialled=" ") as (job_session, room):
        call = job_session._lifetime.caller
        assert call.scope.tenant_id == "default"
        (caller,) = room.remote_participants.values()
        await until(lambda: job_session._agent_session.room_io.linked_participant)
        caller.attributes = {NUMBER: "+4930999999", DIALLED: "+49301234567"}
        job_session._lifetime._on_attributes(dict(caller.attributes), caller)
        await until(lambda: job_session._agent_session.current_agent.instructions == "You sell hats.")
        assert (call.scope.tenant_id, call.scope.is_guest) == ("shop", True)
        assert call.tenant_policy.greeting == "Guten Tag, hier ist der Laden."


async def test_for_a_livekit_server_on_this_machine_no_stun_server_of_a_stranger_is_asked(hold, monkeypatch):
    asked, connect = [], JobContext.connect

    async def connects(job, **options):
        asked.append(options)
        await connect(job, **options)

    monkeypatch.setattr(JobContext, "connect", connects)
    async with hold(plain_metadata(ROBIN, CALLING)):
        # The SDK connects once more, which does nothing when one is connected.
        assert [list(each.urls) for each in asked[0]["rtc_config"].ice_servers] == [["stun:127.0.0.1:9"]]
