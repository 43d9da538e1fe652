"""The operators of `$search`: each takes its options and yields the documents that match, with scores.

Like the service, an operator on a path that is not mapped for it finds nothing and says nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from tests.standin.analysis import analyze
from tests.standin.errors import MongotError, unsupported
from tests.standin.fuzzy import Expansion, expand
from tests.standin.text_index import TextField, TextIndex
from tests.standin.values import comparable, kind_of, whole_number

Matches = dict[int, float]
"""Score by position of the document in the snapshot."""

NOT_MODELLED = {
    "autocomplete",
    "embeddedDocument",
    "facet",
    "geoShape",
    "geoWithin",
    "hasAncestor",
    "hasRoot",
    "knnBeta",
    "moreLikeThis",
    "near",
    "queryString",
    "regex",
    "span",
    "vectorSearch",
    "wildcard",
}
_EQUALS_KINDS = {
    "string": "token",
    "number": "number",
    "date": "date",
    "boolean": "boolean",
    "objectId": "objectId",
    "uuid": "uuid",
}
_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_RANGE_KINDS = {"string", "number", "date", "objectId"}
_CLAUSES = ("must", "mustNot", "should", "filter")


def evaluate(name: str, spec: Any, index: TextIndex) -> Matches:
    """Run one operator.

    Raises:
        MongotError: the options are wrong.
        CommandError: 9999, the operator or an option is not modelled.
    """
    if name in NOT_MODELLED:
        raise unsupported(f"the operator {name!r}")
    if name not in _OPERATORS:
        raise MongotError(8, f'unrecognized field "{name}"')
    if not isinstance(spec, dict):
        raise MongotError(8, f'"{name}" must be a document')
    options = dict(spec)
    adjust = _score_modifier(options.pop("score", None))
    return {document: adjust(value) for document, value in _OPERATORS[name](options, index).items()}


def _score_modifier(spec: Any) -> Callable[[float], float]:
    if spec is None:
        return lambda value: value
    if isinstance(spec, dict) and len(spec) == 1:
        ((kind, options),) = spec.items()
        if kind in ("boost", "constant") and isinstance(options, dict) and set(options) == {"value"}:
            factor: Any = options["value"]
            if kind_of(factor) != "number" or factor <= 0:
                raise MongotError(8, f'"score.{kind}.value" must be a positive number')
            return (lambda value: value * factor) if kind == "boost" else (lambda _: float(factor))
    raise unsupported("this score modifier")


def _known(name: str, options: dict[str, Any], keys: set[str], later: frozenset[str] = frozenset()) -> None:
    for key in options:
        if key in later:
            raise unsupported(f"the option {key!r} of {name}")
        if key not in keys:
            raise MongotError(8, f'"{name}" unrecognized field "{key}"')


def _paths(name: str, options: dict[str, Any], *, several: bool = True) -> list[str]:
    path = options.get("path")
    found = path if several and isinstance(path, list) else [path]
    if any(isinstance(item, dict) for item in found):
        raise unsupported("wildcard and multi paths")
    if not found or not all(isinstance(item, str) and item for item in found):
        raise MongotError(8, f'"{name}.path" is required')
    return list(found)


def _queries(name: str, options: dict[str, Any]) -> list[str]:
    query = options.get("query")
    found = query if isinstance(query, list) else [query]
    if not found or not all(isinstance(item, str) and item for item in found):
        raise MongotError(8, f'"{name}.query" must be a non-empty string or an array of them')
    return list(found)


def _text(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("text", options, {"query", "path", "fuzzy", "matchCriteria"}, frozenset({"synonyms"}))
    criteria = options.get("matchCriteria", "any")
    if criteria not in ("any", "all"):
        raise MongotError(8, '"text.matchCriteria" must be one of [all, any]')
    expansion = Expansion.parse(options["fuzzy"]) if "fuzzy" in options else None
    result: Matches = {}
    queries = _queries("text", options)
    for path in _paths("text", options):
        found = index.text(path)
        if found is None:
            continue
        terms, analyzer = found
        for query in queries:
            parts = [_term(terms, term, expansion) for term in analyze(query, analyzer)]
            keep = set.intersection(*map(set, parts)) if parts and criteria == "all" else None
            for part in parts:
                for document, value in part.items():
                    if keep is None or document in keep:
                        result[document] = result.get(document, 0.0) + value
    return result


def _term(terms: TextField, term: str, expansion: Expansion | None) -> Matches:
    matching = expand(term, terms.postings, expansion) if expansion else {term: 1.0}
    present = {word: boost for word, boost in matching.items() if word in terms.postings}
    if not present:
        return {}
    # The variants of a misspelt word share one rarity, that of the commonest.
    rarity = terms.rarity(max(len(terms.postings[word]) for word in present))
    result: Matches = {}
    for word, boost in present.items():
        for document, positions in terms.postings[word].items():
            value = boost * rarity * terms.weight(len(positions), document)
            result[document] = result.get(document, 0.0) + value
    return result


def _phrase(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("phrase", options, {"query", "path", "slop"}, frozenset({"synonyms"}))
    if options.get("slop", 0) != 0:
        raise unsupported("slop")
    result: Matches = {}
    for path in _paths("phrase", options):
        found = index.text(path)
        for query in _queries("phrase", options) if found else []:
            terms, analyzer = found  # type: ignore[misc]
            for document, value in _in_a_row(terms, analyze(query, analyzer)).items():
                result[document] = result.get(document, 0.0) + value
    return result


def _in_a_row(terms: TextField, words: list[str]) -> Matches:
    if not words or any(word not in terms.postings for word in words):
        return {}
    rarity = sum(terms.rarity(len(terms.postings[word])) for word in words)
    result: Matches = {}
    for document, starts in terms.postings[words[0]].items():
        rest = [set(terms.postings[word].get(document, ())) for word in words[1:]]
        count = sum(all(start + step in at for step, at in enumerate(rest, 1)) for start in starts)
        if count:
            result[document] = rarity * terms.weight(count, document)
    return result


def _equals(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("equals", options, {"path", "value"})
    (path,) = _paths("equals", options, several=False)
    value = options.get("value")
    if "value" in options and value is None:
        raise unsupported("equals with null")
    return _any_of(index, path, [value], "equals.value")


def _in(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("in", options, {"path", "value"})
    values = options.get("value")
    values = values if isinstance(values, list) else [values]
    if not values or len({kind_of(value) for value in values}) > 1:
        raise MongotError(8, '"in.value" must hold values of one type')
    result: Matches = {}
    for path in _paths("in", options):
        result |= _any_of(index, path, values, "in.value")
    return result


def _any_of(index: TextIndex, path: str, values: list[Any], where: str) -> Matches:
    kind = _EQUALS_KINDS.get(kind_of(values[0]))
    if kind is None:
        raise MongotError(8, f'"{where}" must be a boolean, objectId, number, string, date or uuid')
    wanted = [index.wanted(path, kind, value) for value in values]
    return {document: 1.0 for document, held in index.values(path, kind).items() if any(v in wanted for v in held)}


def _exists(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("exists", options, {"path"})
    (path,) = _paths("exists", options, several=False)
    result: Matches = {}
    for kind in index.mapping.kinds(path):
        held = index.text(path)[0].lengths if kind == "string" else index.values(path, kind)  # type: ignore[index]
        result |= dict.fromkeys(held, 1.0)
    return result


def _range(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("range", options, {"path", *_BOUNDS})
    bounds = {key: value for key, value in options.items() if key in _BOUNDS}
    kinds = {kind_of(value) for value in bounds.values()}
    if len(kinds) != 1 or not kinds <= _RANGE_KINDS:
        raise MongotError(8, '"range" needs bounds of one type: number, date, string or objectId')
    if {"gt", "gte"} <= bounds.keys() or {"lt", "lte"} <= bounds.keys():
        raise MongotError(8, '"range" takes one lower and one upper bound only')
    kind = _EQUALS_KINDS[kinds.pop()]
    limits = [(_BOUNDS[key], comparable(value)) for key, value in bounds.items()]
    return {
        document: 1.0
        for path in _paths("range", options)
        for document, held in index.values(path, kind).items()
        if any(all(holds(value, limit) for holds, limit in limits) for value in held)
    }


def _compound(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("compound", options, {*_CLAUSES, "minimumShouldMatch"})
    clauses = {name: [_clause(name, item, index) for item in _listed(options.get(name, []))] for name in _CLAUSES}
    if not any(clauses.values()):
        raise MongotError(8, '"compound" must have at least one clause')
    if not (clauses["must"] or clauses["should"] or clauses["filter"]):
        raise unsupported("a compound of mustNot alone")
    least = whole_number(options.get("minimumShouldMatch", 0))
    if least is None or not 0 <= least <= len(clauses["should"]):
        raise MongotError(8, '"compound.minimumShouldMatch" must be between 0 and the number of should clauses')
    required = [set(part) for part in clauses["must"] + clauses["filter"]]
    candidates = set.intersection(*required) if required else set().union(*clauses["should"])
    for part in clauses["mustNot"]:
        candidates -= part.keys()
    result: Matches = {}
    for document in candidates:
        if sum(document in part for part in clauses["should"]) >= least:
            scored = clauses["must"] + clauses["should"]
            result[document] = sum(part.get(document, 0.0) for part in scored)
    return result


def _listed(clause: Any) -> list[Any]:
    return clause if isinstance(clause, list) else [clause]


def _clause(name: str, item: Any, index: TextIndex) -> Matches:
    if not isinstance(item, dict) or len(item) != 1:
        raise MongotError(8, f'"compound.{name}" must hold documents with one operator each')
    ((operator_name, spec),) = item.items()
    return evaluate(operator_name, spec, index)


_OPERATORS: dict[str, Callable[[dict[str, Any], TextIndex], Matches]] = {
    "text": _text,
    "phrase": _phrase,
    "equals": _equals,
    "in": _in,
    "exists": _exists,
    "range": _range,
    "compound": _compound,
}
OPERATORS = frozenset(_OPERATORS)
