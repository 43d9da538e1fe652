"""A real LiveKit server on this machine, on 127.0.0.1 alone, for whole calls of tests and benchmarks."""

from __future__ import annotations

import json
import secrets
import shutil
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
"""Seconds that anything may take before it counts as not happening."""


@dataclass(frozen=True)
class LiveKitServer:
    """A LiveKit server on this machine, with a key pair of its own."""

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


@contextmanager
def livekit_server_in(folder: Path) -> Iterator[LiveKitServer]:
    """A server with its configuration and log in `folder`, until the end of the block.

    Raises:
        RuntimeError: it did not start; the message has the end of its log.
    """
    port, udp = _free_port(), _free_port(socket.SOCK_DGRAM)
    key = SigningKey("APIendtoend", SecretStr(secrets.token_hex(32)))
    config = {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "keys": {key.api_key: key.secret},
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
    file, log_file = folder / "livekit.yaml", folder / "livekit-server.log"
    file.write_text(json.dumps(config))  # JSON is YAML
    with (
        log_file.open("wb") as log,
        subprocess.Popen([str(BINARY), "--config", str(file)], stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        server = LiveKitServer(port, key, log_file, process.pid)
        try:
            _wait_until_it_answers(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(server: LiveKitServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urlopen(f"http://127.0.0.1:{server.port}/", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"livekit-server did not start:\n{server.log.read_text(errors='replace')[-2_000:]}")
