"""What the tests of the embedded mongod share: a home that no process may be left of, and a folder for its sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.started import Zygote
from tests.local_support import User, nothing_left, short_tmpdir


@pytest.fixture(autouse=True)
def _fork_users(zygote: Zygote, tmp_path: Path) -> None:
    User.zygote, User.folder = zygote, tmp_path


@pytest.fixture(autouse=True)
def short_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with short_tmpdir(monkeypatch) as folder:
        yield folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with nothing_left(home := tmp_path / "home with späces"):
        yield home
