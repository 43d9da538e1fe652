"""The agent telephones, through a real LiveKit server: only the telephone network is a stand-in, and who answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from unittest import mock

import pytest
import pytest_asyncio
from aiohttp import ClientSession, WSMsgType, web
from livekit import api

from lkmongo.agent.assistant import VOICEMAIL
from lkmongo.dispatch import Outbound
from lkmongo.model import UserScope
from lkmongo.outbound import Outcome, place_call
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.settings import LiveKitCredentials
from tests import livekit_api, sip_server
from tests.e2e.caller import Caller, inside
from tests.livekit_server import PATIENCE
from tests.sip_server import BUSY, RINGS, Dialled, Telephony
from tests.speech_gateway import Gateway, inference_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

OUTBOUND, NUMBER = "calling-agent", "+49301234567"
HELLO, MAILBOX = "Hello?", "You have reached the mailbox of Robin, please leave a message after the tone, thank you"
GREETING = "Good morning, this is an automated assistant."


class Exchange:
    """LiveKit with a telephone network in which one telephone is answered by somebody, or something."""

    def __init__(self, server, gateway: Gateway) -> None:
        self.telephony = Telephony(on_dial=self._rings)
        self.trunk = self.telephony.add_outbound(address="sip.example.org", numbers=["+49309999999"])
        self.callee: Caller | None = None
        self.ringing = asyncio.Event()
        self.gateway = gateway
        self._server = server
        self._stack = AsyncExitStack()
        self.port = 0

    @property
    def credentials(self) -> LiveKitCredentials:
        key = self._server.key
        return LiveKitCredentials(f"ws://127.0.0.1:{self.port}", key.api_key, key.api_secret)

    async def start(self) -> None:
        self._stack.enter_context(mock.patch.object(livekit_api, "KEY", self._server.key.api_key))
        app = sip_server.create_app(self.telephony, secret=self._server.key.secret, forward=self._server.url)
        app[livekit_api._SECRET] = self._server.key.secret
        app.router.add_get("/{path:.*}", self._socket)
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        await self._stack.aclose()

    def forget(self) -> None:
        """Let everything be as before the first call."""
        self.callee = None
        self.ringing.clear()
        self.telephony.picked_up.clear()
        self.gateway.spoken.clear()

    async def _rings(self, call: Dialled) -> None:
        """The telephone's participant joins, as livekit-sip lets it in, while it rings."""
        key = self._server.key
        token = (
            api.AccessToken(key.api_key, key.secret)
            .with_identity(call.identity)
            .with_kind("sip")
            .with_attributes(call.attributes | {"sip.callStatus": "dialing"})
            .with_grants(api.VideoGrants(room_join=True, room=call.request.room_name, can_update_own_metadata=True))
        )
        self.callee = await self._stack.enter_async_context(inside(self._server.url, token.to_jwt(), microphone=True))
        self.ringing.set()

    async def picks_up(self, words: str) -> Caller:
        """Whoever is called answers, and says something a moment later, as people and machines do."""
        async with asyncio.timeout(PATIENCE):
            await self.ringing.wait()
        assert self.callee is not None
        self.gateway.texts[:] = [words]
        await self.callee.room.local_participant.set_attributes({"sip.callStatus": "active"})
        self.telephony.picked_up.set()
        await asyncio.sleep(0.5)
        self.callee.say(words)
        return self.callee

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """Signalling goes through to the real server."""
        to = web.WebSocketResponse(autoping=False)
        async with (
            ClientSession() as session,
            session.ws_connect(
                self._server.url + request.path_qs,
                headers={name: value for name, value in request.headers.items() if name == "Authorization"},
                autoping=False,
                max_msg_size=0,
            ) as server,
        ):
            await to.prepare(request)

            async def pump(source, sink) -> None:
                async for message in source:
                    if message.type is WSMsgType.TEXT:
                        await sink.send_str(message.data)
                    elif message.type is WSMsgType.BINARY:
                        await sink.send_bytes(message.data)
                    elif message.type is WSMsgType.PING:
                        await sink.ping(message.data)
                    elif message.type is WSMsgType.PONG:
                        await sink.pong(message.data)
                await sink.close()

            await asyncio.gather(pump(to, server), pump(server, to), return_exceptions=True)
        return to


def think(messages) -> list:
    """The language model: it classifies for the SDK's detection, and greets."""
    if "Classify the call greeting" in str(messages[0]["content"]):
        heard = str(messages[-1]["content"])
        return [("save_prediction", {"label": "machine-vm" if "mailbox" in heard else "human"})]
    return [GREETING]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def network(livekit_server) -> AsyncIterator[Exchange]:
    async with inference_gateway(think) as gateway:
        exchange = Exchange(livekit_server, gateway)
        await exchange.start()
        yield exchange
        await exchange.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def calling_worker(start_worker, network, records):
    """A worker whose LiveKit has telephones."""
    where = network.gateway.environment | {"LIVEKIT_URL": network.credentials.url}
    async with start_worker(OUTBOUND, where) as running:
        yield running


@pytest.fixture
def place(calling_worker, network):
    """Call somebody."""
    network.forget()

    async def place(who: UserScope, how: str | int = RINGS):
        network.telephony.answers[NUMBER] = how
        call = Outbound(who, PhoneNumber(NUMBER), network.trunk, timedelta(seconds=30))
        return await place_call(network.credentials, call, agent_name=OUTBOUND)

    return place


async def ended(records, session_id: str) -> dict:
    """The one record of a session, under whoever's id."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await records.db.sessions.find({"session_id": session_id}).to_list()
            if len(found) == 1 and found[0]["status"] == "complete":
                return found[0]
            await asyncio.sleep(0.1)


async def test_a_person_is_told_from_a_machine_and_greeted_aloud(place, network, records):
    placing = asyncio.create_task(place(UserScope(tenant_id="person", user_id="u-100")))
    callee = await network.picks_up(HELLO)
    placed = await placing
    assert placed.answer.outcome is Outcome.ANSWERED
    assert await callee.reads("Good morning") == GREETING
    assert callee.loud, "the greeting was not heard"
    assert network.gateway.spoken == [GREETING], "the agent talked before somebody had answered, or twice"
    assert "1234567" not in str([(one.identity, one.attributes) for one in callee.room.remote_participants.values()])
    await callee.hang_up()
    record = await ended(records, placed.session_id)
    assert record["user_id"].startswith("guest-")
    assert (record["close_reason"], record["report"]["phone"]["outcome"]) == ("hang-up", "answered")
    assert "1234567" not in str(record)


async def test_a_machine_is_left_one_neutral_sentence_and_hung_up_on(place, network, records):
    for _ in range(3):  # a busy machine tears the sound, and its first piece is as short as what a person says
        network.forget()
        placing = asyncio.create_task(place(UserScope(tenant_id="machine", user_id="u-100")))
        callee = await network.picks_up(MAILBOX)
        placed = await placing
        if placed.answer.outcome is not Outcome.ANSWERED:
            break
        await callee.hang_up()
    assert placed.answer.outcome is Outcome.VOICEMAIL
    async with asyncio.timeout(PATIENCE):
        await callee.dropped.wait()
    assert " ".join(network.gateway.spoken) == VOICEMAIL
    record = await ended(records, placed.session_id)
    assert (record["tenant_id"], record["user_id"]) == ("machine", "u-100")
    assert record["close_reason"] == "voicemail"
    assert await records.db.turns.count_documents({"session_id": placed.session_id}) == 0


async def test_a_busy_telephone_is_an_attempt_under_the_person(place, network, records):
    placed = await place(UserScope(tenant_id="busy", user_id="u-100"), BUSY)
    assert placed.answer.outcome is Outcome.BUSY
    record = await ended(records, placed.session_id)
    assert (record["tenant_id"], record["user_id"], record["close_reason"]) == ("busy", "u-100", "busy")
    assert network.gateway.spoken == []
