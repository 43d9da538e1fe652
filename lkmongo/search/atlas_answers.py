"""What the Atlas strategy makes of what the indexes return: pure functions without I/O.

An index may lag, so recently written documents are read from the collection, and replace what the index returned for
them. Cosines of both are on one scale and are merged into one branch; BM25 scores are not, so all candidates are
scored again if a recent document matches the words of the query.

By ranks, both branches are fused as `$rankFusion` does it: a document's score is the sum of `weight / (60 + rank)` over
its branches. Ranks begin at 1; equal values share a rank, and the next rank skips. Results are ordered by score, then
by key. (MongoDB manual, `$rankFusion`; the tests have results of a real server.)

By scores, they are fused as the exact strategy does it, by the same code: the indexes compare the vectors and find what
has none; texts are compared here, among those of the scope alone, as the scores of a text index count the words of all
people.
"""

from __future__ import annotations

import string
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from lkmongo.embed.base import FusionWeights, check_weights
from lkmongo.embed.vectors import from_bson
from lkmongo.errors import LkmongoError
from lkmongo.model import Fact, Passage
from lkmongo.search.exact import Centre, ExactIndex, Hit, TextIndex, ranks_of
from lkmongo.search.strategy import memory_of, memory_text, passage_of, passage_text
from lkmongo.search.words import language_of, languages_of
from lkmongo.store.indexes.definitions import EMBEDDING, KNOWLEDGE_VECTOR, MEMORIES_VECTOR
from lkmongo.store.mongo.schema import KNOWLEDGE, MEMORIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

K = TypeVar("K", bound=Any)
T = TypeVar("T", Fact, Passage)
Document = dict[str, Any]
Ranked = list[tuple[K, float]]

RANK_CONSTANT = 60
"""The server's constant."""
_NO_SHARE = 1e-9  # of a fused score, which is a sum of shares of at least 1e-4


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
    texts = [candidates[key].text for key in keys]
    # A few short texts do not tell their language: then it is one of the question's, in which most are found.
    languages = dict.fromkeys(language_of(texts, language) for language in languages_of(query))
    found = max((TextIndex(texts, language=each).search(query, len(keys), spared=bare) for each in languages), key=len)
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


def answer_from_scores(rows: Iterable[Document], target: SearchTarget[Any]) -> Answer:
    """Extract both branches from the `scores` of `$scoreFusion`: none, or 0, where a branch lacks the document.

    Raises:
        KeyError, TypeError: there are no such scores.
    """
    answer = Answer()
    found = list(rows)
    for name in ("vector", "text"):
        scored = [{**row, "score": score} for row in found if isinstance(score := row["scores"].get(name), int | float)]
        branch = sorted((row for row in scored if row["score"] > 0), key=lambda row: -float(row["score"]))
        answer.take(name, branch, target)
    return answer


def answer_from_ranks(
    rows: Iterable[Document],
    target: SearchTarget[Any],
    vector: NDArray[np.float32],
    weights: FusionWeights,
    depth: int,
) -> Answer:
    """Tell both branches from what `$rankFusion` of 8.0 returns: the documents with their fused score and vector.

    The nearest `depth` are the vector branch. What their rank there does not explain of a score is from the text
    branch, and gives the rank in it. If it does not (an index lags behind the documents), the words are looked for
    here.

    Raises:
        KeyError: there is no score.
    """
    found = [(target.key(row), row, from_bson(row.get(EMBEDDING), len(vector))) for row in rows]
    near = [(key, round(float(unit @ vector), 6)) for key, _, unit in found if unit is not None]
    near = sorted(near, key=lambda entry: (-entry[1], entry[0]))[:depth]
    shares = {key: weights.vector / (RANK_CONSTANT + rank) for (key, _), rank in zip(near, ranks_of(near), strict=True)}
    answer = Answer(near, documents={key: row for key, row, _ in found})
    worded: Ranked[Any] = []
    for key, row, _ in found:
        rest = row["score"] - shares.get(key, 0.0)
        if abs(rest) < _NO_SHARE:
            continue
        rank = weights.text / rest - RANK_CONSTANT
        if not (0.5 < rank < depth + 0.5 and abs(rank - round(rank)) < 0.01):
            return answer
        worded.append((key, -float(round(rank))))
    answer.worded = sorted(worded, key=lambda entry: (-entry[1], entry[0]))
    return answer


def text_index_missed(answer: Answer, words: Sequence[str], since: datetime, target: SearchTarget[Any]) -> bool:
    """Whether the text branch found nothing although an indexed document contains a word of the query.

    A text index that is missing finds nothing without an error, and so does one that lacks the mapping of a scope, for
    an id that is a single word. The results of the vector branch are a sample to detect that; documents written after
    `since` may not be indexed yet.
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


@dataclass(frozen=True, slots=True)
class ScopeCentre:
    """The centre of a scope's vectors as it was read once: what fusion by scores needs of them beside their cosines.

    Attributes:
        vector: see `Centre`.
        along: the product with it of each vector, by the key of its document.
        until: documents that changed later have other vectors.
    """

    vector: NDArray[np.float32]
    along: Mapping[Any, float]
    until: datetime

    @classmethod
    def of(cls, vectors: Mapping[Any, NDArray[np.float32]], until: datetime) -> ScopeCentre | None:
        """The centre of vectors of unit length by key; None if there are none."""
        if not vectors:
            return None
        centre = Centre.of(np.array(list(vectors.values()), dtype=np.float32))
        return cls(centre.vector, dict(zip(vectors, centre.along.tolist(), strict=True)), until)

    @classmethod
    def of_too_many(cls, dimensions: int, until: datetime) -> ScopeCentre:
        """The centre of a scope that is not read whole: cosines are compared as they are."""
        return cls(np.zeros(dimensions, dtype=np.float32), {}, until)

    def fits(self, documents: Mapping[Any, Document], beside: AbstractSet[Any], most: int) -> bool:
        """Whether it is of these documents, of which a search returns so many at most.

        But for those that were read `beside` them, none came, went or changed; or there are still too many.
        """
        if not self.along:
            return len(documents) + len(beside) >= most
        return documents.keys() == self.along.keys() - beside and not any(map(self._is_newer, documents.values()))

    def along_of(self, documents: Mapping[Any, Document]) -> list[float]:
        """The product of each document's vector; of one that is not known, the mean."""
        usual = sum(self.along.values()) / max(1, len(self.along))
        return [
            usual if self._is_newer(document) else self.along.get(key, usual) for key, document in documents.items()
        ]

    def _is_newer(self, document: Document) -> bool:
        changed = document.get("updated_at")
        return changed is not None and changed > self.until


class Centres(Generic[K]):
    """The centres of the scopes that were searched last: 2 KB each, and a number for each document."""

    def __init__(self, size: int = 128) -> None:
        """Keep at most `size`."""
        self._size = size
        self._kept: OrderedDict[K, ScopeCentre] = OrderedDict()

    def get(self, scope: K) -> ScopeCentre | None:
        if scope in self._kept:
            self._kept.move_to_end(scope)
        return self._kept.get(scope)

    def keep(self, scope: K, centre: ScopeCentre | None) -> None:
        """Keep the centre of a scope; None forgets it."""
        self._kept.pop(scope, None)
        if centre is not None:
            self._kept[scope] = centre
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)


class _ComparedIndex(ExactIndex[K]):
    """An exact index of texts whose vectors were compared with one query elsewhere."""

    def __init__(self, texts: Mapping[K, str], cosines: Mapping[K, float], closeness: Mapping[K, float]) -> None:
        keys = sorted(texts)
        super().__init__(keys, [texts[key] for key in keys], [None] * len(keys))
        compared = [key for key in keys if key in cosines]
        self._places = np.array([place for place, key in enumerate(keys) if key in cosines], dtype=np.intp)
        self._compared = (
            np.array([cosines[key] for key in compared], dtype=np.float32),
            np.array([closeness[key] for key in compared], dtype=np.float32),
        )

    def _compare(self, _: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._compared


def merge_by_scores(
    answer: Answer,
    recent: RecentDocuments[K],
    texts: Mapping[K, str],
    query: str,
    query_vector: NDArray[np.float32] | None,
    weights: FusionWeights,
    floor: float,
    limit: int,
    centre: ScopeCentre | None,
) -> list[Hit[K]]:
    """Fuse both branches by the rule of `ExactIndex`, with the same result if `answer` has the whole scope.

    Args:
        answer: of the indexes.
        recent: replaces what the indexes returned for these documents.
        texts: of all documents.
        query: the text.
        query_vector: of unit length, shape (d,), or of no length if MongoDB made it; None searches by words alone.
        weights: of the two branches.
        floor: see `ExactIndex.search`.
        limit: maximum number of results.
        centre: of the scope's vectors; None compares them as they are.
    """
    cosines = {key: cosine for key, cosine in answer.near or [] if key not in recent.candidates}
    if query_vector is not None:
        fresh = {key: float(unit @ query_vector) for key, unit in recent.vectors.items() if unit.size}
        closeness = {**cosines, **fresh}
        if centre is not None and closeness:
            known = {key: answer.documents[key] for key in cosines}
            along = centre.along_of(known) + [float(recent.vectors[key] @ centre.vector) for key in fresh]
            values = np.array(list(closeness.values()), dtype=np.float32)
            compared = Centre(centre.vector, np.array(along, dtype=np.float32)).closeness(values, query_vector)
            closeness = dict(zip(closeness, compared.tolist(), strict=True))
        cosines = {**cosines, **fresh}
    else:
        closeness = cosines = {}
    index = _ComparedIndex(texts, cosines, closeness)
    anything = np.ones(1, dtype=np.float32)
    return index.search(query, anything if cosines else None, limit, weights, floor)
