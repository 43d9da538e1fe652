"""How well search finds what is meant: recall@1, recall@5 and MRR of each branch and of both, for an embedder.

    python -m benchmarks.retrieval [--embedder local|voyage|openai] [--rerank stand-in|voyage]

`--rerank` shows instead what reordering the passages gains and costs: with Voyage's model, or over the same HTTP with a
stand-in that counts common words, which says nothing of the model; and with one that is always right, which is the most
that any can gain from as many candidates.

Voyage needs VOYAGE_API_KEY, openai LKMONGO_EMBEDDING_BASE_URL and LKMONGO_EMBEDDING_MODEL. The weights of the fusion
are fitted on one half of the questions and reported on the other. It exits with 1 when the weights that are shipped
do not keep, on the reported half, what they are for: with them, MRR is at least that of the better branch, and
recall@1 and recall@5 are within 0.01 of it.

"vector" is the branch as a search runs it, without neighbours below the embedder's floor; "no floor" shows what the
floor costs, and the share of off-topic questions for which something is found shows what it is for. "text" is a
search by words alone.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.retrieval_sets import QueryEmbedding, Scope, load
from lkmongo.embed.base import FusionWeights
from lkmongo.model import TenantScope
from lkmongo.search.exact import Hit
from lkmongo.search.strategy import passage_text

DEPTH = 30
"""How many hits are looked at for the rank of the right one."""
GRID = tuple(step / 20 for step in range(2, 20))
"""Vector weights that are tried; the text branch has the rest."""
FLOORS = (-1.0, 0.10, 0.12, 0.14, 0.15, 0.16, 0.18, 0.20, 0.25, 0.30, 0.40)
TOLERANCE = 0.01
"""How far recall may stay behind the better branch's."""
Search = Callable[[Scope, QueryEmbedding], Sequence[Hit[Any]]]
Chosen = Callable[[Scope, QueryEmbedding], bool]


@dataclass(frozen=True, slots=True)
class Figures:
    """Over a number of questions: the shares with a right answer first and among five, and the mean of 1 / rank."""

    questions: int
    recall_at_1: float
    recall_at_5: float
    mrr: float

    def __str__(self) -> str:
        """The three figures, as a table shows them."""
        return f"{self.recall_at_1:.3f} | {self.recall_at_5:.3f} | {self.mrr:.3f}"


def measure(scopes: Iterable[Scope], search: Search, chosen: Chosen) -> Figures:
    """Ask the chosen questions."""
    ranks = [
        next((rank for rank, hit in enumerate(search(scope, question), 1) if hit.key in question.answers), None)
        for scope in scopes
        for question in scope.questions
        if chosen(scope, question)
    ]
    count = len(ranks)
    return Figures(
        count,
        sum(rank == 1 for rank in ranks) / count,
        sum(rank is not None and rank <= 5 for rank in ranks) / count,
        sum(1 / rank for rank in ranks if rank) / count,
    )


def fused(weights: FusionWeights, floor: float) -> Search:
    """The search as it is, with these weights and this floor."""
    return lambda scope, asked: scope.index.search(asked.text, asked.vector, DEPTH, weights, floor)


def by_vector(floor: float) -> Search:
    """The vector branch alone: what has no vector rank is left out."""
    whole = fused(FusionWeights(1, 0), floor)
    return lambda scope, asked: [hit for hit in whole(scope, asked) if hit.vector_rank]


def by_text(scope: Scope, asked: QueryEmbedding) -> Sequence[Hit[Any]]:
    """A search without a vector."""
    return scope.index.search(asked.text, None, DEPTH, FusionWeights(0, 1), 0)


def fitting(_scope: Scope, question: QueryEmbedding) -> bool:
    """The half that weights are chosen on."""
    return question.for_fitting


def reported(_scope: Scope, question: QueryEmbedding) -> bool:
    """The other half."""
    return not question.for_fitting


def fit(scopes: Sequence[Scope], floor: float) -> FusionWeights:
    """The weights of the grid with the best MRR on the fitting half; of equals, those that trust words most."""
    grid = [FusionWeights(vector, round(1 - vector, 2)) for vector in GRID]
    return max(grid, key=lambda weights: round(measure(scopes, fused(weights, floor), fitting).mrr, 4))


def shortfalls(both: Figures, *branches: Figures) -> list[str]:
    """What the fusion lacks beside its better branch; nothing when it keeps what it is for."""
    return [
        f"{name} {getattr(both, name):.3f} < {best:.3f}"
        for name, allowed in (("recall_at_1", TOLERANCE), ("recall_at_5", TOLERANCE), ("mrr", 0.0))
        for best in [max(getattr(branch, name) for branch in branches) - allowed]
        if getattr(both, name) < best - 1e-9
    ]


def finds_off_topic(scopes: Iterable[Scope], search: Search) -> float:
    """The share of off-topic questions, asked in each scope, for which anything is found."""
    answers = [bool(search(scope, asked)) for scope in scopes for asked in scope.off_topic]
    return sum(answers) / len(answers)


async def report(kind: str) -> int:
    """Print every table; return the exit code."""
    from lkmongo.embed.choose import embedder_for
    from lkmongo.settings import Settings

    embedder = embedder_for(Settings.load().model_copy(update={"embeddings": kind}))
    try:
        await embedder.warm()
        scopes = await load(embedder)
    finally:
        await embedder.close()
    floor, shipped, fitted = embedder.floor, embedder.weights, fit(scopes, embedder.floor)
    documents = sum(len(scope.index) for scope in scopes)
    questions = sum(len(scope.questions) for scope in scopes)
    print(f"Embedder {embedder.model}, floor {floor}: {questions} questions on {documents} memories and passages.")
    print(f"Shipped: vector {shipped.vector}, text {shipped.text}. Fitted: vector {fitted.vector}, text {fitted.text}.")
    searches: dict[str, Search] = {
        "vector, no floor": by_vector(-1),
        "vector": by_vector(floor),
        "text": by_text,
        "fused, shipped": fused(shipped, floor),
    }
    if fitted != shipped:
        searches["fused, fitted"] = fused(fitted, floor)
    lacks = _halves(scopes, searches)
    _floors(scopes, shipped)
    print("\n" + ("Fusion keeps what it is for." if not lacks else "Fusion falls short: " + "; ".join(lacks)))
    return 1 if lacks else 0


def _halves(scopes: Sequence[Scope], searches: dict[str, Search]) -> list[str]:
    lacks: list[str] = []
    for title, half in (("the reported half", reported), ("the half that was fitted on", fitting)):
        for name, kinds in (
            ("all", {"memories", "knowledge"}),
            ("memories", {"memories"}),
            ("knowledge", {"knowledge"}),
        ):
            among = [scope for scope in scopes if scope.kind in kinds]
            figures = {label: measure(among, search, half) for label, search in searches.items()}
            print(f"\n{name}, {title}, {figures['text'].questions} questions\n")
            print("| search | recall@1 | recall@5 | MRR |\n|---|---|---|---|")
            for label, each in figures.items():
                print(f"| {label} | {each} |")
            if half is reported:
                found = shortfalls(figures["fused, shipped"], figures["vector"], figures["text"])
                lacks += [f"{name}: {each}" for each in found]
    return lacks


def _floors(scopes: Sequence[Scope], weights: FusionWeights) -> None:
    print("\nFloors, on the half that was fitted on, with the shipped weights\n")
    print(
        "| floor | recall@1 | recall@5 | MRR | off-topic, memories | off-topic, knowledge |\n|---|---|---|---|---|---|"
    )
    for floor in FLOORS:
        search = fused(weights, floor)
        off = (
            finds_off_topic([scope for scope in scopes if scope.kind == kind], search)
            for kind in ("memories", "knowledge")
        )
        name = "none" if floor < 0 else f"{floor:.2f}"
        print(f"| {name} | {measure(scopes, search, fitting)} | " + " | ".join(f"{share:.2f}" for share in off) + " |")


CANDIDATE_COUNTS = (10, 20, 30)
PRICE = 0.02
"""Dollars for a million tokens of `rerank-2.5-lite`. (MongoDB Vector Search documentation, `$rerank`.)"""
_TOKEN = 4  # characters


async def reranking(kind: str, model: str) -> None:
    """Print what reranking passages gains and costs."""
    from lkmongo.embed.choose import embedder_for
    from lkmongo.search.rerank import VoyageReranker
    from lkmongo.settings import Settings
    from lkmongo.store.seed.seeds import default_seed_folder, load_seeds
    from tests.rerank_server import KEY, rerank_server

    settings = Settings.load().model_copy(update={"embeddings": kind})
    embedder = embedder_for(settings)
    scopes = [scope for scope in await load(embedder) if scope.kind == "knowledge"]
    await embedder.close()
    passages = {(t.tenant_id, p.source, p.chunk): p for t, p in load_seeds(default_seed_folder()).passages}
    search = fused(embedder.weights, embedder.floor)
    async with rerank_server() as server:
        real = settings.voyage_api_key.get_secret_value() if settings.voyage_api_key else ""
        key, url = (real, settings.voyage_base_url) if model == "voyage" else (KEY, server.url)
        reranker = VoyageReranker(key, url)
        print(f"Embedder {embedder.model}, reranked by {model}, among the first {CANDIDATE_COUNTS} of the search\n")
        print("| order | recall@1 | recall@3 | MRR | tokens a search | dollars for 1,000 |\n|---|---|---|---|---|---|")
        print(f"| of the search | {_reordered(scopes, search, {}, 0)} | 0 | 0 |")
        for count in CANDIDATE_COUNTS:
            orders: dict[tuple[str, str], list[Any]] = {}
            tokens = []
            for scope in scopes:
                for asked in scope.questions:
                    keys = [hit.key for hit in search(scope, asked)][:count]
                    found = [passages[scope.name, *each] for each in keys]
                    if len(found) < 2:
                        continue
                    scores = await reranker.relevance(TenantScope(scope.name), asked.text, found, 60)
                    places = sorted(range(len(keys)), key=lambda place: -scores[place])
                    orders[scope.name, asked.text] = [keys[place] for place in places]
                    read = sum(len(passage_text(passage)) for passage in found) + len(asked.text) * len(found)
                    tokens.append(read / _TOKEN)
            spent = sum(tokens) / len(tokens)
            cost = f"{spent:,.0f} | {spent / 1e6 * PRICE * 1_000:.3f}"
            print(f"| {model}, {count} candidates | {_reordered(scopes, search, orders, count)} | {cost} |")
            print(f"| always right, {count} candidates | {_reordered(scopes, search, None, count)} | | |")
        await reranker.close()


def _reordered(
    scopes: Sequence[Scope], search: Search, orders: dict[tuple[str, str], list[Any]] | None, count: int
) -> str:
    """Recall among 1 and 3, and MRR, with the first hits in another order; with None in the best one there is."""
    ranks = []
    for scope in scopes:
        for asked in scope.questions:
            keys = [hit.key for hit in search(scope, asked)]
            if orders is None:
                first = sorted(keys[:count], key=lambda key: key not in asked.answers)
            else:
                first = orders.get((scope.name, asked.text), keys[:count])
            keys = [*first, *keys[count:]]
            ranks.append(next((rank for rank, key in enumerate(keys, 1) if key in asked.answers), 0))
    shares = [sum(0 < rank <= among for rank in ranks) / len(ranks) for among in (1, 3)]
    return " | ".join(f"{share:.3f}" for share in (*shares, sum(1 / rank for rank in ranks if rank) / len(ranks)))


def main() -> None:
    """Measure the embedder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", choices=("local", "voyage", "openai"), default="local", help="whose vectors")
    parser.add_argument("--rerank", choices=("stand-in", "voyage"), help="measure reranking, by whom")
    options = parser.parse_args()
    if options.rerank:
        asyncio.run(reranking(options.embedder, options.rerank))
    else:
        sys.exit(asyncio.run(report(options.embedder)))


if __name__ == "__main__":
    main()
