"""`$rerank` (8.3, Atlas only, preview): its grammar, and a model that counts words in place of the service's.

The codes of its refusals are not documented: what the manual forbids is refused with a code that the manual gives to
such mistakes elsewhere, so that nothing may depend on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.standin.errors import CommandError
from tests.standin.fusion_grammar import check_fields
from tests.standin.values import kind_of

MODELS = ("rerank-2.5", "rerank-2.5-lite", "rerank-2", "rerank-2-lite")
MOST = 1_000
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Rerank:
    """A checked `$rerank`."""

    text: str
    paths: tuple[str, ...]
    count: int


def parse_rerank(spec: Any) -> Rerank:
    """Check the stage. Raises CommandError."""
    check_fields("$rerank", spec, {"query", "path", "numDocsToRerank", "model"}, *_REQUIRED)
    check_fields("$rerank.query", spec["query"], {"text"}, "text")
    text, paths, count = spec["query"]["text"], spec["path"], spec["numDocsToRerank"]
    if not isinstance(text, str) or not text:
        raise CommandError(14, "BSON field '$rerank.query.text' is the wrong type, expected a non-empty 'string'")
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise CommandError(14, "BSON field '$rerank.path' is the wrong type, expected 'string' or an array of them")
    if kind_of(count) != "number" or int(count) != count:
        raise CommandError(14, "BSON field '$rerank.numDocsToRerank' is the wrong type, expected 'int'")
    if not 1 <= count <= MOST:
        raise CommandError(2, f"numDocsToRerank must be from 1 to {MOST}, not {count}")
    if spec["model"] not in MODELS:
        raise CommandError(2, f"unknown model {spec['model']!r}")
    return Rerank(text, tuple(paths), int(count))


_REQUIRED = ("query", "path", "numDocsToRerank", "model")


def rerank(stage: Rerank, documents: list[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """The first documents with the relevance of each, best first. Raises CommandError if one lacks a path."""
    scored = []
    for document in documents[: stage.count]:
        for path in stage.paths:
            if not isinstance(document.get(path), str):
                raise CommandError(2, f"$rerank: the field {path!r} is missing in an input document")
        text = " ".join(document[path] for path in stage.paths)
        scored.append((document, relevance(stage.text, text)))
    return sorted(scored, key=lambda entry: -entry[1])


def relevance(query: str, text: str) -> float:
    """From 0 to 1: the share of the query's words that the text has, a little less the longer the text is."""
    asked, there = (set(_WORD.findall(each.casefold())) for each in (query, text))
    return len(asked & there) / max(1, len(asked)) * (1 - len(there) / (len(there) + 10_000))
