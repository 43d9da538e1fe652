"""The one mongod process of a data folder: whether it lives, how it starts and ends, and its replica set of one node.

Everything here is called by the holder of the folder's start lock. `server.lock` is the process's life: mongod
inherits it, locked, when it starts, so that it is held exactly as long as the process exists, from before it
opens its files until after it has closed them, whoever else dies meanwhile. The file holds its process id and
the name of its socket, by which it is told from a process that has the same id elsewhere or later.

A replica set is what gives a single mongod change streams and transactions.
"""

from __future__ import annotations

import os
import signal
import socket as sockets
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from lkmongo.errors import EmbeddedError
from lkmongo.local.folder import OWN_MONGODB, startup_error
from lkmongo.local.locks import Lock

if TYPE_CHECKING:
    from pymongo.database import Database

    from lkmongo.local.binary import Server
    from lkmongo.local.folder import Folder

REPLICA_SET = "lkmongo"
_NOT_INITIALIZED = 94
_ALREADY_INITIALIZED = 23
_POLL = 0.01


def uri_of(socket: Path) -> str:
    """The address of the server at `socket`, for a driver."""
    return f"mongodb://{_host(socket)}/?replicaSet={REPLICA_SET}"


def _host(socket: Path) -> str:
    return quote(os.fsencode(socket), safe="")


def make_primary(socket: Path, seconds: float) -> None:
    """Bring the server at `socket` to where it takes writes, within `seconds`.

    A new one is initiated. One whose socket has another path than last time, because its home or the
    temporary folder is another, no longer finds itself among the members: it is told its new name.

    Raises:
        EmbeddedError: it did not become primary.
    """
    from pymongo import MongoClient
    from pymongo.errors import AutoReconnect, PyMongoError, ServerSelectionTimeoutError

    deadline = time.monotonic() + seconds
    # Only to give these commands: a client that saw the server before it was initiated refuses sessions after.
    client: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://{_host(socket)}/?directConnection=true",
        serverSelectionTimeoutMS=5_000,
        socketTimeoutMS=30_000,
    )
    why = "its state did not change"
    with client:
        while time.monotonic() < deadline:
            try:
                hello = client.admin.command("hello")
                if hello.get("isWritablePrimary"):
                    return
                if "setName" not in hello:
                    _configure(client.admin, str(socket))
                why = str(hello.get("info", why))
            except PyMongoError as error:
                # A server closes its connections when it finds that it is no member; one that is gone is not found again.
                if not isinstance(error, AutoReconnect) or isinstance(error, ServerSelectionTimeoutError):
                    raise EmbeddedError(
                        "the embedded MongoDB stopped answering while it started", why=str(error)
                    ) from error
                why = str(error)
            time.sleep(_POLL)
    raise EmbeddedError(f"the embedded MongoDB did not become primary within {seconds:.0f} s", why=why)


def _configure(admin: Database[dict[str, Any]], host: str) -> None:
    from pymongo.errors import OperationFailure

    try:
        config = admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != _NOT_INITIALIZED:
            raise
        config = None
    if config is None:
        try:
            admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
        except OperationFailure as error:
            # While it still reads its configuration it says the one or the other; the next look tells.
            if error.code not in {_ALREADY_INITIALIZED, _NOT_INITIALIZED}:
                raise
    elif config["members"][0]["host"] != host:
        config["members"][0]["host"] = host
        config["version"] += 1
        config.pop("term", None)
        admin.command("replSetReconfig", config, force=True)


START_SECONDS = 120
"""Recovery after a crash reads the journal: be patient as long as the process lives."""
STOP_SECONDS = 20
_FIND_SECONDS = 2

# The shell notes its process id and becomes mongod: whoever finds the lock held finds whom to stop, even where
# the starting process was killed in between.
_LAUNCH = 'printf "%s %s" "$$" "$1" > "$0" && shift && exec "$@"'


class Process:
    """The mongod of `folder`, started by this process or another."""

    def __init__(self, folder: Folder) -> None:
        """Open its lock. Raises OSError."""
        self._folder = folder
        self._lock = Lock(folder.server_lock)
        self._child: subprocess.Popen[bytes] | None = None

    def is_alive(self) -> bool:
        """Whether the process exists, even where it does not answer yet or any more."""
        return self._lock.is_held()

    def is_in_other_mount_namespace(self) -> bool:
        """Whether it sees other files than this process, as a service with a private /tmp does."""
        process = self._lock.read().partition(" ")[0]
        try:
            return Path(f"/proc/{process}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
        except OSError:
            return False  # not Linux, or it ended just now

    @property
    def number(self) -> int | None:
        """Its process id, as it said when it started."""
        said = self._lock.read().partition(" ")[0]
        return int(said) if said.isdecimal() else None

    def start(self, server: Server, socket: Path) -> None:
        """Start `server`, and wait until it takes writes at `socket`. Leaves none behind when that fails.

        Raises:
            EmbeddedError: it ended, or did not answer in time.
        """
        self._reap()
        life = Lock(self._folder.server_lock)
        if not life.take():
            life.close()
            raise EmbeddedError("the embedded MongoDB runs already", hint="try again")
        try:
            try:
                os.ftruncate(life.descriptor, 0)
                self._child = self._launch(server, socket, life)
            finally:
                life.close()  # not released: mongod holds its copy
            self._wait_until_ready(server, self._child, socket)
        except BaseException:  # Ctrl-C too, which may come before Popen has returned the child
            self._end(signal.SIGKILL)
            raise

    def stop(self) -> None:
        """End it and wait until it is gone.

        Raises:
            EmbeddedError: it cannot be ended from here.
        """
        self._end(signal.SIGTERM, signal.SIGKILL)

    def retire(self) -> None:
        """Stop it for good: nobody joins it any more. What others have where its folder was is not this server's."""
        if self._lock.is_in_place():
            self._folder.unpublish()
        self.stop()

    def _end(self, *signals: signal.Signals) -> None:
        for number in signals:
            self._signal(number)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                if not self.is_alive():
                    self._reap()
                    return
                time.sleep(_POLL)
        raise EmbeddedError(
            "the embedded MongoDB does not end",
            why=f"process {self._lock.read().partition(' ')[0]} holds {self._folder.server_lock}",
            hint="end that process, then try again",
        )

    def leave(self) -> None:
        """Let it run on without this process."""
        self._lock.close()
        if self._child and self._child.poll() is None:
            try:  # Somebody has to take its exit code when another process has ended it.
                threading.Thread(target=self._child.wait, name="lkmongo-mongod", daemon=True).start()
            except RuntimeError:  # The interpreter is ending, and init will.
                self._child.returncode = 0
        self._child = None

    def forget(self) -> None:
        """Close what a forked child inherited; the process stays its parent's."""
        self._lock.close()
        if self._child:
            self._child.returncode = 0
        self._child = None

    def _launch(self, server: Server, socket: Path, life: Lock) -> subprocess.Popen[bytes]:
        try:
            with self._folder.log.open("ab") as log:
                return subprocess.Popen(  # noqa: S603 - no part of it is input
                    ["/bin/sh", "-c", _LAUNCH, life.path, socket.name, server.path, *self._options(server, socket)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._folder.path,
                    pass_fds=(life.descriptor,),
                    start_new_session=True,  # the terminal's Ctrl-C is for its users
                )
        except OSError as error:
            raise EmbeddedError("the embedded MongoDB cannot be started", why=str(error), hint=OWN_MONGODB) from error

    def _wait_until_ready(self, server: Server, child: subprocess.Popen[bytes], socket: Path) -> None:
        import pymongo  # noqa: F401 - needed next; it takes 0.2 s, in which mongod opens its files

        deadline = time.monotonic() + START_SECONDS
        while not is_listening(socket):
            if child.poll() is not None:
                raise self._startup_error(server, child.returncode)
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"the embedded MongoDB did not answer within {START_SECONDS:g} s",
                    hint=f"read its log {self._folder.log}",
                )
            time.sleep(_POLL)
        try:
            make_primary(socket, START_SECONDS)
        except EmbeddedError as error:
            if child.poll() is None:
                raise
            raise self._startup_error(server, child.returncode) from error

    def _options(self, server: Server, socket: Path) -> list[str | Path]:
        options: list[str | Path] = [
            *("--dbpath", self._folder.data.name),  # below its working folder, with which it may be moved while it runs
            *("--bind_ip", socket),  # and nothing else: no TCP port
            "--nounixsocket",  # the usual one beside it, /tmp/mongodb-27017.sock
            *("--replSet", REPLICA_SET),
            *("--oplogSize", "64"),  # MB; the default is 5 % of the disk, and no other node reads it
            *("--wiredTigerCacheSizeGB", "0.25"),
            # Its journal files are three of 100 MB, written in full ahead of time: 1 s of every start.
            *("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--slowms", str(2**31 - 1)),  # the log of slow operations would hold what people said
            "--quiet",
        ]
        if server.number < (7, 0):
            options += ["--enableFreeMonitoring", "off"]  # 7.0 has neither it nor its option
        return options

    def _signal(self, number: signal.Signals) -> None:
        if self._child and self._child.poll() is None:
            self._child.send_signal(number)
            return
        deadline = time.monotonic() + _FIND_SECONDS
        process = socket = ""
        while self.is_alive() and time.monotonic() < deadline:
            process, _, socket = self._lock.read().partition(" ")
            if process.isdecimal() and socket and socket in _command(int(process)):
                with suppress(ProcessLookupError):  # it ended just now; the lock tells
                    os.kill(int(process), number)
                return
            time.sleep(_POLL)  # the shell has not written it yet, or the process is ending
        if self.is_alive():
            raise EmbeddedError(
                f"the embedded MongoDB of {self._folder.path} runs on another machine or in another container",
                why=f"{self._folder.server_lock} is held, and process {process or '(unknown)'} here is not the holder",
                hint="give each machine and container an LKMONGO_HOME of its own, or share one MONGODB_URI",
            )

    def _reap(self) -> None:
        if self._child:
            self._child.wait()
            self._child = None

    def _startup_error(self, server: Server, code: int) -> EmbeddedError:
        return startup_error(server.path, server.version, code, self._folder.data, self._folder.log)


def is_listening(socket: Path) -> bool:
    """Whether a process accepts connections at `socket`; takes 0.2 ms."""
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(os.fsencode(socket))
        except (BlockingIOError, TimeoutError):
            return True  # it is there, and busy
        except OSError:
            return False
    return True


def _command(process: int) -> str:
    """The command line of a process of this machine; empty where there is none."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return ""
    # macOS has no /proc.
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(process)],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return listed.stdout
