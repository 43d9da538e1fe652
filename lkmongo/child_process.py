"""Child processes that get little: of the environment no secret, of memory a share, and no longer than their parent.

Only the standard library is imported here: the keeper of the embedded mongod has nothing else.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

OUTGROWN = 86
"""Exit code of a child that has outgrown its memory where the system does not limit it."""
_KEPT = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_CHECK_EVERY = 0.05


def minimal_environment() -> dict[str, str]:
    """The environment for a child: where programs and libraries are and how text is written, and nothing else.

    No key, no address of a database, no code that is loaded into it.
    """
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}


def confine(memory: int) -> None:
    """Limit this process to so many bytes of memory, and keep it from writing files, core dumps included."""
    import resource

    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(what, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    else:  # macOS takes the limit and does not keep it
        watch(memory)


def watch(memory: int) -> None:
    """End this process with `OUTGROWN` once it has had more than so many bytes of memory."""

    def look() -> None:
        while largest() <= memory:
            time.sleep(_CHECK_EVERY)
        os._exit(OUTGROWN)

    threading.Thread(target=look, name="lkmongo-memory", daemon=True).start()


def largest() -> int:
    """The most bytes of memory that this process has had."""
    if sys.platform == "linux":  # its getrusage counts what the parent had, from before the program was started
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    else:  # noqa: RET505 - for the type checker
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def end_with(pipe: int) -> None:
    """Have this process end when the last writer of a pipe ends, on Linux at once, whatever it is doing.

    Nothing is ever written to the pipe. The signal is the kernel's, so that no Python code has to run here.
    """
    if sys.platform == "linux":
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)  # elsewhere that does nothing
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETFL, os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it has ended meanwhile
        os._exit(0)


def end_after_parent(within: float) -> None:
    """Have this process, which `multiprocessing` started, end so many seconds after the one that wanted it has died.

    It may end by itself before that. Where no process wanted it, as in a thread of that one, nothing is done.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is None:
        return

    def look() -> None:
        parent.join()
        time.sleep(within)
        os._exit(1)

    threading.Thread(target=look, name="lkmongo-parent", daemon=True).start()
