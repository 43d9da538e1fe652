"""From search results to an ordinary pipeline: the ids are looked up in the collection as it is NOW.

That gives the semantics of the service: documents are current, whether they were found is as old as the index, and
those deleted since are missing. A hidden field carries the score; `$meta` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.standin.errors import CommandError, unsupported

HIDDEN = "__lk"

_KEEPS = {"$match", "$sort", "$limit", "$skip", "$set", "$addFields", "$unset", "$sample", "$lookup", "$unionWith"}
_LOSES = {"$group", "$replaceRoot", "$replaceWith", "$unwind", "$count", "$sortByCount", "$facet"}
_LAST = {"$out", "$merge"}
_META_EVERYWHERE = {"randVal", "indexKey", "recordId", "sortKey", "textScore"}


@dataclass
class Result:
    """What a leading search stage found, best first, and what `$meta` may ask of it.

    Attributes:
        meta: the kinds of metadata that the stage provides -> the expression that holds each.
        refused: kinds that this server does not know at all.
        by_score: order by score and then by `_id`, as rank fusion does, instead of by position.
        shown_as: a plain field that the score is written to, over whatever the document holds there.
    """

    ids: list[Any]
    scores: list[float]
    meta: dict[str, str]
    details: list[Any] = field(default_factory=list)
    refused: frozenset[str] = frozenset()
    by_score: bool = False
    shown_as: str | None = None

    def stages(self) -> list[dict[str, Any]]:
        """The stages that stand for the search stage."""
        position = {"$indexOfArray": [{"$literal": self.ids}, "$_id"]}
        at = f"${HIDDEN}.i"
        values: dict[str, Any] = {f"{HIDDEN}.s": {"$arrayElemAt": [{"$literal": self.scores}, at]}}
        if self.details:
            values[f"{HIDDEN}.d"] = {"$arrayElemAt": [{"$literal": self.details}, at]}
        order = {f"{HIDDEN}.s": -1, "_id": 1} if self.by_score else {f"{HIDDEN}.i": 1}
        stages: list[dict[str, Any]] = [
            {"$match": {"_id": {"$in": self.ids}}},
            {"$set": {HIDDEN: {"i": position}}},
            {"$set": values},
            {"$sort": order},
        ]
        if self.shown_as:
            stages.append({"$set": {self.shown_as: f"${HIDDEN}.s"}})
        return stages


def rewrite(result: Result, rest: list[Any]) -> list[dict[str, Any]]:
    """The pipeline that the server runs instead.

    Args:
        result: of the leading search stage.
        rest: the stages behind it; nested pipelines in them are rewritten already.

    Raises:
        CommandError: `$meta` asks for what there is not (40218), or 9999 for a stage that is not modelled.
    """
    stages, last = _split(rest)
    return [*result.stages(), *rewrite_rest(result, stages), {"$unset": HIDDEN}, *last]


def rewrite_rest(result: Result, rest: list[Any]) -> list[dict[str, Any]]:
    """The stages behind a search stage alone, hidden field and all."""
    return _Rest(result).run(rest)


def _split(rest: list[Any]) -> tuple[list[Any], list[Any]]:
    if rest and isinstance(rest[-1], dict) and _LAST & rest[-1].keys():
        return rest[:-1], rest[-1:]
    return rest, []


class _Rest:
    """Rewrites the stages behind a search stage, knowing whether its metadata is still there."""

    def __init__(self, result: Result, *, lost: bool = False) -> None:
        self.result = result
        self.lost = lost

    def run(self, stages: list[Any]) -> list[dict[str, Any]]:
        return [self._stage(stage) for stage in stages]

    def _stage(self, stage: Any) -> dict[str, Any]:
        if not isinstance(stage, dict) or len(stage) != 1:
            raise CommandError(40323, "A pipeline stage specification object must contain exactly one field.")
        ((name, spec),) = stage.items()
        if name not in _KEEPS | _LOSES | {"$project"}:
            raise unsupported(f"{name} behind a search stage")
        rewritten = self._special(name, spec)
        if name in _LOSES:
            self.lost = True
        return {name: rewritten}

    def _special(self, name: str, spec: Any) -> Any:
        if name == "$match":
            return self._match(spec)
        if name == "$sort":
            return self._sort(spec)
        if name == "$project":
            return self._project(spec)
        if name == "$lookup" and isinstance(spec, dict):
            return {key: self._walk(value) if key == "let" else value for key, value in spec.items()}
        if name == "$facet" and isinstance(spec, dict):
            return {key: self._branch(value) for key, value in spec.items()}
        if name in ("$limit", "$skip", "$sample", "$count", "$unwind", "$unset", "$unionWith"):
            return spec
        return self._walk(spec)

    def _branch(self, stages: Any) -> Any:
        if not isinstance(stages, list):
            return stages
        return [*_Rest(self.result, lost=self.lost).run(stages), {"$unset": HIDDEN}]

    def _match(self, spec: Any) -> Any:
        if isinstance(spec, list):
            return [self._match(item) for item in spec]
        if not isinstance(spec, dict):
            return spec
        return {key: self._walk(value) if key == "$expr" else self._match(value) for key, value in spec.items()}

    def _sort(self, spec: Any) -> Any:
        if isinstance(spec, dict) and any(isinstance(value, dict) for value in spec.values()):
            raise unsupported("$sort by $meta")
        return spec

    def _project(self, spec: Any) -> Any:
        if not isinstance(spec, dict):
            return spec
        walked = self._walk(spec)
        return walked | {HIDDEN: 1} if includes(spec) else walked

    def _walk(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._walk(item) for item in node]
        if node in ("$$ROOT", "$$CURRENT"):
            return {"$unsetField": {"field": HIDDEN, "input": node}}
        if isinstance(node, str) and node.startswith("$$SEARCH_META"):
            raise unsupported("$$SEARCH_META")
        if not isinstance(node, dict) or "$literal" in node:
            return node
        if set(node) == {"$meta"}:
            return self._meta(node["$meta"])
        return {key: self._walk(value) for key, value in node.items()}

    def _meta(self, kind: Any) -> Any:
        if kind in _META_EVERYWHERE:
            raise unsupported(f"{{$meta: {kind!r}}} behind a search stage")
        if kind in self.result.refused:
            raise CommandError(17308, f"Unsupported argument to $meta: {kind}")
        if kind not in KINDS:
            raise CommandError(17308, f"Unsupported argument to $meta: {kind}")
        if self.lost or kind not in self.result.meta:
            raise missing_metadata(kind)
        return self.result.meta[kind]


KINDS = {"searchScore", "searchHighlights", "searchScoreDetails", "vectorSearchScore", "score", "scoreDetails"}
"""What `$meta` knows of search."""


def missing_metadata(kind: str) -> CommandError:
    """The error for metadata that nothing before provides."""
    return CommandError(40218, f"query requires {kind} metadata, but it is not available")


def includes(spec: dict[str, Any]) -> bool:
    """Whether a `$project` names what to keep, rather than what to leave out."""
    for key, value in spec.items():
        if key == "_id" and len(spec) > 1:
            continue
        if isinstance(value, dict) and value and not any(name.startswith("$") for name in value):
            return includes(value)
        return bool(value) or isinstance(value, str)
    return False


def asks_for_search_metadata(node: Any) -> str | None:
    """The first kind of search metadata that an expression asks for, if any."""
    if isinstance(node, dict):
        if "$literal" in node:
            return None
        if set(node) == {"$meta"} and node["$meta"] in KINDS:
            return str(node["$meta"])
        node = list(node.values())
    if isinstance(node, list):
        return next((kind for item in node if (kind := asks_for_search_metadata(item))), None)
    return None
