"""Users of the embedded mongod in processes of their own, driven by a test line by line.

Run as a program with a home as its argument, this opens the mongod, says so, and obeys the commands of `main`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

import psutil
from pymongo import MongoClient

from lkmongo.local import EmbeddedMongod, find_server

if TYPE_CHECKING:
    import pytest

    from tests.cli.started import Started, Zygote

PATIENCE = 300
"""Seconds: the machine that runs the tests may be busy."""


class User:
    """A process that uses the embedded mongod of `home`."""

    started: ClassVar[list[User]] = []
    zygote: ClassVar[Zygote]
    """Forks for each."""
    folder: ClassVar[Path]
    """Where they run."""

    def __init__(self, home: Path, *options: str, wait: bool = True, before: Sequence[str] = ()) -> None:
        """Start it, and wait until it has opened the mongod."""
        from tests.cli.started import ROOT, Started

        self.process: Started | subprocess.Popen[bytes]
        if before:  # a program that starts it
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", __name__, str(home), *options],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # the test's own Ctrl-C apart from the ones it sends
            )
        else:
            arguments = [str(home), *options]
            self.process = Started(self.zygote, arguments, self.folder, os.environ, program="tests.local_support")
        self.started.append(self)
        self.opened: dict[str, Any] = {}
        if wait:
            self.wait_until_open()

    def wait_until_open(self) -> None:
        self.opened = self._answer()

    def do(self, command: str) -> Any:
        """Send a command and return its answer."""
        self.process.stdin.write(f"{command}\n".encode())
        return self._answer()

    def _answer(self) -> Any:
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "no answer"
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self, number: signal.Signals | None = None) -> str:
        """Let it end, by a signal or because nothing more comes from stdin; what it wrote to stderr, once."""
        if self.process.returncode is not None:
            return ""
        if number:
            self.process.send_signal(number)
        return self.process.communicate()[1].decode()

    def begin_to_end(self) -> None:
        """Tell it that nothing more comes, and do not wait."""
        self.process.stdin.close()

    def kill(self) -> None:
        """End it with no chance to clean up."""
        self.process.kill()
        self.process.communicate()


def servers(home: Path) -> list[psutil.Process]:
    """The mongods of a home, and whatever else was started for it and runs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            arguments = process.cmdline()
            places = [*arguments, process.cwd()]
            if any(str(home.resolve()) in place for place in places) and __name__ not in arguments:
                found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    """End processes with no chance to clean up, and wait until they are gone or zombies."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not any(_runs(process) for process in processes))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # since it was asked whether it is running
        return False


def kill_server(home: Path) -> None:
    """Kill the mongod of `home`, not its keeper; its sockets are closed when its lock is free."""
    kill([process for process in servers(home) if process.name() == "mongod"])
    for path in home.rglob("server.lock"):
        with path.open() as file:
            until(lambda file=file: _is_free(file))


def _is_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


@contextlib.contextmanager
def nothing_left(home: Path) -> Iterator[None]:
    """See to it that no process is left of what a test did in `home`; a failed test's are ended too."""
    yield
    for user in User.started:
        if user.process.returncode is None:
            user.kill()
    User.started.clear()
    left = servers(home)
    kill(left)
    assert not left, left


@contextlib.contextmanager
def short_tmpdir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets, used by this process and those it starts."""
    with tempfile.TemporaryDirectory(prefix="lkm", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@contextlib.contextmanager
def running(home: Path) -> Iterator[EmbeddedMongod]:
    """An open mongod that is killed at the end: stopping one takes a second."""
    with EmbeddedMongod(home) as mongod:
        yield mongod
        kill_server(home)


def keep(uri: str, name: str) -> None:
    """Write a document, acknowledged by the journal."""
    with MongoClient(uri) as client:
        _kept(client, "keep", name)


def kept(uri: str) -> list[str]:
    """The names of the documents that were written."""
    with MongoClient(uri) as client:
        return _kept(client, "kept", "")


@functools.cache
def _series() -> str:
    return find_server().series


def folder_of(home: Path) -> Path:
    """Where the mongod of a home has its data."""
    return home / f"mongodb-{_series()}"


def socket_of(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).netloc))


def only(home: Path) -> psutil.Process:
    """The one mongod of a home."""
    (server,) = [process for process in servers(home) if process.name() == "mongod"]
    return server


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Open the mongod of the home in argv, print how that went, then obey stdin until it ends.

    With `--unclosed` the mongod is not closed by this program, and with `--linger=N` it lingers for N seconds.
    """
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    with contextlib.ExitStack() as stack:
        linger = [float(word.partition("=")[2]) for word in sys.argv if word.startswith("--linger=")]
        mongod = EmbeddedMongod(Path(sys.argv[1]), linger=sum(linger))
        if "--unclosed" not in sys.argv:
            stack.callback(mongod.close)
        mongod.open()
        _say({"uri": mongod.uri, "first_start": mongod.first_start})
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "ensure":
                mongod.ensure()
                _say(mongod.uri)
            elif command == "close":
                mongod.close()
                _say(None)
            elif command == "fork":
                _say(_fork(mongod))
            else:
                with MongoClient(mongod.uri) as client:
                    _say(_kept(client, command, argument))


def _kept(client: MongoClient[dict[str, Any]], command: str, name: str) -> list[str]:
    collection = client.get_database("test")["kept"]
    if command == "keep":
        collection.insert_one({"_id": name})
    return sorted(document["_id"] for document in collection.find())


def _fork(mongod: Any) -> int:
    """Close it in a forked child; its exit code."""
    child = os.fork()
    if not child:
        try:
            mongod.close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def until(condition: Any) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


if __name__ == "__main__":
    main()
