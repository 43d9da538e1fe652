"""Statistics of sessions, in total and per day: how many, how long, how fast the answers, which tools, what failed.

MongoDB counts sessions, on the day they started. Turns are streamed, and count on the day they were made, as MongoDB
before 7.0 has no percentiles, and one aggregation over all turns may exceed the socket timeout. Waits are kept
as a histogram in milliseconds: memory does not grow with the turns, and percentiles are exact to the millisecond.
Days are in UTC.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.model import SessionRecord, SessionStatus
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.extended_json import READ, decode
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.documents import record_of
from lkmongo.store.sessions.listing import MAX_MILLISECONDS, SessionFilter, with_totals
from lkmongo.store.sessions.transcript import DURATIONS, FIRST_WORD, SPOKEN, TOOL, TYPED, WAITS, seconds_of, wait

Document = dict[str, Any]

MODEL_ERRORS = ("llm", "stt", "tts", "realtime", "interruption")
"""The models whose errors the SDK's session report counts."""
_TURNS_A_REPLY = 5_000
_OPEN_SESSIONS = 500
_MOST_DAYS = 3_660


@dataclass(frozen=True, slots=True)
class Latency:
    """Waits of one kind, in seconds; the percentiles are None if there were none."""

    count: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The calls of one tool."""

    name: str
    calls: int
    errors: int
    latency: Latency


@dataclass(slots=True)
class Period:
    """One day, or all days.

    Attributes:
        sessions: sessions that started; without those to whose callers no agent came, which are failures.
        minutes: their length, to their end or, without one, to their last turn.
        turns: turns that were made.
        tool_calls: turns that are tool calls.
        answers: how long callers waited for an answer, whether they typed or spoke.
        typed: the same for what they typed.
        spoken: the same for what they said.
        first_words: how long the model took for its first word where the caller's wait is not recorded: of answers to
            typing that earlier versions recorded, and of what an agent says unasked.
        failures: how many failures of each kind in `FAILURES`, including 0.
    """

    sessions: int
    minutes: float
    turns: int
    tool_calls: int
    answers: Latency
    typed: Latency
    spoken: Latency
    first_words: Latency
    failures: dict[str, int]


@dataclass(frozen=True, slots=True)
class Stats:
    """`days` has every day from the first with data to the last; `latencies` only what was measured."""

    total: Period
    latencies: dict[str, Latency]
    tools: list[ToolUse]
    days: dict[date, Period]


class _Times:
    """A histogram of waits, by milliseconds."""

    def __init__(self) -> None:
        self._times: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._times[round(seconds * 1_000)] += 1

    def update(self, other: _Times) -> None:
        self._times.update(other._times)

    def latency(self) -> Latency:
        count = self._times.total()
        if not count:
            return Latency(0, None, None)
        return Latency(count, *(self._percentile(share, count) for share in (0.50, 0.95)))

    def _percentile(self, share: float, count: int) -> float:
        """The smallest wait that at least `share` of the waits do not exceed (nearest rank)."""
        rank = max(1, -int(-share * count // 1))
        for milliseconds in sorted(self._times):
            rank -= self._times[milliseconds]
            if rank <= 0:
                return milliseconds / 1_000
        raise AssertionError("the ranks are within the count")


@dataclass(slots=True)
class _Sum:
    sessions: int = 0
    milliseconds: int = 0
    turns: int = 0
    tool_calls: int = 0
    waits: dict[str, _Times] = field(default_factory=lambda: {name: _Times() for name in WAITS})
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, other: _Sum) -> None:
        self.sessions += other.sessions
        self.milliseconds += other.milliseconds
        self.turns += other.turns
        self.tool_calls += other.tool_calls
        for name, times in other.waits.items():
            self.waits[name].update(times)
        self.failures.update(other.failures)

    def period(self) -> Period:
        failures = {kind: self.failures[kind] for kind in FAILURES}
        minutes = round(self.milliseconds / 60_000, 1)
        waits, answers = {name: times.latency() for name, times in self.waits.items()}, _Times()
        for name in (TYPED, SPOKEN):
            answers.update(self.waits[name])
        return Period(
            self.sessions,
            minutes,
            self.turns,
            self.tool_calls,
            answers.latency(),
            waits[TYPED],
            waits[SPOKEN],
            waits[FIRST_WORD],
            failures,
        )


FAILURES = (
    *("interrupted_calls", "calls_ended_by_error", "tool_errors"),
    *(f"{name}_errors" for name in MODEL_ERRORS),
    "calls_without_agent",
)
"""Kinds of failure, by their names in JSON: interrupted sessions, sessions ended by an error, tools, models, and
callers to whom no agent came."""


def sessions_pipeline(wanted: SessionFilter) -> list[Document]:
    """Over `sessions`: a document for each day on which sessions started; its `_id` is the day as text."""
    length = {"$subtract": ["$ended_at", "$started_at"]}
    unanswered = {"$eq": ["$status", SessionStatus.NO_AGENT.value]}
    counts = {"$and": [{"$eq": [{"$type": "$ended_at"}, "date"]}, {"$not": unanswered}]}
    by_error = {"$or": [{"$eq": ["$close_reason", "error"]}, {"$eq": ["$report.close_reason", "CR_ERROR"]}]}
    return [
        {"$match": wanted.sessions() | {"started_at": {"$type": "date"} | wanted.sessions().get("started_at", {})}},
        {
            "$group": {
                "_id": {"$dateToString": {"date": "$started_at", "format": "%Y-%m-%d"}},
                "sessions": {"$sum": {"$cond": [unanswered, 0, 1]}},
                "milliseconds": {"$sum": {"$cond": [counts, length, 0]}},
                "calls_without_agent": {"$sum": {"$cond": [unanswered, 1, 0]}},
                "interrupted_calls": {"$sum": {"$cond": [{"$eq": ["$status", "interrupted"]}, 1, 0]}},
                "calls_ended_by_error": {"$sum": {"$cond": [by_error, 1, 0]}},
            }
            | {f"{name}_errors": {"$sum": f"$report.errors.{name}"} for name in MODEL_ERRORS}
        },
    ]


TURN_FIELDS: Document = {"_id": 0, "created_at": 1, "kind": 1, "name": 1, "is_error": 1} | {
    f"metrics.{name}": 1 for name in DURATIONS
}
"""The projection of a turn."""


class SessionStats:
    """The statistics of the sessions and turns that match a filter."""

    def __init__(self, db: AsyncDatabase[Document], wanted: SessionFilter) -> None:
        """`wanted` matches sessions by their start and turns by the time they were made."""
        self._sessions = db[SESSIONS]
        self._turns = db[TURNS]
        self._raw_turns = self._turns.with_options(codec_options=READ)
        self._wanted = wanted
        self._days: defaultdict[date, _Sum] = defaultdict(_Sum)
        self._latencies: defaultdict[str, _Times] = defaultdict(_Times)
        self._tools: defaultdict[str, list[Any]] = defaultdict(lambda: [0, 0, _Times()])

    async def read(self, on_progress: Callable[[int], None] = lambda _: None) -> Stats:
        """Read everything; `on_progress` is called with the number of turns so far.

        Raises:
            DatabaseUnavailableError: MongoDB cannot be reached.
            DatabaseError: MongoDB answered with an error, such as a query that took too long.
        """
        await operations.read(self._read_sessions)
        await operations.read(self._read_open_sessions)
        await operations.read(lambda: self._read_turns(on_progress))
        return self._stats()

    async def _read_sessions(self) -> None:
        cursor = await self._sessions.aggregate(sessions_pipeline(self._wanted), maxTimeMS=MAX_MILLISECONDS)
        for document in await cursor.to_list():
            day = self._days[date.fromisoformat(document["_id"])]
            day.sessions, day.milliseconds = document["sessions"], document["milliseconds"]
            day.failures = Counter({kind: document[kind] for kind in FAILURES if kind in document})

    async def _read_open_sessions(self) -> None:
        """Sessions without an end are as long as their turns say."""
        query = self._wanted.sessions() | {"ended_at": None}
        found: Counter[date] = Counter()
        part: list[SessionRecord] = []
        async for document in self._sessions.find(query, {"report": 0, "summary": 0}, max_time_ms=MAX_MILLISECONDS):
            part.append(record_of(document))
            if len(part) == _OPEN_SESSIONS:
                await self._add_lengths(found, part)
                part.clear()
        await self._add_lengths(found, part)
        for day, milliseconds in found.items():
            self._days[day].milliseconds += milliseconds

    async def _add_lengths(self, days: Counter[date], records: Sequence[SessionRecord]) -> None:
        for record in await with_totals(self._turns, records) if records else []:
            if record.started_at and record.length:
                days[record.started_at.date()] += record.length // timedelta(milliseconds=1)

    async def _read_turns(self, on_progress: Callable[[int], None]) -> None:
        turns: defaultdict[date, _Sum] = defaultdict(_Sum)
        self._latencies.clear()
        self._tools.clear()
        count = 0
        async with self._raw_turns.find_raw_batches(
            self._wanted.turns(), TURN_FIELDS, batch_size=_TURNS_A_REPLY
        ) as cursor:
            async for raw in cursor:
                documents = decode(raw)
                for document in documents:
                    self._add_turn(turns, document)
                count += len(documents)
                on_progress(count)
        for day, found in turns.items():
            self._days[day].add(found)

    def _add_turn(self, days: defaultdict[date, _Sum], turn: Mapping[str, Any]) -> None:
        at = turn.get("created_at")
        if not isinstance(at, datetime):
            return
        day = days[at.date()]
        day.turns += 1
        metrics = turn.get("metrics")
        measured = metrics.items() if isinstance(metrics, dict) else ()
        waits = {name: seconds for name, value in measured if (seconds := seconds_of(value)) is not None}
        for name, seconds in waits.items():  # only those of TURN_FIELDS are read
            self._latencies[name].add(seconds)
        if turn.get("kind") == "tool":
            failed = turn.get("is_error") is True
            tool = self._tools[str(turn.get("name"))]
            tool[0] += 1
            tool[1] += failed
            if TOOL in waits:
                tool[2].add(waits[TOOL])
            day.tool_calls += 1
            day.failures["tool_errors"] += failed
        elif waited := wait(waits):
            name, seconds = waited
            day.waits[name].add(seconds)

    def _stats(self) -> Stats:
        total = _Sum()
        for day in self._days.values():
            total.add(day)
        tools = [ToolUse(name, calls, errors, times.latency()) for name, (calls, errors, times) in self._tools.items()]
        return Stats(
            total.period(),
            {name: self._latencies[name].latency() for name in DURATIONS if name in self._latencies},
            sorted(tools, key=lambda tool: (-tool.calls, tool.name)),
            {day: self._days[day].period() if day in self._days else _Sum().period() for day in _all_days(self._days)},
        )


def _all_days(days: Mapping[date, object]) -> Sequence[date]:
    if not days:
        return []
    first, last = min(days), max(days)
    if (last - first).days > _MOST_DAYS:  # some clock was wrong, and a row for each day in between helps nobody
        return sorted(days)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
