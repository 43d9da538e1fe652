"""What the tests of the parts on a real MongoDB share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.patience import be_patient


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing is given up that only takes longer because the machine is busy."""
    with pytest.MonkeyPatch.context() as patch:
        if "impatient" not in request.fixturenames:
            be_patient(patch.setattr)
        yield


@pytest.fixture
def impatient() -> None:
    """Wait as long as calls do: for tests that are about it."""
