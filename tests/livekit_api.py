"""A local server that answers LiveKit's room service as far as lkmongo asks it, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from livekit import api
from livekit.protocol.agent import JobStatus
from pydantic import SecretStr

from lkmongo.settings import LiveKitCredentials

KEY, SECRET = "APIabcdefgh", "a-secret-that-is-long-enough-for-hmac-256"


@dataclass
class Rooms:
    """What the server knows.

    Attributes:
        names: the rooms that there are.
        workers: how the worker of each agent's name does: "joins", "fails", or "stays away" once it has the job.
        dispatches: what was asked for.
        present: who is in each room; None for a caller, and the agents that have joined.
        under_way: dispatches that were made before, of one room or, if they name none, of each.
        created: when each room was made, in seconds since the epoch; now if it is not said.
        metadata: of each room.
        empty: rooms that everybody has left.
        attributes: what was added to participants, by room and identity.
        refused_updates: how often it fails to do that.
        failing: how often it fails to say which rooms there are.
        closing: rooms that are closed once they were listed, and after how many seconds that is said.
        on_dispatch: awaited in the background for each dispatch: what the agent does that it sends.
        before_listing: awaited before it is said which jobs a dispatch has.
    """

    names: set[str] = field(default_factory=set)
    workers: dict[str, str] = field(default_factory=dict)
    dispatches: list[api.CreateAgentDispatchRequest] = field(default_factory=list)
    present: list[api.ParticipantInfo] | None = None
    under_way: list[api.AgentDispatch] = field(default_factory=list)
    created: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    attributes: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    refused_updates: int = 0
    failing: int = 0
    closing: dict[str, float] = field(default_factory=dict)
    on_dispatch: Callable[[api.CreateAgentDispatchRequest], Coroutine[Any, Any, None]] | None = None
    before_listing: Callable[[], Coroutine[Any, Any, None]] | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


ROOMS = web.AppKey("rooms", Rooms)
_SECRET = web.AppKey("secret", str)


async def _list_rooms(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_list)
    asked = api.ListRoomsRequest.FromString(await request.read())
    rooms = request.app[ROOMS]
    if rooms.failing:
        rooms.failing -= 1
        raise RefusedError(*_UNAVAILABLE)
    there = [name for name in sorted(rooms.names) if not asked.names or name in asked.names]
    made = {name: int(1_000 * rooms.created.get(name, time.time())) for name in there}
    return api.ListRoomsResponse(
        rooms=[
            api.Room(
                name=name,
                sid=f"RM_{name}",
                num_participants=int(name not in rooms.empty),
                creation_time_ms=made[name],
                metadata=rooms.metadata.get(name, ""),
            )
            for name in there
        ]
    )


async def _create_room(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_create)
    asked = api.CreateRoomRequest.FromString(await request.read())
    request.app[ROOMS].names.add(asked.name)
    return api.Room(name=asked.name, sid=f"RM_{asked.name}")


async def _delete_room(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_create)
    request.app[ROOMS].names.discard(api.DeleteRoomRequest.FromString(await request.read()).room)
    return api.DeleteRoomResponse()


async def _update_room_metadata(request: web.Request, grants: api.VideoGrants) -> Any:
    asked = api.UpdateRoomMetadataRequest.FromString(await request.read())
    _allow(grants.room_admin and grants.room == asked.room)
    request.app[ROOMS].metadata[asked.room] = asked.metadata
    return api.Room(name=asked.room, metadata=asked.metadata)


async def _create_dispatch(request: web.Request, grants: api.VideoGrants) -> Any:
    asked = api.CreateAgentDispatchRequest.FromString(await request.read())
    _allow(grants.room_admin and grants.room == asked.room)
    rooms = request.app[ROOMS]
    rooms.dispatches.append(asked)
    if rooms.on_dispatch:
        rooms.tasks.add(asyncio.create_task(rooms.on_dispatch(asked)))
    return api.AgentDispatch(id="AD_1", agent_name=asked.agent_name, room=asked.room, metadata=asked.metadata)


async def _list_dispatch(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_admin)
    rooms, asked = request.app[ROOMS], api.ListAgentDispatchRequest.FromString(await request.read())
    if rooms.before_listing:
        await rooms.before_listing()
    if asked.room in rooms.closing:
        await asyncio.sleep(rooms.closing[asked.room])
        raise RefusedError(*_UNAVAILABLE)
    asked_for = [each for each in rooms.dispatches if each.room == asked.room]
    if not asked_for:
        there = [each for each in rooms.under_way if each.room in {"", asked.room}]
        return api.ListAgentDispatchResponse(agent_dispatches=there)
    dispatch = api.AgentDispatch(id="AD_1", agent_name=asked_for[-1].agent_name)
    dispatch.state.created_at = time.time_ns()
    worker = rooms.workers.get(asked_for[-1].agent_name)
    if worker:
        job = dispatch.state.jobs.add(id="AJ_1")
        job.state.participant_identity = "agent-AJ_1"
        job.state.status = JobStatus.JS_FAILED if worker == "fails" else JobStatus.JS_RUNNING
        job.state.error = "the entrypoint raised" if worker == "fails" else ""
    return api.ListAgentDispatchResponse(agent_dispatches=[dispatch])


async def _delete_dispatch(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_admin)
    rooms, asked = request.app[ROOMS], api.DeleteAgentDispatchRequest.FromString(await request.read())
    found = [each for each in rooms.under_way if each.id == asked.dispatch_id]
    if not found:
        raise LookupError
    rooms.under_way.remove(found[0])
    return found[0]


async def _list_participants(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_admin)
    rooms = request.app[ROOMS]
    if rooms.present is not None:
        return api.ListParticipantsResponse(participants=rooms.present)
    there = [api.ParticipantInfo(identity="caller-1"), api.ParticipantInfo(identity="agent-AJ_0", kind=_AGENT)]
    if any(rooms.workers.get(dispatch.agent_name) == "joins" for dispatch in rooms.dispatches):
        there.append(api.ParticipantInfo(identity="agent-AJ_1", kind=_AGENT))
    return api.ListParticipantsResponse(participants=there)


async def _remove_participant(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_admin)
    rooms, asked = request.app[ROOMS], api.RoomParticipantIdentity.FromString(await request.read())
    rooms.present = [each for each in rooms.present or [] if each.identity != asked.identity]
    return api.RemoveParticipantResponse()


async def _update_participant(request: web.Request, grants: api.VideoGrants) -> Any:
    rooms, asked = request.app[ROOMS], api.UpdateParticipantRequest.FromString(await request.read())
    _allow(grants.room_admin and grants.room == asked.room)
    if rooms.refused_updates:
        rooms.refused_updates -= 1
        raise RefusedError(*_UNAVAILABLE)
    rooms.attributes.setdefault((asked.room, asked.identity), {}).update(asked.attributes)
    return api.ParticipantInfo(identity=asked.identity, attributes=asked.attributes)


_AGENT = api.ParticipantInfo.Kind.AGENT
_UNAVAILABLE = 503, "unavailable", "no response from servers"
"""What livekit-server 1.11 says of a room that no server has."""


def _allow(allowed: object) -> None:
    if not allowed:
        raise PermissionError


class RefusedError(Exception):
    """An answer in the form of Twirp's errors."""

    def __init__(self, status: int, code: str, msg: str, meta: dict[str, str] | None = None) -> None:
        super().__init__(msg)
        self.status = status
        self.body = {"code": code, "msg": msg} | ({"meta": meta} if meta else {})


def answering(handler: Any) -> Any:
    """Check the token first, as every call of a service does; `handler` gets the request and the token's `Claims`."""

    async def answer(request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = api.TokenVerifier(KEY, request.app[_SECRET]).verify(token)
        except Exception:
            return web.json_response({"code": "unauthenticated", "msg": "invalid token"}, status=401)
        try:
            message = await handler(request, claims)
        except PermissionError:
            return web.json_response({"code": "unauthenticated", "msg": "permissions denied"}, status=401)
        except LookupError:
            return web.json_response({"code": "not_found", "msg": "dispatch ID not found"}, status=404)
        except RefusedError as refused:
            return web.json_response(refused.body, status=refused.status)
        return web.Response(body=message.SerializeToString(), content_type="application/protobuf")

    return answer


def _about_rooms(handler: Any) -> Any:
    async def handle(request: web.Request, claims: Any) -> Any:
        return await handler(request, claims.video)

    return answering(handle)


def create_app(secret: str = SECRET, rooms: Rooms | None = None) -> web.Application:
    """The server; its key is `KEY`."""
    app = web.Application()
    app[_SECRET] = secret
    app[ROOMS] = rooms or Rooms()
    for service, method, handler in (
        ("RoomService", "ListRooms", _list_rooms),
        ("RoomService", "CreateRoom", _create_room),
        ("RoomService", "DeleteRoom", _delete_room),
        ("RoomService", "UpdateRoomMetadata", _update_room_metadata),
        ("RoomService", "ListParticipants", _list_participants),
        ("RoomService", "RemoveParticipant", _remove_participant),
        ("RoomService", "UpdateParticipant", _update_participant),
        ("AgentDispatchService", "CreateDispatch", _create_dispatch),
        ("AgentDispatchService", "ListDispatch", _list_dispatch),
        ("AgentDispatchService", "DeleteDispatch", _delete_dispatch),
    ):
        app.router.add_post(f"/twirp/livekit.{service}/{method}", _about_rooms(handler))
    return app


@asynccontextmanager
async def credentials_of(rooms: Rooms) -> AsyncIterator[LiveKitCredentials]:
    """What leads to a server with these rooms, as long as the block lasts."""
    server = web.AppRunner(create_app(rooms=rooms))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    try:
        yield LiveKitCredentials(f"ws://127.0.0.1:{server.addresses[0][1]}", KEY, SecretStr(SECRET))
    finally:
        await server.cleanup()
