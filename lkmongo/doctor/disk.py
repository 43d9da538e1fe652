"""The folder on this machine that holds the embedded mongod's data and what calls could not store."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

from lkmongo.doctor.check import Finding, fail, ok, warn
from lkmongo.store import spool

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
    return waiting(spool.spool_folder(home), said)


def waiting(folder: Path, said: str) -> Finding:
    """Whether calls that are over have left something that MongoDB did not take.

    Args:
        folder: of the files.
        said: what else there is to say of the disk.
    """
    paths = []
    size = 0
    try:
        for path in spool.files(folder):
            with spool.locked(path) as is_over:
                if is_over:
                    paths.append(path)
                    size += path.stat().st_size
    except spool.SpoolError as error:
        return warn(f"{said}; {error.message}", error.hint or "see to it that its owner runs lkmongo")
    if not paths:
        return ok(said)
    calls = "1 call waits" if len(paths) == 1 else f"{len(paths):,} calls wait"
    return warn(
        f"{calls} for MongoDB ({size:,} bytes in {folder}); {said}",
        "lkmongo sessions recover",
        [f"the oldest began at {_began(paths[0])}"],
    )


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


def _began(path: Path) -> str:
    """When the call of a file began, which its name begins with."""
    stamp = path.stem.partition("-")[0]
    try:
        return f"{datetime.strptime(stamp, '%Y%m%dT%H%M%S'):%Y-%m-%d %H:%M:%S} UTC"  # noqa: DTZ007 - shown as it is
    except ValueError:
        return f"{stamp} UTC"
