"""A scenario: who calls and says what, and what must hold; read from YAML, every problem with its file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationInfo
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lkmongo.errors import InvalidTextError, UsageError
from lkmongo.model import DEFAULT_TENANT, MAX_CONTENT, UserScope, clean_text, slot_name
from lkmongo.store.seed.yaml_file import Id, YamlFile, line_of_text, shown
from lkmongo.store.seed.yaml_file import field as scalar

T = TypeVar("T")
Model = Literal["demo", "configured"]
"""Who answers instead of a script: the demo responder, or the language model of the settings."""
_LISTED = 20
"""Problems that an error lists besides the first."""


class ScenarioError(UsageError):
    """A scenario does not fit its schema."""

    code = "bad_scenario"


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
            and (self.matches is None or re.search(self.matches, found, re.IGNORECASE) is not None)
            and (self.not_matches is None or re.search(self.not_matches, found, re.IGNORECASE) is None)
        )

    def is_whole(self, found: str) -> bool:
        """Whether `found` is what is wanted from beginning to end: for names, ids and numbers."""
        if self.text is not None:
            return found.casefold().split() == self.text.casefold().split()
        return self.fits(found)

    def __str__(self) -> str:
        """As in "an answer that ..."."""
        parts = (("holds", self.text), ("matches", self.matches), ("does not match", self.not_matches))
        return " and ".join(f'{verb} "{value}"' for verb, value in parts if value is not None)


def holds(found: str, text: str) -> bool:
    """Whether whole words of `found` are `text`; neither capitals nor line breaks count."""
    words = r"\s+".join(map(re.escape, text.casefold().split()))
    return re.search(rf"(?<![a-z0-9]){words}(?![a-z0-9])", found.casefold()) is not None


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
class Call:
    """A call: who calls, what they say, and what must hold for the whole of it."""

    line: int
    scope: UserScope
    guest: bool = False
    greeting: Wanted | None = None
    says: tuple[Said, ...] = ()
    never: tuple[str, ...] = ()
    """Texts that must neither be said nor reach the model."""
    killed: bool = False
    """The process is killed after the last answer."""
    resumes: bool = False
    """Another agent takes over the caller's last call, which was killed."""
    restored: tuple[str, ...] = ()
    """What the agent that takes over must know of the conversation."""

    @property
    def who(self) -> str:
        return "a guest" if self.guest else self.scope.user_id


@dataclass(frozen=True, slots=True)
class After:
    """What must hold for a person after all calls."""

    line: int
    scope: UserScope
    remembered: Mapping[str, Wanted] = field(default_factory=dict)
    """Memories by their label, and profile fields."""
    not_remembered: tuple[str, ...] = ()
    """Labels, and texts that must stand nowhere in what is remembered."""
    restored: tuple[str, ...] = ()
    """What the records of their killed calls must hold."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file."""

    path: Path
    name: str
    calls: tuple[Call, ...]
    after: tuple[After, ...] = ()
    model: Model | None = None
    seeds: Path | None = None
    """A folder of seed data; None for the sample shop."""

    @property
    def is_scripted(self) -> bool:
        """Whether the scenario says what the model does."""
        return any(said.model for call in self.calls for said in call.says)


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
        return After(_line(node), scope, **values)


def _contradictions(scenario: Scenario) -> list[tuple[int, str]]:
    """What does not fit together, each with its line."""
    found: list[tuple[int, str]] = []
    waiting: set[UserScope] = set()
    for call in scenario.calls:
        if call.resumes and call.scope not in waiting:
            found.append((call.line, f"there is no call of {call.who} that was killed before, which this could resume"))
        elif call.restored and not call.resumes:
            found.append((call.line, "restored is for a call with resumes: true, and for after"))
        waiting.discard(call.scope)
        if call.killed:
            waiting.add(call.scope)
        if scenario.model:
            lines = [said.model[0].line for said in call.says if said.model]
            found += [(line, f"the model is {scenario.model}, so it cannot be scripted") for line in lines]
    callers = {call.scope for call in scenario.calls if not call.guest}
    killed = {call.scope for call in scenario.calls if call.killed}
    for after in scenario.after:
        if after.scope not in callers:
            names = ", ".join(sorted({scope.user_id for scope in callers})) or "nobody but guests"
            found.append((after.line, f"{after.scope.user_id} does not call; callers are {names}"))
        elif after.restored and after.scope not in killed:
            found.append((after.line, f"no call of {after.scope.user_id} is killed, so none can be restored"))
    return found


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


def _bool(node: Node, _info: ValidationInfo) -> bool:
    if not isinstance(node, ScalarNode) or node.tag != "tag:yaml.org,2002:bool":
        raise ValueError(f" must be true or false, not {shown(node)}")
    return bool(yaml.constructor.SafeConstructor.bool_values[node.value.lower()])


def _model(node: Node, _name: str) -> str:
    text = line_of_text(node, MAX_CONTENT)
    if text not in get_args(Model):
        raise ValueError(f"must be {' or '.join(get_args(Model))}, not {shown(node)}")
    return text


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
    killed: Flag = False
    resumes: Flag = False
    restored: Texts = ()


class _After(BaseModel):
    caller: Id
    tenant: Id = DEFAULT_TENANT
    remembered: ByLabel = {}
    not_remembered: Annotated[Any, _each(_ScenarioFile.label, "labels and texts")] = ()
    restored: Texts = ()


class _Scenario(BaseModel):
    name: Line = ""
    model: Annotated[Any, scalar(_model)] = None
    seeds: Annotated[Any, scalar(lambda node, _name: line_of_text(node, MAX_CONTENT))] = None
    calls: Annotated[Any, _each(_ScenarioFile.call, "calls")]
    after: Annotated[Any, _each(_ScenarioFile.after, "people")] = ()
