"""The operators of `$search`: each takes its options and yields the documents that match, with scores.

Like the service, an operator on a path that is not mapped for it finds nothing and says nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.standin.analysis import analyze
from tests.standin.errors import MongotError, unsupported
from tests.standin.fuzzy import Expansion, expand
from tests.standin.text_index import TextField, TextIndex
from tests.standin.values import comparable, kind_of, whole_number

Matches = dict[int, float]
"""Score by position of the document in the snapshot."""

COLLECTORS = frozenset({"facet"})
NOT_MODELLED = COLLECTORS | {
    "autocomplete",
    "embeddedDocument",
    "geoShape",
    "geoWithin",
    "hasAncestor",
    "hasRoot",
    "knnBeta",
    "moreLikeThis",
    "near",
    "queryString",
    "regex",
    "search",
    "span",
    "term",
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
_RANGE_KINDS = {"string", "number", "date", "objectId", "uuid"}
_CLAUSES = ("filter", "must", "mustNot", "should")


@dataclass(frozen=True)
class _Term:
    """A term that a text operator looks for in one path, what a match is worth, and how rare it is."""

    path: str
    word: str
    boost: float
    rarity: float
    field: TextField


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


def _strings(name: str, key: str, options: dict[str, Any], *, several: bool = True) -> list[str]:
    """The value of an option that takes a string or, usually, several."""
    value = options.get(key)
    if value is None:
        raise MongotError(8, f'"{name}.{key}" is required')
    listed = several and isinstance(value, list)
    found = value if listed else [value]
    if not found:
        raise MongotError(8, f'"{name}.{key}" cannot be empty')
    for number, item in enumerate(found):
        where = f"{name}.{key}[{number}]" if listed else f"{name}.{key}"
        if key == "path" and isinstance(item, dict):
            raise unsupported("wildcard and multi paths")
        if not isinstance(item, str):
            raise MongotError(8, f'"{where}" must be a string')
        if not item:
            raise MongotError(8, f'"{where}" cannot be empty')
    return list(found)


def _text_paths(options: dict[str, Any]) -> list[tuple[str, str | None]]:
    """The paths of a text operator, each with its `multi`, or None."""
    given = options.get("path")
    names, multis = [], []
    for number, item in enumerate(given if isinstance(given, list) else [given]):
        where = f"text.path[{number}]" if isinstance(given, list) else "text.path"
        way = item if isinstance(item, dict) else {"value": item}
        if "wildcard" in way:
            raise unsupported("wildcard paths")
        if unknown := way.keys() - {"value", "multi"}:
            raise MongotError(8, f'"{where}" unrecognized field "{min(unknown)}"')
        if isinstance(item, dict) and not isinstance(way.get("value"), str):
            raise MongotError(8, f'"{where}.value" is required')
        names.append(way["value"])
        multis.append(way.get("multi"))
    checked = _strings("text", "path", options | {"path": names if isinstance(given, list) else names[0]})
    return list(zip(checked, multis, strict=True))


def _text(options: dict[str, Any], index: TextIndex) -> Matches:
    terms = _terms(options, index)
    if options.get("matchCriteria", "any") == "any":
        return _any_term([term for part in terms for term in part])
    result: Matches = {}
    for part in terms:
        together = _any_term(part)
        words = {term.word: set(_any_term([term])) for term in part}
        for document in set.intersection(*words.values()) if words else ():
            result[document] = result.get(document, 0.0) + together[document]
    return result


def _terms(options: dict[str, Any], index: TextIndex) -> list[list[_Term]]:
    """The terms of a text operator, for each path and each of its queries."""
    _known("text", options, {"query", "path", "fuzzy", "matchCriteria"}, frozenset({"synonyms"}))
    paths, queries = _text_paths(options), _strings("text", "query", options)
    if options.get("matchCriteria", "any") not in ("any", "all"):
        raise MongotError(8, '"text.matchCriteria" must be one of [all, any]')
    expansion = Expansion.parse(options["fuzzy"]) if "fuzzy" in options else None
    if expansion and options.get("matchCriteria") == "all":
        raise unsupported("fuzzy with the match criteria 'all'")
    result = []
    for path, multi in paths:
        found = index.text(path, multi)
        name = path if multi is None else f"{path} (multi: {multi})"
        for query in queries if found else []:
            field, analyzer = found  # type: ignore[misc]
            words = analyze(query, analyzer)
            result.append([term for word in words for term in _variants(name, field, word, expansion)])
    return result


def _variants(path: str, field: TextField, word: str, expansion: Expansion | None) -> list[_Term]:
    if expansion is None:
        return [_Term(path, word, 1.0, field.rarity(len(field.postings.get(word, ()))), field)]
    near = expand(word, field.postings, expansion)
    # The variants of a misspelt word share one rarity, that of the commonest.
    commonest = max((len(field.postings[variant]) for variant in near), default=0)
    return [_Term(path, variant, boost, field.rarity(commonest), field) for variant, boost in near.items()]


def _any_term(terms: Iterable[_Term]) -> Matches:
    """Documents with any of the terms.

    A term that is there several times, as an exact and a fuzzy clause look for it, counts once: with all its boosts,
    and as rare as it is where it comes first.
    """
    merged: dict[tuple[str, str], _Term] = {}
    for term in terms:
        first = merged.get((term.path, term.word))
        merged[term.path, term.word] = replace(first, boost=first.boost + term.boost) if first else term
    result: Matches = {}
    for term in merged.values():
        for document, positions in term.field.postings.get(term.word, {}).items():
            value = term.boost * term.rarity * term.field.weight(len(positions), document)
            result[document] = result.get(document, 0.0) + value
    return result


def _phrase(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("phrase", options, {"query", "path", "slop"}, frozenset({"synonyms"}))
    if options.get("slop", 0) != 0:
        raise unsupported("slop")
    result: Matches = {}
    for path in _strings("phrase", "path", options):
        found = index.text(path)
        for query in _strings("phrase", "query", options) if found else []:
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
    (path,) = _strings("equals", "path", options, several=False)
    if "value" not in options:
        raise MongotError(8, '"equals.value" is required')
    value = options["value"]
    if value is None:
        return dict.fromkeys(index.null(path), 1.0)
    if kind_of(value) not in _EQUALS_KINDS:
        raise MongotError(8, '"equals.value" must be a boolean, objectId, number, string, date, uuid, or null')
    return _any_of(index, path, [value])


def _in(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("in", options, {"path", "value"})
    paths = _strings("in", "path", options)
    values = options.get("value")
    values = values if isinstance(values, list) else [values]
    if not values:
        raise MongotError(8, '"in.value" cannot be empty')
    for value in values:
        if kind_of(value) not in _EQUALS_KINDS:
            raise MongotError(8, '"in.value" must be a boolean, objectId, number, string, date, or uuid')
    if len({kind_of(value) for value in values}) > 1:
        raise MongotError(8, '"in.value" must have elements of the same type')
    result: Matches = {}
    for path in paths:
        result |= _any_of(index, path, values)
    return result


def _any_of(index: TextIndex, path: str, values: list[Any]) -> Matches:
    kind = _EQUALS_KINDS[kind_of(values[0])]
    wanted = [index.wanted(path, kind, value) for value in values]
    return {document: 1.0 for document, held in index.values(path, kind).items() if any(v in wanted for v in held)}


def _exists(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("exists", options, {"path"})
    (path,) = _strings("exists", "path", options, several=False)
    return dict.fromkeys(index.present(path), 1.0)


def _range(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("range", options, {"path", *_BOUNDS})
    paths = _strings("range", "path", options)
    bounds = {key: value for key, value in options.items() if key in _BOUNDS}
    kind = _kind_of_bounds(bounds)
    result: Matches = {}
    for path in paths:
        held = index.values(path, kind)
        limits = [(_BOUNDS[key], index.wanted(path, kind, value)) for key, value in bounds.items()] if held else []
        for document, values in held.items():
            if any(all(holds(value, limit) for holds, limit in limits) for value in values):
                result[document] = 1.0
    return result


def _kind_of_bounds(bounds: dict[str, Any]) -> str:
    """What a range is a range of."""
    for pair in (["gt", "gte"], ["lt", "lte"]):
        if bounds.keys() >= set(pair):
            raise MongotError(8, f'"range" at most one of [{", ".join(pair)}] may be present')
    if not bounds:
        raise MongotError(8, '"range" must specify at least one of [lt, lte, gt, gte]')
    kinds = {kind_of(value) for value in bounds.values()}
    if len(kinds) > 1:
        raise MongotError(8, '"range" bounds must be of the same type')
    if not kinds <= _RANGE_KINDS:
        raise MongotError(8, f'"range" range operator does not support {kinds.pop().upper()} point type')
    low = [comparable(value) for key, value in bounds.items() if key.startswith("g")]
    high = [comparable(value) for key, value in bounds.items() if key.startswith("l")]
    if low and high and low > high:
        raise MongotError(8, '"range" gt/gte must not be greater than lt/lte')
    if low == high and bounds.keys() != {"gte", "lte"}:
        raise MongotError(8, '"range" bounds must both be inclusive if they are equal')
    return _EQUALS_KINDS[kinds.pop()]


def _compound(options: dict[str, Any], index: TextIndex) -> Matches:
    _known("compound", options, {*_CLAUSES, "minimumShouldMatch"}, frozenset({"doesNotAffect"}))
    if not options.keys() & set(_CLAUSES):
        raise MongotError(8, f'"compound" at least one of [{", ".join(_CLAUSES)}] must be present')
    listed = {name: _listed(options.get(name, [])) for name in _CLAUSES}
    if not any(listed.values()):
        raise MongotError(8, '"compound" must have at least one clause')
    least = _least(options, len(listed["should"]))
    clauses = {name: [_clause(name, item, index) for item in listed[name]] for name in _CLAUSES[:3]}
    should = _should(listed["should"], index, least)
    required = [set(part) for part in clauses["must"] + clauses["filter"]]
    if required:
        candidates = set.intersection(*required)
    else:
        candidates = set().union(*should) if should else set(range(len(index.documents)))
    for part in clauses["mustNot"]:
        candidates -= part.keys()
    scored = clauses["must"] + should
    return {
        document: sum((part.get(document, 0.0) for part in scored), start=0.0)
        for document in candidates
        if sum(document in part for part in should) >= least
    }


def _least(options: dict[str, Any], count: int) -> int:
    """How many should clauses have to match."""
    if "minimumShouldMatch" not in options:
        return 0
    if "should" not in options:
        raise MongotError(8, '"compound" should clause must not be empty when using minimumShouldMatch')
    least = whole_number(options["minimumShouldMatch"])
    if least is None:
        raise MongotError(8, '"compound.minimumShouldMatch" must be an integer')
    if least < 0:
        raise MongotError(8, '"compound.minimumShouldMatch" cannot be negative')
    if least > count:
        raise MongotError(8, '"compound" minimumShouldMatch cannot be greater than number of should clauses')
    return least


def _should(items: list[Any], index: TextIndex, least: int) -> list[Matches]:
    """What the should clauses match.

    Where one of them is enough, the texts among them are one disjunction for Lucene, and each term counts once.
    """
    if least > 1:
        return [_clause("should", item, index) for item in items]
    found: list[Matches] = []
    terms: list[_Term] = []
    for item in _flattened(items):
        spec = item.get("text") if isinstance(item, dict) and len(item) == 1 else None
        if isinstance(spec, dict) and "score" not in spec and spec.get("matchCriteria", "any") == "any":
            terms += [term for part in _terms(spec, index) for term in part]
        else:
            found.append(_clause("should", item, index))
    return [*found, _any_term(terms)] if terms else found


def _flattened(items: list[Any]) -> Iterator[Any]:
    """Should clauses, and in place of a compound of nothing but should clauses those clauses."""
    for item in items:
        spec = item.get("compound") if isinstance(item, dict) and len(item) == 1 else None
        alone = isinstance(spec, dict) and spec.get("should") and spec.keys() <= {"should", "minimumShouldMatch"}
        if alone and _least(spec, len(_listed(spec["should"]))) <= 1:
            yield from _flattened(_listed(spec["should"]))
        else:
            yield item


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
