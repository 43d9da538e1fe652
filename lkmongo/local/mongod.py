"""One mongod for every process of this user that needs one: the first starts it, the last one stops it.

Two locks in the data folder, which the kernel releases however a process ends:

- `use.lock` is held shared by everyone who uses the server. Who gets it exclusively is the last one.
- `start.lock` is held exclusively while the server is started, joined, left or stopped.

The last one may let the server linger, for whoever comes next: then a keeper stops it (`keeper.py`). Where there is none,
a user that is killed leaves the server running; the next one to come joins it, and stops it when it is the last.
No signal handler is installed here: a process that wants to clean up on SIGTERM turns it into SystemExit.
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
"""For another process that starts or stops the server: as long as it may take."""


class EmbeddedMongod:
    """A single-node replica set under `home`, shared with other processes, on a socket of its owner's alone.

    All methods block; call them through `asyncio.to_thread` where there is an event loop. One that is not
    closed is closed when the interpreter ends.

    Attributes:
        uri: its address for a driver, after `open`. `ensure` keeps it, unless another process restarted the
            server under another TMPDIR.
        first_start: True when this `open` began the data.
        server: the program, after `open`.
    """

    def __init__(self, home: Path, *, binary: Path | None = None, linger: float = 0) -> None:
        """Name the folder; nothing is started, and nothing is looked for.

        Args:
            home: the folder that the data folder lies in, such as `<home>/mongodb-6.0`. It is made if missing.
            binary: another mongod than the one that `find_server` finds.
            linger: seconds for which the server runs on, unused, after this was its last user.
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
        """Start the server, or join the one that runs. Takes 0.7 s to start, 2 ms to join.

        Args:
            on_start: called before it is started, and not where it is joined.

        Raises:
            EmbeddedError: it cannot run here; message, why and hint say what to do.
        """
        with self._mutex:
            if self._membership and self._membership.inherited:
                self._membership.drop()  # a forked child becomes a user of its own
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
                "The embedded MongoDB %s begins with no data: %s is another version's",
                server.version,
                ", ".join(str(other) for other in others),
            )

    def ensure(self) -> None:
        """Start the server again if it died; takes 0.2 ms when it lives. Opens it where it is not open.

        Raises:
            EmbeddedError: as `open`.
        """
        with self._mutex:
            if self._membership is None or self._membership.inherited:
                self.open()
                return
            self._membership.ensure()
            self.uri = uri_of(self._membership.socket)

    def close(self) -> None:
        """Leave; the last one out stops the server and waits until its process is gone, unless it lingers.

        Does nothing when closed.

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
        """Open it."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class _Membership:
    """One use of the server of a folder: the locks that say so, and the way in and out."""

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
        """Whether this is a forked child's copy of its parent's."""
        return self._pid != os.getpid()

    def enter(self, on_start: Callable[[], None], *, is_kept: bool) -> bool:
        """Become a user of a server that runs; True when the data begins with it."""
        with self._start.within(_WAIT_SECONDS):
            if not self._use.take(shared=True):  # it is taken exclusively under the start lock only
                raise EmbeddedError(f"another process holds {self._folder.use_lock} alone", hint="end that process")
            try:
                first = self._serve(on_start)
                if is_kept:
                    keeper.start(self._folder)  # already now, lest a user who is killed leave the server behind
            except BaseException:  # Ctrl-C after the server has started, for one
                self._stop_after_last()
                raise
            return first

    def ensure(self) -> None:
        """See to it that the server runs."""
        if not is_listening(self.socket):
            with self._start.within(_WAIT_SECONDS):
                self._serve()
        self._folder.bound_log()

    def leave(self, linger: float) -> None:
        """Stop using it; after the last user, have it stopped so many seconds later, or stop it."""
        with self._start.within(_WAIT_SECONDS):
            self._stop_after_last(linger)

    def drop(self) -> None:
        """Close the locks' files, in which the locks end unless a parent holds them too."""
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
        """Join the server if it is ready, else start it."""
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
            # It is ending, its starter died before it was ready, or its socket was deleted.
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
