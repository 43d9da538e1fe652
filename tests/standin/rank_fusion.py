"""`$rankFusion`: the grammar with the server's codes, and reciprocal rank fusion with its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.standin.errors import CommandError, unsupported
from tests.standin.fusion_grammar import check_fields, check_name, check_selects, check_stages, check_weights
from tests.standin.values import identity

CONSTANT = 60
DESCRIPTION = (
    "value output by reciprocal rank fusion algorithm, computed as sum of (weight * (1 / (60 + rank))) across input "
    "pipelines from which this document is output, from:"
)

_RANKED = {"$search", "$vectorSearch", "$geoNear"}
_EMPTY = "$rankFusion input pipeline cannot be empty."
_MUST_RANK = (
    "All subpipelines to the $rankFusion stage must begin with one of $search, $vectorSearch, $geoNear, or have a "
    "custom $sort in the pipeline."
)


@dataclass(frozen=True)
class Fusion:
    """A checked `$rankFusion`; pipelines in the order in which they run, that of their names."""

    pipelines: dict[str, list[dict[str, Any]]]
    weights: dict[str, float]
    details: bool


@dataclass(frozen=True)
class Ranked:
    """One document of an input pipeline: equal keys share a rank. `score` is None where only a sort ranks."""

    id: Any
    key: Any
    score: float | None


@dataclass
class Fused:
    """One document of the output."""

    id: Any
    score: float
    details: dict[str, Any]


def parse_fusion(spec: Any) -> Fusion:
    """Check the stage.

    Raises:
        CommandError: with the server's code for each mistake.
    """
    if not isinstance(spec, dict):
        raise CommandError(9, "The $rankFusion stage specification must be an object")
    check_fields("$rankFusion", spec, {"input", "combination", "scoreDetails"}, "input")
    check_fields("$rankFusion.input", spec["input"], {"pipelines"}, "pipelines")
    pipelines = spec["input"]["pipelines"]
    if not isinstance(pipelines, dict) or not pipelines:
        raise CommandError(9, "$rankFusion needs an object of at least one input pipeline")
    for name, pipeline in pipelines.items():
        _check_pipeline(pipeline)
        check_name("$rankFusion", name)
    combination = spec.get("combination", {"weights": {}})
    check_fields("$rankFusion.combination", combination, {"weights"}, None)
    details = spec.get("scoreDetails", False)
    if not isinstance(details, bool):
        raise CommandError(14, "BSON field '$rankFusion.scoreDetails' is the wrong type, expected 'bool'")
    weights = check_weights("$rankFusion", combination.get("weights", {}), pipelines)
    return Fusion({name: pipelines[name] for name in sorted(pipelines)}, weights, details)


def _check_pipeline(pipeline: Any) -> None:
    names = check_stages("$rankFusion", pipeline, CommandError(9834300, f"{_EMPTY} {_MUST_RANK}"))
    if {"$rankFusion", "$scoreFusion"} & set(names):
        text = "$rankFusion input pipeline has a nested hybrid search stage ($rankFusion/$scoreFusion)."
        raise CommandError(10473002, f"{text} {_MUST_RANK}")
    if "$score" in names:
        raise CommandError(10614800, "$rankFusion input pipelines must not contain a $score stage.")
    if names[0] not in _RANKED and "$sort" not in names:
        text = "Pipeline did not begin with a ranked stage and did not contain an explicit $sort stage."
        raise CommandError(9191100, f"{text} {_MUST_RANK}")
    check_selects(pipeline, 9191103)
    if "$geoNear" in names:
        raise unsupported("$geoNear in $rankFusion")


def fuse(ranked: dict[str, list[Ranked]], weights: dict[str, float]) -> list[Fused]:
    """Reciprocal rank fusion: the sum of weight / (60 + rank), rank from 1, equals sharing one.

    Args:
        ranked: documents of each input pipeline, best first, by pipeline name.
        weights: by pipeline name, 1 where there is none.
    """
    fused: dict[bytes, Fused] = {}
    places: dict[bytes, dict[str, dict[str, Any]]] = {}
    for name in sorted(ranked):
        weight = weights.get(name, 1.0)
        rank, previous = 0, object()
        for position, item in enumerate(ranked[name], 1):
            if item.key != previous:
                rank, previous = position, item.key
            key = identity(item.id)
            entry = fused.setdefault(key, Fused(item.id, 0.0, {}))
            entry.score += weight * (1.0 / (CONSTANT + rank))
            place = {"inputPipelineName": name, "rank": rank, "weight": weight}
            if item.score is not None:
                place["value"] = item.score
            places.setdefault(key, {})[name] = place | {"details": []}
    for key, entry in fused.items():
        details = [
            places[key].get(name) or {"inputPipelineName": name, "rank": "NA", "details": []} for name in sorted(ranked)
        ]
        entry.details = {"value": entry.score, "description": DESCRIPTION, "details": details}
    return list(fused.values())
