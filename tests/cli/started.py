"""A command that a test starts, talks to, and waits for: on pipes, or on a terminal.

Both fork from `tests/cli/zygote.py`, so they are processes of their own that need not import everything first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from pexpect.fdpexpect import fdspawn


def ask(zygote: subprocess.Popen[str], request: Any) -> Any:
    """Send one request, and wait for its answer."""
    zygote.stdin.write(json.dumps(request, default=str) + "\n")
    zygote.stdin.flush()
    return json.loads(zygote.stdout.readline())


class Started:
    """A command on pipes of bytes; used as `subprocess.Popen` is."""

    def __init__(
        self, zygote: subprocess.Popen[str], arguments: Sequence[str], folder: Path, env: Mapping[str, str]
    ) -> None:
        """Start it in `folder`."""
        self.returncode: int | None = None
        self._zygote = zygote
        streams = folder / ".streams"
        streams.mkdir(exist_ok=True)
        paths = [streams / f"{name}-{uuid4().hex}" for name in ("stdin", "stdout", "stderr")]
        for path in paths:
            os.mkfifo(path)
        request = {"arguments": arguments, "env": env, "cwd": str(folder), "files": paths}
        zygote.stdin.write(json.dumps({"start": request}, default=str) + "\n")
        zygote.stdin.flush()
        self.stdin = paths[0].open("wb", buffering=0)  # each waits until the other side has opened it, too
        self.stdout = paths[1].open("rb")
        self.stderr = paths[2].open("rb")
        for path in paths:
            path.unlink()
        self.pid = json.loads(zygote.stdout.readline())

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        if self.returncode is None:
            self.returncode = ask(self._zygote, {"wait": self.pid})
        return self.returncode

    def communicate(self) -> tuple[bytes, bytes]:
        """Say no more, and read what it prints until it ends."""
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        errors: list[bytes] = []
        reading = threading.Thread(target=lambda: errors.append(self.stderr.read()))
        reading.start()
        output = self.stdout.read()
        reading.join()
        self.wait()
        self._close()
        return output, errors[0]

    def __enter__(self) -> Self:
        """Nothing is left of it afterwards."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it where it still runs, and close the pipes."""
        self.kill()
        self.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Terminal(fdspawn):
    """A command on a terminal of its own, used as `pexpect.spawn` is."""

    def __init__(
        self,
        zygote: subprocess.Popen[str],
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        size: tuple[int, int],
    ) -> None:
        """Start it in `folder`, on so many lines and columns."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        path = os.ttyname(theirs)
        request = {"arguments": arguments, "env": env, "cwd": str(folder), "files": [path] * 3}
        self._zygote = zygote
        self.process = ask(zygote, {"start": request})
        os.close(theirs)
        super().__init__(ours, encoding="utf-8", timeout=90)

    def sendintr(self) -> None:
        """Press Ctrl-C."""
        self.send("\x03")

    def sendeof(self) -> None:
        """Press Ctrl-D."""
        self.send("\x04")

    def close(self) -> None:
        """Wait until it has ended; `exitstatus` tells how."""
        self.exitstatus = ask(self._zygote, {"wait": self.process})
        super().close()
