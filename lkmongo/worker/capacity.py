"""How many calls a worker takes at once, and a second chance for callers whom no worker took.

A worker tells LiveKit its load, and by default the SDK measures the processor's: the processes that start for the first
calls of a burst make it look full for the others, and LiveKit sends a job once only. So the load here is the number of
calls, and is `threshold` when no more are taken: the SDK refuses jobs from its threshold on, and LiveKit sends none to
a worker from its own (`agents.target_load`, 0.7) on.

A dispatch that no worker took has no job. Every worker looks for those of rooms in which somebody waits, and dispatches
again as soon as it can take a call. Deleting the dispatch that failed is how one worker claims it: LiveKit confirms
that to one of them only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from lkmongo.aio import poll
from lkmongo.livekit_api import PATIENCE, dispatches_in, livekit_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from livekit.agents import AgentServer, JobRequest
    from livekit.api import AgentDispatch, LiveKitAPI, Room

    from lkmongo.settings import LiveKitCredentials
    from lkmongo.speech.choose import Source

logger = logging.getLogger(__name__)

_SERVED = Counter("lkmongo_calls_served", "Calls that this worker has taken")
_REFUSED = Counter("lkmongo_calls_refused", "Calls that no worker had taken, and that this one dispatched again")
_GAVE_UP = Counter(
    "lkmongo_callers_gave_up", "Callers to whom no worker came until they left, or for too long; each worker counts all"
)
_WAITING = Gauge("lkmongo_callers_waiting", "Callers in rooms to which no worker has come")

TYPED_CALLS, TYPED_CALLS_APART, SPOKEN_CALLS, LOCAL_CALLS = 20, 10, 3, 1.5
"""Calls for each processor core: in text only, where they share processes and where each has its own, aloud, and aloud
by the engines on this machine. docs/scale.md has what they cost."""
LOAD_THRESHOLD = 0.7
"""LiveKit's own `agents.target_load`, and the SDK's default."""
POLL_INTERVAL = 4.0
"""Seconds between two searches for callers who wait: one request each, of every worker."""
_AGENT_NAME = "lk.agent_name"
"""The attribute in which LiveKit puts the name that an agent was dispatched by."""
SETTLING = 4.0
"""Seconds after which a dispatch without a job counts as refused: a worker accepts one within milliseconds."""
MAX_WAIT = 300.0
"""Seconds from the creation of a room for which it is looked at."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker takes: `max_calls` calls at once, at which its load is `threshold`; infinity for any number."""

    max_calls: float
    threshold: float = LOAD_THRESHOLD

    @classmethod
    def of_this_machine(cls, per_core: float, threshold: float = LOAD_THRESHOLD) -> Capacity:
        """As many calls as its processor carries beside nothing else; `calls_per_core` says how many a core does."""
        return cls(max(1, int((os.cpu_count() or 1) * per_core)), threshold)

    def load(self, server: AgentServer) -> float:
        """The load of a worker, from 0 to the threshold."""
        return self.threshold * min(1.0, len(server.active_jobs) / self.max_calls)

    def has_room(self, server: AgentServer, for_more: int = 1) -> bool:
        """Whether a worker takes so many more calls."""
        return not server.draining and len(server.active_jobs) + for_more <= self.max_calls


def calls_per_core(source: Source, *, shared: bool) -> float:
    """How many calls a core carries, by who hears and speaks, and whether calls share processes."""
    return {"off": TYPED_CALLS if shared else TYPED_CALLS_APART, "local": LOCAL_CALLS}.get(source, SPOKEN_CALLS)


async def take(request: JobRequest) -> None:
    """Accept a job, which the SDK offers below the threshold only."""
    _SERVED.inc()
    await request.accept()


class WaitingCallers:
    """Callers in rooms whose dispatch no worker took."""

    def __init__(
        self, credentials: LiveKitCredentials, agent_name: str, server: AgentServer, capacity: Capacity
    ) -> None:
        """Look at nothing yet; `serve` does.

        Args:
            credentials: the LiveKit project.
            agent_name: the name in the dispatches.
            server: the worker that calls are dispatched for.
            capacity: what it takes.
        """
        self._credentials = credentials
        self._agent_name = agent_name
        self._server = server
        self._capacity = capacity
        self._settled: set[str] = set()
        self._waited: set[str] = set()
        self._are_told = False

    async def serve(self) -> None:
        """Dispatch again for callers who wait, again and again; never returns."""
        await poll(self.look, POLL_INTERVAL, "callers who wait could not be looked for")

    async def look(self) -> int:
        """One search, which dispatches for as many as the worker takes, who came first first.

        Returns:
            How many still wait.

        Raises:
            UnreachableError: LiveKit does not answer.
            AuthenticationError: it refuses the key.
        """
        from livekit import api

        async with livekit_client(self._credentials) as client:
            async with asyncio.timeout(PATIENCE):
                rooms = (await client.room.list_rooms(api.ListRoomsRequest())).rooms
            self._settled &= {room.sid for room in rooms}
            refused = [each for room in self._young(rooms) for each in await self._refused(client, room)]
            taken = 0
            for room, dispatch in refused:
                if self._capacity.has_room(self._server, taken + 1):
                    await self._again(client, room, dispatch)
                    taken += 1
        _GAVE_UP.inc(len(self._waited - {room.sid for room in rooms if _may_be_served(room)}))
        self._waited = {room.sid for room, _ in refused[taken:]}
        waiting = len(refused) - taken
        self._tell(waiting)
        return waiting

    def _young(self, rooms: Sequence[Room]) -> list[Room]:
        """The rooms to look at, the oldest first."""
        ours = {info.job.room.sid for info in self._server.active_jobs}
        young = [room for room in rooms if _may_be_served(room) and room.sid not in self._settled | ours]
        return sorted(young, key=lambda room: room.creation_time_ms)

    async def _refused(self, client: LiveKitAPI, room: Room) -> list[tuple[Room, AgentDispatch]]:
        """The dispatches of a room that no worker took, the oldest first: one for each caller to whom nobody comes.

        There may be more, of agents that were to continue the call while no worker took any.
        """
        found = await dispatches_in(client, room.name)
        if found is None:
            return []
        ours = [each for each in found if each.agent_name == self._agent_name and not each.state.deleted_at]
        if all(each.state.jobs for each in ours):
            self._settled.add(room.sid)
            return []
        since = (time.time() - SETTLING) * 1e9
        refused = [each for each in ours if each.state.created_at < since and not each.state.jobs]
        if not refused:
            return []
        on_their_way = sum(each.state.created_at >= since for each in ours)
        alone = await self._alone(client, room.name) - on_their_way
        return [(room, each) for each in sorted(refused, key=lambda each: each.state.created_at)[: max(0, alone)]]

    async def _alone(self, client: LiveKitAPI, room: str) -> int:
        """How many are in a room whom no agent of ours serves.

        After a restart of the LiveKit server, callers and their agents come back to a room that is made anew, and whose
        dispatch may be taken by no worker; and a room whose caller has left is there for a while.
        """
        from livekit import api

        async with asyncio.timeout(PATIENCE):
            present = await client.room.list_participants(api.ListParticipantsRequest(room=room))
        agents = [each for each in present.participants if each.kind == api.ParticipantInfo.Kind.AGENT]
        ours = sum(each.attributes.get(_AGENT_NAME) == self._agent_name for each in agents)
        return len(present.participants) - len(agents) - ours

    async def _again(self, client: LiveKitAPI, room: Room, refused: AgentDispatch) -> None:
        """Dispatch again, unless another worker does."""
        from livekit import api

        try:
            async with asyncio.timeout(PATIENCE):
                await client.agent_dispatch.delete_dispatch(refused.id, room.name)
        except api.ServerError as error:
            if error.code == api.ServerErrorCode.NOT_FOUND:
                return
            raise
        request = api.CreateAgentDispatchRequest(agent_name=self._agent_name, room=room.name, metadata=refused.metadata)
        async with asyncio.timeout(PATIENCE):
            await client.agent_dispatch.create_dispatch(request)
        _REFUSED.inc()
        logger.info("no worker had taken the caller in %s: dispatched again", room.name)

    def _tell(self, waiting: int) -> None:
        """Log once while callers wait: the worker is full, and so are all others."""
        if waiting and not self._are_told:
            logger.warning(
                "callers who wait: %d; this worker has its %g calls (--max-calls), so run more workers",
                waiting,
                self._capacity.max_calls,
            )
        elif self._are_told and not waiting:
            logger.info("no caller waits any more")
        self._are_told = bool(waiting)
        _WAITING.set(waiting)


def _may_be_served(room: Room) -> bool:
    """Whether somebody is there, and not for too long."""
    return bool(room.num_participants) and room.creation_time_ms > (time.time() - MAX_WAIT) * 1_000
