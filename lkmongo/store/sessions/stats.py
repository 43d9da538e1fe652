"""What calls sum up to: how many, how long, how quick the answers, which tools, what failed; in all and a day.

Calls are counted by MongoDB, on the day they began. Turns are read as a stream, and count on the day they were made:
MongoDB before 7.0 has no percentiles, and a sum over all of them at once may take longer than a socket waits. Times
are kept as numbers of milliseconds that occurred so and so often, so that memory does not grow with the turns and
percentiles are exact to the millisecond. Days are in UTC.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.store.mongo import operations
from lkmongo.store.mongo.extended_json import READ, decode
from lkmongo.store.mongo.schema import SESSIONS, TURNS
from lkmongo.store.sessions.calls import MAX_MILLISECONDS, Call, SessionFilter, call_of, sums_pipeline, with_sums
from lkmongo.store.sessions.transcript import DURATIONS, TOOL, seconds_of, wait

Document = dict[str, Any]

MODEL_ERRORS = ("llm", "stt", "tts", "realtime", "interruption")
"""What the SDK's session report counts errors of."""
_TURNS_A_REPLY = 5_000
_OPEN_CALLS = 500
_MOST_DAYS = 3_660


@dataclass(frozen=True, slots=True)
class Latency:
    """Waits of one kind, in seconds; the percentiles are None when there were none."""

    count: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What a tool was used for, and how it went."""

    name: str
    calls: int
    errors: int
    latency: Latency


@dataclass(slots=True)
class Period:
    """A day, or all of them.

    Attributes:
        calls: calls that began.
        minutes: their length: to their end, or to their last turn while they have none.
        turns: turns that were made.
        tool_calls: turns that are the use of a tool.
        answers: how long the caller waited for an answer.
        failures: what failed, by kind; kinds that did not occur are there too.
    """

    calls: int
    minutes: float
    turns: int
    tool_calls: int
    answers: Latency
    failures: dict[str, int]


@dataclass(frozen=True, slots=True)
class Stats:
    """All of it. `days` has every day from the first with anything to the last; `latencies` only what was measured."""

    total: Period
    latencies: dict[str, Latency]
    tools: list[ToolUse]
    days: dict[date, Period]


class _Times:
    """How often each number of milliseconds occurred."""

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
        """The smallest time that at least `share` of the times do not exceed (nearest rank)."""
        rank = max(1, -int(-share * count // 1))
        for milliseconds in sorted(self._times):
            rank -= self._times[milliseconds]
            if rank <= 0:
                return milliseconds / 1_000
        raise AssertionError("the ranks are within the count")


@dataclass(slots=True)
class _Sum:
    calls: int = 0
    milliseconds: int = 0
    turns: int = 0
    tool_calls: int = 0
    answers: _Times = field(default_factory=_Times)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, other: _Sum) -> None:
        self.calls += other.calls
        self.milliseconds += other.milliseconds
        self.turns += other.turns
        self.tool_calls += other.tool_calls
        self.answers.update(other.answers)
        self.failures.update(other.failures)

    def period(self) -> Period:
        failures = {kind: self.failures[kind] for kind in FAILURES}
        minutes = round(self.milliseconds / 60_000, 1)
        return Period(self.calls, minutes, self.turns, self.tool_calls, self.answers.latency(), failures)


FAILURES = ("interrupted_calls", "calls_ended_by_error", "tool_errors", *(f"{name}_errors" for name in MODEL_ERRORS))
"""Kinds of failure: calls that were cut off, calls that an error ended, tools, and the models of the session reports."""


def calls_pipeline(wanted: SessionFilter) -> list[Document]:
    """Calls by the day they began: a document a day, `_id` being the day as text."""
    length = {"$subtract": ["$ended_at", "$started_at"]}
    by_error = {"$or": [{"$eq": ["$close_reason", "error"]}, {"$eq": ["$report.close_reason", "CR_ERROR"]}]}
    return [
        {"$match": wanted.sessions() | {"started_at": {"$type": "date"} | wanted.sessions().get("started_at", {})}},
        {
            "$group": {
                "_id": {"$dateToString": {"date": "$started_at", "format": "%Y-%m-%d"}},
                "calls": {"$sum": 1},
                "milliseconds": {"$sum": {"$cond": [{"$eq": [{"$type": "$ended_at"}, "date"]}, length, 0]}},
                "interrupted_calls": {"$sum": {"$cond": [{"$eq": ["$status", "interrupted"]}, 1, 0]}},
                "calls_ended_by_error": {"$sum": {"$cond": [by_error, 1, 0]}},
            }
            | {f"{name}_errors": {"$sum": f"$report.errors.{name}"} for name in MODEL_ERRORS}
        },
    ]


TURN_FIELDS: Document = {"_id": 0, "created_at": 1, "kind": 1, "name": 1, "is_error": 1} | {
    f"metrics.{name}": 1 for name in DURATIONS
}
"""What is read of a turn."""


class SessionStats:
    """Sums up what `wanted` means."""

    def __init__(self, db: AsyncDatabase[Document], wanted: SessionFilter) -> None:
        """Nothing is read yet."""
        self._sessions = db[SESSIONS]
        self._turns = db[TURNS]
        self._raw_turns = self._turns.with_options(codec_options=READ)
        self._wanted = wanted
        self._days: defaultdict[date, _Sum] = defaultdict(_Sum)
        self._latencies: defaultdict[str, _Times] = defaultdict(_Times)
        self._tools: defaultdict[str, list[Any]] = defaultdict(lambda: [0, 0, _Times()])

    async def read(self, on_progress: Callable[[int], None] = lambda _: None) -> Stats:
        """Read it all; `on_progress` is told how many turns have been.

        Raises:
            DatabaseUnavailableError: MongoDB cannot be reached.
            DatabaseError: any other answer that is an error, such as that it took too long.
        """
        await operations.read(self._read_calls)
        await operations.read(self._read_open_calls)
        await operations.read(lambda: self._read_turns(on_progress))
        return self._stats()

    async def _read_calls(self) -> None:
        cursor = await self._sessions.aggregate(calls_pipeline(self._wanted), maxTimeMS=MAX_MILLISECONDS)
        for document in await cursor.to_list():
            day = self._days[date.fromisoformat(document["_id"])]
            day.calls, day.milliseconds = document["calls"], document["milliseconds"]
            day.failures = Counter({kind: document[kind] for kind in FAILURES if kind in document})

    async def _read_open_calls(self) -> None:
        """Calls without an end are as long as their turns say."""
        query = self._wanted.sessions() | {"ended_at": None}
        found: Counter[date] = Counter()
        part: list[Call] = []
        async for document in self._sessions.find(query, {"report": 0}, max_time_ms=MAX_MILLISECONDS):
            part.append(call_of(document))
            if len(part) == _OPEN_CALLS:
                await self._add_lengths(found, part)
                part.clear()
        await self._add_lengths(found, part)
        for day, milliseconds in found.items():
            self._days[day].milliseconds += milliseconds

    async def _add_lengths(self, days: Counter[date], calls: Sequence[Call]) -> None:
        if not calls:
            return
        cursor = await self._turns.aggregate(sums_pipeline(calls), maxTimeMS=MAX_MILLISECONDS)
        sums = {tuple(document["_id"]): document async for document in cursor}
        for call in (with_sums(call, sums.get(call.key, {})) for call in calls):
            if call.started_at and call.length:
                days[call.started_at.date()] += call.length // timedelta(milliseconds=1)

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
        elif (waited := wait(waits)) is not None:
            day.answers.add(waited)

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
    if (last - first).days > _MOST_DAYS:  # a clock that was wrong somewhere; a row for each day between helps nobody
        return sorted(days)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
