"""The keeper that stops a mongod some time after its last user; which mongods run here, and how to stop them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lkmongo.child_process import minimal_environment
from lkmongo.errors import EmbeddedError
from lkmongo.local.binary import refuse_platform
from lkmongo.local.folder import Folder, folders
from lkmongo.local.locks import Lock
from lkmongo.local.process import START_SECONDS, STOP_SECONDS, Process

_CHECK_EVERY = 1.0
"""Seconds between two checks; also how long it may outlive the server."""

# Started by a shell that ends at once, so that nobody has to reap it. It only needs the standard library, and starts in
# 30 ms without `site`.
_LAUNCH = '"$@" &'
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from lkmongo.local import keeper; keeper.main(sys.argv[1:])"
)


def until(use: Lock) -> float | None:
    """The monotonic time until which an unused server lingers, or None."""
    try:
        return float(use.read())
    except ValueError:
        return None


def linger(use: Lock, seconds: float) -> None:
    """Let the unused server run for so many seconds; the use lock must be held exclusively."""
    use.write(f"{time.monotonic() + seconds:.3f}")


def start(folder: Folder) -> bool:
    """Ensure that there is a keeper; returns False if that fails. The start lock must be held."""
    lock = Lock(folder.keeper_lock)
    try:
        if not lock.take():
            return True
        if not sys.executable or getattr(sys, "frozen", False):
            return False  # a frozen program would start itself
        home, series = str(folder.home), folder.series
        program = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parents[2]), home, series]
        subprocess.run(  # noqa: S603 - no part of it is input
            ["/bin/sh", "-c", _LAUNCH, "sh", *program, str(lock.descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=minimal_environment(),
            pass_fds=(lock.descriptor,),
            start_new_session=True,  # the terminal may be closed
            check=True,
        )
    except (OSError, RuntimeError, subprocess.CalledProcessError):  # no process available, or the interpreter is ending
        return False
    finally:
        lock.close()  # not released: the keeper holds its copy
    return True


def main(arguments: list[str]) -> None:
    """Wait, then stop the server; `arguments` are the home, the major version and the lock's descriptor."""
    home, series, descriptor = arguments
    folder = Folder(Path(home), series)
    start, use, process = Lock(folder.start_lock), Lock(folder.use_lock), Process(folder)
    while True:
        time.sleep(_CHECK_EVERY)
        if not start.take():
            continue  # somebody starts, joins or leaves
        try:
            if not _is_over(start, use, process):
                continue
            if process.is_alive():
                process.retire()
            os.close(int(descriptor))  # before anybody can start another server and count on this keeper
            return
        finally:
            use.release()
            start.release()


def _is_over(start: Lock, use: Lock, process: Process) -> bool:
    """Whether to end; then the use lock is held exclusively, unless the server has ended."""
    if not process.is_alive():
        return True
    if not use.take():
        return False
    moment = until(use)
    return moment is None or time.monotonic() >= moment or not start.is_in_place()


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
    moment, waits = until(use), Lock(folder.keeper_lock)
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
