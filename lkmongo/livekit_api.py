"""LiveKit's server API: whether the server takes the key, and sending the agent into a room that exists already.

A token's own dispatch works only as its room is made; into a room that is there, LiveKit sends an agent on request.
"""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lkmongo.errors import (
    AuthenticationError,
    LkmongoError,
    NotFoundError,
    NotReadyError,
    UnreachableError,
    connection_failure,
)

if TYPE_CHECKING:
    from lkmongo.settings import LiveKitCredentials

PATIENCE = 3.0
"""Seconds for one answer of a service over HTTP."""
_LOOK_EVERY = 0.25
"""Seconds between two looks at whether the agent is there."""


class JobFailedError(LkmongoError):
    """A worker took the job and failed."""

    code = "job_failed"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A dispatch, and the identity of the agent in the room: None when it was not waited for."""

    dispatch_id: str
    agent_identity: str | None


async def call_livekit(credentials: LiveKitCredentials) -> None:
    """Make one signed call to LiveKit that changes nothing.

    Raises:
        UnreachableError: nobody answers, or not as LiveKit does.
        AuthenticationError: the key and the secret were refused.
    """
    await asyncio.to_thread(importlib.import_module, "livekit.api")
    from livekit import api

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short secret: we tell that in our own words
        token = (
            api.AccessToken(credentials.api_key, credentials.api_secret.get_secret_value())
            .with_grants(api.VideoGrants(room_list=True))
            .to_jwt()
        )
    url = credentials.url
    with livekit_errors(url):
        # The client's own timeout is lost on the way to its requests.
        async with asyncio.timeout(PATIENCE), api.LiveKitAPI(url, token=token, failover=False) as client:
            # Of a name that no room has: the answer is short, however many rooms there are.
            await client.room.list_rooms(api.ListRoomsRequest(names=["lkmongo doctor"]))


@contextmanager
def livekit_errors(url: str) -> Iterator[None]:
    """Say in our own words what went wrong with a call to LiveKit at `url`.

    Raises:
        UnreachableError: nobody answers, or not as LiveKit does.
        AuthenticationError: the key and the secret were refused.
    """
    import aiohttp
    from google.protobuf.message import DecodeError
    from livekit import api

    try:
        yield
    except api.ServerError as error:
        if error.status in {401, 403}:
            raise AuthenticationError(
                f"LiveKit at {url} refused the API key",
                why=error.message or f"HTTP status {error.status}",
                hint="check that LIVEKIT_API_KEY and LIVEKIT_API_SECRET are of this LIVEKIT_URL, and this machine's clock",
            ) from error
        raise UnreachableError(
            f"what answers at {url} is not LiveKit, or is in trouble",
            why=error.message or f"HTTP status {error.status}",
            hint="check LIVEKIT_URL",
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(
            f"LiveKit cannot be reached at {url}",
            why=connection_failure(error, PATIENCE),
            hint="check LIVEKIT_URL and the network",
        ) from error
    except DecodeError as error:  # the client takes any answer with status 200 for a protocol message
        raise UnreachableError(f"what answers at {url} is not LiveKit", hint="check LIVEKIT_URL") from error


async def send_agent(
    credentials: LiveKitCredentials, *, room: str, agent_name: str, metadata: str, wait: timedelta
) -> Arrival:
    """Send an agent into a room that exists, and wait up to `wait` until it is there.

    Args:
        credentials: the LiveKit project.
        room: name of the room.
        agent_name: the name that the worker registered with.
        metadata: what the agent is told, as `lkmongo.dispatch` writes it; nobody in the room sees it.
        wait: how long to wait for it; nothing to send it and go.

    Raises:
        NotFoundError: there is no such room.
        NotReadyError: the agent is not there in time; it may still come.
        JobFailedError: a worker took the job and could not do it.
        UnreachableError: nobody answers, or not as LiveKit does.
        AuthenticationError: the key and the secret were refused.
    """
    from livekit import api

    secret = credentials.api_secret.get_secret_value()
    with livekit_errors(credentials.url), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short secret, at each call: it is told of once, in our own words
        async with api.LiveKitAPI(credentials.url, credentials.api_key, secret, failover=False) as client:
            async with asyncio.timeout(PATIENCE):
                found = await client.room.list_rooms(api.ListRoomsRequest(names=[room]))
            if not found.rooms:
                raise NotFoundError(
                    f"there is no room called {room}",
                    hint="leave --dispatch out: the token itself sends the agent when it makes the room",
                )
            there = await _agents(client, room)
            async with asyncio.timeout(PATIENCE):
                request = api.CreateAgentDispatchRequest(agent_name=agent_name, room=room, metadata=metadata)
                dispatch_id = (await client.agent_dispatch.create_dispatch(request)).id
            if wait <= timedelta(0):
                return Arrival(dispatch_id, None)
            return Arrival(dispatch_id, await _arrival(client, dispatch_id, room, agent_name, wait, there))


async def _agents(client: Any, room: str) -> set[str]:
    """The identities of the agents in a room."""
    from livekit import api

    async with asyncio.timeout(PATIENCE):
        present = await client.room.list_participants(api.ListParticipantsRequest(room=room))
    return {each.identity for each in present.participants if each.kind == api.ParticipantInfo.Kind.AGENT}


async def _arrival(
    client: Any, dispatch_id: str, room: str, agent_name: str, wait: timedelta, there_before: set[str]
) -> str:
    """Look until another agent is in the room, and return its identity there."""
    from livekit.protocol.agent import JobStatus

    over = {JobStatus.JS_SUCCESS, JobStatus.JS_FAILED, JobStatus.JS_CANCELLED}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait.total_seconds()
    while True:
        # Asked of the room, not of the dispatch: a server of one's own lists a dispatch's jobs seconds after they began.
        if new := await _agents(client, room) - there_before:
            return new.pop()
        async with asyncio.timeout(PATIENCE):
            dispatch = await client.agent_dispatch.get_dispatch(dispatch_id, room)
        jobs = [job.state for job in dispatch.state.jobs] if dispatch else []
        if jobs and all(job.status in over for job in jobs):
            raise JobFailedError(
                f"a worker took the job for {room}, and it ended before the agent was there",
                why=jobs[-1].error or None,
                hint="look into the worker's log",
            )
        if loop.time() + _LOOK_EVERY >= deadline:
            break
        await asyncio.sleep(_LOOK_EVERY)
    if jobs:
        why, hint = "a worker took the job and has not joined", "look into the worker's log"
    else:
        why = (
            f"no worker took the job: usually none that is called {agent_name} runs against this server, "
            "or those that do are at full capacity"
        )
        hint = "start one (lkmongo agent run, with the same LKMONGO_AGENT_NAME), then run this again"
    raise NotReadyError(f"{agent_name} is not in {room} after {wait.total_seconds():g} s", why=why, hint=hint)
