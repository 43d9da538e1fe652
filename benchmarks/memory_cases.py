"""What is told to a memory and asked of it afterwards: people, five calls of each, and questions, made from a seed.

The words are in `memory_data`: 36 subjects with six values each, all of them different, so that a value says which
sentence an answer rests on. Of each person some subjects are told once, some change in a later call, some are corrected
as though nothing had been said before (half of them under another label, as a model might choose it), some are told of
somebody else only, and some never; and some things are to happen on a day that is said as "in two weeks". Nothing here
depends on the system that is measured.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import yaml

DATA = Path(__file__).with_name("memory_data")
SEED = 20240108
FIRST_CALL = datetime(2024, 1, 8, 9, 30, tzinfo=UTC)
CALLS = 5
_BETWEEN_CALLS = timedelta(days=31)
_WHO = ("sister", "brother", "neighbour", "colleague", "cousin", "boss", "aunt", "uncle", "tenant", "trainer",
        "godson", "niece", "nephew", "landlord", "hairdresser", "secretary", "lawyer", "gardener")  # fmt: skip
OTHERS, REMARK = "about_others", "remark"
"""What a system with a closed list of labels files under: what is told of others, and what is said in passing."""

Kind = Literal["fact", "changed", "corrected", "before", "then", "since", "dated", "unknown", "off topic", "crowded"]


@dataclass(frozen=True, slots=True)
class Told:
    """Something that a person says in a call, and the labels under which it may be kept."""

    person: str
    call: int
    at: str
    label: str
    closed: str
    """The label in a system that has a closed list of them."""
    multi: bool
    """Whether that list holds several values under it."""
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question on what a person told, and what is evidence for its answer.

    Attributes:
        person: who asks.
        kind: what it is meant to show.
        text: the question.
        label: of the subject that it is on; empty where nothing was told of it.
        right: the value that answers it; empty if nothing does.
        outdated: values of the same subject that are true no more; of a question on the past, those of other times.
        month: of a question on a month, its first moment.
        since: of a question on a date, since when the value is true.
        day: of a question on a day that was said relative to another one, the day that was meant.
    """

    person: str
    kind: Kind
    text: str
    label: str = ""
    right: str = ""
    outdated: tuple[str, ...] = ()
    month: str | None = None
    since: str | None = None
    day: str | None = None


@dataclass(frozen=True, slots=True)
class Cases:
    """All of it; `sha256` changes when anything of it does."""

    seed: int
    told: tuple[Told, ...]
    questions: tuple[Question, ...]

    @property
    def people(self) -> list[str]:
        return list(dict.fromkeys(each.person for each in self.told))

    @property
    def sha256(self) -> str:
        whole = [[asdict(each) for each in part] for part in (self.told, self.questions)]
        return sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def make(seed: int = SEED, *, people: int = 8, crowd: int = 600) -> Cases:
    """Make people and questions.

    Args:
        seed: the same seed makes the same.
        people: how many; each is told some forty sentences.
        crowd: how many memories one more person has, on whom the time of a search is taken; 0 is nobody.
    """
    topics, asides = _yaml("topics.yaml"), _yaml("asides.yaml") | _yaml("dated.yaml")
    told: list[Told] = []
    questions: list[Question] = []
    for number in range(people):
        person = _Person(f"person-{number + 1:02}", topics, asides, random.Random(f"{seed} {number}"))
        told += sorted(person.told(), key=lambda each: each.call)
        questions += person.questions()
    if crowd:
        more = _Person("crowded", topics, asides, random.Random(f"{seed} crowd"))
        told += more.crowd(crowd)
        questions += more.of_the_crowd()
    return Cases(seed, tuple(told), tuple(questions))


class _Person:
    """One person: which subject has which fate, and when."""

    def __init__(self, name: str, topics: Sequence[Mapping[str, Any]], asides: Any, dice: random.Random) -> None:
        self._name = name
        self._dice = dice
        self._asides = asides
        self._all = topics
        self._values = {topic["label"]: dice.sample(topic["values"], len(topic["values"])) for topic in topics}
        can_change = dice.sample([topic for topic in topics if "before" in topic], 16)
        self._changed, self._corrected, unsaid = can_change[:6], can_change[6:10], can_change[10:]
        rest = dice.sample([topic for topic in topics if topic not in can_change], len(topics) - 16)
        self._stable, self._unknown = rest[:12], [*rest[12:16], *unsaid[:2]]
        self._first = {topic["label"]: dice.randrange(3) for topic in topics}
        self._dated = dice.sample(asides["things"], 4)
        self._days = dice.sample(sorted(asides["days"].items()), 4)
        self._second = {label: dice.randrange(call + 1, CALLS) for label, call in self._first.items()}

    def told(self) -> Iterator[Told]:
        """What they say in their calls, in any order."""
        for topic in (*self._stable, *self._changed, *self._corrected):
            yield self._say(topic, "told", 0, self._first[topic["label"]])
        for topic in self._changed:
            yield self._say(topic, "changed", 1, self._second[topic["label"]])
        for number, topic in enumerate(self._corrected):
            label = topic["label"] if number % 2 else topic["also"]
            yield self._say(topic, "corrected", 1, self._second[topic["label"]], label)
        # Half of what is told of others is on subjects of which the caller tells, too.
        both = (self._unknown, (*self._stable, *self._changed))
        others = [topic for part in both for topic in self._dice.sample([t for t in part if "other" in t], 4)]
        for topic, who in zip(others, self._dice.sample(_WHO, 8), strict=False):
            yield self._of_another(topic, who, self._values[topic["label"]][2])
        for thing, (words, _) in zip(self._dated, self._days, strict=True):
            label, text = thing["label"], thing["told"].format(words)
            yield Told(self._name, CALLS - 1, _at(CALLS - 1), label, label, False, text)
        for text in self._dice.sample(self._asides["small_talk"], 8):
            call = self._dice.randrange(CALLS)
            label = "_".join(text.lower().rstrip(".").replace(",", "").split()[:4])
            yield Told(self._name, call, _at(call), label, REMARK, True, text)

    def crowd(self, count: int) -> list[Told]:
        """Everything of themselves, and as much of others as is wanted."""
        own = [self._say(topic, "told", 0, self._first[topic["label"]]) for topic in self._all]
        pairs = [(topic, who) for topic in self._all if "other" in topic for who in _WHO]
        others = [
            self._of_another(topic, who, self._dice.choice(self._values[topic["label"]][1:]))
            for topic, who in self._dice.sample(pairs, min(count - len(own), len(pairs)))
        ]
        return sorted((*own, *others), key=lambda each: each.call)

    def _say(self, topic: Mapping[str, Any], how: str, value: int, call: int, label: str | None = None) -> Told:
        text = topic[how].format(self._values[topic["label"]][value])
        return Told(self._name, call, _at(call), label or topic["label"], topic["label"], False, text)

    def _of_another(self, topic: Mapping[str, Any], who: str, value: str) -> Told:
        call = self._dice.randrange(CALLS)
        text = topic["other"].format(value, who=who)
        return Told(self._name, call, _at(call), f"{who}_{topic['label']}", OTHERS, True, text)

    def questions(self) -> Iterator[Question]:
        """What they ask after the last call."""
        for topic in self._stable:
            for text in self._dice.sample(topic["asked"], 2):
                yield self._ask(topic, "fact", text)
        for kind, topics in (("changed", self._changed), ("corrected", self._corrected)):
            for topic in topics:
                for text in self._dice.sample(topic["asked"], 2):
                    yield self._ask(topic, kind, text, 1)
        for topic in self._changed:
            label, at = topic["label"], _at(self._second[topic["label"]])
            # Between the two: the middle of the time in which the first value was true.
            month = _month(self._first[label], self._second[label])
            yield self._ask(topic, "before", topic["before"])
            yield self._ask(topic, "then", topic["then"].format(month=f"{month:%B %Y}"), month=month.isoformat())
            yield self._ask(topic, "since", topic["since"], 1, since=at)
        for thing, (_, days) in zip(self._dated, self._days, strict=True):
            day = (datetime.fromisoformat(_at(CALLS - 1)) + timedelta(days=days)).date().isoformat()
            yield Question(self._name, "dated", thing["asked"], thing["label"], thing["right"], day=day)
        for topic in self._unknown:
            yield Question(self._name, "unknown", self._dice.choice(topic["asked"]))
        for text in self._dice.sample(self._asides["off_topic"], 4):
            yield Question(self._name, "off topic", text)

    def of_the_crowd(self) -> Iterator[Question]:
        """Questions of the person with very many memories, each on their own."""
        for topic in self._all:
            for text in topic["asked"][:2]:
                yield self._ask(topic, "crowded", text)

    def _ask(self, topic: Mapping[str, Any], kind: Any, text: str, value: int = 0, **more: Any) -> Question:
        values = self._values[topic["label"]]
        outdated = (values[1 - value],) if topic in (*self._changed, *self._corrected) and kind != "crowded" else ()
        return Question(self._name, kind, text, topic["label"], values[value], outdated, **more)


def _at(call: int) -> str:
    return (FIRST_CALL + call * _BETWEEN_CALLS).isoformat()


def _month(first: int, second: int) -> datetime:
    """The first moment of a month in which the first of two values was true for at least a day of it."""
    at = FIRST_CALL + ((first + second) // 2) * _BETWEEN_CALLS
    return at.replace(day=1, hour=0, minute=0)


def _yaml(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
