"""A local server that workers register with and that sends them jobs, as LiveKit's agent dispatch does, for tests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web
from livekit.protocol import agent

from tests.livekit_api import KEY, SECRET, create_app
from tests.waiting import PATIENCE


class Dispatch:
    """The server: workers that are registered, and what became of the jobs that they were sent."""

    def __init__(self) -> None:
        self.url = ""
        self.names: list[str] = []
        self.statuses: dict[str, list[str]] = defaultdict(list)
        self._workers: list[web.WebSocketResponse] = []
        self._changed = asyncio.Event()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a worker finds this server."""
        return {"LIVEKIT_URL": self.url, "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}

    async def registered(self) -> str:
        """Wait for a worker, and return the name of its agent."""
        await self._until(lambda: bool(self._workers))
        return self.names[-1]

    async def send(self, job_id: str, *, metadata: str = "", room: str = "", sid: str | None = None) -> None:
        """Send a job to the newest worker, and wait until it runs."""
        message = agent.ServerMessage()
        job = message.availability.job
        job.id, job.metadata, job.agent_name = job_id, metadata, self.names[-1]
        job.room.name, job.room.sid = room or f"room-{job_id}", f"RM_{job_id}" if sid is None else sid
        await self._workers[-1].send_bytes(message.SerializeToString())
        await self._until(lambda: "JS_RUNNING" in self.statuses[job_id])

    async def ended(self, job_id: str) -> str:
        """Wait until a job is over, and return its last status."""
        await self._until(lambda: self.statuses[job_id][-1:] not in ([], ["JS_RUNNING"], ["JS_PENDING"]))
        return self.statuses[job_id][-1]

    async def _until(self, true) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type == WSMsgType.BINARY:
                    await self._answer(socket, agent.WorkerMessage.FromString(message.data))
                    self._changed.set()
        finally:
            if socket in self._workers:
                self._workers.remove(socket)
            self._changed.set()
        return socket

    async def _answer(self, socket: web.WebSocketResponse, message: agent.WorkerMessage) -> None:
        answer = agent.ServerMessage()
        match message.WhichOneof("message"):
            case "register":
                answer.register.worker_id = "W_1"
                await socket.send_bytes(answer.SerializeToString())
                self.names.append(message.register.agent_name)
                self._workers.append(socket)
            case "availability" if message.availability.available:
                answer.assignment.job.id, answer.assignment.token = message.availability.job_id, "token"
                await socket.send_bytes(answer.SerializeToString())
            case "update_job":
                update = message.update_job
                self.statuses[update.job_id].append(agent.JobStatus.Name(update.status))


@asynccontextmanager
async def dispatch_server() -> AsyncIterator[Dispatch]:
    """Run the server, with the room service that a worker calls first."""
    dispatch = Dispatch()
    app = create_app()
    app.router.add_get("/agent", dispatch.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    dispatch.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield dispatch
    finally:
        await runner.cleanup()
