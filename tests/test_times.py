"""Times as they are typed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lkmongo.errors import UsageError
from lkmongo.model import now
from lkmongo.times import moment, span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T09:30", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ("2026-11-01 09:30:15.5", datetime(2026, 11, 1, 9, 30, 15, 500_000, tzinfo=UTC)),
        ("2026-11-01T09:30+02:00", datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        ("2026-11-01T09:30Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
    ],
)
def test_dates(text, expected):
    assert moment(text) == expected


@pytest.mark.parametrize(("text", "age"), [("7d", timedelta(days=7)), ("24h", timedelta(days=1)), ("0s", timedelta())])
def test_ages_count_back_from_now(text, age):
    before = now()
    found = moment(text)
    assert before - age <= found <= now() - age


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7x", "-7d", "2026-13-01", "99999d", "0001-01-01T00:00+14:00", "d"]
)
def test_what_is_no_time_is_refused_with_what_would_be(text):
    with pytest.raises(UsageError) as caught:
        moment(text)
    assert caught.value.hint or "years" in caught.value.message


def test_a_span_with_nothing_in_it_is_refused():
    assert span(None, None) == (None, None)
    with pytest.raises(UsageError, match="is not before"):
        span("2026-11-02", "2026-11-02")
    with pytest.raises(UsageError, match="is not before"):
        span("1d", "2d")
