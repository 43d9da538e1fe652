"""`make talk`: a LiveKit server, a worker and the talk page on this machine, side by side until Ctrl-C.

Each is a process in a session of its own, so that a signal of the terminal reaches this one alone, which then ends them
in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkmongo.cli.output import Output
from lkmongo.dotenv_files import load_dotenv_files
from lkmongo.errors import ExitCode, LkmongoError, UsageError

if TYPE_CHECKING:
    from lkmongo.settings import LiveKitCredentials

PORT = 7880
"""Where `livekit-server --dev` listens."""
_KEY, _SECRET = "devkey", "secret"
_START = 60.0
"""Seconds in which the LiveKit server has to answer."""
_END = 30.0
"""Seconds that a process has to end after a signal, before it is killed."""
_POLITE = 10.0
"""Seconds of them after which it is told once more."""
_POLL = 0.1
_LOG_LINES = 5
_LONGEST_LINE = 2**20
"""Bytes of a line that a process may write."""
_SERVER = "livekit-server"
_HOW_TO_GET_IT = (
    "install it (macOS: brew install livekit; Linux: curl -sSL https://get.livekit.io | bash; "
    "https://docs.livekit.io/transport/self-hosting/local/), or name a LiveKit server in LIVEKIT_URL, LIVEKIT_API_KEY "
    "and LIVEKIT_API_SECRET; make console needs none"
)


class TalkError(LkmongoError):
    """One of the processes could not start, or has ended."""

    code = "talk"


def main(arguments: list[str] | None = None) -> int:
    """Run everything until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make talk", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, default=8080, help="port of the talk page; 0 for a free one")
    parser.add_argument("--livekit-port", type=int, default=PORT, help=f"port of {_SERVER}")
    options = parser.parse_args(arguments)
    output = Output()
    try:
        return asyncio.run(_talk(output, options.port, options.livekit_port))
    except LkmongoError as error:
        output.error(error)
        return error.exit_code


async def _talk(output: Output, port: int, livekit_port: int) -> int:
    from lkmongo.settings import Settings

    settings = Settings.load(None, *load_dotenv_files(Path.cwd()))
    environment = dict(os.environ)
    stop = _Stop()
    async with AsyncExitStack() as stack:
        processes: dict[str, asyncio.subprocess.Process] = {}
        if settings.livekit is None:
            environment |= {
                "LIVEKIT_URL": f"ws://127.0.0.1:{livekit_port}",
                "LIVEKIT_API_KEY": _KEY,
                "LIVEKIT_API_SECRET": _SECRET,
            }
            credentials = Settings.load(environment).livekit
            if credentials and not await _is_there(credentials, livekit_port):
                _check_page(port)
                output.note(f"Starting {_SERVER} ...")
                processes[_SERVER] = await stack.enter_async_context(_livekit_server(credentials, livekit_port, stop))
        _check_page(port)
        if not stop.is_set():
            output.note("Starting the worker and the talk page ...")
            pipe = asyncio.subprocess.PIPE
            worker = ("agent", "run", "--dev", "--demo")
            processes["the worker"] = await stack.enter_async_context(_lkmongo(environment, *worker, stderr=pipe))
            page = ("web", "--dev", "--port", str(port), "--json")
            processes["the talk page"] = await stack.enter_async_context(
                _lkmongo(environment, *page, stdout=pipe, stderr=pipe)
            )
            await _until_stopped(output, stop, processes)
    return stop.exit_code


async def _until_stopped(output: Output, stop: _Stop, processes: Mapping[str, asyncio.subprocess.Process]) -> None:
    """Tell where to talk once a call would be answered, and wait for a signal.

    Raises:
        TalkError: one of the processes has ended.
    """
    page = _Page(processes["the talk page"])
    registered = asyncio.Event()
    reading = {asyncio.create_task(_pass_on(processes["the worker"], registered)), *page.reading()}
    ready: asyncio.Future[Any] = asyncio.gather(registered.wait(), page.address)
    await _wait(stop, ready, processes)
    if ready.done():
        page.announced = True
        output.note(f"Talk on {page.address.result()} (Ctrl-C ends everything)")
        await _wait(stop, None, processes)
    ready.cancel()
    await asyncio.gather(ready, return_exceptions=True)
    if not stop.is_set():
        name, process = next((name, each) for name, each in processes.items() if each.returncode is not None)
        await asyncio.wait(reading, timeout=_POLL * 10)  # its last words; the others go on
        page.show_held()
        raise TalkError(f"{name} has ended (exit code {process.returncode}), and so everything ends")


async def _wait(
    stop: _Stop, until: asyncio.Future[Any] | None, processes: Mapping[str, asyncio.subprocess.Process]
) -> None:
    """Wait for a signal, for `until`, or for one of the processes to end."""
    ends: list[Coroutine[Any, Any, Any]] = [_has_ended(each) for each in processes.values()]
    tasks: list[asyncio.Future[Any]] = [asyncio.create_task(each) for each in (*ends, stop.wait())]
    try:
        await asyncio.wait([*tasks, *([until] if until else [])], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


class _Stop(asyncio.Event):
    """Is set by the first signal to end."""

    exit_code = int(ExitCode.OK)

    def __init__(self) -> None:
        super().__init__()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        self.exit_code = 128 + number
        self.set()


def _check_page(port: int) -> None:
    """Raise TalkError if the talk page could not listen, before anything is started."""
    if port and _answers(port):
        raise TalkError(f"port {port} is taken: the talk page cannot listen there", hint="make talk ARGS='--port 0'")


async def _is_there(credentials: LiveKitCredentials, port: int) -> bool:
    """Whether somebody's LiveKit server with the keys for development is there; False if nobody listens.

    Raises:
        TalkError: something else listens there.
        UsageError: nobody does, and there is no `livekit-server` to start.
    """
    from lkmongo.livekit_api import call_livekit

    if not _answers(port):
        if not shutil.which(_SERVER):
            raise UsageError(
                f"{_SERVER} is not on PATH: there is no LiveKit server to talk through", hint=_HOW_TO_GET_IT
            )
        return False
    try:
        await call_livekit(credentials)
    except LkmongoError as error:
        raise TalkError(
            f"port {port} is taken, and not by a LiveKit server with the keys of {_SERVER} --dev",
            why=error.message,
            hint="end what listens there, or name your LiveKit server in LIVEKIT_URL, LIVEKIT_API_KEY and its secret",
        ) from error
    return True


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@asynccontextmanager
async def _livekit_server(
    credentials: LiveKitCredentials, port: int, stop: _Stop
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start one that this machine alone reaches, and wait until it answers or `stop` is set.

    Raises:
        TalkError: it has ended, or does not answer.
    """
    from lkmongo.livekit_api import call_livekit

    # Without a network, the loopback interface is the only one; and nobody else is to come in.
    config = {
        "port": port,
        "rtc": {"node_ip": "127.0.0.1", "enable_loopback_candidate": True, "ips": {"includes": ["127.0.0.1/32"]}},
    }
    if port != PORT:
        config["rtc"] |= {"tcp_port": 0, "udp_port": _free_udp_port()}  # type: ignore[operator]
    command = [_SERVER, "--dev", "--bind", "127.0.0.1", "--config-body", json.dumps(config)]  # JSON is YAML
    with tempfile.TemporaryFile() as log:
        async with _running(command, dict(os.environ), stdout=log.fileno(), stderr=log.fileno()) as process:
            until = asyncio.get_running_loop().time() + _START
            while not stop.is_set():
                with suppress(LkmongoError):
                    if _answers(port):
                        await call_livekit(credentials)
                        break
                if process.returncode is not None or asyncio.get_running_loop().time() > until:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
                    raise TalkError(f"{_SERVER} did not start", why="\n".join(lines), hint="run livekit-server --dev")
                await asyncio.sleep(_POLL)
            yield process


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def _lkmongo(
    environment: dict[str, str], *arguments: str, stdout: int | None = None, stderr: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "lkmongo", *arguments]
    async with _running(command, environment, stdout=stdout, stderr=stderr) as process:
        yield process


@asynccontextmanager
async def _running(
    command: list[str], environment: dict[str, str], *, stdout: int | None = None, stderr: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program, and end it and wait for it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        limit=_LONGEST_LINE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        for seconds in (_POLITE, _END - _POLITE):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await _has_ended(process)
                break
            with suppress(ProcessLookupError):
                process.terminate()  # a worker that still starts is told twice to stop at once
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has left behind


async def _has_ended(process: asyncio.subprocess.Process) -> None:
    """Wait for it alone: `wait` of asyncio also waits for whoever else has inherited its output."""
    while process.returncode is None:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(_POLL)


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    while stream and (line := await stream.readline()):
        yield line


async def _pass_on(worker: asyncio.subprocess.Process, registered: asyncio.Event) -> None:
    """Show the worker's log, and note when it takes calls."""
    async for line in _lines(worker.stderr):
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
        if b"registered worker" in line:
            registered.set()


class _Page:
    """What the process of the talk page writes: where it is, and notes, which matter if it fails or afterwards."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._held: list[bytes] = []
        self.announced = False
        """Whether it was told where it is: what it wrote before then is of no use."""
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def reading(self) -> set[asyncio.Task[None]]:
        """The tasks that read what it writes, until it ends."""
        return {asyncio.create_task(self._read_address()), asyncio.create_task(self._read_notes())}

    def show_held(self) -> None:
        """Show the notes from before it was ready."""
        sys.stderr.buffer.writelines(self._held)
        sys.stderr.flush()

    async def _read_address(self) -> None:
        async for line in _lines(self._process.stdout):
            if not self.address.done():
                self.address.set_result(str(json.loads(line)["url"]))

    async def _read_notes(self) -> None:
        async for line in _lines(self._process.stderr):
            if self.announced:
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
            else:
                self._held.append(line)


if __name__ == "__main__":
    sys.exit(main())
