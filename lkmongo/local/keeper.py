"""A small process that stops a lingering server when its time is over.

A user who wants the server to linger starts a keeper, unless there is one, and on leaving writes into `use.lock` until
when the server may stay unused. The keeper holds `keeper.lock` while it is at work, and checks once a second: a later
user has written a later time, and one who was killed has written none. It ends with the server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from lkmongo.local.folder import Folder
from lkmongo.local.locks import Lock
from lkmongo.local.process import Process

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
