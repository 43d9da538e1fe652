"""Reads scenarios from YAML, every problem with its file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationInfo
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lkmongo.errors import InvalidTextError, UsageError
from lkmongo.model import DEFAULT_TENANT, MAX_CONTENT, UserScope, clean_text, slot_name
from lkmongo.scenarios.scenario import (
    After,
    Call,
    Deed,
    Learned,
    Model,
    Said,
    Scenario,
    Staff,
    Step,
    Stored,
    Wanted,
    WantedTool,
)
from lkmongo.store.seed.yaml_file import Id, YamlFile, line_of_text, shown
from lkmongo.store.seed.yaml_file import field as scalar

T = TypeVar("T")
_LISTED = 20
"""Problems that an error lists besides the first."""
_LONGEST = 3_650
"""Days that may pass before a call."""


class ScenarioError(UsageError):
    """A scenario does not fit its schema."""

    code = "bad_scenario"


def load_scenarios(paths: list[Path]) -> list[Scenario]:
    """Read scenarios.

    Raises:
        ScenarioError: a file cannot be read or violates the schema. The message is the first problem
            (`colour.yaml:12: ...`); `why` has those of all files, one per line.
    """
    problems: list[str] = []
    scenarios = [scenario for path in paths if (scenario := _ScenarioFile(path, problems).scenario())]
    if problems:
        first, *others = problems
        if len(others) > _LISTED:
            others = [*others[:_LISTED], f"and {len(others) - _LISTED} more"]
        hint = "correct it and run this again; no scenario was run"
        raise ScenarioError(first, why="\n".join(others) or None, hint=hint)
    return scenarios


class _ScenarioFile(YamlFile):
    """A file with one scenario."""

    def scenario(self) -> Scenario | None:
        """The scenario; None, and problems are added, if the file is wrong."""
        root = self._compose()
        if root is None:
            return None
        values = self.record(root, "scenario", _Scenario)
        if values and not self._found:
            values["name"] = values["name"] or self._path.stem
            values["steps"] = values.pop("calls")
            scenario = Scenario(self._path, **values)
            if scenario.seeds:
                scenario = replace(scenario, seeds=self._path.parent / scenario.seeds)
            for line, text in _contradictions(scenario):
                self._find(line - 1, text)
            if not self._found:
                return scenario
        for _, at, text in sorted(self._found, key=lambda found: found[1:]):
            self._say(at, text)
        return None

    def text(self, node: Node, path: str) -> str | None:
        """One text of a list; None, and a problem is added, if it is none."""
        try:
            return line_of_text(node, MAX_CONTENT)
        except ValueError as error:
            self._find(node.start_mark.line, f"{path} {error}")
            return None

    def label(self, node: Node, path: str) -> str | None:
        """A memory's label or a text, which must name something."""
        text = self.text(node, path)
        try:
            return text and slot_name(text) and text
        except InvalidTextError as error:
            self._find(node.start_mark.line, f"{path}: {error.message}")
            return None

    def step(self, node: Node, path: str) -> Step | None:
        if isinstance(node, ScalarNode):
            text = self.text(node, path)
            return Step(_line(node), answer=text) if text else None
        values = self.record(node, path, _Step)
        if values and (values["tool"] is None) == (values["answer"] is None):
            self._find(node.start_mark.line, f"{path} must have either a tool or an answer")
        elif values and values["arguments"] and values["tool"] is None:
            self._find(node.start_mark.line, f"{path} has arguments and no tool")
        return Step(_line(node), **values) if values else None

    def learned_item(self, node: Node, path: str) -> dict[str, Any] | None:
        """A fact or a commitment as a model's answer has it, with the number of what it rests on."""
        try:
            values = _json(node)
        except ValueError as error:
            self._find(node.start_mark.line, f"{path}{error}")
            return None
        if type(values.get("quote")) is not int:
            self._find(node.start_mark.line, f"{path} must have a quote, the number of what the caller said, from 1")
        return values

    def tool(self, node: Node, path: str) -> WantedTool | None:
        return self._short_or_long(node, path, _Tool, WantedTool)

    def said(self, node: Node, path: str) -> Said | None:
        return self._short_or_long(node, path, _Said, Said)

    def _short_or_long(self, node: Node, path: str, model: type[BaseModel], make: Callable[..., T]) -> T | None:
        """What is written as a text alone, or with its fields."""
        if isinstance(node, ScalarNode):
            text = self.text(node, path)
            return make(_line(node), text) if text else None
        values = self.record(node, path, model)
        return make(_line(node), **values) if values else None

    def call_or_staff(self, node: Node, path: str) -> Call | Staff | None:
        """A call, or what staff do."""
        if isinstance(node, MappingNode) and any(key.value == "staff" for key, _ in node.value):
            return self.staff(node, path)
        return self.call(node, path)

    def staff(self, node: Node, path: str) -> Staff | None:
        values = self.record(node, path, _Staff)
        if not values:
            return None
        scope, deed = UserScope(tenant_id=values["tenant"], user_id=values["caller"]), values["staff"]
        for name, wanted in (("label", deed != "erase"), ("content", deed == "set")):
            if wanted is not (values[name] is not None):
                self._find(node.start_mark.line, f"{path} must have {'a' if wanted else 'no'} {name} to {deed}")
                return None
        return Staff(_line(node), deed, scope, values["label"], values["content"])

    def call(self, node: Node, path: str) -> Call | None:
        values = self.record(node, path, _Call)
        if not values:
            return None
        caller, tenant, guest = values.pop("caller"), values.pop("tenant"), values["guest"]
        if (caller is None) is not guest:
            self._find(node.start_mark.line, f"{path} must have either a caller or guest: true")
            return None
        scope = UserScope.guest(tenant) if guest else UserScope(tenant_id=tenant, user_id=caller)
        return Call(_line(node), scope, **values)

    def after(self, node: Node, path: str) -> After | None:
        values = self.record(node, path, _After)
        if not values:
            return None
        scope = UserScope(tenant_id=values.pop("tenant"), user_id=values.pop("caller"))
        restored = values.pop("restored")
        return After(_line(node), scope, Stored(_line(node), **values), restored)


def _contradictions(scenario: Scenario) -> list[tuple[int, str]]:
    """What does not fit together, each with its line."""
    return [*_of_calls(scenario), *_of_scripts(scenario), *_of_people(scenario)]


_Contradictions = Iterator[tuple[int, str]]


def _of_calls(scenario: Scenario) -> _Contradictions:
    waiting: set[UserScope] = set()
    for call in scenario.calls:
        if call.resumes and call.scope not in waiting:
            yield call.line, f"there is no call of {call.who} that was killed before, which this could resume"
        elif call.restored and not call.resumes:
            yield call.line, "restored is for a call with resumes: true, and for after"
        waiting.discard(call.scope)
        if call.killed:
            waiting.add(call.scope)


def _of_scripts(scenario: Scenario) -> _Contradictions:
    """What the model is to do, and learn."""
    for call in scenario.calls:
        if scenario.model:
            lines = [said.model[0].line for said in call.says if said.model]
            yield from ((line, f"the model is {scenario.model}, so it cannot be scripted") for line in lines)
        if not call.learned:
            continue
        if scenario.model:
            yield call.line, f"the model is {scenario.model}, so what it learns cannot be scripted"
        if call.guest or call.killed:
            yield call.line, f"nothing is learned from a call of {'a guest' if call.guest else 'a killed process'}"
        quoted = [each["quote"] for each in (*call.learned.facts, *call.learned.commitments)]
        if any(not 0 < number <= len(call.says) for number in quoted):
            yield call.line, f"what is learned must quote something the caller says, 1 to {len(call.says)}"


def _of_people(scenario: Scenario) -> _Contradictions:
    callers: set[UserScope] = set()
    for step in scenario.steps:
        if isinstance(step, Call):
            callers |= set() if step.guest else {step.scope}
        elif step.scope not in callers:
            yield step.line, f"{step.scope.user_id} has not called before, so there is nothing to {step.deed}"
    killed = {call.scope for call in scenario.calls if call.killed}
    for after in scenario.after:
        if after.scope not in callers:
            names = ", ".join(sorted({scope.user_id for scope in callers})) or "nobody but guests"
            yield after.line, f"{after.scope.user_id} does not call; callers are {names}"
        elif after.restored and after.scope not in killed:
            yield after.line, f"no call of {after.scope.user_id} is killed, so none can be restored"


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _context(info: ValidationInfo) -> tuple[_ScenarioFile, str]:
    file, path = info.context or (None, "")
    if not isinstance(file, _ScenarioFile):
        raise TypeError(file)
    return file, f"{path}.{info.field_name}"


def _each(read: Callable[[_ScenarioFile, Node, str], Any], what: str, *, least: int = 1) -> BeforeValidator:
    """A validator of a list, by a method that reads one item."""

    def validate(node: Node, info: ValidationInfo) -> tuple[Any, ...]:
        file, path = _context(info)
        if not isinstance(node, SequenceNode) or len(node.value) < least:
            raise ValueError(f" must be a list of {what}, not {shown(node)}")
        items = [read(file, item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        return tuple(item for item in items if item is not None)

    return BeforeValidator(validate)


def _read_stored(node: Node, info: ValidationInfo) -> Stored | None:
    file, path = _context(info)
    values = file.record(node, path, _Stored)
    return Stored(_line(node), **values) if values else None


def _read_learned(node: Node, info: ValidationInfo) -> Learned | None:
    file, path = _context(info)
    values = file.record(node, path, _Learned)
    return Learned(**values) if values else None


def _read_wanted(node: Node, info: ValidationInfo) -> Wanted:
    file, path = _context(info)
    return _wanted(file, node, path)


def _wanted(file: _ScenarioFile, node: Node, path: str) -> Wanted:
    if isinstance(node, MappingNode):
        values = file.record(node, path, _Wanted)
        if values and set(values.values()) == {None}:
            raise ValueError(" must say what it matches or what it does not match")
        return Wanted(**values)
    if isinstance(node, SequenceNode):
        raise ValueError(f" must be a text, or matches and not_matches, not {shown(node)}")  # noqa: TRY004
    return Wanted(file.text(node, path))


def _read_wanted_by_name(node: Node, info: ValidationInfo) -> dict[str, Wanted]:
    file, path = _context(info)
    if not isinstance(node, MappingNode) or not node.value:
        raise ValueError(f" must be names, each with what is wanted, not {shown(node)}")
    return {key.value: _wanted(file, value, f"{path}.{key.value}") for key, value in _named(node)}


def _named(node: MappingNode) -> list[tuple[ScalarNode, Node]]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise ValueError(f" must have names, not {shown(key)}")  # noqa: TRY004
        if key.value in seen:
            raise ValueError(f" has {key.value} twice")
        seen.add(key.value)
    return list(node.value)


def _read_labels(node: Node, info: ValidationInfo) -> dict[str, Wanted]:
    wanted = _read_wanted_by_name(node, info)
    try:
        return {slot_name(label): each for label, each in wanted.items()}
    except InvalidTextError as error:
        raise ValueError(clean_text(f": {error.message}")) from error


def _read_json(node: Node, _info: ValidationInfo) -> dict[str, Any]:
    """The arguments of a scripted tool call."""
    return _json(node)


def _json(node: Node) -> dict[str, Any]:
    if not isinstance(node, MappingNode):
        raise ValueError(f" must be names, each with a value, not {shown(node)}")  # noqa: TRY004
    try:
        value = yaml.constructor.SafeConstructor().construct_document(node)
        json.dumps(value, allow_nan=False)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            " must be texts, numbers, true or false, and lists and mappings of them; put others in quotes"
        ) from error
    return dict(value)


def _regex(node: Node, _name: str) -> str:
    pattern = line_of_text(node, MAX_CONTENT)
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return pattern


def _days(node: Node, _info: ValidationInfo) -> int:
    if not isinstance(node, ScalarNode) or not re.fullmatch(r"\d{1,4}", node.value) or int(node.value) > _LONGEST:
        raise ValueError(f" must be a number of days up to {_LONGEST}, not {shown(node)}")
    return int(node.value)


def _bool(node: Node, _info: ValidationInfo) -> bool:
    if not isinstance(node, ScalarNode) or node.tag != "tag:yaml.org,2002:bool":
        raise ValueError(f" must be true or false, not {shown(node)}")
    return bool(yaml.constructor.SafeConstructor.bool_values[node.value.lower()])


def _one_of(choices: tuple[str, ...]) -> BeforeValidator:
    def read(node: Node, _name: str) -> str:
        text = line_of_text(node, MAX_CONTENT)
        if text not in choices:
            raise ValueError(f"must be {' or '.join(choices)}, not {shown(node)}")
        return text

    return scalar(read)


Line = Annotated[str, scalar(lambda node, _name: line_of_text(node, MAX_CONTENT))]
Flag = Annotated[Any, BeforeValidator(_bool)]
OneWanted = Annotated[Any, BeforeValidator(_read_wanted)]
ByName = Annotated[Any, BeforeValidator(_read_wanted_by_name)]
ByLabel = Annotated[Any, BeforeValidator(_read_labels)]
Regex = Annotated[str, scalar(_regex)]
Texts = Annotated[Any, _each(_ScenarioFile.text, "texts")]


class _Wanted(BaseModel):
    matches: Regex | None = None
    not_matches: Regex | None = None


class _Step(BaseModel):
    tool: Line | None = None
    arguments: Annotated[Any, BeforeValidator(_read_json)] = {}
    answer: Line | None = None


class _Tool(BaseModel):
    name: Line
    arguments: ByName = {}


class _Said(BaseModel):
    say: Line
    answer: OneWanted = None
    tools: Annotated[Any, _each(_ScenarioFile.tool, "tools", least=0)] = None
    model: Annotated[Any, _each(_ScenarioFile.step, "what the model does: tools and answers")] = ()


class _Call(BaseModel):
    caller: Id | None = None
    tenant: Id = DEFAULT_TENANT
    guest: Flag = False
    greeting: OneWanted = None
    says: Annotated[Any, _each(_ScenarioFile.said, "what is said")]
    never: Texts = ()
    briefed: Texts = ()
    killed: Flag = False
    resumes: Flag = False
    restored: Texts = ()
    later: Annotated[Any, BeforeValidator(_days)] = 0
    learned: Annotated[Any, BeforeValidator(_read_learned)] = None
    after: Annotated[Any, BeforeValidator(_read_stored)] = None


class _Staff(BaseModel):
    staff: Annotated[Any, _one_of(get_args(Deed))]
    caller: Id
    tenant: Id = DEFAULT_TENANT
    label: Line | None = None
    content: Line | None = None


class _Learned(BaseModel):
    summary: Line
    topics: Texts = ()
    facts: Annotated[Any, _each(_ScenarioFile.learned_item, "facts")] = ()
    commitments: Annotated[Any, _each(_ScenarioFile.learned_item, "commitments")] = ()
    closed: Texts = ()


class _Stored(BaseModel):
    remembered: ByLabel = {}
    formerly: ByLabel = {}
    not_remembered: Annotated[Any, _each(_ScenarioFile.label, "labels and texts")] = ()
    summary: OneWanted = None
    commitments: Annotated[Any, _each(_ScenarioFile.text, "texts", least=0)] = None
    nothing: Flag = False


class _After(_Stored):
    caller: Id
    tenant: Id = DEFAULT_TENANT
    restored: Texts = ()


class _Scenario(BaseModel):
    name: Line = ""
    model: Annotated[Any, _one_of(get_args(Model))] = None
    seeds: Annotated[Any, scalar(lambda node, _name: line_of_text(node, MAX_CONTENT))] = None
    calls: Annotated[Any, _each(_ScenarioFile.call_or_staff, "calls")]
    after: Annotated[Any, _each(_ScenarioFile.after, "people")] = ()
