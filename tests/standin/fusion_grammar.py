"""What the two fusion stages have in common: fields, names, weights and input pipelines, with the server's codes."""

from __future__ import annotations

import difflib
from typing import Any

from tests.standin.errors import CommandError
from tests.standin.values import kind_of

_SELECTS = {"$search", "$vectorSearch", "$match", "$sort", "$skip", "$limit", "$sample", "$geoNear"}


def check_fields(where: str, spec: Any, keys: set[str], *required: str | None) -> None:
    """Fail for what is no object, has a field that it cannot have, or lacks one that it must have."""
    if not isinstance(spec, dict):
        raise CommandError(14, f"BSON field '{where}' is the wrong type, expected 'object'")
    for key in spec:
        if key not in keys:
            raise CommandError(40415, f"BSON field '{where}.{key}' is an unknown field.")
    for key in required:
        if key and key not in spec:
            raise CommandError(40414, f"BSON field '{where}.{key}' is missing but a required field")


def check_stages(stage: str, pipeline: Any, empty: CommandError) -> list[str]:
    """The names of the stages of an input pipeline; `empty` is raised if it has none."""
    if not isinstance(pipeline, list):
        raise CommandError(14, f"{stage} input pipelines must be arrays")
    if not pipeline:
        raise empty
    if not all(isinstance(each, dict) and len(each) == 1 for each in pipeline):
        raise CommandError(40323, "A pipeline stage specification object must contain exactly one field.")
    return [next(iter(each)) for each in pipeline]


def check_selects(pipeline: list[dict[str, Any]], code: int) -> None:
    """Fail with `code` for a stage that changes documents instead of selecting them."""
    for each in pipeline:
        ((name, spec),) = each.items()
        why = None
        if name not in _SELECTS:
            why = f"{name} is not a selection stage because it modifies or transforms the input documents."
        elif name == "$search" and isinstance(spec, dict) and spec.get("returnStoredSource"):
            why = "$search is only a selection stage if 'returnStoredSource' is false."
        elif name == "$geoNear" and isinstance(spec, dict) and {"distanceField", "includeLocs"} & spec.keys():
            why = "$geoNear is only a selection stage if 'includeLocs' and 'distanceField' are not specified."
        if why:
            raise CommandError(code, f"{why} Only stages that retrieve, limit, or order documents are allowed.")


def check_name(stage: str, name: str) -> None:
    """Fail for a name of an input pipeline that is no name of a field."""
    rules = f"{stage} pipeline names must follow the naming rules of field path expressions. :: caused by ::"
    if not name:
        raise CommandError(15998, f"{rules} FieldPath field names may not be empty strings.")
    if name.startswith("$"):
        raise CommandError(16410, f"{rules} FieldPath field names may not start with '$'.")
    if "." in name:
        raise CommandError(16412, f"{rules} FieldPath field names may not contain '.'.")


def check_weights(stage: str, spec: Any, pipelines: dict[str, Any]) -> dict[str, float]:
    """The weights by the name of the pipeline; those that are left out are 1."""
    if not isinstance(spec, dict):
        raise CommandError(14, f"BSON field '{stage}.combination.weights' is the wrong type, expected 'object'")
    unknown = [name for name in spec if name not in pipelines]
    for name, weight in spec.items():
        if name in unknown:
            continue
        if kind_of(weight) != "number":
            raise CommandError(14, f"the weight of pipeline '{name}' must be a number")
        if weight < 0:
            text = f"{stage[1:]}'s pipeline weight must be non-negative, but given {weight} for pipeline '{name}'."
            raise CommandError(9460300, text)
    if len(spec) > len(pipelines):
        text = f"{stage} input has more weights ({len(spec)}) than pipelines ({len(pipelines)})."
        raise CommandError(9460301, f"{text} Possible extraneous specified weights = [{', '.join(unknown)}]")
    if unknown:
        free = [name for name in pipelines if name not in spec]
        near = [(name, difflib.get_close_matches(name, free, 1, 0.0)) for name in unknown]
        hints = ", ".join(f"(provided: '{name}' -> suggested: '{found[0]}')" for name, found in near if found)
        text = f"{stage} stage contained ({len(unknown)}) weight(s) in 'combination.weights' that did not "
        raise CommandError(
            9967500, f"{text}reference valid pipeline names. Suggestions for valid pipeline names: {hints}"
        )
    return {name: float(weight) for name, weight in spec.items()}
