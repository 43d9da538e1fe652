"""The folder of the embedded mongod: its data and socket, and why a mongod failed according to its log."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lkmongo.errors import EmbeddedError
from lkmongo.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_MONGODB = "set MONGODB_URI to a MongoDB of your own"

_DEBIAN_PACKAGES = {
    "libcurl": "libcurl4",
    "libcrypto": "libssl3",
    "libssl": "libssl3",
    "liblzma": "liblzma5",
    "libgcc_s": "libgcc-s1",
    "libsasl2": "libsasl2-2",
    "libgssapi_krb5": "libgssapi-krb5-2",
}
"""The Debian packages of the libraries that the wheel's mongod loads."""

_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: ([^\s:]+):|Library not loaded: (\S+)")
_MISSING_GLIBC = re.compile(r"version [`'](GLIBC(?:XX)?_[\d.]+)' not found")
_OTHER_VERSION = re.compile(
    r"unsupported WiredTiger file version|invalid featureCompatibilityVersion|UPGRADE PROBLEM", re.IGNORECASE
)
NEEDED_SPACE = 1024**3
_PREFIX = "mongodb-"
_PLAIN = re.compile(r"[a-z0-9/._-]+")
"""PyMongo lower-cases the replica set's members like host names; mongod splits them at `,` and `:`."""
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Maximum bytes of a Unix socket's path: `sun_path` of unix(4) and unix(7), without the closing zero."""
_LARGEST_LOG = 16 * 1024**2
_ILLEGAL_INSTRUCTION = {-4, 132}
_NEED_DOWNGRADE = 62
"""mongod's exit code for data files of a newer version (MongoDB manual, "Exit Codes and Statuses")."""


def cannot_run_error(binary: Path, code: int, output: str) -> EmbeddedError | None:
    """Why a binary cannot run on this machine at all, or None if that is not the cause.

    Args:
        binary: of mongod.
        code: its exit code, negative for a signal.
        output: of mongod or the loader.
    """
    if missing := _MISSING_LIBRARY.search(output):
        library = (missing[1] or missing[2]).rpartition("/")[2]
        package = _DEBIAN_PACKAGES.get(library.partition(".")[0])
        install = f" (on Debian and Ubuntu: apt-get install {package})" if package else ""
        return EmbeddedError(
            f"the embedded MongoDB needs the library {library}, which is missing",
            why=f"{binary} cannot be loaded without it",
            hint=f"install the package that holds {library}{install}, or {OWN_MONGODB}",
        )
    if missing := _MISSING_GLIBC.search(output):
        return EmbeddedError(
            f"the embedded MongoDB needs {missing[1]}, which this system does not have",
            why=f"{binary} is built for a newer Linux distribution",
            hint=f"use a newer distribution, or {OWN_MONGODB}",
        )
    if code in _ILLEGAL_INSTRUCTION:
        return EmbeddedError(
            "the embedded MongoDB does not run on this processor",
            why="MongoDB 5.0 and later need AVX on x86_64 and ARMv8.2-A on arm64; mongod ended with SIGILL",
            hint=f"use another machine (a virtual one may hide AVX), or {OWN_MONGODB}",
        )
    return None


def startup_error(binary: Path, version: str, code: int, data: Path, log: Path) -> EmbeddedError:
    """Why a mongod ended during its start, from its exit code and its log."""
    output = _tail(log)
    if error := cannot_run_error(binary, code, output):
        return error
    if code == _NEED_DOWNGRADE or _OTHER_VERSION.search(output):
        return EmbeddedError(
            f"the embedded MongoDB {version} does not open the data of another version in {data}",
            why=_last_error(output),
            hint=f"use the version that wrote it, or move the folder away to start over; the log is {log}",
        )
    if "DBPathInUse" in output:
        return EmbeddedError(
            f"another mongod uses the data in {data}",
            why="it was not started by lkmongo",
            hint="stop that mongod, then try again",
        )
    if "No space left on device" in output:
        return EmbeddedError(f"there is no space left in {data}", hint=f"free at least 1 GiB; the log is {log}")
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return EmbeddedError(
        f"the embedded MongoDB {version} {how} while it started",
        why=_last_error(output),
        hint=f"read the log {log} (if the data is damaged, move {data} away to start over), or {OWN_MONGODB}",
    )


def _tail(log: Path, size: int = 256 * 1024) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - size))
        return file.read().decode(errors="replace")


def _last_error(output: str) -> str | None:
    errors = [text for line in output.splitlines() if (text := _error_text(line))]
    return errors[-1] if errors else None


def _error_text(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()[:300]  # not from mongod's logger: from the shell, the loader, or a stack trace
    if not isinstance(entry, dict) or entry.get("s") not in {"E", "F"}:
        return ""
    attributes = entry.get("attr")
    error = attributes.get("error") if isinstance(attributes, dict) else None
    detail = attributes.get("message") if isinstance(attributes, dict) else None
    for found in (detail, error):
        text = (found.get("msg") or found.get("errmsg")) if isinstance(found, dict) else found
        if isinstance(text, str):
            return text[:300]
    return ""


class Folder:
    """`<home>/mongodb-<major version>`: one per version, as they cannot open each other's data."""

    def __init__(self, home: Path, series: str) -> None:
        """No I/O except resolving links, so that one home has one name; `make` makes the folder."""
        self.home = home.resolve()
        self.series = series
        self.path = self.home / f"{_PREFIX}{series}"
        self.data = self.path / "db"
        self.log = self.path / "mongod.log"
        self.previous_log = self.path / "mongod.previous.log"
        self.start_lock = self.path / "start.lock"
        self.use_lock = self.path / "use.lock"
        self.server_lock = self.path / "server.lock"
        self.keeper_lock = self.path / "keeper.lock"
        self._address = self.path / "address"
        self._unfinished = self.path / "unfinished"

    def make(self) -> None:
        """Make the folder, for its owner only. Raises EmbeddedError."""
        with writing(self.path):
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)

    def check_space(self) -> None:
        """Raise EmbeddedError if less than 1 GiB is free: mongod aborts without space."""
        free = shutil.disk_usage(self.path).free
        if free < NEEDED_SPACE:
            raise EmbeddedError(
                f"only {free // 1024**2} MiB are free for the embedded MongoDB; it needs 1024",
                why=f"its data is in {self.path}",
                hint=f"free some space, set LKMONGO_HOME to a folder on another disk, or {OWN_MONGODB}",
            )

    def begin(self) -> bool:
        """Prepare a start; returns True if there is no data yet. Raises EmbeddedError.

        A first start is marked until it has succeeded; after one that failed, the data is deleted.
        """
        with writing(self.path):
            first = self._unfinished.exists() or not self.data.exists() or not any(self.data.iterdir())
            if first:
                self._unfinished.touch()
                if self.data.exists():
                    shutil.rmtree(self.data)
                self.data.mkdir(mode=0o700)
            if self.log.exists():
                self.log.replace(self.previous_log)
        return first

    def finish(self, socket: Path) -> None:
        """Publish the socket of a server that is ready, so that others may join, and keep its data from now on."""
        with writing(self.path):
            if self._unfinished.exists():  # before anybody can write data that the mark would delete
                self._unfinished.unlink()
                sync_folder(self.path)  # else the mark may reappear after a power loss
            fresh = self._address.with_name("address.new")
            fresh.write_bytes(os.fsencode(socket))
            fresh.replace(self._address)

    def address(self) -> Path | None:
        """The socket of the server that is, or was last, ready."""
        try:
            return Path(os.fsdecode(self._address.read_bytes()))
        except FileNotFoundError:
            return None

    def unpublish(self) -> None:
        with writing(self.path):
            self._address.unlink(missing_ok=True)

    def bound_log(self) -> None:
        """Truncate a large log; mongod appends, so it continues at the beginning."""
        with writing(self.path), suppress(FileNotFoundError):  # there is none between two starts
            if self.log.stat().st_size > _LARGEST_LOG:
                os.truncate(self.log, 0)

    def socket(self) -> Path:
        """The path to listen on, in a folder that only its owner can enter, as there is no password.

        It is not in the data folder, whose path may be too long for a socket or contain unsuitable characters. A
        restarted server gets the same path, so that connected clients find it.

        Raises:
            EmbeddedError: the folder belongs to somebody else, or cannot be made.
        """
        # The inode distinguishes it from a deleted folder at the same path whose server is still running.
        identity = b"%s/%d" % (os.fsencode(self.path), self.path.stat().st_ino)
        name = hashlib.sha256(identity).hexdigest()[:16] + ".sock"
        former = self.address()
        if former and former.name == name and former.parent.is_dir():  # not that of a home of which this one is a copy
            socket = former
        else:
            socket = Path(_temporary(), f"lkm-{os.getuid()}", name)
            if len(os.fsencode(socket)) > _LONGEST_SOCKET or not _PLAIN.fullmatch(str(socket)):
                socket = Path("/tmp", f"lkm-{os.getuid()}", name)  # noqa: S108 - the folder in it is checked
        _make_private(socket.parent)
        return socket


def make_home(home: Path) -> None:
    """Make the folder of all local data. Raises EmbeddedError."""
    with writing(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)


def folders(home: Path) -> list[Folder]:
    return [Folder(home, path.name.removeprefix(_PREFIX)) for path in sorted(home.glob(f"{_PREFIX}*")) if path.is_dir()]


def data_of_other_versions(home: Path, series: str) -> list[Path]:
    """Data folders of other major versions than `series`."""
    return sorted(path for path in home.resolve().glob(f"{_PREFIX}*/db") if path.parent.name != f"{_PREFIX}{series}")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Translate OSError into EmbeddedError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedError(
            f"the embedded MongoDB cannot write to {folder}",
            why="a part of its path is a file"
            if isinstance(error, (FileExistsError, NotADirectoryError))
            else error.strerror or str(error),
            hint=f"set LKMONGO_HOME to a folder that you may write to, or {OWN_MONGODB}",
        ) from error


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise EmbeddedError(
            "there is no folder for temporary files, where the embedded MongoDB has its socket",
            why=error.strerror,
            hint="set TMPDIR to a folder that you may write to, with a short path in lower case",
        ) from error


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        mine = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid()
        if mine:
            folder.chmod(0o700)
    except OSError as error:
        raise EmbeddedError(
            f"the embedded MongoDB cannot put its socket into {folder}",
            why=error.strerror or str(error),
            hint="set TMPDIR to a folder that you may write to, with a short path in lower case",
        ) from error
    if not mine:
        raise EmbeddedError(
            f"{folder} is not a folder of yours",
            why="whoever owns it could read what goes through the socket in it",
            hint="remove it, or set TMPDIR to a folder of your own with a short path in lower case",
        )
