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
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from pexpect.fdpexpect import fdspawn

from tests.conftest import clean_environment
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


NOBODY = "127.0.0.1:1/"
"""Where no MongoDB is: commands are not made to wait longer for it."""


class Zygote:
    """The process that has everything imported and forks for each command, which waits longer if `patient`."""

    def __init__(self, *, patient: bool) -> None:
        self._patient = patient
        self._requests = count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment() | {"OPENBLAS_NUM_THREADS": "1"},
            cwd=ROOT,
        )

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        files: Sequence[Path | str],
        alone: bool = True,
        program: str = "lkmongo.cli",
    ) -> int:
        """Start a command in `folder`, on its three streams, and return its process number.

        One that is not alone has a process after and before others; the next one waits until it has ended.
        """
        patient = self._patient and NOBODY not in env.get("MONGODB_URI", "")
        start = {"program": program, "arguments": arguments, "env": dict(env), "cwd": folder, "files": files}
        return self._ask("start", start | {"patient": patient, "alone": alone})

    def wait(self, process: int) -> int:
        """Wait until a command has ended, and return its exit code; one that is not waited for any more is killed."""
        try:
            return self._ask("wait", process)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)  # the zygote waits for it, and until then for nothing else
            raise

    def _ask(self, what: str, of: Any) -> int:
        number = next(self._requests)
        self._process.stdin.write(json.dumps({"number": number, what: of}, default=str) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer["to"] != number:  # but what a test had asked when its time was over
                continue
            if "error" in answer:
                raise OSError(answer["error"])
            return answer["is"]
        raise OSError("the zygote has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Have it end, now that nobody asks any more."""
        with self._process:
            self._process.stdin.close()


class Started:
    """A command on pipes of bytes; used as `subprocess.Popen` is."""

    def __init__(
        self,
        zygote: Zygote,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        program: str = "lkmongo.cli",
    ) -> None:
        """Start it in `folder`."""
        self.returncode: int | None = None
        self._zygote = zygote
        streams = folder / ".streams"
        streams.mkdir(exist_ok=True)
        paths = [streams / f"{name}-{uuid4().hex}" for name in ("stdin", "stdout", "stderr")]
        for path in paths:
            os.mkfifo(path)
        both_sides = [os.open(path, os.O_RDWR) for path in paths]  # so that opening either waits for nobody
        try:
            self.pid = zygote.start(arguments, env=env, folder=folder, files=paths, program=program)
            self.stdin = paths[0].open("wb", buffering=0)
            self.stdout = paths[1].open("rb")
            self.stderr = paths[2].open("rb")
        finally:
            for side in both_sides:
                os.close(side)
            for path in paths:
                path.unlink()

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # nobody has asked yet how it ended
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        if self.returncode is None:
            self.returncode = self._zygote.wait(self.pid)
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
        zygote: Zygote,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        size: tuple[int, int],
    ) -> None:
        """Start it in `folder`, on so many lines and columns."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self._zygote = zygote
        self.process = zygote.start(arguments, env=env, folder=folder, files=[os.ttyname(theirs)] * 3)
        os.close(theirs)
        super().__init__(ours, encoding="utf-8", timeout=PATIENCE)

    def sendintr(self) -> None:
        """Press Ctrl-C."""
        self.send("\x03")

    def sendeof(self) -> None:
        """Press Ctrl-D."""
        self.send("\x04")

    def close(self) -> None:
        """Wait until it has ended; `exitstatus` tells how."""
        self.exitstatus = self._zygote.wait(self.process)
        super().close()
