"""What fusion by ranks and by scores finds where Atlas searches, beside the exact strategy: memories and passages.

    python -m benchmarks.retrieval_atlas [--from FOLDER] [--cache FOLDER] [--write]

The sets are those of `benchmarks/retrieval_public.py`, each scope once as one person's memories and once as one
tenant's passages. The indexes' answers are computed here: all cosines, or the nearest, and BM25 of stemmed words. Atlas
cuts words by its own rules and counts them over all people, so by ranks it finds less than this, not more; by scores,
its text index only adds what has no vector. `--write` puts the table into docs/retrieval.md.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.public_data import Files
from benchmarks.retrieval_public import AMONG, DEFAULT_CACHE, PAGE, Asked, Loaded, Searchable, load
from lkmongo.embed.base import FusionWeights
from lkmongo.embed.local import LocalEmbedder
from lkmongo.search.atlas_answers import (
    Answer,
    Branches,
    Candidate,
    RecentDocuments,
    ScopeCentre,
    merge,
    merge_by_scores,
)
from lkmongo.search.atlas_queries import BRANCH_DEPTH, CANDIDATE_PASSAGES, WHOLE_SCOPE
from lkmongo.search.exact import ExactIndex, TextIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUESTIONS = 60
"""Of a set, evenly spread."""
WEIGHTS, FLOOR = LocalEmbedder.weights, LocalEmbedder.floor
GUIDE = FusionWeights(vector=0.7, text=0.3)
_NEW: RecentDocuments[int] = RecentDocuments({}, {})
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
Find = Callable[["Scope", Asked], list[int]]


class Scope:
    """A scope as Atlas has it, and as the exact strategy has it."""

    def __init__(self, searchable: Searchable) -> None:
        assert searchable.vectors is not None
        self.texts = dict(enumerate(searchable.texts))
        self.vectors: NDArray[np.float32] = searchable.vectors
        self.exact: ExactIndex[int] = searchable.build()
        self.words = TextIndex(searchable.texts)
        documents = dict(enumerate(self.vectors))
        self.centre = ScopeCentre.of(documents, _LONG_AGO) if len(documents) <= WHOLE_SCOPE else None

    def near(self, asked: Asked, count: int) -> list[tuple[int, float]]:
        """The vector branch: the nearest, with their cosines."""
        cosines = self.vectors @ asked.vector
        return [(int(place), float(cosines[place])) for place in np.argsort(-cosines, kind="stable")[:count]]

    def by_ranks(self, asked: Asked, weights: FusionWeights) -> list[int]:
        """As memories are found with `$rankFusion`."""
        near, worded = self.near(asked, BRANCH_DEPTH), self.words.search(asked.text, BRANCH_DEPTH)
        found = {place: Candidate(self.texts[place], embedded=True) for place, _ in (*near, *worded)}
        hits = merge(Branches(near, worded, found), _NEW, asked.text, asked.vector, weights, FLOOR, BRANCH_DEPTH)
        return [hit.key for hit in hits]

    def by_scores(self, asked: Asked, count: int, centre: ScopeCentre | None) -> list[int]:
        """As memories are found with `$scoreFusion`, and passages by scores."""
        near = self.near(asked, count)
        answer = Answer(near, documents={place: {"updated_at": None} for place, _ in near})
        texts = {place: self.texts[place] for place, _ in near}
        hits = merge_by_scores(answer, _NEW, texts, asked.text, asked.vector, WEIGHTS, FLOOR, AMONG[-1], centre)
        return [hit.key for hit in hits]

    def passages_by_ranks(self, asked: Asked) -> list[int]:
        """As passages are found by ranks: the words are those of the nearest."""
        near = self.near(asked, BRANCH_DEPTH)
        found = {place: Candidate(self.texts[place], embedded=True) for place, _ in near}
        hits = merge(Branches(near, None, found), _NEW, asked.text, asked.vector, WEIGHTS, FLOOR, BRANCH_DEPTH)
        return [hit.key for hit in hits]


def exactly(scope: Scope, asked: Asked) -> list[int]:
    """As the exact strategy finds them."""
    return [hit.key for hit in scope.exact.search(asked.text, asked.vector, AMONG[-1], WEIGHTS, FLOOR)]


WAYS: dict[str, Find] = {
    "exact": exactly,
    "memories, scores": lambda scope, asked: scope.by_scores(asked, WHOLE_SCOPE, scope.centre),
    "... centre not known": lambda scope, asked: scope.by_scores(asked, WHOLE_SCOPE, None),
    "memories, ranks": lambda scope, asked: scope.by_ranks(asked, WEIGHTS),
    "... 0.7 / 0.3": lambda scope, asked: scope.by_ranks(asked, GUIDE),
    "passages, scores": lambda scope, asked: scope.by_scores(asked, CANDIDATE_PASSAGES, None),
    "passages, ranks": Scope.passages_by_ranks,
}


def measure(loaded: Loaded) -> dict[str, tuple[list[float], float]]:
    """By way: the share of the evidence among 1, 5 and 10, and how many of the exact first five are among its own."""
    every = max(1, loaded.questions // QUESTIONS)
    shares: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    same: dict[str, list[float]] = {way: [] for way in WAYS}
    number = 0
    for each in loaded.scopes:
        scope = Scope(each)
        for asked in each.asked:
            number += 1
            if number % every:
                continue
            first = set(exactly(scope, asked)[:5])
            for way, find in WAYS.items():
                keys = find(scope, asked)
                shares[way].append([len(asked.evidence & set(keys[:among])) / len(asked.evidence) for among in AMONG])
                same[way].append(len(first & set(keys[:5])) / len(first) if first else 1.0)
    return {way: (np.mean(shares[way], axis=0).tolist(), float(np.mean(same[way]))) for way in WAYS}


def table(sets: Sequence[Loaded]) -> str:
    """A row for each set, and their mean: evidence among 1, 5 and 10, and in brackets the overlap of the first five."""
    rows = ["| set | " + " | ".join(WAYS) + " |", "|---" * (len(WAYS) + 1) + "|"]
    found = {}
    for loaded in sets:
        found[loaded.name] = measure(loaded)
        rows.append(_row(loaded.name, found[loaded.name]))
        print(rows[-1], flush=True)
    mean = {
        way: (
            np.mean([each[way][0] for each in found.values()], axis=0).tolist(),
            float(np.mean([each[way][1] for each in found.values()])),
        )
        for way in WAYS
    }
    return "\n".join([*rows, _row("**mean**", mean)])


def _row(name: str, figures: dict[str, Any]) -> str:
    cells = [
        " / ".join(f"{share:.3f}" for share in shares) + (f" ({same:.2f})" if way != "exact" else "")
        for way, (shares, same) in figures.items()
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path, help="a folder of repositories, named owner+name")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where fetched files are kept")
    parser.add_argument("--write", action="store_true", help="put the table into docs/retrieval.md")
    options = parser.parse_args()
    sets = asyncio.run(load(LocalEmbedder(), Files(options.folder, options.cache)))
    made = table([loaded for loaded in sets if loaded.source != "own"])
    print(f"\n{made}")
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        begin, end = "<!-- atlas -->\n", "<!-- end of atlas -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        PAGE.write_text(f"{head}{begin}\n{made}\n\n{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
