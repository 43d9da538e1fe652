"""The exponents that the growth benchmark tells are those of the curves, over the upper half of the sizes."""

from __future__ import annotations

import pytest

from benchmarks.growth import CURVES, curves, exponent, table
from benchmarks.measure import result


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_the_power(power):
    sizes = [10, 100, 1_000, 10_000]
    assert exponent(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)


def test_what_is_constant_at_first_counts_by_its_upper_half():
    assert exponent([1, 10, 100, 1_000, 10_000, 100_000], [5, 5, 1, 10, 100, 1_000]) == pytest.approx(1)


def test_of_too_few_sizes_or_of_nothing_there_is_no_exponent():
    assert exponent([10], [1]) is None
    assert exponent([10, 100], [0, 1]) is None


def test_a_row_tells_the_figures_by_size():
    seen = [result("growth", "search", "lkmongo", [n / 10], n=n) for n in (100, 10)]
    assert [each.n for each in curves(seen)["search", "ms", "lkmongo"]] == [10, 100]
    assert table(seen).splitlines()[-1] == "| search, ms | lkmongo | 10: 1, 100: 10 | 1.00 |"


def test_a_quick_run_goes_less_far_than_a_full_one():
    for curve in CURVES:
        assert max(curve.quick) <= max(curve.standard) <= max(curve.full), curve.name
