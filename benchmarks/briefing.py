"""How often the briefing holds the memory that a caller's first question is about, and how much it takes.

    python -m benchmarks.briefing [--slots 1000] [--seed 7]

The caller and their questions are invented (`briefing_data`), and embedded with the local embedder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from benchmarks.briefing_data import KINDS, memories, questions
from lkmongo.agent.attention import Attention
from lkmongo.agent.briefing import BUDGET, attend, brief
from lkmongo.agent.slots import Slots
from lkmongo.aio import Background
from lkmongo.embed.base import Embedder
from lkmongo.embed.choose import create_embedder
from lkmongo.model import Fact, Profile, UserScope

SCOPE = UserScope(tenant_id="default", user_id="u-100")


@dataclass(frozen=True, slots=True)
class Result:
    """Shares of the questions whose memory is briefed; memories, characters and milliseconds of a briefing."""

    shares: dict[str, float]
    share: float
    briefed: float
    characters: float
    milliseconds: float


async def measure(count: int, seed: int, embedder: Embedder) -> Result:
    """Brief a caller with so many memories for each question."""
    facts = memories(count, seed)
    background = Background()
    caller = await caller_with(facts, embedder, background)
    held: dict[str, list[bool]] = defaultdict(list)
    sizes, numbers, times = [], [], []
    for question in questions():
        caller.attention.clear()  # each is the first of its call
        began = time.perf_counter()
        await attend(caller, question.text)
        text = brief(caller, question.text)
        times.append((time.perf_counter() - began) * 1000)
        briefed = labels_in(text)
        held[question.kind].append(question.label in briefed)
        sizes.append(len(text))
        numbers.append(len(briefed))
    await background.cancel()
    every = [each for some in held.values() for each in some]
    return Result(
        {kind: sum(held[kind]) / len(held[kind]) for kind in KINDS if held[kind]},
        sum(every) / len(every),
        sum(numbers) / len(numbers),
        sum(sizes) / len(sizes),
        sorted(times)[len(times) // 2],
    )


async def caller_with(facts: Sequence[Fact], embedder: Embedder, background: Background) -> Any:
    """A known caller with these memories and their vectors, without a database."""
    slots = Slots(embedder)
    slots.replace_all({fact.memory_type: fact for fact in facts})
    vectors = await embedder.embed([fact.embedded_text for fact in facts], kind="document")
    for fact, vector in zip(facts, vectors, strict=True):
        slots.add_vector(fact, vector)
    attention = Attention(slots, embedder, background)
    return SimpleNamespace(
        status="known",
        profile=Profile(SCOPE),
        slots=slots.all,
        attention=attention,
        relevant=attention.relevant,
        consent=SimpleNamespace(sentence=""),
        trust="",
    )


def labels_in(text: str) -> set[str]:
    """The labels of the memories in a briefing."""
    data = json.loads(text.split("<caller_data>\n")[1].split("\n</caller_data>", maxsplit=1)[0])
    return set(data.get("memories", {}))


async def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slots", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    embedder = create_embedder("local")
    result = await measure(options.slots, options.seed, embedder)
    await embedder.close()
    print(f"{options.slots:,} memories, {len(questions())} first questions, seed {options.seed}")
    print(
        "the right memory is briefed: "
        f"{result.share:.1%}, by " + ", ".join(f"{kind} {share:.1%}" for kind, share in result.shares.items())
    )
    print(
        f"{result.briefed:.0f} memories in {result.characters / 4:.0f} of {BUDGET // 4:,} tokens, "
        f"built in {result.milliseconds:.1f} ms (median)"
    )


if __name__ == "__main__":
    asyncio.run(main())
