"""The folder on this machine that holds the embedded mongod's data and what waits to be stored."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lkmongo.doctor.check import Finding, fail, ok, warn

GIB = 1024**3
NEEDED, COMFORTABLE = 1 * GIB, 5 * GIB
"""Bytes. A mongod that runs out of space aborts; below the second figure it is time to look."""


def space(home: Path, *, needed: int = NEEDED, comfortable: int = COMFORTABLE) -> Finding:
    """Whether the home can be written to, and how much is free there; the folder itself need not be there yet."""
    there = next((path for path in (home, *home.parents) if path.exists()), Path(home.anchor))
    elsewhere = "set LKMONGO_HOME to a folder that you may write to"
    if not there.is_dir():
        return fail(f"{there} is not a folder", elsewhere)
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(f"{there} cannot be written to", elsewhere)
    free = shutil.disk_usage(there).free
    said = f"{free / GIB:,.1f} GiB are free at {home}"
    if free < needed:
        return fail(f"only {said}", "free some space, or set LKMONGO_HOME to a folder on another disk")
    if free < comfortable:
        return warn(said, "free some space, or set LKMONGO_HOME to a folder on another disk")
    return ok(said)


def size(folder: Path) -> int:
    """Bytes of all files below a folder; those that vanish meanwhile count nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:
                continue
    return total
