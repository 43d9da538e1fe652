"""A local server that answers LiveKit's room service as far as lkmongo asks it, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from livekit import api
from livekit.protocol.agent import JobStatus

KEY, SECRET = "APIabcdefgh", "a-secret-that-is-long-enough-for-hmac-256"


@dataclass
class Rooms:
    """What the server knows.

    Attributes:
        names: the rooms that there are.
        workers: how the worker of each agent's name does: "joins", "fails", or "stays away" once it has the job.
        dispatches: what was asked for.
        present: who is in each room; None for a caller, and the agents that have joined.
        under_way: the state of a dispatch that was made before.
    """

    names: set[str] = field(default_factory=set)
    workers: dict[str, str] = field(default_factory=dict)
    dispatches: list[api.CreateAgentDispatchRequest] = field(default_factory=list)
    present: list[api.ParticipantInfo] | None = None
    under_way: list[api.AgentDispatch] = field(default_factory=list)


ROOMS = web.AppKey("rooms", Rooms)
_SECRET = web.AppKey("secret", str)


async def _list_rooms(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_list)
    asked = api.ListRoomsRequest.FromString(await request.read())
    there = [name for name in sorted(request.app[ROOMS].names) if not asked.names or name in asked.names]
    return api.ListRoomsResponse(rooms=[api.Room(name=name, sid=f"RM_{name}") for name in there])


async def _create_dispatch(request: web.Request, grants: api.VideoGrants) -> Any:
    asked = api.CreateAgentDispatchRequest.FromString(await request.read())
    _allow(grants.room_admin and grants.room == asked.room)
    request.app[ROOMS].dispatches.append(asked)
    return api.AgentDispatch(id="AD_1", agent_name=asked.agent_name, room=asked.room, metadata=asked.metadata)


async def _list_dispatch(request: web.Request, grants: api.VideoGrants) -> Any:
    _allow(grants.room_admin)
    rooms = request.app[ROOMS]
    if not rooms.dispatches:
        return api.ListAgentDispatchResponse(agent_dispatches=rooms.under_way)
    dispatch = api.AgentDispatch(id="AD_1")
    worker = rooms.workers.get(rooms.dispatches[-1].agent_name)
    if worker:
        job = dispatch.state.jobs.add(id="AJ_1")
        job.state.participant_identity = "agent-AJ_1"
        job.state.status = JobStatus.JS_FAILED if worker == "fails" else JobStatus.JS_RUNNING
        job.state.error = "the entrypoint raised" if worker == "fails" else ""
    return api.ListAgentDispatchResponse(agent_dispatches=[dispatch])


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


_AGENT = api.ParticipantInfo.Kind.AGENT


def _allow(allowed: object) -> None:
    if not allowed:
        raise PermissionError


def _answer(handler: Any) -> Any:
    """Check the token first, as every call of the service does."""

    async def answer(request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = api.TokenVerifier(KEY, request.app[_SECRET]).verify(token)
        except Exception:
            return web.json_response({"code": "unauthenticated", "msg": "invalid token"}, status=401)
        try:
            message = await handler(request, claims.video)
        except PermissionError:
            return web.json_response({"code": "unauthenticated", "msg": "permissions denied"}, status=401)
        return web.Response(body=message.SerializeToString(), content_type="application/protobuf")

    return answer


def create_app(secret: str = SECRET, rooms: Rooms | None = None) -> web.Application:
    """The server; its key is `KEY`."""
    app = web.Application()
    app[_SECRET] = secret
    app[ROOMS] = rooms or Rooms()
    for service, method, handler in (
        ("RoomService", "ListRooms", _list_rooms),
        ("RoomService", "ListParticipants", _list_participants),
        ("RoomService", "RemoveParticipant", _remove_participant),
        ("AgentDispatchService", "CreateDispatch", _create_dispatch),
        ("AgentDispatchService", "ListDispatch", _list_dispatch),
    ):
        app.router.add_post(f"/twirp/livekit.{service}/{method}", _answer(handler))
    return app
