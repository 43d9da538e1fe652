"""One mongod, shared by all processes of a user that need one: the first starts it, the last stops it.

Two locks in the data folder, which the kernel releases however a process ends:

- `use.lock` is held shared by every user of the server; whoever gets it exclusively is the last.
- `start.lock` is held exclusively while the server is started, joined, left or stopped.

The last user may let the server linger for the next one, then a keeper stops it (`keeper.py`). Without a keeper, a user
that is killed leaves the server running; the next one joins it, and stops it if it is the last.

No signal handler is installed here: a process that wants to clean up on SIGTERM must turn it into SystemExit.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from lkmongo.errors import EmbeddedError
from lkmongo.local import keeper
from lkmongo.local.binary import Server, find_server, refuse_platform, server_at
from lkmongo.local.folder import Folder, data_of_other_versions, make_home, writing
from lkmongo.local.locks import Lock
from lkmongo.local.process import START_SECONDS, STOP_SECONDS, Process, is_listening, uri_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 2 * START_SECONDS + 2 * STOP_SECONDS
"""As long as another process may take to start and stop the server."""


class EmbeddedMongod:
    """A single-node replica set under `home`, shared with other processes, on a private socket.

    All methods block; call them with `asyncio.to_thread` from an event loop. It is closed at the latest when the
    interpreter ends.

    Attributes:
        uri: set by `open`. `ensure` changes it only if another process restarted the server with another TMPDIR.
        first_start: whether `open` found no data.
        server: the binary; set by `open`.
    """

    def __init__(self, home: Path, *, binary: Path | None = None, linger: float = 0) -> None:
        """Without I/O; see `open`.

        Args:
            home: the parent of the data folder, such as `<home>/mongodb-6.0`; made if missing.
            binary: overrides the mongod that `find_server` finds.
            linger: seconds for which the server keeps running after its last user.
        """
        self.uri = ""
        self.first_start = False
        self.server: Server | None = None
        self._home = home
        self._binary = binary
        self._linger = linger
        self._membership: _Membership | None = None
        self._mutex = threading.RLock()

    def open(self, *, on_start: Callable[[], None] = lambda: None) -> None:
        """Start the server (0.7 s), or join a running one (2 ms).

        Args:
            on_start: called before it is started, not if it is joined.

        Raises:
            EmbeddedError: it cannot run here.
        """
        with self._mutex:
            if self._membership and self._membership.inherited:
                self._membership.drop()  # a forked child becomes a separate user
                self._membership = None
            if self._membership:
                self.ensure()
                return
            refuse_platform()
            make_home(self._home)
            known = self._home / "mongod.version"
            server = server_at(self._binary, "given") if self._binary else find_server(known=known)
            self.server = server
            membership = _Membership(Folder(self._home, server.series), server)
            try:
                self.first_start = membership.enter(on_start, is_kept=self._linger > 0)
            except BaseException:
                membership.drop()
                raise
            self._membership = membership
            self.uri = uri_of(membership.socket)
            atexit.register(self.close)
        if self.first_start and (others := data_of_other_versions(self._home, server.series)):
            logger.warning(
                "The embedded MongoDB %s starts without data: %s is of another version",
                server.version,
                ", ".join(str(other) for other in others),
            )

    def ensure(self) -> None:
        """Restart the server if it died (0.2 ms if not); open it if needed. Raises as `open` does."""
        with self._mutex:
            if self._membership is None or self._membership.inherited:
                self.open()
                return
            self._membership.ensure()
            self.uri = uri_of(self._membership.socket)

    def close(self) -> None:
        """Leave; the last user stops the server and waits for its end, unless it lingers.

        Raises:
            EmbeddedError: the server does not end.
        """
        with self._mutex:
            membership, self._membership = self._membership, None
            if membership is None:
                return
            atexit.unregister(self.close)
            try:
                if not membership.inherited:
                    membership.leave(self._linger)
            finally:
                membership.drop()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Membership:
    """The locks with which a process uses the server of a folder."""

    def __init__(self, folder: Folder, server: Server) -> None:
        self._folder = folder
        self._server = server
        self._pid = os.getpid()
        folder.make()
        with writing(folder.path):
            self._start = Lock(folder.start_lock)
            self._use = Lock(folder.use_lock)
            self._process = Process(folder)
        self.socket: Path

    @property
    def inherited(self) -> bool:
        """Whether this is a forked child's copy."""
        return self._pid != os.getpid()

    def enter(self, on_start: Callable[[], None], *, is_kept: bool) -> bool:
        """Start or join the server; returns True if there was no data."""
        with self._start.within(_WAIT_SECONDS):
            if not self._use.take(shared=True):  # it is only taken exclusively under the start lock
                raise EmbeddedError(
                    f"another process holds {self._folder.use_lock} exclusively", hint="end that process"
                )
            try:
                first = self._serve(on_start)
                if is_kept:
                    keeper.start(self._folder)  # now already, in case this process is killed
            except BaseException:  # for example Ctrl-C after the server has started
                self._stop_after_last()
                raise
            return first

    def ensure(self) -> None:
        if not is_listening(self.socket):
            with self._start.within(_WAIT_SECONDS):
                self._serve()
        self._folder.bound_log()

    def leave(self, linger: float) -> None:
        """Stop using the server; the last user stops it, or lets it linger for so many seconds."""
        with self._start.within(_WAIT_SECONDS):
            self._stop_after_last(linger)

    def drop(self) -> None:
        """Close the lock files, which releases the locks unless a parent holds them too."""
        if not self.inherited:
            self._use.release()
            self._process.leave()
        else:
            self._process.forget()
        self._use.close()
        self._start.close()

    def _stop_after_last(self, linger: float = 0) -> None:
        if not (self._use.take() and self._process.is_alive()):
            return
        if linger and self._start.is_in_place() and keeper.start(self._folder):
            keeper.linger(self._use, linger)
            return
        self._process.retire()

    def _serve(self, on_start: Callable[[], None] = lambda: None) -> bool:
        address = self._folder.address()
        if self._process.is_alive():
            if address and is_listening(address):
                self.socket = address
                self._folder.bound_log()
                return False
            if address and self._process.is_in_other_mount_namespace():
                raise EmbeddedError(
                    f"the embedded MongoDB of {self._folder.path} runs, but its socket cannot be reached from here",
                    why=f"{address} is in a folder that only the other process sees, such as a service's private /tmp",
                    hint="set TMPDIR to the same folder for both, or an LKMONGO_HOME for each",
                )
            # It is ending, or its starter died before it was ready, or its socket was deleted.
            self._process.stop()
        on_start()
        self._folder.check_space()
        first = self._folder.begin()
        self.socket = self._folder.socket()
        self._folder.unpublish()
        self._process.start(self._server, self.socket)
        try:
            self._folder.finish(self.socket)
        except BaseException:
            self._process.stop()
            raise
        return first
