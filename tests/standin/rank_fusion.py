"""`$rankFusion`: the grammar with the server's codes, and reciprocal rank fusion with its numbers."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from tests.standin.errors import CommandError, unsupported
from tests.standin.values import identity, kind_of

CONSTANT = 60
DESCRIPTION = (
    "value output by reciprocal rank fusion algorithm, computed as sum of (weight * (1 / (60 + rank))) across input "
    "pipelines from which this document is output, from:"
)

_RANKED = {"$search", "$vectorSearch", "$geoNear"}
_SELECTS = {"$search", "$vectorSearch", "$match", "$sort", "$skip", "$limit", "$sample", "$geoNear"}
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
    _fields("$rankFusion", spec, {"input", "combination", "scoreDetails"}, "input")
    _fields("$rankFusion.input", spec["input"], {"pipelines"}, "pipelines")
    pipelines = spec["input"]["pipelines"]
    if not isinstance(pipelines, dict) or not pipelines:
        raise CommandError(9, "$rankFusion needs an object of at least one input pipeline")
    for name, pipeline in pipelines.items():
        _check_pipeline(pipeline)
        _check_name(name)
    combination = spec.get("combination", {"weights": {}})
    _fields("$rankFusion.combination", combination, {"weights"}, None)
    details = spec.get("scoreDetails", False)
    if not isinstance(details, bool):
        raise CommandError(14, "BSON field '$rankFusion.scoreDetails' is the wrong type, expected 'bool'")
    weights = _weights(combination.get("weights", {}), pipelines)
    return Fusion({name: pipelines[name] for name in sorted(pipelines)}, weights, details)


def _fields(where: str, spec: Any, keys: set[str], required: str | None) -> None:
    if not isinstance(spec, dict):
        raise CommandError(14, f"BSON field '{where}' is the wrong type, expected 'object'")
    for key in spec:
        if key not in keys:
            raise CommandError(40415, f"BSON field '{where}.{key}' is an unknown field.")
    if required and required not in spec:
        raise CommandError(40414, f"BSON field '{where}.{required}' is missing but a required field")


def _check_pipeline(pipeline: Any) -> None:
    if not isinstance(pipeline, list):
        raise CommandError(14, "$rankFusion input pipelines must be arrays")
    if not pipeline:
        raise CommandError(9834300, f"$rankFusion input pipeline cannot be empty. {_MUST_RANK}")
    if not all(isinstance(stage, dict) and len(stage) == 1 for stage in pipeline):
        raise CommandError(40323, "A pipeline stage specification object must contain exactly one field.")
    names = [next(iter(stage)) for stage in pipeline]
    if {"$rankFusion", "$scoreFusion"} & set(names):
        text = "$rankFusion input pipeline has a nested hybrid search stage ($rankFusion/$scoreFusion)."
        raise CommandError(10473002, f"{text} {_MUST_RANK}")
    if "$score" in names:
        raise CommandError(10614800, "$rankFusion input pipelines must not contain a $score stage.")
    if names[0] not in _RANKED and "$sort" not in names:
        text = "Pipeline did not begin with a ranked stage and did not contain an explicit $sort stage."
        raise CommandError(9191100, f"{text} {_MUST_RANK}")
    for stage in pipeline:
        _check_selects(*next(iter(stage.items())))
    if "$geoNear" in names:
        raise unsupported("$geoNear in $rankFusion")


def _check_selects(name: str, spec: Any) -> None:
    why = None
    if name not in _SELECTS:
        why = f"{name} is not a selection stage because it modifies or transforms the input documents."
    elif name == "$search" and isinstance(spec, dict) and spec.get("returnStoredSource"):
        why = "$search is only a selection stage if 'returnStoredSource' is false."
    elif name == "$geoNear" and isinstance(spec, dict) and {"distanceField", "includeLocs"} & spec.keys():
        why = "$geoNear is only a selection stage if 'includeLocs' and 'distanceField' are not specified."
    if why:
        raise CommandError(9191103, f"{why} Only stages that retrieve, limit, or order documents are allowed.")


def _check_name(name: str) -> None:
    rules = "$rankFusion pipeline names must follow the naming rules of field path expressions. :: caused by ::"
    if not name:
        raise CommandError(15998, f"{rules} FieldPath field names may not be empty strings.")
    if name.startswith("$"):
        raise CommandError(16410, f"{rules} FieldPath field names may not start with '$'.")
    if "." in name:
        raise CommandError(16412, f"{rules} FieldPath field names may not contain '.'.")


def _weights(spec: Any, pipelines: dict[str, Any]) -> dict[str, float]:
    if not isinstance(spec, dict):
        raise CommandError(14, "BSON field '$rankFusion.combination.weights' is the wrong type, expected 'object'")
    unknown = [name for name in spec if name not in pipelines]
    for name, weight in spec.items():
        if name in unknown:
            continue
        if kind_of(weight) != "number":
            raise CommandError(14, f"the weight of pipeline '{name}' must be a number")
        if weight < 0:
            text = f"rankFusion's pipeline weight must be non-negative, but given {weight} for pipeline '{name}'."
            raise CommandError(9460300, text)
    if len(spec) > len(pipelines):
        text = f"$rankFusion input has more weights ({len(spec)}) than pipelines ({len(pipelines)})."
        raise CommandError(9460301, f"{text} Possible extraneous specified weights = [{', '.join(unknown)}]")
    if unknown:
        free = [name for name in pipelines if name not in spec]
        near = [(name, difflib.get_close_matches(name, free, 1, 0.0)) for name in unknown]
        hints = ", ".join(f"(provided: '{name}' -> suggested: '{found[0]}')" for name, found in near if found)
        text = f"$rankFusion stage contained ({len(unknown)}) weight(s) in 'combination.weights' that did not "
        raise CommandError(
            9967500, f"{text}reference valid pipeline names. Suggestions for valid pipeline names: {hints}"
        )
    return {name: float(weight) for name, weight in spec.items()}


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
