"""The `filter` of `$vectorSearch`: the operators and types that the service takes, on indexed paths only."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from tests.standin.errors import MongotError
from tests.standin.values import comparable, identity, kind_of, values_at

Predicate = Callable[[dict[str, Any]], bool]

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_ORDERED_KINDS = {"number", "string", "date", "objectId"}
_KINDS = {"boolean", "objectId", "number", "string", "date", "uuid"}
_FIELD_OPERATORS = {"$eq", "$ne", "$in", "$nin", "$exists", "$not", *_ORDERED}


def compile_filter(spec: Any, declared: frozenset[str]) -> Predicate:
    """Turn a filter into a function of a document.

    Raises:
        MongotError: an operator, a type or a path that the service does not take.
    """
    if not isinstance(spec, dict):
        raise MongotError(8, '"filter" must be a document')
    return _all([_clause(key, value, declared) for key, value in spec.items()])


def _all(parts: list[Predicate]) -> Predicate:
    return lambda document: all(part(document) for part in parts)


def _clause(key: str, value: Any, declared: frozenset[str]) -> Predicate:
    if key in ("$and", "$or", "$nor"):
        if not isinstance(value, list) or not value:
            raise MongotError(8, f'"filter.{key}" must be a non-empty array')
        parts = [compile_filter(item, declared) for item in value]
        if key == "$and":
            return _all(parts)
        wanted = key == "$or"
        return lambda document: any(part(document) for part in parts) is wanted
    if key.startswith("$"):
        raise MongotError(8, f'"filter" unrecognized field "{key}"')
    if key not in declared:
        raise MongotError(8, f"Path '{key}' needs to be indexed as filter")
    return _field(key, value)


def _field(path: str, value: Any) -> Predicate:
    if not isinstance(value, dict):
        return _equal(path, value)
    if not value:
        raise MongotError(8, f'"filter.{path}" cannot be an empty document')
    return _all([_operation(path, name, operand) for name, operand in value.items()])


def _operation(path: str, name: str, operand: Any) -> Predicate:
    if name not in _FIELD_OPERATORS:
        raise MongotError(8, f'"filter.{path}" unrecognized field "{name}"')
    if name in ("$ne", "$nin", "$not"):
        positive = {"$ne": _equal, "$nin": _one_of, "$not": _inner}[name](path, operand)
        return lambda document: not positive(document)
    if name == "$exists":
        if not isinstance(operand, bool):
            raise MongotError(8, f'"filter.{path}.$exists" must be a boolean')
        return lambda document: bool(values_at(document, path)) is operand
    if name in _ORDERED:
        return _compare(path, name, operand)
    return (_equal if name == "$eq" else _one_of)(path, operand)


def _inner(path: str, operand: Any) -> Predicate:
    if not isinstance(operand, dict):
        raise MongotError(8, f'"filter.{path}.$not" must be a document')
    return _field(path, operand)


def _equal(path: str, operand: Any) -> Predicate:
    kind = kind_of(operand)
    if kind not in _KINDS | {"null"}:
        raise MongotError(8, f'"filter.{path}" must be a boolean, objectId, number, string, date, uuid or null')
    wanted = comparable(operand)
    return lambda document: any(
        kind_of(value) == kind and comparable(value) == wanted for value in values_at(document, path)
    )


def _one_of(path: str, operand: Any) -> Predicate:
    if not isinstance(operand, list) or not operand:
        raise MongotError(8, f'"filter.{path}.$in" must be a non-empty array')
    kinds = {kind_of(item) for item in operand}
    if len(kinds) > 1 or not kinds <= _KINDS:
        raise MongotError(8, f'"filter.{path}.$in" must hold values of one type, and no null')
    parts = [_equal(path, item) for item in {identity(item): item for item in operand}.values()]
    return lambda document: any(part(document) for part in parts)


def _compare(path: str, name: str, operand: Any) -> Predicate:
    kind = kind_of(operand)
    if kind not in _ORDERED_KINDS:
        raise MongotError(8, f'"filter.{path}.{name}" must be a number, string, date or objectId')
    holds, limit = _ORDERED[name], comparable(operand)
    return lambda document: any(
        kind_of(value) == kind and holds(comparable(value), limit) for value in values_at(document, path)
    )
