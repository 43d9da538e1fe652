"""The `mappings` of a search index: which paths are indexed, and as what.

A path that is not mapped is no error at query time: it finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.standin.analysis import ANALYZERS
from tests.standin.errors import bad_definition, unsupported

DYNAMIC_KINDS = frozenset({"string", "number", "date", "boolean", "objectId", "uuid"})
"""What `dynamic: true` indexes. Not `token`: a dynamic string serves `text`, never `equals`."""

DEFAULT_ANALYZER = "lucene.standard"
_OPTIONS: dict[str, set[str]] = {
    "string": {"type", "analyzer", "searchAnalyzer"},
    "token": {"type", "normalizer"},
    "number": {"type"},
    "date": {"type"},
    "boolean": {"type"},
    "objectId": {"type"},
    "uuid": {"type"},
    "document": {"type", "dynamic", "fields"},
}
_REAL_BUT_NOT_MODELLED = {
    "autocomplete",
    "dateFacet",
    "embeddedDocuments",
    "geo",
    "knnVector",
    "numberFacet",
    "stringFacet",
    "vector",
}
_STRING_OPTIONS_NOT_MODELLED = {"indexOptions", "store", "norms", "ignoreAbove", "multi", "similarity"}


@dataclass(frozen=True)
class FieldType:
    """One way in which a path is indexed."""

    kind: str
    analyzer: str = DEFAULT_ANALYZER
    search_analyzer: str = DEFAULT_ANALYZER
    lowercase: bool = False


@dataclass(eq=False)
class Mapping:
    """The mapping of one level of documents."""

    dynamic: bool
    analyzer: str = DEFAULT_ANALYZER
    search_analyzer: str = DEFAULT_ANALYZER
    fields: dict[str, list[FieldType]] = field(default_factory=dict)
    nested: dict[str, Mapping] = field(default_factory=dict)

    def lookup(self, path: str, kind: str) -> FieldType | None:
        """How `path` is indexed as `kind`, or None: then it finds nothing."""
        head, _, rest = path.partition(".")
        if rest:
            if head in self.nested:
                return self.nested[head].lookup(rest, kind)
            if head in self.fields:
                return None
            return self._by_default(kind)
        if head in self.fields or head in self.nested:
            return next((item for item in self.fields.get(head, []) if item.kind == kind), None)
        return self._by_default(kind)

    def kinds(self, path: str) -> set[str]:
        """Every kind under which `path` is indexed."""
        return {kind for kind in (*DYNAMIC_KINDS, "token") if self.lookup(path, kind)}

    def _by_default(self, kind: str) -> FieldType | None:
        if self.dynamic and kind in DYNAMIC_KINDS:
            return FieldType(kind, self.analyzer, self.search_analyzer)
        return None


def parse_mapping(spec: Any, analyzer: str | None, search_analyzer: str | None, where: str) -> Mapping:
    """Check a `mappings` document, or the mapping of a nested document.

    Raises:
        CommandError: code 2 for what the service refuses, 9999 for what is not modelled.
    """
    if not isinstance(spec, dict):
        raise bad_definition(f'"{where}" must be a document')
    for key in spec:
        if key not in ("dynamic", "fields", "type"):
            raise bad_definition(f'"{where}" unrecognized field "{key}"')
    dynamic = spec.get("dynamic", False)
    if isinstance(dynamic, dict):
        raise unsupported("'dynamic' with a type set")
    if not isinstance(dynamic, bool):
        raise bad_definition(f'"{where}.dynamic" must be a boolean')
    indexed_by = _analyzer(analyzer, DEFAULT_ANALYZER, f"{where}.analyzer")
    mapping = Mapping(dynamic, indexed_by, _analyzer(search_analyzer, indexed_by, f"{where}.searchAnalyzer"))
    fields = spec.get("fields", {})
    if not isinstance(fields, dict):
        raise bad_definition(f'"{where}.fields" must be a document')
    for name, definitions in fields.items():
        for item in definitions if isinstance(definitions, list) else [definitions]:
            _add_field(mapping, name, item, f"{where}.fields.{name}")
    return mapping


def _add_field(mapping: Mapping, name: str, item: Any, where: str) -> None:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind in _REAL_BUT_NOT_MODELLED:
        raise unsupported(f"fields of type {kind!r}")
    if kind not in _OPTIONS:
        raise bad_definition(f'"{where}.type" must be one of {sorted(_OPTIONS)}')
    for key in item.keys() - _OPTIONS[kind]:
        if kind == "string" and key in _STRING_OPTIONS_NOT_MODELLED:
            raise unsupported(f"{key!r} of a string field")
        raise bad_definition(f'"{where}" unrecognized field "{key}"')
    if kind == "document":
        mapping.nested[name] = parse_mapping(item, mapping.analyzer, mapping.search_analyzer, where)
        return
    normalizer = item.get("normalizer", "none")
    if normalizer not in ("none", "lowercase"):
        raise bad_definition(f'"{where}.normalizer" must be one of [lowercase, none]')
    analyzer = _analyzer(item.get("analyzer"), mapping.analyzer, f"{where}.analyzer")
    search = analyzer if "analyzer" in item else mapping.search_analyzer
    search = _analyzer(item.get("searchAnalyzer"), search, f"{where}.searchAnalyzer")
    mapping.fields.setdefault(name, []).append(FieldType(kind, analyzer, search, lowercase=normalizer == "lowercase"))


def _analyzer(name: Any, default: str, where: str) -> str:
    if name is None:
        return default
    if name in ANALYZERS:
        return str(name)
    if isinstance(name, str) and name.startswith("lucene."):
        raise unsupported(f"the analyzer {name}")
    raise bad_definition(f'"{where}" is not a known analyzer: {name}')


def count_fields(spec: dict[str, Any]) -> int:
    """Fields in a mapping, nested ones included."""
    total = 0
    for definitions in spec.get("fields", {}).values():
        for item in definitions if isinstance(definitions, list) else [definitions]:
            total += 1 + count_fields(item)
    return total
