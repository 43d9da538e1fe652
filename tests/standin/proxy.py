"""One client connection: relays messages to the server and back, and steps in where the stand-in owns the command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.errors import ConnectionFailure

from tests.standin.commands import Command, Recorded
from tests.standin.engine import Answer, Engine
from tests.standin.errors import CommandError, ConnectionLost, unsupported
from tests.standin.wire import Message, read_message

if TYPE_CHECKING:
    from tests.standin.faults import Fault, Faults

log = logging.getLogger(__name__)

NOT_PRIMARY = {91, 189, 10107, 11600, 11602, 13435, 13436}
_REWRITTEN = {"hello", "buildInfo", "buildinfo"}


@dataclass
class _Expected:
    """A reply that is on its way, and what to do with it."""

    command: str
    faults: list[Fault] = field(default_factory=list)
    record: Recorded | None = None


@dataclass
class Shared:
    """What all connections have in common."""

    engine: Engine
    faults: Faults
    commands: list[Recorded]
    seen: dict[str, int]
    connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    release: str | None
    address: str = ""
    connections: set[Connection] = field(default_factory=set)


class Connection:
    """A client and the server's end for it."""

    def __init__(self, shared: Shared, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.shared = shared
        self.reader, self.writer = reader, writer
        self.server: asyncio.StreamWriter | None = None
        self._expected: dict[int, _Expected] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Relay until one side is gone."""
        self.shared.connections.add(self)
        try:
            source, self.server = await self.shared.connect()
            await self._relay(source)
        except OSError as error:
            log.warning("the server is not there: %s", error)
        finally:
            self.shared.connections.discard(self)
            writers = [writer for writer in (self.writer, self.server) if writer is not None]
            for writer in writers:
                writer.close()  # all of them before the first wait, which may be cancelled
            for writer in writers:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _relay(self, source: asyncio.StreamReader) -> None:
        requests = asyncio.ensure_future(self._requests())
        replies = asyncio.ensure_future(self._replies(source))
        try:
            await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = (requests, replies, *self._tasks)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, ConnectionError | ConnectionLost):
                    log.error("a connection ended: %r", result, exc_info=result)

    async def _requests(self) -> None:
        while message := await read_message(self.reader):
            command = Command(message)
            self.shared.seen[command.name] = self.shared.seen.get(command.name, 0) + 1
            hit = self.shared.faults.take(command)
            if hit or self.shared.engine.owns(command):
                self._start(self._handle(command, hit))
            else:
                if command.name in _REWRITTEN:
                    self._expected[message.request_id] = _Expected(command.name)
                await self._to_server(message.raw)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            if not isinstance(error, ConnectionLost | ConnectionError | ConnectionFailure):
                log.error("a command failed in the stand-in: %r", error, exc_info=error)
            self.writer.close()

    async def _handle(self, command: Command, hit: list[Fault]) -> None:
        owned = self.shared.engine.owns(command)
        record = self._record(command) if owned else None
        try:
            document = await self._before(command, [fault for fault in hit if not fault.after], owned=owned)
        except CommandError as error:
            await self._refuse(command, error, record)
            return
        except (ConnectionLost, ConnectionFailure):
            if record:
                record.code = 0
            raise
        except Exception as error:
            log.exception("a command failed in the stand-in")
            await self._refuse(command, unsupported(f"the stand-in broke: {error!r}"), record)
            return
        late = [fault for fault in hit if fault.after]
        if isinstance(document, Answer):
            reply = Message(command.message.reply(document.document))
            await self._deliver(reply, _Expected(command.name, late, record))
            return
        self._expected[command.message.request_id] = _Expected(command.name, late, record)
        message = command.message
        await self._to_server(message.raw if document is None else message.with_body(document.document))

    async def _refuse(self, command: Command, error: CommandError, record: Recorded | None) -> None:
        if record:
            record.code = error.code
        await self._to_client(command.message.reply(error.document()))

    async def _before(self, command: Command, hit: list[Fault], *, owned: bool) -> Any:
        """Faults that come first, then the command itself if it is ours."""
        inside = sum(fault.seconds for fault in hit if fault.inside and owned)
        for fault in hit:
            if fault.action == "delay" and not (fault.inside and owned):
                await asyncio.sleep(fault.seconds)
            elif fault.action == "error" and fault.error is not None:
                self._end_monitoring_after(fault.error.code)
                raise self.shared.engine.worded(command, fault.error) if owned else fault.error
            elif fault.action in ("drop", "half"):
                raise ConnectionLost
        if not owned:
            return None
        limit = command.body.get("maxTimeMS")
        deadline = asyncio.get_running_loop().time() + limit / 1000 if limit else None
        return await self.shared.engine.run(command, deadline, inside)

    def _end_monitoring_after(self, code: int) -> None:
        """A server that steps down tells so to drivers that wait for news of it; here their connections end."""
        if code in NOT_PRIMARY:
            for connection in self.shared.connections:
                if any(reply.command == "hello" for reply in connection._expected.values()):
                    connection.writer.close()

    def _record(self, command: Command) -> Recorded:
        body = {key: value for key, value in command.body.items() if key != "$clusterTime"}
        record = Recorded(command.name, command.database, command.collection, body, command.stages)
        self.shared.commands.append(record)
        return record

    async def _replies(self, source: asyncio.StreamReader) -> None:
        while message := await read_message(source):
            expected = self._expected.pop(message.response_to, None)
            if expected is None:
                await self._to_client(message.raw)
                continue
            if message.more_to_come:
                # The server goes on without being asked; each further reply answers the one before.
                self._expected[message.request_id] = expected
            await self._deliver(self._rewritten(message, expected.command), expected)

    def _rewritten(self, message: Message, command: str) -> Message:
        if command == "hello":
            return Message(message.with_body(self._hello(message.body)))
        if command in _REWRITTEN and self.shared.release:
            release = self.shared.release
            numbers = [*(int(part) for part in release.split(".")), 0]
            return Message(message.with_body({**message.body, "version": release, "versionArray": numbers}))
        return message

    def _hello(self, document: dict[str, Any]) -> dict[str, Any]:
        """A reply in which the stand-in is the one member of the replica set, and speaks without compression."""
        document = {key: value for key, value in document.items() if key not in ("compression", "passives", "arbiters")}
        if "hosts" in document:
            document["hosts"] = [self.shared.address]
        for key in ("me", "primary"):
            if key in document:
                document[key] = self.shared.address
        return document

    async def _deliver(self, reply: Message, expected: _Expected) -> None:
        """Send a reply, with what is to go wrong after the work is done."""
        if expected.record and not reply.body.get("ok"):
            expected.record.code = reply.body.get("code")
        for fault in expected.faults:
            if fault.action == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.action == "error" and fault.error is not None:
                self._end_monitoring_after(fault.error.code)
                reply = Message(reply.with_body(fault.error.document()))
            else:
                if expected.record:
                    expected.record.code = 0
                if fault.action == "half":
                    await self._to_client(reply.raw[: len(reply.raw) // 2])
                raise ConnectionLost
        await self._to_client(reply.raw)

    async def _to_server(self, data: bytes) -> None:
        if self.server is not None:
            self.server.write(data)
            await self.server.drain()

    async def _to_client(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
