"""Who holds the lease of a call: which process of which boot of which host, and whether it is gone."""

from __future__ import annotations

import functools
import os
import platform
import secrets
from pathlib import Path

LOOKING = "/resume"
"""What the owner of a lease ends with who looks whether another agent is to go on: whoever goes on, takes it."""


def process_name() -> str:
    """Which process of which boot of which host this is."""
    return f"{host_name()}/{os.getpid()}"  # the pid is asked for anew: a process that has forked is another one


def lease_owner() -> str:
    """A name for who holds a lease: this process, and which of the agents that it may have in one call."""
    return f"{process_name()}/{secrets.token_hex(4)}"


def is_gone(owner: str) -> bool:
    """Whether a lease's owner is a process of this machine that has ended; False where that cannot be told."""
    here, number = host_name() + "/", owner.rpartition(LOOKING)[0] or owner
    pid = number.removeprefix(here).partition("/")[0]
    if not number.startswith(here) or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
        # One that nobody has waited for yet is dead, too.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:
        return False


@functools.cache
def host_name() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Containers may share a host's name and boot; a pid says nothing outside its own namespace.
        boot += f"-{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116
    except OSError:
        boot = ""
    return f"{platform.node()}/{boot}"
