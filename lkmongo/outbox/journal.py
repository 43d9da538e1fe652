"""The journal on disk of what MongoDB has not acknowledged: one file per session.

The first line is the header, which says whose session it is; each line after it is one entry, as extended JSON. An
appended line survives the process, and with `sync` also a crash of the machine. The file is locked while its session
lives, and the kernel releases the lock however the process ends: an unlocked file belongs to a session that is over.
It exists from the session's start, so that a killed process is noticed even if nothing was pending.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from bson.errors import BSONError

from lkmongo.errors import LkmongoError
from lkmongo.files import lock, sync_folder, write_all
from lkmongo.model import SessionRecord, SessionStatus, UserScope, clean
from lkmongo.outbox.operations import Entry
from lkmongo.settings import Settings
from lkmongo.store.mongo.extended_json import dumps, loads
from lkmongo.ticket import Ticket

logger = logging.getLogger(__name__)

MAX_FILE = 64 * 2**20
"""Bytes per session; a turn has a few hundred."""
MAX_ALL = 1024 * 2**20
"""Bytes of all journals; beyond it no session gets a journal, and nothing is deleted to make room."""
MAX_AGE = timedelta(days=30)
"""An older journal is deleted unread: data that a person had deleted elsewhere must not come back from it."""
UNREADABLE = (ValueError, LookupError, TypeError, OverflowError, RecursionError, BSONError)
"""What reading damaged data may raise."""
_SUFFIX = ".jsonl"
_BEGUN = ".begun"
_DAMAGED = ".damaged"


class JournalError(LkmongoError):
    """A journal cannot be written or read."""

    code = "spool"


@dataclass(frozen=True, slots=True)
class JournalContents:
    """What a journal holds.

    Attributes:
        record: the session as it began.
        owner: who held its lease; of earlier releases their process, which may run other agents in the session.
        database: which database it is for; see `database_of`.
        entries: the pending writes, oldest first.
        damaged: how many lines cannot be read, not counting a torn last one.
        redacted: whether it was written by a release that redacts what it writes.
    """

    record: SessionRecord
    owner: str
    database: str
    entries: list[Entry] = field(default_factory=list)
    damaged: int = 0
    redacted: bool = True


def journal_folder(home: Path) -> Path:
    return home / "spool"


def database_of(uri: str | None, name: str) -> str:
    """Identify a database without its credentials, so that a journal is never replayed into another one."""
    where = uri.partition("?")[0].rpartition("//")[2].rpartition("@")[2].rstrip("/") if uri else "embedded"
    return hashlib.sha256(f"{where}\n{name}".encode()).hexdigest()[:16]


def database_id(settings: Settings) -> str:
    """Identify the database of these settings; see `database_of`."""
    return database_of(settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else None, settings.mongodb_db)


def create_journal(settings: Settings, record: SessionRecord, owner: str) -> Journal:
    """Create a session's journal in the folder of the settings. Raises as `Journal.create` does."""
    return Journal.create(journal_folder(settings.data_home), record, owner=owner, database=database_id(settings))


class Journal:
    """The journal of a live session. Its methods block on the disk and on each other."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        """Use `create` instead."""
        self.path = path
        self._descriptor: int | None = descriptor
        self._header_size = self._size = size
        self._is_folder_synced = False
        self._is_synced = True
        # A caller may stop waiting for a method, and call the next one while the first is still running.
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, record: SessionRecord, *, owner: str, database: str) -> Journal:
        """Create a session's journal, readable by the current user only.

        Raises:
            JournalError: it cannot be created, or the folder holds too much already.
        """
        header = {
            "tenant_id": record.scope.tenant_id,
            "user_id": record.scope.user_id,
            "session_id": record.session_id,
            "room_name": record.room_name,
            "started_at": record.started_at,
            "owner": owner,
            "database": database,
            "redacted": True,
        } | ({"ticket": asdict(record.ticket)} if record.ticket else {})
        line = dumps(clean(header)) + b"\n"
        path = folder / f"{record.started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(8)}{_SUFFIX}"
        unnamed = path.with_suffix(_BEGUN)
        with _disk_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _size(folder) > MAX_ALL:
                raise JournalError(
                    f"{folder} holds more than {MAX_ALL // 2**20} MB that MongoDB has not stored",
                    hint="run lkmongo sessions recover when the database is back",
                )
            # It gets its final name once it is locked and has a header: until then it would look abandoned.
            descriptor = _create_locked(unnamed)
            try:
                write_all(descriptor, line)
                unnamed.rename(path)
            except BaseException:
                os.close(descriptor)
                unnamed.unlink(missing_ok=True)
                raise
        return cls(path, descriptor, len(line))

    @property
    def is_empty(self) -> bool:
        """Whether it holds no entries."""
        return self._size == self._header_size

    def append(self, entries: Sequence[Entry], sync: bool = True) -> None:
        """Append all of `entries`, or none of them.

        Args:
            entries: the entries.
            sync: fsync them, and earlier ones that were not synced.

        Raises:
            JournalError: the disk failed, or the journal would exceed `MAX_FILE`.
        """
        data = b"".join(dumps(clean(entry)) + b"\n" for entry in entries)
        with self._lock, _disk_errors(self.path):
            descriptor = self._open_descriptor()
            if self._size + len(data) > MAX_FILE:
                raise JournalError(f"the journal of a session may hold at most {MAX_FILE // 2**20} MB")
            self._is_synced = self._is_synced and not data
            try:
                os.lseek(descriptor, self._size, os.SEEK_SET)
                write_all(descriptor, data)
                if sync and not self._is_synced:
                    os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, self._size)
                raise
            self._size += len(data)
            if sync and not self._is_folder_synced and not self.is_empty:
                sync_folder(self.path.parent)
                self._is_folder_synced = True
            self._is_synced = self._is_synced or sync

    def clear(self) -> None:
        """Remove all entries, once MongoDB has stored them.

        Raises:
            JournalError: the disk failed.
        """
        with self._lock, _disk_errors(self.path):
            os.ftruncate(self._open_descriptor(), self._header_size)
            self._size = self._header_size

    def close(self, delete: bool) -> None:
        """Close it at the end of the session; unless deleted, it is left for recovery."""
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
            raise JournalError(f"{self.path} is closed: its session has ended")
        return self._descriptor


def files(folder: Path, *, damaged: bool = False) -> list[Path]:
    """All journals, of live and of ended sessions, oldest first; with `damaged` also those in quarantine.

    Raises:
        JournalError: the folder cannot be read.
    """
    wanted = {_SUFFIX, _DAMAGED} if damaged else {_SUFFIX}
    return [path for path in _list_folder(folder) if path.suffix in wanted]


def abandoned(folder: Path) -> dict[Path, float]:
    """The journals of ended sessions, oldest first, with their modification times.

    Raises:
        JournalError: the folder cannot be read, or a file cannot be opened.
    """
    found = {}
    for path in files(folder):
        with _disk_errors(path), suppress(FileNotFoundError), locked(path) as is_free:
            if is_free:
                found[path] = path.stat().st_mtime
    return found


def remove_expired(folder: Path) -> None:
    """Delete the journals of ended sessions that are older than `MAX_AGE`, and half-created ones.

    Raises:
        JournalError: the folder cannot be read, or a file cannot be deleted.
    """
    for path in _list_folder(folder):
        if path.suffix not in {_SUFFIX, _BEGUN, _DAMAGED}:
            continue
        with _disk_errors(path), locked(path) as is_ours:
            if not is_ours:
                continue
            if path.suffix == _BEGUN:
                path.unlink(missing_ok=True)
            elif time.time() - path.stat().st_mtime > MAX_AGE.total_seconds():
                logger.warning("deleting %s: it is older than %d days", path.name, MAX_AGE.days)
                path.unlink(missing_ok=True)


def quarantine(path: Path) -> Path:
    """Rename a damaged journal so that it is kept for inspection but not replayed again; returns its new path."""
    damaged = path.with_suffix(_DAMAGED)
    with _disk_errors(path):
        path.rename(damaged)
    return damaged


def rewrite(path: Path, keeps: Callable[[Entry], bool]) -> bool:
    """Leave only the entries that `keeps` of a journal that no session holds; returns whether that was done.

    Raises:
        JournalError: it cannot be read or written.
    """
    with locked(path) as is_free, _disk_errors(path):
        if not is_free:
            return False
        first, *lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not _is_entry(line) or keeps(loads(line))]
        part = path.with_suffix(_BEGUN)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(descriptor, b"".join([first, *kept]))
            os.fsync(descriptor)
            part.rename(path)
        finally:
            os.close(descriptor)
            part.unlink(missing_ok=True)
        return True


def _is_entry(line: bytes) -> bool:
    try:
        entry: Any = cast("Any", loads(line))
    except UNREADABLE:
        return False
    return isinstance(entry, dict) and isinstance(entry.get("op"), str)


def remove(path: Path) -> None:
    """Delete a journal that was replayed.

    Raises:
        JournalError: it cannot be deleted.
    """
    with _disk_errors(path):
        path.unlink(missing_ok=True)


def _create_locked(path: Path) -> int:
    """Create a file and lock it; tries again if `remove_expired` deleted it in between."""
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


def _list_folder(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"{folder} cannot be read: {error.strerror or error}", hint="set LKMONGO_HOME") from error


def _size(folder: Path) -> int:
    total = 0
    for path in _list_folder(folder):
        with suppress(FileNotFoundError):  # its session has ended meanwhile
            total += path.stat().st_size
    return total


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock an existing journal; yields False if a live session or another recovery holds the lock.

    Raises:
        JournalError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        yield False
        return
    except OSError as error:
        raise JournalError(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        # The previous holder of the lock may have deleted the file.
        yield lock(descriptor) and os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def read(path: Path) -> JournalContents:
    """Read a journal, ignoring a last line that was torn when the process died.

    Raises:
        JournalError: it cannot be read, or is not a journal.
    """
    with _disk_errors(path):
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
            ticket=Ticket(**header["ticket"]) if "ticket" in header else None,
        )
        spooled = JournalContents(record, str(header["owner"]), str(header["database"]))
        redacted = header.get("redacted") is True
    except (LkmongoError, *UNREADABLE) as error:
        raise JournalError(f"{path} is not the journal of a session", hint="inspect it, and delete it") from error
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
    return JournalContents(record, spooled.owner, spooled.database, spooled.entries, damaged, redacted)


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError
    return value


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(
            f"{path} cannot be accessed: {error.strerror or error}", hint="free disk space, or set LKMONGO_HOME"
        ) from error
