"""The `filter` of `$vectorSearch`: the operators and types that the service takes, on indexed paths only."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from bson import Decimal128

from tests.standin.errors import MongotError, unsupported
from tests.standin.values import comparable, identity, kind_of, present_at, values_at

Predicate = Callable[[dict[str, Any]], bool]

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_KINDS = {"boolean", "objectId", "number", "string", "date", "uuid"}
_FIELD_OPERATORS = [*_ORDERED, "$eq", "$ne", "$in", "$nin", "$exists", "$not"]


MAX_STRING = 8191
"""Longer strings are cut there by the index, and not by a filter: it finds none of them."""


def compile_filter(spec: Any, declared: frozenset[str] | None) -> Predicate:
    """Turn a filter into a function of a document.

    Args:
        declared: the paths that the index declares; None while the index is not known.

    Raises:
        MongotError: an operator, a type or a path that the service does not take.
    """
    if not isinstance(spec, dict):
        raise MongotError(8, '"filter" must be a document')
    return _all([_clause(key, value, declared) for key, value in spec.items()])


def _all(parts: list[Predicate]) -> Predicate:
    return lambda document: all(part(document) for part in parts)


def _clause(key: str, value: Any, declared: frozenset[str] | None) -> Predicate:
    if key in ("$and", "$or", "$nor"):
        if not isinstance(value, list):
            raise MongotError(8, '"filter" must be a array')
        if not value:
            raise MongotError(8, '"filter" cannot be empty')
        parts = [compile_filter(item, declared) for item in value]
        if key == "$and":
            return _all(parts)
        wanted = key == "$or"
        return lambda document: any(part(document) for part in parts) is wanted
    found = _field(key, value)
    if declared is not None and key not in declared:
        raise MongotError(8, f"Path '{key}' needs to be indexed as filter")
    return found


def _field(path: str, value: Any) -> Predicate:
    """What a path is compared with: a value, which is none of a document's, or operators."""
    if not isinstance(value, dict) or not any(key.startswith("$") for key in value):
        return _equal(path, value, "filter")
    return _operations(path, value, f"filter.{path}")


def _operations(path: str, spec: dict[str, Any], where: str) -> Predicate:
    if not any(name in _FIELD_OPERATORS for name in spec):
        raise MongotError(8, f'"{where}" at least one of [{", ".join(_FIELD_OPERATORS)}] must be present')
    for name in spec:
        if name not in _FIELD_OPERATORS:
            raise MongotError(8, f'"{where}" unrecognized field "{name}"')
    return _all([_operation(path, name, operand, f"{where}.{name}") for name, operand in spec.items()])


def _operation(path: str, name: str, operand: Any, where: str) -> Predicate:
    if name in ("$ne", "$nin", "$not"):
        positive = {"$ne": _equal, "$nin": _one_of, "$not": _inner}[name](path, operand, where)
        return lambda document: not positive(document)
    if name == "$exists":
        if not isinstance(operand, bool):
            raise MongotError(8, f'"{where}" must be a boolean')
        return lambda document: present_at(document, path) is operand
    if name in _ORDERED:
        return _compare(path, _ORDERED[name], operand, where)
    return (_equal if name == "$eq" else _one_of)(path, operand, where)


def _inner(path: str, operand: Any, where: str) -> Predicate:
    if not isinstance(operand, dict):
        raise MongotError(8, f'"{where}" must be a document')
    return _operations(path, operand, where)


def _equal(path: str, operand: Any, where: str) -> Predicate:
    kind = kind_of(operand)
    if kind not in _KINDS | {"null"}:
        raise MongotError(8, f'"{where}" must be a boolean, objectId, number, string, date, uuid, or null')
    _not_nan(operand)
    wanted = comparable(operand)
    return lambda document: any(
        kind_of(value) == kind and _indexed(value) == wanted for value in values_at(document, path)
    )


def _one_of(path: str, operand: Any, where: str) -> Predicate:
    if not isinstance(operand, list):
        raise MongotError(8, f'"{where}" must be a array')
    if not operand:
        raise MongotError(8, f'"{where}" cannot be empty')
    for number, item in enumerate(operand):
        if item is None:
            raise MongotError(8, f'"{where}[{number}]" value type cannot be null')
        if kind_of(item) not in _KINDS:
            raise MongotError(8, f'"{where}[{number}]" must be a boolean, objectId, number, string, date, or uuid')
    if len({kind_of(item) for item in operand}) > 1:
        raise MongotError(8, f'"{where}" must have elements of the same type')
    parts = [_equal(path, item, where) for item in {identity(item): item for item in operand}.values()]
    return lambda document: any(part(document) for part in parts)


def _compare(path: str, holds: Callable[[Any, Any], bool], operand: Any, where: str) -> Predicate:
    kind = kind_of(operand)
    if isinstance(operand, dict):  # a document can only be a shape of the map
        raise MongotError(8, f'"{where}.type" is required')
    if kind not in _KINDS:
        names = {list: "ARRAY", Decimal128: "DECIMAL128", type(None): "NULL"}
        name = names.get(type(operand), type(operand).__name__.upper())
        raise MongotError(8, f'"{where}" Type is not supported: {name}')
    _not_nan(operand)
    limit = comparable(operand)
    return lambda document: any(
        kind_of(value) == kind and holds(_indexed(value), limit) for value in values_at(document, path)
    )


def _indexed(value: Any) -> Any:
    """A value of a document as the index holds it."""
    return value[:MAX_STRING] if isinstance(value, str) else comparable(value)


def _not_nan(operand: Any) -> None:
    if isinstance(operand, float) and math.isnan(operand):
        raise unsupported("a comparison with NaN, which the service takes for 0 among whole numbers")
