"""What a mongod that does not run says of itself, turned into an error that says what to do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from lkmongo.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

OWN_MONGODB = "set MONGODB_URI to a MongoDB of your own"

_DEBIAN_PACKAGES = {
    "libcurl": "libcurl4",
    "libcrypto": "libssl3",
    "libssl": "libssl3",
    "liblzma": "liblzma5",
    "libgcc_s": "libgcc-s1",
    "libsasl2": "libsasl2-2",
    "libgssapi_krb5": "libgssapi-krb5-2",
}
"""Of which package a library is part, for those that the wheel's mongod loads."""

_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: ([^\s:]+):|Library not loaded: (\S+)")
_MISSING_GLIBC = re.compile(r"version [`'](GLIBC(?:XX)?_[\d.]+)' not found")
_OTHER_VERSION = re.compile(
    r"unsupported WiredTiger file version|invalid featureCompatibilityVersion|UPGRADE PROBLEM", re.IGNORECASE
)
_ILLEGAL_INSTRUCTION = {-4, 132}
_NEED_DOWNGRADE = 62
"""mongod's exit code for data files that are too new for it (MongoDB manual, "Exit Codes and Statuses")."""


def cannot_run(binary: Path, code: int, said: str) -> EmbeddedError | None:
    """Say why the program does not run on this machine at all, or None where that is not the cause.

    Args:
        binary: the program.
        code: its exit code, negative for a signal.
        said: what it, or the loader, wrote.
    """
    if missing := _MISSING_LIBRARY.search(said):
        library = (missing[1] or missing[2]).rpartition("/")[2]
        package = _DEBIAN_PACKAGES.get(library.partition(".")[0])
        install = f" (on Debian and Ubuntu: apt-get install {package})" if package else ""
        return EmbeddedError(
            f"the embedded MongoDB needs the library {library}, which is missing",
            why=f"{binary} cannot be loaded without it",
            hint=f"install the package that holds {library}{install}, or {OWN_MONGODB}",
        )
    if missing := _MISSING_GLIBC.search(said):
        return EmbeddedError(
            f"the embedded MongoDB needs {missing[1]}, which this system does not have",
            why=f"{binary} is built for a newer Linux distribution",
            hint=f"use a newer distribution, or {OWN_MONGODB}",
        )
    if code in _ILLEGAL_INSTRUCTION:
        return EmbeddedError(
            "the embedded MongoDB does not run on this processor",
            why="MongoDB 5.0 and later need AVX on x86_64 and ARMv8.2-A on arm64; mongod ended with SIGILL",
            hint=f"use another machine (a virtual one may hide AVX), or {OWN_MONGODB}",
        )
    return None


def ended(binary: Path, version: str, code: int, data: Path, log: Path) -> EmbeddedError:
    """Say why a mongod that was started ended, from its exit code and its log."""
    said = _tail(log)
    if error := cannot_run(binary, code, said):
        return error
    if code == _NEED_DOWNGRADE or _OTHER_VERSION.search(said):
        return EmbeddedError(
            f"the embedded MongoDB {version} does not open the data of another version in {data}",
            why=_last_complaint(said),
            hint=f"use the version that wrote it, or move the folder away to begin anew; the log is {log}",
        )
    if "DBPathInUse" in said:
        return EmbeddedError(
            f"another mongod uses the data in {data}",
            why="it was not started by lkmongo",
            hint="stop that mongod, then try again",
        )
    if "No space left on device" in said:
        return EmbeddedError(f"there is no space left in {data}", hint=f"free at least 1 GiB; the log is {log}")
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return EmbeddedError(
        f"the embedded MongoDB {version} {how} while it started",
        why=_last_complaint(said),
        hint=f"read the log {log} (if the data is damaged, move {data} away to begin anew), or {OWN_MONGODB}",
    )


def _tail(log: Path, size: int = 256 * 1024) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - size))
        return file.read().decode(errors="replace")


def _last_complaint(said: str) -> str | None:
    """The last error that says something: an assertion's number alone does not."""
    complaints = [text for line in said.splitlines() if (text := _complaint(line))]
    return complaints[-1] if complaints else None


def _complaint(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()[:300]  # not from mongod's logger: the shell's, the loader's, a stack trace's
    if not isinstance(entry, dict) or entry.get("s") not in {"E", "F"}:
        return ""
    attributes = entry.get("attr")
    error = attributes.get("error") if isinstance(attributes, dict) else None
    detail = attributes.get("message") if isinstance(attributes, dict) else None
    for found in (detail, error):
        text = (found.get("msg") or found.get("errmsg")) if isinstance(found, dict) else found
        if isinstance(text, str):
            return text[:300]
    return ""
