"""LiveKit's server API: checking the API key, and dispatching the agent into an existing room.

A token dispatches an agent only when its room is created; into an existing room, an explicit dispatch is needed.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lkmongo.api_secret import silence_pyjwt
from lkmongo.errors import (
    AuthenticationError,
    LkmongoError,
    NotFoundError,
    NotReadyError,
    UnreachableError,
    connection_failure,
)

if TYPE_CHECKING:
    from livekit.api import AgentDispatch, LiveKitAPI

    from lkmongo.settings import LiveKitCredentials

PATIENCE = 3.0
"""Seconds to wait for one HTTP answer."""
_POLL = 0.25
"""Seconds between two checks whether the agent has joined."""


class JobFailedError(LkmongoError):
    """A worker took the job and failed."""

    code = "job_failed"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A dispatch, and the agent's participant identity: None if not waited for."""

    dispatch_id: str
    agent_identity: str | None


async def call_livekit(credentials: LiveKitCredentials) -> None:
    """Make one signed read-only call to LiveKit.

    Raises:
        UnreachableError: nothing answers, or something other than LiveKit.
        AuthenticationError: the key and the secret were refused.
    """
    await asyncio.to_thread(importlib.import_module, "livekit.api")
    from livekit import api

    silence_pyjwt()
    token = (
        api.AccessToken(credentials.api_key, credentials.api_secret.get_secret_value())
        .with_grants(api.VideoGrants(room_list=True))
        .to_jwt()
    )
    url = credentials.url
    with livekit_errors(url):
        # The client does not pass its own timeout on to its requests.
        async with asyncio.timeout(PATIENCE), api.LiveKitAPI(url, token=token, failover=False) as client:
            # A name that no room has keeps the answer short.
            await client.room.list_rooms(api.ListRoomsRequest(names=["lkmongo doctor"]))


@contextmanager
def livekit_errors(url: str) -> Iterator[None]:
    """Translate errors of calls to LiveKit at `url` into ours, as `call_livekit` raises them."""
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
                hint="check that LIVEKIT_API_KEY and LIVEKIT_API_SECRET belong to LIVEKIT_URL, and the local clock",
            ) from error
        raise UnreachableError(
            f"what answers at {url} is not LiveKit, or has failed",
            why=error.message or f"HTTP status {error.status}",
            hint="check LIVEKIT_URL",
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(
            f"LiveKit cannot be reached at {url}",
            why=connection_failure(error, PATIENCE),
            hint="check LIVEKIT_URL and the network",
        ) from error
    except DecodeError as error:  # the client parses any answer with status 200 as a protocol message
        raise UnreachableError(f"what answers at {url} is not LiveKit", hint="check LIVEKIT_URL") from error


@asynccontextmanager
async def livekit_client(credentials: LiveKitCredentials) -> AsyncIterator[LiveKitAPI]:
    """A client of the server's API, whose errors are translated as by `livekit_errors`; it sets no timeout."""
    from livekit import api

    secret = credentials.api_secret.get_secret_value()
    silence_pyjwt()  # for good: `catch_warnings` around what is awaited would restore what another task has set
    with livekit_errors(credentials.url):
        async with api.LiveKitAPI(credentials.url, credentials.api_key, secret, failover=False) as client:
            yield client


async def send_agent(
    credentials: LiveKitCredentials,
    *,
    room: str,
    agent_name: str,
    metadata: str | Callable[[str], str],
    wait: timedelta,
) -> Arrival:
    """Dispatch an agent into an existing room, and wait up to `wait` until it has joined.

    Args:
        credentials: the LiveKit project.
        room: name of the room.
        agent_name: the name that the worker registered with.
        metadata: see `lkmongo.dispatch`, or what makes it of the room's id; participants cannot see it.
        wait: how long to wait; zero returns at once.

    Raises:
        NotFoundError: there is no such room.
        NotReadyError: the agent has not joined in time; it still may.
        JobFailedError: a worker accepted the job and failed.
        UnreachableError, AuthenticationError: as `call_livekit` raises them.
    """
    from livekit import api

    async with livekit_client(credentials) as client:
        async with asyncio.timeout(PATIENCE):
            found = await client.room.list_rooms(api.ListRoomsRequest(names=[room]))
        if not found.rooms:
            raise NotFoundError(
                f"there is no room called {room}",
                hint="leave --dispatch out: the token itself dispatches the agent when the room is created",
            )
        there = await _agents(client, room)
        text = metadata if isinstance(metadata, str) else metadata(found.rooms[0].sid)
        async with asyncio.timeout(PATIENCE):
            request = api.CreateAgentDispatchRequest(agent_name=agent_name, room=room, metadata=text)
            dispatch_id = (await client.agent_dispatch.create_dispatch(request)).id
        if wait <= timedelta(0):
            return Arrival(dispatch_id, None)
        return Arrival(dispatch_id, await _arrival(client, dispatch_id, room, agent_name, wait, there))


async def dispatches_in(client: LiveKitAPI, room: str) -> list[AgentDispatch] | None:
    """The dispatches of a room, or None if it does not answer, as when it was closed just now.

    LiveKit asks the room itself, and of one that no server has any more it says so after three seconds only.
    Raises api.ServerError as the client does.
    """
    from livekit import api

    try:
        async with asyncio.timeout(PATIENCE):
            return await client.agent_dispatch.list_dispatch(room)
    except TimeoutError:
        return None
    except api.ServerError as error:
        if error.code in {api.ServerErrorCode.NOT_FOUND, api.ServerErrorCode.UNAVAILABLE}:
            return None
        raise


async def remove_participant(credentials: LiveKitCredentials, room: str, identity: str) -> None:
    """Remove a participant from a room, unless they have left. Raises as `call_livekit` does."""
    from livekit import api

    who = api.RoomParticipantIdentity(room=room, identity=identity)
    await _unless_gone(credentials, lambda client: client.room.remove_participant(who))


async def set_attributes(credentials: LiveKitCredentials, room: str, identity: str, attributes: dict[str, str]) -> None:
    """Add attributes to a participant, unless they have left. Raises as `call_livekit` does."""
    from livekit import api

    request = api.UpdateParticipantRequest(room=room, identity=identity, attributes=attributes)
    await _unless_gone(credentials, lambda client: client.room.update_participant(request))


async def _unless_gone(credentials: LiveKitCredentials, ask: Callable[[LiveKitAPI], Awaitable[object]]) -> None:
    from livekit import api

    async with livekit_client(credentials) as client:
        try:
            async with asyncio.timeout(PATIENCE):
                await ask(client)
        except api.ServerError as error:
            if error.code != api.ServerErrorCode.NOT_FOUND:
                raise


async def _agents(client: Any, room: str) -> set[str]:
    from livekit import api

    async with asyncio.timeout(PATIENCE):
        present = await client.room.list_participants(api.ListParticipantsRequest(room=room))
    return {each.identity for each in present.participants if each.kind == api.ParticipantInfo.Kind.AGENT}


async def _arrival(
    client: Any, dispatch_id: str, room: str, agent_name: str, wait: timedelta, there_before: set[str]
) -> str:
    """Poll until another agent is in the room, and return its identity."""
    from livekit.protocol.agent import JobStatus

    over = {JobStatus.JS_SUCCESS, JobStatus.JS_FAILED, JobStatus.JS_CANCELLED}
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait.total_seconds()
    jobs: list[Any] = []
    while True:
        with suppress(TimeoutError):  # a server that is slow for once has sent the agent all the same
            # Poll the room, not the dispatch: a self-hosted server lists the jobs of a dispatch seconds late.
            if new := await _agents(client, room) - there_before:
                return new.pop()
            async with asyncio.timeout(PATIENCE):
                dispatch = await client.agent_dispatch.get_dispatch(dispatch_id, room)
            jobs = [job.state for job in dispatch.state.jobs] if dispatch else []
        if jobs and all(job.status in over for job in jobs):
            raise JobFailedError(
                f"a worker accepted the job for {room}, and it ended before the agent joined",
                why=jobs[-1].error or None,
                hint="check the worker's log",
            )
        if loop.time() + _POLL >= deadline:
            break
        await asyncio.sleep(_POLL)
    if jobs:
        why, hint = "a worker accepted the job and has not joined", "check the worker's log"
    else:
        why = (
            f"no worker accepted the job: most likely none called {agent_name} runs against this server, "
            "or all are at full capacity"
        )
        hint = "start one (lkmongo agent run, with the same LKMONGO_AGENT_NAME), then run this again"
    raise NotReadyError(f"{agent_name} is not in {room} after {wait.total_seconds():g} s", why=why, hint=hint)
