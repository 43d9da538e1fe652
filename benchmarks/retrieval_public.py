"""How much of the evidence is found among 1, 5 and 10 hits, on public sets: words, vectors, and both.

    python -m benchmarks.retrieval_public [--from FOLDER] [--cache FOLDER] [--write] [--before]

The sets are fetched from GitHub at fixed commits and cached outside the repository, or read from a folder of
repositories that are there already; `benchmarks/public_data.py` names them and their licences. Nothing of them is kept
here but the figures.

Each set is reported twice: with what is shipped, and with the constants that are best on the sets of all other
sources, so that no set is reported with what was fitted on it. Some more sets are only reported. `--write` puts the
tables into docs/retrieval.md; `--before` keeps the figures as those of an earlier release, to run with its code.
"""
# ruff: noqa: SLF001 - what is fitted or left out here is private there

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from benchmarks import retrieval_sets
from benchmarks.public_data import OTHER_SETS, PUBLIC_SETS, Files, PublicScope, PublicSet
from lkmongo.embed.base import FusionWeights
from lkmongo.embed.local import LocalEmbedder
from lkmongo.search import exact, words
from lkmongo.search.exact import ExactIndex, TextIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

AMONG = (1, 5, 10)
Recall = tuple[float, float, float]
BEFORE = retrieval_sets.DATA / "public_before.json"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "retrieval.md"
DEFAULT_CACHE = Path.home() / ".cache" / "lkmongo-benchmarks"
FITTED_ON = 150
"""Questions of a set that constants are chosen on, evenly spread."""
_RARE = (150, 230, 300)
_UNEVEN = (100, 125, 150)
_VECTOR_WEIGHTS = (0.2, 0.25, 0.3)
GRID = tuple(itertools.product(_RARE, _UNEVEN, _VECTOR_WEIGHTS))
"""Constants that are tried, all around those that are shipped."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its vector and the keys of its evidence."""

    text: str
    vector: NDArray[np.float32]
    evidence: frozenset[Any]


@dataclass(frozen=True, slots=True)
class Searchable:
    """A scope that can be indexed, with its questions; a public one with its texts and their vectors."""

    build: Callable[[], ExactIndex[Any]]
    asked: tuple[Asked, ...]
    texts: tuple[str, ...] = ()
    vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A set, embedded."""

    name: str
    source: str
    kind: str
    texts: int
    words: float
    scopes: tuple[Searchable, ...]

    @property
    def questions(self) -> int:
        """How many there are."""
        return sum(len(scope.asked) for scope in self.scopes)


async def load(embedder: LocalEmbedder, files: Files) -> list[Loaded]:
    """Read and embed every public set and our own."""
    sets = await load_public(embedder, files, PUBLIC_SETS)
    ours = await retrieval_sets.load(embedder)
    for kind, name in (("memories", "our own: memories"), ("knowledge", "our own: passages")):
        found = [scope for scope in ours if scope.kind == kind]
        searchable = tuple(
            Searchable(
                scope.build,
                tuple(Asked(asked.text, asked.vector, asked.answers) for asked in scope.questions),
            )
            for scope in found
        )
        count = sum(len(scope.index) for scope in found)
        sets.append(Loaded(name, "own", name.split()[-1], count, 8 if kind == "memories" else 71, searchable))
    return sets


async def load_public(embedder: LocalEmbedder, files: Files, public: Sequence[PublicSet]) -> list[Loaded]:
    """Read and embed these."""
    sets = []
    for each in public:
        scopes = [scope for scope in each.read(files.of(each.source)) if scope.questions]
        searchable = tuple([await _embedded(embedder, scope) for scope in scopes])
        texts = [text for scope in scopes for text in scope.texts]
        length = statistics.mean(len(text) / 2 if each.language == "ja" else len(text.split()) for text in texts)
        sets.append(Loaded(each.name, each.source.repository, each.kind, len(texts), length, searchable))
        print(f"{each.name}: {len(texts)} texts in {len(scopes)} scopes, {sets[-1].questions} questions", flush=True)
    return sets


async def _embedded(embedder: LocalEmbedder, scope: PublicScope) -> Searchable:
    async def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.concatenate([rows async for rows in embedder.embed_many(texts)])

    rows = await vectors(scope.texts)
    questions = await vectors([asked.text for asked in scope.questions])
    keys = range(len(scope.texts))
    return Searchable(
        lambda: ExactIndex(keys, scope.texts, rows),
        tuple(
            Asked(asked.text, vector, asked.evidence) for asked, vector in zip(scope.questions, questions, strict=True)
        ),
        scope.texts,
        rows,
    )


Found = Callable[[ExactIndex[Any], Asked, int], Iterable[Any]]


def both(weights: FusionWeights) -> Found:
    """The keys that a search finds with these weights."""
    floor = LocalEmbedder.floor
    return lambda index, asked, limit: [
        hit.key for hit in index.search(asked.text, asked.vector, limit, weights, floor)
    ]


def by_words(index: ExactIndex[Any], asked: Asked, limit: int) -> Iterable[Any]:
    """The keys that words alone find."""
    return [hit.key for hit in index.search(asked.text, None, limit, FusionWeights(0, 1), 0)]


def by_vectors(index: ExactIndex[Any], asked: Asked, limit: int) -> Iterable[Any]:
    """The keys that vectors alone find, those below the floor left out."""
    hits = index.search(asked.text, asked.vector, len(index), FusionWeights(1, 0), LocalEmbedder.floor)
    ranked = sorted((hit.vector_rank, hit.key) for hit in hits if hit.vector_rank)
    return [key for _, key in ranked[:limit]]


def recall(loaded: Loaded, indexes: Sequence[ExactIndex[Any]], find: Found, *, every: int = 1) -> Recall:
    """The mean share of the evidence among the first 1, 5 and 10 hits."""
    shares = []
    number = 0
    for scope, index in zip(loaded.scopes, indexes, strict=True):
        for asked in scope.asked:
            number += 1
            if number % every:
                continue
            keys = list(find(index, asked, AMONG[-1]))
            shares.append([len(asked.evidence & set(keys[:among])) / len(asked.evidence) for among in AMONG])
    first, five, ten = np.mean(shares, axis=0).tolist()
    return first, five, ten


def fit(sets: Sequence[Loaded]) -> dict[tuple[float, ...], dict[str, Recall]]:
    """What every set finds with every constants of the grid, on some of its questions."""
    shipped = exact._RARE, exact._UNEVEN
    found: dict[tuple[float, ...], dict[str, Recall]] = {constants: {} for constants in GRID}
    for loaded in sets:
        every = max(1, loaded.questions // FITTED_ON)
        indexes = [scope.build() for scope in loaded.scopes]
        for rare, uneven, vector in GRID:
            exact._RARE, exact._UNEVEN = rare, uneven
            weights = FusionWeights(vector, 1 - vector)
            found[rare, uneven, vector][loaded.name] = recall(loaded, indexes, both(weights), every=every)
        exact._RARE, exact._UNEVEN = shipped
        print(f"fitted: {loaded.name}", flush=True)
    return found


def best_without(source: str, sets: Sequence[Loaded], found: dict[tuple[float, ...], dict[str, Recall]]) -> Any:
    """The constants with the highest mean recall, sources counting alike, on all sources but one."""
    others = sorted({loaded.source for loaded in sets} - {source})

    def mean(constants: tuple[float, ...]) -> float:
        return statistics.mean(
            statistics.mean(statistics.mean(found[constants][loaded.name]) for loaded in sets if loaded.source == other)
            for other in others
        )

    return max(GRID, key=mean)


def report(sets: Sequence[Loaded]) -> dict[str, dict[str, Any]]:
    """All figures, by the name of the set."""
    found = fit(sets)
    figures: dict[str, dict[str, Any]] = {}
    for loaded in sets:
        rare, uneven, vector = best_without(loaded.source, sets, found)
        indexes = [scope.build() for scope in loaded.scopes]
        figures[loaded.name] = {
            "questions": loaded.questions,
            "texts": loaded.texts,
            "words": loaded.words,
            "by words": recall(loaded, indexes, by_words),
            "by vectors": recall(loaded, indexes, by_vectors),
            "shipped": recall(loaded, indexes, both(LocalEmbedder.weights)),
            "constants": (rare, uneven, vector),
        }
        shipped = exact._RARE, exact._UNEVEN
        exact._RARE, exact._UNEVEN = rare, uneven
        fitted = FusionWeights(vector, 1 - vector)
        figures[loaded.name]["others"] = recall(loaded, indexes, both(fitted))
        exact._RARE, exact._UNEVEN = shipped
        print(loaded.name, {name: _shown(value) for name, value in figures[loaded.name].items()}, flush=True)
    return figures


def before(sets: Sequence[Loaded]) -> dict[str, dict[str, Recall]]:
    """What this release finds, to be compared with later ones."""
    figures = {}
    for loaded in sets:
        indexes = [scope.build() for scope in loaded.scopes]
        ways = {"by words": by_words, "by vectors": by_vectors, "shipped": both(LocalEmbedder.weights)}
        figures[loaded.name] = {way: recall(loaded, indexes, find) for way, find in ways.items()}
        print(loaded.name, {name: _shown(value) for name, value in figures[loaded.name].items()}, flush=True)
    return figures


def table(figures: dict[str, dict[str, Any]], earlier: dict[str, dict[str, Recall]]) -> str:
    """The table of the page: the share of the evidence among 1, 5 and 10 hits."""
    before_and_now = "words before | vectors before | fusion before | words | vectors | fusion, fitted on the others"
    rows = [
        f"| set | texts | words a text | questions | {before_and_now} | fusion, shipped |",
        "|---" * 11 + "|",
    ]
    ways = ("by words", "by vectors", "others", "shipped")
    for name, each in figures.items():
        was = earlier[name]
        cells = [was["by words"], was["by vectors"], was["shipped"], *(each[way] for way in ways)]
        size = f"{each['texts']:,} | {each['words']:.0f} | {each['questions']:,}"
        rows.append(f"| {name} | {size} | " + " | ".join(map(_shown, cells)) + " |")
    cells = [np.mean([was[way] for was in earlier.values()], axis=0) for way in ("by words", "by vectors", "shipped")]
    cells += [np.mean([each[way] for each in figures.values()], axis=0) for way in ways]
    rows.append("| **mean** | | | | " + " | ".join(map(_shown, cells)) + " |")
    return "\n".join(rows)


def others_table(sets: Sequence[Loaded]) -> str:
    """The table of the sets on which nothing is fitted."""
    rows = ["| set | texts | words a text | questions | words | vectors | fusion, shipped |", "|---" * 7 + "|"]
    for loaded in sets:
        indexes = [scope.build() for scope in loaded.scopes]
        ways = (by_words, by_vectors, both(LocalEmbedder.weights))
        cells = " | ".join(_shown(recall(loaded, indexes, find)) for find in ways)
        rows.append(f"| {loaded.name} | {loaded.texts:,} | {loaded.words:.0f} | {loaded.questions:,} | {cells} |")
    return "\n".join(rows)


def sources() -> str:
    """The table of where the sets come from."""
    by_source: dict[Any, list[str]] = {}
    for each in (*PUBLIC_SETS, *OTHER_SETS):
        by_source.setdefault(each.source, []).append(each.name)
    rows = ["| repository | commit | licence of the data | sets |", "|---|---|---|---|"]
    return "\n".join(
        [
            *rows,
            *(
                f"| [{source.repository}](https://github.com/{source.repository}/tree/{source.commit}) "
                f"| `{source.commit[:12]}` | {source.licence} | {'; '.join(names)} |"
                for source, names in by_source.items()
            ),
        ]
    )


def _no_centre(matrix: Any) -> Any:
    return exact.Centre(np.zeros_like(matrix[0]), np.zeros_like(matrix[:, 0]))


RULES: dict[str, tuple[Any, str, Any]] = {
    "words are stemmed": (words, "_snowball", SimpleNamespace(of=lambda _language: lambda word: word)),
    "... in their own language": (exact, "language_of", lambda _texts, _language=None: "en"),
    "stop words of the question do not count": (words, "_listed", lambda _language: frozenset()),
    "unknown words are spelled nearly so": (TextIndex, "_near", lambda *_: []),
    "one word is two ('soundbar')": (TextIndex, "_written_apart", lambda self, *_: np.zeros(self._size, np.float32)),
    "two words are one ('sound bar')": (exact, "MIN_COMPOUND", 1_000),
    "short texts pay less for their length": (exact, "_HALF_LENGTH", 0),
    "vectors count more where lengths differ": (exact, "_UNEVEN", 1e9),
    "the scope's mean is taken from the vectors": (exact.Centre, "of", _no_centre),
    "one word is enough if the vectors are related": (exact, "_KIN", 1.0),
}
"""What is looked at one by one: where the rule lives, and what is there without it."""


def ablation(sets: Sequence[Loaded]) -> str:
    """What each rule is worth: the share of the evidence among five hits, by words alone and by both, without it."""
    groups: dict[str, list[Loaded]] = {}
    for loaded in sets:
        language = loaded.name.partition(", ")[2]
        groups.setdefault(loaded.kind if language in {"", "English"} else language, []).append(loaded)
    groups["our own"] = groups.pop("memories") + groups.pop("passages")

    def row(name: str) -> str:
        cells = []
        for members in groups.values():
            shares = []
            for loaded in members:
                every = max(1, loaded.questions // FITTED_ON)
                indexes = [scope.build() for scope in loaded.scopes]
                found = (recall(loaded, indexes, find, every=every) for find in (by_words, both(LocalEmbedder.weights)))
                shares.append([each[1] for each in found])
            cells.append(" / ".join(f"{share:.3f}" for share in np.mean(shares, axis=0)))
        print(name, cells, flush=True)
        return f"| {name} | " + " | ".join(cells) + " |"

    rows = [
        "| without the rule that | " + " | ".join(groups) + " |",
        "|---" * (len(groups) + 1) + "|",
        row("(all rules)"),
    ]
    for name, (owner, attribute, instead) in RULES.items():
        with mock.patch.object(owner, attribute, instead):
            words._stems.cache_clear()
            rows.append(row(name))
    words._stems.cache_clear()
    return "\n".join(rows)


def timing(sets: Sequence[Loaded], rounds: int = 5) -> str:
    """Processor time of one search over 600 and over 10,000 turns of the sets: of each the least of five rounds."""
    scopes = [scope for loaded in sets if loaded.kind == "turns" for scope in loaded.scopes]
    texts = [text for scope in scopes for text in scope.texts]
    vectors = np.concatenate([scope.vectors for scope in scopes if scope.vectors is not None])
    asked = [each for scope in scopes for each in scope.asked][::10]
    rows = ["| memories | p50 | p95 | index built in |", "|---|---|---|---|"]
    for count in (600, 10_000):
        times = np.empty((rounds, len(asked)))
        built = []
        for number in range(rounds):
            began = time.process_time()
            index = ExactIndex(range(count), texts[:count], vectors[:count])
            built.append(time.process_time() - began)
            for place, each in enumerate(asked):
                began = time.process_time()
                index.search(each.text, each.vector, 5, LocalEmbedder.weights, LocalEmbedder.floor)
                times[number, place] = time.process_time() - began
        p50, p95 = np.percentile(times.min(axis=0), (50, 95)) * 1000
        rows.append(f"| {count:,} | {p50:.2f} ms | {p95:.2f} ms | {min(built) * 1000:.0f} ms |")
    return "\n".join(rows)


def _shown(value: Any) -> Any:
    return " / ".join(f"{share:.3f}" for share in value) if len(np.shape(value)) == 1 and len(value) == 3 else value


async def run(options: argparse.Namespace) -> None:
    """Measure, print, and write what was asked for."""
    embedder, files = LocalEmbedder(), Files(options.folder, options.cache)
    others = await load_public(embedder, files, OTHER_SETS)
    sets = await load(embedder, files)
    if options.before:
        BEFORE.write_text(json.dumps(before(sets), indent=1) + "\n", encoding="utf-8")
        return
    earlier = json.loads(BEFORE.read_text(encoding="utf-8"))
    made: dict[str, Callable[[], str]] = {
        "sets": sources,
        "timing": lambda: timing(sets),
        "ablation": lambda: ablation(sets),
        "recall": lambda: table(report(sets), earlier),
        "others": lambda: others_table(others),
    }
    parts = {name: make() for name, make in made.items() if name in (options.only or made)}
    for name, text in parts.items():
        print(f"\n{text}")
        if options.write:
            page = PAGE.read_text(encoding="utf-8")
            begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
            head, _, rest = page.partition(begin)
            _, _, tail = rest.partition(end)
            PAGE.write_text(f"{head}{begin}\n{text}\n\n{end}{tail}", encoding="utf-8")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path, help="a folder of repositories, named owner+name")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where fetched files are kept")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/retrieval.md")
    parser.add_argument(
        "--only", action="append", choices=("sets", "timing", "ablation", "recall", "others"), help="a table"
    )
    parser.add_argument("--before", action="store_true", help="keep the figures as those of this release")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
