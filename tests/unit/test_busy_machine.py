"""What keeps the tests right on a machine that has other work."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def test_a_property_is_not_wrong_because_its_examples_take_long():
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
