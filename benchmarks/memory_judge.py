"""What an answer of a memory is worth: judged by the words of what comes back, without a model.

Each value of the cases is different from every other one, so what holds it as whole words is evidence for it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from benchmarks.memory_cases import Question

LIMIT = 5
"""How many results count: as many as the tool of lkmongo gives to the model; the others are asked for as many."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        text: of the memory.
        former: it is said to be true no more.
        since: since when it is true or was, or when it was said; None if that is not told.
        until: until when it was true; None if it still is, or that is not told.
        days: the days of a calendar that it gives for dates in the text.
    """

    text: str
    former: bool = False
    since: str | None = None
    until: str | None = None
    days: tuple[str, ...] = ()

    def holds(self, value: str) -> bool:
        """Whether the value stands in it as whole words."""
        return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", self.text, re.IGNORECASE) is not None

    def was_true(self, at: datetime) -> bool:
        """Whether it was true at a time, by its dates; without a date nothing says so."""
        return self.since is not None and _time(self.since) <= at and (self.until is None or at < _time(self.until))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question.

    Attributes:
        hits: the results, best first.
        ms: the time that they took.
        told: the results as a model reads them.
        briefed: what a model that has called no tool is told of the person when they ask this.
    """

    hits: tuple[Hit, ...]
    ms: float
    told: str
    briefed: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Answer:
        """From what a system's process has written."""
        return cls(tuple(Hit(**each) for each in data["hits"]), data["ms"], data["told"], data["briefed"])


def verdicts(question: Question, hits: Sequence[Hit]) -> Iterator[tuple[str, bool]]:
    """What holds of the results of a question: the name of each measure that it counts for, and whether it is met."""
    true = [hit for hit in hits if not hit.former]
    match question.kind:
        case "fact" | "crowded" as kind:
            # A former value beside its successor takes no place: the five are those that are true.
            yield f"{kind}: first", any(hit.holds(question.right) for hit in true[:1])
            yield f"{kind}: among {LIMIT}", any(hit.holds(question.right) for hit in true[:LIMIT])
        case "changed" | "corrected" as kind:
            told = [hit for hit in true[:LIMIT] if _of_subject(question, hit)]
            yield f"{kind}: the new value before the old", bool(told) and told[0].holds(question.right)
            yield f"{kind}: the old value told as true", any(not hit.holds(question.right) for hit in told)
        case "before":
            found = [hit for hit in hits if hit.holds(question.right)]
            yield "before: found", bool(found)
            yield "before: told as former", any(hit.former for hit in found)
        case "then":
            # The end of the month: the value was true by then, and another one not yet.
            end = _time(question.month or "") + timedelta(days=27)
            then = [hit for hit in hits if _of_subject(question, hit) and hit.was_true(end)]
            yield "then: what was true in a month", bool(then) and all(hit.holds(question.right) for hit in then)
        case "since":
            found = [hit for hit in true if hit.holds(question.right)]
            yield "since: with its date", any((hit.since or "")[:10] == (question.since or "")[:10] for hit in found)
        case "dated":
            found = [hit for hit in true if hit.holds(question.right)]
            yield "dated: with the day that was meant", any(question.day in hit.days for hit in found)
        case "unknown" | "off topic" as kind:
            yield f"{kind}: nothing is told", not hits


def _of_subject(question: Question, hit: Hit) -> bool:
    return any(hit.holds(value) for value in (question.right, *question.outdated))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def shares(questions: Iterable[Question], answers: Iterable[Answer]) -> dict[str, tuple[int, int]]:
    """Of each measure, for how many questions it is met, and of how many."""
    found: dict[str, list[bool]] = defaultdict(list)
    for question, answer in zip(questions, answers, strict=True):
        for name, is_met in verdicts(question, answer.hits):
            found[name].append(is_met)
    return {name: (sum(met), len(met)) for name, met in found.items()}


def leaks(told: Mapping[str, set[str]], questions: Iterable[Question], answers: Iterable[Answer]) -> int:
    """How many results hold a sentence that only others have said.

    Args:
        told: the sentences of each person.
        questions: with who asks.
        answers: to them.
    """
    everything = set().union(*told.values())
    return sum(
        any(text in hit.text for text in everything - told[question.person] if len(text) > len(hit.text) // 3)
        for question, answer in zip(questions, answers, strict=True)
        for hit in answer.hits
        if not any(text in hit.text for text in told[question.person])
    )
