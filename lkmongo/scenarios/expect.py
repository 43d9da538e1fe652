"""What must hold: of each turn, of a call as a whole, and of what is stored after all calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lkmongo.model import UserScope, slot_name
from lkmongo.scenarios.calls import Heard
from lkmongo.scenarios.scenario import After, Call, Said, WantedTool, holds
from lkmongo.store.open import Store

_A_LABEL = re.compile("[a-z_ ]+")
"""What may well be a label: a gist that asks for the city remembers none."""
_CONTEXT = 60
"""Characters shown on either side of a text that should not be there."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that did not hold: where in the file and in the conversation, what was expected, and what came."""

    line: int
    expected: str
    came: str
    caller: str
    call: int | None = None
    """From 1; None for what must hold after all calls."""
    turn: int | None = None
    """From 1, and 0 for the greeting; None for what must hold of the whole call."""
    said: str | None = None

    @property
    def where(self) -> str:
        """As in "call 2 (robin), turn 1"."""
        if self.call is None:
            return f"after all calls ({self.caller})"
        turn = "" if self.turn is None else f", turn {self.turn}" if self.turn else ", greeting"
        return f"call {self.call} ({self.caller}){turn}"


def failures_of_call(call: Call, number: int, heard: Sequence[Heard]) -> Iterator[Failure]:
    """What did not hold in a call.

    Args:
        call: the call.
        number: which one it is, from 1.
        heard: what came of the greeting, and of each thing that was said.
    """
    # A session that ended early left some of it unsaid.
    unsaid = [Heard(said.say, troubles=["the session had ended"]) for said in call.says[max(len(heard) - 1, 0) :]]
    for turn, (said, came) in enumerate(zip((None, *call.says), [*heard, *unsaid], strict=False)):
        line = said.line if said else call.line
        found = [*_troubles(came), *(_of_turn(said, came) if said else _of_greeting(call, came))]
        found += [(f'the caller is not told "{text}"', place) for text in call.never for place in _told(came, text)]
        for expected, reality in found:
            yield Failure(line, expected, reality, call.who, number, turn, came.said or None)
    known = heard[0].history if heard else []
    for text in call.restored:
        if not any(holds(each, text) for each in known):
            expected = f'the agent that takes over knows of "{text}"'
            yield Failure(call.line, expected, _listed(known, "it knows of nothing"), call.who, number)


_Found = Iterator[tuple[str, str]]
"""What was expected, and what came."""


def _troubles(came: Heard) -> _Found:
    yield from (("an answer without trouble", trouble) for trouble in came.troubles)


def _of_greeting(call: Call, came: Heard) -> _Found:
    if call.greeting and not call.greeting.fits(came.answer):
        yield f"a greeting that {call.greeting}", _quoted(came.answer)


def _of_turn(said: Said, came: Heard) -> _Found:
    if said.answer and not said.answer.fits(came.answer):
        yield f"an answer that {said.answer}", _quoted(came.answer)
    if said.tools is None:
        return
    called = _listed([f"{name}({_arguments(arguments)})" for name, arguments in came.tools], "no tool was called")
    if not said.tools and came.tools:
        yield "no tool is called", called
    left = iter(came.tools)
    for tool in said.tools:
        if not any(_is_called(tool, name, arguments) for name, arguments in left):
            yield f"the tool {tool} is called", called
            return


def _is_called(tool: WantedTool, name: str, arguments: dict[str, Any]) -> bool:
    return name == tool.name and all(
        argument in arguments and wanted.is_whole(_text(arguments[argument]))
        for argument, wanted in tool.arguments.items()
    )


def _told(came: Heard, text: str) -> Iterator[str]:
    """Where a text was told: to the caller, or to the model."""
    places = [("the answer", came.answer), *((f"what {name} returned", output) for name, output in came.outputs)]
    places += [("what the model was told", told) for told in came.told]
    seen: set[str] = set()
    for place, told in places:
        if place not in seen and holds(told, text):
            seen.add(place)
            yield f"{place}: {_excerpt(told, text)}"


async def failures_after(store: Store, after: After, killed: Sequence[str]) -> list[Failure]:
    """What does not hold for a person after all calls.

    Args:
        store: the scenario's database.
        after: what must hold.
        killed: the ids of the person's sessions that were killed.

    Raises:
        DatabaseError: it cannot be read.
    """
    remembered, gist = await _remembered(store, after.scope)
    found = [*_not_remembered(after, remembered, gist)]
    if after.restored:
        turns = [turn for name in killed for turn in await store.sessions.turns(after.scope, name)]
        contents = [turn.content or turn.output or "" for turn in turns]
        found += [
            (f'the record of the killed call holds "{text}"', _listed(contents, "it holds nothing"))
            for text in after.restored
            if not any(holds(content, text) for content in contents)
        ]
    return [Failure(after.line, expected, came, after.scope.user_id) for expected, came in found]


async def _remembered(store: Store, scope: UserScope) -> tuple[dict[str, str], str]:
    """Memories and profile fields by their names, and the gist of the last call."""
    profile = await store.users.get(scope)
    fields = profile.values if profile else {}
    memories = {memory.memory_type: memory.content for memory in await store.memories.contents(scope)}
    gist = profile.last_session.gist if profile and profile.last_session else ""
    return fields | memories, gist


def _not_remembered(after: After, remembered: dict[str, str], gist: str) -> _Found:
    everything = _listed([f"{name}: {value}" for name, value in remembered.items()], "nothing is remembered")
    for label, wanted in after.remembered.items():
        if label not in remembered:
            yield f"{label} is remembered and {wanted}", everything
        elif not wanted.fits(remembered[label]):
            yield f"{label} is remembered and {wanted}", _quoted(remembered[label])
    for text in after.not_remembered:
        name = slot_name(text)
        if name in remembered:
            yield f"{name} is not remembered", _quoted(remembered[name])
        places = [(f"in {label}", value) for label, value in remembered.items()]
        if not _A_LABEL.fullmatch(text):
            places.append(("in the gist of the last call", gist))
        yield from (
            (f'"{text}" is not remembered', f"{place}: {_excerpt(value, text)}")
            for place, value in places
            if holds(value, text)
        )


def _arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())


def _text(value: Any) -> str:
    """An argument as it stands in YAML."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    return f'"{text}"' if text else "nothing"


def _listed(values: Sequence[str], nothing: str) -> str:
    return "; ".join(values) or nothing


def _excerpt(found: str, text: str) -> str:
    """The part of `found` around `text`."""
    found = " ".join(found.split())
    at = found.casefold().find(" ".join(text.casefold().split()))
    start, end = max(at - _CONTEXT, 0), at + len(text) + _CONTEXT
    return f'"{"..." if start else ""}{found[start:end]}{"..." if end < len(found) else ""}"'
