"""Resuming a session whose worker died: found, claimed by one worker, inspected, and continued where it stopped."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web
from livekit import api
from livekit.agents import ConversationItemAddedEvent, llm
from livekit.protocol.agent import JobStatus
from pydantic import SecretStr

from lkmongo import deadlines
from lkmongo.agent.assistant import Assistant
from lkmongo.demo.llm import DemoLLM
from lkmongo.dispatch import Room, plain_metadata, read_dispatch, resuming_metadata
from lkmongo.errors import LkmongoError
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.outbox.lease import Lease, SupersededError
from lkmongo.settings import LiveKitCredentials
from lkmongo.store.sessions.documents import is_gone, process_name
from lkmongo.store.sessions.sessions import TakenError
from lkmongo.ticket import Ticket
from lkmongo.worker import resume
from tests.fake_llm import calls
from tests.livekit_api import KEY, SECRET, Rooms, create_app
from tests.overlaps import recorder_of
from tests.talk import talk
from tests.waiting import until

ROBIN = UserScope(tenant_id="default", user_id="u-100")
AGENT = "front-desk"
HERE = "livekit.example.org"
ROOM, SID = "room-1", "RM_room-1"
CALL = SessionRecord(
    SID, ROBIN, ROOM, SessionStatus.ACTIVE, now() - timedelta(minutes=1), participant_identity="caller-1", agent=AGENT
)
KIND = api.ParticipantInfo.Kind
CALLER = api.ParticipantInfo(identity="caller-1")
OTHER = api.ParticipantInfo(identity="somebody-else")
AN_AGENT = api.ParticipantInfo(identity="agent-AJ_0", kind=KIND.AGENT)


@pytest.fixture
async def livekit():
    """LiveKit's room service, and what it knows."""
    rooms = Rooms(names={ROOM}, present=[CALLER])
    server = web.AppRunner(create_app(rooms=rooms))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    yield rooms, LiveKitCredentials(f"ws://127.0.0.1:{server.addresses[0][1]}", KEY, SecretStr(SECRET))
    await server.cleanup()


async def cut_off(store, record=CALL):
    """A call whose worker died long enough ago."""
    await store.sessions.open(record, "host/boot/1/abc")
    await run_out(store)


async def run_out(store):
    """Let every lease have run out."""
    an_hour_ago = [{"$set": {"lease.until": {"$add": ["$$NOW", -3_600_000]}}}]
    await store.db.sessions.update_many({"lease": {"$exists": True}}, an_hour_ago)


def turn(seq, item_id, role="user", content="hello", **more):
    moment = CALL.started_at + timedelta(seconds=seq)
    return Turn(seq, item_id, TurnKind.MESSAGE, moment, role=role, content=content, **more)


# ---------------------------------------------------------------- which calls


async def test_only_expired_sessions_of_this_agent_in_rooms_are_found(store):
    for name, more in {
        "lost": {},
        "another agent's": {"agent": "elsewhere"},
        "another project's": {"livekit": "livekit.example.com"},
        "this project's": {"livekit": HERE},
        "console": {"agent": None, "room_name": "console"},
        "ended": {},
        "given up": {},
        "cut off": {},
        "cut off long ago": {},
    }.items():
        await cut_off(store, replace(CALL, session_id=name, **more))
    await store.sessions.open(replace(CALL, session_id="goes on"), "host/boot/2/def")
    await store.sessions.save(replace(CALL, session_id="ended", status=SessionStatus.COMPLETE))
    await store.sessions.interrupt(ROBIN, "given up", "lost", for_good=True)
    for name in ("cut off", "cut off long ago"):
        await store.sessions.interrupt(ROBIN, name, "lost")
    long_ago = [{"$set": {"interrupted_at": {"$add": ["$$NOW", -3_600_000]}}}]
    await store.db.sessions.update_one({"session_id": "cut off long ago"}, long_ago)
    assert sorted(record.session_id for record in await store.sessions.expired(AGENT, HERE)) == [
        "cut off",
        "lost",
        "this project's",
    ]


async def test_one_of_several_workers_wins_the_claim(store):
    await cut_off(store)
    won = await asyncio.gather(*(store.sessions.claim(CALL, f"worker-{n}", instead_of="") for n in range(5)))
    assert sorted(won) == [False] * 4 + [True]
    assert await store.sessions.expired(AGENT, HERE) == []


async def test_a_session_renewed_before_the_claim_is_left_alone(store):
    await cut_off(store)
    (found,) = await store.sessions.expired(AGENT, HERE)
    assert await store.sessions.renew(ROBIN, SID, "host/boot/1/abc") == "held"
    assert not await store.sessions.claim(found, "worker-1", instead_of="")
    assert await store.sessions.renew(ROBIN, SID, "host/boot/1/abc") == "held"


async def test_the_earlier_turns_are_those_of_an_interrupted_session(store):
    assert await store.sessions.left_off(ROBIN, SID) == []
    await cut_off(store)
    turns = [turn(0, "a", "assistant"), turn(1, "b")]
    await store.sessions.append(ROBIN, SID, turns)
    assert await store.sessions.left_off(ROBIN, SID) == turns
    await store.sessions.interrupt(ROBIN, SID, "lost")
    assert await store.sessions.left_off(ROBIN, SID) == turns
    await store.sessions.save(replace(CALL, status=SessionStatus.COMPLETE))
    assert await store.sessions.left_off(ROBIN, SID) == []


# ---------------------------------------------------------------- who is sent


async def test_an_agent_is_dispatched_to_a_waiting_caller(store, livekit):
    rooms, credentials = livekit
    await cut_off(store)
    sent = await asyncio.gather(*(resume.resume(store, credentials, AGENT, CALL) for _ in range(4)))
    assert sorted(sent) == [False, False, False, True]
    (dispatch,) = rooms.dispatches
    assert (dispatch.room, dispatch.agent_name) == (ROOM, AGENT)
    assert dispatch.metadata == plain_metadata(ROBIN, "caller-1")
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.ACTIVE


async def test_a_visitor_who_is_resumed_can_still_log_out(store, livekit):
    rooms, credentials = livekit
    made = now() - timedelta(minutes=2)
    await cut_off(store, replace(CALL, ticket=Ticket(SID, "seal", "browser", made, made)))
    (found,) = await store.sessions.expired(AGENT, HERE)
    assert await resume.resume(store, credentials, AGENT, found)
    room = Room(ROOM, SID, now() - timedelta(hours=3))
    dispatched = read_dispatch(rooms.dispatches[0].metadata, room=room, secret=SECRET)
    assert (dispatched.scope, dispatched.participant_identity) == (ROBIN, "caller-1")
    assert (dispatched.ticket.seal, dispatched.ticket.visitor, dispatched.ticket.made_at) == (None, "browser", made)
    assert "u-100" not in rooms.dispatches[0].metadata


async def test_a_guests_session_is_resumed_as_the_same_guest(store, livekit):
    rooms, credentials = livekit
    guest = UserScope.guest("acme")
    record = replace(CALL, scope=guest)
    await cut_off(store, record)
    assert await resume.resume(store, credentials, AGENT, record)
    dispatched = read_dispatch(rooms.dispatches[0].metadata, room=ROOM, secret=SECRET)
    assert (dispatched.scope, dispatched.guest, dispatched.participant_identity) == (guest, True, "caller-1")


@pytest.mark.parametrize("metadata", [{"guest_id": "u-100"}, {"guest_id": "guest-1"}, {"user_id": "u-1"}])
def test_nobody_becomes_a_person_or_somebody_elses_guest_by_the_id_of_a_guest(metadata):
    good = json.loads(resuming_metadata(UserScope.guest("acme")))
    dispatched = read_dispatch(json.dumps(good | metadata), room=ROOM, secret=SECRET)
    assert dispatched.guest
    assert dispatched.why
    assert dispatched.scope.user_id not in {"u-100", "u-1", good["guest_id"]}


@pytest.mark.parametrize("present", [[CALLER, AN_AGENT], [AN_AGENT]])
async def test_an_agent_that_is_still_in_the_room_is_not_doubled_and_keeps_its_call(store, livekit, present):
    rooms, credentials = livekit
    rooms.present = present
    await cut_off(store)
    assert not await resume.resume(store, credentials, AGENT, CALL)
    assert rooms.dispatches == []
    assert await store.sessions.renew(ROBIN, SID, "host/boot/1/abc") == "held", "the one in the room goes on"


async def test_one_whose_process_is_known_to_be_gone_is_removed_and_others_that_do_other_work_are_not(store, livekit):
    rooms, credentials = livekit
    translator = api.ParticipantInfo(identity="agent-AJ_9", kind=KIND.AGENT)
    rooms.present = [CALLER, AN_AGENT, translator]
    record = replace(CALL, agent_participant="agent-AJ_0")
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    owner = f"{process_name().rpartition('/')[0]}/{ended.pid}/abc"
    await store.sessions.open(record, owner)
    assert await store.sessions.expired(AGENT, HERE) == []
    ((found, dead),) = await store.sessions.orphaned(AGENT, HERE)
    assert (found.agent_participant, dead) == ("agent-AJ_0", owner)
    assert await store.sessions.orphaned("elsewhere", HERE) == []
    await store.sessions.open(replace(record, livekit="livekit.example.com"), owner)
    assert await store.sessions.orphaned(AGENT, HERE) == [], "another project has its own workers"
    await store.sessions.open(replace(record, livekit=HERE), owner)
    assert await resume.resume(store, credentials, AGENT, found, dead=dead)
    assert [each.identity for each in rooms.present] == ["caller-1", "agent-AJ_9"]
    assert await store.sessions.orphaned(AGENT, HERE) == []


async def test_an_agent_of_another_kind_does_not_stand_for_the_one_that_is_gone(store, livekit):
    rooms, credentials = livekit
    rooms.present = [CALLER, api.ParticipantInfo(identity="agent-AJ_9", kind=KIND.AGENT)]
    record = replace(CALL, agent_participant="agent-AJ_0")
    await cut_off(store, record)
    assert await resume.resume(store, credentials, AGENT, record)


@pytest.mark.parametrize("owner", ["", "/", "host", "elsewhere/boot/1/abc", "{here}/nonsense/abc", "{here}/{me}/abc"])
def test_only_a_process_of_this_machine_is_known_to_be_gone(owner):
    here, _, me = process_name().rpartition("/")
    assert not is_gone(owner.format(here=here, me=me))


async def test_an_agent_that_is_on_its_way_is_not_doubled_and_one_that_never_came_is_sent_again(store, livekit):
    rooms, credentials = livekit
    dispatch = api.AgentDispatch(id="AD_0", agent_name=AGENT, room=ROOM)
    rooms.under_way = [dispatch]

    async def is_sent(seconds_ago, *jobs, deleted=0):
        rooms.dispatches.clear()
        dispatch.state.created_at = time.time_ns() - int(seconds_ago * 1e9)
        dispatch.state.deleted_at = deleted
        del dispatch.state.jobs[:]
        for status in jobs:
            dispatch.state.jobs.add().state.status = status
        await run_out(store)
        return await resume.resume(store, credentials, AGENT, CALL)

    await cut_off(store)
    assert not await is_sent(1)
    assert not await is_sent(1, JobStatus.JS_RUNNING)
    assert await is_sent(1, JobStatus.JS_FAILED)
    assert await is_sent(1, deleted=1)
    assert await is_sent(2 * resume.DISPATCH_TIMEOUT)
    assert await is_sent(3_600, JobStatus.JS_RUNNING), "the one whose worker died: the server takes it for running"


@pytest.mark.parametrize("present", [[], [OTHER], None])
async def test_a_session_without_participants_is_ended(store, livekit, present):
    rooms, credentials = livekit
    if present is None:
        rooms.names.clear()
    rooms.present = present
    await cut_off(store)
    await store.sessions.append(ROBIN, SID, [turn(0, "a"), turn(7, "b")])
    assert not await resume.resume(store, credentials, AGENT, CALL)
    record = await store.sessions.get(ROBIN, SID)
    assert (record.status, record.close_reason) == (SessionStatus.INTERRUPTED, "lost")
    assert record.ended_at == CALL.started_at.replace(microsecond=record.ended_at.microsecond) + timedelta(seconds=7)
    assert rooms.dispatches == []
    assert await store.sessions.expired(AGENT, HERE) == [], "it would be looked into again and again"


async def test_a_room_that_cannot_be_inspected_does_not_block_others(store, livekit, monkeypatch):
    rooms, credentials = livekit
    monkeypatch.setattr(resume, "POLL_INTERVAL", 0.02)
    look_into = resume._inspect_room

    async def fails_for_the_first(credentials, record, **more):
        if record.session_id == "broken":
            raise LkmongoError
        return await look_into(credentials, record, **more)

    monkeypatch.setattr(resume, "_inspect_room", fails_for_the_first)
    for name in ("broken", SID):
        await cut_off(store, replace(CALL, session_id=name))
    sweeping = asyncio.create_task(resume.resume_lost_sessions(store, credentials, AGENT))
    await until(lambda: rooms.dispatches)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


# ---------------------------------------------------------------- going on


async def test_the_chat_context_of_the_earlier_turns(store):
    script = calls(("remember_detail", {"memory_type": "color", "content": "teal"}), greeting="Hello there.")
    async with talk(store, ROBIN, script, session_id=SID) as call:
        await call.say("remember that my color is teal")
        call.llm.script = calls(("recall_detail", {"memory_type": "size"}))
        await call.say("what is my size?")
        expected = [item for item in call.session.history.items if item.type != "agent_config_update"]
    turns = await store.sessions.turns(ROBIN, SID)
    told = resume.chat_context(turns)

    def plain(item):
        if item.type == "message":
            return (item.type, item.id, item.role, item.text_content, item.interrupted)
        if item.type == "function_call":
            return (item.type, item.name, json.loads(item.arguments))
        return (item.type, item.name, item.output, item.is_error)

    items = [item for item in expected if item.type != "agent_handoff"]
    assert [plain(item) for item in told.items] == [plain(item) for item in items]
    names = {item.call_id: item.name for item in told.items if item.type == "function_call"}
    assert {item.call_id: item.name for item in told.items if item.type == "function_call_output"} == names


async def test_a_long_chat_context_is_cut_at_the_start_and_never_inside_a_tool_call(store):
    turns = [
        turn(seq, f"i-{seq}")
        if seq % 2
        else Turn(seq, f"i-{seq}", TurnKind.TOOL, CALL.started_at, name="look", output="x", arguments="{}")
        for seq in range(999)
    ]
    turns += [Turn(999, "cut", TurnKind.TOOL, CALL.started_at, name="look", arguments="{}")]
    items = resume.chat_context(turns).items
    assert items[-1].type == "function_call_output"
    assert {item.call_id for item in items if item.type == "function_call"} == {
        item.call_id for item in items if item.type == "function_call_output"
    }
    assert len(items) < 500


@pytest.mark.parametrize("mind", ["language model", "responder"])
async def test_the_agent_resumes_without_greeting_in_one_ordered_record(store, mind):
    before = [turn(0, "a", "assistant", "Hello, I am your assistant."), turn(1, "b", "user", "hi")]
    before += [turn(2, "c", "assistant", "How can I help?")]
    await cut_off(store)
    await store.sessions.append(ROBIN, SID, before)
    agent = Assistant()
    await agent.update_chat_ctx(resume.chat_context(before))
    model = DemoLLM() if mind == "responder" else None
    script = calls(greeting="Hello, I am new here.")
    if not model:

        def script(context):
            waits = [item for item in context.items if item.type == "message" and item.role == "user"]
            return [f"I am back: {waits[-1].text_content}"]

    async with talk(store, ROBIN, script, agent=agent, session_id=SID, resumed=before, model=model) as call:
        await until(lambda: any(item.role == "assistant" for item in call.session.history.messages()))
        (said,) = [item.text_content for item in call.session.history.messages() if item.role == "assistant"]
        assert not said.startswith(("Hello", "Hi"))
        if not model:
            asked = "\n".join(item.text_content or "" for item in call.llm.contexts[0].items if item.type == "message")
            assert agent.resumption in asked
            assert agent.greeting not in asked
        await call.say("remember that my favorite color is teal")
    turns = await store.sessions.turns(ROBIN, SID)
    assert [each.item_id for each in turns[:3]] == ["a", "b", "c"]
    assert [each.seq for each in turns] == list(range(len(turns)))
    assert turns[3].content == said
    record = await store.sessions.get(ROBIN, SID)
    assert (record.status, record.started_at) == (SessionStatus.COMPLETE, before_seconds(CALL.started_at))


async def test_the_last_unanswered_utterance_is_answered(store):
    before = [turn(0, "a", "assistant", "Hello."), turn(1, "b", "user", "what is my size?")]
    agent = Assistant()
    await agent.update_chat_ctx(resume.chat_context(before))
    async with talk(store, ROBIN, lambda _: ["Large."], agent=agent, session_id=SID, resumed=before) as call:
        await until(call.session.history.messages)
        asked = call.llm.contexts[0].items
        assert not any("cut off" in (item.text_content or "") for item in asked if item.type == "message")
        assert [item.text_content for item in asked if item.type == "message"][-1] == "what is my size?"


def before_seconds(moment):
    """As MongoDB keeps it: whole milliseconds."""
    return moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)


# ---------------------------------------------------------------- two agents at once


def say(recorder, text):
    recorder._on_item(ConversationItemAddedEvent(item=llm.ChatMessage(role="user", content=[text])))


async def said(store):
    return [each.content for each in await store.sessions.turns(ROBIN, SID)]


async def test_a_superseded_agent_writes_nothing_more(store, monkeypatch, caplog):
    monkeypatch.setattr(deadlines, "TURN_ORDER", 0.01)
    monkeypatch.setattr("lkmongo.deadlines.LEASE_RENEWAL_EVERY", 0.02)
    first, second = (recorder_of(store, ROBIN, SID, ROOM) for _ in range(2))
    first.start()
    say(first, "one")
    await until(lambda: said(store))
    second.start()
    say(second, "two")
    await until(lambda: first.lease.superseded)
    say(first, "lost in the void")
    assert [each.content for each in first.turns] == ["one"]
    assert "another agent has taken over this session" in caplog.text
    with pytest.raises(SupersededError):
        async with first.lease.writing():
            pytest.fail("it may not write")
    assert not await first.close("late", lambda: {"of": "the first"})
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.ACTIVE
    say(second, "three")
    assert await second.close("hang-up", lambda: {"of": "the second"})
    assert await said(store) == ["one", "two", "three"]
    record = await store.sessions.get(ROBIN, SID)
    assert (record.close_reason, record.report) == ("hang-up", {"of": "the second"})


async def test_a_superseded_agent_with_a_trusted_lease_cannot_end_the_session(store):
    first, second = (recorder_of(store, ROBIN, SID, ROOM) for _ in range(2))
    async with first.lease.writing():
        pass
    async with second.lease.writing():
        pass
    assert not await first.close("late", dict)
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.ACTIVE
    assert await store.sessions.live(ROBIN) == [SID]
    assert await second.close("hang-up", dict)


async def test_a_superseded_agent_does_not_reopen_a_completed_session(store):
    first, second = (recorder_of(store, ROBIN, SID, ROOM) for _ in range(2))
    async with first.lease.writing():
        pass
    assert await second.close("hang-up", dict)
    with pytest.raises(SupersededError):
        await first.lease.check()
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.COMPLETE


async def test_turns_with_conflicting_numbers_are_all_stored_in_order(store, monkeypatch):
    first, second = (recorder_of(store, ROBIN, SID, ROOM) for _ in range(2))
    for recorder in (first, second):
        async with recorder.lease.writing():
            pass
    say(first, "said to the first")
    await until(lambda: first._outbox.is_empty)  # it trusts its lease for some seconds
    say(second, "said to the second")
    await until(lambda: second._outbox.is_empty)
    late = Turn(2, "late", TurnKind.MESSAGE, now(), role="user", content="recovered from its journal")
    await store.sessions.append(ROBIN, SID, [late])
    say(second, "and again")
    assert await second.close("hang-up", dict)
    everything = ["said to the first", "said to the second", "recovered from its journal", "and again"]
    assert await said(store) == everything
    assert [each.seq for each in await store.sessions.turns(ROBIN, SID)] == [0, 1, 2, 3]
    say(first, "too late")
    assert not await first.close("late", dict)
    assert first.lease.superseded
    assert await said(store) == everything


async def test_a_number_that_another_turn_has_is_refused_and_the_same_turn_is_not(store):
    await store.sessions.append(ROBIN, SID, [turn(0, "a"), turn(1, "b")])
    await store.sessions.append(ROBIN, SID, [turn(0, "a"), turn(1, "b")])
    with pytest.raises(TakenError):
        await store.sessions.append(ROBIN, SID, [turn(1, "c")])
    assert [each.item_id for each in await store.sessions.turns(ROBIN, SID)] == ["a", "b"]


async def test_whether_another_agent_has_the_session_is_asked_without_writing_one(store):
    first, second = Lease(store, CALL), Lease(store, CALL)
    assert not await first.is_taken_over()
    assert await store.sessions.get(ROBIN, SID) is None
    for lease in (first, second):
        await lease.check()
    assert [await lease.is_taken_over() for lease in (first, second)] == [True, False]
    for lease in (first, second):
        await lease.release()


async def test_a_session_mistaken_for_dead_continues_when_its_process_is_back(store):
    lease = Lease(store, CALL)
    await lease.check()
    await run_out(store)
    assert await store.sessions.interrupt_lost() == [(ROBIN, SID)]
    await lease.check()
    record = await store.sessions.get(ROBIN, SID)
    assert (record.status, record.ended_at, record.close_reason) == (SessionStatus.ACTIVE, None, None)
    assert not lease.superseded
    await lease.release()


async def test_the_rest_of_a_session_may_be_written_after_its_end(store):
    lease = Lease(store, CALL)
    await lease.check()
    record = replace(CALL, status=SessionStatus.COMPLETE, ended_at=now(), close_reason="hang-up")
    assert await store.sessions.save(record, owner=lease.owner, keep_lease=True)
    await run_out(store)
    await lease.check()
    async with lease.writing():
        pass
    there = await store.sessions.get(ROBIN, SID)
    assert (there.status, there.close_reason) == (SessionStatus.COMPLETE, "hang-up")
    await lease.release()
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.COMPLETE
