"""What keeps the tests right on a machine that has other work."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import HealthCheck, settings

from lkmongo import deadlines
from lkmongo.store.mongo import circuit_breaker
from tests.patience import TIMES, be_patient


def test_a_property_is_not_wrong_because_its_examples_take_long():
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check


def test_what_a_call_waits_for_may_take_longer_until_that_is_undone(impatient):

    def waits():
        read = inspect.signature(circuit_breaker.CircuitBreaker.read).parameters["deadline"].default
        return read, deadlines.TOOL_READ, deadlines.AWAY

    before = waits()
    assert before[:2] == (deadlines.MONGODB_READ, deadlines.TOOL_READ)
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch.setattr)
        assert waits() == tuple(TIMES * each for each in before)
    assert waits() == before
