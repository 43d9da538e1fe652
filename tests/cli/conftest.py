"""Run the command line as a user does: a process of its own, with its own database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import clean_environment

ROOT = Path(__file__).resolve().parent.parent.parent
LKMONGO = str(Path(sys.executable).with_name("lkmongo"))


@dataclass(frozen=True)
class Result:
    """What a command printed, and how it ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.stdout)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it printed, as a JSON object a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def answers(self) -> list[str]:
        """What the agent said."""
        return [e["text"] for e in self.events if e["type"] == "message" and e["role"] == "assistant"]


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose mongod stays up, so that each command joins it in a moment."""
    from lkmongo.local.mongod import EmbeddedMongod

    home = tmp_path_factory.mktemp("home with späces")
    with EmbeddedMongod(home):
        yield home


@pytest.fixture
def cli_env(shared_home: Path, database_name: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a command: nothing configured but where to work."""
    return clean_environment() | {
        "LKMONGO_HOME": str(shared_home),
        "MONGODB_DB": database_name,
        "HOME": str(tmp_path),
        "COLUMNS": "100",
    }


@pytest.fixture(scope="session")
def zygote() -> Iterator[subprocess.Popen[str]]:
    """A process that has everything imported and forks for each command."""
    environment = clean_environment() | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli.zygote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def run(zygote: subprocess.Popen[str], cli_env: dict[str, str], tmp_path: Path) -> Run:
    """Run `lkmongo` with these arguments; `input` is piped in, `env` is added."""
    streams = tmp_path / ".streams"
    streams.mkdir(exist_ok=True)

    def call(*arguments: str, input: str | bytes = b"", env: dict[str, str] | None = None) -> Result:
        files = [streams / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(input.encode() if isinstance(input, str) else input)
        for file in files[1:]:
            file.write_bytes(b"")
        request = {"arguments": arguments, "env": cli_env | (env or {}), "cwd": str(tmp_path), "files": files}
        zygote.stdin.write(json.dumps(request, default=str) + "\n")
        zygote.stdin.flush()
        code = int(zygote.stdout.readline())
        return Result(code, files[1].read_text(encoding="utf-8"), files[2].read_text(encoding="utf-8"))

    return call
