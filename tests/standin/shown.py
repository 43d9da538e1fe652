"""Index definitions as the service shows them: in its own words, with defaults written out or left out."""

from __future__ import annotations

from typing import Any

from tests.standin.definitions import HNSW

_TEXT = {"indexOptions": "offsets", "store": True, "norms": "include"}
_NUMBER = {"representation": "double", "indexDoubles": True, "indexIntegers": True}
_LEFT_OUT = {"quantization": "none", "indexingMethod": "hnsw", "engine": "lucene"}


def shown(kind: str, definition: dict[str, Any]) -> dict[str, Any]:
    """A definition that was accepted, as `statusDetail` shows it."""
    form = _vector(definition) if kind == "vectorSearch" else _search(definition)
    if definition.get("numPartitions", 1) != 1:
        form["numPartitions"] = int(definition["numPartitions"])
    if definition.get("storedSource", False) is not False:
        form["storedSource"] = definition["storedSource"]
    return form


def equivalent(kind: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the lenient service takes `other` for the same index as `one`."""
    passed_over = {"storedSource", "nestedRoot"} if kind == "vectorSearch" else {"sort"}
    first, second = shown(kind, one), shown(kind, other)
    return all(first.get(key) == second.get(key) for key in (first.keys() | second.keys()) - passed_over)


def _vector(definition: dict[str, Any]) -> dict[str, Any]:
    form = {"fields": [_vector_field(item) for item in definition["fields"]]}
    return form | ({"nestedRoot": definition["nestedRoot"]} if "nestedRoot" in definition else {})


def _vector_field(item: dict[str, Any]) -> dict[str, Any]:
    form = {key: value for key, value in item.items() if _LEFT_OUT.get(key) != value}
    if "numDimensions" in form:
        form["numDimensions"] = int(form["numDimensions"])
    options = {key: int(value) for key, value in form.pop("hnswOptions", {}).items() if value != HNSW[key][0]}
    if options:
        form["hnswOptions"] = options
    if form["type"] == "embeddedDocuments":
        form.setdefault("fields", {})
    return form


def _search(definition: dict[str, Any]) -> dict[str, Any]:
    form = {key: definition[key] for key in ("analyzer", "searchAnalyzer", "synonyms") if key in definition}
    form["mappings"] = _document(definition["mappings"])
    if definition.get("analyzers"):
        form["analyzers"] = definition["analyzers"]
    if "typeSets" in definition:
        form["typeSets"] = [
            {"name": item["name"], "types": [_field(entry) for entry in item["types"]]}
            for item in definition["typeSets"]
        ]
    if "sort" in definition:
        form["sort"] = {path: _sorted_by(order) for path, order in definition["sort"].items()}
    return form


def _document(spec: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _fields(item) for name, item in spec.get("fields", {}).items()}
    return {"dynamic": spec.get("dynamic", False), "fields": fields}


def _fields(item: Any) -> Any:
    """One way of indexing a path, or several; a list of one is no list."""
    if not isinstance(item, list):
        return _field(item)
    return _field(item[0]) if len(item) == 1 else [_field(entry) for entry in item]


def _field(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] == "document":
        return {"type": "document"} | _document(item)
    if item["type"] == "string":
        multi = {name: _field(each) for name, each in item.get("multi", {}).items()}
        form = {key: value for key, value in (_TEXT | item).items() if key != "multi"}
        return form | ({"multi": multi} if multi else {})
    return (_NUMBER if item["type"] == "number" else {}) | item


def _sorted_by(order: Any) -> dict[str, Any]:
    given = order if isinstance(order, dict) else {"order": order}
    return {"noData": "lowest"} | given | {"order": float(given.get("order", 1))}
