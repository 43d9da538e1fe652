"""What MongoDB did not take, kept on this machine's disk until it does: one file for each call.

The first line says whose call it is, and each line after it one thing that is to be written, as extended JSON. Before
`append` returns, a line outlives the process; where that is asked for it is on the disk, and outlives the machine's
end as well. The file is locked as long as its call lives, and the kernel gives the lock back
however the process ends: a file that nobody locks belongs to a call that is over. It is there from the beginning of a
call, so that one whose process was killed is found although nothing had to be kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from bson.errors import BSONError

from lkmongo.errors import LkmongoError
from lkmongo.files import lock, sync_folder, write_all
from lkmongo.model import SessionRecord, SessionStatus, UserScope, clean
from lkmongo.settings import Settings
from lkmongo.store.mongo.extended_json import dumps, loads
from lkmongo.store.sessions.documents import process_name

logger = logging.getLogger(__name__)

Entry = dict[str, Any]

MAX_FILE = 64 * 2**20
"""Bytes of one call; a turn has a few hundred."""
MAX_ALL = 1024 * 2**20
"""Bytes of all calls; beyond it nothing more is kept, and nothing is thrown away for it."""
MAX_AGE = timedelta(days=30)
"""After that a file is deleted unread: what a person asked to be forgotten elsewhere must not wait for ever."""
UNREADABLE = (ValueError, LookupError, TypeError, OverflowError, RecursionError, BSONError)
"""What reading something damaged may raise."""
_SUFFIX = ".jsonl"
_BEGUN = ".begun"
_DAMAGED = ".damaged"


class SpoolError(LkmongoError):
    """The disk takes nothing more."""

    code = "spool"


@dataclass(frozen=True, slots=True)
class Spooled:
    """What a file holds.

    Attributes:
        record: the call as it began.
        owner: the process that held its lease.
        database: which database it is for; see `database_of`.
        entries: what is to be written, oldest first.
        damaged: lines that cannot be read, a torn last one apart.
    """

    record: SessionRecord
    owner: str
    database: str
    entries: list[Entry] = field(default_factory=list)
    damaged: int = 0


def journal_folder(home: Path) -> Path:
    """Where the files are."""
    return home / "spool"


def database_of(uri: str | None, name: str) -> str:
    """Tell databases apart, without credentials: what was meant for one is never written to another."""
    where = uri.partition("?")[0].rpartition("//")[2].rpartition("@")[2].rstrip("/") if uri else "embedded"
    return hashlib.sha256(f"{where}\n{name}".encode()).hexdigest()[:16]


def database_id(settings: Settings) -> str:
    """Which database these settings name; see `database_of`."""
    return database_of(settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else None, settings.mongodb_db)


def begin(settings: Settings, record: SessionRecord) -> Journal:
    """Make the file of a call where the settings say. Raises as `Journal.begin` does."""
    return Journal.begin(
        journal_folder(settings.data_home), record, owner=process_name(), database=database_id(settings)
    )


class Journal:
    """The file of one call that is going on. Its methods wait for the disk, and for each other."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        """Use `begin`."""
        self.path = path
        self._descriptor: int | None = descriptor
        self._header = self._size = size
        self._is_named = False
        self._is_safe = True
        # Whoever waits for a method may lose patience, and then the next one is called while it is still at work.
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, folder: Path, record: SessionRecord, *, owner: str, database: str) -> Journal:
        """Make the file of a call, which nobody but its owner can read.

        Raises:
            SpoolError: it cannot be made, or there is too much in the folder already.
        """
        header = {
            "tenant_id": record.scope.tenant_id,
            "user_id": record.scope.user_id,
            "session_id": record.session_id,
            "room_name": record.room_name,
            "started_at": record.started_at,
            "owner": owner,
            "database": database,
        }
        line = dumps(clean(header)) + b"\n"
        path = folder / f"{record.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(8)}{_SUFFIX}"
        begun = path.with_suffix(_BEGUN)
        with _explained(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _size(folder) > MAX_ALL:
                raise SpoolError(
                    f"{folder} holds more than {MAX_ALL // 2**20} MB that MongoDB did not take",
                    hint="run lkmongo sessions recover when the database is back",
                )
            # It gets its name when it is locked and says whose it is: until then nobody must take it for abandoned.
            descriptor = _new_file(begun)
            try:
                write_all(descriptor, line)
                begun.rename(path)
            except BaseException:
                os.close(descriptor)
                begun.unlink(missing_ok=True)
                raise
        return cls(path, descriptor, len(line))

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in it."""
        return self._size == self._header

    def append(self, entries: Sequence[Entry], *, safe: bool = True) -> None:
        """Put entries into the file; all of them, or none.

        Args:
            entries: what is to be written.
            safe: wait until they are on the disk, with those before them that are not yet.

        Raises:
            SpoolError: the disk does not take them, or the call has too many.
        """
        data = b"".join(dumps(clean(entry)) + b"\n" for entry in entries)
        with self._lock, _explained(self.path):
            descriptor = self._open_descriptor()
            if self._size + len(data) > MAX_FILE:
                raise SpoolError(f"a call may keep {MAX_FILE // 2**20} MB at most")
            self._is_safe = self._is_safe and not data
            try:
                os.lseek(descriptor, self._size, os.SEEK_SET)
                write_all(descriptor, data)
                if safe and not self._is_safe:
                    os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, self._size)
                raise
            self._size += len(data)
            if safe and not self._is_named and not self.is_empty:
                sync_folder(self.path.parent)
                self._is_named = True
            self._is_safe = self._is_safe or safe

    def clear(self) -> None:
        """Let go of everything: MongoDB has taken it.

        Raises:
            SpoolError: the disk does not do it.
        """
        with self._lock, _explained(self.path):
            os.ftruncate(self._open_descriptor(), self._header)
            self._size = self._header

    def end(self, *, delete: bool) -> None:
        """The call is over: delete its file, or leave it to whoever recovers it."""
        with self._lock:
            if self._descriptor is None:
                return
            if delete:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise SpoolError(f"{self.path} takes nothing: its call is over")
        return self._descriptor


def files(folder: Path) -> list[Path]:
    """The files of calls, those that go on and those that are over, oldest first.

    Raises:
        SpoolError: the folder cannot be read.
    """
    return [path for path in _all(folder) if path.suffix == _SUFFIX]


def abandoned(folder: Path) -> dict[Path, float]:
    """The files of calls that are over, oldest first, each with the time at which it was written last.

    Raises:
        SpoolError: the folder cannot be read, or a file not be opened.
    """
    found = {}
    for path in files(folder):
        with _explained(path), suppress(FileNotFoundError), locked(path) as is_free:
            if is_free:
                found[path] = path.stat().st_mtime
    return found


def remove_expired(folder: Path) -> None:
    """Delete what was kept for too long, of calls that are over, and what was left of beginning a file.

    Raises:
        SpoolError: the folder cannot be read, or a file not be deleted.
    """
    for path in _all(folder):
        if path.suffix not in {_SUFFIX, _BEGUN, _DAMAGED}:
            continue
        with _explained(path), locked(path) as is_ours:
            if not is_ours:
                continue
            if path.suffix == _BEGUN:
                path.unlink(missing_ok=True)
            elif time.time() - path.stat().st_mtime > MAX_AGE.total_seconds():
                logger.warning("%s was kept for more than %d days: it is deleted", path.name, MAX_AGE.days)
                path.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Keep a file that is damaged, for somebody to look into; all that can be read of it is stored. Returns where."""
    aside = path.with_suffix(_DAMAGED)
    with _explained(path):
        path.rename(aside)
    return aside


def remove(path: Path) -> None:
    """Delete a file: all of it is stored.

    Raises:
        SpoolError: it cannot be deleted.
    """
    with _explained(path):
        path.unlink(missing_ok=True)


def _new_file(path: Path) -> int:
    """Make a file and lock it; one that was cleaned away in between is made again."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            lock(descriptor, wait=True)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _all(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpoolError(f"{folder} cannot be read: {error.strerror or error}", hint="set LKMONGO_HOME") from error


def _size(folder: Path) -> int:
    total = 0
    for path in _all(folder):
        with suppress(FileNotFoundError):  # a call has ended meanwhile
            total += path.stat().st_size
    return total


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a file that is there; False when a call, or somebody who recovers it, has it.

    Raises:
        SpoolError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        yield False
        return
    except OSError as error:
        raise SpoolError(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        # Whoever had it before may have deleted it meanwhile.
        yield lock(descriptor) and os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def read(path: Path) -> Spooled:
    """Read a file; a last line that was torn when the process died is left out.

    Raises:
        SpoolError: it is no file of a call.
    """
    with _explained(path):
        lines = path.read_bytes().split(b"\n")
    lines.pop()  # empty, or torn
    try:
        header = loads(lines[0])
        record = SessionRecord(
            header["session_id"],
            UserScope(tenant_id=header["tenant_id"], user_id=header["user_id"]),
            header["room_name"],
            SessionStatus.ACTIVE,
            _time(header["started_at"]),
        )
        spooled = Spooled(record, str(header["owner"]), str(header["database"]))
    except (LkmongoError, *UNREADABLE) as error:
        raise SpoolError(f"{path} is not the file of a call", hint="look into it, and delete it") from error
    damaged = 0
    for line in lines[1:]:
        try:
            entry: Any = cast("Any", loads(line))
        except UNREADABLE:
            damaged += 1
            continue
        if isinstance(entry, dict) and isinstance(entry.get("op"), str):
            spooled.entries.append(entry)
        else:
            damaged += 1
    return Spooled(record, spooled.owner, spooled.database, spooled.entries, damaged)


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError
    return value


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpoolError(
            f"{path} takes nothing: {error.strerror or error}", hint="make room, or set LKMONGO_HOME"
        ) from error
