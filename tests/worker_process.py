"""`lkmongo agent run` in a process of its own, whose jobs meet LiveKit's own stand-in for a room, for tests.

There is no media server here. The SDK has a room to be used where there is none, which a job gets when it is marked
as such; everything else, the job's processes, signals and the order of its end, is what it is in production.

`Actor` is the agent of these calls; the name of the room says what happens in it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from livekit import rtc
from livekit.agents import get_job_context
from livekit.agents.ipc import mock_room

from lkmongo import deadlines
from lkmongo.agent.assistant import Assistant
from tests.conftest import clean_environment
from tests.waiting import until

logger = logging.getLogger("worker")

ROOT = Path(__file__).resolve().parent.parent


if multiprocessing.parent_process():
    # The SDK makes one room for all calls of a process, whose handlers would be each other's.
    vars(mock_room)["create_mock_room"] = mock_room.create_mock_room.__wrapped__


class Actor(Assistant):
    """Does what the name of the room says, when the greeting is over."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self._acting = None
        if get_job_context().job.room.name.startswith("crash"):
            raise RuntimeError("this agent cannot be made")

    async def on_enter(self) -> None:
        await super().on_enter()
        self._acting = asyncio.create_task(self._act(self.caller_session.room_name.partition("-")[0]))

    async def _act(self, what: str) -> None:
        await until(self.session.history.messages)
        if what == "remember":
            await self.session.generate_reply(user_input="please remember that my favorite color is teal")
            await self.session.generate_reply(user_input="what is my favorite color?")
            self._leave()
        elif what == "leave":
            self._leave()
        elif what == "later":
            await until(Path("they-may-leave").exists)
            self._leave()
        elif what == "kill":
            # All turns are in the journal, which is some time before MongoDB is told.
            await until(self.caller_session.recorder._outbox._journal._writing.done)
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "block":
            time.sleep(1.2 * deadlines.LEASE)  # noqa: ASYNC251
            self._leave()
        elif what == "threads":
            Path("threads").write_text("\n".join(each.name for each in threading.enumerate()))  # noqa: ASYNC240
            self._leave()
        elif what == "finish":
            self.session.shutdown()

    def _leave(self) -> None:
        """The caller hangs up."""
        room = get_job_context().room
        participant = next(iter(room.remote_participants.values()))
        participant.disconnect_reason = rtc.DisconnectReason.CLIENT_INITIATED
        for call in room.on.call_args_list:
            if call.args[0] == "participant_disconnected":
                call.args[1](participant)


class Worker:
    """A worker that runs, and its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while line := await self.process.stderr.readline():
            self._lines.append(line.decode(errors="replace"))
            logger.info("%s", self._lines[-1].rstrip())

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return "".join(self._lines)

    async def logs(self, text: str) -> None:
        """Wait until it has logged `text`."""
        await until(lambda: text in self.log)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send it a signal, or its whole process group."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    async def ended(self, by: signal.Signals | None = None) -> int:
        """Wait for its end, and return the exit code.

        Args:
            by: a signal that is sent until then: one that comes right after the first is taken for its echo.
        """
        while by and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.signal(by)
            await asyncio.sleep(0.05)
        code = await self.process.wait()
        await self._reading
        return code


@asynccontextmanager
async def worker(
    folder: Path, environment: dict[str, str], *options: str, program: str = "tests.worker_process"
) -> AsyncIterator[Worker]:
    """Run a worker with these settings in a folder, by this module's `main` or another's; what is left is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        program,
        "agent",
        "run",
        *options,
        cwd=folder,
        env=clean_environment()
        | ({} if "LIVEKIT_INFERENCE_URL" in environment else {"LKMONGO_SPEECH": "off"})
        | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "LKMONGO_AGENT": "tests.worker_process:Actor"}
        | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    running = Worker(process)
    try:
        yield running
    except BaseException as error:
        error.add_note(running.log)
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await running.ended()


def main() -> None:
    """Be the command line, in a process whose jobs have no media server."""
    from livekit.agents import worker as sdk

    from lkmongo.cli import main as cli
    from lkmongo.outbox import recovery

    recovery.POLL_INTERVAL = 1.0

    made = sdk.RunningJobInfo
    sdk.RunningJobInfo = functools.partial(_without_media, made)
    cli()


def _without_media(made, **fields):
    return made(**(fields | {"fake_job": True}))


if __name__ == "__main__":
    main()
