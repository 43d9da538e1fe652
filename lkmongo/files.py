"""File locks that end with their process, and files that are written atomically."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from lkmongo.errors import LkmongoError, UsageError

if sys.platform != "win32":  # where lkmongo does not run; its commands say so themselves
    import fcntl


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Take an advisory lock (flock); returns False if it is taken, unless `wait`. Raises OSError.

    A held shared lock is converted to an exclusive one; if that fails, the shared one may be lost.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Release it, even if a forked child has a copy of the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


Write = Callable[[bytes], None]


@contextmanager
def whole_file(path: Path) -> Iterator[Write]:
    """Yield a function that writes to `path` atomically: either everything is written or nothing changes.

    The data goes to a hidden temporary file beside `path`, readable by its owner only, which replaces `path` once it
    is synced, and is removed on any failure. A special file, such as `/dev/null` or a named pipe, is written to
    directly. A symbolic link is kept and its target replaced.

    Raises:
        UsageError: `path` cannot be written to.
        LkmongoError: writing failed, for instance because the disk is full.
    """
    if path.is_dir():
        why = "that is what an empty name stands for" if path == Path() else None
        raise UsageError(f"{path} is a folder", why=why, hint="name a file in it")
    if path.exists() and not path.is_file():
        with _open_special(path) as special:
            yield _writer(special.fileno(), path)
        return
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="make it first, or name a file elsewhere")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror, hint="name a file elsewhere") from error
    part = Path(name)
    try:
        yield _writer(descriptor, path)
        with _explained(path):
            os.fsync(descriptor)
            os.close(descriptor)
            descriptor = -1
            part.replace(target)
            sync_folder(target.parent)
    finally:
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)
        part.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, as one `os.write` may write only a part. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _open_special(path: Path) -> FileIO:
    with _explained(path):
        return path.open("wb", buffering=0)


def _writer(descriptor: int, path: Path) -> Write:
    def write(data: bytes) -> None:
        with _explained(path):
            write_all(descriptor, data)

    return write


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of a named pipe has enough
    except OSError as error:
        raise LkmongoError(
            f"{path} cannot be written", why=error.strerror, hint="make room, or name a file elsewhere"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power loss, if the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
