"""The agent telephones: in LiveKit's mock room, with a stand-in for its SIP service and the SDK's own detection."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from livekit import api, rtc
from livekit.agents import llm, utils
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.testing import fake_job_context
from livekit.rtc.event_emitter import EventEmitter

from lkmongo.agent.assistant import CALLING, VOICEMAIL
from lkmongo.agent.models import ModelChoice
from lkmongo.dispatch import CALL_LIFE, LEEWAY, Outbound, Room, call_metadata
from lkmongo.model import SessionStatus, UserScope, now
from lkmongo.outbound import Answer, Outcome
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.settings import Settings
from lkmongo.store.mongo import client
from lkmongo.worker.job import JobSession
from lkmongo.worker.outbound import OutboundCall
from lkmongo.worker.prewarm import Prewarm
from tests import sip_server
from tests.fake_llm import ScriptedLLM
from tests.livekit_api import KEY, SECRET, Rooms
from tests.sip_server import BUSY, DECLINED, NO_ANSWER, RINGS, Dialled, Telephony
from tests.waiting import until

NUMBER = "+49301234567"
ROBIN = UserScope(tenant_id="default", user_id="u-100")
CALLEE, SID = "callee-1", "RM_room"


@dataclass
class Telephone:
    """The job that calls, and what happens around it."""

    room: Any
    rooms: Rooms
    telephony: Telephony
    settings: Settings
    model: ScriptedLLM
    is_over: bool = False
    job_session: Any = None
    verdict: str = "human"

    @property
    def answer(self) -> Answer | None:
        """What whoever ordered the call is told."""
        return Answer.of(self.rooms.metadata.get("room", ""))

    @property
    def session(self) -> Any:
        return self.job_session._agent_session

    def shut_down(self, reason: str = "") -> None:
        """LiveKit's job is over."""
        self.is_over = True

    @property
    def greeted(self) -> bool:
        """Whether the agent has said something."""
        return any(message.role == "assistant" for message in self.session.history.messages())

    async def joins(self, call: Dialled | None = None, status: str = "active") -> None:
        """The telephone's participant is in the room."""
        track = SimpleNamespace(
            kind=rtc.TrackKind.KIND_AUDIO,
            source=rtc.TrackSource.SOURCE_UNKNOWN,  # else the SDK listens to it
            subscribed=True,
            track=object(),
            sid="TR_1",
        )
        participant = SimpleNamespace(
            identity=call.identity if call else CALLEE,
            sid="PA_1",
            kind=rtc.ParticipantKind.PARTICIPANT_KIND_SIP,
            state=rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE,
            attributes={"sip.callStatus": status},
            track_publications={"TR_1": track},
            disconnect_reason=None,
            metadata="",
            name="",
        )
        self.room.remote_participants[participant.identity] = participant
        self.rooms.present = [api.ParticipantInfo(identity=participant.identity)]
        for event in ("participant_connected", "participant_active"):
            self.room.emit(event, participant)

    def leaves(self, reason: str) -> None:
        participant = self.room.remote_participants.pop(CALLEE)
        participant.disconnect_reason = rtc.DisconnectReason.Value(reason)
        self.room.emit("participant_disconnected", participant)

    async def says(self, words: str) -> None:
        """Whoever has answered speaks, as the SDK's ears would tell its detection."""
        await until(lambda: self.session._amd and self.session._amd.started)
        detection = self.session._amd
        detection._on_user_speech_started()
        detection._on_transcript(words)
        detection._on_user_speech_ended(2.0)
        self.session._conversation_item_added(llm.ChatMessage(role="user", content=[words]))
        detection._classifier.on_end_of_turn()

    def think(self, context: Any) -> list[Any]:
        """What the language model says: it classifies for the detection, and talks otherwise."""
        if "Classify the call greeting" in str(context.items[0].content):
            return [("save_prediction", {"label": self.verdict})]
        return ["Good morning, this is an assistant."]

    async def records(self, store: Any) -> list[dict[str, Any]]:
        return await store.db.sessions.find({}).to_list()


def order(trunk: str, **changes: Any) -> str:
    call = Outbound(ROBIN, PhoneNumber(NUMBER), trunk, timedelta(seconds=30))
    wanted = {"room": Room("room", SID), "participant_identity": CALLEE, "secret": SECRET} | changes
    return call_metadata(call, **wanted)


@pytest.fixture
async def telephone(mongodb_uri, database_name, store, monkeypatch):
    rooms, telephony = Rooms({"room"}), Telephony()
    trunk = telephony.add_outbound(address="sip.example.org", numbers=["+49309999999"])
    room = create_mock_room.__wrapped__()
    emitter = EventEmitter()
    room.name, room.on, room.off, room.emit = "room", emitter.on, emitter.off, emitter.emit
    room.remote_participants = {}
    async with TestServer(sip_server.create_app(telephony, rooms=rooms)) as server:
        settings = Settings.load(
            {
                "MONGODB_URI": mongodb_uri,
                "MONGODB_DB": database_name,
                "LIVEKIT_URL": f"ws://127.0.0.1:{server.port}",
                "LIVEKIT_API_KEY": KEY,
                "LIVEKIT_API_SECRET": SECRET,
                "LKMONGO_SIP_TRUNK": trunk,
                "LKMONGO_SPEECH": "off",
            }
        )
        there = Telephone(room, rooms, telephony, settings, ScriptedLLM(lambda _: []))
        there.model.script = there.think
        telephony.on_dial = there.joins
        yield there


@pytest.fixture
def calling(telephone, monkeypatch):
    """Take the job of a call; the block runs while it goes on."""

    @asynccontextmanager
    async def calling(metadata: str | None = None, *, thinks: bool = True, aloud: bool = True, ends: bool = True):
        if aloud:  # there is no sound in the mock room
            begin = OutboundCall.begin
            monkeypatch.setattr(OutboundCall, "begin", lambda self, session, **_: begin(self, session, aloud=True))
        ready = Prewarm(telephone.settings)
        if thinks:
            ready.model = ModelChoice(telephone.model, "scripted")
        trunk = telephone.settings.sip_trunk
        try:
            async with utils.http_context.open():
                with fake_job_context(room=telephone.room, job_metadata=metadata or order(trunk)) as job:
                    job.job.room.sid = SID
                    job.shutdown = telephone.shut_down
                    telephone.job_session = JobSession(job, ready)
                    await telephone.job_session.begin()
                    try:
                        yield telephone
                    finally:
                        if ends:
                            await telephone.session.aclose()
                        await telephone.job_session.end()
        finally:
            client._abandon()

    return calling


# ---------------------------------------------------------------------- nobody answers


@pytest.mark.parametrize(
    ("how", "outcome", "status"),
    [
        (BUSY, "busy", 486),
        (NO_ANSWER, "no answer", None),
        (DECLINED, "refused", 603),
        (404, "failed", 404),
    ],
)
async def test_an_attempt_is_recorded_once_under_the_person_without_the_number(
    calling, telephone, store, how, outcome, status
):
    telephone.telephony.answers[NUMBER] = how
    async with calling():
        await until(lambda: telephone.is_over)
    assert telephone.answer.outcome == outcome
    (record,) = await telephone.records(store)
    assert (record["user_id"], record["status"], record["close_reason"]) == ("u-100", "complete", outcome)
    assert record["report"]["phone"] == {
        "level": "recognised",
        "number": "…67",
        "direction": "outbound",
        "outcome": outcome,
        "sip_status": status,
    }
    assert "1234567" not in str(record)
    assert await store.db.turns.count_documents({}) == 0
    assert await store.users.get(ROBIN) is None, "an attempt is no memory of theirs"
    assert telephone.model.contexts == [], "there is nobody to greet"


async def test_a_telephone_whose_participant_leaves_first_has_the_same_outcome(calling, telephone, store):
    async def busy(call: Dialled) -> None:
        await telephone.joins(call, "dialing")
        telephone.leaves("USER_REJECTED")  # whereupon the SDK closes the session

    telephone.telephony.on_dial = busy
    telephone.telephony.answers[NUMBER] = BUSY
    async with calling():
        await until(lambda: telephone.is_over)
    (record,) = await telephone.records(store)
    assert (record["user_id"], record["close_reason"]) == ("u-100", "busy")


async def test_a_worker_that_stops_lets_no_telephone_ring(calling, telephone, store):
    telephone.telephony.answers[NUMBER] = RINGS
    async with calling():
        await until(lambda: telephone.telephony.dialled and telephone.rooms.present)
    assert telephone.rooms.present == [], "it still rings"
    assert telephone.answer.outcome is Outcome.FAILED
    (record,) = await telephone.records(store)
    assert (record["user_id"], record["close_reason"]) == ("u-100", "failed")


async def test_a_worker_without_a_voice_lets_no_telephone_ring(calling, telephone, store):
    async with calling(aloud=False):
        await until(lambda: telephone.is_over)
    assert telephone.telephony.dialled == []
    assert "cannot speak" in telephone.answer.why
    (record,) = await telephone.records(store)
    assert record["close_reason"] == "failed"


@pytest.mark.parametrize(
    "changes", [{"at": now() - CALL_LIFE - LEEWAY - timedelta(minutes=1)}, {"secret": SECRET + "!"}]
)
async def test_an_order_that_is_old_or_not_ours_is_dialled_by_nobody(calling, telephone, store, changes):
    async with calling(order(telephone.settings.sip_trunk, **changes)):
        await until(lambda: telephone.is_over)
    assert telephone.telephony.dialled == []
    assert telephone.answer.outcome is Outcome.FAILED
    (record,) = await telephone.records(store)
    assert UserScope(tenant_id=record["tenant_id"], user_id=record["user_id"]).is_guest, "it may not be about anybody"


# ---------------------------------------------------------------------- a machine answers


@pytest.mark.parametrize("verdict", ["machine-vm", "uncertain"])
async def test_a_machine_is_told_one_neutral_sentence_and_its_words_are_nowhere(
    calling, telephone, store, monkeypatch, verdict
):
    said = []
    telephone.verdict = verdict
    async with calling():
        await until(lambda: telephone.session._amd and telephone.session._amd.started)
        say = telephone.session.say
        monkeypatch.setattr(telephone.session, "say", lambda words, **more: (said.append(words), say(words, **more))[1])
        if verdict == "uncertain":
            telephone.session._amd._classifier.settle("uncertain", "no_speech_timeout")
        else:
            await telephone.says("This is the mailbox of Robin Miller, please leave a message")
        await until(lambda: telephone.is_over)
    assert said == [VOICEMAIL]
    assert telephone.answer.outcome is Outcome.VOICEMAIL
    assert telephone.rooms.present == [], "nobody hung up"
    (record,) = await telephone.records(store)
    assert (record["user_id"], record["close_reason"]) == ("u-100", "voicemail")
    assert await store.db.turns.count_documents({}) == 0
    assert "Miller" not in str([record, await store.db.users.find({}).to_list()])
    assert all("Miller" not in path.read_text() for path in telephone.settings.data_home.rglob("*.jsonl"))


async def test_a_menu_is_told_nothing(calling, telephone, store, monkeypatch):
    telephone.verdict = "machine-ivr"
    async with calling():
        monkeypatch.setattr(telephone.session, "say", pytest.fail)
        await telephone.says("Press one for sales")
        await until(lambda: telephone.is_over)
    (record,) = await telephone.records(store)
    assert record["close_reason"] == "voicemail"


async def test_without_a_language_model_whatever_answers_counts_as_a_machine(calling, telephone, store):
    async with calling(thinks=False):
        await until(lambda: telephone.is_over)
    assert telephone.answer.outcome is Outcome.VOICEMAIL
    assert telephone.rooms.present == []
    (record,) = await telephone.records(store)
    assert (record["user_id"], record["close_reason"]) == ("u-100", "voicemail")


# ---------------------------------------------------------------------- a person answers


async def test_a_person_is_greeted_only_when_they_have_answered_and_as_nobody_in_particular(calling, telephone, store):
    await store.users.set_field(ROBIN, "name", "Robin")
    telephone.telephony.answers[NUMBER] = RINGS
    async with calling():
        await until(lambda: telephone.session._amd)
        assert telephone.model.contexts == [], "it talks while the telephone rings"
        telephone.telephony.picked_up.set()
        await telephone.says("Hello?")
        await until(lambda: telephone.greeted)
        assert telephone.answer == Answer(Outcome.ANSWERED)
        greeting = str(telephone.model.contexts[-1].items)
        assert CALLING[:40] in greeting
        assert "Robin" not in greeting
        assert not telephone.is_over
        assert telephone.rooms.present, "they are hung up on"
        telephone.leaves("CLIENT_INITIATED")
        await until(lambda: telephone.is_over)
    (record,) = await telephone.records(store)
    assert UserScope(tenant_id=record["tenant_id"], user_id=record["user_id"]).is_guest
    assert record["close_reason"] == "hang-up"
    assert record["report"]["phone"]["outcome"] == "answered"
    assert "1234567" not in str(record)
    turns = await store.db.turns.find({}).sort("seq").to_list()
    assert [turn["content"] for turn in turns] == ["Hello?", "Good morning, this is an assistant."]


async def test_a_telephone_that_another_worker_has_dialled_is_not_dialled_again(calling, telephone):
    await telephone.joins(status="active")
    async with calling():
        await telephone.says("Hello?")
        await until(lambda: telephone.greeted)
        assert telephone.answer == Answer(Outcome.ANSWERED)
    assert telephone.telephony.dialled == []


async def test_a_call_whose_worker_dies_is_found_by_others_as_a_guests(calling, telephone, store):
    telephone.telephony.answers[NUMBER] = RINGS
    async with calling():
        await until(lambda: telephone.records(store))
        (record,) = await telephone.records(store)
        assert record["status"] == SessionStatus.ACTIVE
        assert UserScope(tenant_id=record["tenant_id"], user_id=record["user_id"]).is_guest
        assert record["participant"] == CALLEE


async def test_the_order_is_in_no_log(calling, telephone, caplog):
    telephone.telephony.answers[NUMBER] = 404
    with caplog.at_level("DEBUG"):
        async with calling():
            await until(lambda: telephone.is_over)
    assert "the call: failed" in caplog.text
    assert "1234567" not in caplog.text.replace(json.dumps(NUMBER), "")


async def test_whoever_answers_is_the_person_only_once_they_say_who_they_are(calling, telephone, store):
    await store.users.set_field(ROBIN, "name", "Robin")
    await store.memories.remember(ROBIN, "allergy", "penicillin")
    async with calling():
        await telephone.says("Hello?")
        await until(lambda: telephone.greeted)
        caller = telephone.job_session._lifetime.caller
        assert (caller.caller.guest, str(caller.trust), dict(caller.facts)) == (True, "recognised", {})
        assert "penicillin" not in str([context.items for context in telephone.model.contexts])
        await telephone.session.run(user_input="This is Robin.")
        assert (caller.scope, str(caller.trust)) == (ROBIN, "named")
        telephone.leaves("CLIENT_INITIATED")
        await until(lambda: telephone.is_over)
    (record,) = await telephone.records(store)
    assert (record["user_id"], record["close_reason"]) == ("u-100", "hang-up")
    told = record["report"]["phone"]
    assert (told["outcome"], told["level"], told["direction"]) == ("answered", "named", "outbound")


async def test_a_call_that_is_not_agreed_to_be_kept_is_nobodys(calling, telephone, store, tmp_path):
    """Where the tenant asks for consent, an attempt could ask nobody."""
    (tmp_path / "tenants.yaml").write_text("default: {consent: ask}\n")
    telephone.settings = telephone.settings.model_copy(update={"tenants": tmp_path / "tenants.yaml"})
    telephone.telephony.answers[NUMBER] = BUSY
    async with calling():
        await until(lambda: telephone.is_over)
    (record,) = await telephone.records(store)
    assert UserScope(tenant_id=record["tenant_id"], user_id=record["user_id"]).is_guest
    assert record["close_reason"] == "busy"
