"""`$search`: options, then the operator on a copy of the documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.standin.definitions import SearchDefinition
from tests.standin.errors import CommandError, MongotError, unsupported
from tests.standin.hits import Hit, ranked
from tests.standin.snapshots import Snapshot
from tests.standin.text_index import NoIndex, TextIndex
from tests.standin.text_operators import COLLECTORS, NOT_MODELLED, OPERATORS, evaluate

_OPTIONS_NOT_MODELLED = {
    "concurrent",
    "count",
    "highlight",
    "returnStoredSource",
    "returnScope",
    "scoreDetails",
    "searchAfter",
    "searchBefore",
    "searchNodePreference",
    "sort",
    "tracking",
}


_NO_INDEX = NoIndex()


@dataclass(frozen=True)
class TextQuery:
    """One stage, checked as far as it goes without an index."""

    index: str
    operator: str
    spec: Any


def parse_query(spec: Any) -> TextQuery:
    """Check the options.

    Raises:
        CommandError: what the server or the search process refuses.
    """
    if not isinstance(spec, dict):
        raise CommandError(9, "$search value must be an object.")
    name = spec.get("index", "default")
    if not isinstance(name, str) or not name:
        raise MongotError(8, '"index" must be a non-empty string')
    known = OPERATORS | NOT_MODELLED
    for key in spec:
        if key in _OPTIONS_NOT_MODELLED:
            raise unsupported(f"the option {key!r} of $search")
    operators = [key for key in spec if key in known]
    names = ", ".join(sorted(known - COLLECTORS))
    if not operators:
        raise MongotError(8, f"Query should contain either an operator [{names}] or a collector [facet]")
    if len(operators) > 1:
        raise MongotError(8, f"at most one of [{names}] may be present")
    unknown = [key for key in spec if key not in known | {"index"}]
    if unknown:
        raise MongotError(8, f'unrecognized field "{unknown[0]}"')
    query = TextQuery(name, operators[0], spec[operators[0]])
    # The search process reads the whole query before it looks for the index: an empty one finds the same mistakes.
    evaluate(query.operator, query.spec, _NO_INDEX)
    return query


def search(query: TextQuery, definition: SearchDefinition, snapshot: Snapshot, *, seed: int = 0) -> list[Hit]:
    """The hits of a checked query, best first; their number has no limit."""
    matches = evaluate(query.operator, query.spec, TextIndex.of(snapshot, definition.mapping))
    hits = [Hit(snapshot.documents[document]["_id"], value) for document, value in matches.items()]
    return ranked(hits, seed)
