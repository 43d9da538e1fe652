"""Who stops a server that runs on after its last user: a small process that waits until its time is over.

Whoever wants the server to linger starts a keeper, unless there is one, and writes into `use.lock` on leaving until when
it may stay unused. The keeper holds `keeper.lock` for as long as it may be counted on, and looks once a second: a user who
comes and goes meanwhile has written a later time, and one who is killed has written none. It ends with the server, whoever
stops that.
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
"""Seconds between two looks, which is also how long it may outlive the server."""

# Started by a shell that ends at once, so that nobody has to wait for its end. Without `site` it starts in 30 ms, and it
# needs nothing but the standard library.
_LAUNCH = '"$@" &'
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from lkmongo.local import keeper; keeper.main(sys.argv[1:])"
)


def until(use: Lock) -> float | None:
    """The moment of the monotonic clock until which an unused server runs on; None where nobody has said so."""
    try:
        return float(use.read())
    except ValueError:
        return None


def linger(use: Lock, seconds: float) -> None:
    """Say that the server may run on for so many seconds after now, unused; for who holds the use lock alone."""
    use.write(f"{time.monotonic() + seconds:.3f}")


def start(folder: Folder) -> bool:
    """Start a keeper unless there is one; False where there is none then. For who holds the start lock."""
    lock = Lock(folder.keeper_lock)
    try:
        if not lock.take():
            return True
        if not sys.executable or getattr(sys, "frozen", False):
            return False  # this program is not Python's own, and would be started once more
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
    except (OSError, RuntimeError, subprocess.CalledProcessError):  # no process to be had, or the interpreter is ending
        return False
    finally:
        lock.close()  # not released: the keeper holds its copy
    return True


def main(arguments: list[str]) -> None:
    """Wait, and stop the server; `arguments` are the home, the major version and the descriptor of the keeper's lock."""
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
            os.close(int(descriptor))  # before anybody can start another server, and rely on this keeper
            return
        finally:
            use.release()
            start.release()


def _is_over(start: Lock, use: Lock, process: Process) -> bool:
    """Whether there is nothing to wait for any more; the use lock is held alone then, unless the server has ended."""
    if not process.is_alive():
        return True
    if not use.take():
        return False
    moment = until(use)
    return moment is None or time.monotonic() >= moment or not start.is_in_place()
