"""Relative dates: what is meant by them, where they are said, and what is none."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.dates import is_stated, resolve, show_since, start_in, start_of, with_days
from lkmongo.model import DateMention

SUNDAY = datetime(2026, 11, 29, 12, tzinfo=UTC)
"""29 November 2026."""


@pytest.mark.parametrize(
    ("text", "words", "day"),
    [
        ("the party is next Friday", "next Friday", "2026-12-04"),
        ("free on Friday", "on Friday", "2026-12-04"),
        ("this Sunday at ten", "this Sunday", "2026-12-06"),
        ("was here last Monday", "last Monday", "2026-11-23"),
        ("calls tomorrow at ten", "tomorrow", "2026-11-30"),
        ("leaves the day after tomorrow", "the day after tomorrow", "2026-12-01"),
        ("came yesterday", "yesterday", "2026-11-28"),
        ("moves in two weeks", "in two weeks", "2026-12-13"),
        ("in a fortnight", "in a fortnight", "2026-12-13"),
        ("exam in 3 months", "in 3 months", "2027-02-28"),
        ("a couple of days ago", "a couple of days ago", "2026-11-27"),
        ("started a year ago", "a year ago", "2025-11-29"),
        ("sometime next month", "next month", "2026-12-01"),
        ("last year", "last year", "2025-01-01"),
        ("wedding next May", "next May", "2027-05-01"),
        ("this weekend", "this weekend", "2026-12-05"),
        ("when I turn six", "when I turn six", None),
        ("party on her birthday", "on her birthday", None),
        ("kommt übermorgen", "übermorgen", "2026-12-01"),
        ("nächsten Freitag", "nächsten Freitag", "2026-12-04"),
        ("vor drei Tagen", "vor drei Tagen", "2026-11-26"),
        ("in einer Woche", "in einer Woche", "2026-12-06"),
        ("el viernes que viene", "el viernes que viene", "2026-12-04"),
        ("hace dos semanas", "hace dos semanas", "2026-11-15"),
        ("la semana que viene", "la semana que viene", "2026-11-30"),
        ("pasado mañana", "pasado mañana", "2026-12-01"),
    ],
)
def test_what_is_meant(text, words, day):
    assert resolve(text, SUNDAY) == (DateMention(words, day and date.fromisoformat(day)),)


@pytest.mark.parametrize(
    "text",
    [
        "my dog may bark", "two cats and a second car", "sun and sea", "March on the capital",
        "he is 12 and has 3 kids",
        "Yesterday", "sings Tomorrow by heart", "plays on Friday evenings", "every Friday", "tomorrow's world",
        "am Morgen", "por la mañana", "born on 3 May 2001", "Friday the dog", "in 9999999 years", "",
    ],
)  # fmt: skip
def test_what_is_none(text):
    assert resolve(text, SUNDAY) == ()


def test_today_is_where_the_caller_is():
    late = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)
    zones = {"Europe/Berlin": 1, "America/New_York": 30, None: 30, "Nowhere/Land": 30}
    assert {zone: resolve("tomorrow", late, zone)[0].day.day for zone in zones} == zones


def test_a_birthday_that_is_known_resolves_an_age():
    mentions = resolve("when I turn six, or on my birthday", SUNDAY, birthday="born on 3 May 2021")
    assert [each.day for each in mentions] == [date(2027, 5, 3), date(2027, 5, 3)]
    assert resolve("when I turn six", SUNDAY, birthday="in May")[0].day is None


def test_the_words_stay_and_the_day_is_said_behind_them():
    text = "the party is next Friday at ten, when I turn six"
    told = with_days(text, resolve(text, SUNDAY))
    assert told == "the party is next Friday, that is 4 December 2026, at ten, when I turn six"
    for said, shown in (
        ("next week", "the week of 30 November 2026"),
        ("next month", "December 2026"),
        ("last year", "2025"),
    ):
        assert with_days(said, resolve(said, SUNDAY)) == f"{said}, that is {shown}"


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("2026-05-01", "May 2026"), ("2026-05", "May 2026"), ("May", "May 2026"), ("since May 2024", "May 2024"),
        ("December", "December 2025"), ("3rd of June 2021", "3 June 2021"), ("June 3, 2021", "3 June 2021"),
        ("2019", "2019"),
        ("two years ago", "29 November 2024"), ("yesterday", "28 November 2026"), ("im Mai 2020", "May 2020"),
        ("soon", None), ("next week", None), ("31 February 2020", None), ("2027", None), ("May and June", None),
    ],
)  # fmt: skip
def test_since_when(text, since):
    found = start_of(text, SUNDAY)
    assert (found and show_since(found, "Pacific/Auckland")) == since
    assert found is None or is_stated(found)


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("moved to Lisbon in May", "May 2026"), ("Lisbon since May 2024", "May 2024"), ("seit 2019 in Berlin", "2019"),
        ("married Kim in June 2020", "June 2020"), ("got a dog last week", "16 November 2026"), ("Lisbon", None),
        ("may move to Rome", None), ("bought a house 2000 miles away", None), ("moved to 2020 Main Street", None),
        ("moved in with May", None),
    ],
)  # fmt: skip
def test_since_when_a_text_says_it(text, since):
    found = start_in(text, SUNDAY)
    assert (found and show_since(found)) == since


def test_a_time_without_a_date_that_was_said_is_shown_in_the_callers_zone():
    assert show_since(datetime(2026, 11, 29, 23, 30, tzinfo=UTC), "Europe/Berlin") == "30 November 2026"


@given(st.text(max_size=60), st.datetimes(timezones=st.just(UTC)))
def test_no_text_and_no_time_is_too_much(text, at):
    for said in (
        text,
        f"in {text} weeks",
        "in 999 years",
        "999 years ago",
        "last month",
        "next year",
        "last Friday",
        "next May",
    ):
        for mention in resolve(said, at, birthday=text):
            assert mention.words in said
        start_of(said, at)
        start_in(f"since {said}", at)
