"""Locks on open files that end with the process that holds them, however it ends."""

from __future__ import annotations

import sys

if sys.platform != "win32":  # where lkmongo does not run; its commands say so themselves
    import fcntl


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Take an advisory lock (flock), or say that it is not to be had; with `wait` it is waited for. Raises OSError.

    A shared lock that is held becomes an exclusive one; where that fails, the shared one may be lost.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give it back, also where a forked child has a copy of the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
