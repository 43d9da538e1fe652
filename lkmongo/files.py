"""File locks that end with their process, and files that are written atomically."""

from __future__ import annotations

import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from lkmongo.errors import LkmongoError, SettingsError, UsageError

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


class Write(Protocol):
    """Writes to a file. Raises LkmongoError."""

    def __call__(self, data: bytes, *, at: int | None = None) -> None:
        """Append `data`, or replace what was written `at` bytes from the beginning."""


@contextmanager
def whole_file(path: Path) -> Iterator[Write]:
    """Yield a function that writes to `path` atomically: either everything is written or nothing changes.

    The data goes to a hidden new file beside `path`, readable by its owner only, which replaces `path` once it is
    synced, and is removed on any failure. What is no regular file is left alone: somebody else may have put a link or a
    pipe there.

    Raises:
        UsageError: `path` cannot be written to.
        LkmongoError: writing failed, for instance because the disk is full.
    """
    _refuse(path)
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"there is no folder {path.parent}", hint="make it first, or name a file elsewhere") from error
    except OSError as error:
        raise _unwritable_folder(path, error) from error
    part, descriptor = f".{path.name[:100]}.{secrets.token_hex(8)}.part", -1
    try:
        try:
            new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(part, new, 0o600, dir_fd=folder)
        except OSError as error:
            raise _unwritable_folder(path, error) from error
        yield _writer(descriptor, path)
        with _explained(path):
            os.fsync(descriptor)
            os.close(descriptor)
            descriptor = -1
            os.replace(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            with suppress(OSError):
                os.fsync(folder)
    finally:
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        os.close(folder)


def _refuse(path: Path) -> None:
    """Raise UsageError if there is something at `path` that is not to be replaced."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # the folder will tell
    if stat.S_ISLNK(mode):
        is_stdout = str(path) in {"/dev/stdout", "/dev/fd/1"}
        hint = "- is stdout" if is_stdout else f"name the file itself: {os.path.realpath(path)}"
        raise UsageError(f"{path} is a symbolic link", hint=hint)
    if stat.S_ISDIR(mode):
        why = "that is what an empty name stands for" if path == Path() else None
        raise UsageError(f"{path} is a folder", why=why, hint="name a file in it")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a regular file", hint="name another file")


def _unwritable_folder(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be written", why=error.strerror, hint="name a file elsewhere")


def kept_secret(path: Path, *, name: str, what: str, setting: str) -> str:
    """The text of a secret file, which is created with a random key if it is missing.

    Args:
        path: the file.
        name: of what it holds, for messages: "key" or "keys".
        what: what it is for, such as "the keys that sign cookies".
        setting: the variable that replaces the file.

    Raises:
        SettingsError: it cannot be created or read, or others can read it.
    """
    try:
        if not path.exists():
            secret_file(path, secrets.token_hex(32))
        text = path.read_text(encoding="ascii")
        shared = stat.S_IMODE(path.stat().st_mode) & 0o077
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{what} cannot be kept in {path}",
            why=error.strerror if isinstance(error, OSError) else "it is not ASCII text",
            hint=f"set LKMONGO_HOME to a writable folder, or set {setting}",
        ) from error
    if shared:
        raise SettingsError(f"others can read the {name} in {path}", hint=f"chmod 600 {path}")
    return text


def secret_file(path: Path, text: str) -> None:
    """Create a file with a line of text, readable by its owner only, unless another process does so meanwhile.

    It survives a power loss. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{text}\n")
            stream.flush()
            os.fsync(descriptor)  # what it seals must not outlive it
        with suppress(FileExistsError):
            os.link(name, path)
        sync_folder(path.parent)
    finally:
        Path(name).unlink()


def instructions_in(path: Path, setting: str) -> str:
    """The text of a file with an agent's instructions.

    Args:
        path: the file.
        setting: what names it, for messages.

    Raises:
        SettingsError: it cannot be read, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{setting} names {path}, which cannot be read",
            why=error.strerror if isinstance(error, OSError) else "it is not UTF-8 text",
            hint="name a text file with the agent's instructions, or unset it",
        ) from error
    if not text:
        raise SettingsError(
            f"{setting} names {path}, which is empty", hint="write the agent's instructions into it, or unset it"
        )
    return text


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, as one `os.write` may write only a part. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _writer(descriptor: int, path: Path) -> Write:
    def write(data: bytes, *, at: int | None = None) -> None:
        with _explained(path):
            if at is not None:
                os.lseek(descriptor, at, os.SEEK_SET)
            write_all(descriptor, data)
            if at is not None:
                os.lseek(descriptor, 0, os.SEEK_END)

    return write


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
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
