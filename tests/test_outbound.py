"""Calls that the agent makes, with a stand-in for LiveKit: how each ends, and what whoever has ordered it learns."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from aiohttp.test_utils import TestServer
from livekit import api
from pydantic import SecretStr

from lkmongo import outbound
from lkmongo.dispatch import Outbound, Room, read_dispatch
from lkmongo.errors import NotFoundError, NotReadyError, NotSupportedError, UnreachableError
from lkmongo.livekit_api import JobFailedError
from lkmongo.model import UserScope
from lkmongo.outbound import Answer, Outcome, dial, outcome_of_status, place_call, tell
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.settings import LiveKitCredentials
from tests import livekit_api, sip_server
from tests.livekit_api import KEY, SECRET, Rooms
from tests.sip_server import BUSY, DECLINED, NO_ANSWER, TIMEOUT, UNAVAILABLE, Telephony

NUMBER = "+49301234567"
ROBIN = UserScope(tenant_id="default", user_id="u-100")
AGENT = "front-desk"


class Exchange:
    """LiveKit, with rooms and telephones."""

    def __init__(self) -> None:
        self.rooms = Rooms(workers={AGENT: "joins"})
        self.telephony = Telephony()
        self.call = Outbound(
            ROBIN,
            PhoneNumber(NUMBER),
            self.telephony.add_outbound(address="sip.example.org", numbers=["+49309999999"]),
            timedelta(seconds=7),
        )
        self.credentials = LiveKitCredentials("", KEY, SecretStr(SECRET))

    async def dials(self, sent: api.CreateAgentDispatchRequest) -> None:
        """What the agent does: it takes the order, dials, and says what became of the call."""
        found = read_dispatch(sent.metadata, room=Room(sent.room, f"RM_{sent.room}"), secret=SECRET)
        answer = await dial(self.credentials, found.outbound, sent.room, found.participant_identity)
        await tell(self.credentials, sent.room, answer)


@pytest.fixture
async def exchange():
    there = Exchange()
    async with TestServer(sip_server.create_app(there.telephony, rooms=there.rooms)) as server:
        there.credentials = LiveKitCredentials(f"ws://127.0.0.1:{server.port}", KEY, SecretStr(SECRET))
        yield there


# ---------------------------------------------------------------------- how a call ends


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.ANSWERED),
        (486, Outcome.BUSY),
        (600, Outcome.BUSY),
        (408, Outcome.NO_ANSWER),
        (480, Outcome.NO_ANSWER),
        (487, Outcome.NO_ANSWER),
        (403, Outcome.REFUSED),
        (603, Outcome.REFUSED),
        (607, Outcome.REFUSED),
        (608, Outcome.REFUSED),
        (0, Outcome.FAILED),
        (404, Outcome.FAILED),
        (484, Outcome.FAILED),
        (500, Outcome.FAILED),
        (503, Outcome.FAILED),
        (604, Outcome.FAILED),
    ],
)
def test_what_a_status_of_the_telephone_network_means(status, outcome):
    assert outcome_of_status(status) is outcome


@pytest.mark.parametrize(
    ("how", "outcome", "status"),
    [
        (sip_server.ANSWERED, Outcome.ANSWERED, None),
        (NO_ANSWER, Outcome.NO_ANSWER, None),
        (BUSY, Outcome.BUSY, 486),
        (600, Outcome.BUSY, 600),
        (UNAVAILABLE, Outcome.NO_ANSWER, 480),
        (TIMEOUT, Outcome.NO_ANSWER, 408),
        (487, Outcome.NO_ANSWER, 487),
        (DECLINED, Outcome.REFUSED, 603),
        (403, Outcome.REFUSED, 403),
        (404, Outcome.FAILED, 404),
        (503, Outcome.FAILED, 503),
    ],
)
async def test_the_outcome_is_what_livekit_says_of_the_call(exchange, how, outcome, status):
    exchange.telephony.answers[NUMBER] = how
    answer = await dial(exchange.credentials, exchange.call, "call-1", "callee-1")
    assert (answer.outcome, answer.sip_status) == (outcome, status)
    assert bool(answer.why) is (outcome is Outcome.FAILED)
    assert Answer.of(answer.text) == answer


async def test_others_in_the_room_see_no_number_and_it_rings_as_long_as_asked(exchange):
    await dial(exchange.credentials, exchange.call, "call-1", "callee-1")
    (dialled,) = exchange.telephony.dialled
    asked = dialled.request
    assert (asked.sip_call_to, asked.participant_identity, asked.room_name) == (NUMBER, "callee-1", "call-1")
    assert asked.wait_until_answered
    assert asked.ringing_timeout.seconds == 7
    assert "1234567" not in str(dialled.attributes) + asked.participant_identity + asked.participant_name


async def test_a_server_that_is_away_or_refuses_is_a_failed_call_and_no_number_is_told(exchange):
    nowhere = LiveKitCredentials("ws://127.0.0.1:1", KEY, SecretStr(SECRET))
    stranger = LiveKitCredentials(exchange.credentials.url, KEY, SecretStr(SECRET + "!"))
    for credentials in (nowhere, stranger):
        answer = await dial(credentials, exchange.call, "call-1", "callee-1")
        assert answer.outcome is Outcome.FAILED
        assert answer.why
        assert "1234567" not in answer.why

    async def blames(_: object) -> None:
        raise livekit_api.RefusedError(400, "invalid_argument", f"cannot call {NUMBER}")

    exchange.telephony.on_dial = blames
    answer = await dial(exchange.credentials, exchange.call, "call-1", "callee-1")
    assert answer == Answer(Outcome.FAILED, None, "cannot call …67")


@pytest.mark.parametrize(
    "text", ["", "hello", "7", "[]", '{"call": "maybe", "sip_status": 1, "why": null}', '{"a": 1}']
)
def test_metadata_of_a_room_that_say_something_else_are_no_answer(text):
    assert Answer.of(text) is None


# ---------------------------------------------------------------------- whoever orders it


@pytest.mark.parametrize(("how", "outcome"), [(sip_server.ANSWERED, Outcome.ANSWERED), (BUSY, Outcome.BUSY)])
async def test_who_orders_a_call_learns_what_became_of_it(exchange, how, outcome):
    exchange.rooms.on_dispatch = exchange.dials
    exchange.telephony.answers[NUMBER] = how
    said: list[str] = []
    placed = await place_call(exchange.credentials, exchange.call, agent_name=AGENT, on_status=said.append)
    assert placed.answer.outcome is outcome
    assert placed.session_id == f"RM_{placed.room}"
    assert len(exchange.telephony.dialled) == 1
    (sent,) = exchange.rooms.dispatches
    for told in (placed.room, sent.metadata, *said):
        assert "1234567" not in told
        assert "u-100" not in told


async def test_an_agent_that_is_gone_before_it_is_seen_has_said_it_all_the_same(exchange):
    exchange.rooms.workers[AGENT] = "fails"  # as a job does that is over
    exchange.telephony.answers[NUMBER] = BUSY
    answers = asyncio.Event()

    async def dials(sent) -> None:
        await exchange.dials(sent)
        answers.set()

    async def waits() -> None:
        await answers.wait()

    exchange.rooms.on_dispatch = dials
    exchange.rooms.before_listing = waits
    placed = await place_call(exchange.credentials, exchange.call, agent_name=AGENT)
    assert placed.answer.outcome is Outcome.BUSY


async def test_a_call_that_is_not_waited_for_is_ordered(exchange):
    exchange.rooms.workers.clear()
    placed = await place_call(exchange.credentials, exchange.call, agent_name=AGENT, wait=False)
    assert placed.answer is None
    assert len(exchange.rooms.dispatches) == 1
    assert placed.room in exchange.rooms.names


async def test_without_an_agent_the_call_is_called_off(exchange, monkeypatch):
    monkeypatch.setattr(outbound, "AGENT_ARRIVES", timedelta(seconds=0.3))
    exchange.rooms.workers.clear()
    with pytest.raises(NotReadyError, match="front-desk is not in"):
        await place_call(exchange.credentials, exchange.call, agent_name=AGENT)
    assert exchange.rooms.names == set(), "an agent that comes later would dial"
    assert exchange.telephony.dialled == []


async def test_an_agent_that_says_nothing_is_not_waited_for_for_ever(exchange, monkeypatch):
    monkeypatch.setattr(outbound, "_POLL", 0.01)

    async def leaves(_: object) -> None:
        await asyncio.sleep(0.5)
        exchange.rooms.present = []

    exchange.rooms.on_dispatch = leaves
    with pytest.raises(JobFailedError, match="it is not known what became of the call") as raised:
        await place_call(exchange.credentials, exchange.call, agent_name=AGENT)
    assert "has left" in raised.value.why


async def test_while_livekit_does_not_answer_the_call_goes_on(exchange):
    async def dials(sent):
        exchange.rooms.failing = 2
        await exchange.dials(sent)

    exchange.rooms.on_dispatch = dials
    placed = await place_call(exchange.credentials, exchange.call, agent_name=AGENT)
    assert (placed.answer.outcome, exchange.rooms.failing) == (Outcome.ANSWERED, 0)


async def test_a_call_of_which_nothing_is_heard_any_more_says_that_livekit_is_away(exchange, monkeypatch):
    monkeypatch.setattr(outbound, "VERDICT", timedelta(seconds=-5))

    async def leaves(_):
        exchange.rooms.failing = 1_000

    exchange.rooms.on_dispatch = leaves
    with pytest.raises(UnreachableError):
        await place_call(exchange.credentials, exchange.call, agent_name=AGENT)


async def test_a_trunk_that_is_not_there_is_named_before_anybody_is_sent(exchange):
    wrong = Outbound(ROBIN, PhoneNumber(NUMBER), "ST_gone")
    with pytest.raises(NotFoundError, match="no outbound trunk ST_gone") as raised:
        await place_call(exchange.credentials, wrong, agent_name=AGENT)
    assert "lkmongo phone setup" in raised.value.hint
    assert exchange.rooms.dispatches == []


async def test_a_server_without_telephony_is_told_from_one_that_is_away(exchange):
    async with TestServer(livekit_api.create_app()) as server:
        plain = LiveKitCredentials(f"ws://127.0.0.1:{server.port}", KEY, SecretStr(SECRET))
        with pytest.raises(NotSupportedError, match="cannot make telephone calls"):
            await place_call(plain, exchange.call, agent_name=AGENT)
    nowhere = LiveKitCredentials("ws://127.0.0.1:1", KEY, SecretStr(SECRET))
    with pytest.raises(UnreachableError):
        await place_call(nowhere, exchange.call, agent_name=AGENT)
