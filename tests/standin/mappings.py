"""The `mappings` of a search index: which paths are indexed, and as what.

A path that is not mapped is no error at query time: it finds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping as ByName
from dataclasses import dataclass, field
from typing import Any

from tests.standin.analysis import ANALYZERS, Analyze
from tests.standin.errors import bad_definition, unsupported, wrong_definition
from tests.standin.values import whole_number

DYNAMIC_KINDS = frozenset({"string", "number", "date", "boolean", "objectId", "uuid"})
"""What `dynamic: true` indexes. Not `token`: a dynamic string serves `text`, never `equals`."""

DEFAULT_ANALYZER = "lucene.standard"
_OPTIONS: dict[str, set[str]] = {
    "string": {
        "type", "analyzer", "searchAnalyzer", "indexOptions", "store", "norms", "ignoreAbove", "multi", "similarity"
    },
    "token": {"type", "normalizer"},
    "number": {"type", "representation", "indexDoubles", "indexIntegers"},
    "date": {"type"},
    "boolean": {"type"},
    "objectId": {"type"},
    "uuid": {"type"},
    "document": {"type", "dynamic", "fields"},
}  # fmt: skip
_REAL_BUT_NOT_MODELLED = {
    "autocomplete",
    "autoEmbedVector",
    "dateFacet",
    "embeddedDocuments",
    "geo",
    "knnVector",
    "numberFacet",
    "stringFacet",
    "vector",
}
_CHOICES = {
    "indexOptions": ("docs", "freqs", "offsets", "positions"),
    "norms": ("include", "omit"),
    "normalizer": ("lowercase", "none"),
    "representation": ("double", "int64"),
}
_FLAGS = ("store", "indexDoubles", "indexIntegers")
_SIMILARITIES = ("bm25", "boolean", "stableTfl")
_MODELLED: dict[str, tuple[Any, ...]] = {
    "indexOptions": ("offsets", "positions"),
    "norms": ("include",),
    "representation": ("double",),
    "indexDoubles": (True,),
    "indexIntegers": (True,),
    "similarity": ({"type": "bm25"},),
    "ignoreAbove": (),
}
"""Options with the values that the stand-in can search; with others an index is accepted, and no query of it."""


@dataclass(frozen=True)
class FieldType:
    """One way in which a path is indexed."""

    kind: str
    analyzer: str | Analyze = DEFAULT_ANALYZER
    search_analyzer: str | Analyze = DEFAULT_ANALYZER
    lowercase: bool = False
    multi: ByName[str, FieldType] = field(default_factory=dict, hash=False)


@dataclass(eq=False)
class Mapping:
    """The mapping of one level of documents."""

    dynamic: bool
    analyzer: str | Analyze = DEFAULT_ANALYZER
    search_analyzer: str | Analyze = DEFAULT_ANALYZER
    customs: ByName[str, Analyze] = field(default_factory=dict)
    fields: dict[str, list[FieldType]] = field(default_factory=dict)
    nested: dict[str, Mapping] = field(default_factory=dict)
    unmodelled: str | None = None

    def has(self, path: str) -> bool:
        """Whether `path` is indexed at all, be it for what lies in the documents there."""
        head, _, rest = path.partition(".")
        if rest and head in self.nested:
            return self.nested[head].has(rest)
        return self.dynamic or (not rest and (head in self.fields or head in self.nested))

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


def parse_mapping(
    spec: Any, analyzer: Any, search_analyzer: Any, where: str, customs: ByName[str, Analyze] | None = None
) -> Mapping:
    """Check a `mappings` document, or the mapping of a nested document; `customs` are the index's own analyzers.

    Raises:
        DefinitionError: for what the service refuses.
        CommandError: code 9999 for what is not modelled.
    """
    if not isinstance(spec, dict):
        raise bad_definition(f'"{where}" must be a document')
    for key in spec:
        if key not in ("dynamic", "fields", "type"):
            raise bad_definition(f'"{where}" unrecognized field "{key}"')
    dynamic = spec.get("dynamic", False)
    if not isinstance(dynamic, bool | dict):
        raise bad_definition(f'"{where}.dynamic" must be a boolean or document')
    if isinstance(dynamic, dict) and set(dynamic) != {"typeSet"}:
        raise bad_definition(f'"{where}.dynamic.typeSet" is required')
    customs = customs or {}
    indexed_by = _analyzer(analyzer, DEFAULT_ANALYZER, customs, f"{where}.analyzer")
    searched_by = _analyzer(search_analyzer, indexed_by, customs, f"{where}.searchAnalyzer")
    mapping = Mapping(bool(dynamic), indexed_by, searched_by, customs)
    mapping.unmodelled = "a type set" if isinstance(dynamic, dict) else None
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
        raise bad_definition(
            f'"{where}.type" must be one of [{", ".join(sorted({*_OPTIONS, *_REAL_BUT_NOT_MODELLED}))}]'
        )
    _check_options(item, _OPTIONS[kind], where)
    mapping.unmodelled = _unmodelled(item) or mapping.unmodelled
    if kind == "document":
        nested = parse_mapping(item, mapping.analyzer, mapping.search_analyzer, where, mapping.customs)
        mapping.nested[name] = nested
        mapping.unmodelled = nested.unmodelled or mapping.unmodelled
        return
    mapping.fields.setdefault(name, []).append(_field_type(mapping, item, where))


def _field_type(mapping: Mapping, item: dict[str, Any], where: str) -> FieldType:
    analyzer = _analyzer(item.get("analyzer"), mapping.analyzer, mapping.customs, f"{where}.analyzer")
    search = analyzer if "analyzer" in item else mapping.search_analyzer
    search = _analyzer(item.get("searchAnalyzer"), search, mapping.customs, f"{where}.searchAnalyzer")
    multi = {name: _multi(mapping, name, each, f"{where}.multi") for name, each in item.get("multi", {}).items()}
    return FieldType(item["type"], analyzer, search, item.get("normalizer") == "lowercase", multi)


def _multi(mapping: Mapping, name: str, item: Any, where: str) -> FieldType:
    if "." in name:
        raise bad_definition(f'"{where}" multi path cannot contain "."')
    where = f"{where}.{name}"
    if not isinstance(item, dict):
        raise bad_definition(f'"{where}" must be a document')
    if item.get("type") != "string":
        raise bad_definition(f'"{where}" multi definition must be string field')
    _check_options(item, _OPTIONS["string"], where)
    if item.get("multi"):
        raise bad_definition(f'"{where}" multi definition cannot contain nested multi definition')
    mapping.unmodelled = _unmodelled(item) or mapping.unmodelled
    return _field_type(mapping, item, where)


def _check_options(item: dict[str, Any], known: set[str], where: str) -> None:
    for key, value in item.items():
        if key not in known:
            raise bad_definition(f'"{where}" unrecognized field "{key}"')
        if key in _CHOICES and value not in _CHOICES[key]:
            raise bad_definition(f'"{where}.{key}" must be one of [{", ".join(_CHOICES[key])}]')
        if key in _FLAGS and not isinstance(value, bool):
            raise bad_definition(f'"{where}.{key}" must be a boolean')
        if key in ("similarity", "multi") and not isinstance(value, dict):
            raise bad_definition(f'"{where}.{key}" must be a document')
        if key == "similarity" and value.get("type") not in _SIMILARITIES:
            raise bad_definition(f'"{where}.similarity.type" must be one of [{", ".join(_SIMILARITIES)}]')
        if key == "ignoreAbove" and (whole_number(value) or 0) <= 0:
            raise bad_definition(f'"{where}.ignoreAbove" must be positive')


def _unmodelled(item: dict[str, Any]) -> str | None:
    for key, values in _MODELLED.items():
        if key in item and item[key] not in values:
            return f"{key!r} of a {item['type']} field"
    return None


def parse_type_sets(spec: Any) -> None:
    """Check the `typeSets` of an index: what a dynamic mapping indexes."""
    if spec is None:
        return
    if not isinstance(spec, list):
        raise bad_definition('"typeSets" must be a array')
    if not spec:
        raise bad_definition('"typeSets" cannot be empty')
    for number, item in enumerate(spec):
        where = f"typeSets[{number}]"
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise bad_definition(f'"{where}.name" is required')
        if not isinstance(item.get("types"), list) or not item["types"]:
            raise bad_definition(f'"{where}.types" cannot be empty')
        for at, entry in enumerate(item["types"]):
            _add_field(Mapping(dynamic=False), item["name"], entry, f"{where}.types[{at}]")


def _analyzer(name: Any, default: str | Analyze, customs: ByName[str, Analyze], where: str) -> str | Analyze:
    if name is None or callable(name):  # that of the document around it
        return default if name is None else name
    if name in ANALYZERS:
        return str(name)
    if name in customs:
        return customs[name]
    if isinstance(name, str) and name.startswith("lucene."):
        raise unsupported(f"the analyzer {name}")
    if not isinstance(name, str):
        raise bad_definition(f'"{where}" must be a string')
    raise wrong_definition(f"references non-existent analyzers: {name}")


def count_fields(spec: dict[str, Any]) -> int:
    """Fields in a mapping, nested ones included."""
    total = 0
    for definitions in spec.get("fields", {}).values():
        for item in definitions if isinstance(definitions, list) else [definitions]:
            total += 1 + len(item.get("multi", {})) + count_fields(item)
    return total
