"""`lkmongo call`: what it orders, what it prints, and how it ends, with a stand-in for LiveKit's SIP service."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from lkmongo.dispatch import Room, read_dispatch
from lkmongo.model import UserScope
from lkmongo.outbound import Answer, Outcome, dial, tell
from lkmongo.settings import LiveKitCredentials
from lkmongo.store.people.audit import Audit, AuditFilter
from tests import sip_server
from tests.livekit_api import KEY, SECRET, Rooms
from tests.sip_server import ANSWERED, BUSY, DECLINED, NO_ANSWER, Telephony

NUMBER, AGENT = "+49307654321", "lkmongo-agent"
PAIR = {"LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
ROBIN = UserScope(tenant_id="acme", user_id="u-100")


class Exchange:
    """LiveKit with an agent that takes orders, for `lkmongo call` in a process of its own."""

    def __init__(self, run) -> None:
        self.telephony, self.rooms = Telephony(), Rooms(workers={AGENT: "joins"}, on_dispatch=self._dials)
        self.trunk = self.telephony.add_outbound(address="sip.example.org", numbers=["+49309999999"])
        self.orders = []
        self.machine = False
        self._run = run
        self._port = 0

    @asynccontextmanager
    async def open(self):
        async with TestServer(sip_server.create_app(self.telephony, rooms=self.rooms)) as server:
            self._port = server.port
            yield self

    async def call(self, *arguments, env=(), number=NUMBER):
        url = {"LIVEKIT_URL": f"ws://127.0.0.1:{self._port}", "LKMONGO_SIP_TRUNK": self.trunk}
        everything = PAIR | url | dict(env)
        return await asyncio.to_thread(self._run, "call", number, "--user", "u-100", *arguments, env=everything)

    async def _dials(self, sent) -> None:
        found = read_dispatch(sent.metadata, room=Room(sent.room, f"RM_{sent.room}"), secret=SECRET)
        self.orders.append(found.outbound)
        credentials = LiveKitCredentials(f"ws://127.0.0.1:{self._port}", KEY, SecretStr(SECRET))
        answer = await dial(credentials, found.outbound, sent.room, found.participant_identity)
        await tell(credentials, sent.room, Answer(Outcome.VOICEMAIL) if self.machine else answer)


@pytest.fixture
async def exchange(run):
    async with Exchange(run).open() as there:
        yield there


@pytest.mark.parametrize(
    ("how", "outcome", "status", "code", "error"),
    [
        (ANSWERED, "answered", None, 0, None),
        (BUSY, "busy", 486, 3, "not_reached"),
        (NO_ANSWER, "no answer", None, 3, "not_reached"),
        (DECLINED, "refused", 603, 1, "call_failed"),
        (404, "failed", 404, 1, "call_failed"),
    ],
)
async def test_the_outcome_is_printed_and_is_the_exit_code(exchange, how, outcome, status, code, error):
    exchange.telephony.answers[NUMBER] = how
    result = await exchange.call("--tenant", "acme", "--json")
    assert result.code == code, result.stderr
    room = result.json["room_name"]
    assert result.json == {
        "user_id": "u-100",
        "tenant_id": "acme",
        "last_digits": "21",
        "trunk": exchange.trunk,
        "agent_name": AGENT,
        "dry_run": False,
        "room_name": room,
        "session_id": f"RM_{room}",
        "outcome": outcome,
        "sip_status": status,
    }
    (order,) = exchange.orders
    assert (order.scope, order.number.text, order.trunk) == (ROBIN, NUMBER, exchange.trunk)
    if error:
        assert json.loads(result.stderr.splitlines()[-1])["error"]["code"] == error
    assert "lkmongo-agent is in the room" in result.stderr
    assert "7654321" not in result.stdout + result.stderr


async def test_a_machine_is_another_time(exchange):
    exchange.machine = True
    result = await exchange.call()
    assert (result.code, result.stdout) == (3, "u-100: voicemail\n")
    assert "u-100 was not reached: voicemail" in result.stderr
    assert "try again later" in result.stderr


async def test_it_rings_as_long_as_is_said_by_the_trunk_that_is_said(exchange):
    other = exchange.telephony.add_outbound(address="sip.example.com", numbers=["+49308888888"])
    result = await exchange.call("--trunk", other, "--timeout", "45s", "--json")
    assert (result.code, result.json["trunk"]) == (0, other)
    (order,) = exchange.orders
    assert (order.trunk, order.ringing) == (other, timedelta(seconds=45))


async def test_a_number_without_its_country_is_one_of_the_region(exchange):
    result = await exchange.call(number="030 7654321", env={"LKMONGO_PHONE_REGION": "DE"})
    assert result.code == 0, result.stderr
    assert exchange.orders[0].number.text == NUMBER


async def test_a_call_that_is_not_waited_for(exchange):
    exchange.rooms.workers.clear()
    result = await exchange.call("--no-wait", "--json")
    assert (result.code, result.json["outcome"]) == (0, None)
    assert len(exchange.rooms.dispatches) == 1
    plain = await exchange.call("--no-wait")
    assert plain.stdout == "u-100: the call is ordered\n"


async def test_a_dry_run_calls_nobody_and_looks_for_the_trunk(exchange, store):
    result = await exchange.call("--dry-run", "--tenant", "acme", "--json")
    assert (result.code, result.json["dry_run"], result.json["outcome"]) == (0, True, None)
    assert exchange.rooms.dispatches == []
    assert exchange.rooms.names == set()
    plain = await exchange.call("--dry-run")
    assert f"would call u-100 on the number that ends in 21, by {exchange.trunk}" in plain.stdout
    gone = await exchange.call("--dry-run", "--trunk", "ST_gone")
    assert (gone.code, "no outbound trunk ST_gone" in gone.stderr) == (5, True)
    assert [each.action async for each in Audit(store.db).all(AuditFilter())] == ["call --dry-run"] * 3


async def test_a_call_is_in_the_audit_trail_of_the_person(exchange, store):
    result = await exchange.call("--tenant", "acme", "--reason", "TICKET-17", env={"LKMONGO_OPERATOR": "sam"})
    assert result.code == 0, result.stderr
    (entry,) = await Audit(store.db).newest(AuditFilter(scope=ROBIN))
    assert (entry.action, entry.operator, entry.reason, entry.counts) == ("call", "sam", "TICKET-17", {"calls": 1})
    refused = await exchange.call(env={"LKMONGO_AUDIT": "reason"})
    assert (refused.code, "add --reason" in refused.stderr) == (2, True)
    assert len(exchange.rooms.dispatches) == 1


async def test_somebody_of_whom_nothing_is_known_may_be_a_slip(exchange, store):
    assert "nothing is known of u-100 in tenant acme" in (await exchange.call("--tenant", "acme")).stderr
    await store.users.set_field(ROBIN, "name", "Robin")
    assert "nothing is known" not in (await exchange.call("--tenant", "acme")).stderr


# ---------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("number", "arguments", "said"),
    [
        ("hello", [], "that is not a telephone number"),
        ("030 7654321", [], "that is not a telephone number"),
        ("+49307654321;ext=12", [], "a number with an extension cannot be called"),
        (NUMBER, ["--timeout", "3m"], "a telephone cannot ring for 3m"),
        (NUMBER, ["--timeout", "1s"], "--timeout takes 5s to 80s"),
        (NUMBER, ["--timeout", "soon"], "'soon' is not a duration"),
        (NUMBER, ["--trunk", "main"], "--trunk 'main' is not the id of a trunk"),
        (NUMBER, ["--tenant", ""], "tenant"),
    ],
)
def test_bad_input_is_2_and_the_number_is_not_repeated(run_inside, number, arguments, said):
    result = run_inside("call", number, "--user", "u-100", *arguments, env={"LKMONGO_SIP_TRUNK": "ST_main"})
    assert (result.code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "7654321" not in result.stderr


def test_without_a_trunk_it_says_where_to_get_one(run_inside):
    result = run_inside("call", NUMBER, "--user", "u-100")
    assert result.code == 2
    assert "there is no trunk to call by" in result.stderr
    assert "lkmongo phone setup" in result.stderr
    wrong = run_inside("call", NUMBER, "--user", "u-100", env={"LKMONGO_SIP_TRUNK": NUMBER})
    assert (wrong.code, "LKMONGO_SIP_TRUNK" in wrong.stderr) == (2, True)
    assert "7654321" not in wrong.stderr


def test_without_livekit_it_says_what_is_missing(run):
    result = run("call", NUMBER, "--user", "u-100", "--trunk", "ST_main")
    assert (result.code, "LIVEKIT_URL" in result.stderr) == (2, True)


async def test_without_an_agent_nobody_is_called(exchange):
    exchange.rooms.workers[AGENT] = "fails"
    exchange.rooms.on_dispatch = None
    result = await exchange.call("--json")
    assert (result.code, result.stdout) == (1, "")
    assert "ended before the agent joined" in result.stderr
    assert exchange.rooms.names == set(), "an agent that comes later would dial"
    assert exchange.telephony.dialled == []
