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


@pytest.fixture
def run(cli_env: dict[str, str], tmp_path: Path) -> Run:
    """Run `lkmongo` with these arguments; `input` is piped in, `env` is added."""

    def call(*arguments: str, input: str | bytes = b"", env: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            [LKMONGO, *arguments],
            input=input.encode() if isinstance(input, str) else input,
            capture_output=True,
            cwd=tmp_path,
            env=cli_env | (env or {}),
            timeout=100,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call
