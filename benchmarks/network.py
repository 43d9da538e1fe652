"""A network before a mongod: so many milliseconds away, and it counts what passes. It is a process of its own.

A proxy in the process that is measured would take its turns at that process's interpreter lock, and be measured too.

    with Network(socket_path(mongod.uri), rtt_ms=20) as network:
        ... work with network.uri ...
        network.reset()
        ... the phase that is looked at ...
        print(network.counts())
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from benchmarks.network_proxy import Counts

_PROGRAM = Path(__file__).with_name("network_proxy.py")


def socket_path(uri: str) -> str:
    """The path of the Unix socket that an embedded mongod's address names."""
    return unquote(uri.removeprefix("mongodb://").partition("/")[0])


class Network:
    """The proxy, from the side of who measures; each method returns when the proxy has done it, in under 1 ms."""

    def __init__(self, path: str, *, rtt_ms: float = 0) -> None:
        """Stand before the server at the Unix socket `path`."""
        self.rtt_ms = rtt_ms
        self.port = 0
        self._path = path
        self._process: subprocess.Popen[str] | None = None

    @property
    def uri(self) -> str:
        """The address by which a driver reaches the mongod through this."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def __enter__(self) -> Self:
        """Start the process."""
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = self._ask("port")
        self.rtt(self.rtt_ms)
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        if self._process and self._process.stdin and self._process.stdout:
            self._process.stdin.close()  # it ends with its input
            self._process.wait(timeout=10)
            self._process.stdout.close()

    def rtt(self, milliseconds: float) -> None:
        """Be so far away from now on."""
        self.rtt_ms = milliseconds
        self._ask("rtt", milliseconds / 1000)

    def reset(self) -> None:
        """Count from zero."""
        self._ask("reset")

    def counts(self) -> Counts:
        """What passed since `reset`."""
        return Counts(**self._ask("counts"))

    def hold(self, on: bool) -> None:
        """Keep the answers to requests until `release`; or be as before."""
        self._ask("hold", on)

    def release(self, count: int) -> None:
        """Wait until `count` answers are kept, however long the server takes, and let all that are kept arrive.

        Raises:
            RuntimeError: they are not as many within a minute.
        """
        kept = self._ask("release", count)
        if kept < count:
            raise RuntimeError(f"{count} requests are under way, and {kept} were answered within a minute")

    def refuse(self, on: bool) -> None:
        """Let nobody connect, and reset what is open; or be as before."""
        self._ask("refuse", on)

    def swallow(self, on: bool) -> None:
        """Take connections and let no byte pass either way; or be as before."""
        self._ask("swallow", on)

    def _ask(self, what: str, value: object = None) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, value]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())
