"""Lists the running embedded mongods with their users, and stops unused ones."""

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
    """The state of the mongod of one folder.

    Attributes:
        data: its data folder.
        series: its major version, such as 6.0.
        process: its process id, or None.
        in_use: whether a process uses it.
        users: those processes, if the system lists them.
        seconds_left: until it is stopped if unused; None if it is in use or nothing will stop it.
    """

    data: Path
    series: str
    process: int | None
    in_use: bool = False
    users: tuple[int, ...] = ()
    seconds_left: float | None = None


def states(home: Path) -> list[Running]:
    """The states of the mongods of a home, one per major version with data, without changing anything.

    Raises:
        EmbeddedError: on Windows, or if another process has been starting or stopping one for minutes.
    """
    refuse_platform()
    return [_state_of(folder) for folder in folders(home)]


def stop(home: Path) -> list[Running]:
    """Stop the unused mongods of a home, and wait for their end; returns those that were running.

    Raises:
        EmbeddedError: one is in use, or does not end.
    """
    refuse_platform()
    stopped = []
    for folder in folders(home):
        if not folder.server_lock.exists():
            continue
        with _held(folder) as (use, process):
            found = _state(folder, use, process)
            if found.in_use:
                raise EmbeddedError(
                    f"the embedded MongoDB of {folder.path} is in use",
                    why=_used_by(found.users),
                    hint="end what uses it, then try again; it stops with its last user or soon after",
                )
            if found.process is not None:
                process.retire()
                stopped.append(found)
    return stopped


@contextmanager
def _held(folder: Folder) -> Iterator[tuple[Lock, Process]]:
    """The use lock and the process of a folder, while the start lock is held."""
    start, use, process = Lock(folder.start_lock), Lock(folder.use_lock), Process(folder)
    try:
        with start.within(START_SECONDS + STOP_SECONDS):
            yield use, process
    finally:
        process.leave()
        use.close()
        start.close()


def _state_of(folder: Folder) -> Running:
    if not folder.server_lock.exists():  # never started; opening the locks would create files
        return Running(folder.data, folder.series, None)
    with _held(folder) as (use, process):
        return _state(folder, use, process)


def _state(folder: Folder, use: Lock, process: Process) -> Running:
    """The state, with the start lock held; if it is unused, the use lock is held exclusively afterwards."""
    if not process.is_alive():
        return Running(folder.data, folder.series, None)
    if not use.take():
        return Running(folder.data, folder.series, process.number, in_use=True, users=_users(folder.use_lock))
    moment, waits = keeper.until(use), Lock(folder.keeper_lock)
    left = max(moment - time.monotonic(), 0.0) if moment is not None and waits.is_held() else None
    waits.close()
    return Running(folder.data, folder.series, process.number, seconds_left=left)


def _users(lock: Path) -> tuple[int, ...]:
    """The processes that hold a file lock, if the system lists them (proc(5), /proc/locks)."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return ()
    inode = str(lock.stat().st_ino)
    held = [line.split() for line in lines if "->" not in line]
    pids = {int(words[4]) for words in held if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode}
    return tuple(sorted(pids - {0, os.getpid()}))


def _used_by(users: tuple[int, ...]) -> str | None:
    if not users:
        return None
    return (
        f"process{'es' if len(users) > 1 else ''} {', '.join(map(str, users))} {'use' if len(users) > 1 else 'uses'} it"
    )
