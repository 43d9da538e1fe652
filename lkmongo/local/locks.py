"""File locks with which processes share the embedded MongoDB."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkmongo.errors import EmbeddedError
from lkmongo.files import lock, unlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POLL = 0.01


class Lock:
    def __init__(self, path: Path) -> None:
        """Open the file without locking it. Raises OSError."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, *, shared: bool = False) -> bool:
        """Try to take it; see `files.lock`."""
        try:
            return lock(self.descriptor, shared=shared)
        except OSError as error:
            raise EmbeddedError(
                f"the embedded MongoDB cannot lock {self.path}",
                why=error.strerror,
                hint="set LKMONGO_HOME to a folder on a disk of this machine",
            ) from error

    def release(self) -> None:
        unlock(self.descriptor)

    def is_held(self) -> bool:
        if not self.take():
            return True
        self.release()
        return False

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Hold it exclusively; wait up to `seconds` for it. Raises EmbeddedError."""
        deadline = time.monotonic() + seconds
        while not self.take():
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"another process has been starting or stopping the embedded MongoDB for {seconds:.0f} s",
                    why=f"it holds {self.path}",
                    hint="end that process, then try again",
                )
            time.sleep(_POLL)
        try:
            yield
        finally:
            self.release()

    def read(self) -> str:
        """The content of the file, at most 4 KiB, even if it was deleted."""
        return os.pread(self.descriptor, 4096, 0).decode(errors="replace")

    def write(self, text: str) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file: its folder may have been deleted or moved."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.descriptor))
        except OSError:
            return False

    def close(self) -> None:
        """Close the descriptor; the lock ends with its last copy."""
        os.close(self.descriptor)
