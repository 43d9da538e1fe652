"""A scenario: who calls and says what, what staff do between calls, and what must hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lkmongo.model import UserScope
from lkmongo.scenarios.days import as_pattern

Model = Literal["demo", "configured"]
"""Who answers instead of a script: the demo responder, or the language model of the settings."""
Deed = Literal["erase", "forget", "set", "undo"]
"""What staff do between two calls."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a text must be: `text` in whole words, and the regular expressions that it must and must not match.

    Neither capitals nor line breaks count.
    """

    text: str | None = None
    matches: str | None = None
    not_matches: str | None = None

    def fits(self, found: str) -> bool:
        """Whether `found` has what is wanted somewhere."""
        found = " ".join(found.split())
        return (
            (self.text is None or holds(found, self.text))
            and (self.matches is None or _search(self.matches, found) is not None)
            and (self.not_matches is None or _search(self.not_matches, found) is None)
        )

    def is_whole(self, found: str) -> bool:
        """Whether `found` is what is wanted from beginning to end: for names, ids and numbers."""
        if self.text is not None:
            return re.fullmatch(_words(self.text), " ".join(found.casefold().split()), re.IGNORECASE) is not None
        return self.fits(found)

    def __str__(self) -> str:
        """As in "an answer that ..."."""
        parts = (("holds", self.text), ("matches", self.matches), ("does not match", self.not_matches))
        return " and ".join(f'{verb} "{value}"' for verb, value in parts if value is not None)


def holds(found: str, text: str) -> bool:
    """Whether whole words of `found` are `text`; neither capitals nor line breaks count."""
    return re.search(rf"(?<![a-z0-9]){_words(text)}(?![a-z0-9])", found.casefold(), re.IGNORECASE) is not None


def _words(text: str) -> str:
    return r"\s+".join(as_pattern(word, re.escape) for word in text.casefold().split())


def _search(pattern: str, found: str) -> re.Match[str] | None:
    return re.search(as_pattern(pattern, str), found, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Step:
    """What the scripted model does when it is asked: call a tool, or answer."""

    line: int
    tool: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class WantedTool:
    """A call of a tool that must happen."""

    line: int
    name: str
    arguments: Mapping[str, Wanted] = field(default_factory=dict)

    def __str__(self) -> str:
        named = [
            f"{name} that {wanted}" if wanted.text is None else f'{name}="{wanted.text}"'
            for name, wanted in self.arguments.items()
        ]
        return f"{self.name}({', '.join(named)})"


@dataclass(frozen=True, slots=True)
class Said:
    """What a caller says, and what must come of it."""

    line: int
    say: str
    answer: Wanted | None = None
    tools: tuple[WantedTool, ...] | None = None
    """In this order, perhaps with others between; an empty tuple: no tool is called."""
    model: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """What must be stored of a person.

    Attributes:
        line: where that is said.
        remembered: memories by their label, and profile fields.
        formerly: what was true before, by label: one of the former values.
        not_remembered: labels, and texts that must stand nowhere in what is remembered.
        summary: of the last call.
        commitments: those that are open, no others; None if it does not matter.
        nothing: there is nothing at all.
    """

    line: int
    remembered: Mapping[str, Wanted] = field(default_factory=dict)
    formerly: Mapping[str, Wanted] = field(default_factory=dict)
    not_remembered: tuple[str, ...] = ()
    summary: Wanted | None = None
    commitments: tuple[str, ...] | None = None
    nothing: bool = False


@dataclass(frozen=True, slots=True)
class Learned:
    """What a scripted model answers when it is asked what a call teaches.

    Attributes:
        summary: of the call.
        topics: of it.
        facts: each as the model's answer has it, but `quote` is the number of what the caller said, from 1.
        commitments: likewise.
        closed: texts of the open commitments that are kept.
    """

    summary: str
    topics: tuple[str, ...] = ()
    facts: tuple[Mapping[str, Any], ...] = ()
    commitments: tuple[Mapping[str, Any], ...] = ()
    closed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call: who calls, what they say, and what must hold for the whole of it."""

    line: int
    scope: UserScope
    guest: bool = False
    greeting: Wanted | None = None
    says: tuple[Said, ...] = ()
    never: tuple[str, ...] = ()
    """Texts that must neither be said nor reach the model."""
    briefed: tuple[str, ...] = ()
    """Texts that the model must be told, in its instructions or the briefing, whenever it is asked."""
    killed: bool = False
    """The process is killed after the last answer."""
    resumes: bool = False
    """Another agent takes over the caller's last call, which was killed."""
    restored: tuple[str, ...] = ()
    """What the agent that takes over must know of the conversation."""
    later: int = 0
    """Days that have passed since the call before."""
    learned: Learned | None = None
    after: Stored | None = None
    """What must be stored when the call has ended."""

    @property
    def who(self) -> str:
        return "a guest" if self.guest else self.scope.user_id


@dataclass(frozen=True, slots=True)
class Staff:
    """What staff do to what is stored of a person, between two calls."""

    line: int
    deed: Deed
    scope: UserScope
    label: str | None = None
    content: str | None = None


@dataclass(frozen=True, slots=True)
class After:
    """What must hold for a person after all calls."""

    line: int
    scope: UserScope
    stored: Stored
    restored: tuple[str, ...] = ()
    """What the records of their killed calls must hold."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file."""

    path: Path
    name: str
    steps: tuple[Call | Staff, ...]
    after: tuple[After, ...] = ()
    model: Model | None = None
    seeds: Path | None = None
    """A folder of seed data; None for the sample shop."""

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(step for step in self.steps if isinstance(step, Call))

    @property
    def is_scripted(self) -> bool:
        """Whether the scenario says what the model does."""
        return any(call.learned or any(said.model for said in call.says) for call in self.calls)
