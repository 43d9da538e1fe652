"""The aggregations of the Atlas strategy and the interpretation of their results: pure functions without I/O.

Every aggregation contains the scope twice: in the search stage, so that other people's documents do not use up the
limit, and in a `$match` after it, because the index may lag behind the documents it returns.

For the same reason, recently written documents are read from the collection, and replace what the index returned for
them. Cosines of both are on one scale and are merged into one branch; BM25 scores are not, so all candidates are
scored again if a recent document matches the words of the query.

Both branches are fused by ranks, as `$rankFusion` does it: a document's score is the sum of `weight / (60 + rank)` over
its branches. Ranks begin at 1; equal values share a rank, and the next rank skips. Results are ordered by score, then
by key. (MongoDB manual, `$rankFusion`; the tests have results of a real server.)
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from lkmongo.embed.base import FusionWeights, check_weights
from lkmongo.errors import LkmongoError
from lkmongo.model import Fact, Passage
from lkmongo.search.exact import Hit, TextIndex, ranks_of
from lkmongo.search.strategy import memory_of, memory_text, passage_of, passage_text
from lkmongo.search.words import content_words, stem, words
from lkmongo.store.indexes.definitions import EMBEDDING, KNOWLEDGE_VECTOR, LABEL_WORDS, MEMORIES_TEXT, MEMORIES_VECTOR
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.embed.base import Embedder, FusionWeights

K = TypeVar("K", bound=Any)
T = TypeVar("T", Fact, Passage)
Document = dict[str, Any]
Stage = dict[str, Any]
Scope = Mapping[str, str]
Ranked = list[tuple[K, float]]
QueryVector: TypeAlias = "NDArray[np.float32] | str"
"""A query's vector, of unit length and shape (d,); or its text, if MongoDB makes the vector."""

BRANCH_DEPTH = 30
"""Minimum number of documents that each branch contributes to the fusion."""
RANK_CONSTANT = 60
"""The server's constant."""
CANDIDATES_PER_HIT = 20
"""`numCandidates` per result of an approximate search: the minimum that the manual recommends."""
MAX_CANDIDATES = 10_000
"""The limit of `numCandidates`; a search that would exceed it is exact."""
FUZZY = {"maxEdits": 1, "prefixLength": 2, "maxExpansions": 10}
"""One edit after the first two letters. The default of two edits makes short words match almost anything, and the
variants come from the words of all people."""
_FUZZY_FROM = 5
MAX_WORDS = 24
"""Words per query: each makes up to 22 clauses, and small clusters allow 1,024."""
_SPOKEN_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")

_MEMORY = {"_id": 0, "memory_type": 1, "content": 1, "created_at": 1, "updated_at": 1, "embedding_model": 1}
_PASSAGE = {"_id": 0, "source": 1, "chunk": 1, "title": 1, "content": 1, "updated_at": 1, "embedding_model": 1}
# Without the embedding, which is two thirds of a document's bytes.


_SCALAR_BIAS = 1.5
"""How much too high an index with scalar quantization shows cosines on the mean, times their dimensions. (Measured with
Lucene's quantiser, docs/knowledge.md.)"""


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


def query_words(query: str) -> list[str]:
    """The first 24 distinct words of a query that may cause a match, in lower case.

    Without stop words: the standard analyzer keeps them, and "what is my" would match most documents.
    """
    wanted = set(content_words(query)[0])
    spoken = dict.fromkeys(word.casefold() for word in _SPOKEN_WORD.findall(query))
    return [word for word in spoken if any(stem(part) in wanted for part in words(word))][:MAX_WORDS]


def memories_by_vector(scope: Scope, vector: QueryVector, model: str, depth: int) -> list[Stage]:
    """Stages for up to `depth` slots of a person, nearest first, with `score` (1 + cosine) / 2."""
    return [*_near_memories(scope, vector, model, depth), {"$project": _scored(_MEMORY, "vectorSearchScore")}]


def memories_by_text(scope: Scope, terms: Sequence[str], depth: int) -> list[Stage]:
    """Stages for up to `depth` slots of a person by the words of label and content, best first, with a BM25 `score`."""
    return [*_worded_memories(scope, terms, depth), {"$project": _scored(_MEMORY, "searchScore")}]


def memories_by_both(
    scope: Scope,
    vector: QueryVector,
    terms: Sequence[str],
    model: str,
    weights: FusionWeights,
    depth: int,
) -> list[Stage]:
    """Stages for both branches and their fusion; `details` has the rank and the score in each branch.

    They return all results of both branches, because the embedder's floor is applied afterwards.
    """
    pipelines = {
        "vector": _near_memories(scope, vector, model, depth),
        "text": _worded_memories(scope, terms, depth),
    }
    fusion = {
        "input": {"pipelines": pipelines},
        "combination": {"weights": weights.by_branch()},
        "scoreDetails": True,
    }
    shown = _MEMORY | {"details": {"$meta": "scoreDetails"}}
    return [{"$rankFusion": fusion}, {"$limit": 2 * depth}, {"$project": shown}]


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


def _worded_memories(scope: Scope, terms: Sequence[str], depth: int) -> list[Stage]:
    paths = [LABEL_WORDS, "content"]
    should: list[Stage] = [{"text": {"query": list(terms), "path": paths}}]
    # An exact match scores in both clauses, and so above a fuzzy one.
    if near := [word for word in terms if len(word) >= _FUZZY_FROM and word.isalpha()]:
        should.append({"text": {"query": near, "path": paths, "fuzzy": FUZZY}})
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible hit: the text for its text branch, and whether it has a comparable vector."""

    text: str
    embedded: bool


@dataclass(frozen=True, slots=True)
class Branches(Generic[K]):
    """What the indexes returned: (key, score) of each branch, best first.

    Attributes:
        near: by cosine.
        worded: by BM25; None without a text index, then the candidates are scored here.
        candidates: the documents of both branches.
    """

    near: Ranked[K]
    worded: Ranked[K] | None
    candidates: Mapping[K, Candidate]


@dataclass(frozen=True, slots=True)
class RecentDocuments(Generic[K]):
    """Documents read from the collection; `vectors` has the comparable ones, of unit length."""

    candidates: Mapping[K, Candidate]
    vectors: Mapping[K, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Fused(Generic[K]):
    """One document after fusion; `ranks` holds its rank in each branch that returned it."""

    key: K
    score: float
    ranks: Mapping[str, int]


def fuse(
    branches: Mapping[str, Sequence[tuple[K, Any]]],
    weights: Mapping[str, float] | None = None,
) -> list[Fused[K]]:
    """Merge ranked lists into one.

    Args:
        branches: `(key, value)` pairs by name, best first; the value is the sort criterion, so that ties share a
            rank. Keys must be sortable.
        weights: a factor for each branch, 1 by default.

    Raises:
        ValueError: a weight is negative, not a number, or names no branch.
    """
    factors = dict(weights or {})
    check_weights(factors)
    if unknown := sorted(set(factors) - set(branches)):
        raise ValueError(f"the weight {unknown[0]!r} names none of the branches {', '.join(sorted(branches))}")
    scores: dict[K, float] = {}
    ranks: dict[K, dict[str, int]] = {}
    for name in sorted(branches):  # the server's order, on which the last bit of a sum depends
        factor = factors.get(name, 1.0)
        for (key, _), rank in zip(branches[name], ranks_of(branches[name]), strict=True):
            scores[key] = scores.get(key, 0.0) + factor * (1.0 / (RANK_CONSTANT + rank))
            ranks.setdefault(key, {})[name] = rank
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Fused(key, score, ranks[key]) for key, score in ordered]


def merge(
    branches: Branches[K],
    recent: RecentDocuments[K],
    query: str,
    query_vector: NDArray[np.float32] | None,
    weights: FusionWeights,
    floor: float,
    depth: int,
) -> list[Hit[K]]:
    """Fuse both branches.

    Args:
        branches: of the indexes.
        recent: replaces what the indexes returned for these documents.
        query: the text.
        query_vector: of unit length, shape (d,); None searches by words alone.
        weights: of the two branches.
        floor: a cosine below this counts as none.
        depth: how many documents of each branch take part.
    """
    candidates = {**branches.candidates, **recent.candidates}
    near = [(key, cosine) for key, cosine in branches.near if key not in recent.candidates]
    if query_vector is not None and recent.vectors:
        near += [(key, float(vector @ query_vector)) for key, vector in recent.vectors.items()]
        near.sort(key=lambda entry: (-entry[1], entry[0]))
    # Ranks say nothing about distance, so the floor is applied before ranking.
    near = [(key, cosine) for key, cosine in near[:depth] if cosine >= floor]
    worded = _worded(branches.worded, candidates, recent, query, beside_vectors=query_vector is not None)[:depth]
    hits = [
        Hit(found.key, found.score, found.ranks.get("vector"), found.ranks.get("text"))
        for found in fuse({"vector": near, "text": worded}, weights.by_branch())
    ]
    if near:
        hits = without_handicap(hits, weights, lambda key: candidates[key].embedded)
    return hits


def without_handicap(hits: Sequence[Hit[K]], weights: FusionWeights, has_vector: Callable[[K], bool]) -> list[Hit[K]]:
    """Let words count for both branches if a document has no vector.

    A slot written a moment ago has none yet, and would otherwise rank below every vague neighbour.
    """
    fair = [
        hit
        if hit.text_rank is None or has_vector(hit.key)
        else replace(hit, score=(weights.vector + weights.text) / (RANK_CONSTANT + hit.text_rank))
        for hit in hits
    ]
    return sorted(fair, key=lambda hit: (-hit.score, hit.key))


def _worded(
    worded: Ranked[K] | None,
    candidates: Mapping[K, Candidate],
    recent: RecentDocuments[K],
    query: str,
    *,
    beside_vectors: bool,
) -> Ranked[K]:
    """The text branch: what `ExactIndex` would find, in the order of the text index if that has all of them."""
    keys = sorted(candidates)
    bare = {place for place, key in enumerate(keys) if not candidates[key].embedded} if beside_vectors else None
    found = TextIndex([candidates[key].text for key in keys]).search(query, len(keys), spared=bare)
    scored = [(keys[place], score) for place, score in found]
    if worded is None or any(key in recent.candidates for key, _ in scored):
        return scored
    fitting = {key for key, _ in scored}
    return [(key, score) for key, score in worded if key in fitting]


@dataclass(frozen=True, slots=True)
class SearchTarget(Generic[T]):
    """A searched collection, and how to read its documents."""

    collection: str
    vector_index: str
    fields: tuple[str, ...]
    key: Callable[[Document], Any]
    item: Callable[[Document], T]
    text: Callable[[T], str]


MEMORY = SearchTarget(
    MEMORIES,
    MEMORIES_VECTOR,
    ("memory_type", "content", "created_at", "updated_at", "embedding_model"),
    lambda document: document["memory_type"],
    memory_of,
    memory_text,
)
PASSAGE = SearchTarget(
    KNOWLEDGE,
    KNOWLEDGE_VECTOR,
    ("source", "chunk", "title", "content", "updated_at", "embedding_model"),
    lambda document: (document["source"], document["chunk"]),
    passage_of,
    passage_text,
)


@dataclass(slots=True)
class Answer:
    """The results of the indexes; a branch is None if it was not sent or failed, see `problems`."""

    near: Ranked[Any] | None = None
    worded: Ranked[Any] | None = None
    documents: dict[Any, Document] = field(default_factory=dict)
    problems: dict[str, LkmongoError] = field(default_factory=dict)

    def take(self, branch: str, rows: Sequence[Document], target: SearchTarget[Any]) -> None:
        """Add the rows of one branch, best first, each with a `score`."""
        keyed = [(target.key(row), row) for row in rows]
        self.documents |= dict(keyed)
        if branch == "vector":
            self.near = [(key, cosine(row["score"])) for key, row in keyed]
        else:
            self.worded = [(key, row["score"]) for key, row in keyed]


def cosine(score: float) -> float:
    """The cosine that a `vectorSearchScore`, (1 + cosine) / 2, was made from."""
    return 2 * score - 1


def answer_from_score_details(rows: Iterable[Document], target: SearchTarget[Any]) -> Answer:
    """Extract both branches from the `scoreDetails` of `$rankFusion`. Raises KeyError if they lack the scores."""
    branches: dict[str, list[tuple[int, Document]]] = {"vector": [], "text": []}
    for row in rows:
        for name, detail in _details_by_branch(row["details"]["details"]):
            rank = detail["rank"]
            if isinstance(rank, int | float) and rank >= 1:  # "NA", or 0 on older servers, where it is not a hit
                branches[name].append((int(rank), {**row, "score": detail["value"]}))
    answer = Answer()
    for name, ranked in branches.items():
        answer.take(name, [row for _, row in sorted(ranked, key=lambda entry: entry[0])], target)
    return answer


def _details_by_branch(details: Any) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """The detail of each branch: a list, or as older servers have it an object by the names of the branches."""
    if isinstance(details, Mapping):
        return details.items()
    return [(detail["inputPipelineName"], detail) for detail in details]


def text_index_missed(answer: Answer, words: Sequence[str], since: datetime, target: SearchTarget[Any]) -> bool:
    """Whether the text branch found nothing although an indexed document contains a word of the query.

    A text index that is missing, or that lacks the mapping of a scope, finds nothing without an error. The results of
    the vector branch are a sample to detect that; documents written after `since` may not be indexed yet.
    """
    if answer.worded != [] or not answer.near:
        return False
    plain = {word for word in words if word.isalpha() and len(word) > 2}
    return any(
        plain & _whole_words(target.text(target.item(document)))
        for document in answer.documents.values()
        if (moment := document.get("updated_at")) and moment < since
    )


def _whole_words(text: str) -> set[str]:
    """The words that any analyzer would find: split at spaces, without surrounding punctuation."""
    return {word.strip(string.punctuation).casefold() for word in text.split()}
