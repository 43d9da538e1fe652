"""Run scenarios that are written in the test."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lkmongo.declarations import Declarations
from lkmongo.scenarios import run as running
from lkmongo.scenarios.reading import load_scenarios
from lkmongo.scenarios.run import Outcome, run_scenarios
from lkmongo.settings import Settings
from lkmongo.store.seed.seeding import load_samples
from lkmongo.store.seed.seeds import SeedData

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture(scope="session")
def scenario_home(shared_home: Path) -> Path:
    """A home whose mongod stays up, so that each scenario joins it in a moment."""
    return shared_home


@functools.cache
def _samples() -> SeedData:
    return load_samples(Declarations())


@pytest.fixture
def run(scenario_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a scenario, given as its text or its file; only those in files have the sample shop, which is read once."""

    async def run(scenario: str | Path, *, model: Any = None, env: dict[str, str] | None = None) -> Outcome:
        path = tmp_path / "scenario.yaml"
        if isinstance(scenario, Path):
            path = scenario
        else:
            path.write_text(textwrap.dedent(scenario))
        data = _samples() if isinstance(scenario, Path) else SeedData()
        monkeypatch.setattr(running, "load_samples", lambda _known: data)
        settings = Settings.load(env or {})
        outcomes = [each async for each in run_scenarios(settings, load_scenarios([path]), scenario_home, model=model)]
        (outcome,) = outcomes
        return outcome

    return run
