"""What must hold: of each turn, of a call as a whole, and of what is stored after all calls."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lkmongo.model import FormerFact, UserScope, slot_name
from lkmongo.scenarios.calls import Heard
from lkmongo.scenarios.scenario import After, Call, Said, Stored, WantedTool, holds
from lkmongo.store.open import Store
from lkmongo.store.people.person import count_known, is_known
from lkmongo.summary import Commitment, PastCall

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
    """From 1, and 0 for what staff do between calls; None for what must hold after all calls."""
    turn: int | None = None
    """From 1, and 0 for the greeting; None for what must hold of the whole call."""
    said: str | None = None

    @property
    def where(self) -> str:
        """As in "call 2 (robin), turn 1"."""
        if not self.call:
            return f"{'after all' if self.call is None else 'between'} calls ({self.caller})"
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
    yield from _of_briefing(call, number, [" ".join(each.told) for each in (*heard[:1], *heard[-1:]) if each.told])
    history = heard[0].history if heard else []
    for text in call.restored:
        if not any(holds(each, text) for each in history):
            expected = f'the agent that takes over knows of "{text}"'
            yield Failure(call.line, expected, _listed(history, "it knows of nothing"), call.who, number)


def _of_briefing(call: Call, number: int, told: Sequence[str]) -> Iterator[Failure]:
    """What the model is not told, at the first request or at the last."""
    known = _listed([each[max(each.find("<caller_data>"), 0) :] for each in told], "it was not asked")
    for text in call.briefed:
        if not told or not all(holds(each, text) for each in told):
            yield Failure(call.line, f'the model is told "{text}"', known, call.who, number)


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


@dataclass(frozen=True, slots=True)
class _Known:
    """What is stored of a person: memories and profile fields by their names, and what else was kept."""

    remembered: dict[str, str]
    former: Sequence[FormerFact]
    gist: str
    calls: Sequence[PastCall]
    open: Sequence[Commitment]

    def places(self) -> Iterator[tuple[str, str]]:
        """Every text in which something may be remembered, but for what the calls were about."""
        yield from ((f"in {label}", value) for label, value in self.remembered.items())
        yield from ((f"in what {each.memory_type} was before", each.content) for each in self.former)
        yield from (("in an open commitment", each.text) for each in self.open)

    def about_calls(self) -> Iterator[tuple[str, str]]:
        """What the calls were about."""
        yield "in the gist of the last call", self.gist
        yield from (("in the summary of a call", each.summary.embedded_text) for each in self.calls)


async def failures_after(store: Store, after: After, killed: Sequence[str]) -> list[Failure]:
    """What does not hold for a person after all calls.

    Args:
        store: the scenario's database.
        after: what must hold.
        killed: the ids of the person's sessions that were killed.

    Raises:
        DatabaseError: it cannot be read.
    """
    found = [(after.line, *each) async for each in _of_stored(store, after.scope, after.stored)]
    if after.restored:
        turns = [turn for name in killed for turn in await store.sessions.turns(after.scope, name)]
        contents = [turn.content or turn.output or "" for turn in turns]
        found += [
            (after.line, f'the record of the killed call holds "{text}"', _listed(contents, "it holds nothing"))
            for text in after.restored
            if not any(holds(content, text) for content in contents)
        ]
    return [Failure(line, expected, came, after.scope.user_id) for line, expected, came in found]


async def failures_after_call(store: Store, call: Call, number: int) -> list[Failure]:
    """What does not hold when a call has ended. Raises as `failures_after` does."""
    if call.after is None:
        return []
    found = [each async for each in _of_stored(store, call.scope, call.after)]
    return [Failure(call.after.line, expected, came, call.who, number) for expected, came in found]


async def _of_stored(store: Store, scope: UserScope, wanted: Stored) -> AsyncIterator[tuple[str, str]]:
    known = await _known(store, scope)
    for found in (_remembered(wanted, known), _not_remembered(wanted, known), _agreed(wanted, known)):
        for each in found:
            yield each
    if wanted.nothing and await is_known(store.db, scope):
        counts = {name: number for name, number in (await count_known(store.db, scope)).items() if number}
        yield "nothing is stored", ", ".join(f"{number} in {name}" for name, number in counts.items())


async def _known(store: Store, scope: UserScope) -> _Known:
    profile = await store.users.get(scope)
    memories = {memory.memory_type: memory.content for memory in await store.memories.contents(scope)}
    return _Known(
        (profile.values if profile else {}) | memories,
        await store.history.former(scope),
        profile.last_session.gist if profile and profile.last_session else "",
        await store.summaries.of_person(scope),
        await store.summaries.open(scope),
    )


def _remembered(wanted: Stored, known: _Known) -> _Found:
    everything = _listed([f"{name}: {value}" for name, value in known.remembered.items()], "nothing is remembered")
    for label, each in wanted.remembered.items():
        if label not in known.remembered:
            yield f"{label} is remembered and {each}", everything
        elif not each.fits(known.remembered[label]):
            yield f"{label} is remembered and {each}", _quoted(known.remembered[label])
    for label, each in wanted.formerly.items():
        values = [former.content for former in known.former if former.memory_type == label]
        if not any(map(each.fits, values)):
            yield f"{label} was something before that {each}", _listed(values, "it was nothing before")


def _not_remembered(wanted: Stored, known: _Known) -> _Found:
    for text in wanted.not_remembered:
        name = slot_name(text)
        if name in known.remembered:
            yield f"{name} is not remembered", _quoted(known.remembered[name])
        yield from (
            (f"{name} is not remembered", f"it was {_quoted(former.content)} before")
            for former in known.former
            if former.memory_type == name
        )
        places = [*known.places(), *(known.about_calls() if not _A_LABEL.fullmatch(text) else ())]
        yield from (
            (f'"{text}" is not remembered', f"{place}: {_excerpt(value, text)}")
            for place, value in places
            if holds(value, text)
        )


def _agreed(wanted: Stored, known: _Known) -> _Found:
    if wanted.summary:
        last = known.calls[0].summary.text if known.calls else ""
        if not wanted.summary.fits(last):
            yield f"a summary of the last call that {wanted.summary}", _quoted(last)
    if wanted.commitments is None:
        return
    texts = [each.text for each in known.open]
    missing = [text for text in wanted.commitments if not any(holds(each, text) for each in texts)]
    yield from ((f'"{text}" is still to be done', _listed(texts, "nothing is to be done")) for text in missing)
    others = [each for each in texts if not any(holds(each, text) for text in wanted.commitments)]
    yield from (("nothing else is still to be done", _quoted(text)) for text in others)


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
