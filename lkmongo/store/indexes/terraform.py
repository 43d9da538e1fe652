"""The search indexes as a Terraform module of `mongodbatlas_search_index` resources, from the same definitions.

The names of attributes are those of the MongoDB Atlas provider, 2.0 and later; what it takes as a JSON string is
written as `jsonencode(...)`. The text is as `terraform fmt` would leave it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lkmongo.errors import NotSupportedError
from lkmongo.store.indexes.definitions import SearchIndex

_HEAD = """\
# Made by `lkmongo db indexes --output terraform`: change lkmongo's settings and make it again, rather than this file.
# The collections have to be there before: `lkmongo db indexes --no-search` creates them with their ordinary indexes.

terraform {
  required_providers {
    mongodbatlas = {
      source  = "mongodb/mongodbatlas"
      version = "~> 2.0"
    }
  }
}

variable "project_id" {
  description = "Id of the Atlas project"
  type        = string
}

variable "cluster_name" {
  description = "Name of the cluster"
  type        = string
}
"""


@dataclass(frozen=True, slots=True)
class _Verbatim:
    """An expression of Terraform, such as a reference."""

    text: str


@dataclass(frozen=True, slots=True)
class _Json:
    """A value that the provider takes as a JSON string."""

    value: Any


_ATTRIBUTES = {
    "analyzer": "analyzer",
    "searchAnalyzer": "search_analyzer",
    "numPartitions": "num_partitions",
    "mappings.dynamic": "mappings_dynamic",
    "mappings.fields": "mappings_fields",
    "fields": "fields",
    "analyzers": "analyzers",
    "storedSource": "stored_source",
}
"""Each part of a definition with the attribute that it is given as."""
_AS_JSON = {"mappings_dynamic_config", "mappings_fields", "fields", "analyzers", "stored_source"}


def search_index_module(indexes: Iterable[SearchIndex], database: str) -> str:
    """A Terraform module that creates these search indexes in a database, with project and cluster as variables.

    Raises:
        NotSupportedError: the provider has no attribute for a part of a definition.
    """
    return "\n".join([_HEAD, *(_resource(index, database) for index in indexes)])


def _resource(index: SearchIndex, database: str) -> str:
    attributes = {
        "project_id": _Verbatim("var.project_id"),
        "cluster_name": _Verbatim("var.cluster_name"),
        "database": database,
        "collection_name": index.collection,
        "name": index.name,
        "type": index.type,
    }
    lines = _assignments(attributes | _attributes(index), "  ")
    label = re.sub(r"[^\w-]", "_", index.name, flags=re.ASCII)
    return "\n".join(
        [
            f'resource "mongodbatlas_search_index" "{label}" {{',
            *lines,
            "",
            "  wait_for_index_build_completion = true",
            "}\n",
        ]
    )


def _attributes(index: SearchIndex) -> dict[str, Any]:
    """The attributes that make up the definition. Raises NotSupportedError."""
    parts = {name: value for name, value in index.definition.items() if name != "mappings"}
    parts |= {f"mappings.{name}": value for name, value in index.definition.get("mappings", {}).items()}
    if unknown := sorted(parts.keys() - _ATTRIBUTES.keys()):
        raise NotSupportedError(
            f"{index.name} cannot be written for Terraform",
            why=f"mongodbatlas_search_index has no attribute for {', '.join(unknown)}",
            hint="let lkmongo db indexes create it",
        )
    found = {name: parts[part] for part, name in _ATTRIBUTES.items() if part in parts}
    if isinstance(found.get("mappings_dynamic"), Mapping):
        found["mappings_dynamic_config"] = found.pop("mappings_dynamic")
    return {name: _Json(value) if name in _AS_JSON else value for name, value in found.items()}


def _assignments(items: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Lines that assign the values; the equals signs of neighbours that take one line each are below one another."""
    written = {_key(name): _expression(value, indent) for name, value in items.items()}
    neighbours: list[str] = []

    def flush() -> Iterator[str]:
        width = max(map(len, neighbours), default=0)
        yield from (f"{indent}{name:{width}} = {written[name][0]}" for name in neighbours)
        neighbours.clear()

    for name, (first, *others) in written.items():
        if not others:
            neighbours.append(name)
            continue
        yield from flush()
        yield f"{indent}{name} = {first}"
        yield from others
    yield from flush()


def _expression(value: Any, indent: str) -> list[str]:
    """A value as an expression of Terraform: its lines, the first of which follows an equals sign."""
    if isinstance(value, _Json):
        lines = _expression(value.value, indent)
        lines[0] = f"jsonencode({lines[0]}"
        lines[-1] += ")"
        return lines
    if _is_plain(value):
        return [_plain(value)]
    if isinstance(value, Mapping):
        if not all(map(_is_plain, value.values())):
            return ["{", *_assignments(value, f"{indent}  "), f"{indent}}}"]
        pairs = (f"{_key(name)} = {_plain(each)}" for name, each in value.items())
        return [f"{{ {', '.join(pairs)} }}" if value else "{}"]
    if all(map(_is_plain, value)):
        return [f"[{', '.join(map(_plain, value))}]"]
    lines = ["["]
    for each in value:
        first, *others = _expression(each, f"{indent}  ")
        lines += [f"{indent}  {first}", *others]
        lines[-1] += ","
    return [*lines, f"{indent}]"]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, _Verbatim | str | bool | int | float)


def _plain(value: Any) -> str:
    if isinstance(value, _Verbatim):
        return value.text
    if isinstance(value, str):
        return _string(value)
    return json.dumps(value)  # null, true, false and numbers are written as in JSON


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w-]*", name, flags=re.ASCII) else _string(name)


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _string(text: str) -> str:
    """A quoted string in which nothing is a template."""
    escaped = "".join(_ESCAPES.get(each) or (each if each.isprintable() else _by_number(each)) for each in text)
    return f'"{escaped.replace("${", "$${").replace("%{", "%%{")}"'


def _by_number(character: str) -> str:
    return f"\\U{ord(character):08x}" if ord(character) > 0xFFFF else f"\\u{ord(character):04x}"
