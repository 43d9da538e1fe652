"""The aggregations of the Atlas strategy: pure functions without I/O.

Every aggregation contains the scope twice: in the search stage, so that other people's documents do not use up the
limit, and in a `$match` after it, because the index may lag behind the documents it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from lkmongo.search.exact import MIN_COMPOUND
from lkmongo.search.words import ENGLISH, content_words, languages_of, spoken_words, stem, words
from lkmongo.store.indexes.definitions import (
    EMBEDDING,
    JOINED,
    KNOWLEDGE_VECTOR,
    LABEL_WORDS,
    MEMORIES_TEXT,
    MEMORIES_VECTOR,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder, FusionWeights

Stage = dict[str, Any]
Scope = Mapping[str, str]
QueryVector: TypeAlias = "NDArray[np.float32] | str"
"""A query's vector, of unit length and shape (d,); or its text, if MongoDB makes the vector."""

BRANCH_DEPTH = 30
"""Minimum number of documents that each branch contributes to the fusion."""
CANDIDATES_PER_HIT = 20
"""`numCandidates` per result of an approximate search: the minimum that the manual recommends."""
WHOLE_SCOPE = 1_000
"""Slots of a person that fusion by scores looks at: all of them, as only 500 new ones are accepted by default."""
CANDIDATE_PASSAGES = 100
"""Passages that fusion by scores looks at, the nearest of a tenant."""
MAX_CANDIDATES = 10_000
"""The limit of `numCandidates`; a search that would exceed it is exact."""
FUZZY = {"maxEdits": 1, "prefixLength": 2, "maxExpansions": 10}
"""One edit after the first two letters. The default of two edits makes short words match almost anything, and the
variants come from the words of all people."""
_FUZZY_FROM = 5
MAX_WORDS = 24
"""Words per query: each makes up to 38 clauses, and as a part of a pair two; small clusters allow 1,024."""

_MEMORY = {"_id": 0, "memory_type": 1, "content": 1, "created_at": 1, "updated_at": 1, "embedding_model": 1}
_PASSAGE = {"_id": 0, "source": 1, "chunk": 1, "title": 1, "content": 1, "updated_at": 1, "embedding_model": 1}
# Without the embedding, which is two thirds of a document's bytes.


_SCALAR_BIAS = 1.5
"""How much too high an index with scalar quantization shows cosines on the mean, times their dimensions, as it cuts off
one value in as many as there are dimensions. (Measured at 256, `benchmarks/quantization.py`.)"""


def quantized_floor(embedder: Embedder, quantization: str) -> float:
    """The embedder's floor for the scores of an approximate search.

    Exact searches read the full vectors, and of binary ones the service scores the candidates again with these.
    (MongoDB Vector Search documentation, Vector Quantization.)
    """
    if quantization != "scalar" or not embedder.dimensions:
        return embedder.floor
    return embedder.floor + _SCALAR_BIAS / embedder.dimensions


def depth_for(limit: int) -> int:
    """How many documents each branch contributes to the fusion for `limit` results."""
    return max(BRANCH_DEPTH, limit)


@overload
def for_index(vector: NDArray[np.float32], query: str) -> QueryVector: ...
@overload
def for_index(vector: NDArray[np.float32] | None, query: str) -> QueryVector | None: ...
def for_index(vector: NDArray[np.float32] | None, query: str) -> QueryVector | None:
    """What an index is asked with: the embedder's vector, or the text if that has no numbers."""
    return vector if vector is None or vector.size else query


@dataclass(frozen=True, slots=True)
class QueryWords:
    """What of a query may cause a match; false if nothing may.

    Attributes:
        words: the first 24 distinct ones, in lower case, without stop words: the index has those, and "what is my"
            would match most documents.
        joined: what texts may write as one word: hyphenated ones and pairs of neighbours.
        languages: those that the query may be in.
    """

    words: tuple[str, ...]
    joined: tuple[str, ...]
    languages: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.words)


def query_words(query: str) -> QueryWords:
    """The words of a query as `$search` is asked for them."""
    wanted = set(content_words(query)[0])
    said = [word.casefold() for word in spoken_words(query)]
    content = dict.fromkeys(word for word in said if any(stem(part) in wanted for part in words(word)))
    whole = [word.replace("-", "") for word in content if "-" in word]
    whole += [pair for pair in map("".join, pairwise(said)) if pair.isalpha() and len(pair) >= MIN_COMPOUND]
    joined = dict.fromkeys(whole)
    return QueryWords(tuple(content)[:MAX_WORDS], tuple(joined)[:MAX_WORDS], languages_of(query))


def memories_by_vector(scope: Scope, vector: QueryVector, model: str, depth: int) -> list[Stage]:
    """Stages for up to `depth` slots of a person, nearest first, with `score` (1 + cosine) / 2."""
    return [*_near_memories(scope, vector, model, depth), {"$project": _scored(_MEMORY, "vectorSearchScore")}]


def memories_by_text(scope: Scope, terms: QueryWords, depth: int) -> list[Stage]:
    """Stages for up to `depth` slots of a person by the words of label and content, best first, with a BM25 `score`."""
    return [*_worded_memories(scope, terms, depth), {"$project": _scored(_MEMORY, "searchScore")}]


def memories_by_ranks(
    scope: Scope,
    vector: QueryVector,
    terms: QueryWords,
    model: str,
    weights: FusionWeights,
    depth: int,
    *,
    details: bool,
) -> list[Stage]:
    """Stages for both branches and their fusion by `$rankFusion`.

    They return all results of both branches, because the embedder's floor is applied afterwards: with `details`, which
    have the rank and the score in each branch, else with the fused `score` and the vectors of this model, to tell them
    from.
    """
    fusion: Stage = {
        "input": {
            "pipelines": {
                "vector": _near_memories(scope, vector, model, depth),
                "text": _worded_memories(scope, terms, depth),
            }
        },
        "combination": {"weights": weights.by_branch()},
    }
    ours = {"$cond": [{"$eq": ["$embedding_model", model]}, f"${EMBEDDING}", "$$REMOVE"]}
    shown: Stage = {"score": 1, EMBEDDING: ours}
    if details:
        fusion["scoreDetails"] = True
        shown = {"details": {"$meta": "scoreDetails"}}
    return [{"$rankFusion": fusion}, {"$limit": 2 * depth}, {"$project": _MEMORY | shown}]


def memories_by_scores(
    scope: Scope,
    vector: QueryVector,
    terms: QueryWords,
    model: str,
    weights: FusionWeights,
    depth: int,
) -> list[Stage]:
    """Stages for both branches by `$scoreFusion`: the whole scope, with `scores` as each branch made them."""
    fusion = {
        "input": {
            "pipelines": {
                "vector": _near_memories(scope, vector, model, WHOLE_SCOPE),
                "text": _worded_memories(scope, terms, depth),
            },
            "normalization": "none",
        },
        "combination": {"weights": weights.by_branch()},
        "scoreDetails": True,
    }
    # The two numbers alone: details of a document are longer than the document.
    of_branch = {"k": "$$this.inputPipelineName", "v": "$$this.inputPipelineRawScore"}
    scores = {
        "$let": {
            "vars": {"all": {"$meta": "scoreDetails"}},
            "in": {"$arrayToObject": {"$map": {"input": "$$all.details", "in": of_branch}}},
        }
    }
    return [{"$scoreFusion": fusion}, {"$project": _MEMORY | {"scores": scores}}]


def knowledge_by_vector(scope: Scope, vector: QueryVector, model: str, depth: int) -> list[Stage]:
    """Stages for up to `depth` passages of a tenant, nearest first, with `score` (1 + cosine) / 2."""
    candidates = CANDIDATES_PER_HIT * depth
    how: Stage = {"exact": True} if candidates > MAX_CANDIDATES else {"numCandidates": candidates}
    return [
        _vector_stage(KNOWLEDGE_VECTOR, scope, vector, depth, how),
        {"$match": {**scope, "embedding_model": model}},
        {"$project": _scored(_PASSAGE, "vectorSearchScore")},
    ]


def _near_memories(scope: Scope, vector: QueryVector, model: str, depth: int) -> list[Stage]:
    # A person has at most 10,000 slots, up to which the manual recommends an exact search.
    return [
        _vector_stage(MEMORIES_VECTOR, scope, vector, depth, {"exact": True}),
        # A changed slot has no vector and no model until it is embedded again; the index may not know that yet.
        {"$match": {**scope, "embedding_model": model}},
    ]


def _worded_memories(scope: Scope, terms: QueryWords, depth: int) -> list[Stage]:
    paths = [LABEL_WORDS, "content"]
    forms = [JOINED, *(language for language in terms.languages if language != ENGLISH)]
    other: list[Any] = [{"value": path, "multi": form} for form in forms for path in paths]
    should: list[Stage] = [{"text": {"query": list(terms.words), "path": [*paths, *other]}}]
    # An exact match scores in both clauses, and so above a fuzzy one.
    if near := [word for word in terms.words if len(word) >= _FUZZY_FROM and word.isalpha()]:
        should.append({"text": {"query": near, "path": paths, "fuzzy": FUZZY}})
    if terms.joined:
        should.append({"text": {"query": list(terms.joined), "path": paths}})
    compound = {
        "filter": [{"equals": {"path": path, "value": value}} for path, value in scope.items()],
        "should": should,
        "minimumShouldMatch": 1,  # with a filter the default is 0, which matches all documents of the person
    }
    search = {"$search": {"index": MEMORIES_TEXT, "compound": compound}}
    return [search, {"$match": dict(scope)}, {"$limit": depth}]


def _vector_stage(index: str, scope: Scope, vector: QueryVector, depth: int, how: Stage) -> Stage:
    query: Stage = {"query": {"text": vector}} if isinstance(vector, str) else {"queryVector": vector.tolist()}
    options = {"index": index, "path": EMBEDDING, **query, "limit": depth, "filter": dict(scope)}
    return {"$vectorSearch": options | how}


def _scored(shown: Mapping[str, Any], score: str) -> Stage:
    return {**shown, "score": {"$meta": score}}
