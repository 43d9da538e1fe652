"""Run the command line as a user does: a process of its own, with its own database."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest

from tests.cli.started import Started, Terminal, Zygote
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


def environment(shared_home: Path, database: str, home: Path) -> dict[str, str]:
    """The environment of a command: nothing configured but where to work."""
    return clean_environment() | {
        "LKMONGO_HOME": str(shared_home),
        "MONGODB_DB": database,
        "HOME": str(home),
        "COLUMNS": "100",
    }


@pytest.fixture
def cli_env(shared_home: Path, database_name: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a command that works in this test's folder and database."""
    yield environment(shared_home, database_name, tmp_path)
    # What a call of this test has left there is for a database that no other test knows.
    shutil.rmtree(shared_home / "spool", ignore_errors=True)


def run_together(
    zygote: Zygote,
    commands: Iterable[Sequence[str]],
    *,
    folder: Path,
    env: Mapping[str, str],
    input: str | bytes = b"",
    stdout: Path | None = None,
) -> list[Result]:
    """Run `lkmongo` in `folder` once for each list of arguments, all at the same time.

    Args:
        zygote: starts them.
        commands: the arguments.
        folder: where they run.
        env: all of their environment.
        input: is piped into each.
        stdout: where each writes, instead of a file that is read afterwards.
    """
    streams = folder / ".streams"
    streams.mkdir(exist_ok=True)
    started = []
    commands = list(commands)
    for arguments in commands:
        files = [streams / f"{name}-{uuid4().hex}" for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(input.encode() if isinstance(input, str) else input)
        process = zygote.start(
            arguments, env=env, folder=folder, files=[files[0], stdout or files[1], files[2]], alone=len(commands) > 1
        )
        started.append((process, files[1:]))
    codes = [zygote.wait(process) for process, _ in started]
    return [
        Result(code, *(file.read_text(encoding="utf-8") if file.exists() else "" for file in written))
        for code, (_, written) in zip(codes, started, strict=True)
    ]


@pytest.fixture
def run(zygote: Zygote, cli_env: dict[str, str], tmp_path: Path) -> Run:
    """Run `lkmongo` with these arguments; `input` is piped in, `env` is added."""

    def call(*arguments: str, env: dict[str, str] | None = None, **more: Any) -> Result:
        (result,) = run_together(zygote, [arguments], folder=tmp_path, env=cli_env | (env or {}), **more)
        return result

    return call


@pytest.fixture
def start(zygote: Zygote, cli_env: dict[str, str], tmp_path: Path) -> Callable[..., Started]:
    """Start `lkmongo` with these arguments, on pipes; `env` is added."""

    def call(*arguments: str, env: Mapping[str, str] | None = None) -> Started:
        return Started(zygote, arguments, tmp_path, cli_env | (env or {}))

    return call


@pytest.fixture
def at_terminal(zygote: Zygote, cli_env: dict[str, str], tmp_path: Path) -> Callable[..., Terminal]:
    """Start `lkmongo` with these arguments, on a terminal; `env` is added."""

    def call(*arguments: str, env: Mapping[str, str] | None = None, size: tuple[int, int] = (40, 120)) -> Terminal:
        return Terminal(zygote, arguments, tmp_path, cli_env | {"TERM": "xterm"} | (env or {}), size)

    return call


@pytest.fixture
def run_inside(cli_env: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `lkmongo` in this process: for what ends before a database is asked or anything heavy is imported."""
    from lkmongo.cli import main

    def call(*arguments: str, env: dict[str, str] | None = None) -> Result:
        root, own, agents = (logging.getLogger(name) for name in (None, "lkmongo", "livekit.agents"))
        before = list(root.handlers), root.level, own.level, agents.level, list(agents.filters)
        capsys.readouterr()
        try:
            with (
                mock.patch.dict(os.environ, cli_env | (env or {}), clear=True),
                mock.patch.object(sys, "argv", ["lkmongo", *arguments]),
                pytest.raises(SystemExit) as ended,
            ):
                main()
        finally:
            root.handlers[:], root.level, own.level, agents.level, agents.filters[:] = before
        return Result(int(ended.value.code or 0), *capsys.readouterr())

    return call
