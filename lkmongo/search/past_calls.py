"""Search of one person's calls by their summaries, exactly: by words and by meaning, without a search index.

And how a call is asked for and told of: days in words, in the time of the caller. A day is one of their time zone, and
`until` includes its day: people, and models, say "until Friday" and mean it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from calendar import day_name, month_name
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from lkmongo import deadlines
from lkmongo.dates import show_day
from lkmongo.embed.vectors import from_bson
from lkmongo.errors import InvalidTextError
from lkmongo.model import UserScope
from lkmongo.search.exact import ExactIndex
from lkmongo.search.strategy import QueryEmbedding, foreign_note
from lkmongo.search.words import content_words
from lkmongo.store.sessions.summaries import Summaries
from lkmongo.summary import Commitment, PastCall

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

logger = logging.getLogger(__name__)

_MONTHS = {name.casefold(): number for number, name in enumerate(month_name) if name}
_IN_MONTH = re.compile(
    rf"\b(?:in|of|during|last|this|since)\s+({'|'.join(_MONTHS)})\b(?:,?\s+(\d{{4}}))?", re.IGNORECASE
)
_LATEST = re.compile(r"\b(?:last|latest|previous) (?:time|call|conversation|session)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundCalls:
    """Calls that match, the best first; `degraded` says what the search had to do without, or is None."""

    calls: list[PastCall]
    degraded: str | None = None


def date_in_words(moment: datetime, zone: tzinfo) -> str:
    """A day as it is said: Monday, 12 October 2026."""
    day = moment.astimezone(zone).date()
    return f"{day_name[day.weekday()]}, {show_day(day)}"


def month_in(query: str, today: datetime) -> tuple[datetime, datetime, str] | None:
    """The month that a query names, "in October" or "in May 2025", without a year the latest one that has begun.

    Args:
        query: what is searched for.
        today: with the time zone in which months begin.

    Returns:
        The month's beginning, its end, and the query without it; None if it names none.
    """
    found = _IN_MONTH.search(query)
    if not found:
        return None
    month = _MONTHS[found[1].casefold()]
    year = int(found[2]) if found[2] else today.year - (month > today.month)
    start = datetime(year, month, 1, tzinfo=today.tzinfo)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=today.tzinfo)
    return start, end, f"{query[: found.start()]} {query[found.end() :]}".strip()


async def past_calls(
    summaries: Summaries,
    scope: UserScope,
    query: str,
    embedder: Embedder,
    *,
    today: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 5,
    without: str | None = None,
    query_embedding: QueryEmbedding | None = None,
) -> FoundCalls:
    """Search one person's calls.

    Args:
        summaries: where they are.
        scope: whose.
        query: what was talked about; empty for the newest. If it names a month, only that one is searched, unless a
            time is given.
        embedder: only vectors of its model are compared; other summaries are found by words, and all of them if MongoDB
            makes the vectors: it has no search index of them.
        today: in the person's time zone.
        since: that began at this time or later.
        until: that began before this time.
        limit: at most this many.
        without: leave out the call of this id.
        query_embedding: of `query`, if it is under way.

    Returns:
        The best matches first. Where a time is given or named and no call in it matches, its newest ones; the newest
        of all if "last time" is asked for.

    Raises:
        DatabaseError: they could not be read.
    """
    if not (since or until) and (named := month_in(query, today)):
        since, until, query = named
    asks = bool(query.strip())
    embedding = None
    if asks:
        embedding = query_embedding or QueryEmbedding(query, embedder, deadlines.MEMORY_QUERY_EMBEDDING)
    try:
        found = await summaries.of_person(scope, since, until, vectors=asks)
        calls = [call for call in found if call.session_id != without]
        if not calls or embedding is None:
            return FoundCalls(calls[:limit])
        vector, degraded = await embedding.vector()
    finally:
        if embedding:
            await embedding.__aexit__()
    hits, foreign = await asyncio.to_thread(_search, calls, query, vector, limit, embedder, today.tzinfo)
    if degraded is None and foreign and embedder.dimensions:
        degraded = foreign_note(f"{foreign} of {len(calls)} have", embedder)
    if not hits and (since or until):
        hits = calls[:limit]
    if not hits and _LATEST.search(query):
        hits = calls[:1]
    return FoundCalls(hits, degraded)


def _search(
    calls: Sequence[PastCall],
    query: str,
    vector: object,
    limit: int,
    embedder: Embedder,
    zone: tzinfo | None,
) -> tuple[list[PastCall], int]:
    """The best matches, and how many calls have a vector of another model."""
    vectors = [from_bson(c.vector, embedder.dimensions) if c.model == embedder.model else None for c in calls]
    foreign = sum(call.vector is not None and ours is None for call, ours in zip(calls, vectors, strict=True))
    texts = [f"{date_in_words(call.summary.at, zone or UTC)}\n{call.summary.embedded_text}" for call in calls]
    index = ExactIndex(list(range(len(calls))), texts, vectors)
    if not content_words(query)[0]:
        return [], foreign
    hits = index.search(query, vector, limit, embedder.weights, embedder.floor)  # type: ignore[arg-type]
    return [calls[hit.key] for hit in hits], foreign


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
