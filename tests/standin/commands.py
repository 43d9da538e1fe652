"""A command as the stand-in sees it, and what is kept of it for assertions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.standin.wire import Message

STAGES = (
    "$listSearchIndexes",
    "$search",
    "$searchMeta",
    "$vectorSearch",
    "$rankFusion",
    "$scoreFusion",
    "$score",
    "$rerank",
)
"""Stages that the stand-in owns, wherever they stand in a pipeline."""

_MARKS = tuple(
    stage.encode()
    for stage in ("$listSearchIndexes", "$search", "$vectorSearch", "$rankFusion", "$score", "$rerank", "$meta")
)
_HELLO = {"hello", "ismaster", "isMaster"}


def stages_of(pipeline: Any) -> list[str]:
    """Names of all stages of a pipeline, those of nested pipelines included."""
    names: list[str] = []
    for stage in pipeline if isinstance(pipeline, list) else []:
        if isinstance(stage, dict):
            for name, spec in stage.items():
                names.append(name)
                for nested in _nested(name, spec):
                    names += stages_of(nested)
    return names


def _nested(name: str, spec: Any) -> list[Any]:
    if not isinstance(spec, dict):
        return []
    if name in ("$unionWith", "$lookup"):
        return [spec.get("pipeline")]
    if name == "$facet":
        return list(spec.values())
    if name in ("$rankFusion", "$scoreFusion"):
        pipelines = spec.get("input", {}).get("pipelines", {}) if isinstance(spec.get("input"), dict) else {}
        return list(pipelines.values()) if isinstance(pipelines, dict) else []
    return []


class Command:
    """One command on its way through; its document is decoded only when somebody asks."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.name = "hello" if message.command in _HELLO else message.command

    @cached_property
    def body(self) -> dict[str, Any]:
        return self.message.body

    @property
    def database(self) -> str:
        return str(self.body.get("$db", "admin"))

    @property
    def collection(self) -> str | None:
        value = self.body.get(self.message.command)
        return value if isinstance(value, str) else None

    @property
    def pipeline(self) -> list[Any]:
        found = self.body.get("pipeline")
        return found if isinstance(found, list) else []

    @cached_property
    def stages(self) -> list[str]:
        """Stage names of an aggregate; empty for every other command."""
        return stages_of(self.pipeline) if self.name == "aggregate" else []

    @property
    def in_transaction(self) -> bool:
        return self.body.get("autocommit") is False

    @property
    def mentions_search(self) -> bool:
        """Whether the bytes could hold a search stage; cheap, to spare decoding what has none."""
        return any(mark in self.message.raw for mark in _MARKS)


@dataclass
class Recorded:
    """What a client asked for: one command that the stand-in owns.

    Attributes:
        code: the error code it was answered with, None for success, 0 for a connection that was cut.
    """

    name: str
    database: str
    collection: str | None
    body: dict[str, Any]
    stages: list[str] = field(default_factory=list)
    code: int | None = None

    @property
    def pipeline(self) -> list[Any]:
        return list(self.body.get("pipeline", []))

    @property
    def max_time_ms(self) -> int | None:
        return self.body.get("maxTimeMS")

    @property
    def read_concern(self) -> dict[str, Any] | None:
        return self.body.get("readConcern")

    @property
    def read_preference(self) -> dict[str, Any] | None:
        return self.body.get("$readPreference")

    @property
    def comment(self) -> Any:
        return self.body.get("comment")

    @property
    def in_transaction(self) -> bool:
        return self.body.get("autocommit") is False
