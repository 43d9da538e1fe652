"""`$scoreFusion` (8.2): the grammar with the server's codes, and the average of weighted scores with its details.

Not modelled: `minMaxScaler`, whose place before or after the weights has changed between releases, expressions, and
pipelines with `$score`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tests.standin.errors import CommandError, unsupported
from tests.standin.fusion_grammar import check_fields, check_name, check_selects, check_stages, check_weights
from tests.standin.rank_fusion import Fused, Ranked
from tests.standin.values import identity

DESCRIPTION = (
    "the value calculated by combining the scores (either normalized or raw) across input pipelines from which this "
    "document is output from:"
)
_STAGE = "$scoreFusion"
_SCORED = {"$search", "$vectorSearch"}
_MUST_SCORE = (
    "All subpipelines to the $scoreFusion stage must begin with one of $search, $vectorSearch, or have a custom $score "
    "in the pipeline."
)


@dataclass(frozen=True)
class ScoreFusion:
    """A checked `$scoreFusion`; pipelines in the order in which they run, that of their names."""

    pipelines: dict[str, list[dict[str, Any]]]
    weights: dict[str, float]
    normalization: str
    details: bool


def parse_score_fusion(spec: Any) -> ScoreFusion:
    """Check the stage.

    Raises:
        CommandError: with the server's code for each mistake.
    """
    if not isinstance(spec, dict):
        raise CommandError(9, "$scoreFusion must take a nested object but found something else")
    check_fields(_STAGE, spec, {"input", "combination", "scoreDetails"}, "input")
    given = spec["input"]
    # Strict: the manual does not say what is done without a normalization.
    check_fields(f"{_STAGE}.input", given, {"pipelines", "normalization"}, "pipelines", "normalization")
    pipelines = given["pipelines"]
    if not isinstance(pipelines, dict) or not pipelines:
        raise CommandError(9, "$scoreFusion needs an object of at least one input pipeline")
    normalization = _one_of("input.normalization", given["normalization"], ("none", "sigmoid", "minMaxScaler"))
    for name, pipeline in pipelines.items():
        _check_pipeline(pipeline)
        check_name(_STAGE, name)
    combination = spec.get("combination", {})
    check_fields(f"{_STAGE}.combination", combination, {"weights", "method", "expression"})
    method = _one_of("combination.method", combination.get("method", "avg"), ("avg", "expression"))
    if (method == "expression") != ("expression" in combination):
        text = "combination.expression should only be specified when combination.method has the value"
        raise CommandError(10017300, f'{text} "expression"')
    if "expression" in combination and "weights" in combination:
        raise CommandError(10017301, "both combination.expression and combination.weights cannot be specified")
    details = spec.get("scoreDetails", False)
    if not isinstance(details, bool):
        raise CommandError(14, "BSON field '$scoreFusion.scoreDetails' is the wrong type, expected 'bool'")
    weights = check_weights(_STAGE, combination.get("weights", {}), pipelines)
    if method == "expression":
        raise unsupported("an expression in $scoreFusion")
    if normalization == "minMaxScaler":
        raise unsupported("minMaxScaler in $scoreFusion")
    return ScoreFusion({name: pipelines[name] for name in sorted(pipelines)}, weights, normalization, details)


def _one_of(where: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise CommandError(14, f"BSON field '{_STAGE}.{where}' is the wrong type, expected 'string'")
    if value not in known:
        raise CommandError(2, f"Enumeration value '{value}' for field '{_STAGE}.{where}' is not a valid value.")
    return value


def _check_pipeline(pipeline: Any) -> None:
    empty = CommandError(9402503, f"$scoreFusion input pipeline cannot be empty. {_MUST_SCORE}")
    names = check_stages(_STAGE, pipeline, empty)
    if {"$rankFusion", "$scoreFusion"} & set(names):
        text = "$scoreFusion input pipeline has a nested hybrid search stage ($rankFusion/$scoreFusion)."
        raise CommandError(10473003, f"{text} {_MUST_SCORE}")
    if "$score" in names:
        raise unsupported("$score in $scoreFusion")
    if names[0] not in _SCORED:
        text = "Pipeline did not begin with a scored stage and did not contain an explicit $score stage."
        raise CommandError(9402500, f"{_MUST_SCORE} {text}")
    check_selects(pipeline, 9402502)


def fuse_scores(ranked: dict[str, list[Ranked]], fusion: ScoreFusion) -> list[Fused]:
    """The average over all input pipelines of weight times score; a pipeline without the document counts as 0."""
    scores: dict[bytes, dict[str, float]] = {}
    ids: dict[bytes, Any] = {}
    for name, items in ranked.items():
        for item in items:
            ids.setdefault(identity(item.id), item.id)
            scores.setdefault(identity(item.id), {})[name] = float(item.score or 0.0)
    return [_fused(ids[key], found, fusion) for key, found in scores.items()]


def _fused(document: Any, found: dict[str, float], fusion: ScoreFusion) -> Fused:
    details: list[dict[str, Any]] = []
    for name in fusion.pipelines:
        weight = fusion.weights.get(name, 1.0)
        entry: dict[str, Any] = {"inputPipelineName": name, "inputPipelineRawScore": 0, "weight": weight, "value": 0}
        if name in found:  # else it has zeros, and no details of its own
            raw = found[name]
            value = weight * (raw if fusion.normalization == "none" else _sigmoid(raw))
            entry |= {"inputPipelineRawScore": raw, "value": value, "details": []}
        details.append(entry)
    score = sum(float(entry["value"]) for entry in details) / len(details)
    told = {"value": score, "description": DESCRIPTION, "normalization": fusion.normalization}
    return Fused(document, score, told | {"combination": {"method": "average"}, "details": details})


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))
