"""A real LiveKit server on this machine, on 127.0.0.1 alone, for whole calls of tests and benchmarks."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from pydantic import SecretStr

from lkmongo.settings import LiveKitCredentials
from lkmongo.tokens import SigningKey

BINARY = shutil.which("livekit-server")
PATIENCE = 30
"""Seconds within which it answers."""


@dataclass(frozen=True)
class LiveKitServer:
    """A LiveKit server on this machine, with a key pair of its own; the pid is 0 while it does not run."""

    port: int
    key: SigningKey
    log: Path
    pid: int

    @property
    def url(self) -> str:
        """Where clients and workers connect to."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> LiveKitCredentials:
        """What settings would hold."""
        return LiveKitCredentials(self.url, self.key.api_key, self.key.api_secret)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead lkmongo here."""
        return {
            "LIVEKIT_URL": self.url,
            "LIVEKIT_API_KEY": self.key.api_key,
            "LIVEKIT_API_SECRET": self.key.secret,
        }

    def takes(self, token: str) -> bool:
        """Ask the server itself whether it would let the holder of this token in."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/rtc/validate?access_token={token}", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except HTTPError:
            return False


class LiveKitProcess:
    """The process of a server, which can be started again with the same port and key pair."""

    def __init__(self, folder: Path) -> None:
        """Take free ports, and start nothing yet; configuration and log are in `folder`."""
        self._port, self._log = free_port(), folder / "livekit-server.log"
        self._key = SigningKey("APIendtoend", SecretStr(secrets.token_hex(32)))
        self._process: subprocess.Popen[bytes] | None = None
        self._file = folder / "livekit.yaml"
        self._file.write_text(json.dumps(self._config(free_port(socket.SOCK_DGRAM))))  # JSON is YAML

    def _config(self, udp: int) -> dict[str, object]:
        return {
            "port": self._port,
            "bind_addresses": ["127.0.0.1"],
            "keys": {self._key.api_key: self._key.secret},
            "rtc": {
                "tcp_port": 0,  # none: it would listen on every address
                "udp_port": udp,
                "node_ip": "127.0.0.1",
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo", "lo0"]},
                "ips": {"includes": ["127.0.0.1/32"]},
            },
            "logging": {"level": "info", "json": True},
        }

    @property
    def server(self) -> LiveKitServer:
        """The server, whether it runs or not."""
        return LiveKitServer(self._port, self._key, self._log, self._process.pid if self._process else 0)

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it does not; the message has the end of its log.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(BINARY), "--config", str(self._file)], stdout=log, stderr=subprocess.STDOUT, process_group=0
            )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urlopen(f"http://127.0.0.1:{self._port}/", timeout=1):
                    return
            except (URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"livekit-server did not start:\n{self._log.read_text(errors='replace')[-2_000:]}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it, by force where it does not within ten seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextmanager
def livekit_server_in(folder: Path) -> Iterator[LiveKitServer]:
    """A server with its configuration and log in `folder`, until the end of the block.

    Raises:
        RuntimeError: it did not start; the message has the end of its log.
    """
    process = LiveKitProcess(folder)
    try:
        process.start()
        yield process.server
    finally:
        process.stop()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
