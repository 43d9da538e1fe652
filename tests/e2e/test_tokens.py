"""Tokens, as a real server takes them: who gets in, what gets across, and where the agent is sent."""

from __future__ import annotations

import array
import asyncio
import json
import math
import secrets
import warnings
from datetime import UTC, datetime, timedelta
from functools import partial

import jwt
import pytest
from livekit import rtc
from livekit.agents import AgentServer, JobContext, JobExecutorType

from lkmongo.dispatch import LEEWAY, Room, read_dispatch
from lkmongo.errors import NotFoundError, NotReadyError
from lkmongo.livekit_api import send_agent
from lkmongo.model import UserScope
from lkmongo.token_inspection import inspect
from lkmongo.tokens import Permissions, TokenRequest, mint
from tests.livekit_server import PATIENCE

RATE = 48_000
JORDAN = UserScope(tenant_id="acme", user_id="u-100")


def request(**changes) -> TokenRequest:
    return TokenRequest(**({"who": JORDAN, "agent_name": "lkmongo-agent"} | changes))


async def test_who_has_a_token_joins_as_it_says(livekit_server, join):
    wanted = request(name="Jordan", metadata='{"seat": 4}', attributes={"plan": "pro"}, sealed=True)
    room = await join(mint(livekit_server.key, wanted))
    me = room.local_participant
    assert room.name == wanted.room
    assert (me.identity, me.name, me.metadata) == (wanted.participant_identity, "Jordan", '{"seat": 4}')
    assert me.attributes["plan"] == "pro"
    assert await room.sid


async def test_a_message_and_a_voice_get_across(livekit_server, join):
    messages: asyncio.Queue[bytes] = asyncio.Queue()
    tracks: asyncio.Queue[rtc.Track] = asyncio.Queue()

    def listen(room: rtc.Room) -> None:
        room.on("data_received", lambda packet: messages.put_nowait(packet.data))
        room.on("track_subscribed", lambda track, *_: tracks.put_nowait(track))

    wanted = request()
    speaker = await join(mint(livekit_server.key, wanted))
    await join(mint(livekit_server.key, request(room=wanted.room, agent_name=None)), listen)

    async with asyncio.timeout(PATIENCE):
        await speaker.local_participant.publish_data(b"hello", reliable=True)
        assert await messages.get() == b"hello"

        source = rtc.AudioSource(RATE, 1)
        voice = rtc.LocalAudioTrack.create_audio_track("voice", source)
        await speaker.local_participant.publish_track(
            voice, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        )
        humming = asyncio.create_task(_hum(source))
        stream = rtc.AudioStream(await tracks.get())
        try:
            async for event in stream:
                if max(abs(sample) for sample in event.frame.data) > 1_000:
                    break
        finally:
            humming.cancel()
            await asyncio.gather(humming, return_exceptions=True)
            await stream.aclose()
            await source.aclose()


async def _hum(source: rtc.AudioSource) -> None:
    """Publish 440 Hz until cancelled."""
    frame = array.array("h", (int(10_000 * math.sin(2 * math.pi * 440 * n / RATE)) for n in range(RATE // 100)))
    while True:
        await source.capture_frame(rtc.AudioFrame(frame.tobytes(), RATE, 1, RATE // 100))


async def test_who_may_not_publish_cannot(livekit_server, join):
    token = mint(livekit_server.key, request(permissions=Permissions(publish=False)))
    room = await join(token)
    track = rtc.LocalAudioTrack.create_audio_track("voice", rtc.AudioSource(RATE, 1))
    with pytest.raises(rtc.participant.PublishTrackError):
        await asyncio.wait_for(room.local_participant.publish_track(track), PATIENCE)


def test_the_server_refuses_what_inspect_says_it_would(livekit_server):
    key = livekit_server.key
    good = jwt.decode(mint(key, request()).text, options={"verify_signature": False})
    now = datetime.now(UTC)

    def stamp(**delta: float) -> int:
        return int((now + timedelta(**delta)).timestamp())

    cases = {
        "as minted": ({}, key.secret),
        "expired a moment ago": ({"exp": stamp(seconds=-30)}, key.secret),
        "expired": ({"exp": stamp(minutes=-5)}, key.secret),
        "valid in a moment": ({"nbf": stamp(seconds=30)}, key.secret),
        "valid later": ({"nbf": stamp(minutes=5)}, key.secret),
        "another secret": ({}, "another-secret-that-is-long-enough-too"),
        "another key": ({"iss": "APIother"}, key.secret),
        "no room grant": ({"video": {"roomJoin": False, "room": "r"}}, key.secret),
        "no room": ({"video": {"roomJoin": True}}, key.secret),
        "no identity": ({"sub": ""}, key.secret),
        "a long identity": ({"sub": "é" * 128 + "!"}, key.secret),
        "the longest identity": ({"sub": "é" * 128}, key.secret),
        "a long room": ({"video": {"roomJoin": True, "room": "r" * 257}}, key.secret),
    }
    for name, (change, secret) in cases.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            token = jwt.encode(good | change, secret, algorithm="HS256")
        said = inspect(token, api_key=key.api_key, secret=key.secret, agent_name="lkmongo-agent")
        assert livekit_server.takes(token) is not bool(said.problems), f"{name}: {said.problems}"


async def test_an_agent_nobody_runs_does_not_arrive_and_that_is_said(livekit_server, join):
    wanted = request(agent_name=None)
    await join(mint(livekit_server.key, wanted))
    with pytest.raises(NotReadyError) as raised:
        await send_agent(
            livekit_server.credentials,
            room=wanted.room,
            agent_name="nobody-runs-this",
            metadata="",
            wait=timedelta(seconds=1),
        )
    assert "no worker accepted the job" in raised.value.why


async def test_no_agent_is_sent_into_a_room_that_there_is_not(livekit_server):
    with pytest.raises(NotFoundError):
        await send_agent(
            livekit_server.credentials, room="nowhere", agent_name="a", metadata="", wait=timedelta(seconds=1)
        )


async def _answer(secret: str, ctx: JobContext) -> None:
    """Join, and tell the room what the agent makes of its dispatch."""
    room = Room.of(ctx.job.room)
    found = read_dispatch(ctx.job.metadata, room=room, secret=secret)
    await ctx.connect()
    age = datetime.now(UTC) - room.began
    said = [
        found.scope.tenant_id,
        found.scope.user_id,
        found.participant_identity,
        found.ticket and found.ticket.room,
        age < LEEWAY,
    ]
    await ctx.room.local_participant.publish_data(json.dumps(said), reliable=True)


@pytest.fixture
async def worker(livekit_server):
    """A worker in this process; returns its agent's name.

    No two have the same one: for a moment after a worker has left, the server finds nobody of that name.
    """
    name = f"greeter-{secrets.token_hex(4)}"
    server = AgentServer(
        job_executor_type=JobExecutorType.THREAD,
        ws_url=livekit_server.url,
        api_key=livekit_server.key.api_key,
        api_secret=livekit_server.key.secret,
        load_fnc=lambda: 0.0,  # on a busy machine LiveKit itself sends nobody to a worker that tells its load
        num_idle_processes=1,
        host="127.0.0.1",
        port=0,
    )
    server.rtc_session(partial(_answer, livekit_server.key.secret), agent_name=name)
    registered = asyncio.Event()
    server.on("worker_registered", lambda *_: registered.set())
    running = asyncio.create_task(server.run(devmode=True))
    async with asyncio.timeout(PATIENCE):
        await registered.wait()
    yield name
    await server.aclose()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_token_sends_the_agent_and_tells_it_who_calls(livekit_server, join, worker):
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    wanted = request(agent_name=worker, sealed=True)
    room = await join(
        mint(livekit_server.key, wanted),
        lambda room: room.on("data_received", lambda packet: heard.put_nowait(packet.data)),
    )
    async with asyncio.timeout(PATIENCE):
        sid = await room.sid
        assert json.loads(await heard.get()) == ["acme", "u-100", wanted.participant_identity, sid, True]


async def test_an_agent_is_sent_into_a_room_that_exists_and_arrives(livekit_server, join, worker):
    wanted = request(agent_name=None)
    arrived = asyncio.Event()
    room = await join(
        mint(livekit_server.key, wanted), lambda room: room.on("participant_connected", lambda _: arrived.set())
    )
    arrival = await send_agent(
        livekit_server.credentials,
        room=wanted.room,
        agent_name=worker,
        metadata=wanted.dispatch_metadata(livekit_server.key),
        wait=timedelta(seconds=PATIENCE),
    )
    await asyncio.wait_for(arrived.wait(), PATIENCE)
    assert room.remote_participants[arrival.agent_identity].kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
