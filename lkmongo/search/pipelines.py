"""The aggregations of the Atlas strategy, as pure functions: what is sent can be read, compared and tested.

In every one of them the scope stands twice: in the search stage, where the index keeps other people's documents from
taking the places of one's own, and in a `$match` behind it, because an index is as old as its last update while the
documents behind it are as they are now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lkmongo.search.exact import BRANCH_DEPTH
from lkmongo.search.words import content_words, stem, words
from lkmongo.store.search_schema import EMBEDDING, KNOWLEDGE_VECTOR, LABEL_WORDS, MEMORIES_TEXT, MEMORIES_VECTOR

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lkmongo.search.fusion import FusionWeights

Stage = dict[str, Any]
Scope = Mapping[str, str]

CANDIDATES_PER_HIT = 20
"""How many neighbours an approximate search looks at for each that it returns: what the manual recommends at least."""
MAX_CANDIDATES = 10_000
"""The most that `numCandidates` may be; a search for so many that it would be more is exact."""
FUZZY = {"maxEdits": 1, "prefixLength": 2, "maxExpansions": 10}
"""One letter wrong, missing, too many or swapped, behind the first two. Without bounds the default of two edits makes
short words match almost anything, and the variants are drawn from the words of all people."""
_FUZZY_FROM = 5
MAX_WORDS = 24
"""Words of a question that are looked up: each is up to 22 clauses, and small clusters allow 1,024 in a query."""
_SPOKEN_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")

_MEMORY = {"_id": 0, "memory_type": 1, "content": 1, "created_at": 1, "updated_at": 1, "embedding_model": 1}
_PASSAGE = {"_id": 0, "source": 1, "chunk": 1, "title": 1, "content": 1, "updated_at": 1, "embedding_model": 1}
# The embedding is two thirds of a document's bytes, and nobody reads it.


def depth_for(limit: int) -> int:
    """How many documents each branch hands to the fusion when `limit` are wanted."""
    return max(BRANCH_DEPTH, limit)


def question_words(query: str) -> list[str]:
    """The first 24 words of a question that may cause a match, in lower case, each once.

    Stop words are left out: the standard analyzer has none, and "what is my" would match what most people have.
    """
    wanted = set(content_words(query)[0])
    spoken = dict.fromkeys(word.casefold() for word in _SPOKEN_WORD.findall(query))
    return [word for word in spoken if any(stem(part) in wanted for part in words(word))][:MAX_WORDS]


def memories_by_vector(scope: Scope, vector: NDArray[np.float32], model: str, depth: int) -> list[Stage]:
    """A person's slots by meaning: up to `depth`, nearest first, each with its `score`, (1 + cosine) / 2."""
    return [*_near_memories(scope, vector, model, depth), {"$project": _scored(_MEMORY, "vectorSearchScore")}]


def memories_by_text(scope: Scope, found_words: Sequence[str], depth: int) -> list[Stage]:
    """A person's slots by the words of label and content: up to `depth`, best first, each with its BM25 `score`."""
    return [*_worded_memories(scope, found_words, depth), {"$project": _scored(_MEMORY, "searchScore")}]


def memories_by_both(
    scope: Scope,
    vector: NDArray[np.float32],
    found_words: Sequence[str],
    model: str,
    weights: FusionWeights,
    depth: int,
) -> list[Stage]:
    """Both branches and their fusion in one round trip; `details` has the rank and the score in each branch.

    All of both branches is returned, not only the best: the floor of the embedder is applied to what comes back.
    """
    pipelines = {
        "vector": _near_memories(scope, vector, model, depth),
        "text": _worded_memories(scope, found_words, depth),
    }
    fusion = {
        "input": {"pipelines": pipelines},
        "combination": {"weights": weights.by_branch()},
        "scoreDetails": True,
    }
    shown = _MEMORY | {"details": {"$meta": "scoreDetails"}}
    return [{"$rankFusion": fusion}, {"$limit": 2 * depth}, {"$project": shown}]


def knowledge_by_vector(scope: Scope, vector: NDArray[np.float32], model: str, depth: int) -> list[Stage]:
    """A tenant's passages by meaning: up to `depth`, nearest first, each with its `score`, (1 + cosine) / 2."""
    candidates = CANDIDATES_PER_HIT * depth
    how: Stage = {"exact": True} if candidates > MAX_CANDIDATES else {"numCandidates": candidates}
    return [
        _vector_stage(KNOWLEDGE_VECTOR, scope, vector, depth, how),
        {"$match": {**scope, "embedding_model": model}},
        {"$project": _scored(_PASSAGE, "vectorSearchScore")},
    ]


def _near_memories(scope: Scope, vector: NDArray[np.float32], model: str, depth: int) -> list[Stage]:
    # A person has at most 10,000 slots. Up to there the manual recommends to compare them all, and it misses none.
    return [
        _vector_stage(MEMORIES_VECTOR, scope, vector, depth, {"exact": True}),
        # A slot that was written anew has lost its vector and its model; the index may not know that yet.
        {"$match": {**scope, "embedding_model": model}},
    ]


def _worded_memories(scope: Scope, found_words: Sequence[str], depth: int) -> list[Stage]:
    paths = [LABEL_WORDS, "content"]
    should: list[Stage] = [{"text": {"query": list(found_words), "path": paths}}]
    # A word that is there as it was said scores in both clauses, and so above its neighbours.
    if near := [word for word in found_words if len(word) >= _FUZZY_FROM and word.isalpha()]:
        should.append({"text": {"query": near, "path": paths, "fuzzy": FUZZY}})
    compound = {
        "filter": [{"equals": {"path": path, "value": value}} for path, value in scope.items()],
        "should": should,
        "minimumShouldMatch": 1,  # beside a filter it is 0, and everything that the person has would match
    }
    search = {"$search": {"index": MEMORIES_TEXT, "compound": compound}}
    return [search, {"$match": dict(scope)}, {"$limit": depth}]


def _vector_stage(index: str, scope: Scope, vector: NDArray[np.float32], depth: int, how: Stage) -> Stage:
    options = {
        "index": index,
        "path": EMBEDDING,
        "queryVector": vector.tolist(),
        "limit": depth,
        "filter": dict(scope),
    }
    return {"$vectorSearch": options | how}


def _scored(shown: Mapping[str, Any], score: str) -> Stage:
    return {**shown, "score": {"$meta": score}}
