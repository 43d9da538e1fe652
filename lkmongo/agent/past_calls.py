"""Past calls as the tool `search_past_calls` is asked for them and tells of them: days in words, in the caller's time.

A day is one of the caller's time zone. `until` includes its day: people, and models, say "until Friday" and mean it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from lkmongo.errors import InvalidTextError
from lkmongo.search.past_calls import date_in_words
from lkmongo.summary import Commitment, PastCall


def bounds(since: str | None, until: str | None, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """The span of time between two texts in ISO 8601; a day of `until` is included.

    Raises:
        InvalidTextError: one of them is no date, or nothing is between them; the message can be read out.
    """
    start, end = _moment("since", since, zone), _moment("until", until, zone, is_end=True)
    if start and end and start >= end:
        raise InvalidTextError(f"{since} is not before {until}")
    return start, end


def _moment(name: str, text: str | None, zone: tzinfo, *, is_end: bool = False) -> datetime | None:
    text = (text or "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        if is_end and moment.time() == datetime.min.time() and len(text) <= len("2026-10-31"):
            moment = (moment.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidTextError(f"{name} must be a date such as 2026-10-31, not {text[:40]!r}") from None


def sentence(call: PastCall, zone: tzinfo) -> str:
    """What is remembered of a call: when it was, what it was about, and what is still to be done."""
    summary = call.summary
    text = summary.text.rstrip(" .") if summary.by == "model" else f"you said: {summary.text}".rstrip(" .")
    told = f"On {date_in_words(summary.at, zone)}: {text}."
    if not summary.open:
        return told
    return f"{told} Still open: {'; '.join(open_in_words(each, zone) for each in summary.open)}."


def open_in_words(commitment: Commitment, zone: tzinfo) -> str:
    """A commitment with who is to do it and by when."""
    who = "I was" if commitment.by == "assistant" else "you were"
    due = f", by {date_in_words(commitment.due, zone)}" if commitment.due else ""
    return f"{who} to {commitment.text.rstrip(' .')}{due}"
