"""Which embedded mongods run on this machine, who uses them, and how to stop them before their time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lkmongo.errors import EmbeddedError
from lkmongo.local import keeper
from lkmongo.local.binary import refuse_platform
from lkmongo.local.folder import Folder, folders
from lkmongo.local.locks import Lock
from lkmongo.local.process import START_SECONDS, STOP_SECONDS, Process


@dataclass(frozen=True, slots=True)
class Running:
    """How the mongod of one folder stands.

    Attributes:
        data: the folder of its data.
        series: its major version, such as 6.0.
        process: its process id; None where it does not run.
        in_use: whether a process uses it.
        users: the processes that do, as far as this system tells.
        seconds_left: until it is stopped, where nobody comes; None where it is in use or nobody will stop it.
    """

    data: Path
    series: str
    process: int | None
    in_use: bool = False
    users: tuple[int, ...] = ()
    seconds_left: float | None = None


def look(home: Path) -> list[Running]:
    """How the mongods of a home stand, one for each major version that has data in it. Nothing is changed.

    Raises:
        EmbeddedError: on Windows, or where another process starts or stops one for minutes.
    """
    refuse_platform()
    return [_look(folder) for folder in folders(home)]


def stop(home: Path) -> list[Running]:
    """Stop the mongods of a home that nobody uses, and wait until they are gone; those that ran.

    Raises:
        EmbeddedError: one is in use, or does not end.
    """
    refuse_platform()
    stopped = []
    for folder in folders(home):
        if not folder.server_lock.exists():
            continue
        with _held(folder) as (use, process):
            found = _seen(folder, use, process)
            if found.in_use:
                raise EmbeddedError(
                    f"the embedded MongoDB of {folder.path} is in use",
                    why=_by(found.users),
                    hint="end what uses it, then try again; it stops with its last user or soon after",
                )
            if found.process is not None:
                process.retire()
                stopped.append(found)
    return stopped


@contextmanager
def _held(folder: Folder) -> Iterator[tuple[Lock, Process]]:
    """The use lock and the process of a folder, while nobody can start, join or leave."""
    start, use, process = Lock(folder.start_lock), Lock(folder.use_lock), Process(folder)
    try:
        with start.within(START_SECONDS + STOP_SECONDS):
            yield use, process
    finally:
        process.leave()
        use.close()
        start.close()


def _look(folder: Folder) -> Running:
    if not folder.server_lock.exists():  # nothing was started here yet, and looking leaves nothing behind
        return Running(folder.data, folder.series, None)
    with _held(folder) as (use, process):
        return _seen(folder, use, process)


def _seen(folder: Folder, use: Lock, process: Process) -> Running:
    """How it stands, for who holds the folder; where nobody uses it, the use lock is held alone then."""
    if not process.is_alive():
        return Running(folder.data, folder.series, None)
    if not use.take():
        return Running(folder.data, folder.series, process.number, in_use=True, users=_users(folder.use_lock))
    moment, waits = keeper.until(use), Lock(folder.keeper_lock)
    left = max(moment - time.monotonic(), 0.0) if moment is not None and waits.is_held() else None
    waits.close()
    return Running(folder.data, folder.series, process.number, seconds_left=left)


def _users(lock: Path) -> tuple[int, ...]:
    """The processes that hold a file lock; none where the system does not list them (proc(5), /proc/locks)."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return ()
    inode = str(lock.stat().st_ino)
    held = [line.split() for line in lines if "->" not in line]
    pids = {int(words[4]) for words in held if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode}
    return tuple(sorted(pids - {0, os.getpid()}))


def _by(users: tuple[int, ...]) -> str | None:
    if not users:
        return None
    return (
        f"process{'es' if len(users) > 1 else ''} {', '.join(map(str, users))} {'use' if len(users) > 1 else 'uses'} it"
    )
