"""Run scenarios that are written in the test."""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lkmongo.scenarios.run import Outcome, run_scenarios
from lkmongo.scenarios.scenario import load_scenarios
from lkmongo.settings import Settings

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture(scope="session")
def scenario_home(shared_home: Path) -> Path:
    """A home whose mongod stays up, so that each scenario joins it in a moment."""
    return shared_home


@pytest.fixture
def run(scenario_home: Path, tmp_path: Path) -> Run:
    """Run a scenario, given as its text or its file."""

    async def run(scenario: str | Path, *, model: Any = None, env: dict[str, str] | None = None) -> Outcome:
        path = tmp_path / "scenario.yaml"
        if isinstance(scenario, Path):
            path = scenario
        else:
            path.write_text(textwrap.dedent(scenario))
        settings = Settings.load(env or {})
        outcomes = [each async for each in run_scenarios(settings, load_scenarios([path]), scenario_home, model=model)]
        (outcome,) = outcomes
        return outcome

    return run
