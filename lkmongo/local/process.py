"""The mongod process of a data folder: whether it lives, how it starts and ends, and its replica set of one node.

Everything here requires the folder's start lock. mongod inherits `server.lock`, locked, so that it is held exactly as
long as the process exists, from before it opens its files until after it has closed them. The file contains its process
id and the name of its socket, which distinguish it from a process with the same id elsewhere or later.

A replica set gives a single mongod change streams and transactions.
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

from lkmongo.child_process import minimal_environment
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
_GONE_AFTER_MS = 5_000
START_SECONDS = 120
"""Recovery after a crash reads the journal, which takes time."""
STOP_SECONDS = 20
_FIND_SECONDS = 2

# The shell writes its process id and becomes mongod, so that the holder of the lock can be found even if the starting
# process was killed.
_LAUNCH = 'printf "%s %s" "$$" "$1" > "$0" && shift && exec "$@"'


def uri_of(socket: Path) -> str:
    return f"mongodb://{_host(socket)}/?replicaSet={REPLICA_SET}"


def _host(socket: Path) -> str:
    return quote(os.fsencode(socket), safe="")


def make_primary(socket: Path, seconds: float) -> None:
    """Make the server at `socket` accept writes, within `seconds`. Raises EmbeddedError.

    A new replica set is initiated. If the socket's path has changed, with the home or the temporary folder, the member
    is reconfigured, else it would not find itself in the replica set.
    """
    from pymongo import MongoClient
    from pymongo.errors import AutoReconnect, PyMongoError, ServerSelectionTimeoutError

    deadline = time.monotonic() + seconds
    # A separate client: one that saw the server before it was initiated refuses sessions afterwards.
    client: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://{_host(socket)}/?directConnection=true",
        serverSelectionTimeoutMS=_GONE_AFTER_MS,
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
                # A server that is not a member closes its connections, but can be selected again.
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
            # Either may occur while it still reads its configuration; the next attempt will tell.
            if error.code not in {_ALREADY_INITIALIZED, _NOT_INITIALIZED}:
                raise
    elif config["members"][0]["host"] != host:
        config["members"][0]["host"] = host
        config["version"] += 1
        config.pop("term", None)
        admin.command("replSetReconfig", config, force=True)


class Process:
    """The mongod of `folder`, started by this process or another."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = Lock(folder.server_lock)
        self._child: subprocess.Popen[bytes] | None = None

    def is_alive(self) -> bool:
        """Whether the process exists, whether or not it answers."""
        return self._lock.is_held()

    def is_in_other_mount_namespace(self) -> bool:
        """Whether it sees other files than this process, like a service with a private /tmp."""
        process = self._lock.read().partition(" ")[0]
        try:
            return Path(f"/proc/{process}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
        except OSError:
            return False  # not Linux, or it ended just now

    @property
    def number(self) -> int | None:
        """Its process id, as written when it started."""
        process = self._lock.read().partition(" ")[0]
        return int(process) if process.isdecimal() else None

    def start(self, server: Server, socket: Path) -> None:
        """Start `server`, and wait until it accepts writes at `socket`; kill it if that fails.

        Raises:
            EmbeddedError: it ended, or did not answer in time.
        """
        self._reap()
        life = Lock(self._folder.server_lock)
        if not life.take():
            life.close()
            raise EmbeddedError("the embedded MongoDB is already running", hint="try again")
        try:
            try:
                os.ftruncate(life.descriptor, 0)
                self._child = self._launch(server, socket, life)
            finally:
                life.close()  # not released: mongod holds its copy
            self._wait_until_ready(server, self._child, socket)
        except BaseException:  # Ctrl-C may even come before Popen has returned the child
            self._end(signal.SIGKILL)
            raise

    def stop(self) -> None:
        """Terminate it, and wait for its end. Raises EmbeddedError."""
        self._end(signal.SIGTERM, signal.SIGKILL)

    def retire(self) -> None:
        """Stop it, and keep others from joining it, unless its folder has been replaced by another."""
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
        self._lock.close()
        if self._child and self._child.poll() is None:
            try:  # Somebody has to reap it when another process has stopped it.
                threading.Thread(target=self._child.wait, name="lkmongo-mongod", daemon=True).start()
            except RuntimeError:  # The interpreter is ending: init will reap it.
                self._child.returncode = 0
        self._child = None

    def forget(self) -> None:
        """Close what a forked child inherited; the process belongs to its parent."""
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
                    env=minimal_environment(),
                    pass_fds=(life.descriptor,),
                    start_new_session=True,  # not interrupted by the terminal's Ctrl-C
                )
        except OSError as error:
            raise EmbeddedError("the embedded MongoDB cannot be started", why=str(error), hint=OWN_MONGODB) from error

    def _wait_until_ready(self, server: Server, child: subprocess.Popen[bytes], socket: Path) -> None:
        import pymongo  # noqa: F401 - needed next; importing it takes 0.2 s, while mongod starts

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
            *("--dbpath", self._folder.data.name),  # relative, so that the folder may be moved while it runs
            *("--bind_ip", socket),  # no TCP port
            "--nounixsocket",  # without the default one, /tmp/mongodb-27017.sock
            *("--replSet", REPLICA_SET),
            *("--oplogSize", "64"),  # MB; the default is 5 % of the disk, and there is no other node
            *("--wiredTigerCacheSizeGB", "0.25"),
            # By default it preallocates three journal files of 100 MB, which takes 1 s.
            *("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--slowms", str(2**31 - 1)),  # slow operations are not logged, as that would include what people said
            "--quiet",
        ]
        if server.number < (7, 0):
            options += ["--enableFreeMonitoring", "off"]  # 7.0 removed it
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
            time.sleep(_POLL)  # the process is starting or ending
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
            return True  # it is busy
        except OSError:
            return False
    return True


def _command(process: int) -> str:
    """The command line of a process; empty if there is none."""
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
