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
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lkmongo.cli.output import Output
from lkmongo.dotenv_files import load_dotenv_files
from lkmongo.errors import ExitCode, LkmongoError, SettingsError, UsageError

if TYPE_CHECKING:
    from lkmongo.settings import LiveKitCredentials

PORT = 7880
"""Where `livekit-server --dev` listens."""
_KEY, _SECRET = "devkey", "secret"  # noqa: S105 - as everybody knows of `livekit-server --dev`
_START = 60.0
"""Seconds in which the LiveKit server has to answer."""
_END = 30.0
"""Seconds that a process has to end after a signal, before it is killed."""
_POLL = 0.1
_LOG_LINES = 5
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
    stop = _stop_on_signal()
    async with AsyncExitStack() as stack:
        processes: dict[str, asyncio.subprocess.Process] = {}
        if settings.livekit is None:
            _check_page(port)
            environment |= {
                "LIVEKIT_URL": f"ws://127.0.0.1:{livekit_port}",
                "LIVEKIT_API_KEY": _KEY,
                "LIVEKIT_API_SECRET": _SECRET,
            }
            credentials = Settings.load(environment).livekit
            if credentials and not await _is_there(credentials, livekit_port):
                output.note(f"Starting {_SERVER} ...")
                processes[_SERVER] = await stack.enter_async_context(_livekit_server(credentials, livekit_port, stop))
        if stop.is_set():
            return ExitCode.INTERRUPTED
        output.note("Starting the worker and the talk page ...")
        worker = await stack.enter_async_context(
            _lkmongo(environment, "agent", "run", "--dev", "--demo", stderr=asyncio.subprocess.PIPE)
        )
        page = await stack.enter_async_context(
            _lkmongo(environment, "web", "--dev", "--port", str(port), "--json", stdout=asyncio.subprocess.PIPE)
        )
        processes |= {"the worker": worker, "the talk page": page}
        registered, address = asyncio.Event(), asyncio.get_running_loop().create_future()
        for reading in (_pass_on(worker, registered), _address(page, address)):
            task = asyncio.create_task(reading)
            stack.callback(task.cancel)
        everything = asyncio.gather(registered.wait(), address)
        await _wait(stop, everything, processes)
        if everything.done() and not everything.cancelled():
            output.note(f"Talk on {address.result()} (Ctrl-C ends everything)")
            await _wait(stop, None, processes)
        everything.cancel()
        if not stop.is_set():
            name, process = next((name, each) for name, each in processes.items() if each.returncode is not None)
            raise TalkError(f"{name} has ended (exit code {process.returncode}), and so everything ends")
    return ExitCode.INTERRUPTED


async def _wait(
    stop: asyncio.Event, until: asyncio.Future[object] | None, processes: Mapping[str, asyncio.subprocess.Process]
) -> None:
    """Wait for a signal, for `until`, or for one of the processes to end."""
    tasks = [asyncio.create_task(each.wait()) for each in processes.values()] + [asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait([*tasks, *([until] if until else [])], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


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
            raise UsageError(f"{_SERVER} is not on PATH: there is no LiveKit server to talk through", hint=_HOW_TO_GET_IT)
        return False
    try:
        await call_livekit(credentials)
    except LkmongoError as error:
        raise TalkError(
            f"port {port} is taken, and not by a LiveKit server with the keys of {_SERVER} --dev",
            why=error.message,
            hint=f"end what listens there, or name your LiveKit server in LIVEKIT_URL, LIVEKIT_API_KEY and its secret",
        ) from error
    return True


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@asynccontextmanager
async def _livekit_server(
    credentials: LiveKitCredentials, port: int, stop: asyncio.Event
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
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_END):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


async def _pass_on(worker: asyncio.subprocess.Process, registered: asyncio.Event) -> None:
    """Show the worker's log, and note when it takes calls."""
    assert worker.stderr
    async for line in worker.stderr:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
        if b"registered worker" in line:
            registered.set()


async def _address(page: asyncio.subprocess.Process, address: asyncio.Future[str]) -> None:
    """Note where the talk page is."""
    assert page.stdout
    async for line in page.stdout:
        if not address.done():
            address.set_result(str(json.loads(line)["url"]))


if __name__ == "__main__":
    sys.exit(main())
