"""Regular files as they are read: symbolic links are not followed unless asked, pipes and devices never opened to read.

Somebody else may write to the folder meanwhile, so what a file is gets looked at after it was opened, not before.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lkmongo.errors import UsageError

LINK = "a symbolic link, which only --follow-links follows"
_NO_LINK, _FOLDER = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_DIRECTORY", 0)  # Windows has none
_NO_WAIT = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class NotRegularError(OSError):
    """There is something else than a regular file, such as a symbolic link that is not followed."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EINVAL, f"it is {what}")


def open_regular(path: Path, *, follow_links: bool = False, below: Path | None = None) -> BinaryIO:
    """Open a regular file to read.

    Args:
        path: the file. The folders it names may be links.
        follow_links: whether the file may be a link as well.
        below: a folder above `path`: it and those within may be no links either, unless `follow_links`.

    Raises:
        NotRegularError: it is a link, a pipe, a socket or a device.
        OSError: it cannot be opened, or is a folder.
    """
    if follow_links or below is None:
        return _open(path, 0 if follow_links else _NO_LINK)
    *folders, name = path.relative_to(below).parts
    folder = _at(None, below, _FOLDER | _NO_LINK)
    try:
        for part in folders:
            inner = _at(folder, part, _FOLDER | _NO_LINK)
            os.close(folder)
            folder = inner
        return _open(name, _NO_LINK, folder)
    finally:
        os.close(folder)


def _open(path: Path | str, flags: int, folder: int | None = None) -> BinaryIO:
    descriptor = _at(folder, path, flags)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise NotRegularError("not a regular file")


def _at(folder: int | None, path: Path | str, flags: int) -> int:
    """Open without waiting, as for the writer of a pipe."""
    try:
        return os.open(path, _NO_WAIT | flags, dir_fd=folder)
    except OSError as error:
        if flags & _NO_LINK and _is_link(folder, path):
            raise NotRegularError(LINK) from error
        if error.errno == errno.ENXIO:  # a socket
            raise NotRegularError("not a regular file") from error
        raise


def _is_link(folder: int | None, path: Path | str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path, dir_fd=folder).st_mode)
    except OSError:
        return False


def refuse_link(path: Path, *, follow_links: bool) -> None:
    """Raise UsageError if a path that the user named is a link that is not to be followed."""
    if path.is_symlink() and not follow_links:
        raise UsageError(
            f"{path} is a symbolic link",
            hint=f"add --follow-links, or name what it points to: {os.path.realpath(path)}",
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a folder: a file to read, or something that is not, with the reason (`it is ...`)."""

    path: Path
    obstacle: str | None = None


def walk(folder: Path, on_error: Callable[[Path, OSError], None], *, follow_links: bool = False) -> Iterator[Entry]:
    """Yield what a folder and the folders in it hold, without hidden files; each once, however many links lead to it.

    Args:
        folder: may be a link.
        on_error: called with a folder that cannot be read.
        follow_links: whether to follow links to files and folders, out of `folder` as well.
    """
    folders, linked = deque([folder]), deque[Path]()
    seen: set[tuple[int, int]] = set()
    while folders or linked:
        current = folders.popleft() if folders else linked.popleft()  # by their own names first
        try:
            state = current.stat()
            if (state.st_dev, state.st_ino) in seen:
                yield Entry(current, "a link to a folder that is read already")
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(current) as entries:
                listed = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
        except OSError as error:
            on_error(current, error)
            continue
        for entry in listed:
            path = current / entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif obstacle := _obstacle(entry, follow_links=follow_links):
                yield Entry(path, obstacle)
            elif entry.is_dir():
                linked.append(path)
            else:
                yield Entry(path)


def _obstacle(entry: os.DirEntry[str], *, follow_links: bool) -> str | None:
    if entry.is_symlink() and not follow_links:
        return LINK
    try:
        if entry.is_file() or entry.is_dir():
            return None
    except OSError:  # a link to itself
        return "a broken link"
    return "a broken link" if not Path(entry.path).exists() else "not a regular file"
